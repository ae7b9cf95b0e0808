//! Where the daemon is reached: the socket, mutual TLS, figures, and the webhook.
//!
//! The socket is for the same user alone: it is made with its mode before it gets its name.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::{Extension, Router};
use stead_wire::doors::Doors;
use stead_wire::serve::{Limits, serve};
use stead_wire::tls::ServerTls;
use thiserror::Error;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::api::{Access, Backend, health_router, router};
use crate::git::Waker;
use crate::git::webhook::{self, Rate, WebhookState};

/// Why a place can't be listened on.
#[derive(Debug, Error)]
pub enum ListenError {
    /// A TCP address.
    #[error("can't listen on {addr} for {what}; is something else using it?")]
    Tcp {
        /// For what.
        what: &'static str,
        /// Where.
        addr: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The socket.
    #[error(
        "can't listen on {}; check the folder and its owner, or name another one in `api.socket`",
        path.display()
    )]
    Socket {
        /// Where.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// What stands beside the API on the TLS listener, by who may use it.
#[derive(Debug)]
pub struct Doorways {
    /// Operators, like the API.
    pub more: Router,
    /// Callers outside their dates as well (H20): the letters of voters.
    pub tolerant: Router,
    /// Whoever comes without a certificate.
    pub strangers: Router,
}

/// All that answers, as long as it is kept; stops when `stop` turns true.
#[derive(Debug)]
pub struct Listeners {
    tasks: JoinSet<()>,
    stop: watch::Receiver<bool>,
}

impl Listeners {
    /// Nothing listens yet.
    #[must_use]
    pub fn new(stop: watch::Receiver<bool>) -> Self {
        Self {
            tasks: JoinSet::new(),
            stop,
        }
    }

    /// The API on a unix socket, for the same user.
    ///
    /// # Errors
    /// [`ListenError::Socket`].
    pub fn socket(
        &mut self,
        path: &Path,
        backend: Arc<dyn Backend>,
        more: Router,
    ) -> Result<(), ListenError> {
        let listener = bind_socket(path).map_err(|source| ListenError::Socket {
            path: path.to_owned(),
            source,
        })?;
        let app = router(backend, Access::Socket).merge(more.layer(Extension(Access::Socket)));
        let stop = stopped(self.stop.clone());
        self.tasks.spawn(async move {
            let served = axum::serve(listener, app).with_graceful_shutdown(stop);
            if let Err(error) = served.await {
                tracing::error!(%error, "the socket is not served any more");
            }
        });
        Ok(())
    }

    /// Over TLS: the API for operators, and what stands beside it.
    ///
    /// # Errors
    /// [`ListenError::Tcp`].
    pub async fn operators(
        &mut self,
        addr: SocketAddr,
        tls: Arc<ServerTls>,
        backend: Arc<dyn Backend>,
        doorways: Doorways,
    ) -> Result<SocketAddr, ListenError> {
        let (listener, addr) = bind(addr, "the API").await?;
        let more = doorways.more.layer(Extension(Access::Tls));
        let strict = router(backend, Access::Tls).merge(more);
        let app = Doors::new(strict, doorways.tolerant).strangers(doorways.strangers);
        let stop = stopped(self.stop.clone());
        self.tasks
            .spawn(serve(listener, tls, app, Limits::default(), stop));
        Ok(addr)
    }

    /// Figures and health, plain.
    ///
    /// # Errors
    /// [`ListenError::Tcp`].
    pub async fn figures(
        &mut self,
        addr: SocketAddr,
        backend: Arc<dyn Backend>,
    ) -> Result<SocketAddr, ListenError> {
        let app = health_router(Arc::clone(&backend)).with_state(backend);
        self.plain(addr, "metrics", app).await
    }

    /// The webhook, plain; its payload is never used.
    ///
    /// # Errors
    /// [`ListenError::Tcp`].
    pub async fn webhook(
        &mut self,
        addr: SocketAddr,
        secret_file: &Path,
        waker: Waker,
    ) -> Result<SocketAddr, ListenError> {
        let state = WebhookState::new(secret_file, Rate::default(), waker);
        self.plain(addr, "the webhook", webhook::router(state))
            .await
    }

    /// Waits until everything stopped answering.
    pub async fn ended(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }

    async fn plain(
        &mut self,
        addr: SocketAddr,
        what: &'static str,
        app: Router,
    ) -> Result<SocketAddr, ListenError> {
        let (listener, addr) = bind(addr, what).await?;
        let stop = stopped(self.stop.clone());
        self.tasks.spawn(async move {
            let served = axum::serve(listener, app).with_graceful_shutdown(stop);
            if let Err(error) = served.await {
                tracing::error!(%error, what, "not served any more");
            }
        });
        Ok(addr)
    }
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // A sender that is gone is a daemon that is going.
    drop(stop.wait_for(|stop| *stop).await);
}

async fn bind(
    addr: SocketAddr,
    what: &'static str,
) -> Result<(TcpListener, SocketAddr), ListenError> {
    let wrong = |source| ListenError::Tcp { what, addr, source };
    let listener = TcpListener::bind(addr).await.map_err(wrong)?;
    let bound = listener.local_addr().map_err(wrong)?;
    Ok((listener, bound))
}

/// Bound under another name, closed to others, then renamed: nobody else ever sees it open. An old
/// socket of a dead process is replaced by that; one that somebody answers at is left alone.
fn bind_socket(path: &Path) -> io::Result<UnixListener> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        let taken = "another reconciler answers there";
        return Err(io::Error::new(io::ErrorKind::AddrInUse, taken));
    }
    let fresh = path.with_extension("sock-new");
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&fresh)?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&fresh, path)?;
    Ok(listener)
}
