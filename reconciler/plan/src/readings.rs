//! What is read of DNS for a site, and what the readings say: keys to read, instances handed out,
//! sets wanted. For the reconciler and its views; no steps here.

use std::collections::{BTreeMap, BTreeSet};

use stead_schemas::desired::SiteDesired;
use stead_schemas::names::{GroupName, ServerName, address_type};
use stead_schemas::observed::SiteObserved;
use stead_schemas::record::{RecordKey, RecordSet, RecordType};
use stead_schemas::role::Role;
use stead_schemas::time::WallMs;

use crate::context::{Context, Policy};
use crate::publish::{
    Entry, Standing, address_data, alias_key, group_key, server_key, srv_key, ttl_s,
};
use crate::site::View;
use crate::world::{Well, World};

/// Every key to read for a site: those of all declared servers and groups in the families of the
/// declared addresses, the alias, and those of instances that are still somewhere.
///
/// Marked keys that were read before and are not in the answer should be read until they are gone.
#[must_use]
pub fn record_keys(
    desired: Option<&SiteDesired>,
    observed: &SiteObserved,
    context: &Context,
) -> BTreeSet<RecordKey> {
    let mut keys = BTreeSet::new();
    let Some(dns) = context.dns.as_deref() else {
        return keys;
    };
    let code = context.site.dns_label();
    let servers = desired.iter().flat_map(|site| &site.servers);
    for (name, server) in servers {
        keys.insert(server_key(name, address_type(server.address), dns));
        keys.insert(alias_key(&code, server.address, dns));
        let groups = desired.iter().flat_map(|site| site.groups.values());
        for group in groups.filter(|group| group.publish) {
            keys.insert(group_key(&group.name, &code, server.address, dns));
            if group.role == Role::ManagementPoint {
                keys.insert(srv_key(&code, dns));
            }
        }
    }
    let policy = Policy::default();
    let world = World::new(desired, observed, context, WallMs(0), &policy);
    for member in View::new(&world)
        .groups
        .iter()
        .flat_map(|group| &group.members)
    {
        keys.extend(member.entries.iter().map(|entry| entry.key.clone()));
        for rtype in [RecordType::A, RecordType::Aaaa] {
            if member.server.declared.is_none() {
                keys.insert(server_key(member.server.name, rtype, dns));
            }
        }
    }
    keys
}

/// Instances some DNS server hands out now, with the longest TTL it is served with, in seconds.
///
/// An instance that is in the answer before and not in the one after has left DNS: the reconciler
/// notes the moment in [`SiteObserved::withdrawn`], and forgets it once it is served again.
#[must_use]
pub fn served_instances(
    desired: Option<&SiteDesired>,
    observed: &SiteObserved,
    context: &Context,
) -> BTreeMap<(GroupName, ServerName), u32> {
    let policy = Policy::default();
    let world = World::new(desired, observed, context, WallMs(0), &policy);
    let view = View::new(&world);
    let mut served = BTreeMap::new();
    for group in &view.groups {
        for member in &group.members {
            let ttl = member
                .entries
                .iter()
                .filter_map(|entry| longest_ttl(observed, entry))
                .max();
            if let Some(ttl) = ttl {
                served.insert((group.name.clone(), member.server.name.clone()), ttl);
            }
        }
    }
    served
}

/// The longest TTL, in seconds, a value is served with; none: it is not served.
pub(crate) fn longest_ttl(observed: &SiteObserved, entry: &Entry) -> Option<u32> {
    let record = observed.records.get(&entry.key)?;
    record
        .servers
        .iter()
        .filter_map(|server| server.served.as_ref()?.set.as_ref())
        .filter(|set| set.values.contains(&entry.data))
        .map(|set| set.ttl_s)
        .max()
}

/// What every key of the site should be served as now; none: it should go. For `list records`.
///
/// Where a foreign or contested record stands in the way, what would be there without it.
#[must_use]
pub fn wanted_records(
    desired: Option<&SiteDesired>,
    observed: &SiteObserved,
    context: &Context,
    now: WallMs,
) -> BTreeMap<RecordKey, Option<RecordSet>> {
    let policy = Policy::default();
    let world = World::new(desired, observed, context, now, &policy);
    let view = View::new(&world);
    let mut wanted = BTreeMap::new();
    for key in observed.records.keys() {
        let set = match view.board.standing(key) {
            Standing::Free | Standing::Ours => view.board.first_set(key).cloned(),
            Standing::Contested | Standing::Foreign | Standing::Unknown => {
                in_the_way(&view, context, key)
            }
        };
        wanted.insert(key.clone(), set);
    }
    let plan = crate::plan_site(desired, observed, context, now, &policy);
    for (key, record) in plan.records {
        wanted.insert(key, record.want);
    }
    wanted
}

/// What healthy instances, and servers that have any, would be served as under a key.
fn in_the_way(view: &View<'_>, context: &Context, key: &RecordKey) -> Option<RecordSet> {
    let dns = context.dns.as_deref()?;
    let members = view.groups.iter().flat_map(|group| &group.members);
    let mut values = BTreeSet::new();
    for member in members.filter(|member| member.wanted) {
        let serving = member.entries.iter().filter(|entry| entry.key == *key);
        if member.well == Well::Healthy {
            values.extend(serving.map(|entry| entry.data.clone()));
        }
        if let Some(declared) = member.server.declared
            && server_key(member.server.name, address_type(declared.address), dns) == *key
        {
            values.insert(address_data(declared.address));
        }
    }
    let ttl_s = ttl_s(key, &context.site, dns);
    (!values.is_empty()).then_some(RecordSet { ttl_s, values })
}
