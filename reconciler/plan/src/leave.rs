//! Instances that go: why, when, and in which order.
//!
//! Withdraw, drain, remove (H27); first of all where two may not run (H8, H14). Which instances go
//! is placement's choice; here it is only carried out, or held.

use stead_schemas::plan::{Action, HoldReason, Move, Step, Wait};
use stead_schemas::time::DurationMs;

use crate::agents::{change_held, healthy, server_about};
use crate::drain::is_out;
use crate::lease_steps;
use crate::members::{Group, Listing, Member, Now};
use crate::publish::Standing;
use crate::readings::longest_ttl;
use crate::road::{
    Draft, add_wait, drain_id, publish_id, remove_id, switch_id, update_id, withdraw_id,
};
use crate::world::{Seen, Well, World};

/// Why an instance that is there goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The group is gone from git.
    Going,
    /// Its place was taken before, while its server was lost or in a move that was overtaken.
    Leftover,
    /// Another server takes its place: the member's index.
    MovedTo(usize),
    /// There are to be fewer.
    Removal,
}

fn exit(world: &World<'_>, group: &Group<'_>, member: &Member<'_>) -> Exit {
    if group.going {
        return Exit::Going;
    }
    if let Some(pair) = &member.part_of {
        let to = group.members.iter().position(|m| *m.server.name == pair.to);
        return to.map_or(Exit::Removal, Exit::MovedTo);
    }
    match world.context.recorded.placed.get(group.name) {
        Some(placed) if !placed.contains(member.server.name) => Exit::Leftover,
        Some(_) | None => Exit::Removal,
    }
}

/// One that is there and should not be.
pub(crate) fn leave(
    world: &World<'_>,
    group: &Group<'_>,
    index: usize,
    blocked: &[bool],
    before: &[Wait],
    draft: &mut Draft,
) -> Listing {
    let member = &group.members[index];
    let exit = exit(world, group, member);
    let stays = Listing {
        now: match member.well {
            Well::Sick => Now::Sick,
            Well::Healthy | Well::Unclear => Now::AsServed,
        },
        ..Listing::default()
    };
    if let Some((about, reason)) = leave_held(world, member, exit) {
        draft.hold(about, reason, group.place());
        return stays;
    }
    if group.leased {
        return lease_steps::leave(world, group, member, exit, stays, draft);
    }
    let replaced = match exit {
        Exit::MovedTo(to) => blocked[to],
        Exit::Going => false,
        Exit::Leftover | Exit::Removal => group
            .members
            .iter()
            .zip(blocked)
            .all(|(m, b)| !m.wanted || *b),
    };
    if replaced {
        return stays;
    }
    if goes_first(group, exit) {
        remove(world, group, member, exit, Vec::new(), draft);
        return stays;
    }
    let mut waits = if is_idle(group, member) {
        Vec::new()
    } else {
        settle_waits(world, group, exit)
    };
    waits.extend(before.iter().cloned());
    let go = waits.is_empty();
    let drained = drain(world, group, member, &waits, draft);
    let remove_waits = drained.map_or_else(|| waits.clone(), |step| vec![step]);
    remove(world, group, member, exit, remove_waits, draft);
    Listing {
        now: if go { Now::Out } else { stays.now },
        later: Some(false),
        withdraw_waits: waits,
        ..Listing::default()
    }
}

/// Whether nobody is sent to it while others of a published group serve: it can go at once.
fn is_idle(group: &Group<'_>, member: &Member<'_>) -> bool {
    !member.entries.is_empty() && !member.is_served() && group.wanted().any(Member::serves)
}

/// Whether it is stopped without waiting for another: where two may not run, and none of the
/// group's own is there to keep serving.
fn goes_first(group: &Group<'_>, exit: Exit) -> bool {
    let alone = !group.wanted().any(|m| m.seen == Seen::Present);
    match exit {
        Exit::Going => false,
        _ if group.is_site_server() => true,
        Exit::Leftover => !group.may_overlap(),
        Exit::MovedTo(_) | Exit::Removal => !group.may_overlap() && alone,
    }
}

fn leave_held(world: &World<'_>, member: &Member<'_>, exit: Exit) -> Option<(String, HoldReason)> {
    if let Some(held) = change_held(world, member.server) {
        return Some(held);
    }
    let recorded = &world.context.recorded;
    if member.server.declared.is_none()
        && world.desired.is_some()
        && recorded.protected_servers.contains(member.server.name)
    {
        return Some((
            server_about(world, member.server.name),
            HoldReason::Protected,
        ));
    }
    let counted = matches!(exit, Exit::Going | Exit::Removal);
    match &world.context.permits.removals {
        Some(reason) if counted => Some((world.code.to_string(), reason.clone())),
        Some(_) | None => None,
    }
}

/// What must be so before clients are turned away from an instance that goes; empty: it is.
fn settle_waits(world: &World<'_>, group: &Group<'_>, exit: Exit) -> Vec<Wait> {
    let on = match exit {
        Exit::Going => return Vec::new(),
        Exit::MovedTo(to) if group.may_overlap() => &group.members[to],
        Exit::MovedTo(_) | Exit::Leftover | Exit::Removal => {
            if group.wanted().any(Member::is_settled) {
                return Vec::new();
            }
            let in_service = || group.wanted().filter(|m| !is_out(group, m));
            let there = in_service().find(|m| m.seen == Seen::Present);
            match there.or_else(|| in_service().next()) {
                Some(member) => member,
                None => return Vec::new(),
            }
        }
    };
    let mut waits = Vec::new();
    if on.is_settled() {
        return waits;
    }
    if on.seen == Seen::Present && on.outdated {
        waits.push(Wait::Step(update_id(group.name, on.server.name)));
    }
    published_waits(group, on, &mut waits);
    if waits.is_empty() || on.entries.is_empty() && on.well != Well::Healthy {
        add_wait(&mut waits, healthy(world, group, on));
    }
    waits
}

/// That every DNS server hands a member out.
pub(crate) fn published_waits(group: &Group<'_>, member: &Member<'_>, waits: &mut Vec<Wait>) {
    for entry in &member.entries {
        let wait = match entry.standing {
            _ if entry.is_served_or_foreign() => continue,
            Standing::Free | Standing::Ours if !entry.served.first => {
                Wait::Step(publish_id(&entry.key, group.name, member.server.name))
            }
            _ => Wait::Served(entry.key.clone()),
        };
        add_wait(waits, wait);
    }
}

/// Drafts the wait until no resolver hands a member out any more (H27); none: it is so.
pub(crate) fn drain(
    world: &World<'_>,
    group: &Group<'_>,
    member: &Member<'_>,
    before: &[Wait],
    draft: &mut Draft,
) -> Option<Wait> {
    let server = member.server.name;
    let mut waits = Vec::new();
    for entry in &member.entries {
        match entry.standing {
            Standing::Foreign => {}
            _ if !entry.served.any => {}
            Standing::Ours if entry.served.first => {
                add_wait(
                    &mut waits,
                    Wait::Step(withdraw_id(&entry.key, group.name, server)),
                );
            }
            _ => add_wait(&mut waits, Wait::Served(entry.key.clone())),
        }
    }
    let key = (group.name.clone(), server.clone());
    let withdrawn = world.observed.withdrawn.get(&key);
    let served = member
        .entries
        .iter()
        .map(|entry| longest_ttl(world.observed, entry));
    let ttl = served
        .flatten()
        .chain(withdrawn.map(|w| w.ttl_s))
        .max()
        .unwrap_or(0);
    let ttl = DurationMs::seconds(u64::from(ttl));
    let lasts = DurationMs(ttl.0 + group.drain_wait().0);
    if let Some(withdrawn) = withdrawn.filter(|_| waits.is_empty()) {
        let end = withdrawn.since.plus(lasts);
        if world.now < end {
            waits.push(Wait::Until(end));
            draft.wake(end);
        }
    }
    if waits.is_empty() {
        return None;
    }
    let withdraws = waits.iter().any(|wait| matches!(wait, Wait::Step(_)));
    for wait in before.iter().filter(|_| !withdraws) {
        add_wait(&mut waits, wait.clone());
    }
    let id = drain_id(group.name, server);
    draft.push(Step {
        id: id.clone(),
        action: Action::Drain {
            group: group.name.clone(),
            server: server.clone(),
        },
        waits,
        part_of: member.part_of.clone(),
        because: format!("TTL {ttl} last served, then {}", group.drain_wait()),
        place: group.place().cloned(),
        deadline: lasts,
    });
    Some(Wait::Step(id))
}

pub(crate) fn remove(
    world: &World<'_>,
    group: &Group<'_>,
    member: &Member<'_>,
    exit: Exit,
    waits: Vec<Wait>,
    draft: &mut Draft,
) {
    let server = member.server.name.clone();
    let interrupts = !group.may_overlap() && exit != Exit::Going;
    let (because, part_of) = match exit {
        Exit::Going => (format!("{} is gone from git", group.name), None),
        Exit::Removal => (format!("no longer declared on {server}"), None),
        Exit::MovedTo(to) => {
            let to = group.members[to].server.name;
            let note = if interrupts {
                "; it may not run twice: interruption until healthy there"
            } else {
                ""
            };
            (
                format!("{to} takes its place{note}"),
                member.part_of.clone(),
            )
        }
        Exit::Leftover => {
            let to = group.wanted().next().map_or(&server, |m| m.server.name);
            let pair = Move {
                group: group.name.clone(),
                from: server.clone(),
                to: to.clone(),
            };
            (
                "its place was taken while the server was lost".to_owned(),
                Some(pair),
            )
        }
    };
    let switches = group.is_site_server() && !group.leased;
    let (id, action) = match (switches, group.wanted().next()) {
        (true, Some(to)) => {
            let (from, to) = (server, to.server.name.clone());
            (
                switch_id(group.name, &from, &to),
                Action::SwitchOver { from, to },
            )
        }
        _ => (
            remove_id(group.name, &server),
            Action::Remove {
                group: group.name.clone(),
                server,
            },
        ),
    };
    draft.push(Step {
        id,
        action,
        waits,
        part_of,
        because,
        place: group.place().cloned(),
        deadline: world.policy.agent_step,
    });
}
