//! Answers to queries, and the whole zone for a transfer.
//!
//! Absence is always said with the SOA (RFC 2308). An answer too large for UDP is cut to nothing
//! but its TC bit, and the asker comes back over TCP.

use hickory_proto::op::{Edns, Message, MessageType, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};

use super::zone::{Lookup, Zone};

/// The largest UDP answer that is not at risk of fragments (DNS flag day 2020).
const MAX_UDP_BYTES: u16 = 1232;
/// Records in one message of a transfer: with the largest names and data well below 64 KiB.
const TRANSFER_RECORDS: usize = 100;

/// The answer to an ordinary query.
pub(super) fn answer(zone: &Zone, request: &Message) -> Message {
    let mut answer = reply(request, ResponseCode::NoError);
    if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        answer.metadata.response_code = ResponseCode::BADVERS;
        return answer;
    }
    let [query] = request.queries.as_slice() else {
        answer.metadata.response_code = ResponseCode::FormErr;
        return answer;
    };
    let lookup = match query.query_class() {
        DNSClass::IN => zone.lookup(query.name(), query.query_type()),
        _ => Lookup::Elsewhere,
    };
    if lookup == Lookup::Elsewhere {
        answer.metadata.response_code = ResponseCode::Refused;
        return answer;
    }
    answer.metadata.authoritative = true;
    match lookup {
        Lookup::Records(records) => {
            answer.add_answers(records);
        }
        Lookup::NoName => {
            answer.metadata.response_code = ResponseCode::NXDomain;
            answer.add_authorities(zone.soa_record());
        }
        Lookup::NoData | Lookup::Elsewhere => {
            answer.add_authorities(zone.soa_record());
        }
    }
    answer
}

/// An answer without records.
pub(super) fn reply(request: &Message, code: ResponseCode) -> Message {
    let mut answer = Message::new(request.id, MessageType::Response, request.op_code);
    answer.metadata.recursion_desired = request.recursion_desired;
    answer.metadata.response_code = code;
    answer.add_queries(request.queries.iter().cloned());
    if request.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_UDP_BYTES);
        answer.set_edns(edns);
    }
    answer
}

/// How large a UDP answer to this request may be.
pub(super) fn udp_limit(request: &Message) -> usize {
    usize::from(request.max_payload().min(MAX_UDP_BYTES))
}

/// Whether a request wants the whole zone.
pub(super) fn is_transfer(request: &Message) -> bool {
    request
        .queries
        .first()
        .is_some_and(|query| query.query_type() == RecordType::AXFR)
}

/// A transfer of the zone: all records between two equal SOAs, in as many messages as it takes
/// (RFC 5936 section 2.2).
pub(super) fn transfer(zone: &Zone, request: &Message) -> Vec<Message> {
    let is_apex = request
        .queries
        .first()
        .is_some_and(|query| query.name() == zone.apex());
    let mut records = zone.all();
    let Some(soa) = records.first().cloned().filter(|_| is_apex) else {
        return vec![reply(request, ResponseCode::NotAuth)];
    };
    records.push(soa);
    let message = |part: &[_]| {
        let mut answer = reply(request, ResponseCode::NoError);
        answer.metadata.authoritative = true;
        answer.add_answers(part.iter().cloned());
        answer
    };
    records.chunks(TRANSFER_RECORDS).map(message).collect()
}
