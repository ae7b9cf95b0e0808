//! Records: which sets are wanted now and at the end, and the steps and writes between.
//!
//! One write a key, whatever changes in it (H22). What is not marked as ours is left alone; what
//! can't be read is not written; a set is never emptied because its instances fell ill. The
//! listings of instances come from `agents`; names and data from `publish`.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr as _;

use stead_schemas::desired::{DnsDesired, Place};
use stead_schemas::names::ServerName;
use stead_schemas::plan::{Action, HoldReason, Move, PlannedRecord, Step, StepId, Wait};
use stead_schemas::record::{Mark, RecordData, RecordKey, RecordSet, RecordType};

use crate::drain::is_out;
use crate::members::{Group, Member, Now};
use crate::publish::{Board, Entry, Standing, address_data, server_key, server_name, ttl_s};
use crate::road::{Draft, publish_id, publish_key_id, withdraw_id};
use crate::server_names::ServerNames;
use crate::updates::runs_as_assigned;
use crate::world::World;

/// The writes of a plan.
pub(crate) type Writes = BTreeMap<RecordKey, PlannedRecord>;

/// One value of a key and whose it is.
pub(crate) struct Part<'g, 'a> {
    group: &'g Group<'a>,
    member: &'g Member<'a>,
    entry: &'g Entry,
    now: Now,
}

/// Plans every record of the site.
pub(crate) fn plan_records<'a>(
    world: &World<'a>,
    board: &Board<'a>,
    groups: &[Group<'a>],
    draft: &mut Draft,
) -> Writes {
    let Some(dns) = board.dns else {
        return Writes::new();
    };
    let mut writes = Writes::new();
    let mut parts: BTreeMap<&RecordKey, Vec<Part<'_, 'a>>> = BTreeMap::new();
    for group in groups {
        for member in &group.members {
            for entry in &member.entries {
                let part = Part {
                    group,
                    member,
                    entry,
                    now: now(board, dns, member, entry),
                };
                parts.entry(&entry.key).or_default().push(part);
            }
        }
    }
    let mut names = ServerNames::new(groups);
    names.publish(world, board, dns, &mut writes, draft);
    for (key, parts) in &parts {
        plan_key(world, board, dns, key, parts, &mut writes, draft);
    }
    names.withdraw(world, board, dns, &parts, &mut writes, draft);
    writes
}

/// Whether a value should be served now; published only once its process runs as assigned and,
/// for SRV, its target resolves.
fn now(board: &Board<'_>, dns: &DnsDesired, member: &Member<'_>, entry: &Entry) -> Now {
    let now = member.listing.now;
    if now != Now::In || entry.served.first {
        return now;
    }
    let ready = runs_as_assigned(member)
        && match entry.key.rtype {
            RecordType::Srv => target_resolves(board, dns, member),
            RecordType::A | RecordType::Aaaa => true,
        };
    if ready { Now::In } else { Now::AsServed }
}

fn target_resolves(board: &Board<'_>, dns: &DnsDesired, member: &Member<'_>) -> bool {
    let Some(address) = member.server.declared.map(|declared| declared.address) else {
        return true;
    };
    let key = server_key(
        member.server.name,
        stead_schemas::names::address_type(address),
        dns,
    );
    board.standing(&key) == Standing::Foreign || board.served(&key, &address_data(address)).all
}

fn plan_key(
    world: &World<'_>,
    board: &Board<'_>,
    dns: &DnsDesired,
    key: &RecordKey,
    parts: &[Part<'_, '_>],
    writes: &mut Writes,
    draft: &mut Draft,
) {
    let place = parts.first().and_then(|part| part.group.place());
    if !may_write(board, key, wants_any(parts), place, draft) {
        return;
    }
    let served = board.first_set(key);
    let ttl_s = ttl_s(key, world.code, dns);
    if is_in_step(parts, served, ttl_s) {
        later_steps(world, board, dns, key, parts, served, draft);
        return;
    }
    let (values, keep) = wanted_values(world, board, key, parts, served);
    let want = (!values.is_empty()).then_some(RecordSet { ttl_s, values });
    if want.as_ref() != served && (want.is_some() || !keep) {
        let mut steps = Vec::new();
        ready_steps(world, key, parts, want.as_ref(), served, &mut steps, draft);
        write(board, key, want.clone(), steps, place, writes, draft);
    }
    let after = want.as_ref().or_else(|| served.filter(|_| keep));
    later_steps(world, board, dns, key, parts, after, draft);
}

/// Whether every value of a set is one that stays, and the other way round; the usual case, told
/// without making the set.
fn is_in_step(parts: &[Part<'_, '_>], served: Option<&RecordSet>, ttl_s: u32) -> bool {
    let Some(served) = served.filter(|served| served.ttl_s == ttl_s) else {
        return false;
    };
    let all = parts
        .iter()
        .all(|part| part.now == Now::In && part.entry.served.first && part.entry.former.is_none());
    // Of one group no two instances have the same value.
    let one_group = match (parts.first(), parts.last()) {
        (Some(first), Some(last)) => first.group.name == last.group.name,
        _ => false,
    };
    all && one_group && served.values.len() == parts.len()
}

fn wants_any(parts: &[Part<'_, '_>]) -> bool {
    parts
        .iter()
        .any(|part| part.now == Now::In || part.member.listing.later == Some(true))
}

/// Whether a key may be written; says why not.
pub(crate) fn may_write(
    board: &Board<'_>,
    key: &RecordKey,
    wanted: bool,
    place: Option<&Place>,
    draft: &mut Draft,
) -> bool {
    let record = key.clone();
    let reason = match board.standing(key) {
        Standing::Ours | Standing::Free => return true,
        Standing::Foreign if !wanted => return false,
        Standing::Foreign => HoldReason::ForeignRecord { record },
        Standing::Contested => HoldReason::RecordContested { record },
        Standing::Unknown => HoldReason::RecordUnknown { record },
    };
    draft.hold(format!("dns:{key}"), reason, place);
    false
}

/// The values a key should be served with now, and whether the key stays though there are none.
fn wanted_values(
    world: &World<'_>,
    board: &Board<'_>,
    key: &RecordKey,
    parts: &[Part<'_, '_>],
    served: Option<&RecordSet>,
) -> (BTreeSet<RecordData>, bool) {
    let any_in = parts.iter().any(|part| part.now == Now::In);
    let any_away = parts
        .iter()
        .any(|part| part.now == Now::Away && part.entry.served.first);
    let mut values = BTreeSet::new();
    let mut keep = false;
    for part in parts {
        let entry = part.entry;
        let stays = match part.now {
            Now::In => true,
            Now::AsServed => entry.served.first,
            Now::Away => entry.served.first && !any_in,
            Now::Sick => entry.served.first && !any_in && !any_away,
            Now::Out => false,
        };
        keep |= part.member.wanted || part.now == Now::AsServed;
        if stays {
            values.insert(entry.data.clone());
        }
        if let Some(former) = entry.former.as_ref().filter(|former| {
            !entry.served.all && served.is_some_and(|set| set.values.contains(former))
        }) {
            values.insert(former.clone());
        }
    }
    // Values nobody answers for may be those of a server that is not heard yet.
    if world.has_blank_server() && board.standing(key) == Standing::Ours {
        let known = |data: &RecordData| parts.iter().any(|part| part.entry.data == *data);
        let extra = served
            .into_iter()
            .flat_map(|set| &set.values)
            .filter(|data| !known(data));
        values.extend(extra.cloned());
        keep = true;
    }
    (values, keep)
}

fn ready_steps(
    world: &World<'_>,
    key: &RecordKey,
    parts: &[Part<'_, '_>],
    want: Option<&RecordSet>,
    served: Option<&RecordSet>,
    ids: &mut Vec<StepId>,
    draft: &mut Draft,
) {
    let has =
        |set: Option<&RecordSet>, data: &RecordData| set.is_some_and(|s| s.values.contains(data));
    for part in parts {
        let data = &part.entry.data;
        match (has(want, data), has(served, data)) {
            (true, false) => ids.push(publish_part(world, key, part, Vec::new(), draft)),
            (false, true) => ids.push(withdraw_part(world, key, part, Vec::new(), draft)),
            (true, true) | (false, false) => {}
        }
        if let Some(former) = &part.entry.former
            && has(served, former)
            && !has(want, former)
        {
            ids.push(withdraw_former(world, key, part, Vec::new(), draft));
        }
    }
    if ids.is_empty() {
        let id = if want.is_some() {
            publish_key_id(key)
        } else {
            crate::road::withdraw_key_id(key)
        };
        let because = "the DNS server serves something else".to_owned();
        let action = if want.is_some() {
            Action::Publish {
                record: key.clone(),
            }
        } else {
            Action::Withdraw {
                record: key.clone(),
            }
        };
        let place = parts.first().and_then(|part| part.group.place());
        draft.push(record_step(world, id.clone(), action, because, place));
        ids.push(id);
    }
}

/// Steps that are on the road and can't be taken yet.
fn later_steps(
    world: &World<'_>,
    board: &Board<'_>,
    dns: &DnsDesired,
    key: &RecordKey,
    parts: &[Part<'_, '_>],
    after: Option<&RecordSet>,
    draft: &mut Draft,
) {
    let served = |data: &RecordData| after.is_some_and(|set| set.values.contains(data));
    for part in parts {
        let listing = &part.member.listing;
        let there = served(&part.entry.data);
        if there
            && (listing.dips || listing.later == Some(false))
            && !listing.withdraw_waits.is_empty()
        {
            withdraw_part(world, key, part, listing.withdraw_waits.clone(), draft);
        }
        let changes = part.entry.next.is_some();
        if listing.later == Some(true) && (!there || listing.dips || changes) {
            let mut waits = listing.publish_waits.clone();
            if key.rtype == RecordType::Srv && !there {
                target_wait(board, part, dns, draft, &mut waits);
            }
            let id = publish_id(key, part.group.name, part.member.server.name);
            if !waits.is_empty() && !draft.has_step(&id) {
                publish_part(world, key, part, waits, draft);
            }
        }
        if part.entry.former.as_ref().is_some_and(served) {
            let id = publish_id(key, part.group.name, part.member.server.name);
            withdraw_former(world, key, part, vec![Wait::Step(id)], draft);
        }
    }
}

/// An SRV record is published after its target.
fn target_wait(
    board: &Board<'_>,
    part: &Part<'_, '_>,
    dns: &DnsDesired,
    draft: &Draft,
    waits: &mut Vec<Wait>,
) {
    let Some(declared) = part.member.server.declared else {
        return;
    };
    let rtype = stead_schemas::names::address_type(declared.address);
    let target = server_key(part.member.server.name, rtype, dns);
    let id = publish_key_id(&target);
    if draft.has_step(&id) {
        waits.push(Wait::Step(id));
    } else if !target_resolves(board, dns, part.member) {
        waits.push(Wait::Served(target));
    }
}

fn publish_part(
    world: &World<'_>,
    key: &RecordKey,
    part: &Part<'_, '_>,
    waits: Vec<Wait>,
    draft: &mut Draft,
) -> StepId {
    let server = part.member.server.name;
    let id = publish_id(key, part.group.name, server);
    let because = if waits.is_empty() {
        format!("{}@{server} is healthy", part.group.name)
    } else {
        format!("once {}@{server} is healthy", part.group.name)
    };
    let action = Action::Publish {
        record: key.clone(),
    };
    draft.push(Step {
        waits,
        part_of: part_of(part),
        ..record_step(world, id.clone(), action, because, part.group.place())
    });
    id
}

fn withdraw_part(
    world: &World<'_>,
    key: &RecordKey,
    part: &Part<'_, '_>,
    waits: Vec<Wait>,
    draft: &mut Draft,
) -> StepId {
    let server = part.member.server.name;
    let id = withdraw_id(key, part.group.name, server);
    let because = if part.member.listing.dips {
        format!("{}@{server} is updated next", part.group.name)
    } else if part.member.listing.later == Some(false) || part.now == Now::Out {
        format!("{}@{server} goes", part.group.name)
    } else if is_out(part.group, part.member) {
        format!("{server} is drained")
    } else {
        format!("{}@{server} is not healthy", part.group.name)
    };
    let action = Action::Withdraw {
        record: key.clone(),
    };
    draft.push(Step {
        waits,
        part_of: part_of(part),
        ..record_step(world, id.clone(), action, because, part.group.place())
    });
    id
}

fn withdraw_former(
    world: &World<'_>,
    key: &RecordKey,
    part: &Part<'_, '_>,
    waits: Vec<Wait>,
    draft: &mut Draft,
) -> StepId {
    let server = part.member.server;
    let was = server
        .declared
        .and_then(|d| d.was.as_ref())
        .unwrap_or(server.name);
    let id = withdraw_id(key, part.group.name, was);
    let because = format!("{was} is called {} now", server.name);
    let action = Action::Withdraw {
        record: key.clone(),
    };
    draft.push(Step {
        waits,
        ..record_step(world, id.clone(), action, because, part.group.place())
    });
    id
}

/// Health comes and goes without a move.
fn part_of(part: &Part<'_, '_>) -> Option<Move> {
    let sick = part.now == Now::Sick && part.entry.served.first;
    part.member.part_of.clone().filter(|_| !sick)
}

/// A step that writes a record; it waits for nothing and is part of no move unless the caller says so.
pub(crate) fn record_step(
    world: &World<'_>,
    id: StepId,
    action: Action,
    because: String,
    place: Option<&Place>,
) -> Step {
    Step {
        id,
        action,
        waits: Vec::new(),
        part_of: None,
        because,
        place: place.cloned(),
        deadline: world.policy.record_step,
    }
}

/// Notes a write; refused where the mark begins like ours and can't be read.
pub(crate) fn write(
    board: &Board<'_>,
    key: &RecordKey,
    want: Option<RecordSet>,
    steps: Vec<StepId>,
    place: Option<&Place>,
    writes: &mut Writes,
    draft: &mut Draft,
) {
    let first = board
        .observed(key)
        .and_then(|record| record.servers.first());
    let mark = first.and_then(|server| server.served.as_ref()?.mark.clone());
    if mark
        .as_ref()
        .is_some_and(|mark| Mark::from_str(mark).is_err())
    {
        draft.retract(&steps);
        let reason = HoldReason::ForeignRecord {
            record: key.clone(),
        };
        draft.hold(format!("dns:{key}"), reason, place);
        return;
    }
    let planned = PlannedRecord {
        want,
        expect_mark: mark,
        steps,
    };
    writes.insert(key.clone(), planned);
}

/// The steps that take SRV values with this target out, to wait for.
pub(crate) fn target_withdrawals(
    parts: &BTreeMap<&RecordKey, Vec<Part<'_, '_>>>,
    server: &ServerName,
    dns: &DnsDesired,
    draft: &Draft,
) -> Vec<Wait> {
    let name = server_name(server, dns);
    let points =
        |data: &RecordData| matches!(data, RecordData::Srv { target, .. } if *target == name);
    let mut waits = Vec::new();
    for (key, parts) in parts.iter().filter(|(key, _)| key.rtype == RecordType::Srv) {
        for part in parts {
            let former = part.entry.former.as_ref().is_some_and(points);
            if former || points(&part.entry.data) {
                let id = withdraw_id(key, part.group.name, server);
                if draft.has_step(&id) {
                    waits.push(Wait::Step(id));
                }
            }
        }
    }
    waits
}
