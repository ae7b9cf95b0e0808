//! One change of one record and its mark, as one update message (RFC 2136, H22).
//!
//! The prerequisite is the mark exactly as read, or that neither mark nor record exists; the update
//! replaces the whole set and the mark. So the server itself refuses a writer that was overtaken,
//! and no reader sees the name without its records in between. Every attempt is a new message,
//! signed once: one that is signed twice is malformed (RFC 8945 section 5.1).

use std::net::SocketAddr;

use hickory_proto::ProtoError;
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode, UpdateMessage};
use hickory_proto::rr::{DNSClass, Name, Record, RecordType as WireType};
use stead_schemas::record::{Mark, RecordData, RecordKey, RecordSet, RecordType};
use thiserror::Error;

use super::exchange::ExchangeError;
use super::ownership::NotOurs;
use super::reading::Unreadable;
use super::sign::{KeyFault, Verdict};
use crate::convert;

/// TTL of marks: nobody should act on a mark from a cache.
pub(crate) const MARK_TTL_S: u32 = 0;

/// What should become of one record.
#[derive(Debug, Clone)]
pub struct RecordChange {
    /// The record.
    pub key: RecordKey,
    /// Its new set; nothing deletes record and mark.
    pub want: Option<RecordSet>,
    /// The mark that the writer sets; its term and generation also decide whether it may.
    pub mark: Mark,
    /// The mark's text as last read; nothing for a first publish.
    pub expect: Option<String>,
}

/// A change that the server took. That is not yet proof that it is served: `Client::verify`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The zone it went to.
    pub zone: String,
    /// The server that took it.
    pub server: SocketAddr,
    /// The key that signed it; none where the answer was lost and reading back showed the change.
    pub signed_by: Option<String>,
}

/// Why a change was not made, or is not known to have been made.
#[derive(Debug, Error)]
pub enum PublishError {
    /// Not this writer's to change.
    #[error(transparent)]
    NotOurs(NotOurs),
    /// The mark was no longer as read.
    #[error(
        "{key} was changed by another writer at {server} first, its mark is now {found}: it will be read and planned again"
    )]
    LostRace {
        /// The record.
        key: RecordKey,
        /// Which server.
        server: SocketAddr,
        /// The mark now, or "absent".
        found: String,
    },
    /// No key was accepted.
    #[error("DNS server {server} accepts none of the TSIG keys: {faults}", faults = list(faults))]
    KeysRefused {
        /// Which server.
        server: SocketAddr,
        /// Each key and what the server said to it.
        faults: Vec<(String, KeyFault)>,
    },
    /// NOTAUTH without a TSIG error: it has two readings.
    #[error(
        "DNS server {server} answered NOTAUTH to the update of zone {zone} signed with {signed_by} and gave no TSIG error: either it is not the zone's primary, or it did not accept the key; see its log"
    )]
    NotAuth {
        /// Which server.
        server: SocketAddr,
        /// Which zone.
        zone: String,
        /// Which key.
        signed_by: String,
    },
    /// The server's policy.
    #[error(
        "DNS server {server} refused the update of {key}: the key {signed_by} is good, and the server's update policy does not allow it this name and type; `docs/dns.md` has the policy"
    )]
    Refused {
        /// Which server.
        server: SocketAddr,
        /// The record.
        key: RecordKey,
        /// Which key.
        signed_by: String,
    },
    /// Another response code.
    #[error("DNS server {server} answered {code} to the update of {key}: see its log")]
    Code {
        /// Which server.
        server: SocketAddr,
        /// The record.
        key: RecordKey,
        /// Its response code.
        code: ResponseCode,
    },
    /// An answer anyone could have sent.
    #[error(
        "the answer of DNS server {server} to the update of {key} is not signed as it should be ({what}): it is not believed"
    )]
    Unproven {
        /// Which server.
        server: SocketAddr,
        /// The record.
        key: RecordKey,
        /// What is wrong with the signature.
        what: String,
    },
    /// The answer was lost, and reading back did not show the change.
    #[error(
        "it is unknown whether DNS server {server} took the update of {key}; read back, it is not there: it will be read and planned again"
    )]
    Unanswered {
        /// Which server.
        server: SocketAddr,
        /// The record.
        key: RecordKey,
        /// What happened.
        #[source]
        source: ExchangeError,
    },
    /// The server was not reached; nothing was sent.
    #[error("{key} was not changed")]
    Unreached {
        /// The record.
        key: RecordKey,
        /// What happened.
        #[source]
        source: ExchangeError,
    },
    /// No zone encloses the name at that server.
    #[error(
        "DNS server {server} is not authoritative for any zone around {name}: an update cannot make a zone, add it at the server first"
    )]
    NoZone {
        /// Which server.
        server: SocketAddr,
        /// The name.
        name: String,
    },
    /// The record could not be read back.
    #[error("{key} could not be read back after an update")]
    Unreadable {
        /// The record.
        key: RecordKey,
        /// Why.
        #[source]
        source: Unreadable,
    },
    /// The change makes no sense on the wire.
    #[error("{key} cannot be published: {what}")]
    Unfit {
        /// The record.
        key: RecordKey,
        /// What is wrong.
        what: String,
    },
    /// There is nothing to sign with, or nobody to send to.
    #[error("nothing can be published: the client has no {what}")]
    NotSetUp {
        /// `server` or `TSIG key`.
        what: &'static str,
    },
}

fn list(faults: &[(String, KeyFault)]) -> String {
    let words: Vec<String> = faults
        .iter()
        .map(|(key, fault)| format!("{key}: {fault}"))
        .collect();
    words.join("; ")
}

/// The update message of a change, unsigned, with a fresh identifier.
pub(super) fn message(zone: &Name, change: &RecordChange) -> Result<Message, PublishError> {
    check(change)?;
    build(zone, change).map_err(|error| PublishError::Unfit {
        key: change.key.clone(),
        what: error.to_string(),
    })
}

fn check(change: &RecordChange) -> Result<(), PublishError> {
    let unfit = |what: &str| PublishError::Unfit {
        key: change.key.clone(),
        what: what.to_owned(),
    };
    let Some(set) = &change.want else {
        return Ok(());
    };
    if set.values.is_empty() {
        return Err(unfit("a set without values; to delete it, want nothing"));
    }
    let fits = |value: &RecordData| {
        matches!(
            (change.key.rtype, value),
            (RecordType::A, RecordData::A(_))
                | (RecordType::Aaaa, RecordData::Aaaa(_))
                | (RecordType::Srv, RecordData::Srv { .. })
        )
    };
    if set.values.iter().all(fits) {
        Ok(())
    } else {
        Err(unfit("a value is of another record type"))
    }
}

fn build(zone: &Name, change: &RecordChange) -> Result<Message, ProtoError> {
    let name = convert::name(&change.key.name)?;
    let mark_name = convert::name(&change.key.mark_name())?;
    let rtype = convert::wire_type(change.key.rtype);
    let mut message = Message::new(Message::query().id, MessageType::Query, OpCode::Update);
    message.add_zone(Query::query(zone.clone(), WireType::SOA));
    match &change.expect {
        Some(mark) => {
            // Class IN with data: the whole set is exactly this (RFC 2136 section 2.4.2).
            message.add_pre_requisite(Record::from_rdata(mark_name.clone(), 0, convert::txt(mark)));
        }
        None => {
            message.add_pre_requisite(empty(&mark_name, WireType::TXT, DNSClass::NONE));
            message.add_pre_requisite(empty(&name, rtype, DNSClass::NONE));
        }
    }
    message.add_update(empty(&name, rtype, DNSClass::ANY));
    message.add_update(empty(&mark_name, WireType::TXT, DNSClass::ANY));
    if let Some(set) = &change.want {
        message.add_updates(convert::records(&name, set)?);
        let mark = convert::txt(&change.mark.to_string());
        message.add_update(Record::from_rdata(mark_name, MARK_TTL_S, mark));
    }
    Ok(message)
}

/// A record that only names a set: absent with class NONE, any or deleted with class ANY.
pub(crate) fn empty(name: &Name, rtype: WireType, class: DNSClass) -> Record {
    let mut record = Record::update0(name.clone(), 0, rtype);
    record.dns_class = class;
    record
}

/// What a verdict that ends the attempts means for a change of this record; NXRRSET and YXRRSET are a lost race
/// whose cause has to be read.
pub(crate) fn outcome(
    verdict: Verdict,
    record: &RecordKey,
    zone: &Name,
    server: SocketAddr,
    signed_by: &str,
) -> Result<Outcome, PublishError> {
    let key = || record.clone();
    match verdict {
        Verdict::Code(ResponseCode::NoError) => Ok(Outcome::Applied),
        Verdict::Code(
            ResponseCode::NXRRSet
            | ResponseCode::YXRRSet
            | ResponseCode::NXDomain
            | ResponseCode::YXDomain,
        ) => Ok(Outcome::Lost),
        Verdict::Code(ResponseCode::NotAuth) => Err(PublishError::NotAuth {
            server,
            zone: convert::text(zone),
            signed_by: signed_by.to_owned(),
        }),
        Verdict::Code(ResponseCode::Refused) => Err(PublishError::Refused {
            server,
            key: key(),
            signed_by: signed_by.to_owned(),
        }),
        Verdict::Code(code) => Err(PublishError::Code {
            server,
            key: key(),
            code,
        }),
        Verdict::Key(fault) => Err(PublishError::KeysRefused {
            server,
            faults: vec![(signed_by.to_owned(), fault)],
        }),
        Verdict::Unproven(what) => Err(PublishError::Unproven {
            server,
            key: key(),
            what,
        }),
    }
}

/// How an answered update went.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Taken.
    Applied,
    /// The prerequisite did not hold.
    Lost,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn change(expect: Option<&str>, want: bool) -> RecordChange {
        RecordChange {
            key: "p01.cm.example/A".parse().unwrap(),
            want: want.then(|| RecordSet {
                ttl_s: 5,
                values: BTreeSet::from([RecordData::A([127, 0, 0, 1].into())]),
            }),
            mark: "v=1 h=contoso s=P01 t=7 g=3:stead-1:b.10".parse().unwrap(),
            expect: expect.map(str::to_owned),
        }
    }

    fn zone() -> Name {
        convert::name("cm.example").unwrap()
    }

    #[test]
    fn h22_a_first_publish_asks_for_mark_and_record_to_be_absent() {
        let message = message(&zone(), &change(None, true)).unwrap();
        let classes: Vec<_> = message
            .prerequisites()
            .iter()
            .map(|r| r.dns_class)
            .collect();
        assert_eq!(classes, [DNSClass::NONE, DNSClass::NONE]);
        assert_eq!(message.updates().len(), 4);
    }

    #[test]
    fn h22_a_replacement_asks_for_the_mark_as_read() {
        let read = "v=1 h=contoso s=P01 t=6 g=3:stead-1:b.9";
        let message = message(&zone(), &change(Some(read), true)).unwrap();
        let [mark] = message.prerequisites() else {
            panic!("one prerequisite")
        };
        assert_eq!((mark.dns_class, mark.ttl), (DNSClass::IN, 0));
        assert_eq!(mark.data, convert::txt(read));
    }

    #[test]
    fn a_deletion_takes_record_and_mark_in_one_message() {
        let message = message(&zone(), &change(Some("x"), false)).unwrap();
        assert!(
            message
                .updates()
                .iter()
                .all(|r| r.dns_class == DNSClass::ANY)
        );
        assert_eq!(message.updates().len(), 2);
    }

    #[test]
    fn a_set_without_values_or_of_another_type_is_not_sent() {
        let mut wrong = change(None, true);
        wrong.key.rtype = RecordType::Aaaa;
        assert!(matches!(
            message(&zone(), &wrong),
            Err(PublishError::Unfit { .. })
        ));
        let mut none = change(None, true);
        none.want = Some(RecordSet {
            ttl_s: 5,
            values: BTreeSet::new(),
        });
        assert!(matches!(
            message(&zone(), &none),
            Err(PublishError::Unfit { .. })
        ));
    }
}
