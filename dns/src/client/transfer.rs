//! Reading a whole zone at once (AXFR, RFC 5936), where the server allows it to a key.
//!
//! A transfer counts only when its closing SOA equals the opening one; anything amiss before that
//! loses the whole of it, never a part (external-dns took half a zone for a zone).

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType as WireType};
use stead_schemas::observed::Served;
use thiserror::Error;

use super::exchange::{Connection, ExchangeError, decode, encode};
use super::reading::{Unreadable, mark_text};
use super::sign;
use crate::convert;
use crate::key::TsigKey;

/// More than five times the largest hierarchy; a longer transfer is not one of ours.
const MAX_RECORDS: usize = 500_000;

/// Why a zone was not transferred.
#[derive(Debug, Error)]
pub enum TransferError {
    /// The connection.
    #[error("the transfer of {zone} broke off")]
    Exchange {
        /// Which zone.
        zone: String,
        /// What happened.
        #[source]
        source: ExchangeError,
    },
    /// Not allowed, at the start or in the middle.
    #[error("DNS server {server} answered {code} during the transfer of {zone}")]
    Code {
        /// Which server.
        server: SocketAddr,
        /// Which zone.
        zone: String,
        /// Its response code.
        code: ResponseCode,
    },
    /// A message that is not signed in the chain.
    #[error("a message in the transfer of {zone} from {server} is not signed as it should be")]
    Unproven {
        /// Which server.
        server: SocketAddr,
        /// Which zone.
        zone: String,
    },
    /// The stream does not begin and end with one and the same SOA.
    #[error("the transfer of {zone} from {server} is not whole: {what}")]
    Broken {
        /// Which server.
        server: SocketAddr,
        /// Which zone.
        zone: String,
        /// What is wrong.
        what: &'static str,
    },
}

impl TransferError {
    /// Whether asking again makes no sense: the server said no.
    pub(super) const fn is_refusal(&self) -> bool {
        matches!(self, Self::Code { .. })
    }
}

/// A whole zone, as one server had it at one serial.
#[derive(Debug)]
pub struct Transfer {
    server: SocketAddr,
    zone: Name,
    serial: u32,
    sets: HashMap<(Name, WireType), Vec<Record>>,
    cuts: BTreeSet<Name>,
}

impl Transfer {
    /// The zone's serial.
    #[must_use]
    pub const fn serial(&self) -> u32 {
        self.serial
    }

    /// How many records there are, the SOA once.
    #[must_use]
    pub fn records(&self) -> usize {
        self.sets.values().map(Vec::len).sum()
    }

    /// What the zone has of a key; nothing where the name lies outside the zone or below a
    /// delegation, of which the transfer says nothing.
    pub(super) fn served(
        &self,
        asked: &[(Name, WireType); 2],
    ) -> Option<Result<Served, Unreadable>> {
        let [(name, rtype), (mark, mark_type)] = asked;
        let below_cut = self.cuts.iter().any(|cut| cut.zone_of(name));
        if !self.zone.zone_of(name) || below_cut {
            return None;
        }
        let set = |name: &Name, rtype| {
            let found = self.sets.get(&(name.clone(), rtype));
            found.map(Vec::as_slice).unwrap_or_default()
        };
        if let Some(RData::CNAME(target)) = set(name, WireType::CNAME).first().map(|r| &r.data) {
            return Some(Err(Unreadable::Alias {
                server: self.server,
                name: convert::text(name),
                target: convert::text(&target.0),
            }));
        }
        Some(Ok(Served {
            set: convert::record_set(set(name, *rtype).iter()),
            mark: mark_text(set(mark, *mark_type).iter()),
        }))
    }
}

/// Transfers a zone, signed where there is a key.
pub(super) async fn transfer(
    server: SocketAddr,
    zone: &Name,
    key: Option<&TsigKey>,
    limit: Duration,
) -> Result<Transfer, TransferError> {
    let broken_off = |source| TransferError::Exchange {
        zone: convert::text(zone),
        source,
    };
    let mut question = Message::new(Message::query().id, MessageType::Query, OpCode::Query);
    question.add_query(Query::query(zone.clone(), WireType::AXFR));
    let (bytes, mut verifier) = match key {
        Some(key) => {
            let (bytes, verifier) = sign::sign(&mut question, key, server).map_err(broken_off)?;
            (bytes, Some(verifier))
        }
        None => (encode(&question, server).map_err(broken_off)?, None),
    };
    let mut connection = Connection::open(server, limit).await.map_err(broken_off)?;
    connection.send(&bytes).await.map_err(broken_off)?;
    let mut stream = Stream::new(server, zone);
    loop {
        let raw = connection.receive().await.map_err(broken_off)?;
        let message = decode(&raw, server).map_err(broken_off)?;
        if message.id != question.id || message.response_code != ResponseCode::NoError {
            return Err(TransferError::Code {
                server,
                zone: convert::text(zone),
                code: message.response_code,
            });
        }
        if verifier.as_mut().is_some_and(|v| v.verify(&raw).is_err()) {
            return Err(TransferError::Unproven {
                server,
                zone: convert::text(zone),
            });
        }
        if stream.take(message.answers)? {
            return Ok(stream.finish());
        }
    }
}

/// The records so far, and what must still come.
struct Stream<'z> {
    server: SocketAddr,
    zone: &'z Name,
    opening: Option<Record>,
    count: usize,
    sets: HashMap<(Name, WireType), Vec<Record>>,
}

impl<'z> Stream<'z> {
    fn new(server: SocketAddr, zone: &'z Name) -> Self {
        Self {
            server,
            zone,
            opening: None,
            count: 0,
            sets: HashMap::new(),
        }
    }

    /// Takes one message's records; true when the closing SOA was among them, at the end.
    fn take(&mut self, records: Vec<Record>) -> Result<bool, TransferError> {
        if records.is_empty() {
            return Err(self.broken("a message without records"));
        }
        let mut records = records.into_iter();
        while let Some(record) = records.next() {
            let is_soa = record.record_type() == WireType::SOA;
            match &self.opening {
                None if is_soa && record.name == *self.zone => self.opening = Some(record.clone()),
                None => return Err(self.broken("it does not begin with the zone's SOA")),
                Some(opening) if is_soa => {
                    if opening.name != record.name || opening.data != record.data {
                        return Err(self.broken("its closing SOA is not the opening one"));
                    }
                    if records.next().is_some() {
                        return Err(self.broken("records follow its closing SOA"));
                    }
                    return Ok(true);
                }
                Some(_) => {}
            }
            self.count += 1;
            if self.count > MAX_RECORDS {
                return Err(self.broken("more than 500,000 records"));
            }
            let key = (record.name.to_lowercase(), record.record_type());
            self.sets.entry(key).or_default().push(record);
        }
        Ok(false)
    }

    fn finish(self) -> Transfer {
        let serial = match self.opening.map(|record| record.data) {
            Some(RData::SOA(soa)) => soa.serial,
            _ => 0,
        };
        let cuts = self
            .sets
            .keys()
            .filter(|(name, rtype)| *rtype == WireType::NS && name != self.zone)
            .map(|(name, _)| name.clone())
            .collect();
        Transfer {
            server: self.server,
            zone: self.zone.clone(),
            serial,
            sets: self.sets,
            cuts,
        }
    }

    fn broken(&self, what: &'static str) -> TransferError {
        TransferError::Broken {
            server: self.server,
            zone: convert::text(self.zone),
            what,
        }
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::rdata::{A, SOA};

    use super::*;

    fn soa(serial: u32) -> Record {
        let name = convert::name("lab.example").unwrap();
        let data = SOA::new(name.clone(), name.clone(), serial, 1, 1, 1, 1);
        Record::from_rdata(name, 60, RData::SOA(data))
    }

    fn a(name: &str) -> Record {
        let name = convert::name(name).unwrap();
        Record::from_rdata(name, 60, RData::A(A::new(127, 0, 0, 1)))
    }

    fn take(messages: Vec<Vec<Record>>) -> Result<bool, TransferError> {
        let zone = convert::name("lab.example").unwrap();
        let mut stream = Stream::new("192.0.2.53:53".parse().unwrap(), &zone);
        let mut done = false;
        for message in messages {
            done = stream.take(message)?;
        }
        Ok(done)
    }

    // Pitfall: a transfer is whole only when the closing SOA equals the opening one.
    #[test]
    fn a_transfer_ends_with_the_soa_it_began_with() {
        let a = || a("a.lab.example");
        assert!(take(vec![vec![soa(7), a()], vec![a(), soa(7)]]).unwrap());
        assert!(!take(vec![vec![soa(7), a()]]).unwrap(), "not whole yet");
        assert!(
            take(vec![vec![soa(7), a(), soa(8)]]).is_err(),
            "the zone changed under it"
        );
        assert!(take(vec![vec![a(), soa(7)]]).is_err());
        assert!(take(vec![vec![soa(7), a(), soa(7), a()]]).is_err());
        assert!(take(vec![vec![soa(7)], vec![]]).is_err());
    }

    #[test]
    fn a_transfer_says_nothing_about_names_below_a_delegation() {
        let zone = convert::name("lab.example").unwrap();
        let mut stream = Stream::new("192.0.2.53:53".parse().unwrap(), &zone);
        let ns = RData::NS(hickory_proto::rr::rdata::NS(zone.clone()));
        let cut = Record::from_rdata(convert::name("child.lab.example").unwrap(), 60, ns);
        assert!(
            stream
                .take(vec![soa(7), cut, a("a.lab.example"), soa(7)])
                .unwrap()
        );
        let transfer = stream.finish();
        let served = |key: &str| {
            transfer.served(&super::super::reading::questions(&key.parse().unwrap()).unwrap())
        };
        assert!(served("x.child.lab.example/A").is_none());
        assert!(served("badlab.example/A").is_none());
        assert!(served("a.lab.example/A").unwrap().unwrap().set.is_some());
        assert_eq!(
            served("b.lab.example/A").unwrap().unwrap(),
            Served::default()
        );
    }
}
