//! What all tasks of the daemon share, and nothing that one task alone needs.
//!
//! Locks here are held for a look or a swap, never across a wait. Facts go in through named
//! methods, which wake whoever has to know.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};

use stead_plan::{Drain, Suspension};
use stead_schemas::api::{JournalKind, SourceView, SuspensionView};
use stead_schemas::declared::settings::{GitReference, ReconcilerConfig};
use stead_schemas::desired::HierarchyDesired;
use stead_schemas::generation::Epoch;
use stead_schemas::names::{Identity, IdentityKind, ServerName, SiteCode};
use stead_schemas::time::{DurationMs, WallMs};
use stead_wire::clock::wall_now;
use stead_wire::tls::ClientTls;
use tokio::sync::{Semaphore, mpsc, watch};

use super::clock::Clock;
use super::tokens::Tokens;
use crate::admission::Admissions;
use crate::api::{is_manual, suspensions_of};
use crate::epoch::Authority;
use crate::git::{CommitInfo, Mirror};
use crate::metrics::Metrics;
use crate::publish::Publisher;
use crate::secrets::Secrets;
use crate::site::Site;
use crate::site::changes::Happened;
use crate::site::takeovers::Fresh;
use crate::store::{
    DrainMemory, LostMemory, NewEntry, OwnMemory, ReplacedMemory, Store, TokenMemory, Write,
};
use crate::witness::Witness;

/// Fresh connections under way at a time: a handshake is half a millisecond, and 10,000 agents
/// that come back at once must not time each other out (H25).
const CONNECTS: usize = 128;
/// Requests to forget that may wait; those beyond are made again by the next pass.
const RETIRING: usize = 1_024;

/// The revision in force.
#[derive(Debug)]
pub struct InForce {
    /// Its id.
    pub revision: Arc<str>,
    /// Who made it, when.
    pub commit: CommitInfo,
    /// What it declares.
    pub desired: HierarchyDesired,
}

/// Something of which nothing is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retire {
    /// A server that git does not declare.
    Server(SiteCode, ServerName),
    /// A site that git does not declare.
    Site(SiteCode),
}

/// The daemon's shared part.
#[derive(Debug)]
pub struct Core {
    /// Its settings.
    pub config: ReconcilerConfig,
    /// Steady time.
    pub clock: Clock,
    /// When it started, wall time.
    pub started_at: WallMs,
    /// Its memory.
    pub store: Store,
    /// Secrets by name.
    pub secrets: Secrets,
    /// Its certificate, for calls.
    pub tls: Arc<ClientTls>,
    /// Whether it writes.
    pub authority: Authority,
    /// Tokens that servers join with.
    pub tokens: Tokens,
    /// Which sites may start.
    pub admissions: Admissions,
    /// Its votes.
    pub witness: Arc<Witness>,
    /// DNS.
    pub publisher: Publisher,
    /// Figures for `/metrics`.
    pub metrics: Metrics,
    /// Slots for fresh connections.
    pub connects: Semaphore,
    /// The turn to plan a topology that somebody sent.
    pub plan_turn: Arc<Semaphore>,
    retire: mpsc::Sender<Retire>,
    sites: RwLock<BTreeMap<SiteCode, Arc<Site>>>,
    in_force: watch::Sender<Option<Arc<InForce>>>,
    suspensions: RwLock<BTreeMap<String, SuspensionView>>,
    drains: RwLock<BTreeMap<ServerName, DrainMemory>>,
    lost: RwLock<BTreeMap<ServerName, LostMemory>>,
    replaced: RwLock<BTreeMap<ServerName, ReplacedMemory>>,
    own: Mutex<OwnMemory>,
    mirror: OnceLock<Weak<Mirror>>,
    source: watch::Sender<SourceView>,
    refusal: RwLock<Option<(String, String)>>,
}

/// What a core is made of.
#[derive(Debug)]
pub struct Parts {
    /// Settings.
    pub config: ReconcilerConfig,
    /// Memory on disk.
    pub store: Store,
    /// Certificate.
    pub tls: Arc<ClientTls>,
    /// Its votes.
    pub witness: Arc<Witness>,
    /// Remembered suspensions.
    pub suspensions: BTreeMap<String, SuspensionView>,
    /// Remembered drains.
    pub drains: BTreeMap<ServerName, DrainMemory>,
    /// Remembered losses.
    pub lost: BTreeMap<ServerName, LostMemory>,
    /// Remembered replacements.
    pub replaced: BTreeMap<ServerName, ReplacedMemory>,
    /// Remembered join tokens.
    pub tokens: BTreeMap<ServerName, TokenMemory>,
    /// What else is remembered.
    pub own: OwnMemory,
}

impl Core {
    /// A core at its start, and what asks to be forgotten.
    #[must_use]
    pub fn new(parts: Parts) -> (Arc<Self>, mpsc::Receiver<Retire>) {
        let (retire, retiring) = mpsc::channel(RETIRING);
        let spec = &parts.config.spec;
        let source = SourceView {
            url: spec.git.url.clone(),
            reference: match spec.git.reference() {
                GitReference::Branch(name) => name,
                GitReference::Tag(name) => format!("tag {name}"),
            },
            head: None,
            in_force: None,
            fetched_at: None,
            problem: None,
        };
        let core = Self {
            clock: Clock::start(),
            started_at: wall_now(),
            secrets: Secrets::new(spec.secrets_dir.clone()),
            authority: Authority::new(spec.standby),
            admissions: Admissions::default(),
            publisher: Publisher::default(),
            metrics: Metrics::default(),
            connects: Semaphore::new(CONNECTS),
            plan_turn: Arc::new(Semaphore::new(1)),
            sites: RwLock::new(BTreeMap::new()),
            in_force: watch::Sender::new(None),
            suspensions: RwLock::new(parts.suspensions),
            drains: RwLock::new(parts.drains),
            lost: RwLock::new(parts.lost),
            replaced: RwLock::new(parts.replaced),
            tokens: Tokens::new(parts.tokens),
            own: Mutex::new(parts.own),
            mirror: OnceLock::new(),
            source: watch::Sender::new(source),
            refusal: RwLock::new(None),
            store: parts.store,
            tls: parts.tls,
            witness: parts.witness,
            config: parts.config,
            retire,
        };
        (Arc::new(core), retiring)
    }

    /// The identity that a server's agent must prove.
    #[must_use]
    pub fn agent_identity(&self, server: &ServerName) -> Identity {
        Identity {
            hierarchy: self.config.spec.hierarchy.clone(),
            kind: IdentityKind::Server,
            name: server.to_string(),
        }
    }

    /// The revision in force.
    #[must_use]
    pub fn in_force(&self) -> Option<Arc<InForce>> {
        self.in_force.borrow().clone()
    }

    /// Where the commits are, once the git source was opened.
    #[must_use]
    pub fn mirror(&self) -> Option<Arc<Mirror>> {
        self.mirror.get()?.upgrade()
    }

    /// Where the commits are; the first call counts. The mirror's lock goes with its source, not with
    /// this.
    pub fn set_mirror(&self, mirror: &Arc<Mirror>) {
        self.mirror.set(Arc::downgrade(mirror)).ok();
    }

    /// Each change of the revision in force.
    #[must_use]
    pub fn watch_in_force(&self) -> watch::Receiver<Option<Arc<InForce>>> {
        self.in_force.subscribe()
    }

    /// A revision comes into force.
    pub fn put_in_force(&self, revision: InForce) {
        self.in_force.send_replace(Some(Arc::new(revision)));
    }

    /// All sites, by code.
    #[must_use]
    pub fn sites(&self) -> Vec<Arc<Site>> {
        let sites = self.sites.read().unwrap_or_else(PoisonError::into_inner);
        sites.values().cloned().collect()
    }

    /// One site.
    #[must_use]
    pub fn site(&self, code: &SiteCode) -> Option<Arc<Site>> {
        let sites = self.sites.read().unwrap_or_else(PoisonError::into_inner);
        sites.get(code).cloned()
    }

    /// A site is there, or (none) no more.
    pub fn place_site(&self, code: &SiteCode, site: Option<Arc<Site>>) {
        let mut sites = self.sites.write().unwrap_or_else(PoisonError::into_inner);
        match site {
            Some(site) => drop(sites.insert(code.clone(), site)),
            None => drop(sites.remove(code)),
        }
    }

    /// Asks for something to be forgotten; may be asked again.
    pub fn retire(&self, what: Retire) {
        // A full queue loses nothing: the next pass asks again.
        drop(self.retire.try_send(what));
    }

    /// All suspensions that hold now.
    #[must_use]
    pub fn suspensions(&self) -> Vec<SuspensionView> {
        let now = wall_now();
        let known = self
            .suspensions
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        known
            .values()
            .filter(|one| one.until.is_none_or(|until| now < until))
            .cloned()
            .collect()
    }

    /// How long until the next suspension or drain ends by itself.
    #[must_use]
    pub fn next_end(&self) -> Option<DurationMs> {
        let now = wall_now();
        let known = self
            .suspensions
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let drains = self.drains.read().unwrap_or_else(PoisonError::into_inner);
        let ends = known.values().filter_map(|one| one.until);
        let ends = ends.chain(drains.values().map(|drain| drain.until));
        ends.filter(|until| now < *until)
            .map(|until| until.since(now))
            .min()
    }

    /// Those of one site, as the planner takes them.
    #[must_use]
    pub fn suspended(&self, code: &SiteCode) -> Vec<Suspension> {
        suspensions_of(&self.suspensions(), code)
    }

    /// Whether a person stopped failover of the site as well (H31).
    #[must_use]
    pub fn is_manual(&self, code: &SiteCode) -> bool {
        is_manual(&self.suspensions(), code)
    }

    /// A suspension begins, or (none) ends.
    pub fn suspend(&self, scope: &str, view: Option<SuspensionView>) {
        let mut known = self
            .suspensions
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        match view {
            Some(view) => drop(known.insert(scope.to_owned(), view)),
            None => drop(known.remove(scope)),
        }
        drop(known);
        self.wake_all();
    }

    /// What a person said of a server that is out of service.
    #[must_use]
    pub fn drain(&self, server: &ServerName) -> Option<DrainMemory> {
        let drains = self.drains.read().unwrap_or_else(PoisonError::into_inner);
        drains.get(server).cloned()
    }

    /// Servers of a site that are out of service, as the planner takes them. Steady time is not what
    /// people mean by the end.
    #[must_use]
    pub fn drained(&self, code: &SiteCode) -> BTreeMap<ServerName, Drain> {
        let now = wall_now();
        let drains = self.drains.read().unwrap_or_else(PoisonError::into_inner);
        let of_site = drains.iter().filter(|(_, drain)| drain.site == *code);
        of_site
            .map(|(server, drain)| (server.clone(), drain.as_of(now)))
            .collect()
    }

    /// A server is out of service, or (none) not any more.
    pub fn set_drain(&self, server: &ServerName, memory: Option<DrainMemory>) {
        let mut drains = self.drains.write().unwrap_or_else(PoisonError::into_inner);
        match memory {
            Some(memory) => drop(drains.insert(server.clone(), memory)),
            None => drop(drains.remove(server)),
        }
    }

    /// What a person said of a server that is gone for good.
    #[must_use]
    pub fn lost(&self, server: &ServerName) -> Option<LostMemory> {
        let lost = self.lost.read().unwrap_or_else(PoisonError::into_inner);
        lost.get(server).cloned()
    }

    /// A server is confirmed lost, or (none) not any more.
    pub fn set_lost(&self, server: &ServerName, memory: Option<LostMemory>) {
        let mut lost = self.lost.write().unwrap_or_else(PoisonError::into_inner);
        match memory {
            Some(memory) => drop(lost.insert(server.clone(), memory)),
            None => drop(lost.remove(server)),
        }
    }

    /// Voters whose new ledgers a person lets in (H4).
    #[must_use]
    pub fn replaced(&self) -> BTreeMap<ServerName, ReplacedMemory> {
        let replaced = self.replaced.read().unwrap_or_else(PoisonError::into_inner);
        replaced.clone()
    }

    /// A voter's new ledger is to be let in, or (none) was.
    pub fn set_replaced(&self, server: &ServerName, memory: Option<ReplacedMemory>) {
        let mut replaced = self
            .replaced
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        match memory {
            Some(memory) => drop(replaced.insert(server.clone(), memory)),
            None => drop(replaced.remove(server)),
        }
    }

    /// The few values there is one of, changed and kept.
    pub fn remember(&self, change: impl FnOnce(&mut OwnMemory)) -> OwnMemory {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut own);
        self.store.write(Write::Own(own.clone()));
        own.clone()
    }

    /// The git source as people see it.
    #[must_use]
    pub fn source(&self) -> SourceView {
        self.source.borrow().clone()
    }

    /// The newest commit, where it can't come into force, and why not.
    #[must_use]
    pub fn refusal(&self) -> Option<(String, String)> {
        self.refusal
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The newest commit is refused, or (none) is not.
    pub fn set_refusal(&self, refusal: Option<(String, String)>) {
        *self.refusal.write().unwrap_or_else(PoisonError::into_inner) = refusal;
    }

    /// Something about the git source is new.
    pub fn set_source(&self, change: impl FnOnce(&mut SourceView)) {
        self.source.send_modify(change);
    }

    /// Every site plans again.
    pub fn wake_all(&self) {
        for site in self.sites() {
            site.wake();
        }
    }

    /// Journals what happened.
    pub fn journal(&self, site: Option<&SiteCode>, happened: Vec<Happened>) {
        if happened.is_empty() {
            return;
        }
        let entries = happened.into_iter().map(|one| self.entry(site, one));
        self.store.write(Write::Journal(entries.collect()));
    }

    /// Keeps how a site's lease was taken up, and journals what is new of it in the same write.
    pub fn keep_takeovers(&self, site: &SiteCode, fresh: Vec<Fresh>) {
        for (view, happened) in fresh {
            let entry = happened.map(|one| self.entry(Some(site), one));
            self.store.write(Write::Takeover(Box::new(view), entry));
        }
    }

    fn entry(&self, site: Option<&SiteCode>, happened: Happened) -> NewEntry {
        let Happened {
            kind,
            about,
            text,
            hold,
        } = happened;
        tracing::info!(%about, ?kind, "{text}");
        NewEntry {
            at: wall_now(),
            site: site.cloned(),
            revision: self.in_force().map(|r| r.revision.to_string()),
            kind,
            about,
            text,
            hold,
        }
    }

    /// Somebody told an epoch: an agent, or a mark. A higher one stops this writer at once (H7).
    ///
    /// # Errors
    /// In words, why whoever told it is not believed.
    pub fn meet(&self, told: &Epoch) -> Result<(), String> {
        if self.authority.meet(told).map_err(|lie| lie.to_string())? {
            let text = format!("{told} took over; this reconciler only looks from now on");
            tracing::error!(by = %told, "fenced by a higher epoch");
            self.journal(None, vec![Happened::new(JournalKind::Reconciler, "", text)]);
            self.wake_all();
        }
        Ok(())
    }
}
