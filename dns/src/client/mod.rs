//! The publishing client: reads, changes and verifies records at the authoritative servers.
//!
//! The first server takes updates, all are read and verified. Nothing is cached; every question is
//! non-recursive and over TCP. What should be published, and when, is not decided here.

pub(crate) mod change;
mod exchange;
mod ownership;
pub(crate) mod publish;
pub(crate) mod reading;
mod sign;
mod transfer;
mod verify;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use hickory_proto::rr::{Name, RecordType as WireType};
use stead_schemas::observed::Served;
use stead_schemas::record::RecordKey;

pub use self::change::{Applied, PublishError, RecordChange};
pub use self::exchange::ExchangeError;
pub use self::ownership::{MarkReading, NotOurs, may_write};
pub use self::reading::{Reading, Unreadable};
pub use self::sign::KeyFault;
pub use self::transfer::{Transfer, TransferError};
pub use self::verify::{Expected, Verified, ZoneState};

use self::exchange::Connection;
use crate::convert;
use crate::key::TsigKey;

/// From this many records on, a whole-zone transfer is tried first.
const TRANSFER_FROM: usize = 500;
/// Questions on one connection; identifiers bound it to 65,536.
const QUESTIONS_A_CONNECTION: usize = 10_000;
/// For many records at one server, whatever the single answer's limit.
const MANY_LIMIT: Duration = Duration::from_secs(15);

/// Publishes to and reads from one set of servers.
#[derive(Debug)]
pub struct Client {
    servers: Vec<SocketAddr>,
    keys: Vec<TsigKey>,
    limit: Duration,
    /// Servers that refused a transfer; not asked again by this client.
    no_transfer: Mutex<BTreeSet<SocketAddr>>,
}

impl Client {
    /// A client of these servers; the first takes updates. The first key signs, the others are
    /// tried where it is refused (rotation). `limit` bounds each single exchange.
    #[must_use]
    pub const fn new(servers: Vec<SocketAddr>, keys: Vec<TsigKey>, limit: Duration) -> Self {
        Self {
            servers,
            keys,
            limit,
            no_transfer: Mutex::new(BTreeSet::new()),
        }
    }

    /// The servers, the one that takes updates first.
    #[must_use]
    pub fn servers(&self) -> &[SocketAddr] {
        &self.servers
    }

    /// What bounds each single exchange.
    pub(crate) const fn limit(&self) -> Duration {
        self.limit
    }

    /// What each server has of a record and its mark.
    pub async fn read(&self, key: &RecordKey) -> Vec<Reading> {
        join_all(self.servers.iter().map(|server| async move {
            Reading {
                server: *server,
                served: self.read_from(*server, key).await,
            }
        }))
        .await
    }

    /// What one server has of a record and its mark.
    ///
    /// # Errors
    /// [`Unreadable`] when that is unknown; absence is no error.
    pub async fn read_from(
        &self,
        server: SocketAddr,
        key: &RecordKey,
    ) -> Result<Served, Unreadable> {
        let asked = reading::questions(key)?;
        let answers = ask_all(server, &asked, self.limit)
            .await
            .map_err(|source| Unreadable::Exchange {
                name: key.name.clone(),
                source: Arc::new(source),
            })?;
        reading::served(server, &asked, &answers[0], &answers[1])
    }

    /// What one server has of many records, in the order of `keys`: by a transfer of the zone where
    /// the server allows it, else with all questions under way at once.
    pub async fn read_many(
        &self,
        server: SocketAddr,
        keys: &[RecordKey],
    ) -> Vec<Result<Served, Unreadable>> {
        let transfer = self.try_transfer(server, keys).await;
        let mut found: Vec<Option<Result<Served, Unreadable>>> = Vec::with_capacity(keys.len());
        let mut open: Vec<(usize, [(Name, WireType); 2])> = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            let asked = match reading::questions(key) {
                Ok(asked) => asked,
                Err(error) => {
                    found.push(Some(Err(error)));
                    continue;
                }
            };
            let known = transfer.as_ref().and_then(|t| t.served(&asked));
            if known.is_none() {
                open.push((index, asked));
            }
            found.push(known);
        }
        let parts = open.chunks(QUESTIONS_A_CONNECTION / 2);
        for part in join_all(parts.map(|part| read_part(server, part))).await {
            for (index, served) in part {
                found[index] = Some(served);
            }
        }
        found
            .into_iter()
            .map(|served| served.expect("every key is known, open or refused"))
            .collect()
    }

    /// The whole zone around a name, with the first key that the server takes.
    ///
    /// # Errors
    /// [`TransferError`] of the last key when none is taken or the stream breaks.
    pub async fn transfer(
        &self,
        server: SocketAddr,
        zone: &str,
    ) -> Result<Transfer, TransferError> {
        let zone = convert::name(zone).map_err(|error| TransferError::Exchange {
            zone: zone.to_owned(),
            source: ExchangeError::Malformed {
                server,
                what: error.to_string(),
            },
        })?;
        let mut last = None;
        for key in &self.keys {
            match transfer::transfer(server, &zone, Some(key), MANY_LIMIT).await {
                Err(error) if error.is_refusal() => last = Some(error),
                done => return done,
            }
        }
        match last {
            Some(error) => Err(error),
            None => transfer::transfer(server, &zone, None, MANY_LIMIT).await,
        }
    }

    async fn try_transfer(&self, server: SocketAddr, keys: &[RecordKey]) -> Option<Transfer> {
        let refused = || {
            self.no_transfer
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        if keys.len() < TRANSFER_FROM || refused().contains(&server) {
            return None;
        }
        let zone = self.zone_of(server, &keys[0].name).await.ok()?;
        match self.transfer(server, &zone).await {
            Ok(transfer) => Some(transfer),
            Err(error) => {
                tracing::debug!(%server, %error, "the zone is read record by record instead");
                if error.is_refusal() {
                    refused().insert(server);
                }
                None
            }
        }
    }
}

pub(crate) async fn ask_all(
    server: SocketAddr,
    questions: &[(Name, WireType)],
    limit: Duration,
) -> Result<Vec<hickory_proto::op::Message>, ExchangeError> {
    Connection::open(server, limit)
        .await?
        .ask_all(questions)
        .await
}

/// Reads some records on one connection; an error there makes all of them unknown.
async fn read_part(
    server: SocketAddr,
    part: &[(usize, [(Name, WireType); 2])],
) -> Vec<(usize, Result<Served, Unreadable>)> {
    let questions: Vec<_> = part.iter().flat_map(|(_, asked)| asked.clone()).collect();
    match ask_all(server, &questions, MANY_LIMIT).await {
        Ok(answers) => part
            .iter()
            .zip(answers.chunks(2))
            .map(|((index, asked), both)| {
                (*index, reading::served(server, asked, &both[0], &both[1]))
            })
            .collect(),
        Err(error) => {
            let error = Arc::new(error);
            let unknown = |(index, asked): &(usize, [(Name, WireType); 2])| {
                let name = convert::text(&asked[0].0);
                let source = Arc::clone(&error);
                (*index, Err(Unreadable::Exchange { name, source }))
            };
            part.iter().map(unknown).collect()
        }
    }
}
