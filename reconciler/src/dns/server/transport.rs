//! Sockets: TCP and UDP on one port, bounded, until told to stop.
//!
//! A connection is served one request at a time, so its answers come in order and a slow reader
//! holds up only itself. Bounds: connections, silence, message size (the protocol's 64 KiB).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, BufWriter};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{Core, Via};

/// How often a free port is tried where UDP finds the one that TCP got taken.
const PORT_TRIES: usize = 16;
/// UDP updates under way at one time; queries are answered at once.
const MAX_UDP_TASKS: usize = 256;
/// How long open connections get to finish their request when the server stops.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// Pause after an accept that failed for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A running server.
#[must_use = "dropping it stops the server without waiting"]
pub struct Running {
    addr: SocketAddr,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    core: Arc<Core>,
}

impl Running {
    /// Where it listens, with the real port.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Stops: no new requests, those under way are finished, the zone file is closed.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        let ended = timeout(STOP_GRACE, async {
            while self.tasks.join_next().await.is_some() {}
        });
        if ended.await.is_err() {
            tracing::warn!("connections were cut after {STOP_GRACE:?}");
            self.tasks.shutdown().await;
        }
        match Arc::try_unwrap(self.core) {
            Ok(core) => {
                let closed = tokio::task::spawn_blocking(move || core.writer.finish()).await;
                if closed.is_err() {
                    tracing::error!("the zone file was not closed in order");
                }
            }
            Err(_) => tracing::error!("a request outlived the server"),
        }
    }
}

/// Binds both sockets and starts serving.
pub(super) async fn start(
    core: Core,
    listen: SocketAddr,
    max_connections: usize,
    idle: Duration,
) -> io::Result<Running> {
    let (tcp, udp) = bind(listen).await?;
    let addr = tcp.local_addr()?;
    let (stop, stopped) = watch::channel(false);
    let core = Arc::new(core);
    let mut tasks = JoinSet::new();
    tasks.spawn(accept(
        Arc::clone(&core),
        tcp,
        max_connections,
        idle,
        stopped.clone(),
    ));
    tasks.spawn(datagrams(Arc::clone(&core), udp, stopped));
    Ok(Running {
        addr,
        stop,
        tasks,
        core,
    })
}

async fn bind(listen: SocketAddr) -> io::Result<(TcpListener, UdpSocket)> {
    let mut tries = 0;
    loop {
        let tcp = TcpListener::bind(listen).await?;
        tries += 1;
        match UdpSocket::bind(tcp.local_addr()?).await {
            Ok(udp) => return Ok((tcp, udp)),
            Err(_) if listen.port() == 0 && tries < PORT_TRIES => {}
            Err(error) => return Err(error),
        }
    }
}

async fn accept(
    core: Arc<Core>,
    tcp: TcpListener,
    max_connections: usize,
    idle: Duration,
    stopped: watch::Receiver<bool>,
) {
    let mut stop = stopped.clone();
    let free = Arc::new(Semaphore::new(max_connections));
    let mut connections = JoinSet::new();
    loop {
        // Every arm is cancel safe: a connection is either accepted whole or stays in the backlog.
        tokio::select! {
            () = stopping(&mut stop) => break,
            Some(_) = connections.join_next() => {}
            accepted = tcp.accept() => match (accepted, Arc::clone(&free).try_acquire_owned()) {
                (Ok((stream, _)), Ok(permit)) => {
                    let (core, stopped) = (Arc::clone(&core), stopped.clone());
                    connections.spawn(async move {
                        let _permit = permit;
                        // A client that breaks off is its own affair.
                        drop(connection(&core, stream, idle, stopped).await);
                    });
                }
                (Ok((_, peer)), Err(_)) => tracing::warn!(%peer, "too many connections"),
                (Err(error), _) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    while connections.join_next().await.is_some() {}
}

/// Returns when the server is told to stop, or is gone.
async fn stopping(stopped: &mut watch::Receiver<bool>) {
    drop(stopped.wait_for(|stop| *stop).await);
}

async fn connection(
    core: &Core,
    mut stream: TcpStream,
    idle: Duration,
    mut stopped: watch::Receiver<bool>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.split();
    let (mut reader, mut writer) = (BufReader::new(reader), BufWriter::new(writer));
    let mut request = Vec::new();
    loop {
        // A half-read length is lost only when the connection ends anyway.
        let length = tokio::select! {
            () = stopping(&mut stopped) => return Ok(()),
            length = timeout(idle, reader.read_u16()) => length??,
        };
        request.resize(usize::from(length), 0);
        timeout(idle, reader.read_exact(&mut request)).await??;
        let answers = core.respond(&request, Via::Tcp).await;
        let send = async {
            for answer in answers {
                let length = u16::try_from(answer.len())
                    .map_err(|_| io::Error::other("an answer larger than 64 KiB"))?;
                writer.write_u16(length).await?;
                writer.write_all(&answer).await?;
            }
            // Pipelined requests share their packets.
            if reader.buffer().is_empty() {
                writer.flush().await?;
            }
            Ok::<_, io::Error>(())
        };
        timeout(idle, send).await??;
    }
}

async fn datagrams(core: Arc<Core>, udp: UdpSocket, mut stopped: watch::Receiver<bool>) {
    let udp = Arc::new(udp);
    let free = Arc::new(Semaphore::new(MAX_UDP_TASKS));
    let mut tasks = JoinSet::new();
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        // Receiving is cancel safe: a datagram is taken whole or stays in the socket.
        let (length, peer) = tokio::select! {
            () = stopping(&mut stopped) => break,
            Some(_) = tasks.join_next() => continue,
            received = udp.recv_from(&mut buffer) => match received {
                Ok(received) => received,
                // An ICMP answer to an earlier reply shows up here; it is about another peer.
                Err(_) => continue,
            },
        };
        // Full: the datagram is dropped, as UDP may, and the asker tries again.
        let Ok(permit) = Arc::clone(&free).try_acquire_owned() else {
            continue;
        };
        let (core, udp) = (Arc::clone(&core), Arc::clone(&udp));
        let request = buffer[..length].to_vec();
        tasks.spawn(async move {
            let _permit = permit;
            for answer in core.respond(&request, Via::Udp).await {
                // A reply that cannot be sent is a lost datagram.
                drop(udp.send_to(&answer, peer).await);
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}
