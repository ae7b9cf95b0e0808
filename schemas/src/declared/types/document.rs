//! What every document has: apiVersion, kind, metadata.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::{ObjectName, ServerName, SiteCode};

use super::{HierarchySpec, PartialSite, SiteSetSpec, SiteSpec};
use crate::declared::settings::{AgentSettings, ReconcilerSettings};

/// The version of the format.
pub const API_VERSION: &str = "stead/v1";

/// The version of the format; `stead/v1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ApiVersion {
    /// The first.
    #[serde(rename = "stead/v1")]
    V1,
}

/// A kind of document.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum DocumentKind {
    /// Settings of one `site-agent run`.
    AgentConfig,
    /// What holds for all sites; one in a topology.
    Hierarchy,
    /// Settings of one `stead run`.
    ReconcilerConfig,
    /// One site.
    Site,
    /// Like sites, stamped out from a template and a list.
    SiteSet,
}

impl DocumentKind {
    /// Every kind, as written.
    pub const ALL: [Self; 5] = [
        Self::AgentConfig,
        Self::Hierarchy,
        Self::ReconcilerConfig,
        Self::Site,
        Self::SiteSet,
    ];

    /// The kind as written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AgentConfig => "AgentConfig",
            Self::Hierarchy => "Hierarchy",
            Self::ReconcilerConfig => "ReconcilerConfig",
            Self::Site => "Site",
            Self::SiteSet => "SiteSet",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

macro_rules! document {
    ($(#[$doc:meta])* $name:ident, $metadata:ty, $spec:ty) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        pub struct $name {
            /// The version of the format; `stead/v1`.
            pub api_version: ApiVersion,
            /// The kind of document.
            pub kind: DocumentKind,
            /// Its name.
            pub metadata: $metadata,
            /// What it says.
            pub spec: $spec,
        }
    };
}

document!(
    /// What holds for all sites: reconcilers, publishing, guards, defaults. One in a topology.
    Hierarchy, Named<ObjectName>, HierarchySpec
);
document!(
    /// One site, all defaults filled in.
    Site, SiteMetadata, SiteSpec
);
document!(
    /// One site. What it leaves out comes from the hierarchy's defaults for its type.
    SiteAsWritten, SiteMetadata, PartialSite
);
document!(
    /// Like sites, stamped out from a template and a list.
    SiteSet, Named<ObjectName>, SiteSetSpec
);
document!(
    /// Settings of one reconciler, `stead run`.
    ReconcilerDocument, Named<ServerName>, ReconcilerSettings
);
document!(
    /// Settings of one site agent, `site-agent run`.
    AgentDocument, Named<ServerName>, AgentSettings
);

/// A name, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Named<N> {
    /// The name.
    pub name: N,
}

/// A site's code and labels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SiteMetadata {
    /// The site code: three characters, `P01`. It is the site's identity.
    pub name: SiteCode,
    /// Your own words for the site, matched by `matchLabels`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}
