//! The programs' own settings: `kind: ReconcilerConfig` and `kind: AgentConfig`.
//!
//! Documents like any other (design section 3), read from a file on the machine they are for and
//! not from the topology repository; same check, same schema. They hold paths and addresses, never
//! a secret's content. This file does not open any of the paths.

use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::{ObjectName, ServerName, SiteCode};
use crate::time::DurationMs;

/// The settings of one `stead run`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReconcilerConfig {
    /// `metadata.name`: its name in the hierarchy's `reconcilers` and in its certificate.
    pub name: ServerName,
    /// Everything else.
    pub spec: ReconcilerSettings,
}

/// The settings of one `site-agent run`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentConfig {
    /// `metadata.name`: the server's name in the hierarchy and in its certificate.
    pub server: ServerName,
    /// Everything else.
    pub spec: AgentSettings,
}

/// What a reconciler is told on its own machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReconcilerSettings {
    /// The hierarchy it reconciles; a repository that declares another one is refused.
    pub hierarchy: ObjectName,
    /// Folder of its journal and its git objects; made if it is missing.
    pub state_dir: PathBuf,
    /// Folder with one file a secret: `P01/db-password`, then `db-password`. Read again on change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets_dir: Option<PathBuf>,
    /// The topology repository.
    pub git: GitSettings,
    /// Its certificate for agents and for remote callers of its API.
    pub tls: TlsFiles,
    /// The hierarchy's CA, where it signs for servers that join; none: certificates come from elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pki: Option<PkiSettings>,
    /// Where commands reach it.
    #[serde(default)]
    pub api: ApiSettings,
    /// How pushes wake it; without, the poll and file notification do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookSettings>,
    /// Where Prometheus finds its figures, `/healthz` and `/readyz`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<MetricsSettings>,
    /// Reads and votes, but writes nothing: another declared reconciler is the writer (H7).
    #[serde(default)]
    pub standby: bool,
    /// How long what happened is kept.
    #[serde(default)]
    pub journal: JournalSettings,
    /// When a server counts as silent (H8).
    #[serde(default)]
    pub silence: SilenceSettings,
}

/// Where the topology comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GitSettings {
    /// A path, `file://`, `https://` or `ssh://`; user and password don't belong here.
    #[schemars(length(min = 1, max = 1024))]
    pub url: String,
    /// The branch to follow; `main` where neither branch nor tag is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The tag to follow, instead of a branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The folder of the repository that holds the topology; default: its top.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// Time between looks where nothing wakes it earlier; jitter is added.
    #[serde(default = "GitSettings::default_poll")]
    pub poll: DurationMs,
    /// How long one fetch may take.
    #[serde(default = "GitSettings::default_timeout")]
    pub timeout: DurationMs,
    /// For https: file with an access token, read again at each fetch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// For https: the user the token is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// For https: PEM file of the CA that the server's certificate comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// For ssh: private key file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_key_file: Option<PathBuf>,
    /// For ssh: the servers that are believed; required with ssh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_hosts_file: Option<PathBuf>,
}

/// What of a repository is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GitReference {
    /// `refs/heads/NAME`.
    Branch(String),
    /// `refs/tags/NAME`.
    Tag(String),
}

impl GitSettings {
    const fn default_poll() -> DurationMs {
        DurationMs::seconds(60)
    }

    const fn default_timeout() -> DurationMs {
        DurationMs::seconds(60)
    }

    /// The branch or tag to follow.
    #[must_use]
    pub fn reference(&self) -> GitReference {
        match (&self.tag, &self.branch) {
            (Some(tag), _) => GitReference::Tag(tag.clone()),
            (None, Some(branch)) => GitReference::Branch(branch.clone()),
            (None, None) => GitReference::Branch("main".to_owned()),
        }
    }
}

/// PEM files of one identity; read again when they change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TlsFiles {
    /// The hierarchy's CA.
    pub ca: PathBuf,
    /// Its certificate.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// A CA that a reconciler signs with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PkiSettings {
    /// The folder of `ca.crt` and `ca.key`, made by `stead pki init`; read at each use.
    pub dir: PathBuf,
}

/// Where a reconciler's socket is and commands look for it, unless told otherwise.
pub const API_SOCKET: &str = "/run/stead/stead.sock";

/// Where commands reach a reconciler.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApiSettings {
    /// Unix socket for the same user; default: `/run/stead/stead.sock`, where `stead` looks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
    /// Address for callers with an operator certificate; none: the socket only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub listen: Option<SocketAddr>,
}

impl ApiSettings {
    /// The socket, said or not.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| API_SOCKET.into())
    }
}

/// The endpoint that a push to the repository wakes. Its payload is never used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WebhookSettings {
    /// Address it listens on, plain HTTP; put a proxy in front for TLS.
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// File with the HMAC secret shared with the forge.
    pub secret_file: PathBuf,
}

/// Where figures are served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MetricsSettings {
    /// Address of `/metrics`, `/healthz` and `/readyz`, plain HTTP.
    #[schemars(with = "String")]
    pub listen: SocketAddr,
}

/// How long the journal remembers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JournalSettings {
    /// Entries older than this are removed; open holds and the last revision stay.
    #[serde(default = "JournalSettings::default_keep")]
    pub keep: DurationMs,
}

impl JournalSettings {
    const fn default_keep() -> DurationMs {
        DurationMs::seconds(90 * 86_400)
    }
}

impl Default for JournalSettings {
    fn default() -> Self {
        Self {
            keep: Self::default_keep(),
        }
    }
}

/// When a server counts as silent (H8).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SilenceSettings {
    /// No heartbeat for this long makes it suspect; then it and its neighbours are asked.
    #[serde(default = "SilenceSettings::default_after")]
    pub after: DurationMs,
    /// How long one such question may take.
    #[serde(default = "SilenceSettings::default_ask")]
    pub ask: DurationMs,
}

impl SilenceSettings {
    const fn default_after() -> DurationMs {
        DurationMs::seconds(3)
    }

    const fn default_ask() -> DurationMs {
        DurationMs::seconds(1)
    }
}

impl Default for SilenceSettings {
    fn default() -> Self {
        Self {
            after: Self::default_after(),
            ask: Self::default_ask(),
        }
    }
}

/// What a site agent is told on its own machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentSettings {
    /// The hierarchy it belongs to; assignments of another are refused.
    pub hierarchy: ObjectName,
    /// Its site, where it should refuse assignments of any other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<SiteCode>,
    /// Address it listens on, `10.1.0.11:7443`.
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// Folder of its ledger, secrets, logs and archives; made if it is missing.
    pub state_dir: PathBuf,
    /// Its certificate.
    pub tls: TlsFiles,
    /// The reconcilers it takes commands from, by name; default: any with a certificate of the
    /// hierarchy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reconcilers: Vec<ServerName>,
    /// Whether instances are kept in cgroups (H10).
    #[serde(default)]
    pub cgroup: CgroupUse,
    /// Whether the kernel drops what the site server sends once its lease is over (H10).
    #[serde(default)]
    pub network_fence: NetworkFence,
    /// Folder below which the built-in distribution point serves content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_dir: Option<PathBuf>,
}

/// Whether instances are kept in cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum CgroupUse {
    /// Where version 2 is mounted and may be written to.
    #[default]
    Auto,
    /// Never; processes are found by their descent.
    Off,
}

/// A fence in the kernel, beside agent and guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum NetworkFence {
    /// None.
    #[default]
    None,
    /// An nftables table of the agent's own; needs cgroup version 2, `nft` and its rights. An agent
    /// that can't have it does not start.
    Nftables,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::declared::SourceFile;
    use crate::declared::config::{agent_config, reconciler_config};

    #[test]
    fn what_is_not_said_has_a_default() {
        let spec: ReconcilerSettings = serde_json::from_value(serde_json::json!({
            "hierarchy": "contoso",
            "stateDir": "/var/lib/stead",
            "git": {"url": "/srv/topology.git"},
            "tls": {"ca": "ca.pem", "cert": "c.pem", "key": "k.pem"}
        }))
        .unwrap();
        assert_eq!(
            spec.git.reference(),
            GitReference::Branch("main".to_owned())
        );
        assert_eq!(spec.silence.after, DurationMs::seconds(3), "H8");
        assert!(!spec.standby);
    }

    #[test]
    fn the_settings_in_the_operations_guide_check_clean() {
        let guide = include_str!("../../../docs/operations.md");
        let blocks = guide.split("```yaml\n").skip(1);
        let blocks = blocks.map(|rest| rest.split("```").next().unwrap());
        let (mut reconcilers, mut agents) = (0, 0);
        for block in blocks.filter(|block| block.starts_with("apiVersion:")) {
            let file = SourceFile::new("docs/operations.md", block);
            let problems = if block.contains("kind: AgentConfig") {
                agents += 1;
                agent_config(&file).err()
            } else {
                reconcilers += 1;
                reconciler_config(&file).err()
            };
            let problems: Vec<String> =
                problems.iter().flatten().map(ToString::to_string).collect();
            assert!(problems.is_empty(), "{problems:#?}");
        }
        assert_eq!((reconcilers, agents), (1, 1));
    }
}
