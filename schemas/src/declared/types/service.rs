//! `service`: how an instance runs, is checked and is stopped.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time::DurationMs;
use crate::wire::{EnvValue, StopRule};

/// How an instance runs. Exactly one of `command`, `archive`, `systemd` and `builtIn`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceSpec {
    /// Program and arguments; no shell.
    #[serde(default)]
    #[schemars(length(min = 1, max = 256))]
    pub command: Option<Vec<String>>,
    /// An archive, fetched by its SHA-256 and unpacked, and a command within it.
    #[serde(default)]
    pub archive: Option<ArchiveSpec>,
    /// A systemd unit.
    #[serde(default)]
    pub systemd: Option<SystemdSpec>,
    /// The program that `site-agent` brings for the role.
    #[serde(default)]
    pub built_in: Option<bool>,
    /// Its environment: text, or a secret by name.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 256))]
    pub env: BTreeMap<String, EnvValue>,
    /// How its health is found out; without, running is healthy.
    #[serde(default)]
    pub health: Option<HealthSpec>,
    /// How it is stopped.
    #[serde(default)]
    pub stop: Option<StopRule>,
    /// How clients are let go before it stops.
    #[serde(default)]
    pub drain: Option<DrainSpec>,
}

/// An archive, fetched by its SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ArchiveSpec {
    /// Where it is: `https://` or `file://`, a tar.gz.
    #[schemars(regex(pattern = "^(https|file)://.+$"))]
    pub url: String,
    /// SHA-256 of the archive, 64 hexadecimal digits.
    #[schemars(regex(pattern = "^[0-9a-f]{64}$"))]
    pub sha256: String,
    /// Program, relative to the archive's top, and arguments.
    #[schemars(length(min = 1, max = 256))]
    pub command: Vec<String>,
}

/// A systemd unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SystemdSpec {
    /// The unit's name, `nginx.service`.
    #[schemars(regex(pattern = "^[A-Za-z0-9:_.@-]{1,255}$"))]
    pub unit: String,
    /// Take over a unit that runs already.
    #[serde(default)]
    pub adopt: bool,
}

/// How an instance's health is found out. Exactly one of `http`, `https`, `tcp` and `command`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HealthSpec {
    /// Healthy when an HTTP request is answered with 2xx or 3xx.
    #[serde(default)]
    pub http: Option<HttpSpec>,
    /// As `http`, over TLS; the certificate isn't judged.
    #[serde(default)]
    pub https: Option<HttpSpec>,
    /// Healthy when a connection is accepted.
    #[serde(default)]
    pub tcp: Option<TcpSpec>,
    /// Healthy when this program ends with status 0.
    #[serde(default)]
    #[schemars(length(min = 1, max = 256))]
    pub command: Option<Vec<String>>,
    /// Time between checks; default 5s.
    #[serde(default)]
    pub interval: Option<DurationMs>,
    /// How long one check may take; default 2s.
    #[serde(default)]
    pub timeout: Option<DurationMs>,
    /// This many failures in a row are unhealthy; default 3.
    #[serde(default)]
    #[schemars(range(min = 1, max = 100))]
    pub failures: Option<u16>,
}

/// An HTTP request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpSpec {
    /// Path and query, `/health`.
    #[schemars(regex(pattern = "^/"))]
    pub path: String,
    /// The port, where it isn't the instance's.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
}

/// A connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpSpec {
    /// The port, where it isn't the instance's.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
}

/// How clients are let go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DrainSpec {
    /// Waited after it left the DNS, in addition to the TTL last served.
    pub wait: DurationMs,
}
