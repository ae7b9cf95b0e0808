//! Reading a record and its mark from one server: present, absent, or unknown.
//!
//! Only an authoritative answer says anything: NXDOMAIN and NODATA are absence, all else is
//! [`Unreadable`], never "absent". What a reading means for ownership is `ownership.rs`.

use std::net::SocketAddr;
use std::sync::Arc;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType as WireType};
use stead_schemas::observed::Served;
use stead_schemas::record::RecordKey;
use thiserror::Error;

use super::exchange::ExchangeError;
use crate::convert;

/// What one server said about one key.
#[derive(Debug)]
pub struct Reading {
    /// Which server.
    pub server: SocketAddr,
    /// What it holds, or why that is unknown.
    pub served: Result<Served, Unreadable>,
}

/// Why it is unknown what a server holds.
#[derive(Debug, Error)]
pub enum Unreadable {
    /// No usable answer.
    #[error("{name} could not be read")]
    Exchange {
        /// What was asked for.
        name: String,
        /// What happened; shared by all that were asked on one connection.
        #[source]
        source: Arc<ExchangeError>,
    },
    /// The server refused or failed.
    #[error(
        "DNS server {server} answered {code} when asked for {name}: is it authoritative for the zone, and allowed to answer this machine?"
    )]
    Code {
        /// Which server.
        server: SocketAddr,
        /// What was asked for.
        name: String,
        /// Its response code.
        code: ResponseCode,
    },
    /// The answer comes from a cache or a parent.
    #[error(
        "DNS server {server} is not authoritative for {name}: `servers` must name the zone's own servers, not resolvers"
    )]
    NotAuthoritative {
        /// Which server.
        server: SocketAddr,
        /// What was asked for.
        name: String,
    },
    /// A CNAME stands where the record would.
    #[error(
        "{name} is a CNAME to {target} at {server}: a record beside a CNAME is silently left out, remove it first"
    )]
    Alias {
        /// Which server.
        server: SocketAddr,
        /// The name.
        name: String,
        /// Where it points.
        target: String,
    },
    /// The key is not a DNS name.
    #[error("{key} is not a DNS name")]
    Name {
        /// The key.
        key: RecordKey,
    },
}

/// The two questions that a reading takes: the record, and its mark.
pub(crate) fn questions(key: &RecordKey) -> Result<[(Name, WireType); 2], Unreadable> {
    let name = |text: &str| convert::name(text).map_err(|_| Unreadable::Name { key: key.clone() });
    Ok([
        (name(&key.name)?, convert::wire_type(key.rtype)),
        (name(&key.mark_name())?, WireType::TXT),
    ])
}

/// A reading out of the answers to both questions.
pub(crate) fn served(
    server: SocketAddr,
    asked: &[(Name, WireType); 2],
    record: &Message,
    mark: &Message,
) -> Result<Served, Unreadable> {
    let [(name, rtype), (mark_name, _)] = asked;
    let records = authoritative(server, name, *rtype, record)?;
    let marks = authoritative(server, mark_name, WireType::TXT, mark)?;
    Ok(Served {
        set: convert::record_set(records.into_iter()),
        mark: mark_text(marks.into_iter()),
    })
}

/// The mark as one text. Several TXT records are nobody's mark; joined they parse as none.
pub(super) fn mark_text<'r>(records: impl Iterator<Item = &'r Record>) -> Option<String> {
    let texts: Vec<String> = records
        .filter_map(|record| match &record.data {
            RData::TXT(txt) => Some(convert::txt_text(txt)),
            _ => None,
        })
        .collect();
    (!texts.is_empty()).then(|| texts.join("\n"))
}

/// The records of a name and type in an authoritative answer; none where it says there are none.
pub(super) fn authoritative<'m>(
    server: SocketAddr,
    name: &Name,
    rtype: WireType,
    answer: &'m Message,
) -> Result<Vec<&'m Record>, Unreadable> {
    let code = answer.response_code;
    if !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain) {
        return Err(Unreadable::Code {
            server,
            name: convert::text(name),
            code,
        });
    }
    if !answer.authoritative || answer.truncation {
        return Err(Unreadable::NotAuthoritative {
            server,
            name: convert::text(name),
        });
    }
    for record in answer.answers.iter().filter(|r| r.name == *name) {
        if let RData::CNAME(target) = &record.data {
            return Err(Unreadable::Alias {
                server,
                name: convert::text(name),
                target: convert::text(&target.0),
            });
        }
    }
    let wanted = |record: &&Record| record.name == *name && record.record_type() == rtype;
    Ok(answer.answers.iter().filter(wanted).collect())
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{MessageType, OpCode};
    use hickory_proto::rr::rdata::{A, CNAME};

    use super::*;

    fn server() -> SocketAddr {
        "192.0.2.53:53".parse().unwrap()
    }

    fn answer(code: ResponseCode, authoritative: bool, data: &[RData]) -> Message {
        let mut message = Message::new(1, MessageType::Response, OpCode::Query);
        message.metadata.response_code = code;
        message.metadata.authoritative = authoritative;
        let name = convert::name("a.lab.example").unwrap();
        message.add_answers(
            data.iter()
                .map(|data| Record::from_rdata(name.clone(), 30, data.clone())),
        );
        message
    }

    fn read(record: &Message) -> Result<Served, Unreadable> {
        let key: RecordKey = "a.lab.example/A".parse().unwrap();
        let nothing = answer(ResponseCode::NXDomain, true, &[]);
        served(server(), &questions(&key).unwrap(), record, &nothing)
    }

    #[test]
    fn absent_is_only_what_an_authoritative_server_says() {
        for code in [ResponseCode::NXDomain, ResponseCode::NoError] {
            assert_eq!(read(&answer(code, true, &[])).unwrap(), Served::default());
            let cached = read(&answer(code, false, &[]));
            assert!(matches!(cached, Err(Unreadable::NotAuthoritative { .. })));
        }
        for code in [ResponseCode::ServFail, ResponseCode::Refused] {
            let unknown = read(&answer(code, true, &[]));
            assert!(matches!(unknown, Err(Unreadable::Code { .. })), "{code}");
        }
    }

    #[test]
    fn a_cname_in_the_way_is_not_absence() {
        let cname = RData::CNAME(CNAME(convert::name("b.lab.example").unwrap()));
        let read = read(&answer(ResponseCode::NoError, true, &[cname]));
        assert!(matches!(read, Err(Unreadable::Alias { .. })));
    }

    #[test]
    fn a_set_has_all_its_values() {
        let data = [
            RData::A(A::new(127, 0, 0, 2)),
            RData::A(A::new(127, 0, 0, 1)),
        ];
        let served = read(&answer(ResponseCode::NoError, true, &data)).unwrap();
        let set = served.set.unwrap();
        assert_eq!((set.ttl_s, set.values.len()), (30, 2));
    }

    #[test]
    fn several_mark_records_are_nobodys_mark() {
        let mark = "v=1 h=contoso s=P01 t=0 g=1:stead-1:x.1";
        let records = [mark, "v=spf1"].map(|text| {
            Record::from_rdata(
                convert::name("m.lab.example").unwrap(),
                0,
                convert::txt(text),
            )
        });
        let one = mark_text(records[..1].iter()).unwrap();
        assert!(one.parse::<stead_schemas::record::Mark>().is_ok());
        let both = mark_text(records.iter()).unwrap();
        assert!(both.parse::<stead_schemas::record::Mark>().is_err());
    }
}
