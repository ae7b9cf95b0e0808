//! `database`, `contentLibrary` and `backup` of a site. Backups are checked, not yet acted on.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Management;
use crate::desired::DatabaseTls;
use crate::names::{SecretName, ServerName};
use crate::time::DurationMs;

/// The site database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DatabaseSpec {
    /// What it is.
    pub engine: Engine,
    /// The database's name; default `cm_` and the site code, `cm_p01`.
    #[serde(default)]
    pub name: Option<String>,
    /// Where it is reached: a name or an address.
    #[serde(default)]
    pub host: Option<String>,
    /// Its port; default 5432, for `embedded` 7450.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// Servers of the site that hold it.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 16))]
    pub members: BTreeMap<ServerName, MemberSpec>,
    /// The one name under which the writable member is reached.
    #[serde(default)]
    pub listener: Option<ListenerSpec>,
    /// For `embedded`: the server of the site that runs the store; default: the first witness that
    /// is one.
    #[serde(default)]
    pub server: Option<ServerName>,
    /// Whether another member takes over by itself.
    #[serde(default)]
    pub failover: Option<Mode>,
    /// The user; default `cm`.
    #[serde(default)]
    pub user: Option<String>,
    /// The password, by name.
    #[serde(default)]
    pub password: Option<SecretRef>,
    /// How the connection is protected; default `verify-full`.
    #[serde(default)]
    pub tls: Option<DatabaseTls>,
    /// How its log is shipped.
    #[serde(default)]
    pub backup: Option<DatabaseBackup>,
    /// Whether Stead runs it or only watches it.
    #[serde(default)]
    pub management: Option<Management>,
}

/// A secret, by name: looked up as `<site>/<name>`, then `<name>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretRef {
    /// The secret's name.
    pub secret: SecretName,
}

/// What a database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Engine {
    /// A small store process of the site, for labs and tests.
    Embedded,
    /// PostgreSQL.
    Postgresql,
}

/// One server that holds the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MemberSpec {
    /// Whether it confirms each write.
    pub mode: MemberMode,
    /// Whether it may take over; default: `sync` members may.
    #[serde(default)]
    pub failover_target: Option<bool>,
}

/// Whether a member confirms each write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum MemberMode {
    /// It may lag.
    Async,
    /// It confirms.
    Sync,
}

/// The one name of the writable member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListenerSpec {
    /// Its full DNS name.
    pub host: String,
    /// Its port; default 5432.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
}

/// By itself, or by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// By itself.
    Automatic,
    /// When a person asks for it.
    Manual,
}

/// How the database's log is shipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DatabaseBackup {
    /// Whether it is.
    #[serde(default)]
    pub log_shipping: Option<bool>,
    /// How much may be lost at most.
    #[serde(default)]
    pub rpo: Option<DurationMs>,
}

/// Where content is kept once for the site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ContentLibrarySpec {
    /// `https://`, `s3://`, `nfs://` or `file://`.
    #[schemars(regex(pattern = "^(https|s3|nfs|file)://.+$"))]
    pub url: String,
    /// For `file://`: whether all site servers see the same folder.
    #[serde(default)]
    pub shared: bool,
}

/// When the site is saved, how many copies are kept, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackupSpec {
    /// When: minute, hour, day of month, month, day of week, `0 2 * * *`.
    pub schedule: String,
    /// The time zone of the schedule, `Europe/Berlin`.
    #[schemars(regex(pattern = "^[A-Za-z]+(/[A-Za-z0-9_+-]+)*$"))]
    pub time_zone: String,
    /// How many copies are kept.
    #[serde(default)]
    pub keep: Option<KeepSpec>,
    /// Where to.
    pub to: BackupTarget,
    /// The key that copies are encrypted with, by name.
    #[serde(default)]
    pub encrypt: Option<SecretRef>,
    /// When a copy is restored for real and checked.
    #[serde(default)]
    pub drill: Option<DrillSpec>,
}

/// How many copies are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeepSpec {
    /// The newest of each of this many days.
    #[serde(default)]
    pub daily: Option<u16>,
    /// The newest of each of this many weeks.
    #[serde(default)]
    pub weekly: Option<u16>,
    /// The newest of each of this many months.
    #[serde(default)]
    pub monthly: Option<u16>,
}

/// Where copies go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackupTarget {
    /// `https://`, `s3://`, `nfs://` or `file://`.
    #[schemars(regex(pattern = "^(https|s3|nfs|file)://.+$"))]
    pub url: String,
}

/// When a copy is restored for real and checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DrillSpec {
    /// When: minute, hour, day of month, month, day of week.
    pub schedule: String,
    /// On which server; default: a passive one.
    #[serde(default)]
    pub server: Option<ServerName>,
    /// A newer proof than this is always there, or someone is told.
    #[serde(default)]
    pub max_age: Option<DurationMs>,
}
