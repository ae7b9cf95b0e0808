//! The records of the servers themselves, and those of ours that nothing wants any more.
//!
//! `<server>.<domain>` is there while the server has an instance or an SRV record points to it; it
//! does not follow health.

use std::collections::{BTreeMap, BTreeSet};

use stead_schemas::desired::{DnsDesired, ServerDesired};
use stead_schemas::names::{ServerName, address_type};
use stead_schemas::observed::RecordObserved;
use stead_schemas::plan::{Action, HoldReason, Step, StepId, Wait};
use stead_schemas::record::{RecordKey, RecordSet, RecordType};

use crate::lease;
use crate::members::Group;
use crate::publish::{
    Board, Standing, address_data, alias_key, alias_keys, first_set, server_key, srv_targets,
};
use crate::records::{Part, Writes, may_write, record_step, target_withdrawals, write};
use crate::road::{Draft, publish_key_id, remove_id, update_id, withdraw_key_id};
use crate::world::{Seen, Server, World};

/// What a server is needed for.
#[derive(Default)]
struct Use {
    /// Some group should run here.
    wanted: bool,
    /// Something runs here, or may.
    present: bool,
    /// Steps that end what should not run here.
    removals: Vec<StepId>,
    /// Steps after which instances serve at the declared address.
    readdressed: Vec<StepId>,
}

/// Publishes the names of servers that need one, and withdraws what is marked as ours and not
/// wanted: names of servers that have nothing left, and records of what is gone.
pub(crate) struct ServerNames<'a> {
    uses: BTreeMap<&'a ServerName, Use>,
    /// Keys that stay.
    wanted: BTreeSet<RecordKey>,
}

impl<'a> ServerNames<'a> {
    pub(crate) fn new(groups: &[Group<'a>]) -> Self {
        Self {
            uses: uses(groups),
            wanted: BTreeSet::new(),
        }
    }

    /// Drafts what is to be published; before the records that refer to it.
    pub(crate) fn publish(
        &mut self,
        world: &World<'a>,
        board: &Board<'a>,
        dns: &DnsDesired,
        writes: &mut Writes,
        draft: &mut Draft,
    ) {
        self.leave_to_holder(world, board, dns, draft);
        let ttl_s = dns.ttl.as_secs_ceil();
        for server in world.servers.values() {
            let (Some(declared), Some(needed)) = (server.declared, self.uses.get(server.name))
            else {
                continue;
            };
            if !needed.wanted {
                continue;
            }
            let key = server_key(server.name, address_type(declared.address), dns);
            let record = board.observed(&key);
            let served = first_set(record);
            let data = address_data(declared.address);
            let serves = served.is_some_and(|set| {
                set.ttl_s == ttl_s && set.values.len() == 1 && set.values.contains(&data)
            });
            let in_step = serves && board.standing_of(record) == Standing::Ours;
            if !in_step && (server.is_heard() || served.is_some()) {
                let want = RecordSet {
                    ttl_s,
                    values: BTreeSet::from([data]),
                };
                publish_one(world, board, &key, want, declared, needed, writes, draft);
            }
            self.wanted.insert(key);
        }
    }

    /// The alias of a site with a lease is written by the holder's agent alone (H22): it stays as it
    /// is, and what stands in the agent's way is told.
    fn leave_to_holder(
        &mut self,
        world: &World<'a>,
        board: &Board<'a>,
        dns: &DnsDesired,
        draft: &mut Draft,
    ) {
        let site_server = world.lease.site_server();
        let Some(site_server) = site_server.filter(|_| lease::decides(world)) else {
            return;
        };
        let code = world.code.dns_label();
        let active = world.servers.get(&site_server.active);
        if let Some(declared) = active.and_then(|server| server.declared) {
            let key = alias_key(&code, declared.address, dns);
            may_write(board, &key, true, Some(&site_server.place), draft);
        }
        self.wanted.extend(alias_keys(&code, dns));
    }

    /// Drafts what is to be withdrawn; after the records that refer to it.
    pub(crate) fn withdraw(
        &self,
        world: &World<'a>,
        board: &Board<'a>,
        dns: &DnsDesired,
        parts: &BTreeMap<&RecordKey, Vec<Part<'_, 'a>>>,
        writes: &mut Writes,
        draft: &mut Draft,
    ) {
        let unwanted = |(key, record): &(&RecordKey, &RecordObserved)| {
            !self.wanted.contains(*key)
                && !parts.contains_key(*key)
                && board.standing_of(Some(record)) == Standing::Ours
        };
        let mut rest = world.observed.records.iter().filter(unwanted).peekable();
        if rest.peek().is_none() {
            return;
        }
        let names = server_keys(world, dns);
        let targets = srv_targets(world.observed);
        let frozen = frozen_labels(world, dns);
        for (key, _) in rest.filter(|(key, _)| !frozen.contains(&key.name)) {
            let server = names.get(key).copied();
            let needed = server.and_then(|server| self.uses.get(server.name));
            let held =
                needed.is_some_and(|needed| needed.present) || targets.contains(key.name.as_str());
            let mut waits = Vec::new();
            if held {
                waits = withdraw_waits(world, key, server, needed, parts, dns, draft);
                if waits.is_empty() {
                    continue;
                }
            } else if in_doubt(world, server, key, draft) {
                continue;
            }
            take_away(world, board, key, waits, writes, draft);
        }
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "one record and where its step goes"
)]
fn publish_one(
    world: &World<'_>,
    board: &Board<'_>,
    key: &RecordKey,
    want: RecordSet,
    declared: &ServerDesired,
    needed: &Use,
    writes: &mut Writes,
    draft: &mut Draft,
) {
    let place = Some(&declared.place);
    if !may_write(board, key, true, place, draft) {
        return;
    }
    let waits: Vec<Wait> = match board.first_set(key) {
        Some(served) if served.values != want.values => {
            needed.readdressed.iter().cloned().map(Wait::Step).collect()
        }
        Some(_) | None => Vec::new(),
    };
    let id = publish_key_id(key);
    let ready = waits.is_empty();
    let because = "the server has role instances".to_owned();
    let action = Action::Publish {
        record: key.clone(),
    };
    draft.push(Step {
        waits,
        ..record_step(world, id.clone(), action, because, place)
    });
    if ready {
        write(board, key, Some(want), vec![id], place, writes, draft);
    }
}

/// What ends the need for a name: its server's last instance, and the SRV values that point to it.
fn withdraw_waits(
    world: &World<'_>,
    key: &RecordKey,
    server: Option<&Server<'_>>,
    needed: Option<&Use>,
    parts: &BTreeMap<&RecordKey, Vec<Part<'_, '_>>>,
    dns: &DnsDesired,
    draft: &Draft,
) -> Vec<Wait> {
    let removals = needed.into_iter().flat_map(|needed| &needed.removals);
    let coming = removals.filter(|id| draft.has_step(id));
    let mut waits: Vec<Wait> = coming.cloned().map(Wait::Step).collect();
    let name = server.map(|server| server.name);
    if let Some(name) = name.or_else(|| former(world, key, dns)) {
        waits.extend(target_withdrawals(parts, name, dns, draft));
    }
    waits
}

fn uses<'a>(groups: &[Group<'a>]) -> BTreeMap<&'a ServerName, Use> {
    let mut uses: BTreeMap<&ServerName, Use> = BTreeMap::new();
    for group in groups {
        for member in &group.members {
            let server = member.server.name;
            let needed = uses.entry(server).or_default();
            let there = matches!(member.seen, Seen::Present | Seen::Stopping | Seen::Held);
            needed.present |= there;
            needed.wanted |= member.wanted && (there || group.frozen.is_none());
            if !member.wanted && member.seen == Seen::Present {
                needed.removals.push(remove_id(group.name, server));
                if let Some(to) = group.wanted().next().filter(|_| group.is_site_server()) {
                    let id = crate::road::switch_id(group.name, server, to.server.name);
                    needed.removals.push(id);
                }
            }
            let moved = match (member.spec, member.server.declared) {
                (Some(spec), Some(declared)) => spec.address != declared.address,
                _ => false,
            };
            if moved && member.outdated {
                needed.readdressed.push(update_id(group.name, server));
            }
        }
    }
    uses
}

fn server_keys<'w, 'a>(
    world: &'w World<'a>,
    dns: &DnsDesired,
) -> BTreeMap<RecordKey, &'w Server<'a>> {
    let mut keys = BTreeMap::new();
    for server in world.servers.values() {
        for rtype in [RecordType::A, RecordType::Aaaa] {
            keys.insert(server_key(server.name, rtype, dns), server);
        }
    }
    keys
}

/// The former name of a renamed server, if the key is its.
fn former<'a>(world: &World<'a>, key: &RecordKey, dns: &DnsDesired) -> Option<&'a ServerName> {
    world
        .servers
        .values()
        .filter_map(|server| server.declared?.was.as_ref())
        .find(|was| crate::publish::server_name(was, dns) == key.name)
}

/// Names of protected things that are gone from git: theirs stay until the removal is agreed.
fn frozen_labels(world: &World<'_>, dns: &DnsDesired) -> BTreeSet<String> {
    let code = world.code.dns_label();
    let recorded = &world.context.recorded;
    let groups = recorded.protected_groups.iter().filter(|group| {
        world
            .desired
            .is_some_and(|site| !site.groups.contains_key(*group))
    });
    let servers = recorded.protected_servers.iter().filter(|server| {
        world
            .desired
            .is_some_and(|site| !site.servers.contains_key(*server))
    });
    groups
        .map(|group| format!("{}.{code}.{}", group.dns_label(), dns.domain))
        .chain(servers.map(|server| crate::publish::server_name(server, dns)))
        .collect()
}

/// A record of something that is not known may be one of a server not heard yet.
fn in_doubt(
    world: &World<'_>,
    server: Option<&Server<'_>>,
    key: &RecordKey,
    draft: &mut Draft,
) -> bool {
    let blank = match server {
        Some(server) if server.report.is_some() || server.is_heard() => return false,
        Some(server) => Some(server),
        None => world.servers.values().find(|s| {
            s.report.is_none() && matches!(s.hearing, crate::world::Hearing::Unclear { .. })
        }),
    };
    let Some(blank) = blank.filter(|s| matches!(s.hearing, crate::world::Hearing::Unclear { .. }))
    else {
        return false;
    };
    let reason = HoldReason::UnknownObservation {
        server: blank.name.clone(),
        since: None,
    };
    draft.hold(format!("dns:{key}"), reason, None);
    true
}

fn take_away(
    world: &World<'_>,
    board: &Board<'_>,
    key: &RecordKey,
    waits: Vec<Wait>,
    writes: &mut Writes,
    draft: &mut Draft,
) {
    let id = withdraw_key_id(key);
    let ready = waits.is_empty();
    let action = Action::Withdraw {
        record: key.clone(),
    };
    let because = "nothing declared wants it".to_owned();
    draft.push(Step {
        waits,
        ..record_step(world, id.clone(), action, because, None)
    });
    if ready {
        write(board, key, None, vec![id], None, writes, draft);
    }
}
