//! `kind: Hierarchy`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::PartialTemplate;
use crate::desired::TsigAlgorithm;
use crate::names::{DomainName, SecretName, ServerName, ZonePath};
use crate::time::DurationMs;

/// What holds for all sites.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HierarchySpec {
    /// The reconcilers, by name. Each may be a site's witness.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 64))]
    pub reconcilers: BTreeMap<ServerName, ReconcilerSpec>,
    /// Where names are published.
    #[serde(default)]
    pub publishing: Option<PublishingSpec>,
    /// How much may change at one time.
    #[serde(default)]
    pub guards: GuardsSpec,
    /// What sites need not say, by site type.
    #[serde(default)]
    pub defaults: Option<DefaultsSpec>,
    /// The version that agents should run, and how they get there.
    #[serde(default)]
    pub agents: Option<AgentsSpec>,
    /// When changes may be made, and when not.
    #[serde(default)]
    pub change_windows: Vec<ChangeWindow>,
}

/// One reconciler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReconcilerSpec {
    /// Its address.
    #[schemars(schema_with = "crate::names::ip_schema")]
    pub address: IpAddr,
    /// The port in its `api.listen`, where voters reach it as a witness; default 7444.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// Its failure zone, `hq/room-3`.
    #[serde(default)]
    pub zone: Option<ZonePath>,
}

/// Where names are published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PublishingSpec {
    /// In the DNS.
    #[serde(default)]
    pub dns: Option<DnsSpec>,
}

/// Publishing by DNS dynamic update, RFC 2136, signed with TSIG.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DnsSpec {
    /// Where the names live, `cm.contoso.example`. The zone is found by its SOA.
    pub domain: DomainName,
    /// Authoritative servers: an address, with a port where it isn't 53. The first takes updates,
    /// all are asked afterwards.
    #[schemars(length(min = 1, max = 16))]
    pub servers: Vec<DnsServer>,
    /// Keys that sign updates. The first signs; a second one only while rotating.
    #[schemars(length(min = 1, max = 8))]
    pub tsig: Vec<TsigKeySpec>,
    /// How long clients may keep an answer; default 30s.
    #[serde(default)]
    pub ttl: Option<DurationMs>,
    /// How long clients may keep the alias of the active site server; default 5s.
    #[serde(default)]
    pub alias_ttl: Option<DurationMs>,
}

/// An authoritative server: `192.0.2.53`, `127.0.0.53:5300`, `[2001:db8::53]:53`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct DnsServer(pub String);

/// A TSIG key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TsigKeySpec {
    /// The key's name at the DNS servers.
    #[schemars(regex(pattern = "^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?\\.?$"))]
    pub name: String,
    /// Its algorithm.
    pub algorithm: TsigAlgorithm,
    /// The secret that holds the key, by name.
    pub secret: SecretName,
}

/// How much may change at one time. Absolute numbers, never percentages.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GuardsSpec {
    /// Sites that may be changing at one time; default 5.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub max_sites_at_once: Option<u32>,
    /// Removals one revision may bring; more are held. Moves don't count. Default 3.
    #[serde(default)]
    pub max_removals: Option<u32>,
    /// This many failed sites stop the revision; default 1.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub max_failed_sites: Option<u32>,
    /// Sites that go first.
    #[serde(default)]
    pub canary: Option<CanarySpec>,
    /// What needs a person's approval.
    #[serde(default)]
    pub approval: Option<ApprovalSpec>,
    /// What each kind of site has to survive.
    #[serde(default)]
    pub survive: Option<SurviveSpec>,
}

/// Sites that go first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CanarySpec {
    /// Sites with all of these labels.
    pub match_labels: BTreeMap<String, String>,
    /// How long they have to stay well.
    #[serde(default)]
    pub soak: Option<DurationMs>,
}

/// What needs a person's approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApprovalSpec {
    /// Which kinds of change.
    pub r#for: Vec<ApprovalFor>,
    /// Who may approve.
    #[serde(default)]
    pub by: Vec<String>,
    /// Whether the author of a change may not approve it.
    #[serde(default)]
    pub not_the_author: bool,
}

/// A kind of change that may need approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ApprovalFor {
    /// Taking over something that exists.
    Adopt,
    /// Removing a site.
    RemoveSite,
    /// A planned change of the active site server.
    Switchover,
}

/// What each kind of site has to survive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SurviveSpec {
    /// The central site.
    #[serde(default)]
    pub central: Vec<Loss>,
    /// Primary sites.
    #[serde(default)]
    pub primary: Vec<Loss>,
    /// Secondary sites.
    #[serde(default)]
    pub secondary: Vec<Loss>,
}

/// Something that may be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Loss {
    /// Any one server.
    Server,
    /// Any one zone.
    Zone,
}

/// What sites need not say. `all` first, then the site's type, then the site itself; by JSON merge
/// patch, so `null` takes a value away. `$(code)` and `$(code.lower)` stand for the site.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DefaultsSpec {
    /// For every site.
    #[serde(default)]
    pub all: Option<PartialTemplate>,
    /// For the central site.
    #[serde(default)]
    pub central: Option<PartialTemplate>,
    /// For primary sites.
    #[serde(default)]
    pub primary: Option<PartialTemplate>,
    /// For secondary sites.
    #[serde(default)]
    pub secondary: Option<PartialTemplate>,
}

/// The version that agents should run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentsSpec {
    /// The version, `1.4.2`.
    pub version: String,
    /// How they get there.
    #[serde(default)]
    pub rollout: Option<RolloutSpec>,
}

/// How agents get to a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RolloutSpec {
    /// Sites at one time.
    #[serde(default)]
    pub max_sites_at_once: Option<u32>,
    /// Sites that go first.
    #[serde(default)]
    pub canary: Option<CanarySpec>,
    /// How long the first ones have to stay well.
    #[serde(default)]
    pub soak: Option<DurationMs>,
}

/// When changes may be made, or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangeWindow {
    /// Its name.
    pub name: String,
    /// Whether changes are allowed in it, or denied.
    pub kind: WindowKind,
    /// When it opens: minute, hour, day of month, month, day of week.
    #[serde(default)]
    pub schedule: Option<String>,
    /// How long it stays open.
    #[serde(default)]
    pub duration: Option<DurationMs>,
    /// First moment of a single window, `2026-12-15T00:00`.
    #[serde(default)]
    pub from: Option<String>,
    /// Last moment of a single window.
    #[serde(default)]
    pub until: Option<String>,
    /// The time zone all of it is in, `Europe/Berlin`.
    pub time_zone: String,
    /// The sites it is for; default: all.
    #[serde(default)]
    pub sites: Option<SiteSelector>,
    /// Why it is there.
    #[serde(default)]
    pub description: Option<String>,
}

/// Whether a window allows or denies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum WindowKind {
    /// Changes only within.
    Allow,
    /// No changes within.
    Deny,
}

/// Some sites.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SiteSelector {
    /// Sites with all of these labels.
    pub match_labels: BTreeMap<String, String>,
}
