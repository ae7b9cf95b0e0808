//! A plan: the road from what is observed to what is desired, and what holds it up.
//!
//! A plan leaves nothing to decide (style rule 4): steps that can be taken now carry their whole
//! payload and the generation they were planned against; later ones name what they wait for (H16).
//! What is not done appears as a [`Hold`] with a typed reason. Made by `stead-plan`, carried out
//! by `stead`; this file does neither.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::desired::Place;
use crate::generation::Generation;
use crate::lease::LeaseSpec;
use crate::names::{GroupName, InstanceName, SecretName, ServerName, SiteCode};
use crate::prerequisite::{CheckQuestion, Prerequisite};
use crate::record::{RecordKey, RecordSet};
use crate::role::Role;
use crate::time::{DurationMs, WallMs};
use crate::wire::InstanceSpec;

/// The road of one site.
#[must_use]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SitePlan {
    /// The site.
    pub site: SiteCode,
    /// The revision it leads to.
    pub revision: String,
    /// All steps, in the order they will be taken.
    pub steps: Vec<Step>,
    /// What is not done now, and why.
    pub holds: Vec<Hold>,
    /// What to send to agents now: the payload of the ready agent steps.
    pub assignments: BTreeMap<ServerName, PlannedAssignment>,
    /// What to write to DNS now: the payload of the ready record steps.
    pub records: BTreeMap<RecordKey, PlannedRecord>,
    /// Whose prerequisites to ask for now: the payload of the ready check steps, and what is asked
    /// again by itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub checks: BTreeMap<ServerName, Box<PlannedCheck>>,
    /// When to plan again though nothing changes: a drain or a `moveAfter` ends.
    pub wake_at: Option<WallMs>,
}

impl SitePlan {
    /// Whether nothing is left to do and nothing holds.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The steps that can be taken now.
    pub fn ready(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| step.waits.is_empty())
    }

    /// Counts for the summary line.
    #[must_use]
    pub fn counts(&self) -> PlanCounts {
        let mut counts = PlanCounts::default();
        for step in &self.steps {
            match (&step.action, &step.part_of) {
                (Action::Install { .. }, Some(_)) => counts.to_move += 1,
                (Action::Install { .. }, None) => counts.to_install += 1,
                (Action::Update { .. }, _) => counts.to_update += 1,
                (Action::Remove { .. }, None) => counts.to_remove += 1,
                (Action::SwitchOver { .. }, _) => counts.to_switch_over += 1,
                (Action::Publish { .. }, _) => counts.to_publish += 1,
                (Action::Withdraw { .. }, _) => counts.to_withdraw += 1,
                (Action::Remove { .. }, Some(_))
                | (Action::Check { .. } | Action::Drain { .. } | Action::Vote { .. }, _) => {}
            }
        }
        counts
    }
}

/// How much a plan does; a move counts once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanCounts {
    /// New instances.
    pub to_install: u32,
    /// Instances that change in place.
    pub to_update: u32,
    /// Instances that go to another server.
    pub to_move: u32,
    /// Instances that go for good.
    pub to_remove: u32,
    /// Changes of the active site server.
    pub to_switch_over: u32,
    /// Records written.
    pub to_publish: u32,
    /// Records taken away.
    pub to_withdraw: u32,
}

impl std::ops::Add for PlanCounts {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            to_install: self.to_install + other.to_install,
            to_update: self.to_update + other.to_update,
            to_move: self.to_move + other.to_move,
            to_remove: self.to_remove + other.to_remove,
            to_switch_over: self.to_switch_over + other.to_switch_over,
            to_publish: self.to_publish + other.to_publish,
            to_withdraw: self.to_withdraw + other.to_withdraw,
        }
    }
}

impl fmt::Display for PlanCounts {
    /// The summary line (design section 8, gitops idea 2).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Plan: {} to install, {} to update, {} to move, {} to remove, {} to switch over, {} records to publish, {} to withdraw",
            self.to_install,
            self.to_update,
            self.to_move,
            self.to_remove,
            self.to_switch_over,
            self.to_publish,
            self.to_withdraw
        )
    }
}

/// A step's name within its site: `install distributionPoint@p01-f1`. The same step has the same
/// name in every plan that holds it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepId(pub String);

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// One step of the road.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Its name.
    pub id: StepId,
    /// What is done.
    pub action: Action,
    /// What must be so first; empty: it can be taken now.
    pub waits: Vec<Wait>,
    /// The move it is a part of: the instance that goes, to where.
    pub part_of: Option<Move>,
    /// Why, in words.
    pub because: String,
    /// What in git asks for it; none where something is gone from git.
    pub place: Option<Place>,
    /// It has failed when it is not done this long after it was taken.
    pub deadline: DurationMs,
}

impl Step {
    /// Whether it takes something away that serves.
    #[must_use]
    pub const fn is_destructive(&self) -> bool {
        match self.action {
            Action::Remove { .. } | Action::SwitchOver { .. } | Action::Withdraw { .. } => true,
            Action::Check { .. }
            | Action::Drain { .. }
            | Action::Install { .. }
            | Action::Publish { .. }
            | Action::Update { .. }
            | Action::Vote { .. } => false,
        }
    }
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// Ask a server's agent for the prerequisites of a site server; carried by [`SitePlan::checks`].
    Check {
        /// The server.
        server: ServerName,
    },
    /// Wait until no resolver hands the instance out any more, and its drain time is over.
    Drain {
        /// The group.
        group: GroupName,
        /// The server.
        server: ServerName,
    },
    /// Start an instance; carried by the server's assignment.
    Install {
        /// The group.
        group: GroupName,
        /// The server.
        server: ServerName,
    },
    /// Write a record; carried by [`SitePlan::records`].
    Publish {
        /// The record.
        record: RecordKey,
    },
    /// Stop and remove an instance; carried by the server's assignment.
    Remove {
        /// The group.
        group: GroupName,
        /// The server.
        server: ServerName,
    },
    /// Change the active site server. Without a lease: stop the old, see it stopped, start the new
    /// (H14). With one its holder hands over, told of the declared active by its [`Action::Vote`],
    /// and this step only waits for it.
    SwitchOver {
        /// The old active.
        from: ServerName,
        /// The new active.
        to: ServerName,
    },
    /// Restart an instance with another spec; carried by the server's assignment.
    Update {
        /// The group.
        group: GroupName,
        /// The server.
        server: ServerName,
    },
    /// Tell a server the site's lease, or that it has no part in one any more; carried by its
    /// assignment.
    Vote {
        /// The server.
        server: ServerName,
    },
    /// Take a record away; carried by [`SitePlan::records`].
    Withdraw {
        /// The record.
        record: RecordKey,
    },
}

/// An instance that goes from one server to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Move {
    /// The group.
    pub group: GroupName,
    /// From here.
    pub from: ServerName,
    /// To there.
    pub to: ServerName,
}

/// What a step waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Wait {
    /// An instance is healthy.
    Healthy(InstanceName),
    /// An instance is no longer there.
    Gone(InstanceName),
    /// A server holds the site's lease.
    Holds(ServerName),
    /// A voter has opened its vote ledger.
    Ledger(ServerName),
    /// A record is served as planned by every DNS server.
    Served(RecordKey),
    /// Another step of the road is done.
    Step(StepId),
    /// A moment.
    Until(WallMs),
    /// These are the voters in force, and nobody else.
    Voters(Vec<ServerName>),
}

/// What an agent is to be sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedAssignment {
    /// The generation in force when this was planned (compare and swap at the agent).
    pub based_on: Option<Generation>,
    /// Everything the server should run afterwards.
    pub instances: BTreeMap<GroupName, Box<InstanceSpec>>,
    /// The site's lease, where the server has a vote in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Box<LeaseSpec>>,
    /// The ready steps it carries out.
    pub steps: Vec<StepId>,
}

/// What a server's agent is to be asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedCheck {
    /// The question.
    pub question: CheckQuestion,
    /// The ready step it carries out; none: it is asked again.
    pub step: Option<StepId>,
}

/// What is to be written to DNS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedRecord {
    /// The set afterwards; none: record and mark are taken away.
    pub want: Option<RecordSet>,
    /// The mark as read at the first server when this was planned (compare and swap at the DNS
    /// server); none: neither mark nor record were there.
    pub expect_mark: Option<String>,
    /// The ready steps it carries out: one write may add one instance and take another away.
    pub steps: Vec<StepId>,
}

/// Something not done now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    /// What it is about, in the address grammar.
    pub about: String,
    /// Why.
    pub reason: HoldReason,
    /// What in git asks for what is held.
    pub place: Option<Place>,
}

impl Hold {
    /// A short id: the same hold has the same id in every plan.
    #[must_use]
    pub fn id(&self) -> String {
        use sha2::{Digest as _, Sha256};
        let mut text = format!("{}\n{}", self.about, self.reason.kind());
        if let HoldReason::Prerequisite { prerequisite, .. } = &self.reason {
            text += &format!("\n{prerequisite}");
        }
        Sha256::digest(text)
            .iter()
            .take(4)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// Why something is not done now. Those that only a person ends say with which command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum HoldReason {
    /// A declared server was never heard.
    AwaitingJoin {
        /// The server.
        server: ServerName,
    },
    /// A budget of `guards` is spent.
    BudgetSpent {
        /// Its name in YAML.
        budget: String,
        /// What would be used.
        wanted: u32,
        /// What may be.
        limit: u32,
    },
    /// A drain is over and nobody put the server back into service.
    DrainEnded {
        /// The server.
        server: ServerName,
        /// When it ended.
        until: WallMs,
    },
    /// A person took a server out of service for a while: nothing new is placed there.
    Drained {
        /// The server.
        server: ServerName,
        /// Who.
        by: String,
        /// Why.
        why: String,
        /// Until when.
        until: WallMs,
    },
    /// So many sites failed that the revision stopped.
    FailedSites {
        /// The failed ones.
        failed: Vec<SiteCode>,
    },
    /// As many unplanned failovers within an hour as may be (H19).
    FailoversSpent {
        /// The limit.
        limit: u32,
    },
    /// A record that Stead does not own stands where one is wanted.
    ForeignRecord {
        /// The record.
        record: RecordKey,
    },
    /// The site's lease can't begin before every voter is heard (H4).
    FoundingWaits {
        /// One that is not.
        voter: ServerName,
    },
    /// A server that should run no site server any more is the active one.
    HoldsLease {
        /// The server.
        server: ServerName,
    },
    /// It is the last healthy one of a published group.
    LastHealthy {
        /// The group.
        group: GroupName,
    },
    /// The revision would remove more than half of what is recorded.
    MostlyEmpty {
        /// To be removed.
        removed: u32,
        /// Of so many.
        of: u32,
    },
    /// A silent server may still run a role that may not run twice (H8).
    NeedsConfirmLost {
        /// The server.
        server: ServerName,
        /// The role that may not overlap.
        role: Role,
    },
    /// A voter's ledger is not the one that was let in: its votes don't count (H4).
    NewLedger {
        /// The voter.
        server: ServerName,
    },
    /// No server can take an instance.
    NoCandidate {
        /// The group.
        group: GroupName,
        /// Instances wanted.
        wanted: u16,
        /// Servers that could.
        found: u16,
    },
    /// The role has neither a built-in program nor a `service` (H28).
    NoProgram {
        /// The role.
        role: Role,
    },
    /// The server that shall be active can't take over.
    NotReady {
        /// The server.
        server: ServerName,
        /// Why, in its own words.
        why: String,
    },
    /// The program can't be run in this version.
    NotSupported {
        /// What.
        what: String,
    },
    /// The old active site server is not observed stopped (H14).
    OldActiveUnknown {
        /// The old active.
        server: ServerName,
    },
    /// The site is declared as observed, not managed: nothing of it is changed.
    OnlyObserved,
    /// The DNS servers' answer is not known.
    RecordUnknown {
        /// The record.
        record: RecordKey,
    },
    /// The servers that could take an instance run something else on its port.
    PortTaken {
        /// The group.
        group: GroupName,
        /// Its port.
        port: u16,
        /// One of those servers.
        server: ServerName,
        /// What runs on that port there.
        by: GroupName,
    },
    /// A server lacks something that a site server needs: it is not installed there (G-9, G-10).
    Prerequisite {
        /// The server.
        server: ServerName,
        /// What it lacks.
        prerequisite: Prerequisite,
        /// What exactly is wrong.
        why: String,
        /// What to do about it.
        remedy: String,
    },
    /// Removal of something that was protected when last applied.
    Protected,
    /// Somebody else writes the same record again and again.
    RecordContested {
        /// The record.
        record: RecordKey,
    },
    /// No agent of the site is heard: the reconciler doubts itself (H8).
    ReconcilerSuspect,
    /// The reconciler does not have a secret that is named.
    SecretMissing {
        /// Its name.
        secret: SecretName,
    },
    /// As many sites are changing as may at one time.
    SitesAtOnce {
        /// The limit.
        limit: u32,
    },
    /// A person stopped it.
    Suspended {
        /// Who.
        by: String,
        /// Why.
        why: String,
        /// Until when; none: until resumed.
        until: Option<WallMs>,
    },
    /// An instance is not healthy yet, or not any more.
    Unhealthy {
        /// The instance.
        instance: InstanceName,
        /// Its last message.
        message: Option<String>,
    },
    /// A server does not answer and is not judged, or is cut off from the reconciler only.
    UnknownObservation {
        /// The server.
        server: ServerName,
        /// Since when; none: since the reconciler started.
        since: Option<WallMs>,
    },
    /// A voter says that something keeps it from voting.
    VoterProblem {
        /// The voter.
        server: ServerName,
        /// What, in its own words.
        problem: String,
    },
}

impl HoldReason {
    /// The reason's kind, as in JSON; stable, used in metrics and ids.
    #[must_use]
    pub fn kind(&self) -> String {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(kind)) => kind,
            Ok(serde_json::Value::Object(map)) => map.keys().next().cloned().unwrap_or_default(),
            _ => String::new(),
        }
    }

    /// Whether only a person can end it.
    #[must_use]
    pub const fn needs_person(&self) -> bool {
        match self {
            Self::AwaitingJoin { .. }
            | Self::DrainEnded { .. }
            | Self::FailedSites { .. }
            | Self::FailoversSpent { .. }
            | Self::ForeignRecord { .. }
            | Self::FoundingWaits { .. }
            | Self::HoldsLease { .. }
            | Self::MostlyEmpty { .. }
            | Self::NeedsConfirmLost { .. }
            | Self::NewLedger { .. }
            | Self::NoCandidate { .. }
            | Self::OldActiveUnknown { .. }
            | Self::PortTaken { .. }
            | Self::Prerequisite { .. }
            | Self::Protected
            | Self::RecordContested { .. }
            | Self::SecretMissing { .. }
            | Self::VoterProblem { .. } => true,
            Self::BudgetSpent { .. } => true,
            Self::Drained { .. }
            | Self::LastHealthy { .. }
            | Self::NoProgram { .. }
            | Self::NotReady { .. }
            | Self::NotSupported { .. }
            | Self::OnlyObserved
            | Self::ReconcilerSuspect
            | Self::RecordUnknown { .. }
            | Self::SitesAtOnce { .. }
            | Self::Suspended { .. }
            | Self::Unhealthy { .. }
            | Self::UnknownObservation { .. } => false,
        }
    }
}
