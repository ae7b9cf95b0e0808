//! Calls to one other program, known by identity and reached at an address.
//!
//! One way for everything: HTTP/1.1 over one TLS connection a call at a time, the last idle
//! connection kept a few seconds for the next call. Every call has a deadline, every body a cap. There are no
//! pools, redirects, proxies, cookies or retries; a caller that wants to try again does. The one
//! exception: a kept connection that closed before anything of the request went out is replaced.

use std::error::Error as StdError;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use stead_schemas::names::Identity;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::clock::wall_now;
use crate::dates::{Dates, Validity};
use crate::lines::Lines;
use crate::local;
use crate::tls::{ClientParts, ClientTls};
use crate::verify::{Tolerance, VerifyError};

/// Largest answer read in one piece: a list of the 38,000 instances of the largest hierarchy is
/// about 8 MiB. Requests and lines are held to `MESSAGE_BYTES_MAX`.
pub const MAX_ANSWER: usize = 16 * 1024 * 1024;
/// How much of a refusal's text is kept, in bytes.
const MAX_REFUSAL: usize = 4 * 1024;
/// hyper's read buffer; it starts at 8 KiB, and 10,000 watches shall not grow past this (H25).
const MAX_BUFFER: usize = 64 * 1024;
/// A kept connection is used again within this time, then closed: 10,000 agents that were called
/// once shall not hold a second connection each (H25). Well below the server's own idle deadline
/// (`serve::Limits::headers`), so that both ends don't decide at once.
const KEEP_IDLE: Duration = Duration::from_secs(4);
/// A connection opened ahead is replaced past this age. Looked at every 3 s, that is before the other
/// side's idle deadline (`serve::Limits::headers`, 10 s) ends it.
const OPEN_AHEAD: Duration = Duration::from_secs(7);
/// A kept connection to a server outside its dates is replaced past this age: the server may have a
/// good certificate by now.
const OUTSIDE: Duration = Duration::from_secs(30);
/// Sent data that nobody acknowledges for this long ends the connection (H12).
pub(crate) const DEAD_LINK: Duration = Duration::from_secs(10);

/// Why a call brought no answer. `Display` leaves out the sources; print the chain.
#[derive(Debug, Error)]
pub enum CallError {
    /// No TCP connection: refused, or no way there.
    #[error("can't connect to {addr}")]
    Refused {
        /// Where to.
        addr: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No answer, or no next line, in time.
    #[error("no answer from {addr} within {} ms", after.as_millis())]
    Timeout {
        /// Where to.
        addr: SocketAddr,
        /// The deadline.
        after: Duration,
    },
    /// One side refused the other's certificate, or that is no TLS server.
    #[error("TLS with {addr} failed; check dates, CA and clock on both sides")]
    Tls {
        /// Where to.
        addr: SocketAddr,
        /// What rustls said.
        #[source]
        source: io::Error,
    },
    /// A good certificate of somebody else. Nothing of the request was sent.
    #[error("{addr} is {got}, not {expected}; check the address")]
    WrongIdentity {
        /// Where to.
        addr: SocketAddr,
        /// Who was called.
        expected: Box<Identity>,
        /// Who is there.
        got: Box<Identity>,
    },
    /// An answer other than 2xx.
    #[error("{addr} answered {code}: {text}")]
    Status {
        /// Where to.
        addr: SocketAddr,
        /// The HTTP status.
        code: u16,
        /// The body, bounded, control characters replaced.
        text: String,
    },
    /// An answer that is too large or not what was agreed.
    #[error("{addr} sent a body that can't be used: {reason}")]
    BadBody {
        /// Where to.
        addr: SocketAddr,
        /// What is wrong with it.
        reason: String,
    },
    /// The connection broke; whether the other side acted is not known.
    #[error("the connection to {addr} broke during the call")]
    Lost {
        /// Where to.
        addr: SocketAddr,
        /// What broke.
        #[source]
        source: hyper::Error,
    },
    /// The request can't be put into HTTP or JSON; nothing was sent.
    #[error("the request {path:?} can't be sent")]
    Unsendable {
        /// The path asked for.
        path: String,
        /// Why not.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
}

/// One other program. Cheap to keep; holds at most one idle connection, and not for long.
#[derive(Debug)]
pub struct Peer {
    addr: SocketAddr,
    from: Option<IpAddr>,
    expected: Identity,
    tls: Arc<ClientTls>,
    tolerance: Tolerance,
    idle: Arc<Mutex<Option<Connection>>>,
}

impl Peer {
    /// A peer that is reached at `addr` and must prove to be `expected`. Connects with the first
    /// call.
    #[must_use]
    pub fn new(addr: SocketAddr, expected: Identity, tls: Arc<ClientTls>) -> Self {
        Self {
            addr,
            from: None,
            expected,
            tls,
            tolerance: Tolerance::Strict,
            idle: Arc::default(),
        }
    }

    /// The same place and name, with a connection of its own.
    #[must_use]
    pub fn again(&self) -> Self {
        let tls = Arc::clone(&self.tls);
        Self::new(self.addr, self.expected.clone(), tls).leaving_from(self.from)
    }

    /// The same, called from this address where that leads there.
    #[must_use]
    pub fn leaving_from(self, from: Option<IpAddr>) -> Self {
        Self { from, ..self }
    }

    /// Takes a server outside its dates, and notes it in [`ClientTls::outdated`]. For lease letters and
    /// for reading; never for commands (H20).
    #[must_use]
    pub fn tolerant(mut self) -> Self {
        self.tolerance = Tolerance::Tolerant;
        self
    }

    /// Where it is reached.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Who it must be.
    #[must_use]
    pub fn expected(&self) -> &Identity {
        &self.expected
    }

    /// GET; `path` begins with `/` and may carry a query. An answer without body reads as `null`.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn get_json<T: DeserializeOwned>(
        &self,
        path: &str,
        deadline: Duration,
    ) -> Result<T, CallError> {
        let request = self.request(Method::GET, path, Bytes::new())?;
        self.call(request, deadline).await
    }

    /// PUT with a JSON body; otherwise as [`Self::get_json`].
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn put_json<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
        deadline: Duration,
    ) -> Result<T, CallError> {
        let request = self.request(Method::PUT, path, to_json(path, body)?)?;
        self.call(request, deadline).await
    }

    /// POST with a JSON body; otherwise as [`Self::get_json`].
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn post_json<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
        deadline: Duration,
    ) -> Result<T, CallError> {
        let request = self.request(Method::POST, path, to_json(path, body)?)?;
        self.call(request, deadline).await
    }

    /// As [`Self::post_json`], on a connection that is not kept: for calls that no other follows.
    /// A crowd of peers called once at the same time then costs no crowd of idle connections.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn post_json_once<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
        deadline: Duration,
    ) -> Result<T, CallError> {
        let answer = self.post_json(path, body, deadline).await;
        drop(self.take_idle());
        answer
    }

    /// Opens the connection that the next call will use, unless one is kept already: for calls that
    /// must not wait for a handshake. The connection is
    /// kept for 4 s; call this again to keep it longer.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn connect_ahead(&self, deadline: Duration) -> Result<(), CallError> {
        let young = |kept: &mut Connection| kept.opened.elapsed() < OPEN_AHEAD;
        let kept = self.take_idle_if(young);
        let connection = match kept {
            Some(kept) => kept,
            None => self.within(deadline, self.connect()).await?,
        };
        self.keep(connection);
        Ok(())
    }

    /// GET of an answer that comes line by line, for ever or until the other side ends it, on a
    /// connection of its own. It begins within `deadline`; then a line comes at least every
    /// `silence`, or [`Lines::next`] fails with [`CallError::Timeout`].
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn stream_lines(
        &self,
        path: &str,
        deadline: Duration,
        silence: Duration,
    ) -> Result<Lines, CallError> {
        let request = self.request(Method::GET, path, Bytes::new())?;
        let open = async {
            let mut connection = self.connect().await?;
            let sent = connection.sender.send_request(request).await;
            let response = sent.map_err(|error| self.broke(error))?;
            if response.status().is_success() {
                Ok((response.into_body(), connection.driver))
            } else {
                Err(self.refusal(response).await)
            }
        };
        let (body, driver) = self.within(deadline, open).await?;
        Ok(Lines::new(body, driver, self.addr, silence))
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, CallError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.addr.to_string());
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        request
            .body(Full::new(body))
            .map_err(|error| unsendable(path, error))
    }

    async fn call<T: DeserializeOwned>(
        &self,
        request: Request<Full<Bytes>>,
        deadline: Duration,
    ) -> Result<T, CallError> {
        let bytes = self.within(deadline, self.exchange(request)).await?;
        let text: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
        serde_json::from_slice(text).map_err(|error| self.bad_body(error.to_string()))
    }

    /// A call cut off here drops its connection: nothing of it can answer the next one.
    async fn within<T>(
        &self,
        deadline: Duration,
        work: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        tokio::time::timeout(deadline, work)
            .await
            .unwrap_or(Err(CallError::Timeout {
                addr: self.addr,
                after: deadline,
            }))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Bytes, CallError> {
        let (response, connection) = self.send(request).await?;
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        let bytes = read_capped(response.into_body(), MAX_ANSWER)
            .await
            .map_err(|error| self.unread(error))?;
        self.keep(connection);
        Ok(bytes)
    }

    async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, Connection), CallError> {
        // `ready` waits for hyper to be through with the answer before; a closed one fails it.
        if let Some(mut kept) = self.take_idle()
            && kept.sender.ready().await.is_ok()
        {
            match kept.sender.try_send_request(request).await {
                Ok(response) => return Ok((response, kept)),
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(self.broke(failed.into_error())),
                },
            }
        }
        let mut connection = self.connect().await?;
        let sent = connection.sender.send_request(request).await;
        let response = sent.map_err(|error| self.broke(error))?;
        Ok((response, connection))
    }

    async fn connect(&self) -> Result<Connection, CallError> {
        let addr = self.addr;
        let refused = |source| CallError::Refused { addr, source };
        let tcp = local::connect(addr, self.from).await.map_err(refused)?;
        set_socket(&tcp).map_err(refused)?;
        let parts = self.tls.parts();
        let tls = TlsConnector::from(parts.expecting(&self.expected, self.tolerance))
            .connect(ServerName::from(addr.ip()), tcp)
            .await
            .map_err(|error| self.tls_failed(error))?;
        let dates = dates_of(&tls);
        self.tls.outdated().note(&self.expected, dates);
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_BUFFER)
            .handshake(TokioIo::new(tls))
            .await
            .map_err(|error| self.broke(error))?;
        let driver = Driver(tokio::spawn(async move {
            // The call that this connection serves gets the same error; nobody else wants it.
            drop(connection.await);
        }));
        Ok(Connection {
            sender,
            driver,
            parts,
            dates,
            opened: Instant::now(),
            since: Instant::now(),
        })
    }

    fn take_idle(&self) -> Option<Connection> {
        self.take_idle_if(|_| true)
    }

    /// One that is not wanted stays where it is.
    fn take_idle_if(&self, wanted: impl FnOnce(&mut Connection) -> bool) -> Option<Connection> {
        let kept = lock(&self.idle).take_if(wanted);
        let current = self.tls.parts();
        kept.filter(|connection| {
            !connection.sender.is_closed()
                && connection.since.elapsed() < KEEP_IDLE
                && (connection.dates == Dates::Within || connection.opened.elapsed() < OUTSIDE)
                && Arc::ptr_eq(&connection.parts, &current)
        })
    }

    fn keep(&self, mut connection: Connection) {
        let since = Instant::now();
        connection.since = since;
        *lock(&self.idle) = Some(connection);
        let idle = Arc::downgrade(&self.idle);
        tokio::spawn(async move {
            tokio::time::sleep(KEEP_IDLE).await;
            if let Some(idle) = idle.upgrade() {
                // One that was used meanwhile has a later date, and its own end.
                drop(lock(&idle).take_if(|kept| kept.since == since));
            }
        });
    }

    async fn refusal(&self, response: Response<Incoming>) -> CallError {
        let code = response.status().as_u16();
        let text = read_start(response.into_body(), MAX_REFUSAL).await;
        CallError::Status {
            addr: self.addr,
            code,
            text: printable(&text),
        }
    }

    fn tls_failed(&self, source: io::Error) -> CallError {
        let addr = self.addr;
        match rustls_error(&source).and_then(VerifyError::within) {
            Some(VerifyError::WrongIdentity { expected, got }) => CallError::WrongIdentity {
                addr,
                expected: expected.clone(),
                got: got.clone(),
            },
            _ => CallError::Tls { addr, source },
        }
    }

    /// With TLS 1.3 a client learns after the handshake that its own certificate was refused.
    fn broke(&self, source: hyper::Error) -> CallError {
        let addr = self.addr;
        match alert_within(&source) {
            Some(alert) => CallError::Tls {
                addr,
                source: io::Error::other(alert),
            },
            None => CallError::Lost { addr, source },
        }
    }

    fn unread(&self, error: Box<dyn StdError + Send + Sync>) -> CallError {
        if error.is::<LengthLimitError>() {
            return self.bad_body(format!("it is larger than {MAX_ANSWER} bytes"));
        }
        match error.downcast::<hyper::Error>() {
            Ok(broken) => self.broke(*broken),
            Err(other) => self.bad_body(other.to_string()),
        }
    }

    fn bad_body(&self, reason: String) -> CallError {
        CallError::BadBody {
            addr: self.addr,
            reason,
        }
    }
}

fn lock(idle: &Mutex<Option<Connection>>) -> MutexGuard<'_, Option<Connection>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection, and what it was made with.
#[derive(Debug)]
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: Driver,
    parts: Arc<ClientParts>,
    dates: Dates,
    opened: Instant,
    since: Instant,
}

/// The task that moves a connection's bytes; dropping it closes the connection.
#[derive(Debug)]
pub(crate) struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn dates_of(tls: &TlsStream<TcpStream>) -> Dates {
    let chain = tls.get_ref().1.peer_certificates().unwrap_or_default();
    chain.split_first().map_or(Dates::Within, |(leaf, above)| {
        Validity::of_chain(leaf, above).at(wall_now())
    })
}

/// No waiting for full packets; an end for links that swallow everything.
pub(crate) fn set_socket(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let ms = u32::try_from(DEAD_LINK.as_millis()).unwrap_or(u32::MAX);
    rustix::net::sockopt::set_tcp_user_timeout(tcp, ms)?;
    Ok(())
}

fn to_json<B: Serialize>(path: &str, body: &B) -> Result<Bytes, CallError> {
    serde_json::to_vec(body)
        .map(Bytes::from)
        .map_err(|error| unsendable(path, error))
}

fn unsendable(path: &str, source: impl StdError + Send + Sync + 'static) -> CallError {
    CallError::Unsendable {
        path: path.to_owned(),
        source: Box::new(source),
    }
}

async fn read_capped(body: Incoming, cap: usize) -> Result<Bytes, Box<dyn StdError + Send + Sync>> {
    Ok(Limited::new(body, cap).collect().await?.to_bytes())
}

/// The first `cap` bytes; a refusal's text is worth reading even if the rest is lost.
async fn read_start(mut body: Incoming, cap: usize) -> Vec<u8> {
    let mut start = Vec::new();
    while start.len() < cap {
        let Some(Ok(frame)) = body.frame().await else {
            break;
        };
        if let Ok(data) = frame.into_data() {
            start.extend_from_slice(&data[..data.len().min(cap - start.len())]);
        }
    }
    start
}

/// A peer's words go to terminals and logs: no control characters of its own choosing.
fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

fn rustls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn alert_within(error: &hyper::Error) -> Option<rustls::Error> {
    let mut next = StdError::source(error);
    while let Some(error) = next {
        let io: Option<&io::Error> = error.downcast_ref();
        if let Some(found) = io.and_then(rustls_error) {
            return Some(found.clone());
        }
        next = error.source();
    }
    None
}
