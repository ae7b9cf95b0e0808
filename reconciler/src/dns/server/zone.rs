//! The zone in memory: sets of records by name and type, and what a lookup finds in them.
//!
//! A zone is changed only by [`Zone::apply`], with a whole [`Delta`]; readers see the zone before
//! or after, never between (H2). How a delta comes about is `update.rs`, how it lasts `store.rs`.
//! There are no wildcards, no delegations and no DNSSEC: Stead's names need none.

use std::collections::BTreeMap;
use std::sync::Arc;

use hickory_proto::rr::rdata::{NS, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// How often a CNAME is followed inside the zone; a longer chain is cut there.
const MAX_CNAME_STEPS: usize = 8;
/// TTL of the zone's own SOA and NS, and how long absence may be cached: short, because names come
/// and go with the health of what they name.
const ZONE_TTL_S: u32 = 60;
const NEGATIVE_TTL_S: u32 = 5;

/// The records of one name and type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RrSet {
    /// Common TTL in seconds (RFC 2181 section 5.2).
    pub(super) ttl: u32,
    /// Never empty, no two alike.
    pub(super) data: Vec<RData>,
}

impl RrSet {
    /// Whether both hold the same data, in any order, whatever the TTL.
    pub(super) fn same_data(&self, other: &[RData]) -> bool {
        self.data.len() == other.len() && other.iter().all(|data| self.data.contains(data))
    }
}

/// What one update message changes: each touched set as it will be, absent where it goes.
pub(super) type Delta = Vec<(Name, RecordType, Option<Arc<RrSet>>)>;

/// What a lookup found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// Records of the wanted type, CNAMEs followed included.
    Records(Vec<Record>),
    /// The name exists without that type, or exists only as part of longer names.
    NoData,
    /// No such name.
    NoName,
    /// The name is not in this zone.
    Elsewhere,
}

/// One whole zone.
#[derive(Debug, Clone)]
pub(super) struct Zone {
    apex: Name,
    sets: BTreeMap<Name, BTreeMap<RecordType, Arc<RrSet>>>,
    records: usize,
}

impl Zone {
    /// A zone without any record; not servable before an SOA is applied.
    pub(super) const fn empty(apex: Name) -> Self {
        Self {
            apex,
            sets: BTreeMap::new(),
            records: 0,
        }
    }

    /// What a new zone starts with: SOA with serial 1, and one NS that names this server.
    pub(super) fn first_delta(apex: &Name, server: &Name) -> Delta {
        let soa = SOA::new(
            server.clone(),
            Name::from_ascii("hostmaster.")
                .expect("a fixed label")
                .append_domain(apex)
                .unwrap_or_else(|_| apex.clone()),
            1,
            3600,
            60,
            86_400,
            NEGATIVE_TTL_S,
        );
        let set = |data| {
            Some(Arc::new(RrSet {
                ttl: ZONE_TTL_S,
                data: vec![data],
            }))
        };
        vec![
            (apex.clone(), RecordType::SOA, set(RData::SOA(soa))),
            (
                apex.clone(),
                RecordType::NS,
                set(RData::NS(NS(server.clone()))),
            ),
        ]
    }

    /// The zone's name.
    pub(super) const fn apex(&self) -> &Name {
        &self.apex
    }

    /// How many records there are.
    pub(super) const fn records(&self) -> usize {
        self.records
    }

    /// The set of a name and type.
    pub(super) fn set(&self, name: &Name, rtype: RecordType) -> Option<&Arc<RrSet>> {
        self.sets.get(name)?.get(&rtype)
    }

    /// The types that a name has.
    pub(super) fn types(&self, name: &Name) -> impl Iterator<Item = RecordType> + use<'_> {
        self.sets.get(name).into_iter().flatten().map(|(t, _)| *t)
    }

    /// The start-of-authority data; absent only in an empty zone.
    pub(super) fn soa(&self) -> Option<&SOA> {
        match self.set(&self.apex, RecordType::SOA)?.data.first()? {
            RData::SOA(soa) => Some(soa),
            _ => None,
        }
    }

    /// The SOA as a record of the authority section, with the TTL that absence may be cached for
    /// (RFC 2308 section 3).
    pub(super) fn soa_record(&self) -> Option<Record> {
        let soa = self.soa()?;
        let ttl = soa.minimum.min(ZONE_TTL_S);
        Some(Record::from_rdata(
            self.apex.clone(),
            ttl,
            RData::SOA(soa.clone()),
        ))
    }

    /// Every record, the SOA first: what a transfer sends between its two SOAs.
    pub(super) fn all(&self) -> Vec<Record> {
        let mut soa = Vec::new();
        let mut rest = Vec::with_capacity(self.records);
        for (name, types) in &self.sets {
            for (rtype, set) in types {
                let part = if *rtype == RecordType::SOA {
                    &mut soa
                } else {
                    &mut rest
                };
                part.extend(records(name, set));
            }
        }
        soa.extend(rest);
        soa
    }

    /// Puts a whole delta in force.
    pub(super) fn apply(&mut self, delta: Delta) {
        for (name, rtype, set) in delta {
            let added = set.as_ref().map_or(0, |set| set.data.len());
            let types = self.sets.entry(name.clone()).or_default();
            let old = match set {
                Some(set) => types.insert(rtype, set),
                None => types.remove(&rtype),
            };
            if types.is_empty() {
                self.sets.remove(&name);
            }
            self.records = self.records + added - old.map_or(0, |set| set.data.len());
        }
    }

    /// What an authoritative server answers for a name and type (RFC 1034 section 4.3.2).
    pub(super) fn lookup(&self, name: &Name, rtype: RecordType) -> Lookup {
        if !self.apex.zone_of(name) {
            return Lookup::Elsewhere;
        }
        let mut found = Vec::new();
        let mut owner = name.clone();
        for _ in 0..MAX_CNAME_STEPS {
            match self.step(&owner, rtype, &mut found) {
                Some(next) if self.apex.zone_of(&next) => owner = next,
                _ => break,
            }
        }
        if !found.is_empty() {
            Lookup::Records(found)
        } else if self.exists(name) {
            Lookup::NoData
        } else {
            Lookup::NoName
        }
    }

    /// Adds what one owner has of a type; a CNAME target where to look next.
    fn step(&self, owner: &Name, rtype: RecordType, found: &mut Vec<Record>) -> Option<Name> {
        let types = self.sets.get(owner)?;
        if rtype == RecordType::ANY {
            found.extend(types.values().flat_map(|set| records(owner, set)));
            return None;
        }
        if let Some(set) = types.get(&rtype) {
            found.extend(records(owner, set));
            return None;
        }
        let set = types.get(&RecordType::CNAME)?;
        found.extend(records(owner, set));
        match set.data.first() {
            Some(RData::CNAME(target)) => Some(target.0.to_lowercase()),
            _ => None,
        }
    }

    /// Whether a name has records or lies above one that has (an empty non-terminal, RFC 8020).
    /// In canonical order everything below a name follows it at once.
    fn exists(&self, name: &Name) -> bool {
        self.sets
            .range(name.to_lowercase()..)
            .next()
            .is_some_and(|(next, _)| name.zone_of(next))
    }
}

fn records<'s>(name: &'s Name, set: &'s RrSet) -> impl Iterator<Item = Record> + 's {
    set.data
        .iter()
        .map(|data| Record::from_rdata(name.clone(), set.ttl, data.clone()))
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::rdata::{A, CNAME};

    use super::*;
    use stead_dns::convert::name;

    fn zone() -> Zone {
        let apex = name("cm.lab.example").unwrap();
        let mut zone = Zone::empty(apex.clone());
        zone.apply(Zone::first_delta(
            &apex,
            &name("ns.cm.lab.example").unwrap(),
        ));
        zone
    }

    fn put(zone: &mut Zone, owner: &str, data: RData) {
        let set = RrSet {
            ttl: 30,
            data: vec![data.clone()],
        };
        zone.apply(vec![(
            name(owner).unwrap(),
            data.record_type(),
            Some(Arc::new(set)),
        )]);
    }

    #[test]
    fn absence_of_a_name_and_of_a_type_differ() {
        let mut zone = zone();
        put(
            &mut zone,
            "dp.p01.cm.lab.example",
            RData::A(A::new(127, 0, 0, 1)),
        );
        let lookup = |owner, rtype| zone.lookup(&name(owner).unwrap(), rtype);
        let found = lookup("DP.p01.cm.lab.example", RecordType::A);
        assert!(matches!(found, Lookup::Records(r) if r.len() == 1));
        assert_eq!(
            lookup("dp.p01.cm.lab.example", RecordType::AAAA),
            Lookup::NoData
        );
        assert_eq!(
            lookup("p01.cm.lab.example", RecordType::A),
            Lookup::NoData,
            "empty non-terminal"
        );
        assert_eq!(lookup("p0.cm.lab.example", RecordType::A), Lookup::NoName);
        assert_eq!(
            lookup("badcm.lab.example", RecordType::A),
            Lookup::Elsewhere
        );
    }

    #[test]
    fn an_alias_is_followed_in_the_zone_and_a_circle_ends() {
        let mut zone = zone();
        let to = |target| RData::CNAME(CNAME(name(target).unwrap()));
        put(&mut zone, "a.cm.lab.example", to("b.cm.lab.example"));
        put(
            &mut zone,
            "b.cm.lab.example",
            RData::A(A::new(127, 0, 0, 1)),
        );
        put(&mut zone, "c.cm.lab.example", to("c.cm.lab.example"));
        let lookup = |owner| zone.lookup(&name(owner).unwrap(), RecordType::A);
        assert!(matches!(lookup("a.cm.lab.example"), Lookup::Records(r) if r.len() == 2));
        assert!(
            matches!(lookup("c.cm.lab.example"), Lookup::Records(r) if r.len() == MAX_CNAME_STEPS)
        );
    }

    #[test]
    fn the_count_of_records_follows_every_change() {
        let mut zone = zone();
        assert_eq!(zone.records(), 2);
        put(
            &mut zone,
            "a.cm.lab.example",
            RData::A(A::new(127, 0, 0, 1)),
        );
        put(
            &mut zone,
            "a.cm.lab.example",
            RData::A(A::new(127, 0, 0, 2)),
        );
        assert_eq!(zone.records(), 3);
        zone.apply(vec![(
            name("a.cm.lab.example").unwrap(),
            RecordType::A,
            None,
        )]);
        assert_eq!((zone.records(), zone.all().len()), (2, 2));
        assert_eq!(zone.all()[0].record_type(), RecordType::SOA);
    }
}
