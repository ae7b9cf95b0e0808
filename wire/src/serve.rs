//! Answers: an accept loop that gives every request the identity its certificate proved.
//!
//! Bounds: connections, handshake, idle time and request heads, time to an answer, request bodies,
//! unacknowledged data. An answer's body may go on for ever (watch streams). What a caller may do
//! is decided by the handlers, from [`Caller`]; one outside its dates gets no further than [`Doors`] says.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{HttpService, Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use stead_schemas::names::Identity;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::clock::wall_now;
use crate::dates::{Dates, Validity};
use crate::doors::Doors;
use crate::identity::identity_of;
use crate::peer::set_socket;
use crate::tls::ServerTls;

/// Buffer a connection may grow to; also the largest request head.
const MAX_BUFFER: usize = 64 * 1024;
/// Pause after a failed accept: out of descriptors does not pass in a millisecond.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long, and how much, a refused client is still listened to, so that it reads why.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 64 * 1024;

/// Bounds of one listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time; more wait in the kernel's queue.
    pub connections: usize,
    /// From accept to the end of the TLS handshake.
    pub handshake: Duration,
    /// From the beginning of a connection, or the end of an answer, to the next whole request
    /// head. Idle connections end by it too.
    pub headers: Duration,
    /// From the head of a request to the head of its answer, reading the body included.
    pub answer: Duration,
    /// After shutdown: for answers under way, watch streams included, before they are cut.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1_024,
            handshake: Duration::from_secs(5),
            headers: Duration::from_secs(10),
            answer: Duration::from_secs(30),
            drain: Duration::from_secs(1),
        }
    }
}

/// Who calls, proved by certificate. An extractor for handlers behind [`serve`]; so is [`Dates`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller(pub Identity);

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = (StatusCode, &'static str);

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        parts.extensions.get::<Self>().cloned().ok_or((
            StatusCode::UNAUTHORIZED,
            "this request came without a certificate",
        ))
    }
}

/// Serves until `shutdown` is done, then lets answers under way finish for `limits.drain`.
/// A refused or broken connection ends that connection only; it is logged at debug.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<ServerTls>,
    doors: impl Into<Doors> + Send,
    limits: Limits,
    shutdown: impl Future<Output = ()> + Send,
) {
    let doors = doors.into();
    let slots = Arc::new(Semaphore::new(limits.connections));
    let (stop, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        // Both arms are cancel safe: a slot is given back, an accepted socket is not lost.
        let (tcp, slot) = tokio::select! {
            () = &mut shutdown => break,
            next = accept(&listener, &slots) => next,
        };
        while let Some(ended) = connections.try_join_next() {
            note_panic(ended);
        }
        let link = Link {
            acceptor: TlsAcceptor::from(tls.config()),
            tls: Arc::clone(&tls),
            doors: doors.clone(),
            limits,
            stopped: stopped.clone(),
        };
        connections.spawn(async move {
            link.run(tcp).await;
            drop(slot);
        });
    }
    drop(listener);
    stop.send_replace(true);
    let all = async { while connections.join_next().await.is_some() {} };
    if timeout(limits.drain, all).await.is_err() {
        connections.shutdown().await;
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> (TcpStream, OwnedSemaphorePermit) {
    let slot = Arc::clone(slots)
        .acquire_owned()
        .await
        .expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((tcp, _)) => return (tcp, slot),
            Err(error) => {
                tracing::warn!(%error, "can't accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn note_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a handler panicked; its connection was closed");
    }
}

/// What one connection needs.
struct Link {
    acceptor: TlsAcceptor,
    tls: Arc<ServerTls>,
    doors: Doors,
    limits: Limits,
    stopped: watch::Receiver<bool>,
}

impl Link {
    async fn run(self, tcp: TcpStream) {
        let from = tcp.peer_addr().ok();
        if let Err(error) = set_socket(&tcp) {
            tracing::debug!(?from, %error, "connection closed at once");
            return;
        }
        let Some(stream) = handshake(&self.acceptor, self.limits.handshake, tcp).await else {
            return;
        };
        let ended = match stream.get_ref().1.peer_certificates() {
            // Only where the handshake lets strangers in does anybody get here without one.
            None | Some([]) => self.answer_stranger(stream).await,
            Some([leaf, above @ ..]) => {
                let Ok(identity) = identity_of(leaf) else {
                    tracing::debug!(?from, "connection without an identity closed");
                    return;
                };
                let (caller, validity) = (Caller(identity), Validity::of_chain(leaf, above));
                if validity.at(wall_now()) == Dates::Within {
                    self.tls.outdated().note(&caller.0, Dates::Within);
                }
                self.answer(stream, caller, validity).await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(?from, %error, "connection ended");
        }
    }

    async fn answer_stranger(self, stream: TlsStream<TcpStream>) -> hyper::Result<()> {
        let service = TowerToHyperService::new(self.doors.strangers);
        let limit = self.limits.answer;
        let handler = service_fn(move |request: Request<Incoming>| {
            let answer = service.call(request);
            async move { Ok::<_, Infallible>(in_time(limit, answer).await) }
        });
        drive(stream, handler, self.limits, self.stopped).await
    }

    /// Dates are looked at with each request: a connection may outlive its certificate.
    async fn answer(
        self,
        stream: TlsStream<TcpStream>,
        caller: Caller,
        validity: Validity,
    ) -> hyper::Result<()> {
        let within = TowerToHyperService::new(self.doors.within);
        let outside = TowerToHyperService::new(self.doors.outside);
        let tls = self.tls;
        let limit = self.limits.answer;
        let handler = service_fn(move |mut request: Request<Incoming>| {
            let dates = validity.at(wall_now());
            let service = if dates == Dates::Within {
                &within
            } else {
                tls.outdated().note(&caller.0, dates);
                &outside
            };
            request.extensions_mut().insert(caller.clone());
            request.extensions_mut().insert(dates);
            let answer = service.call(request);
            async move { Ok::<_, Infallible>(in_time(limit, answer).await) }
        });
        drive(stream, handler, self.limits, self.stopped).await
    }
}

/// One connection to its end, or to the answers under way when all is to stop.
async fn drive<S, B>(
    stream: TlsStream<TcpStream>,
    handler: S,
    limits: Limits,
    mut stopped: watch::Receiver<bool>,
) -> hyper::Result<()>
where
    S: HttpService<Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: hyper::body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.headers)
        .max_buf_size(MAX_BUFFER)
        .serve_connection(TokioIo::new(stream), handler);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}

async fn in_time(
    limit: Duration,
    answer: impl Future<Output = Result<Response, Infallible>>,
) -> Response {
    match timeout(limit, answer).await {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_) => (StatusCode::GATEWAY_TIMEOUT, "no answer in time").into_response(),
    }
}

async fn handshake(
    acceptor: &TlsAcceptor,
    limit: Duration,
    tcp: TcpStream,
) -> Option<TlsStream<TcpStream>> {
    let from = tcp.peer_addr().ok();
    match timeout(limit, acceptor.accept(tcp).into_fallible()).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err((error, tcp))) => {
            tracing::debug!(?from, %error, "TLS handshake refused");
            linger(tcp).await;
            None
        }
        Err(_) => {
            tracing::debug!(?from, "TLS handshake not finished in time");
            None
        }
    }
}

/// Closing with unread data resets the connection, and the reset may overtake the alert that
/// tells the client why. So: end our side, and read what the client still sends.
async fn linger(mut tcp: TcpStream) {
    let read_out = async {
        tcp.shutdown().await?;
        let mut rest = (&mut tcp).take(LINGER_BYTES);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
        io::Result::Ok(())
    };
    // Whatever happens to a refused connection, it is over.
    drop(timeout(LINGER, read_out).await);
}
