//! What was seen: the planner's view of one site, each reading with its age.
//!
//! Three-valued throughout (design section 4): present, absent, unknown. A server that does not
//! answer is unknown, never empty. How a silence is judged is H8; this file only holds the verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::names::{GroupName, ServerName};
use crate::prerequisite::Checked;
use crate::record::{RecordKey, RecordSet};
use crate::time::{DurationMs, WallMs};
use crate::wire::AgentReport;

/// Everything observed of one site.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SiteObserved {
    /// Every server the site has or had: declared ones and recorded ones.
    pub servers: BTreeMap<ServerName, ServerObserved>,
    /// Every record key read for the site: wanted ones, and marked ones no longer wanted.
    pub records: BTreeMap<RecordKey, RecordObserved>,
    /// Instances that were published and are not served any more, and since when.
    pub withdrawn: BTreeMap<(GroupName, ServerName), Withdrawn>,
    /// None of the site's agents is heard: the reconciler doubts itself, not the site (H8).
    pub reconciler_suspect: bool,
}

/// One server as seen.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerObserved {
    /// Whether and how it answers.
    pub contact: Contact,
    /// The last report: current while [`Contact::Heard`], else what was known before.
    pub report: Option<Box<AgentReport>>,
    /// When it was last heard; none: never by any reconciler whose records survive.
    pub heard_at: Option<WallMs>,
    /// A person said it is gone for good, and when.
    pub confirmed_lost: Option<WallMs>,
    /// Its agent listens here.
    pub agent: SocketAddr,
    /// What it lacks to be a site server, as it was last asked.
    pub checked: Option<Box<Checked>>,
}

/// Whether a server answers (H8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Contact {
    /// Not heard since this reconciler started, and not yet judged silent.
    Connecting,
    /// Other agents of its site reach it and this reconciler does not.
    CutOff {
        /// Since when.
        since: WallMs,
    },
    /// It answers.
    Heard,
    /// It answers, and is not who it should be: wrong certificate, wrong hierarchy.
    Refused {
        /// Since when.
        since: WallMs,
    },
    /// No heartbeat, no fresh connection, and confirmed by other agents of its site.
    Silent {
        /// Since when.
        since: WallMs,
        /// How long the silence has been confirmed without a break; what `moveAfter` counts.
        confirmed_for: DurationMs,
    },
    /// No heartbeat for a moment; not judged yet, or nobody there to confirm.
    Unsure {
        /// Since when.
        since: WallMs,
    },
}

/// One record key as the DNS servers serve it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordObserved {
    /// By DNS server, in declared order: the first takes updates.
    pub servers: Vec<ServedBy>,
    /// Two writers fight over it, or it was healed too often: left alone until a person looks.
    pub contested: bool,
}

/// What one DNS server serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServedBy {
    /// The DNS server.
    pub server: SocketAddr,
    /// When it was asked.
    pub at: WallMs,
    /// What it answered; none: it did not.
    pub served: Option<Served>,
    /// Why it did not, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

/// A record set and its ownership mark as read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Served {
    /// The set; none: no such record.
    pub set: Option<RecordSet>,
    /// The mark's text (`Mark::from_str` reads it); none: no mark. Several TXT strings: joined
    /// by a line feed, which no mark of ours has.
    pub mark: Option<String>,
}

/// An instance that left DNS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Withdrawn {
    /// When all servers were first seen without it.
    pub since: WallMs,
    /// The TTL last served with it, seconds; a resolver may hand it out that long (H27).
    pub ttl_s: u32,
}

/// What the reconciler remembers of a site beside what it sees: needed where a thing is gone from
/// git, or a step must not be repeated.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SiteRecorded {
    /// The site was protected in the revision last applied.
    pub protected: bool,
    /// Protected servers of the revision last applied.
    pub protected_servers: BTreeSet<ServerName>,
    /// Protected groups of the revision last applied.
    pub protected_groups: BTreeSet<GroupName>,
    /// How many objects (servers, wanted instances) the revision last applied had.
    pub objects: u32,
    /// Where the instances of each group were when the group last had nothing left to do: tells a
    /// move from a removal, and a move's two ends from the rest of the group, while it goes on.
    #[serde(default)]
    pub placed: BTreeMap<GroupName, BTreeSet<ServerName>>,
}
