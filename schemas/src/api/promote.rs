//! The body of `POST /v1/promote` at a reconciler.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::{ServerName, SiteCode};

/// `POST /v1/promote`: let a server go on alone, because these voters are gone for good (H32).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PromotionRequest {
    /// The server that goes on.
    pub server: ServerName,
    /// Every voter that is presumed dead.
    pub lost: Vec<ServerName>,
    /// Why; journalled.
    pub reason: String,
    /// The site, as the person typed it.
    pub site_code: SiteCode,
}
