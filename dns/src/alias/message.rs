//! The update message of an alias: both families judged, one set, one mark, nothing in between.
//!
//! The prerequisites name the marks of both families as read, so that a newer term in either
//! refuses it; a name is never seen empty while its family changes.

use hickory_proto::ProtoError;
use hickory_proto::op::{Message, MessageType, OpCode, Query, UpdateMessage};
use hickory_proto::rr::{DNSClass, Name, Record, RecordType as WireType};
use stead_schemas::alias::AliasJob;

use super::judge::{Other, Write};
use crate::client::PublishError;
use crate::client::change::{MARK_TTL_S, empty};
use crate::convert;

/// The message, unsigned, with a fresh identifier.
pub(super) fn update(zone: &Name, job: &AliasJob, write: &Write) -> Result<Message, PublishError> {
    build(zone, job, write).map_err(|error| PublishError::Unfit {
        key: job.record(),
        what: error.to_string(),
    })
}

fn build(zone: &Name, job: &AliasJob, write: &Write) -> Result<Message, ProtoError> {
    let (own, other) = (job.record(), job.other_record());
    let name = convert::name(&own.name)?;
    let mark = convert::name(&own.mark_name())?;
    let other_mark = convert::name(&other.mark_name())?;
    let (rtype, other_rtype) = (
        convert::wire_type(own.rtype),
        convert::wire_type(other.rtype),
    );
    let mut message = Message::new(Message::query().id, MessageType::Query, OpCode::Update);
    message.add_zone(Query::query(zone.clone(), WireType::SOA));

    // Class IN with data: the whole set is exactly this; NONE: no such set; ANY: some (RFC 2136
    // section 2.4).
    let is = |name: &Name, text: &str| Record::from_rdata(name.clone(), 0, convert::txt(text));
    match &write.expect {
        Some(text) => {
            message.add_pre_requisite(is(&mark, text));
        }
        None => {
            message.add_pre_requisite(empty(&mark, WireType::TXT, DNSClass::NONE));
            message.add_pre_requisite(empty(&name, rtype, DNSClass::NONE));
        }
    }
    message.add_pre_requisite(match &write.other {
        Other::Absent => empty(&other_mark, WireType::TXT, DNSClass::NONE),
        Other::Foreign => empty(&other_mark, WireType::TXT, DNSClass::ANY),
        Other::Ours(text) => is(&other_mark, text),
    });

    message.add_update(empty(&name, rtype, DNSClass::ANY));
    message.add_update(empty(&mark, WireType::TXT, DNSClass::ANY));
    if matches!(write.other, Other::Ours(_)) {
        message.add_update(empty(&name, other_rtype, DNSClass::ANY));
        message.add_update(empty(&other_mark, WireType::TXT, DNSClass::ANY));
    }
    message.add_updates(convert::records(&name, &job.set())?);
    let text = write.mark.to_string();
    message.add_update(Record::from_rdata(mark, MARK_TTL_S, convert::txt(&text)));
    Ok(message)
}
