//! What a server needs before a site server is installed on it, and what its agent found (SP-1 to SP-18).
//!
//! The reconciler asks, the server's agent looks from where the site server would run, and nothing is
//! installed until nothing fatal is left (G-9, G-10). Which rule became which of these is in
//! `docs/requirements.md`; what follows from a finding is decided in `stead-plan`, how it is found out
//! is the agent's.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::names::{IdentityKind, SecretName, ServerName, SiteCode};
use crate::time::{DurationMs, WallMs};
use crate::wire::{InstanceSpec, SecretMaterial};

/// One thing that is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Prerequisite {
    /// An agent that answers what is asked; of another kind, nothing is known.
    Agent,
    /// A clock that agrees with those of the other voters.
    Clock,
    /// A content library that this server may write (SP-12).
    ContentLibrary,
    /// A database that takes this server's account, with every right it needs (SP-10, SP-14).
    Database,
    /// A disk that keeps a vote in time, with room (SP-5).
    Disk,
    /// A way to every other voter, and back (SP-7).
    Ports,
    /// A program no older than the active's (SP-8, G-49).
    Version,
}

impl fmt::Display for Prerequisite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Agent => "agent",
            Self::Clock => "clock",
            Self::ContentLibrary => "content library",
            Self::Database => "database",
            Self::Disk => "disk",
            Self::Ports => "ports",
            Self::Version => "version",
        })
    }
}

/// What a server's agent is asked before a site server is installed there. No secret is in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CheckQuestion {
    /// The site.
    pub site: SiteCode,
    /// The server that is asked.
    pub server: ServerName,
    /// The site server as it would run.
    pub instance: InstanceSpec,
    /// The other voters that are heard.
    pub peers: BTreeMap<ServerName, CheckPeer>,
    /// Longest time the ledger's disk may take to keep a vote.
    pub sync_within: DurationMs,
    /// The site's content library, as its URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_library: Option<String>,
}

/// Another voter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CheckPeer {
    /// A server's agent, or a reconciler.
    pub kind: IdentityKind,
    /// Where it hears lease messages.
    pub address: SocketAddr,
}

/// `POST /v1/preflight`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CheckRequest {
    /// What is asked.
    pub question: CheckQuestion,
    /// The secrets that the instance names; used once and not kept (H30).
    pub secrets: BTreeMap<SecretName, SecretMaterial>,
}

/// The answer to a [`CheckRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckAnswer {
    /// Each thing that was looked at, once.
    pub checks: Vec<Check>,
}

/// What came of looking at one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// Which.
    pub prerequisite: Prerequisite,
    /// What was measured, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<String>,
    /// What is wrong with it; none: it is met.
    #[serde(default)]
    pub findings: Vec<Finding>,
}

/// Something that is wrong: what, where, with which account or port, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Nothing is installed with it; else it is a warning.
    pub fatal: bool,
    /// What is wrong.
    pub text: String,
    /// What a person can do about it.
    pub remedy: String,
}

impl Finding {
    /// One with which nothing is installed.
    #[must_use]
    pub fn fatal(text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            fatal: true,
            text: text.into(),
            remedy: remedy.into(),
        }
    }

    /// One that is told and lived with.
    #[must_use]
    pub fn warning(text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            fatal: false,
            ..Self::fatal(text, remedy)
        }
    }
}

/// What is known of a server's prerequisites.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// What was asked.
    pub question: CheckQuestion,
    /// When the answer came.
    pub at: WallMs,
    /// The answer; an agent that gave none counts as [`Prerequisite::Agent`] not met.
    pub checks: Vec<Check>,
}

impl Checked {
    /// Nothing fatal was found.
    #[must_use]
    pub fn is_passed(&self) -> bool {
        !self.findings().any(|(_, finding)| finding.fatal)
    }

    /// Everything that was found wrong.
    pub fn findings(&self) -> impl Iterator<Item = (Prerequisite, &Finding)> {
        let of = |check: &'_ Check| check.prerequisite;
        let checks = self.checks.iter();
        checks.flat_map(move |check| check.findings.iter().map(move |one| (of(check), one)))
    }
}
