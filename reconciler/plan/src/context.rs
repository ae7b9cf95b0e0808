//! What planning needs beside desired and observed: who we are, what is remembered, what may be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stead_schemas::desired::DnsDesired;
use stead_schemas::names::{ObjectName, ServerName, SiteCode};
use stead_schemas::observed::SiteRecorded;
use stead_schemas::plan::HoldReason;
use stead_schemas::time::{DurationMs, WallMs};

/// The surroundings of one site's plan.
#[derive(Debug, Clone)]
pub struct Context {
    /// The site; told apart from `desired`, which is none for a site that is gone from git.
    pub site: SiteCode,
    /// The hierarchy: whose ownership marks are ours.
    pub hierarchy: ObjectName,
    /// The revision planned for.
    pub revision: Arc<str>,
    /// Where names are published; none: nothing is.
    pub dns: Option<Arc<DnsDesired>>,
    /// What is remembered of the site.
    pub recorded: Arc<SiteRecorded>,
    /// Suspensions of this site and its servers; others are ignored.
    pub suspended: Vec<Suspension>,
    /// Servers that a person took out of service; those of other sites are ignored.
    pub drained: BTreeMap<ServerName, Drain>,
    /// What budgets allow.
    pub permits: Permits,
    /// Servers whose new vote ledgers a person lets in (`stead replace`, H4).
    pub replaced: BTreeSet<ServerName>,
    /// A person stopped failover of this site as well (`stead suspend --failover`, H31): voters are
    /// told so through every hold.
    pub manual: bool,
    /// Reconcilers that vote, with the lives of their ledgers.
    pub witness: BTreeMap<ServerName, u64>,
}

/// A person stopped the reconciler from changing something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspension {
    /// What is stopped.
    pub scope: Scope,
    /// Who.
    pub by: String,
    /// Why.
    pub why: String,
    /// When it ends by itself.
    pub until: Option<WallMs>,
}

/// A person took a server out of service for a while (`stead drain`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// Who.
    pub by: String,
    /// Why.
    pub why: String,
    /// Since when.
    pub at: WallMs,
    /// Until when.
    pub until: WallMs,
    /// That time is over by people's clocks. Nothing is placed there all the same until a person
    /// puts the server back; only it stands by again, as nobody was promised more.
    pub ended: bool,
}

impl Drain {
    pub(crate) fn reason(&self, server: &ServerName) -> HoldReason {
        let server = server.clone();
        if self.ended {
            HoldReason::DrainEnded {
                server,
                until: self.until,
            }
        } else {
            HoldReason::Drained {
                server,
                by: self.by.clone(),
                why: self.why.clone(),
                until: self.until,
            }
        }
    }
}

/// What a suspension covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Every site: nothing is changed, records included.
    All,
    /// A site: nothing is changed, records included.
    Site(SiteCode),
    /// A server: nothing is changed on it; records follow health.
    Server(ServerName),
}

impl Suspension {
    /// Whether it still holds.
    #[must_use]
    pub fn holds_at(&self, now: WallMs) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    pub(crate) fn reason(&self) -> HoldReason {
        HoldReason::Suspended {
            by: self.by.clone(),
            why: self.why.clone(),
            until: self.until,
        }
    }
}

/// What budgets allow a site; made by [`crate::admit`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Permits {
    /// Why the site may not change at all now; records follow health all the same.
    pub changes: Option<HoldReason>,
    /// Why nothing may be removed for good; moves go on.
    pub removals: Option<HoldReason>,
}

impl Permits {
    /// Nothing is restricted.
    #[must_use]
    pub const fn all() -> Self {
        Self {
            changes: None,
            removals: None,
        }
    }
}

/// How long steps may take before they count as failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Installing, updating, removing: an archive may have to be fetched.
    pub agent_step: DurationMs,
    /// Writing a record and seeing it at every server.
    pub record_step: DurationMs,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            agent_step: DurationMs::seconds(300),
            record_step: DurationMs::seconds(60),
        }
    }
}
