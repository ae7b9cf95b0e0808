//! The publishing client: reads, changes and verifies records at the authoritative servers.
//!
//! The first server takes updates, all are read and verified. Nothing is cached; every question is
//! non-recursive and over TCP. What should be published, and when, is not decided here.

mod change;
mod exchange;
mod ownership;
mod reading;
mod sign;
mod transfer;
mod verify;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RecordType as WireType};
use stead_schemas::record::RecordKey;

pub use self::change::{Applied, PublishError, RecordChange};
pub use self::exchange::ExchangeError;
pub use self::ownership::{MarkReading, NotOurs, may_write};
pub use self::reading::{Reading, Served, Unreadable};
pub use self::sign::KeyFault;
pub use self::transfer::{Transfer, TransferError};
pub use self::verify::{Expected, Verified, ZoneState};

use self::change::Outcome;
use self::exchange::Connection;
use self::sign::Verdict;
use super::convert;
use super::key::TsigKey;

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
                source,
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

    /// The zone that a name is in at a server: the longest that the server is authoritative for,
    /// found by SOA on label boundaries.
    ///
    /// # Errors
    /// [`PublishError::NoZone`] where there is none, [`PublishError::Unreached`] without an answer.
    pub async fn zone_of(&self, server: SocketAddr, name: &str) -> Result<String, PublishError> {
        let key = RecordKey {
            name: name.to_owned(),
            rtype: stead_schemas::record::RecordType::A,
        };
        self.enclosing_zone(server, &key)
            .await
            .map(|zone| convert::text(&zone))
    }

    async fn enclosing_zone(
        &self,
        server: SocketAddr,
        key: &RecordKey,
    ) -> Result<Name, PublishError> {
        let no_zone = || PublishError::NoZone {
            server,
            name: key.name.clone(),
        };
        let unreached = |source| PublishError::Unreached {
            key: key.clone(),
            source,
        };
        let wanted = convert::name(&key.name).map_err(|_| no_zone())?;
        let mut connection = Connection::open(server, self.limit)
            .await
            .map_err(unreached)?;
        let mut name = wanted.clone();
        while !name.is_root() {
            let answer = connection
                .ask(&name, WireType::SOA)
                .await
                .map_err(unreached)?;
            let code = answer.response_code;
            let said = matches!(code, ResponseCode::NoError | ResponseCode::NXDomain);
            if said && answer.authoritative {
                let mut records = answer.answers.iter().chain(&answer.authorities);
                let soa =
                    records.find(|r| r.record_type() == WireType::SOA && r.name.zone_of(&wanted));
                if let Some(soa) = soa {
                    return Ok(soa.name.to_lowercase());
                }
            }
            name = name.base_name();
        }
        Err(no_zone())
    }

    /// Makes one change at the server that takes updates: checked against the mark as read (H22),
    /// sent as one atomic message, signed anew for each key that is tried.
    ///
    /// # Errors
    /// [`PublishError`]; after any of them the record is as it was, unless it says "unknown".
    pub async fn change(&self, change: &RecordChange) -> Result<Applied, PublishError> {
        let server = *self
            .servers
            .first()
            .ok_or(PublishError::NotSetUp { what: "server" })?;
        may_write(&change.key, &change.mark, change.expect.as_deref(), false)
            .map_err(PublishError::NotOurs)?;
        let zone = self.enclosing_zone(server, &change.key).await?;
        let mut faults = Vec::new();
        for key in &self.keys {
            match self.attempt(server, &zone, key, change).await? {
                Attempt::Answered(Verdict::Key(fault)) => {
                    faults.push((key.name().to_owned(), fault));
                    if !fault.try_next() {
                        break;
                    }
                }
                Attempt::Answered(verdict) => {
                    let outcome = change::outcome(verdict, change, &zone, server, key.name())?;
                    return match outcome {
                        Outcome::Applied => Ok(applied(&zone, server, Some(key))),
                        Outcome::Lost => self.explain_loss(server, &zone, change).await,
                    };
                }
                Attempt::Unanswered(source) => {
                    return self.read_back(server, &zone, change, source).await;
                }
            }
        }
        if faults.is_empty() {
            return Err(PublishError::NotSetUp { what: "TSIG key" });
        }
        Err(PublishError::KeysRefused { server, faults })
    }

    /// One message, signed once and sent once.
    async fn attempt(
        &self,
        server: SocketAddr,
        zone: &Name,
        key: &TsigKey,
        change: &RecordChange,
    ) -> Result<Attempt, PublishError> {
        let unreached = |source| PublishError::Unreached {
            key: change.key.clone(),
            source,
        };
        let mut message = change::message(zone, change)?;
        let (bytes, mut verifier) = sign::sign(&mut message, key, server).map_err(unreached)?;
        let mut connection = Connection::open(server, self.limit)
            .await
            .map_err(unreached)?;
        let exchanged = async {
            connection.send(&bytes).await?;
            let raw = connection.receive().await?;
            sign::judge(&raw, &message, &mut verifier, server)
        };
        Ok(match exchanged.await {
            Ok(verdict) => Attempt::Answered(verdict),
            Err(source) => Attempt::Unanswered(source),
        })
    }

    /// The answer is lost: only what the server now holds can say whether the change was made.
    async fn read_back(
        &self,
        server: SocketAddr,
        zone: &Name,
        change: &RecordChange,
        source: ExchangeError,
    ) -> Result<Applied, PublishError> {
        match self.read_from(server, &change.key).await {
            Ok(served) if is_done(&served, change) => Ok(applied(zone, server, None)),
            _ => Err(PublishError::Unanswered {
                server,
                key: change.key.clone(),
                source,
            }),
        }
    }

    /// The prerequisite did not hold: the record is someone else's, or was overtaken, or an earlier
    /// message of our own had gone through.
    async fn explain_loss(
        &self,
        server: SocketAddr,
        zone: &Name,
        change: &RecordChange,
    ) -> Result<Applied, PublishError> {
        let key = change.key.clone();
        let served = match self.read_from(server, &change.key).await {
            Ok(served) => served,
            Err(source) => return Err(PublishError::Unreadable { key, source }),
        };
        if is_done(&served, change) {
            return Ok(applied(zone, server, None));
        }
        let exists = served.set.is_some();
        may_write(&change.key, &change.mark, served.mark.as_deref(), exists)
            .map_err(PublishError::NotOurs)?;
        Err(PublishError::LostRace {
            key,
            server,
            found: served.mark.unwrap_or_else(|| "absent".to_owned()),
        })
    }
}

enum Attempt {
    Answered(Verdict),
    Unanswered(ExchangeError),
}

/// Whether a reading shows exactly what a change wanted, its own mark included.
fn is_done(served: &Served, change: &RecordChange) -> bool {
    let mark = change.want.as_ref().map(|_| change.mark.to_string());
    served.set == change.want && served.mark == mark
}

fn applied(zone: &Name, server: SocketAddr, key: Option<&TsigKey>) -> Applied {
    Applied {
        zone: convert::text(zone),
        server,
        signed_by: key.map(|key| key.name().to_owned()),
    }
}

async fn ask_all(
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
            let what = format!("{error}");
            part.iter()
                .map(|(index, asked)| {
                    let source = ExchangeError::Malformed {
                        server,
                        what: what.clone(),
                    };
                    let name = convert::text(&asked[0].0);
                    (*index, Err(Unreadable::Exchange { name, source }))
                })
                .collect()
        }
    }
}
