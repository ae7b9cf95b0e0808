//! Carrying out one change: the zone is found, the message sent, a loss explained.
//!
//! Only the first server takes updates. What the message looks like is `change.rs`, what its answer
//! proves `sign.rs`; whether the change is then served is `verify.rs`.

use std::net::SocketAddr;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RecordType as WireType};
use stead_schemas::observed::Served;
use stead_schemas::record::{RecordKey, RecordType};

use super::Client;
use super::change::{self, Applied, Outcome, PublishError, RecordChange};
use super::exchange::{Connection, ExchangeError};
use super::ownership::may_write;
use super::sign::{self, Verdict};
use crate::convert;
use crate::key::TsigKey;

impl Client {
    /// The zone that a name is in at a server: the longest that the server is authoritative for,
    /// found by SOA on label boundaries.
    ///
    /// # Errors
    /// [`PublishError::NoZone`] where there is none, [`PublishError::Unreached`] without an answer.
    pub async fn zone_of(&self, server: SocketAddr, name: &str) -> Result<String, PublishError> {
        let key = RecordKey {
            name: name.to_owned(),
            rtype: RecordType::A,
        };
        self.enclosing_zone(server, &key)
            .await
            .map(|zone| convert::text(&zone))
    }

    pub(crate) async fn enclosing_zone(
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
        let message = || change::message(&zone, change);
        match self.send(server, &change.key, message).await? {
            Sent::Answered(verdict, key) => {
                match change::outcome(verdict, &change.key, &zone, server, key.name())? {
                    Outcome::Applied => Ok(applied(&zone, server, Some(key))),
                    Outcome::Lost => self.explain_loss(server, &zone, change).await,
                }
            }
            Sent::Unanswered(source) => self.read_back(server, &zone, change, source).await,
        }
    }

    /// Sends an update of a record, made and signed anew for each key that is tried.
    pub(crate) async fn send(
        &self,
        server: SocketAddr,
        record: &RecordKey,
        message: impl Fn() -> Result<Message, PublishError>,
    ) -> Result<Sent<'_>, PublishError> {
        let mut faults = Vec::new();
        for key in &self.keys {
            match self.attempt(server, key, record, message()?).await? {
                Sent::Answered(Verdict::Key(fault), _) => {
                    faults.push((key.name().to_owned(), fault));
                    if !fault.try_next() {
                        break;
                    }
                }
                sent => return Ok(sent),
            }
        }
        if faults.is_empty() {
            return Err(PublishError::NotSetUp { what: "TSIG key" });
        }
        Err(PublishError::KeysRefused { server, faults })
    }

    /// One message, signed once and sent once.
    async fn attempt<'k>(
        &self,
        server: SocketAddr,
        key: &'k TsigKey,
        record: &RecordKey,
        mut message: Message,
    ) -> Result<Sent<'k>, PublishError> {
        let unreached = |source| PublishError::Unreached {
            key: record.clone(),
            source,
        };
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
            Ok(verdict) => Sent::Answered(verdict, key),
            Err(source) => Sent::Unanswered(source),
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

/// What became of an update that was sent.
pub(crate) enum Sent<'k> {
    /// The server said this to a message signed with this key.
    Answered(Verdict, &'k TsigKey),
    /// Nothing usable came back: it may have been taken.
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
