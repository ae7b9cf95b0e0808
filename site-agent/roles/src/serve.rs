//! Plain HTTP for roles: bounded connections, a deadline for request heads, an end on SIGTERM.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::RoleError;

/// Connections at a time; more wait in the kernel's queue.
const CONNECTIONS: usize = 4_096;
/// From the beginning of a connection, or the end of an answer, to the next whole request head.
const HEADS: Duration = Duration::from_secs(30);
/// For answers under way, once the program is told to end.
const DRAIN: Duration = Duration::from_secs(5);
/// Unacknowledged data for this long ends a connection: a reader that stopped reading.
const DEAD_LINK_MS: u32 = 60_000;
/// After a failed accept; out of descriptors does not pass in a millisecond.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until the program is told to end.
///
/// # Errors
/// [`RoleError`] when it can't listen.
pub(crate) async fn until_told(listen: SocketAddr, router: Router) -> Result<(), RoleError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(RoleError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RoleError::Signals)?;
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|source| RoleError::Listen { listen, source })?;
    let told = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    serve(listener, router, told).await;
    Ok(())
}

pub(crate) async fn serve(listener: TcpListener, router: Router, told: impl Future<Output = ()>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let (stop, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut told = std::pin::pin!(told);
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            break;
        };
        let accepted = tokio::select! {
            () = &mut told => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((tcp, _)) => {
                let (router, stopped) = (router.clone(), stopped.clone());
                connections.spawn(async move {
                    answer(tcp, router, stopped).await;
                    drop(slot);
                });
            }
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
    drop(listener);
    stop.send_replace(true);
    let all = async { while connections.join_next().await.is_some() {} };
    if timeout(DRAIN, all).await.is_err() {
        connections.shutdown().await;
    }
}

async fn answer(tcp: TcpStream, router: Router, mut stopped: watch::Receiver<bool>) {
    if rustix::net::sockopt::set_tcp_user_timeout(&tcp, DEAD_LINK_MS).is_err() {
        return;
    }
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADS)
        .serve_connection(TokioIo::new(tcp), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // A client that broke off is no event.
        ended = connection.as_mut() => return drop(ended),
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
    connection.as_mut().graceful_shutdown();
    drop(connection.await);
}
