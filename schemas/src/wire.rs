//! What goes between reconciler and site agent: the assignment down, the report up.
//!
//! JSON over HTTP with mutual TLS (`docs/protocols.md`). An assignment is the whole of what a
//! server should run; a report is the whole of what it does run. Secrets travel beside an
//! assignment, never in it, and never back.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::generation::{Epoch, Generation};
use crate::lease::{LeaseReport, LeaseSpec};
use crate::names::{GroupName, ObjectName, SecretName, ServerName, SiteCode};
use crate::role::Role;
use crate::time::{DurationMs, WallMs};

/// The agent's default TCP port.
pub const AGENT_PORT: u16 = 7443;
/// The reconciler's default TCP port: its API over mutual TLS, and the letters to it as a voter.
pub const RECONCILER_PORT: u16 = 7444;
/// Longest request or line either side reads.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A live agent says something at least this often (design section 5).
pub const HEARTBEAT: DurationMs = DurationMs(1_000);

/// The instances a server should run. `PUT /v1/assignment` carries it in an [`AssignRequest`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Assignment {
    /// The hierarchy; an agent of another refuses it.
    pub hierarchy: ObjectName,
    /// The server's site.
    pub site: SiteCode,
    /// The server; another one refuses it.
    pub server: ServerName,
    /// Its place in the order of commands (H7).
    pub generation: Generation,
    /// The git revision it comes from.
    pub revision: String,
    /// Everything the server should run.
    pub instances: BTreeMap<GroupName, Box<InstanceSpec>>,
    /// The site's lease, where the server has a vote in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Box<LeaseSpec>>,
}

/// An assignment, what it was planned against, and the secrets it names.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AssignRequest {
    /// The new assignment.
    pub assignment: Assignment,
    /// The generation in force when it was planned; the agent answers 409 when it has another.
    pub based_on: Option<Generation>,
    /// The secrets the assignment names (H30).
    pub secrets: BTreeMap<SecretName, SecretMaterial>,
}

/// A secret's content on its way to an agent. Never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretMaterial {
    /// Content version: what reports name.
    pub version: String,
    /// The content.
    pub value: String,
}

impl fmt::Debug for SecretMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretMaterial")
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// One instance as it should run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InstanceSpec {
    /// The role.
    pub role: Role,
    /// What is started.
    pub program: Program,
    /// Its environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, EnvValue>,
    /// How its health is found out; none: running is healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthCheck>,
    /// How it is stopped.
    pub stop: StopRule,
    /// The address it serves on.
    pub address: IpAddr,
    /// The TCP port it serves on.
    pub port: u16,
    /// The role's own settings.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub settings: serde_json::Value,
}

impl InstanceSpec {
    /// A short digest of the whole: equal exactly when two specs are.
    #[must_use]
    pub fn id(&self) -> SpecId {
        let text = serde_json::to_vec(self).expect("a spec has string keys only");
        SpecId(
            Sha256::digest(text)
                .iter()
                .take(8)
                .map(|byte| format!("{byte:02x}"))
                .collect(),
        )
    }

    /// The secrets its environment names.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretName> {
        self.env.values().filter_map(|value| match value {
            EnvValue::Plain(_) => None,
            EnvValue::Secret { secret } => Some(secret),
        })
    }
}

/// Digest of an [`InstanceSpec`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SpecId(pub String);

impl fmt::Display for SpecId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What an instance runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum Program {
    /// An archive, fetched by digest, unpacked, and a command within it.
    Archive {
        /// `https://` or `file://`.
        url: String,
        /// SHA-256 of the archive (tar.gz), 64 hexadecimal digits.
        sha256: String,
        /// Program (relative to the archive's top) and arguments.
        command: Vec<String>,
    },
    /// The program `site-agent` brings for the role.
    BuiltIn,
    /// Program and arguments, no shell.
    Command(Vec<String>),
    /// A systemd unit; with `adopt` one that may be running already.
    Systemd {
        /// The unit's name.
        unit: String,
        /// Take over a running one.
        #[serde(default)]
        adopt: bool,
    },
}

/// A value of an instance's environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum EnvValue {
    /// As written.
    Plain(String),
    /// Looked up by name.
    Secret {
        /// The secret's name.
        secret: SecretName,
    },
}

/// How an instance's health is found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HealthCheck {
    /// What is tried.
    pub probe: Probe,
    /// Time between checks.
    pub interval: DurationMs,
    /// How long one check may take.
    pub timeout: DurationMs,
    /// This many failures in a row are unhealthy.
    pub failures: u16,
}

/// One way of asking whether an instance is well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Probe {
    /// Exit status 0 is healthy.
    Command(Vec<String>),
    /// Any 2xx or 3xx answer is healthy.
    Http {
        /// Path and query.
        path: String,
        /// Port, where it is not the instance's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        port: Option<u16>,
    },
    /// As http, over TLS; the certificate is not judged.
    Https {
        /// Path and query.
        path: String,
        /// Port, where it is not the instance's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        port: Option<u16>,
    },
    /// An accepted connection is healthy.
    Tcp {
        /// Port, where it is not the instance's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        port: Option<u16>,
    },
}

/// How an instance is stopped: signal, wait, then kill of the whole tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StopRule {
    /// The first signal.
    #[serde(default)]
    pub signal: StopSignal,
    /// How long it may take to end by itself.
    #[serde(default = "StopRule::default_grace")]
    pub grace: DurationMs,
}

impl StopRule {
    const fn default_grace() -> DurationMs {
        DurationMs::seconds(10)
    }
}

impl Default for StopRule {
    fn default() -> Self {
        Self {
            signal: StopSignal::default(),
            grace: Self::default_grace(),
        }
    }
}

/// Signals that ask a program to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "POSIX names")]
pub enum StopSignal {
    SigHup,
    SigInt,
    SigQuit,
    #[default]
    SigTerm,
    SigUsr1,
    SigUsr2,
}

/// What a server's agent says of itself. `GET /v1/state` answers one; the watch streams them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentReport {
    /// The server's name, as its certificate says.
    pub server: ServerName,
    /// The agent's version.
    pub version: String,
    /// The kernel's boot id.
    pub boot_id: String,
    /// When this agent process started.
    pub started_at: WallMs,
    /// The agent's clock when it wrote this.
    pub wall: WallMs,
    /// Rises with every change within one agent process.
    pub sequence: u64,
    /// The highest epoch ever met (H7).
    pub highest_epoch: Option<Epoch>,
    /// The assignment in force; none before the first.
    pub generation: Option<Generation>,
    /// The instances of the assignment in force, whole: what the next one must repeat for every
    /// instance it does not touch. Boxed: a map keeps room for eleven values, and most servers have
    /// one or two (H25).
    #[serde(default)]
    pub assigned: BTreeMap<GroupName, Box<InstanceSpec>>,
    /// Every instance there is: assigned, or still being stopped.
    pub instances: BTreeMap<GroupName, Box<InstanceReport>>,
    /// Versions of the secrets held (H30); never a value.
    #[serde(default)]
    pub secrets: BTreeMap<SecretName, String>,
    /// The lease of the assignment in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assigned_lease: Option<Box<LeaseSpec>>,
    /// What it knows of the site's lease; none: it has no vote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Box<LeaseReport>>,
    /// The agent's own certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Box<CertificateReport>>,
    /// What is wrong with the agent itself, in words.
    #[serde(default)]
    pub problems: Vec<String>,
}

/// An agent's own certificate, and its request for the next one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateReport {
    /// Last instant of the one in use.
    pub until: WallMs,
    /// Request for the next, PEM, once a third of its life is left (H20). The key stays at the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

/// `PUT /v1/certificate`: the agent's next certificate, as it asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewCertificate {
    /// The certificate, PEM.
    pub certificate: String,
    /// What is to be trusted from then on, PEM.
    pub ca: String,
}

impl AgentReport {
    /// The report of an agent that was never assigned anything: nothing runs, nothing is known.
    #[must_use]
    pub fn new(server: ServerName, at: WallMs) -> Self {
        Self {
            server,
            version: String::new(),
            boot_id: String::new(),
            started_at: at,
            wall: at,
            sequence: 0,
            highest_epoch: None,
            generation: None,
            assigned: BTreeMap::new(),
            instances: BTreeMap::new(),
            secrets: BTreeMap::new(),
            assigned_lease: None,
            lease: None,
            certificate: None,
            problems: Vec::new(),
        }
    }
}

/// One instance as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceReport {
    /// The role.
    pub role: Role,
    /// The spec its process was started from.
    pub spec: SpecId,
    /// What it is doing.
    pub phase: Phase,
    /// How it is.
    pub health: Health,
    /// When phase or health last changed, by the agent's clock.
    pub since: WallMs,
    /// The main process.
    pub pid: Option<u32>,
    /// Starts after the first, in this assignment.
    pub restarts: u32,
    /// The address it serves on.
    pub endpoint: SocketAddr,
    /// The last thing worth knowing: exit status, failed check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What an instance is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// Waiting to be started again.
    BackOff,
    /// Ended too often in too short a time; tried again seldom.
    CrashLoop,
    /// Can't run as declared: the message says why.
    Failed,
    /// Getting its archive.
    Fetching,
    /// Its process is there.
    Running,
    /// Its process is being started.
    Starting,
    /// Its process is being ended.
    Stopping,
}

/// How an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Health {
    /// Its check passes.
    Healthy,
    /// Its check failed as often as it may, or it doesn't run.
    Unhealthy,
    /// Not checked yet.
    Unknown,
}

/// One line of `GET /v1/watch`, newline-delimited JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum WatchEvent {
    /// Nothing changed since the report of this sequence number.
    Heartbeat {
        /// The last report's number.
        sequence: u64,
        /// The agent's clock.
        wall: WallMs,
    },
    /// The whole state; the first line always is one.
    Report(Box<AgentReport>),
}

/// `POST /v1/claim`: a reconciler's new life makes itself known; lower epochs are refused from then
/// on (H7).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClaimRequest {
    /// The new life.
    pub epoch: Epoch,
}

/// `POST /v1/reach`: can you reach this server's agent? (H8)
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReachRequest {
    /// The server asked about.
    pub server: ServerName,
    /// Where its agent listens.
    pub address: SocketAddr,
}

/// The answer to a [`ReachRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReachAnswer {
    /// Whether its agent answered within 1 s.
    pub reached: bool,
    /// Why not, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

/// Why an agent refused a command; the body of a 4xx answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Refusal {
    /// It is for another hierarchy or server.
    NotForMe {
        /// Who the agent is.
        server: ServerName,
    },
    /// A higher epoch commands here (H7).
    StaleEpoch {
        /// The highest met.
        highest: Epoch,
    },
    /// The assignment in force is not the one this was planned against.
    StaleGeneration {
        /// What is in force.
        in_force: Option<Generation>,
    },
    /// It can't be read or carried out.
    Invalid {
        /// Why.
        reason: String,
    },
    /// It could not be made durable; nothing was changed.
    NotDurable {
        /// Why.
        reason: String,
    },
}
