//! What of the guard speaks to the network, on a thread of its own: connections to the voters held
//! open, and the releases themselves. It hears the signals too.
//!
//! A release is sent once to each voter. Whether it may be sent was decided before it came here; a
//! lost one costs the wait for the end of the lease, and nothing else.

use std::collections::BTreeMap;
use std::io::{self, PipeReader, PipeWriter, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde::de::IgnoredAny;
use stead_schemas::declared::settings::TlsFiles;
use stead_schemas::names::Identity;
use stead_wire::material::Material;
use stead_wire::peer::Peer;
use stead_wire::tls::ClientTls;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{OnceCell, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::message::{GuardPeer, Release};
use crate::{certificates, chain};

/// How long a voter has to take a release.
const RELEASE: Duration = Duration::from_secs(1);
/// How often the connections are looked at. Idle ones are kept a little longer than that.
const HOLD: Duration = Duration::from_secs(3);
/// How often the certificate files are looked at.
const CERTIFICATES: Duration = Duration::from_secs(30);
/// Releases that wait. There is one a kill, so one is the rule.
const QUEUE: usize = 4;
/// A TLS handshake of an unoptimised build needs most of it.
const STACK: usize = 1024 * 1024;

/// The killing thread's end. Nothing here waits.
#[derive(Debug)]
pub(super) struct Courier {
    hold: watch::Sender<Vec<GuardPeer>>,
    send: mpsc::Sender<Arc<Release>>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    told_to_end: AtomicBool,
    pending: AtomicUsize,
    wake: PipeWriter,
}

impl Shared {
    fn wake(&self) {
        // A full pipe wakes as well.
        drop((&self.wake).write(b"."));
    }
}

/// Starts the thread; the pipe becomes readable when there is something new.
pub(super) fn start(tls: TlsFiles, from: Option<IpAddr>) -> io::Result<(Courier, PipeReader)> {
    let (reader, writer) = io::pipe()?;
    rustix::io::ioctl_fionbio(&reader, true)?;
    rustix::io::ioctl_fionbio(&writer, true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .thread_keep_alive(Duration::from_secs(1))
        .build()?;
    let shared = Arc::new(Shared {
        told_to_end: AtomicBool::new(false),
        pending: AtomicUsize::new(0),
        wake: writer,
    });
    let (hold, held) = watch::channel(Vec::new());
    let (send, sent) = mpsc::channel(QUEUE);
    let round = {
        let _context = runtime.enter();
        Round {
            files: tls,
            from,
            tls: Arc::new(OnceCell::new()),
            peers: BTreeMap::new(),
            shared: Arc::clone(&shared),
            ends: [
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
                signal(SignalKind::hangup())?,
            ],
        }
    };
    thread::Builder::new()
        .name("courier".to_owned())
        .stack_size(STACK)
        .spawn(move || carry(&runtime, round, held, sent))?;
    let courier = Courier { hold, send, shared };
    Ok((courier, reader))
}

fn carry(
    runtime: &Runtime,
    round: Round,
    held: watch::Receiver<Vec<GuardPeer>>,
    sent: mpsc::Receiver<Arc<Release>>,
) {
    runtime.block_on(round.run(held, sent));
}

impl Courier {
    /// Keeps connections to these, and to no others.
    pub(super) fn hold(&self, peers: &[GuardPeer]) {
        self.hold.send_if_modified(|held| {
            let differs = held != peers;
            if differs {
                peers.clone_into(held);
            }
            differs
        });
    }

    /// Sends a release.
    pub(super) fn send(&self, release: Arc<Release>) {
        self.shared.pending.fetch_add(1, Ordering::SeqCst);
        if self.send.try_send(release).is_err() {
            self.shared.pending.fetch_sub(1, Ordering::SeqCst);
            tracing::error!("the release could not be sent: too many wait");
        }
    }

    /// Whether a release is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.shared.pending.load(Ordering::SeqCst) > 0
    }

    /// Whether SIGTERM came.
    pub(super) fn told_to_end(&self) -> bool {
        self.shared.told_to_end.load(Ordering::SeqCst)
    }
}

type Peers = BTreeMap<(SocketAddr, Identity), Arc<Peer>>;

/// The thread's own state.
struct Round {
    files: TlsFiles,
    from: Option<IpAddr>,
    tls: Arc<OnceCell<Arc<ClientTls>>>,
    peers: Peers,
    shared: Arc<Shared>,
    ends: [Signal; 3],
}

impl Round {
    async fn run(
        mut self,
        mut held: watch::Receiver<Vec<GuardPeer>>,
        mut sent: mpsc::Receiver<Arc<Release>>,
    ) {
        let mut hold = interval(HOLD);
        hold.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut certificates = interval(CERTIFICATES);
        certificates.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = None;
        loop {
            let [terminate, interrupt, hangup] = &mut self.ends;
            tokio::select! {
                biased;
                release = sent.recv() => match release {
                    Some(release) => self.deliver(&release).await,
                    None => return,
                },
                _ = terminate.recv() => self.end(),
                _ = interrupt.recv() => self.end(),
                // Of the terminal it was started from, long ago.
                _ = hangup.recv() => {}
                Ok(()) = held.changed() => {
                    let peers = held.borrow_and_update().clone();
                    self.hold(&peers).await;
                    hold.reset();
                }
                _ = hold.tick(), if !self.peers.is_empty() => self.connect(),
                _ = certificates.tick(), if self.tls.initialized() => self.renew(&mut seen).await,
            }
        }
    }

    fn end(&self) {
        self.shared.told_to_end.store(true, Ordering::SeqCst);
        self.shared.wake();
    }

    async fn hold(&mut self, wanted: &[GuardPeer]) {
        self.peers.retain(|(address, identity), _| {
            wanted
                .iter()
                .any(|one| one.address == *address && one.identity == *identity)
        });
        for one in wanted {
            if let Err(error) = self.peer(one).await {
                tracing::warn!("no connections are held open: {error}");
                break;
            }
        }
        self.connect();
    }

    /// Each in its own time: a release is never behind a voter that does not answer.
    fn connect(&self) {
        for peer in self.peers.values() {
            let peer = Arc::clone(peer);
            tokio::spawn(async move {
                match peer.connect_ahead(RELEASE).await {
                    Ok(()) => tracing::debug!("a connection to {} is open", peer.addr()),
                    Err(error) => tracing::debug!("no connection ahead: {}", chain(&error)),
                }
            });
        }
    }

    async fn peer(&mut self, one: &GuardPeer) -> Result<Arc<Peer>, String> {
        let key = (one.address, one.identity.clone());
        if let Some(peer) = self.peers.get(&key) {
            return Ok(Arc::clone(peer));
        }
        let tls = self.tls.get_or_try_init(|| load(self.files.clone()));
        let tls = timeout(RELEASE, tls)
            .await
            .map_err(|_| "the certificate files are not read in time".to_owned())??;
        let peer = Peer::new(one.address, one.identity.clone(), Arc::clone(tls));
        // A release is a lease letter (H20).
        let peer = Arc::new(peer.leaving_from(self.from).tolerant());
        self.peers.insert(key, Arc::clone(&peer));
        Ok(peer)
    }

    async fn deliver(&mut self, release: &Arc<Release>) {
        let mut calls = JoinSet::new();
        for (place, one) in release.peers.iter().enumerate() {
            let peer = match self.peer(one).await {
                Ok(peer) => peer,
                Err(error) => {
                    tracing::warn!("the release is not sent: {error}");
                    break;
                }
            };
            let release = Arc::clone(release);
            calls.spawn(async move {
                let body = release.peers.get(place).map(|peer| &peer.body);
                let call = peer.post_json_once::<_, IgnoredAny>(&release.path, &body, RELEASE);
                (peer.addr(), call.await)
            });
        }
        while let Some(done) = calls.join_next().await {
            match done {
                Ok((address, Ok(_))) => tracing::info!("{address} took the release"),
                Ok((_, Err(error))) => tracing::warn!("release: {}", chain(&error)),
                Err(error) => tracing::error!("release: {error}"),
            }
        }
        self.shared.pending.fetch_sub(1, Ordering::SeqCst);
        self.shared.wake();
    }

    /// Takes new certificates when their files changed.
    async fn renew(&self, seen: &mut Option<certificates::Changed>) {
        let files = self.files.clone();
        let now = tokio::task::spawn_blocking(move || certificates::changed_at(&files));
        let Ok(Ok(now)) = timeout(RELEASE, now).await else {
            return;
        };
        let before = seen.replace(now);
        let Some(tls) = self.tls.get().filter(|_| before.is_some_and(|b| b != now)) else {
            return;
        };
        let files = self.files.clone();
        let loaded = tokio::task::spawn_blocking(move || Material::load(&files));
        let taken = match timeout(RELEASE, loaded).await {
            Ok(Ok(Ok(material))) => tls.reload(&material).map_err(|error| chain(&error)),
            Ok(Ok(Err(error))) => Err(chain(&error)),
            Ok(Err(_)) | Err(_) => Err("they can't be read in time".to_owned()),
        };
        if let Err(error) = taken {
            tracing::error!("new certificates are not taken: {error}");
        }
    }
}

async fn load(files: TlsFiles) -> Result<Arc<ClientTls>, String> {
    let loaded = tokio::task::spawn_blocking(move || {
        let material = Material::load(&files).map_err(|error| chain(&error))?;
        ClientTls::new(&material).map_err(|error| chain(&error))
    });
    loaded.await.map_err(|error| error.to_string())?
}
