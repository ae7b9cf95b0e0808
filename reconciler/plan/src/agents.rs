//! What happens to each instance of a group: stays, comes, changes or goes; and the agent steps.
//!
//! A move is install, healthy, publish, withdraw, drain, remove (design section 4). A role that
//! may not overlap is removed first (H8); the site server by switch-over (H14). Record steps are
//! made in `records` from the listings decided here.

use std::collections::BTreeSet;

use stead_schemas::names::{InstanceName, ServerName};
use stead_schemas::plan::{Action, HoldReason, Move, Step, Wait};

use crate::members::{Group, Listing, Member, Now};
use crate::prerequisites::{self, Fitness};
use crate::road::{Draft, check_id, install_id};
use crate::world::{Hearing, Seen, Server, Well, World};
use crate::{drain, lease, lease_steps, leave, updates};

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
        .map(|index| {
            let member = &group.members[index];
            // Nobody can wait for one that is out of service to serve.
            install_is_blocked(world, group, member, draft)
                || member.wanted && drain::is_out(group, member)
        })
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
        Some((
            server_about(world, member.server.name),
            not_heard(member.server),
        ))
    } else if let Some(held) = change_held(world, member.server) {
        Some(held)
    } else if let Some(drain) = member.server.drained {
        let server = member.server.name;
        Some((server_about(world, server), drain.reason(server)))
    } else if group.is_site_server() && !group.leased {
        crate::site_server::old_active(world, member.server).map(|reason| {
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
        None if group.is_site_server() => {
            prerequisites::fitness(world, member.server, draft) == Fitness::Unfit
        }
        None => false,
    }
}

pub(crate) fn not_heard(silent: &Server<'_>) -> HoldReason {
    let server = silent.name.clone();
    match silent.hearing {
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
pub(crate) fn change_held(world: &World<'_>, server: &Server<'_>) -> Option<(String, HoldReason)> {
    if let Some(reason) = &world.context.permits.changes {
        return Some((world.code.to_string(), reason.clone()));
    }
    let suspension = server.suspended?;
    Some((server_about(world, server.name), suspension.reason()))
}

/// A server that may still run a role that may not run twice (H8).
fn may_run_elsewhere(world: &World<'_>, group: &Group<'_>) -> Option<(String, HoldReason)> {
    let held = group
        .members
        .iter()
        .find(|member| !member.wanted && member.seen == Seen::Held);
    if let Some(member) = held {
        let server = member.server.name.clone();
        let about = world.instance(group.name, &server).to_string();
        let reason = match member.server.hearing {
            Hearing::Silent { .. } => HoldReason::NeedsConfirmLost {
                server,
                role: group.role,
            },
            _ => not_heard(member.server),
        };
        return Some((about, reason));
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
        (true, Seen::Present | Seen::Held) if drain::is_out(group, member) => {
            drain::listing(world, group, member, draft)
        }
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
        (false, Seen::Present) => leave::leave(world, group, index, blocked, before, draft),
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
    let mut listing = Listing {
        now: by_health(member),
        later: (member.well != Well::Unclear || !member.is_served()).then_some(true),
        publish_waits: vec![healthy(world, group, member)],
        ..Listing::default()
    };
    if group.leased && lease::decides(world) {
        // The alias is its holder's to write until the lease has ended (H22).
        listing.now = Now::AsServed;
        listing.publish_waits.push(lease_steps::all_vote(world));
    }
    listing
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
    let check = check_id(member.server.name);
    if group.is_site_server() && draft.has_step(&check) {
        waits.push(Wait::Step(check));
    }
    let because = match &member.part_of {
        Some(pair) => format!("takes the place of {}", pair.from),
        None => format!("declared on {}", member.server.name),
    };
    draft.push(Step {
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

/// The instances of a group that are there or may be.
pub(crate) fn remaining(world: &World<'_>, group: &Group<'_>) -> Vec<(InstanceName, Seen)> {
    group
        .members
        .iter()
        .filter(|m| matches!(m.seen, Seen::Present | Seen::Stopping | Seen::Held))
        .map(|m| (world.instance(group.name, m.server.name), m.seen))
        .collect()
}
