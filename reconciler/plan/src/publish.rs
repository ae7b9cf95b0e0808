//! Which records an instance is found by, and what the DNS servers say about each.
//!
//! Names and data only; what is written when is decided in `agents` (who) and `records` (how).
//! SRV priority is 10 and weight 100 for all: load is not observed yet (G-34).

use std::collections::BTreeSet;
use std::net::IpAddr;

use stead_schemas::desired::DnsDesired;
use stead_schemas::names::{GroupName, ServerName, SiteCode, address_type};
use stead_schemas::observed::{RecordObserved, SiteObserved};
use stead_schemas::record::{RecordData, RecordKey, RecordSet, RecordType};
use stead_schemas::role::Role;

use crate::members::{Group, Member};
use crate::spec::Source;
use crate::world::World;

const SRV_PRIORITY: u16 = 10;
const SRV_WEIGHT: u16 = 100;

/// What is read of a site's records, with the names they have.
pub(crate) struct Board<'a> {
    pub(crate) dns: Option<&'a DnsDesired>,
    observed: &'a SiteObserved,
    /// What a mark of ours begins with.
    mark: String,
    code: String,
}

/// One value of one record: what makes an instance findable.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: RecordKey,
    /// As the instance serves now, or will once it is there.
    pub(crate) data: RecordData,
    /// As it will serve after a pending update, where that differs.
    pub(crate) next: Option<RecordData>,
    /// The value under the server's former name, while that is still served.
    pub(crate) former: Option<RecordData>,
    pub(crate) served: ServedWhere,
    pub(crate) standing: Standing,
}

/// Where a value is served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ServedWhere {
    /// At the first DNS server.
    pub(crate) first: bool,
    /// At one at least, or one did not answer.
    pub(crate) any: bool,
    /// At every one, and all answered.
    pub(crate) all: bool,
}

/// Whose a record key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Two writers fight over it.
    Contested,
    /// Somebody else's: no mark, or another's.
    Foreign,
    /// Neither record nor mark.
    Free,
    /// Marked with this hierarchy and site.
    Ours,
    /// The first server's answer is not known.
    Unknown,
}

impl Entry {
    pub(crate) fn is_served_or_foreign(&self) -> bool {
        self.standing == Standing::Foreign || self.served.all
    }
}

impl<'a> Board<'a> {
    pub(crate) fn new(world: &World<'a>) -> Self {
        Self {
            dns: world.context.dns.as_deref(),
            observed: world.observed,
            mark: format!("v=1 h={} s={} ", world.context.hierarchy, world.code),
            code: world.code.dns_label(),
        }
    }

    pub(crate) fn observed(&self, key: &RecordKey) -> Option<&'a RecordObserved> {
        self.observed.records.get(key)
    }

    /// What the first server, which takes updates, serves.
    pub(crate) fn first_set(&self, key: &RecordKey) -> Option<&'a RecordSet> {
        first_set(self.observed(key))
    }

    /// Whose the key is, by the first server's answer.
    pub(crate) fn standing(&self, key: &RecordKey) -> Standing {
        self.standing_of(self.observed(key))
    }

    pub(crate) fn served(&self, key: &RecordKey, data: &RecordData) -> ServedWhere {
        served(self.observed(key), data)
    }

    pub(crate) fn standing_of(&self, record: Option<&RecordObserved>) -> Standing {
        let Some(record) = record else {
            return Standing::Unknown;
        };
        let served = record.servers.first().and_then(|s| s.served.as_ref());
        match served {
            _ if record.contested => Standing::Contested,
            None => Standing::Unknown,
            Some(served) => match (&served.mark, &served.set) {
                (Some(mark), _) if mark.starts_with(&self.mark) => Standing::Ours,
                (None, None) => Standing::Free,
                _ => Standing::Foreign,
            },
        }
    }

    /// The records by which a member is, or will be, found.
    pub(crate) fn entries(&self, group: &Group<'a>, member: &Member<'a>) -> Vec<Entry> {
        let Some(dns) = self.dns else {
            return Vec::new();
        };
        if !publishes(group) {
            return Vec::new();
        }
        let now = endpoint(member);
        let next = declared_endpoint(group, member);
        let (Some(first), later) = (now.or(next), next.filter(|_| member.outdated)) else {
            return Vec::new();
        };
        let mut entries = Vec::with_capacity(2);
        if group.role == Role::ManagementPoint {
            entries.push(self.srv_entry(dns, member, first.1, later.map(|l| l.1)));
        }
        entries.push(self.address_entry(dns, group, first.0, later.map(|l| l.0)));
        entries
    }

    fn srv_entry(
        &self,
        dns: &DnsDesired,
        member: &Member<'_>,
        port: u16,
        later: Option<u16>,
    ) -> Entry {
        let key = srv_key(&self.code, dns);
        let data = srv_data(member.server.name, port, dns);
        let was = member.server.declared.and_then(|d| d.was.as_ref());
        let former = was
            .map(|old| srv_data(old, port, dns))
            .filter(|old| self.served(&key, old).any && self.observed(&key).is_some());
        let next = later
            .map(|port| srv_data(member.server.name, port, dns))
            .filter(|next| *next != data);
        self.entry(key, data, next, former)
    }

    fn address_entry(
        &self,
        dns: &DnsDesired,
        group: &Group<'_>,
        now: IpAddr,
        later: Option<IpAddr>,
    ) -> Entry {
        let key = if group.is_site_server() {
            alias_key(&self.code, now, dns)
        } else {
            group_key(group.name, &self.code, now, dns)
        };
        let next = later
            .filter(|later| *later != now && address_type(*later) == address_type(now))
            .map(address_data);
        self.entry(key, address_data(now), next, None)
    }

    fn entry(
        &self,
        key: RecordKey,
        data: RecordData,
        next: Option<RecordData>,
        former: Option<RecordData>,
    ) -> Entry {
        let record = self.observed(&key);
        let served = served(record, &data);
        let standing = self.standing_of(record);
        Entry {
            key,
            data,
            next,
            former,
            served,
            standing,
        }
    }
}

pub(crate) fn first_set(record: Option<&RecordObserved>) -> Option<&RecordSet> {
    record?.servers.first()?.served.as_ref()?.set.as_ref()
}

fn served(record: Option<&RecordObserved>, data: &RecordData) -> ServedWhere {
    let Some(record) = record else {
        return ServedWhere {
            first: false,
            any: true,
            all: false,
        };
    };
    let mut at = ServedWhere {
        first: false,
        any: false,
        all: !record.servers.is_empty(),
    };
    for (index, server) in record.servers.iter().enumerate() {
        let has = server.served.as_ref().map(|served| {
            let set = served.set.as_ref();
            set.is_some_and(|set| set.values.contains(data))
        });
        at.first |= index == 0 && has == Some(true);
        at.any |= has != Some(false);
        at.all &= has == Some(true);
    }
    at
}

/// Whether a group's instances are found by records of the reconciler's. Of one that is gone from
/// git the records say; the alias of a site with a lease is its holder's to write (H22).
fn publishes(group: &Group<'_>) -> bool {
    match group.source {
        Source::Declared(declared) => declared.publish,
        Source::SiteServer(site_server) => !site_server.has_lease(),
        Source::Gone => true,
    }
}

/// Where an instance serves now.
fn endpoint(member: &Member<'_>) -> Option<(IpAddr, u16)> {
    let assigned = member.spec.map(|spec| (spec.address, spec.port));
    assigned.or_else(|| member.report.map(|r| (r.endpoint.ip(), r.endpoint.port())))
}

fn declared_endpoint(group: &Group<'_>, member: &Member<'_>) -> Option<(IpAddr, u16)> {
    let server = member.server.declared?;
    Some((server.address, group.source.port()))
}

pub(crate) fn address_data(address: IpAddr) -> RecordData {
    match address {
        IpAddr::V4(address) => RecordData::A(address),
        IpAddr::V6(address) => RecordData::Aaaa(address),
    }
}

fn srv_data(server: &ServerName, port: u16, dns: &DnsDesired) -> RecordData {
    RecordData::Srv {
        priority: SRV_PRIORITY,
        weight: SRV_WEIGHT,
        port,
        target: server_name(server, dns),
    }
}

pub(crate) fn server_name(server: &ServerName, dns: &DnsDesired) -> String {
    format!("{server}.{}", dns.domain)
}

pub(crate) fn server_key(server: &ServerName, rtype: RecordType, dns: &DnsDesired) -> RecordKey {
    RecordKey {
        name: server_name(server, dns),
        rtype,
    }
}

/// The site's management points, `_mssms_mp_<code>._tcp`.
pub(crate) fn srv_key(code: &str, dns: &DnsDesired) -> RecordKey {
    RecordKey {
        name: format!("_mssms_mp_{code}._tcp.{}", dns.domain),
        rtype: RecordType::Srv,
    }
}

pub(crate) fn group_key(
    group: &GroupName,
    code: &str,
    address: IpAddr,
    dns: &DnsDesired,
) -> RecordKey {
    RecordKey {
        name: format!("{}.{code}.{}", group.dns_label(), dns.domain),
        rtype: address_type(address),
    }
}

pub(crate) fn alias_key(code: &str, address: IpAddr, dns: &DnsDesired) -> RecordKey {
    RecordKey {
        name: format!("{code}.{}", dns.domain),
        rtype: address_type(address),
    }
}

/// The alias in both families.
pub(crate) fn alias_keys(code: &str, dns: &DnsDesired) -> [RecordKey; 2] {
    let families = [IpAddr::from([0; 4]), IpAddr::from([0; 16])];
    families.map(|family| alias_key(code, family, dns))
}

/// The TTL a key is published with, in seconds (H27).
pub(crate) fn ttl_s(key: &RecordKey, code: &SiteCode, dns: &DnsDesired) -> u32 {
    let alias = key
        .name
        .strip_suffix(dns.domain.as_str())
        .and_then(|rest| rest.strip_suffix('.'))
        .is_some_and(|label| label.eq_ignore_ascii_case(code.as_str()));
    if alias { dns.alias_ttl } else { dns.ttl }.as_secs_ceil()
}

/// The names that SRV records hand out at any server.
pub(crate) fn srv_targets(observed: &SiteObserved) -> BTreeSet<&str> {
    let srv = observed
        .records
        .iter()
        .filter(|(key, _)| key.rtype == RecordType::Srv);
    srv.flat_map(|(_, record)| &record.servers)
        .filter_map(|server| server.served.as_ref()?.set.as_ref())
        .flat_map(|set| &set.values)
        .filter_map(|data| match data {
            RecordData::Srv { target, .. } => Some(target.as_str()),
            RecordData::A(_) | RecordData::Aaaa(_) => None,
        })
        .collect()
}
