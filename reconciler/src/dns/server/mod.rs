//! The embedded authoritative server behind `stead dns`: one zone, RFC 2136 updates with TSIG.
//!
//! For the lab and for sites without a DNS of their own. One update message at a time is checked
//! against the zone, made durable in one transaction, and put in force as a whole; readers see the
//! zone before or after it (H2). Unsigned updates are refused. There is no recursion, no DNSSEC, no
//! zone but the one, and no second server: for those there are BIND and Knot.

mod answer;
mod scope;
mod store;
mod transport;
mod tsig;
mod update;
mod writer;
mod zone;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hickory_proto::ProtoError;
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use thiserror::Error;
use tokio::sync::Semaphore;

pub use self::scope::Scope;
pub use self::store::StoreError;
pub use self::transport::Running;

use self::store::Store;
use self::tsig::{Signed, authenticate};
use self::writer::Writer;
use self::zone::Zone;
use stead_dns::{TsigKey, convert};

/// Whole-zone answers under way at one time; each holds the zone's records once more.
const MAX_TRANSFERS: usize = 4;

/// What a TSIG record adds to an answer, at most: two names, 16 fixed bytes, the longest MAC.
const TSIG_ROOM: usize = 400;

/// A key and what it may write.
#[derive(Debug, Clone)]
pub struct ServerKey {
    /// The key.
    pub key: TsigKey,
    /// The names and types it may change.
    pub scope: Scope,
}

/// What a server needs to know.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Where it listens, TCP and UDP; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The zone, without the last dot.
    pub zone: String,
    /// Where the zone file lives; made if missing.
    pub dir: PathBuf,
    /// Who may sign.
    pub keys: Vec<ServerKey>,
    /// Most records the zone may grow to.
    pub max_records: usize,
    /// Most TCP connections at one time; further ones are closed at once.
    pub max_connections: usize,
    /// How long a TCP connection may stay silent.
    pub idle: Duration,
}

impl ServerConfig {
    /// A server with the usual bounds: 250,000 records, four times what the largest hierarchy
    /// publishes; 256 connections; 30 s of silence.
    #[must_use]
    pub const fn new(listen: SocketAddr, zone: String, dir: PathBuf, keys: Vec<ServerKey>) -> Self {
        Self {
            listen,
            zone,
            dir,
            keys,
            max_records: 250_000,
            max_connections: 256,
            idle: Duration::from_secs(30),
        }
    }
}

/// Why a server did not start.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The zone is not a DNS name.
    #[error("`{zone}` is not a zone name: write it like `cm.lab.example`")]
    Zone {
        /// What was given.
        zone: String,
        /// Why.
        #[source]
        source: ProtoError,
    },
    /// The zone file.
    #[error("the zone could not be loaded")]
    Store(#[source] StoreError),
    /// The address is taken or not this machine's.
    #[error(
        "cannot listen on {listen}: choose an address of this machine and a free port with --listen"
    )]
    Listen {
        /// Where.
        listen: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// No thread for the writer.
    #[error("the writer thread cannot be started")]
    Thread(#[source] std::io::Error),
}

/// Loads the zone and serves it until [`Running::shutdown`].
///
/// # Errors
/// [`ServeError`] when the zone cannot be loaded or the address cannot be had.
pub async fn serve(config: ServerConfig) -> Result<Running, ServeError> {
    let name = |text: &str| {
        convert::name(text).map_err(|source| ServeError::Zone {
            zone: config.zone.clone(),
            source,
        })
    };
    let (apex, ns) = (name(&config.zone)?, name(&format!("ns.{}", config.zone))?);
    let (store, zone) = Store::open(&config.dir, &apex, &ns).map_err(ServeError::Store)?;
    let zone = Arc::new(RwLock::new(zone));
    let writer =
        Writer::start(store, Arc::clone(&zone), config.max_records).map_err(ServeError::Thread)?;
    let listen = config.listen;
    let core = Core {
        zone,
        keys: config.keys,
        writer,
        transfers: Semaphore::new(MAX_TRANSFERS),
    };
    transport::start(core, listen, config.max_connections, config.idle)
        .await
        .map_err(|source| ServeError::Listen { listen, source })
}

/// How a request came, where the answer depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Via {
    Tcp,
    Udp,
}

/// What answers requests; shared by all connections.
struct Core {
    zone: Arc<RwLock<Zone>>,
    keys: Vec<ServerKey>,
    writer: Writer,
    transfers: Semaphore,
}

impl Core {
    /// The answers to one request: none to what is no request, several to a transfer.
    async fn respond(&self, raw: &[u8], via: Via) -> Vec<Vec<u8>> {
        let message = match Message::from_vec(raw) {
            Ok(message) if message.message_type == MessageType::Query => message,
            Ok(_) => return Vec::new(),
            Err(_) => return format_error(raw).into_iter().collect(),
        };
        match self.answer(raw, message, via).await {
            Ok(answers) => answers,
            Err(error) => {
                tracing::warn!(%error, "an answer could not be encoded");
                Vec::new()
            }
        }
    }

    async fn answer(
        &self,
        raw: &[u8],
        message: Message,
        via: Via,
    ) -> Result<Vec<Vec<u8>>, ProtoError> {
        let limit = match via {
            Via::Tcp => usize::from(u16::MAX),
            Via::Udp => answer::udp_limit(&message),
        };
        match authenticate(&self.keys, raw, &message, now_s()) {
            Signed::Wrong(wrong) => Ok(vec![wrong.answer(&message)?]),
            Signed::Not => {
                let answers = self.dispatch(message, None, via).await;
                answers.into_iter().map(|m| fit(m, limit)).collect()
            }
            Signed::By { key, mut chain } => {
                let answers = self.dispatch(message, Some(key), via).await;
                let seal = |mut m: Message| {
                    // Cut before signing, so that the cut answer is signed too.
                    if via == Via::Udp && m.to_vec()?.len() + TSIG_ROOM > limit {
                        m = m.truncate();
                    }
                    chain.seal(&mut m)
                };
                answers.into_iter().map(seal).collect()
            }
        }
    }

    async fn dispatch(&self, message: Message, key: Option<&ServerKey>, via: Via) -> Vec<Message> {
        match message.op_code {
            OpCode::Query if answer::is_transfer(&message) => {
                let allowed = key.is_some_and(|key| key.scope.allows_transfer());
                if !allowed || via == Via::Udp {
                    return vec![answer::reply(&message, ResponseCode::Refused)];
                }
                let _permit = self.transfers.acquire().await;
                answer::transfer(&self.read(), &message)
            }
            OpCode::Query => vec![answer::answer(&self.read(), &message)],
            OpCode::Update => {
                let reply = answer::reply(&message, ResponseCode::Refused);
                let code = match key {
                    Some(key) => self.writer.update(message, key.scope.clone()).await,
                    None => ResponseCode::Refused,
                };
                let mut reply = reply;
                reply.metadata.response_code = code;
                vec![reply]
            }
            _ => vec![answer::reply(&message, ResponseCode::NotImp)],
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Zone> {
        // A panic while applying would poison; the zone is then still the last whole one, because
        // `apply` only swaps sets that were built before.
        self.zone.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bytes of an answer, cut to its TC bit where it is too large.
fn fit(message: Message, limit: usize) -> Result<Vec<u8>, ProtoError> {
    let bytes = message.to_vec()?;
    if bytes.len() <= limit {
        Ok(bytes)
    } else {
        message.truncate().to_vec()
    }
}

/// FORMERR for what cannot be parsed, if there is at least a header of a request.
fn format_error(raw: &[u8]) -> Option<Vec<u8>> {
    let header = raw.get(..12)?;
    let is_request = header[2] & 0x80 == 0;
    let id = u16::from_be_bytes([header[0], header[1]]);
    let op_code = OpCode::from_u8((header[2] >> 3) & 0x0f);
    Message::error_msg(id, op_code, ResponseCode::FormErr)
        .to_vec()
        .ok()
        .filter(|_| is_request)
}

fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs())
}
