//! What a keeper runs: `instance.json` in the instance's folder.
//!
//! Written by the agent before each start, read once by the keeper. Values of secrets are not in
//! it: it names the files that hold them (H30).

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use stead_schemas::wire::{InstanceReport, InstanceSpec, SpecId, StopRule};

use crate::secrets::Versions;

/// What one run was started from: the spec, and the versions of the secrets it names. A run with
/// another key is another run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunKey(pub String);

impl RunKey {
    /// The key of a spec with these versions of secrets.
    #[must_use]
    pub fn of(spec: &InstanceSpec, versions: &Versions) -> Self {
        let mut key = spec.id().0;
        for name in spec.secrets() {
            let version = versions.get(name).map_or("?", String::as_str);
            key.push_str(&format!("+{name}={version}"));
        }
        Self(key)
    }
}

impl fmt::Display for RunKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Everything a keeper needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeeperSpec {
    /// The instance, `P01/web@p01-a`.
    pub instance: String,
    /// The declared spec it comes from.
    pub spec: SpecId,
    /// What a run with it is called.
    pub run: RunKey,
    /// Program and arguments.
    pub command: Vec<String>,
    /// The whole environment.
    pub env: BTreeMap<String, EnvSource>,
    /// The working folder.
    pub folder: PathBuf,
    /// Its cgroup; none: trees are found by descent.
    #[serde(default)]
    pub cgroup: Option<PathBuf>,
    /// The archive it uses, by digest.
    #[serde(default)]
    pub archive: Option<String>,
    /// How it is to be stopped.
    pub stop: StopRule,
    /// The instance as it was reported last; an agent that comes back goes on from it.
    pub report: InstanceReport,
}

/// Where the value of a variable is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EnvSource {
    /// In this file, as it stands.
    File(PathBuf),
    /// Here.
    Plain(String),
}
