//! The daemon: what `stead run` is made of, wired together.
//!
//! Tasks and who talks to whom:
//! - [`source`] turns commits into the revision in force;
//! - [`fleet`] keeps one task a site ([`crate::site::task`]) and one a server
//!   ([`crate::observe::agent`]);
//! - [`crate::admission`] says which sites may start; [`claim`] makes this reconciler the writer;
//! - `publish::read` reads DNS; `backend` and `listen` answer people.
//!
//! Any of them may be late or broken without holding another up.

pub mod backend;
pub mod by_hand;
pub mod claim;
pub mod clock;
pub mod core;
mod drain;
mod edit;
pub mod fleet;
pub mod join;
pub mod listen;
mod logs;
mod renew;
mod replace;
pub mod source;
mod switchover;
pub mod tokens;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use stead_schemas::api::JournalKind;
use stead_schemas::declared::settings::ReconcilerConfig;
use stead_schemas::names::{Identity, IdentityKind};
use stead_wire::material::{Material, MaterialError};
use stead_wire::pki_files::{self, PkiFileError};
use stead_wire::tls::{ClientTls, ServerTls, TlsError};
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::backend::Desk;
use self::core::{Core, Parts};
use self::fleet::Fleet;
use self::listen::{Doorways, ListenError, Listeners};
use crate::git::{Opened, StartError};
use crate::site::changes::Happened;
use crate::store::{Store, StoreError};
use crate::witness::{self, Witness};

/// Longest orderly end.
const END: Duration = Duration::from_secs(5);

/// Why the daemon can't start. `Display` leaves the source out; print the chain.
#[derive(Debug, Error)]
pub enum DaemonError {
    /// The state folder.
    #[error("can't make the state folder {}", path.display())]
    StateDir {
        /// Where.
        path: std::path::PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The store.
    #[error("the store can't be used")]
    Store(#[from] StoreError),
    /// The certificate.
    #[error("the certificate can't be used")]
    Material(#[from] MaterialError),
    /// The certificate's files.
    #[error("the certificate's files can't be used")]
    Files(#[from] PkiFileError),
    /// TLS settings.
    #[error("TLS can't be set up")]
    Tls(#[from] TlsError),
    /// The certificate speaks for somebody else.
    #[error(
        "the certificate is {got}, and this reconciler is {want}; issue one with `stead pki issue`"
    )]
    NotMine {
        /// Whose it is.
        got: Box<Identity>,
        /// Whose it has to be.
        want: Box<Identity>,
    },
    /// The git source.
    #[error("the git source can't start")]
    Git(#[from] StartError),
    /// The witness's thread.
    #[error("no thread for the votes of this reconciler")]
    Witness(#[from] std::io::Error),
    /// A listener.
    #[error("the reconciler can't be reached")]
    Listen(#[from] ListenError),
}

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    core: Arc<Core>,
    server_tls: Arc<ServerTls>,
    tasks: JoinSet<()>,
    listeners: Listeners,
    stop: watch::Sender<bool>,
    addresses: Addresses,
}

/// Where a daemon listens, as bound.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses {
    /// The unix socket.
    pub socket: std::path::PathBuf,
    /// Mutual TLS.
    pub operators: Option<SocketAddr>,
    /// Figures and health.
    pub metrics: Option<SocketAddr>,
    /// The webhook.
    pub webhook: Option<SocketAddr>,
}

impl Daemon {
    /// Opens everything and starts all tasks. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// [`DaemonError`]; nothing runs then.
    pub async fn start(config: ReconcilerConfig) -> Result<Self, DaemonError> {
        let spec = config.spec.clone();
        std::fs::create_dir_all(&spec.state_dir).map_err(|source| DaemonError::StateDir {
            path: spec.state_dir.clone(),
            source,
        })?;
        pki_files::settle(&spec.tls)?;
        let material = own_material(&config)?;
        let server_tls = ServerTls::open_to_strangers(&material)?;
        let client_tls = ClientTls::new(&material)?;
        // First: its lock keeps a second process out of the state folder. It follows the remote once
        // everything else has come up: a start that is refused leaves nothing running.
        let git = Opened::open(&spec.git, &spec.state_dir)?;
        let (store, remembered) = Store::open(&spec.state_dir.join("stead.db"), spec.journal.keep)?;
        for row in &remembered.unreadable {
            tracing::warn!(
                row,
                "the store holds something that can't be read; left out"
            );
        }
        let witness = Witness::start(&config, &client_tls)?;
        let (core, retiring) = Core::new(Parts {
            config,
            store,
            tls: client_tls,
            witness,
            suspensions: remembered.suspensions,
            drains: remembered.drains,
            lost: remembered.lost,
            replaced: remembered.replaced,
            tokens: remembered.tokens,
            own: remembered.own,
        });
        core.set_mirror(&git.mirror());
        let (stop, stopped) = watch::channel(false);
        let mut listeners = Listeners::new(stopped);
        let addresses = listen(&core, &git, &server_tls, &mut listeners).await?;
        let git = Arc::new(git.follow());
        let fleet = Fleet::new(
            Arc::clone(&core),
            remembered.sites,
            remembered.servers,
            remembered.open_holds,
            remembered.takeovers,
        );
        let mut tasks = JoinSet::new();
        tasks.spawn(fleet.run(retiring));
        tasks.spawn(crate::admission::run(Arc::clone(&core)));
        tasks.spawn(crate::publish::read::run(Arc::clone(&core)));
        tasks.spawn(claim::run(Arc::clone(&core)));
        tasks.spawn(witness::follow(Arc::clone(&core)));
        tasks.spawn(witness::ask_others(Arc::clone(&core)));
        tasks.spawn(renew::run(Arc::clone(&core), Arc::clone(&server_tls)));
        tasks.spawn(source::run(Arc::clone(&core), git));
        core.journal(
            None,
            vec![Happened::new(JournalKind::Reconciler, "", "started")],
        );
        Ok(Self {
            core,
            server_tls,
            tasks,
            listeners,
            stop,
            addresses,
        })
    }

    /// What all tasks share; for tests and benches.
    #[must_use]
    pub fn core(&self) -> Arc<Core> {
        Arc::clone(&self.core)
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Reads certificate, key and CA again; the old ones stay where the new are no good.
    ///
    /// # Errors
    /// [`DaemonError`].
    pub fn reload(&self) -> Result<(), DaemonError> {
        let material = own_material(&self.core.config)?;
        self.server_tls.reload(&material)?;
        self.core.tls.reload(&material)?;
        Ok(())
    }

    /// Ends in order, within a few seconds: nothing new is begun, the journal is written.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        self.tasks.shutdown().await;
        for site in self.core.sites() {
            let happened = site.world().take_happened();
            self.core.journal(Some(&site.code), happened);
        }
        self.core.journal(
            None,
            vec![Happened::new(JournalKind::Reconciler, "", "stopped")],
        );
        let end = async {
            self.core.store.settle().await;
            self.listeners.ended().await;
        };
        if tokio::time::timeout(END, end).await.is_err() {
            tracing::warn!("ended without waiting longer for what was under way");
        }
        // Somebody else may have its name by now only if the state folder was shared.
        drop(std::fs::remove_file(&self.addresses.socket));
    }
}

fn own_material(config: &ReconcilerConfig) -> Result<Material, DaemonError> {
    let material = Material::load(&config.spec.tls)?;
    let want = Identity {
        hierarchy: config.spec.hierarchy.clone(),
        kind: IdentityKind::Reconciler,
        name: config.name.to_string(),
    };
    if *material.identity() != want {
        return Err(DaemonError::NotMine {
            got: Box::new(material.identity().clone()),
            want: Box::new(want),
        });
    }
    Ok(material)
}

async fn listen(
    core: &Arc<Core>,
    git: &Opened,
    tls: &Arc<ServerTls>,
    listeners: &mut Listeners,
) -> Result<Addresses, DaemonError> {
    let spec = &core.config.spec;
    let desk = Arc::new(Desk(Arc::clone(core)));
    let socket = spec.api.socket();
    let by_people = || by_hand::router(Arc::clone(core)).merge(join::router(Arc::clone(core)));
    listeners.socket(&socket, desk.clone(), by_people())?;
    let mut addresses = Addresses {
        socket,
        ..Addresses::default()
    };
    if let Some(addr) = spec.api.listen {
        let reports = witness::reports_router(Arc::clone(&core.witness));
        let letters = witness::letters_router(Arc::clone(&core.witness));
        let doors = Doorways {
            more: reports.merge(by_people()),
            tolerant: letters,
            strangers: join::strangers(Arc::clone(core)),
        };
        let bound = listeners.operators(addr, Arc::clone(tls), desk.clone(), doors);
        addresses.operators = Some(bound.await?);
    }
    if let Some(metrics) = &spec.metrics {
        addresses.metrics = Some(listeners.figures(metrics.listen, desk).await?);
    }
    if let Some(hook) = &spec.webhook {
        let bound = listeners.webhook(hook.listen, &hook.secret_file, git.waker());
        addresses.webhook = Some(bound.await?);
    }
    Ok(addresses)
}
