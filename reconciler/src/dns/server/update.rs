//! RFC 2136: whether an update message may be carried out, and what it changes.
//!
//! Pure: [`judge`] reads the zone and a message and returns a [`Delta`] or the response code of
//! the refusal. Prerequisites compare whole sets (section 3.2.3), which hickory-server's own store
//! does not do (H2). Neither storage nor signatures are seen here.

use std::collections::BTreeMap;
use std::sync::Arc;

use hickory_proto::op::{Message, ResponseCode, UpdateMessage};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder};

use super::scope::Scope;
use super::zone::{Delta, RrSet, Zone};

/// A set must fit into one answer of 64 KiB with its owner names, header and signature.
const MAX_SET_BYTES: usize = 48 * 1024;

/// Decides a whole message against one state of the zone.
pub(super) fn judge(
    zone: &Zone,
    message: &Message,
    scope: &Scope,
    max_records: usize,
) -> Result<Delta, ResponseCode> {
    check_zone_section(zone, message)?;
    check_prerequisites(zone, message.prerequisites())?;
    for record in message.updates() {
        check_update(zone, record)?;
        if !scope.allows(&record.name, record.record_type()) {
            return Err(ResponseCode::Refused);
        }
    }
    let mut draft = Draft {
        zone,
        sets: BTreeMap::new(),
    };
    for record in message.updates() {
        draft.update(record);
    }
    draft.into_delta(max_records)
}

/// Section 3.1: exactly one zone, named by its SOA, and it is ours.
fn check_zone_section(zone: &Zone, message: &Message) -> Result<(), ResponseCode> {
    let [query] = message.zones() else {
        return Err(ResponseCode::FormErr);
    };
    if query.query_type() != RecordType::SOA {
        return Err(ResponseCode::FormErr);
    }
    if query.query_class() != DNSClass::IN || query.name() != zone.apex() {
        return Err(ResponseCode::NotAuth);
    }
    Ok(())
}

/// Section 3.2. Class ANY: exists; class NONE: does not; class IN: the set is exactly this.
fn check_prerequisites(zone: &Zone, records: &[Record]) -> Result<(), ResponseCode> {
    let mut exact: BTreeMap<(Name, RecordType), Vec<RData>> = BTreeMap::new();
    for record in records {
        check_shape(zone, record, 0)?;
        let (name, rtype) = (&record.name, record.record_type());
        let set = zone.set(name, rtype).is_some();
        let any = zone.types(name).next().is_some();
        match (record.dns_class, rtype) {
            (DNSClass::ANY, RecordType::ANY) if !any => return Err(ResponseCode::NXDomain),
            (DNSClass::NONE, RecordType::ANY) if any => return Err(ResponseCode::YXDomain),
            (DNSClass::ANY | DNSClass::NONE, RecordType::ANY) => {}
            (DNSClass::ANY, _) if !set => return Err(ResponseCode::NXRRSet),
            (DNSClass::NONE, _) if set => return Err(ResponseCode::YXRRSet),
            (DNSClass::ANY | DNSClass::NONE, _) => {}
            _ => {
                let data = exact.entry((name.to_lowercase(), rtype)).or_default();
                if !data.contains(&record.data) {
                    data.push(record.data.clone());
                }
            }
        }
    }
    let holds = |((name, rtype), data): (&(Name, RecordType), &Vec<RData>)| {
        zone.set(name, *rtype)
            .is_some_and(|set| set.same_data(data))
    };
    if exact.iter().all(holds) {
        Ok(())
    } else {
        Err(ResponseCode::NXRRSet)
    }
}

/// What prerequisites have in common: inside the zone, and TTL and data as the class wants them.
fn check_shape(zone: &Zone, record: &Record, ttl: u32) -> Result<(), ResponseCode> {
    if !zone.apex().zone_of(&record.name) {
        return Err(ResponseCode::NotZone);
    }
    let empty = matches!(record.data, RData::Update0(_));
    let right = match record.dns_class {
        DNSClass::ANY | DNSClass::NONE => empty,
        DNSClass::IN => !empty && record.record_type() != RecordType::ANY,
        _ => false,
    };
    if right && record.ttl == ttl {
        Ok(())
    } else {
        Err(ResponseCode::FormErr)
    }
}

/// Section 3.4.1, for all records before the first is carried out.
fn check_update(zone: &Zone, record: &Record) -> Result<(), ResponseCode> {
    if !zone.apex().zone_of(&record.name) {
        return Err(ResponseCode::NotZone);
    }
    let rtype = record.record_type();
    let empty = matches!(record.data, RData::Update0(_));
    let right = match record.dns_class {
        DNSClass::IN => !empty,
        DNSClass::ANY => empty && record.ttl == 0,
        DNSClass::NONE => !empty && record.ttl == 0,
        _ => false,
    };
    if !right || (rtype == RecordType::ANY && record.dns_class != DNSClass::ANY) {
        return Err(ResponseCode::FormErr);
    }
    let served = match rtype {
        RecordType::A
        | RecordType::AAAA
        | RecordType::CNAME
        | RecordType::SRV
        | RecordType::TXT
        | RecordType::SOA
        | RecordType::ANY => true,
        RecordType::NS => record.name == *zone.apex(),
        _ => false,
    };
    if served {
        Ok(())
    } else {
        Err(ResponseCode::Refused)
    }
}

/// The zone with the changes of one message on top: what "a copy of the zone" needs to be.
struct Draft<'z> {
    zone: &'z Zone,
    sets: BTreeMap<(Name, RecordType), Option<RrSet>>,
}

impl Draft<'_> {
    /// Section 3.4.2, one record.
    fn update(&mut self, record: &Record) {
        let (name, rtype) = (record.name.to_lowercase(), record.record_type());
        match record.dns_class {
            DNSClass::IN => self.add(name, rtype, record),
            DNSClass::ANY if rtype == RecordType::ANY => self.delete_name(&name),
            DNSClass::ANY => self.delete_set(name, rtype),
            _ => self.delete_record(name, rtype, &record.data),
        }
    }

    fn get(&self, name: &Name, rtype: RecordType) -> Option<RrSet> {
        match self.sets.get(&(name.clone(), rtype)) {
            Some(changed) => changed.clone(),
            None => self.zone.set(name, rtype).map(|set| (**set).clone()),
        }
    }

    /// The types that a name has, changes included.
    fn types(&self, name: &Name) -> Vec<RecordType> {
        let changed = self.sets.keys().filter(|(n, _)| n == name).map(|(_, t)| *t);
        let mut types: Vec<RecordType> = self.zone.types(name).chain(changed).collect();
        types.sort_unstable();
        types.dedup();
        types.retain(|rtype| self.get(name, *rtype).is_some());
        types
    }

    /// A CNAME beside other types, or another type beside a CNAME, is silently left out; so is an
    /// SOA that is not newer (section 3.4.2.2).
    fn add(&mut self, name: Name, rtype: RecordType, record: &Record) {
        let types = self.types(&name);
        let others = types.iter().any(|other| *other != RecordType::CNAME);
        match rtype {
            RecordType::CNAME if others => return,
            RecordType::CNAME => {}
            _ if types.contains(&RecordType::CNAME) => return,
            RecordType::SOA if !self.is_newer_soa(&name, &record.data) => return,
            _ => {}
        }
        let single = matches!(rtype, RecordType::CNAME | RecordType::SOA);
        let mut set = self.get(&name, rtype).filter(|_| !single).unwrap_or(RrSet {
            ttl: record.ttl,
            data: Vec::new(),
        });
        set.ttl = record.ttl;
        if !set.data.contains(&record.data) {
            set.data.push(record.data.clone());
        }
        self.sets.insert((name, rtype), Some(set));
    }

    fn is_newer_soa(&self, name: &Name, data: &RData) -> bool {
        let old = self
            .get(name, RecordType::SOA)
            .and_then(|set| set.data.into_iter().next());
        match (old, data) {
            (Some(RData::SOA(old)), RData::SOA(new)) => is_later(new.serial, old.serial),
            _ => false,
        }
    }

    /// The apex keeps its SOA and NS whatever is deleted there.
    fn delete_name(&mut self, name: &Name) {
        for rtype in self.types(name) {
            self.delete_set(name.clone(), rtype);
        }
    }

    fn delete_set(&mut self, name: Name, rtype: RecordType) {
        let kept = matches!(rtype, RecordType::SOA | RecordType::NS);
        if !(kept && name == *self.zone.apex()) {
            self.sets.insert((name, rtype), None);
        }
    }

    /// The last NS of the apex stays (section 3.4.2.4).
    fn delete_record(&mut self, name: Name, rtype: RecordType, data: &RData) {
        let Some(mut set) = self.get(&name, rtype) else {
            return;
        };
        let last_ns = rtype == RecordType::NS && name == *self.zone.apex() && set.data.len() == 1;
        if rtype == RecordType::SOA || last_ns {
            return;
        }
        set.data.retain(|other| other != data);
        let set = Some(set).filter(|set| !set.data.is_empty());
        self.sets.insert((name, rtype), set);
    }

    /// What really differs from the zone, with a serial that rises (section 3.6).
    fn into_delta(self, max_records: usize) -> Result<Delta, ResponseCode> {
        let zone = self.zone;
        let mut delta: Delta = Vec::new();
        let mut records = zone.records();
        for ((name, rtype), set) in self.sets {
            let old = zone.set(&name, rtype);
            if old.map(|set| &**set) == set.as_ref() {
                continue;
            }
            let new = set.as_ref().map_or(0, |set| set.data.len());
            records = records + new - old.map_or(0, |set| set.data.len());
            if set.as_ref().is_some_and(|set| bytes(set) > MAX_SET_BYTES) {
                return Err(ResponseCode::Refused);
            }
            delta.push((name, rtype, set.map(Arc::new)));
        }
        if records > max_records && records > zone.records() {
            return Err(ResponseCode::Refused);
        }
        let has_soa = delta.iter().any(|(_, rtype, _)| *rtype == RecordType::SOA);
        if !delta.is_empty() && !has_soa {
            delta.push(raised_serial(zone).ok_or(ResponseCode::ServFail)?);
        }
        Ok(delta)
    }
}

fn raised_serial(zone: &Zone) -> Option<(Name, RecordType, Option<Arc<RrSet>>)> {
    let ttl = zone.set(zone.apex(), RecordType::SOA)?.ttl;
    let mut soa = zone.soa()?.clone();
    // Zero is skipped: some secondaries take it for "unknown".
    soa.serial = soa.serial.wrapping_add(1).max(1);
    let set = RrSet {
        ttl,
        data: vec![RData::SOA(soa)],
    };
    Some((zone.apex().clone(), RecordType::SOA, Some(Arc::new(set))))
}

/// Serial number arithmetic, RFC 1982.
const fn is_later(new: u32, old: u32) -> bool {
    new != old && new.wrapping_sub(old) < 1 << 31
}

/// An upper bound of a set's size in an answer, owner names compressed.
fn bytes(set: &RrSet) -> usize {
    let mut total = 0;
    for data in &set.data {
        let mut buffer = Vec::new();
        let emitted = data.emit(&mut BinEncoder::new(&mut buffer));
        total += if emitted.is_ok() {
            buffer.len() + 12
        } else {
            MAX_SET_BYTES
        };
    }
    total
}

#[cfg(test)]
#[path = "update_tests.rs"]
mod tests;
