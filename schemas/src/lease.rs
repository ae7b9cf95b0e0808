//! A site's lease as it goes between reconciler and agents: what a voter is told, what it says.
//!
//! Who may be active is decided by `site-lease`, over messages of its own; nothing here is one. A
//! [`LeaseSpec`] is declared state, a part of a voter's assignment; a [`LeaseReport`] is what the
//! voter knows, and changes with its part and its voters, not with each renewal.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::alias::AliasJob;
use crate::names::{IdentityKind, SecretName, ServerName, SiteCode};
use crate::time::{DurationMs, WallMs};

mod words;

/// The lease of a site, as each of its voters is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LeaseSpec {
    /// Who shall vote.
    pub voters: BTreeMap<ServerName, VoterSpec>,
    /// The voters of a site that never had a lease, with the life of each one's ledger: taken by a
    /// voter that has none yet, and by no other (H4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub founders: Option<BTreeMap<ServerName, u64>>,
    /// The declared active.
    pub declared: DeclaredActive,
    /// Passives take over by themselves (H31).
    pub automatic: bool,
    /// The declared active takes back by itself once it has been well for so long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failback_after: Option<DurationMs>,
    /// Unplanned failovers an hour; none: unlimited (H19).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failovers_per_hour: Option<u32>,
    /// Its lengths.
    pub timing: LeaseTiming,
    /// How the one that is told publishes the site's alias once it holds (H22); none: it never
    /// holds, or nothing is published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<Box<AliasJob>>,
}

impl LeaseSpec {
    /// Whether this voter may hold; a witness never does.
    #[must_use]
    pub fn is_candidate(&self, voter: &ServerName) -> bool {
        let voter = self.voters.get(voter);
        voter.is_some_and(|voter| voter.rank.is_some())
    }

    /// The secrets it names (H30).
    pub fn secrets(&self) -> impl Iterator<Item = &SecretName> {
        self.alias.iter().flat_map(|job| job.secrets())
    }
}

/// The active that git declares, and the memory of the site that this was said about (H21): a voter
/// that remembers more does not listen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeclaredActive {
    /// The server.
    pub active: ServerName,
    /// Number of the memory known when this was said.
    pub above: u64,
}

/// One that shall vote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VoterSpec {
    /// A server's agent, or a reconciler.
    pub kind: IdentityKind,
    /// Where it hears lease messages.
    pub address: SocketAddr,
    /// Its place in the order of those that may hold; none: a witness.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<u32>,
    /// The life of its ledger that is let in; none: not known yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<u64>,
}

/// Lengths of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LeaseTiming {
    /// How long it holds.
    pub duration: DurationMs,
    /// How often it is renewed.
    pub renew: DurationMs,
    /// How long before its end work stops.
    pub stop_before: DurationMs,
    /// How far clock rates may differ, in percent, rounded up.
    pub drift_percent: u32,
}

impl Default for LeaseTiming {
    fn default() -> Self {
        Self {
            duration: DurationMs(3_000),
            renew: DurationMs(500),
            stop_before: DurationMs(500),
            drift_percent: 1,
        }
    }
}

/// What a voter says of its site's lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaseReport {
    /// The life of its ledger (H4).
    pub incarnation: u64,
    /// The voters it has stored; none: it never had any.
    pub voters: Option<VotersReport>,
    /// What it is doing.
    pub part: LeasePart,
    /// The highest term it granted.
    pub term: u64,
    /// Whom it granted that.
    pub holder: Option<ServerName>,
    /// Whether a promotion here and now would succeed.
    pub ready: bool,
    /// Why it would not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_ready: Option<String>,
    /// What the site remembers (H21).
    pub memory: MemoryReport,
    /// The last time the lease was taken up here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub takeover: Option<Takeover>,
    /// Voters that a holder can hand over to.
    #[serde(default)]
    pub ready_voters: Vec<ServerName>,
    /// Voters that have not answered a holder for longer than a promise.
    #[serde(default)]
    pub silent_voters: Vec<ServerName>,
    /// Why it does not vote, in words, with what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl LeaseReport {
    /// The report of a voter that has never voted: its ledger is of this life, or there is none (0).
    #[must_use]
    pub fn new(incarnation: u64) -> Self {
        Self {
            incarnation,
            voters: None,
            part: LeasePart::Out,
            term: 0,
            holder: None,
            ready: false,
            not_ready: None,
            memory: MemoryReport::default(),
            takeover: None,
            ready_voters: Vec::new(),
            silent_voters: Vec::new(),
            problem: None,
        }
    }
}

/// Voters as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VotersReport {
    /// Changes so far.
    pub number: u64,
    /// The term of the holder that made them so.
    pub term: u64,
    /// Those in force, with the lives of their ledgers.
    pub in_force: BTreeMap<ServerName, u64>,
    /// Those that shall replace them, while that is not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<BTreeMap<ServerName, u64>>,
}

/// What a voter is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LeasePart {
    /// It asks for the lease.
    Asking,
    /// It votes.
    Following,
    /// It holds the lease: its site server is the active one.
    Holding,
    /// It does not vote: it has no voters yet, or something is wrong.
    Out,
    /// It holds no more, and its work is not proven ended.
    Stopping,
}

/// What the site remembers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryReport {
    /// Changes so far.
    pub number: u64,
    /// The declared active that was last taken note of.
    pub declared: Option<ServerName>,
    /// Who shall be active, until it is.
    pub request: Option<ServerName>,
    /// When passives took over by themselves.
    #[serde(default)]
    pub failovers: Vec<WallMs>,
    /// Voters that a person gave up, with the lives of their ledgers (H32).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lost: BTreeMap<ServerName, u64>,
}

/// How the lease was taken up, by the taker's wall clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Takeover {
    /// The term.
    pub term: u64,
    /// Who held it before.
    pub from: Option<ServerName>,
    /// Why it changed.
    pub cause: TakeoverCause,
    /// When the holder before was last heard to go on; for a failover.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_at: Option<WallMs>,
    /// When a majority had granted it.
    pub won_at: WallMs,
    /// Who granted it, oneself among them.
    pub granted_by: Vec<ServerName>,
    /// When the first work of the term was accepted by the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_write_at: Option<WallMs>,
    /// When every DNS server was seen to serve the alias.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_at: Option<WallMs>,
}

/// Why the active changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TakeoverCause {
    /// It held it before, too.
    Again,
    /// The holder was silent.
    Failover,
    /// The site never had an active.
    First,
    /// It was handed over.
    Handover,
    /// A person said that the others are gone for good (H32).
    Promoted,
}

/// `POST /v1/promote`: this server goes on alone, these voters are gone for good (H32).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PromoteRequest {
    /// Every voter that is presumed dead.
    pub lost: Vec<ServerName>,
    /// Why; journalled.
    pub reason: String,
    /// The site, as the person typed it.
    pub site_code: SiteCode,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PromoteAnswer {
    /// The server that goes on alone.
    pub server: ServerName,
    /// The term it holds.
    pub term: u64,
    /// The number of the forced configuration.
    pub number: u64,
    /// What nothing here can prove.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// `POST /v1/handover`: hand the lease to this voter (H11).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HandoverRequest {
    /// The successor.
    pub to: ServerName,
}
