//! What happens to each instance of a group: stays, comes, changes or goes; and the agent steps.
//!
//! A move is install, healthy, publish, withdraw, drain, remove (design section 4). A role that
//! may not overlap is removed first (H8); the site server by switch-over (H14). Record steps are
//! made in `records` from the listings decided here.

use std::collections::BTreeSet;

use stead_schemas::names::{InstanceName, ServerName};
use stead_schemas::plan::{Action, HoldReason, Move, Step, Wait};

use crate::members::{Group, Listing, Member, Now};
use crate::publish::Standing;
use crate::road::{
    Draft, add_wait, drain_id, install_id, publish_id, remove_id, switch_id, update_id, withdraw_id,
};
use crate::updates;
use crate::world::{Hearing, Seen, Well, World};

/// Why an instance that is there goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    /// The group is gone from git.
    Going,
    /// Its place was taken while its server was lost.
    Leftover,
    /// Another server takes its place: the member's index.
    MovedTo(usize),
    /// There are to be fewer.
    Removal,
}

/// Decides every member of a group: sets its listing and drafts its agent steps.
pub(crate) fn decide<'a>(
    world: &World<'a>,
    group: &mut Group<'a>,
    before: &[Wait],
    draft: &mut Draft,
) {
    if let Some(reason) = group.frozen.clone() {
        let about = format!("{}/{}", world.code, group.name);
        draft.hold(about, reason, group.place());
        return;
    }
    pair_moves(world, group);
    let blocked: Vec<bool> = (0..group.members.len())
        .map(|index| install_is_blocked(world, group, &group.members[index], draft))
        .collect();
    let mut listings = Vec::with_capacity(group.members.len());
    for index in 0..group.members.len() {
        listings.push(listing(world, group, index, &blocked, before, draft));
    }
    updates::decide(world, group, &mut listings, draft);
    for (member, listing) in group.members.iter_mut().zip(listings) {
        member.listing = listing;
    }
}

/// Sets both ends of every move: who left where the group was last settled, and who came.
fn pair_moves(world: &World<'_>, group: &mut Group<'_>) {
    if group.going {
        return;
    }
    let settled = world.context.recorded.placed.get(group.name);
    let was_there = |member: &Member<'_>| match settled {
        Some(placed) => placed.contains(member.server.name),
        None => matches!(member.seen, Seen::Present | Seen::Held | Seen::Stopping),
    };
    let wanted: BTreeSet<&ServerName> = group.wanted().map(|m| m.server.name).collect();
    let mut left: BTreeSet<ServerName> = group
        .members
        .iter()
        .filter(|m| !m.wanted && was_there(m))
        .map(|m| m.server.name.clone())
        .collect();
    left.extend(
        settled
            .into_iter()
            .flatten()
            .filter(|s| !wanted.contains(s))
            .cloned(),
    );
    let came: Vec<ServerName> = group
        .members
        .iter()
        .filter(|m| m.wanted && !was_there(m))
        .map(|m| m.server.name.clone())
        .collect();
    for (from, to) in left.into_iter().zip(came) {
        let pair = Move {
            group: group.name.clone(),
            from,
            to,
        };
        for member in &mut group.members {
            if *member.server.name == pair.from || *member.server.name == pair.to {
                member.part_of = Some(pair.clone());
            }
        }
    }
}

/// Whether an instance that should come can't; says why.
fn install_is_blocked(
    world: &World<'_>,
    group: &Group<'_>,
    member: &Member<'_>,
    draft: &mut Draft,
) -> bool {
    if !member.wanted || matches!(member.seen, Seen::Present | Seen::Held) {
        return false;
    }
    let reason = if !member.server.is_heard() {
        Some((server_about(world, member.server.name), not_heard(member)))
    } else if let Some(held) = change_held(world, member) {
        Some(held)
    } else if group.is_site_server() {
        crate::site_server::old_active(world, member).map(|reason| {
            (
                world.instance(group.name, member.server.name).to_string(),
                reason,
            )
        })
    } else if group.may_overlap() {
        None
    } else {
        may_run_elsewhere(world, group)
    };
    match reason {
        Some((about, reason)) => {
            draft.hold(about, reason, group.place());
            true
        }
        None => false,
    }
}

fn not_heard(member: &Member<'_>) -> HoldReason {
    let server = member.server.name.clone();
    match member.server.hearing {
        Hearing::Never => HoldReason::AwaitingJoin { server },
        Hearing::Silent { since, .. } => HoldReason::UnknownObservation {
            server,
            since: Some(since),
        },
        Hearing::Unclear { since } => HoldReason::UnknownObservation { server, since },
        Hearing::Heard | Hearing::Lost => HoldReason::UnknownObservation {
            server,
            since: None,
        },
    }
}

pub(crate) fn server_about(world: &World<'_>, server: &ServerName) -> String {
    format!("{}/{server}", world.code)
}

/// Why nothing may change at a server now, and what that is about.
pub(crate) fn change_held(world: &World<'_>, member: &Member<'_>) -> Option<(String, HoldReason)> {
    if let Some(reason) = &world.context.permits.changes {
        return Some((world.code.to_string(), reason.clone()));
    }
    let suspension = member.server.suspended?;
    Some((server_about(world, member.server.name), suspension.reason()))
}

/// A server that may still run a role that may not run twice (H8).
fn may_run_elsewhere(world: &World<'_>, group: &Group<'_>) -> Option<(String, HoldReason)> {
    for member in group
        .members
        .iter()
        .filter(|m| !m.wanted && m.seen == Seen::Held)
    {
        let server = member.server.name.clone();
        let about = world.instance(group.name, &server).to_string();
        return Some(match member.server.hearing {
            Hearing::Silent { .. } => (
                about,
                HoldReason::NeedsConfirmLost {
                    server,
                    role: group.role,
                },
            ),
            _ => (about, not_heard(member)),
        });
    }
    world
        .servers
        .values()
        .find(|s| s.report.is_none() && matches!(s.hearing, Hearing::Unclear { .. }))
        .map(|s| {
            let reason = HoldReason::UnknownObservation {
                server: s.name.clone(),
                since: None,
            };
            (server_about(world, s.name), reason)
        })
}

fn listing(
    world: &World<'_>,
    group: &Group<'_>,
    index: usize,
    blocked: &[bool],
    before: &[Wait],
    draft: &mut Draft,
) -> Listing {
    let member = &group.members[index];
    match (member.wanted, member.seen) {
        (true, Seen::Present) => present(world, group, member, draft),
        (true, Seen::Absent | Seen::Stopping) if !blocked[index] => {
            install(world, group, member, draft)
        }
        (true, Seen::Held) if member.well == Well::Sick => Listing {
            now: Now::Sick,
            later: Some(true),
            publish_waits: vec![healthy(world, group, member)],
            ..Listing::default()
        },
        (true, _) if member.well == Well::Unclear => Listing::default(),
        (true, _) => Listing {
            now: Now::Sick,
            ..Listing::default()
        },
        (false, Seen::Present) => leave(world, group, index, blocked, before, draft),
        (false, _) if member.well == Well::Unclear => Listing::default(),
        (false, _) if group.going || group.wanted().any(Member::is_settled) => Listing {
            now: Now::Out,
            later: Some(false),
            ..Listing::default()
        },
        (false, _) => Listing {
            now: Now::Sick,
            ..Listing::default()
        },
    }
}

pub(crate) fn healthy(world: &World<'_>, group: &Group<'_>, member: &Member<'_>) -> Wait {
    Wait::Healthy(world.instance(group.name, member.server.name))
}

/// One that is where it should be; a pending update is added later.
fn present(
    world: &World<'_>,
    group: &Group<'_>,
    member: &Member<'_>,
    draft: &mut Draft,
) -> Listing {
    if member.well == Well::Sick {
        note_sick(world, group, member, draft);
    }
    Listing {
        now: by_health(member),
        later: (member.well != Well::Unclear || !member.is_served()).then_some(true),
        publish_waits: vec![healthy(world, group, member)],
        ..Listing::default()
    }
}

fn by_health(member: &Member<'_>) -> Now {
    match member.well {
        Well::Healthy => Now::In,
        Well::Sick => Now::Sick,
        Well::Unclear => Now::AsServed,
    }
}

/// A start takes its time; what failed is told.
fn note_sick(world: &World<'_>, group: &Group<'_>, member: &Member<'_>, draft: &mut Draft) {
    use stead_schemas::wire::{Health, Phase};
    let Some(report) = member.report else {
        return;
    };
    let starting = matches!(
        report.phase,
        Phase::Fetching | Phase::Starting | Phase::Stopping
    );
    if starting && report.health != Health::Unhealthy {
        return;
    }
    let instance = world.instance(group.name, member.server.name);
    let reason = HoldReason::Unhealthy {
        instance: instance.clone(),
        message: report.message.clone(),
    };
    draft.hold(instance.to_string(), reason, group.place());
}

fn install(
    world: &World<'_>,
    group: &Group<'_>,
    member: &Member<'_>,
    draft: &mut Draft,
) -> Listing {
    let mut waits = Vec::new();
    if !group.may_overlap() {
        let ending = group
            .members
            .iter()
            .filter(|m| !m.wanted && matches!(m.seen, Seen::Present | Seen::Stopping));
        waits.extend(ending.map(|m| Wait::Gone(world.instance(group.name, m.server.name))));
    }
    let because = match &member.part_of {
        Some(pair) => format!("takes the place of {}", pair.from),
        None => format!("declared on {}", member.server.name),
    };
    draft.steps.push(Step {
        id: install_id(group.name, member.server.name),
        action: Action::Install {
            group: group.name.clone(),
            server: member.server.name.clone(),
        },
        waits,
        part_of: member.part_of.clone(),
        because,
        place: group.place().cloned(),
        deadline: world.policy.agent_step,
    });
    Listing {
        now: Now::Sick,
        later: Some(true),
        publish_waits: vec![healthy(world, group, member)],
        ..Listing::default()
    }
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
fn leave(
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
    if let Some((about, reason)) = leave_held(world, group, member, exit) {
        draft.hold(about, reason, group.place());
        return stays;
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
    let mut waits = settle_waits(world, group, exit);
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

fn leave_held(
    world: &World<'_>,
    group: &Group<'_>,
    member: &Member<'_>,
    exit: Exit,
) -> Option<(String, HoldReason)> {
    if let Some(held) = change_held(world, member) {
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
        Some(reason) if counted => {
            let about = world.instance(group.name, member.server.name);
            Some((about.to_string(), reason.clone()))
        }
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
            let there = group.wanted().find(|m| m.seen == Seen::Present);
            match there.or_else(|| group.wanted().next()) {
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
    if let Some(withdrawn) = world
        .observed
        .withdrawn
        .get(&key)
        .filter(|_| waits.is_empty())
    {
        let ttl = stead_schemas::time::DurationMs::seconds(u64::from(withdrawn.ttl_s));
        let end = withdrawn.since.plus(ttl).plus(group.drain_wait());
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
    draft.steps.push(Step {
        id: id.clone(),
        action: Action::Drain {
            group: group.name.clone(),
            server: server.clone(),
        },
        waits,
        part_of: member.part_of.clone(),
        because: format!(
            "resolvers may hand it out for its TTL, then {}",
            group.drain_wait()
        ),
        place: group.place().cloned(),
        deadline: world.policy.record_step,
    });
    Some(Wait::Step(id))
}

fn remove(
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
    let (id, action) = match (group.is_site_server(), group.wanted().next()) {
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
    draft.steps.push(Step {
        id,
        action,
        waits,
        part_of,
        because,
        place: group.place().cloned(),
        deadline: world.policy.agent_step,
    });
}

/// The instances of a group that are there or may be.
pub(crate) fn remaining(world: &World<'_>, group: &Group<'_>) -> Vec<(InstanceName, Seen)> {
    group
        .members
        .iter()
        .filter(|m| matches!(m.seen, Seen::Present | Seen::Stopping | Seen::Held))
        .map(|m| (world.instance(group.name, m.server.name), m.seen))
        .collect()
}
