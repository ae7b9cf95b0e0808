//! Who is active, how that came about, and how people change it: views and requests.
//!
//! Who may be active is decided by the voters (`site-lease`); nothing here is. What a server says of
//! its lease is [`crate::lease::LeaseReport`].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::lease::{Takeover, TakeoverCause};
use crate::names::{ServerName, SiteCode};
use crate::time::{DurationMs, WallMs};

/// The lease of a site, as its voters report it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaseView {
    /// Who holds it, by those that are heard.
    pub holder: Option<ServerName>,
    /// Whether the holder itself is heard and says so.
    pub holder_heard: bool,
    /// The highest term granted, by those that are heard.
    pub term: u64,
    /// Passives take over by themselves.
    pub automatic: bool,
    /// The voters in force, and those that shall replace them.
    pub voters: Vec<VoterView>,
    /// Who shall be active and is not yet.
    pub request: Option<ServerName>,
    /// What git declares and is not honoured now (H21).
    pub parked: Option<ParkedView>,
    /// How the lease was last taken up.
    pub last: Option<TakeoverView>,
    /// How it was last taken up because the holder was silent.
    pub last_failover: Option<TakeoverView>,
}

impl LeaseView {
    /// Voters in force.
    pub fn in_force(&self) -> impl Iterator<Item = &VoterView> {
        self.voters.iter().filter(|voter| voter.votes)
    }
}

/// One voter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VoterView {
    /// A server, or a reconciler.
    pub name: ServerName,
    /// Its vote counts now; else it is about to.
    pub votes: bool,
    /// It may hold the lease; else it is a witness.
    pub may_hold: bool,
    /// It is heard by this reconciler.
    pub heard: bool,
    /// The holder has not heard it for longer than a promise.
    pub silent: bool,
}

/// The declared active that is not honoured now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParkedView {
    /// What git declares.
    pub declared: ServerName,
    /// Who is active.
    pub holder: ServerName,
    /// Since when, where it is known.
    pub since: Option<WallMs>,
    /// Why, where it is known.
    pub cause: Option<TakeoverCause>,
}

/// A line of `GET /v1/takeovers`: how a site's lease was taken up, once a term.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TakeoverView {
    /// The site.
    pub site: SiteCode,
    /// Who took it up.
    pub server: ServerName,
    /// What that server says of it, by its own clock.
    pub takeover: Takeover,
    /// When the reconciler learned of it.
    pub seen_at: WallMs,
    /// Who asked for it by command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
}

impl TakeoverView {
    /// How long nobody wrote, where it is known: from the last sign of the holder before to the first
    /// write of this one.
    #[must_use]
    pub fn interrupted(&self) -> Option<DurationMs> {
        let first = self.takeover.first_write_at?;
        Some(first.since(self.takeover.heard_at?))
    }
}

/// A command that led to a takeover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    /// Who.
    pub by: String,
    /// Why, where they said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Nobody wrote for at most so long, by the reconciler's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interrupted_at_most: Option<DurationMs>,
}

/// `POST /v1/switchover`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SwitchoverRequest {
    /// The site.
    pub site: SiteCode,
    /// The server that shall be active; none: the first passive that is ready, in order of preference.
    #[serde(default)]
    pub to: Option<ServerName>,
    /// Why; journalled.
    #[serde(default)]
    pub reason: Option<String>,
    /// Say only what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// `POST /v1/failback`: a switchover to the active that git declares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FailbackRequest {
    /// The site.
    pub site: SiteCode,
    /// Why; journalled.
    #[serde(default)]
    pub reason: Option<String>,
    /// Say only what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// What a switchover or a failback came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SwitchoverView {
    /// The site.
    pub site: SiteCode,
    /// Who was active when it was asked for.
    pub from: ServerName,
    /// Who shall be, or is.
    pub to: ServerName,
    /// How far it came.
    pub state: SwitchoverState,
    /// How the successor took up the lease, once it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<TakeoverView>,
    /// The site's declared active is another one now, and parked.
    pub parked: bool,
    /// The change in git that makes it permanent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff: Option<String>,
}

/// How far a switchover came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SwitchoverState {
    /// The successor works.
    Done,
    /// It is active already.
    NothingToDo,
    /// It would be done; nothing was.
    Planned,
    /// It has begun, and was not seen to end in time.
    UnderWay,
}

/// `POST /v1/replace`: let in a server whose vote ledger is new (H4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReplaceRequest {
    /// The server, or a reconciler that votes.
    pub server: ServerName,
    /// Why; journalled.
    pub reason: String,
}
