//! `spec` of a `kind: Site`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::role_settings::role_members;
use super::{BackupSpec, ContentLibrarySpec, DatabaseSpec, DrainSpec, Mode, ServiceSpec};
use crate::names::{GroupName, ServerName, SiteCode, ZonePath};
use crate::role::{Role, SiteType};
use crate::time::{DurationMs, DurationOrNever};

/// A site: its servers, its site server, its database, its roles.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SiteSpec {
    /// `central` (top, has no clients), `primary`, or `secondary` (child of a primary).
    pub r#type: SiteType,
    /// The site above; the top site has none.
    #[serde(default)]
    pub parent: Option<SiteCode>,
    /// Removing the site takes two commits.
    #[serde(default)]
    pub protect: bool,
    /// The site's servers, by name. A name is unique in the hierarchy and is published.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 5000))]
    pub servers: BTreeMap<ServerName, ServerSpec>,
    /// Which server does the site's own work, and which ones stand by.
    #[serde(default)]
    pub site_server: Option<SiteServerSpec>,
    /// The site database.
    #[serde(default)]
    pub database: Option<DatabaseSpec>,
    /// Where content is kept once for the site.
    #[serde(default)]
    pub content_library: Option<ContentLibrarySpec>,
    /// When the site is saved.
    #[serde(default)]
    pub backup: Option<BackupSpec>,
    /// Role groups: a name, and where its instances run. The role defaults to the name.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 200, "properties" = role_members()))]
    pub roles: BTreeMap<GroupName, GroupSpec>,
    /// Which clients use which servers.
    #[serde(default)]
    pub boundary_groups: BTreeMap<String, BoundaryGroup>,
    /// Whether Stead runs the site's parts or only watches them.
    #[serde(default)]
    pub management: Option<Management>,
    /// Whether what isn't declared is removed; default true.
    #[serde(default)]
    pub prune: Option<bool>,
    /// How the site's names are taken over.
    #[serde(default)]
    pub publishing: Option<SitePublishing>,
}

/// A server; it runs one site agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServerSpec {
    /// Where clients and the reconciler reach it.
    #[schemars(schema_with = "crate::names::ip_schema")]
    pub address: IpAddr,
    /// TCP port of its site agent; default 7443.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub agent_port: Option<u16>,
    /// Its failure zone, a path: losing `seattle/room-1` loses all below it.
    #[serde(default)]
    pub zone: Option<ZonePath>,
    /// Your own words for the server, matched by `among`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The name it had before: a rename, not a removal.
    #[serde(default)]
    pub was: Option<ServerName>,
    /// Removing the server takes two commits.
    #[serde(default)]
    pub protect: bool,
    /// The name clients know it by, where it isn't `<server>.<domain>`.
    #[serde(default)]
    pub hostname: Option<String>,
}

/// Which server does the site's own work, and which ones stand by.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SiteServerSpec {
    /// Where it runs. Changing it is how a planned switchover is asked for.
    #[serde(default)]
    pub active: Option<ServerName>,
    /// Where it stands by, in order of preference.
    #[serde(default)]
    #[schemars(length(max = 8))]
    pub passive: Vec<ServerName>,
    /// Voters that never hold: servers or reconcilers. Default, where active and passives are an
    /// even number: the first reconciler in a zone of its own.
    #[serde(default)]
    #[schemars(length(max = 8))]
    pub witnesses: Option<Vec<ServerName>>,
    /// Whether a passive takes over by itself; default automatic.
    #[serde(default)]
    pub failover: Option<Mode>,
    /// Whether the declared active takes back by itself; default manual.
    #[serde(default)]
    pub failback: Option<Mode>,
    /// How often it may fail over.
    #[serde(default)]
    pub limits: Option<LimitsSpec>,
    /// Timing of the lease.
    #[serde(default)]
    pub lease: Option<LeaseSpec>,
    /// How it runs.
    #[serde(default)]
    pub service: Option<ServiceSpec>,
    /// Its TCP port; default 443.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// Whether Stead runs it or only watches it.
    #[serde(default)]
    pub management: Option<Management>,
}

/// How often a site may fail over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LimitsSpec {
    /// Unplanned failovers an hour, or `unlimited`; default 3.
    #[serde(default)]
    pub failovers_per_hour: Option<PerHour>,
    /// How long the declared active has to be well before automatic failback; default 5m.
    #[serde(default)]
    pub settle: Option<DurationMs>,
}

/// A number an hour, or `unlimited`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum PerHour {
    /// This many.
    Count(u32),
    /// No limit.
    Word(Unlimited),
}

/// `unlimited`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Unlimited {
    /// No limit.
    Unlimited,
}

/// Timing of the lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LeaseSpec {
    /// How long it holds; default 3s.
    #[serde(default)]
    pub duration: Option<DurationMs>,
    /// How often it is renewed; default 500ms.
    #[serde(default)]
    pub renew: Option<DurationMs>,
    /// How long before its end work stops; default 500ms.
    #[serde(default)]
    pub stop_before: Option<DurationMs>,
    /// How far clock rates may differ; default 1%.
    #[serde(default)]
    #[schemars(regex(pattern = "^[0-9](\\.[0-9]+)?%$"))]
    pub drift: Option<String>,
}

/// A role on one or more servers. Exactly one of `servers` and `instances`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GroupSpec {
    /// The role; default: the group's name.
    #[serde(default)]
    pub role: Option<Role>,
    /// On exactly these servers.
    #[serde(default)]
    #[schemars(length(min = 1, max = 5000))]
    pub servers: Option<Vec<ServerName>>,
    /// On this many servers, placed by the planner.
    #[serde(default)]
    #[schemars(range(min = 1, max = 5000))]
    pub instances: Option<u16>,
    /// With `instances`: on servers with all of these labels; default: any server of the site.
    #[serde(default)]
    pub among: Option<BTreeMap<String, String>>,
    /// With `instances`: evenly over zones.
    #[serde(default)]
    pub spread: Option<Spread>,
    /// With `instances`: when instances of a server that stays lost are placed elsewhere; default
    /// `never`.
    #[serde(default)]
    pub move_after: Option<DurationOrNever>,
    /// Whether healthy instances are published; default: as the role does.
    #[serde(default)]
    pub publish: Option<bool>,
    /// TCP port of its instances; default: the role's.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// How its instances run; a built-in role needs none.
    #[serde(default)]
    pub service: Option<ServiceSpec>,
    /// The role's own settings.
    #[serde(default)]
    pub settings: Option<BTreeMap<String, serde_json::Value>>,
    /// How clients are let go before an instance stops.
    #[serde(default)]
    pub drain: Option<DrainSpec>,
    /// Removing the group takes two commits.
    #[serde(default)]
    pub protect: bool,
    /// Whether Stead runs it or only watches it.
    #[serde(default)]
    pub management: Option<Management>,
}

/// Over what instances are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Spread {
    /// Zones.
    Zone,
}

/// Whether Stead runs a part or only watches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Management {
    /// Runs it.
    Manage,
    /// Only watches it.
    Observe,
}

/// How a site's names are taken over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SitePublishing {
    /// In the DNS.
    #[serde(default)]
    pub dns: Option<SiteDns>,
}

/// How a site's DNS names are taken over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SiteDns {
    /// Whether Stead writes the names or only watches them.
    #[serde(default)]
    pub management: Option<Management>,
    /// Whether names without a mark of ownership are taken over.
    #[serde(default)]
    pub adopt: Option<Adopt>,
}

/// What is taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Adopt {
    /// Nothing.
    Never,
    /// Names without a mark.
    Unmarked,
}

/// Which clients use which servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BoundaryGroup {
    /// The clients' networks, `10.1.0.0/16`.
    #[serde(default)]
    pub subnets: Vec<String>,
    /// Its servers: those with all of these labels; default: all of the site.
    #[serde(default)]
    pub among: BTreeMap<String, String>,
    /// Groups to fall back to, and after which time for each role.
    #[serde(default)]
    pub neighbours: BTreeMap<String, BTreeMap<Role, DurationOrNever>>,
}
