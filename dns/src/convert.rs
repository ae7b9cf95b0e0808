//! Between the nouns of `stead-schemas` and hickory's wire types.
//!
//! Names of nouns are lower case and without the last dot; names on the wire are always absolute.
//! Nothing here talks to anyone.

use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::ProtoError;
use hickory_proto::rr::rdata::{A, AAAA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType as WireType};
use stead_schemas::record::{RecordData, RecordSet, RecordType};

/// The longest character-string of a TXT record, RFC 1035 section 3.3.
const TXT_STRING_BYTES: usize = 255;

/// An absolute wire name.
pub fn name(text: &str) -> Result<Name, ProtoError> {
    let mut name = Name::from_ascii(text)?.to_lowercase();
    name.set_fqdn(true);
    Ok(name)
}

/// A name as nouns write it.
pub fn text(name: &Name) -> String {
    name.to_lowercase()
        .to_ascii()
        .trim_end_matches('.')
        .to_owned()
}

/// The wire's number for a published type.
pub const fn wire_type(rtype: RecordType) -> WireType {
    match rtype {
        RecordType::A => WireType::A,
        RecordType::Aaaa => WireType::AAAA,
        RecordType::Srv => WireType::SRV,
    }
}

/// One record's data for the wire.
pub fn rdata(data: &RecordData) -> Result<RData, ProtoError> {
    Ok(match data {
        RecordData::A(address) => RData::A(A(*address)),
        RecordData::Aaaa(address) => RData::AAAA(AAAA(*address)),
        RecordData::Srv {
            priority,
            weight,
            port,
            target,
        } => RData::SRV(SRV::new(*priority, *weight, *port, name(target)?)),
    })
}

/// One record's data from the wire; nothing for types that are not published.
pub fn data(rdata: &RData) -> Option<RecordData> {
    match rdata {
        RData::A(A(address)) => Some(RecordData::A(Ipv4Addr::from(address.octets()))),
        RData::AAAA(AAAA(address)) => Some(RecordData::Aaaa(Ipv6Addr::from(address.octets()))),
        RData::SRV(srv) => Some(RecordData::Srv {
            priority: srv.priority,
            weight: srv.weight,
            port: srv.port,
            target: text(&srv.target),
        }),
        _ => None,
    }
}

/// All records of a set.
pub fn records(owner: &Name, set: &RecordSet) -> Result<Vec<Record>, ProtoError> {
    set.values
        .iter()
        .map(|value| Ok(Record::from_rdata(owner.clone(), set.ttl_s, rdata(value)?)))
        .collect()
}

/// The records of one owner and type as a set; nothing where there are none. Of several TTLs the
/// lowest counts (RFC 2181 section 5.2 has them equal).
pub fn record_set<'r>(records: impl Iterator<Item = &'r Record>) -> Option<RecordSet> {
    let mut set: Option<RecordSet> = None;
    for record in records {
        let Some(value) = data(&record.data) else {
            continue;
        };
        let set = set.get_or_insert_with(|| RecordSet {
            ttl_s: record.ttl,
            values: std::collections::BTreeSet::new(),
        });
        set.ttl_s = set.ttl_s.min(record.ttl);
        set.values.insert(value);
    }
    set
}

/// A text as TXT data, cut into character-strings where it is longer than one.
pub fn txt(text: &str) -> RData {
    let parts = text.as_bytes().chunks(TXT_STRING_BYTES).collect();
    RData::TXT(TXT::from_bytes(parts))
}

/// The text of TXT data, its character-strings joined; other bytes than UTF-8 are replaced, which
/// makes the text unequal to any mark.
pub fn txt_text(txt: &TXT) -> String {
    let bytes: Vec<u8> = txt
        .txt_data
        .iter()
        .flat_map(|part| part.iter().copied())
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_compare_without_case_and_last_dot() {
        assert_eq!(
            name("P01.cm.Example").unwrap(),
            name("p01.CM.example.").unwrap()
        );
        assert_eq!(text(&name("P01.cm.Example.").unwrap()), "p01.cm.example");
    }

    #[test]
    fn a_long_text_survives_txt() {
        let long = "x".repeat(700);
        let RData::TXT(data) = txt(&long) else {
            panic!("TXT data")
        };
        assert_eq!(txt_text(&data), long);
        assert_eq!(data.txt_data.len(), 3);
    }
}
