//! One site as the daemon holds it: what is seen, what is planned, what is under way.
//!
//! A site has one lock and one task ([`task`]). Observers (agents, DNS readers) write what they see
//! under the lock and wake the task; the task plans under the lock and acts outside it. Nothing of
//! one site ever waits for another.

pub mod changes;
mod pass;
mod shown;
pub mod taken;
pub mod takeovers;
pub mod task;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stead_schemas::api::JournalKind;
use stead_schemas::desired::SiteDesired;
use stead_schemas::generation::Generation;
use stead_schemas::names::{GroupName, ServerName, SiteCode};
use stead_schemas::observed::{
    Contact, RecordObserved, ServerObserved, SiteObserved, SiteRecorded,
};
use stead_schemas::plan::SitePlan;
use stead_schemas::prerequisite::Checked;
use stead_schemas::record::{RecordKey, RecordSet};
use stead_schemas::role::SiteType;
use stead_schemas::time::{DurationMs, WallMs};
use stead_schemas::wire::AgentReport;
use stead_wire::peer::Peer;
use tokio::sync::{Notify, Semaphore};

use crate::act::backoff::{Bounds, Retries};
use crate::observe::judge::{Round, Watch};
use crate::publish::contested::Contests;
use crate::store::{SiteMemory, WithdrawnMemory};
use changes::{Chatter, Happened};
use taken::Taken;
use takeovers::Takeovers;

pub(crate) use pass::{Order, context, hold_without_secrets};

/// Between two tries of the same assignment or record.
const RETRY: Bounds = Bounds {
    first: Duration::from_millis(200),
    longest: Duration::from_secs(30),
};

/// What a failed attempt was about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// An assignment.
    Agent(ServerName),
    /// A record.
    Record(RecordKey),
}

/// A site, shared by its task and its observers.
#[derive(Debug)]
pub struct Site {
    /// Its code.
    pub code: SiteCode,
    world: Mutex<SiteWorld>,
    wake: Notify,
    /// The turn to drain one of its servers.
    pub drain_turn: Semaphore,
}

/// Everything the daemon knows of a site.
#[derive(Debug)]
pub struct SiteWorld {
    /// What git declares; none once it is gone from git.
    pub desired: Option<Arc<SiteDesired>>,
    /// What is seen.
    pub observed: SiteObserved,
    /// Contact with each server.
    pub watches: BTreeMap<ServerName, Watch>,
    /// What this reconciler finds wrong with a server's agent.
    pub troubles: BTreeMap<ServerName, String>,
    /// What the planner remembers.
    pub recorded: Arc<SiteRecorded>,
    /// The road last planned.
    pub plan: Option<Arc<SitePlan>>,
    /// Why that road is not taken: the lint found a mistake of the planner.
    pub bug: Option<String>,
    /// Steps under way.
    pub taken: Taken,
    /// Attempts that failed.
    pub retries: Retries<Target>,
    /// Assignments on their way, and those whose effect is not seen yet.
    pub sending: BTreeMap<ServerName, Sending>,
    /// Records being written.
    pub writing: BTreeSet<RecordKey>,
    /// What was published and last seen served, with its TTL (H27).
    pub served: Option<BTreeMap<(GroupName, ServerName), u32>>,
    /// Records that somebody else keeps changing.
    pub contests: Contests,
    /// What this life last wrote and saw served.
    pub written: BTreeMap<RecordKey, Option<RecordSet>>,
    /// How each server's agent is called.
    pub peers: BTreeMap<ServerName, Arc<Peer>>,
    /// Its type, also once it is gone from git.
    pub site_type: Option<SiteType>,
    /// Rises with everything that is seen: whether a plan is still of this world.
    pub version: u64,
    /// Holds that the journal knows to be open.
    pub told: changes::Told,
    /// How the lease was taken up, by term.
    pub takeovers: Takeovers,
    /// Agents that are being told our epoch.
    pub claiming: BTreeSet<ServerName>,
    /// Agents that are being asked for prerequisites.
    pub checking: BTreeSet<ServerName>,
    shown: Option<shown::Shown>,
    chatter: BTreeMap<ServerName, Chatter>,
    happened: Vec<Happened>,
}

/// An assignment that is not yet seen in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sending {
    /// The call is under way.
    Calling,
    /// The agent took it; its report will show it, or it counts no more at that time.
    Accepted(Generation, WallMs),
}

impl Site {
    /// A site as remembered; nothing is seen of it yet.
    #[must_use]
    pub fn new(code: SiteCode, memory: SiteMemory, told: changes::Told, now: WallMs) -> Self {
        let mut world = SiteWorld {
            desired: None,
            observed: SiteObserved::default(),
            watches: BTreeMap::new(),
            troubles: BTreeMap::new(),
            recorded: Arc::new(memory.recorded),
            plan: None,
            bug: None,
            taken: Taken::default(),
            retries: Retries::new(RETRY),
            sending: BTreeMap::new(),
            writing: BTreeSet::new(),
            served: None,
            contests: Contests::default(),
            written: BTreeMap::new(),
            peers: BTreeMap::new(),
            site_type: memory.site_type,
            version: 0,
            told,
            takeovers: Takeovers::default(),
            claiming: BTreeSet::new(),
            checking: BTreeSet::new(),
            shown: None,
            chatter: BTreeMap::new(),
            happened: Vec::new(),
        };
        for (server, agent) in memory.agents {
            world.add_server(&server, agent, now);
        }
        for key in memory.records {
            let unread = RecordObserved {
                servers: Vec::new(),
                contested: false,
            };
            world.observed.records.insert(key, unread);
        }
        for one in memory.withdrawn {
            let key = (one.group, one.server);
            world.observed.withdrawn.insert(key, one.withdrawn);
        }
        Self {
            code,
            world: Mutex::new(world),
            wake: Notify::new(),
            drain_turn: Semaphore::new(1),
        }
    }

    /// The world, locked. Held for planning (milliseconds) at most, never across a wait.
    pub fn world(&self) -> MutexGuard<'_, SiteWorld> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the site's task to plan again.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Returns once somebody asked. Cancel safe.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }
}

impl SiteWorld {
    /// A server that belongs, or belonged, to the site; a known one gets the new address.
    pub fn add_server(&mut self, server: &ServerName, agent: SocketAddr, now: WallMs) {
        self.watches
            .entry(server.clone())
            .or_insert_with(|| Watch::new(now));
        self.observed
            .servers
            .entry(server.clone())
            .and_modify(|known| known.agent = agent)
            .or_insert(ServerObserved {
                contact: Contact::Connecting,
                report: None,
                heard_at: None,
                confirmed_lost: None,
                agent,
                checked: None,
            });
    }

    /// Forgets a server that is not declared and of which nothing is left.
    pub fn forget_server(&mut self, server: &ServerName) {
        self.watches.remove(server);
        self.troubles.remove(server);
        self.observed.servers.remove(server);
        self.chatter.remove(server);
        self.sending.remove(server);
        self.peers.remove(server);
        self.checking.remove(server);
        self.version += 1;
    }

    /// An agent reported. True where that changes anything but the time.
    pub fn on_report(&mut self, code: &SiteCode, report: AgentReport, now: WallMs) -> bool {
        let name = report.server.clone();
        self.version += 1;
        let Some(server) = self.observed.servers.get_mut(&name) else {
            return false;
        };
        if server.heard_at.replace(now).is_none() {
            let about = format!("{code}/{name}");
            let joined = Happened::new(JournalKind::Contact, about, "heard for the first time");
            self.happened.push(joined);
        }
        let before = server.report.replace(Box::new(report));
        let after = server.report.as_deref();
        let same = matches!((&before, after), (Some(a), Some(b)) if is_same(a, b));
        let told = after.map(|after| changes::of_report(code, before.as_deref(), after));
        if let Some(after) = after {
            self.takeovers.note(code, after, now);
        }
        if before.is_some() {
            let bounded = self
                .chatter
                .entry(name.clone())
                .or_default()
                .bound(now, told.unwrap_or_default());
            self.happened.extend(bounded);
        }
        let in_force = self.observed.servers[&name]
            .report
            .as_ref()
            .and_then(|report| report.generation.clone());
        if let Some(Sending::Accepted(generation, _)) = self.sending.get(&name)
            && in_force.is_some_and(|seen| seen >= *generation)
        {
            self.sending.remove(&name);
        }
        if let Some(watch) = self.watches.get_mut(&name) {
            watch.on_heard(now);
        }
        self.troubles.remove(&name);
        !same
    }

    /// An agent answered what it lacks, or did not.
    pub fn on_checked(&mut self, code: &SiteCode, checked: Checked) {
        let name = checked.question.server.clone();
        self.checking.remove(&name);
        let Some(server) = self.observed.servers.get_mut(&name) else {
            return;
        };
        self.version += 1;
        let told = changes::of_checks(code, server.checked.as_deref(), &checked);
        let chatter = self.chatter.entry(name).or_default();
        let told = chatter.bound(checked.at, told.into_iter().collect());
        self.happened.extend(told);
        server.checked = Some(Box::new(checked));
    }

    /// An agent said that nothing changed.
    pub fn on_heartbeat(&mut self, server: &ServerName, now: WallMs) {
        if let Some(seen) = self.observed.servers.get_mut(server) {
            seen.heard_at = Some(now);
        }
        if let Some(watch) = self.watches.get_mut(server) {
            watch.on_heard(now);
        }
    }

    /// A fresh connection, begun then, failed; what is known of an accepted assignment is void.
    pub fn on_failed(&mut self, server: &ServerName, begun: WallMs, why: String) {
        if let Some(watch) = self.watches.get_mut(server) {
            watch.on_failed(begun);
        }
        self.troubles.insert(server.clone(), why);
        if matches!(self.sending.get(server), Some(Sending::Accepted(..))) {
            self.sending.remove(server);
        }
    }

    /// What answers there is not the server's agent, or makes no sense.
    pub fn on_refused(&mut self, server: &ServerName, now: WallMs, why: String) {
        if let Some(watch) = self.watches.get_mut(server) {
            watch.on_refused(now);
        }
        self.troubles.insert(server.clone(), why);
    }

    /// Other agents were asked about a server.
    pub fn on_round(&mut self, server: &ServerName, round: Round) {
        if let Some(watch) = self.watches.get_mut(server) {
            watch.on_round(round);
        }
    }

    /// Judges one server's contact, and the reconciler's own standing (H8). True where a verdict
    /// changed in kind, or a silence was confirmed further.
    pub fn judge(
        &mut self,
        code: &SiteCode,
        server: &ServerName,
        now: WallMs,
        after: DurationMs,
    ) -> bool {
        let others = self
            .observed
            .servers
            .iter()
            .any(|(name, seen)| name != server && seen.contact == Contact::Heard);
        self.version += 1;
        let (Some(watch), Some(seen)) = (
            self.watches.get(server),
            self.observed.servers.get_mut(server),
        ) else {
            return false;
        };
        let verdict = watch.judge(now, after, others);
        let before = std::mem::replace(&mut seen.contact, verdict);
        let moved = std::mem::discriminant(&before) != std::mem::discriminant(&verdict);
        self.happened
            .extend(changes::of_contact(code, server, Some(&before), &verdict));
        let suspect = changes::is_suspect(&self.observed);
        let turned = std::mem::replace(&mut self.observed.reconciler_suspect, suspect) != suspect;
        moved || turned
    }

    /// Notes something for the journal.
    pub fn tell(&mut self, happened: impl IntoIterator<Item = Happened>) {
        self.happened.extend(happened);
    }

    /// What happened since the last call.
    pub fn take_happened(&mut self) -> Vec<Happened> {
        std::mem::take(&mut self.happened)
    }

    /// What a restart needs.
    #[must_use]
    pub fn memory(&self) -> SiteMemory {
        SiteMemory {
            recorded: (*self.recorded).clone(),
            agents: self
                .observed
                .servers
                .iter()
                .map(|(name, server)| (name.clone(), server.agent))
                .collect(),
            withdrawn: self
                .observed
                .withdrawn
                .iter()
                .map(|((group, server), withdrawn)| WithdrawnMemory {
                    group: group.clone(),
                    server: server.clone(),
                    withdrawn: *withdrawn,
                })
                .collect(),
            records: self.observed.records.keys().cloned().collect(),
            site_type: self.site_type,
        }
    }
}

/// Equal but for the agent's clock and its counter of changes.
fn is_same(a: &AgentReport, b: &AgentReport) -> bool {
    a.generation == b.generation
        && a.instances == b.instances
        && a.assigned == b.assigned
        && a.secrets == b.secrets
        && a.lease == b.lease
        && a.assigned_lease == b.assigned_lease
        && a.problems == b.problems
        && a.version == b.version
        && a.highest_epoch == b.highest_epoch
        && a.started_at == b.started_at
        && a.boot_id == b.boot_id
}
