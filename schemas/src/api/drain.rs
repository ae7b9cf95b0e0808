//! A server taken out of service for a while (`stead drain`): what is asked, what it does, how far it is.
//!
//! What moves and what is lost is decided in `stead-plan`; nothing here is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::lease::SwitchoverView;
use crate::names::{InstanceName, ServerName, SiteCode};
use crate::plan::Move;
use crate::time::{DurationMs, WallMs};

/// `POST /v1/drain`: take a server out of service, to patch and reboot it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DrainRequest {
    /// The server.
    pub server: ServerName,
    /// For how long, counted from now.
    pub lasts: DurationMs,
    /// Why; shown wherever something is held for it.
    pub reason: String,
    /// The active site server that takes over; none: the first passive that is ready.
    #[serde(default)]
    pub to: Option<ServerName>,
    /// Say only what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// `POST /v1/undrain`: put a server back into service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UndrainRequest {
    /// The server.
    pub server: ServerName,
}

/// What a drain does, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrainPlanView {
    /// The site.
    pub site: SiteCode,
    /// The server.
    pub server: ServerName,
    /// When the drain ends.
    pub until: WallMs,
    /// Who becomes active in its stead; none: it is not the active site server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch_over: Option<SwitchoverView>,
    /// Instances that go to other servers.
    pub moves: Vec<Move>,
    /// Instances that stay and leave DNS: others of their group serve.
    pub withdraws: Vec<InstanceName>,
    /// Instances that are lost while the server is off.
    pub left: Vec<LeftView>,
    /// The votes that remain; none: it has no vote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub votes: Option<VotesView>,
}

/// An instance that stays on a drained server and is lost with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeftView {
    /// The instance.
    pub instance: InstanceName,
    /// Why it is neither moved nor replaced, in words.
    pub why: String,
}

/// The votes of a site's lease without a drained server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VotesView {
    /// Voters that are heard and not drained.
    pub remain: Vec<ServerName>,
    /// Of so many.
    pub of: usize,
}

impl VotesView {
    /// How many more losses leave a majority; none: it is gone already.
    #[must_use]
    pub fn spare(&self) -> Option<usize> {
        self.remain.len().checked_sub(self.of / 2 + 1)
    }
}

/// The drain of a server, as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrainView {
    /// Who drained it.
    pub by: String,
    /// Why.
    pub why: String,
    /// Since when.
    pub at: WallMs,
    /// Until when.
    pub until: WallMs,
    /// That time is over, and nobody undrained it.
    pub ended: bool,
    /// What has to happen before its power may go off; empty: nothing.
    pub waits: Vec<String>,
}
