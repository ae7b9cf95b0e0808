//! This reconciler as a voter: it votes in every site whose witness it is, under its own name (H4).
//!
//! All voters live on one thread with a runtime of its own, and their ledgers are files beside the
//! store: a stalled journal, a long plan or a fence (H7) delays no vote. What they are told comes from
//! the planner, as for servers. It holds no lease, ever, and counts no votes.

mod letters;
mod others;
mod seat;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use site_voting::{Letter, LetterRefusal, Reply, Voting, machine_id, report};
use stead_plan::{Context, witness_spec};
use stead_schemas::api::Need;
use stead_schemas::declared::settings::ReconcilerConfig;
use stead_schemas::lease::{LeaseReport, LeaseSpec};
use stead_schemas::names::{IdentityKind, ObjectName, ServerName, SiteCode};
use stead_schemas::time::WallMs;
use stead_wire::tls::ClientTls;
use tokio::sync::{mpsc, watch};

use crate::daemon::core::Core;
use crate::site::SiteWorld;

pub use letters::{letters_router, reports_router};
pub use others::ask_others;

/// The folder of vote ledgers in the state folder; never in a backup.
const FOLDER: &str = "votes";
/// What is to be told that no voter took yet; the next pass tells it again.
const ORDERS: usize = 1_024;

/// The voters of this reconciler.
#[derive(Debug)]
pub struct Witness {
    /// Where voters reach it; none: nowhere, and it does not vote.
    listen: Option<SocketAddr>,
    orders: mpsc::Sender<Order>,
    told: Mutex<BTreeMap<SiteCode, Arc<LeaseSpec>>>,
    seats: Arc<Seats>,
    /// Lives of the ledgers of other reconcilers that vote.
    others: RwLock<BTreeMap<(SiteCode, ServerName), u64>>,
}

/// Something a site's voter is to be told.
#[derive(Debug)]
struct Order {
    site: SiteCode,
    spec: Arc<LeaseSpec>,
}

/// Who sits where, shared with the thread of the voters.
#[derive(Debug)]
struct Seats {
    by_site: RwLock<BTreeMap<SiteCode, Seated>>,
    news: watch::Sender<u64>,
}

/// One site's voter.
#[derive(Debug, Clone)]
enum Seated {
    Votes(Arc<Voting>),
    Problem(String),
}

/// What every seat needs.
#[derive(Debug, Clone)]
struct Surroundings {
    folder: PathBuf,
    hierarchy: ObjectName,
    name: ServerName,
    machine: String,
    tls: Arc<ClientTls>,
}

impl Witness {
    /// Starts the thread. A site's voter begins once it is told of the site's lease.
    ///
    /// # Errors
    /// What the system says.
    pub fn start(config: &ReconcilerConfig, tls: &Arc<ClientTls>) -> io::Result<Arc<Self>> {
        let (orders, inbox) = mpsc::channel(ORDERS);
        let seats = Arc::new(Seats {
            by_site: RwLock::default(),
            news: watch::Sender::new(0),
        });
        let around = Surroundings {
            folder: config.spec.state_dir.join(FOLDER),
            hierarchy: config.spec.hierarchy.clone(),
            name: config.name.clone(),
            machine: machine_id(),
            tls: Arc::clone(tls),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let shared = Arc::clone(&seats);
        std::thread::Builder::new()
            .name("witness".to_owned())
            .spawn(move || runtime.block_on(attend(around, shared, inbox)))?;
        Ok(Arc::new(Self {
            listen: config.spec.api.listen,
            orders,
            told: Mutex::default(),
            seats,
            others: RwLock::default(),
        }))
    }

    /// The lives of the ledgers of reconcilers that vote in a site, as far as they are known.
    #[must_use]
    pub fn incarnations(&self, site: &SiteCode) -> BTreeMap<ServerName, u64> {
        let others = self.others.read().unwrap_or_else(PoisonError::into_inner);
        let others = others.iter().filter(|((at, _), _)| at == site);
        let mut lives: BTreeMap<ServerName, u64> = others
            .map(|((_, name), life)| (name.clone(), *life))
            .collect();
        if let Some(Seated::Votes(voting)) = self.seats.of(site) {
            let me = voting.snapshot().borrow().me.clone();
            lives.insert(me.name, me.incarnation.0);
        }
        lives
    }

    /// What each voter here knows.
    #[must_use]
    pub fn reports(&self) -> BTreeMap<SiteCode, LeaseReport> {
        let seats = self.seats.all();
        let votes = seats.into_iter().filter_map(|(site, seated)| match seated {
            Seated::Votes(voting) => {
                let snapshot = Arc::clone(&voting.snapshot().borrow());
                let why = "a witness: it never holds".to_owned();
                Some((site, report(&snapshot, Some(why))))
            }
            Seated::Problem(_) => None,
        });
        votes.collect()
    }

    /// Takes a letter from whom the certificate says.
    ///
    /// # Errors
    /// [`LetterRefusal`]; then it had no effect.
    pub async fn receive(&self, caller: &str, letter: Letter) -> Result<Reply, LetterRefusal> {
        match self.seats.of(&letter.site) {
            Some(Seated::Votes(voting)) => voting.receive(caller, letter).await,
            Some(Seated::Problem(why)) => Err(LetterRefusal::Out(why)),
            None => Err(LetterRefusal::Out("it has no part in a lease".to_owned())),
        }
    }

    /// Tells a site's voter; nothing where it knows. Without a listener nobody would reach it.
    fn tell(&self, site: &SiteCode, spec: Option<LeaseSpec>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(spec) = spec.filter(|_| self.listen.is_some()) else {
            // Its voter stays: without a part it has nothing to do, and its ledger has one owner.
            told.remove(site);
            return;
        };
        if told.get(site).is_some_and(|before| **before == spec) {
            return;
        }
        let spec = Arc::new(spec);
        let order = Order {
            site: site.clone(),
            spec: Arc::clone(&spec),
        };
        if self.orders.try_send(order).is_ok() {
            told.insert(site.clone(), spec);
        }
    }

    /// Another reconciler says which life its ledger is in. True where that is new.
    fn note_other(&self, site: SiteCode, name: ServerName, life: u64) -> bool {
        let mut others = self.others.write().unwrap_or_else(PoisonError::into_inner);
        others.insert((site, name), life) != Some(life)
    }
}

impl Seats {
    fn of(&self, site: &SiteCode) -> Option<Seated> {
        let seats = self.by_site.read().unwrap_or_else(PoisonError::into_inner);
        seats.get(site).cloned()
    }

    fn all(&self) -> BTreeMap<SiteCode, Seated> {
        let seats = self.by_site.read().unwrap_or_else(PoisonError::into_inner);
        seats.clone()
    }

    fn put(&self, site: &SiteCode, seated: Seated) {
        let mut seats = self.by_site.write().unwrap_or_else(PoisonError::into_inner);
        seats.insert(site.clone(), seated);
        drop(seats);
        self.news.send_modify(|news| *news += 1);
    }
}

/// The thread of the voters: one task a site, for as long as the daemon lives.
async fn attend(around: Surroundings, seats: Arc<Seats>, mut inbox: mpsc::Receiver<Order>) {
    let mut specs: BTreeMap<SiteCode, watch::Sender<Arc<LeaseSpec>>> = BTreeMap::new();
    while let Some(Order { site, spec }) = inbox.recv().await {
        if let Some(seat) = specs.get(&site) {
            seat.send_replace(spec);
            continue;
        }
        let (tell, told) = watch::channel(spec);
        let run = seat::run(around.clone(), site.clone(), Arc::clone(&seats), told);
        tokio::spawn(run);
        specs.insert(site, tell);
    }
}

/// Tells the voter of a site what the planner says it should know.
pub(crate) fn tell(core: &Core, world: &SiteWorld, context: &Context, now: WallMs) {
    let me = &core.config.name;
    let desired = world.desired.as_deref();
    let spec = witness_spec(desired, &world.observed, context, now, me);
    core.witness.tell(&context.site, spec);
}

/// Wakes the sites whenever a voter here began or ended, until the task is ended.
pub async fn follow(core: Arc<Core>) {
    let mut news = core.witness.seats.news.subscribe();
    while news.changed().await.is_ok() {
        core.wake_all();
    }
}

/// Why this reconciler does not vote where git says that it does.
pub(crate) fn needs(core: &Core) -> Vec<Need> {
    let Some(force) = core.in_force() else {
        return Vec::new();
    };
    let me = &core.config.name;
    let listen = core.config.spec.api.listen;
    let mut needs = Vec::new();
    for (code, site) in &force.desired.sites {
        let lease = site.site_server.as_ref().and_then(|s| s.lease.as_ref());
        let voter = lease.and_then(|lease| lease.voters.get(me));
        let Some(voter) = voter.filter(|voter| voter.kind == IdentityKind::Reconciler) else {
            continue;
        };
        let problem = match core.witness.seats.of(code) {
            Some(Seated::Problem(why)) => Some(why),
            _ => None,
        };
        let (text, remedy) = match (listen, problem) {
            (None, _) => (
                format!("{me} is declared a witness and does not vote: it listens nowhere"),
                Some(format!(
                    "set `api.listen: {}` and restart it",
                    voter.address
                )),
            ),
            (Some(listen), _) if !reaches(voter.address, listen) => (
                format!(
                    "voters call {me} at {}, and it listens at {listen}",
                    voter.address
                ),
                Some("make `reconcilers` in git and `api.listen` agree".to_owned()),
            ),
            (_, Some(why)) => (format!("{me} does not vote: {why}"), None),
            (Some(_), None) => continue,
        };
        needs.push(Need {
            about: code.to_string(),
            text,
            remedy,
        });
    }
    needs
}

/// Whether what is sent to an address comes to a listener; behind an address translation it may
/// though the addresses differ, never at another port.
const fn reaches(voter: SocketAddr, listen: SocketAddr) -> bool {
    voter.port() == listen.port()
}
