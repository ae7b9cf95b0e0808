//! Updates in place, one instance of a group after another.
//!
//! What does not serve is updated at once. What serves leaves DNS first, where another one serves
//! meanwhile, and comes back before the next; an only one is restarted as it is, which is an
//! interruption and said so. An update that leaves an instance unhealthy stops the rest.

use stead_schemas::plan::{Action, HoldReason, Step, Wait};

use crate::agents::{change_held, healthy};
use crate::drain::is_out;
use crate::leave::{drain, published_waits};
use crate::members::{Group, Listing, Member, Now};
use crate::prerequisites::has_site_server;
use crate::publish::Standing;
use crate::road::{Draft, add_wait, check_id, install_id, publish_id, update_id};
use crate::world::{Seen, Well, World};

/// Drafts the updates of a group and corrects the listings of those concerned.
pub(crate) fn decide(
    world: &World<'_>,
    group: &Group<'_>,
    listings: &mut [Listing],
    draft: &mut Draft,
) {
    if !group.members.iter().any(is_outdated) {
        return;
    }
    let mut before = in_flux(world, group, draft);
    let mut serving = Vec::new();
    for (index, member) in group
        .members
        .iter()
        .enumerate()
        .filter(|(_, m)| is_outdated(m))
    {
        if let Some((about, reason)) = change_held(world, member.server) {
            draft.hold(about, reason, group.place());
        } else if member.server.drained.is_some() {
            // The drain has its own hold: what is to be switched off is not changed.
        } else if member.seen == Seen::Held {
            // The silence has its own hold.
        } else if member.well == Well::Healthy || member.is_served() && member.well != Well::Sick {
            serving.push(index);
        } else {
            push_update(
                world,
                group,
                member,
                Vec::new(),
                "it does not serve now",
                draft,
            );
            add_wait(
                &mut before,
                Wait::Step(update_id(group.name, member.server.name)),
            );
            add_wait(&mut before, healthy(world, group, member));
        }
    }
    // Those nobody needs now first; the active site server last.
    serving.sort_by_key(|index| {
        let member = &group.members[*index];
        let active = group.leased && world.lease.is_holder(member.server.name);
        (member.is_served(), active, *index)
    });
    for index in serving {
        one_serving(world, group, index, &mut before, listings, draft);
    }
}

fn is_outdated(member: &Member<'_>) -> bool {
    member.outdated && matches!(member.seen, Seen::Present | Seen::Held)
}

/// Those that come, or were changed already, and do not serve yet: until they do, nothing else is
/// changed.
fn in_flux(world: &World<'_>, group: &Group<'_>, draft: &Draft) -> Vec<Wait> {
    let mut waits = Vec::new();
    for member in group.wanted() {
        let id = install_id(group.name, member.server.name);
        let check = Wait::Step(check_id(member.server.name));
        let comes = |step: &Step| step.id == id && step.waits.iter().all(|wait| *wait == check);
        if draft.steps.iter().any(comes) {
            add_wait(&mut waits, healthy(world, group, member));
            published_waits(group, member, &mut waits);
        }
    }
    for member in group
        .wanted()
        .filter(|m| m.seen == Seen::Present && !m.outdated && !is_out(group, m))
    {
        if member.well != Well::Healthy || !runs_as_assigned(member) {
            add_wait(&mut waits, healthy(world, group, member));
        }
        published_waits(group, member, &mut waits);
    }
    waits
}

/// Whether the process was started from what is assigned; between an assignment's arrival and the
/// restart a report still shows the old one, healthy.
pub(crate) fn runs_as_assigned(member: &Member<'_>) -> bool {
    match (member.spec, member.report) {
        (Some(spec), Some(report)) => spec.id() == report.spec,
        _ => false,
    }
}

fn one_serving(
    world: &World<'_>,
    group: &Group<'_>,
    index: usize,
    before: &mut Vec<Wait>,
    listings: &mut [Listing],
    draft: &mut Draft,
) {
    let member = &group.members[index];
    let covered = group.members.iter().enumerate().any(|(other, m)| {
        other != index && m.seen == Seen::Present && m.serves() && covers(m, member)
    });
    if !covered && before.is_empty() && group.wanted().nth(1).is_some() {
        if group.leased && !has_site_server(member.server) {
            // The active goes on without a lease; what keeps the passive out has its own hold.
            return;
        }
        let reason = HoldReason::LastHealthy {
            group: group.name.clone(),
        };
        let about = world.instance(group.name, member.server.name).to_string();
        draft.hold(about, reason, group.place());
        return;
    }
    let alone = group.wanted().nth(1).is_none() && !covered;
    if alone || member.entries.is_empty() {
        let because = if alone {
            "declared otherwise; it is the only one: interruption while it restarts"
        } else {
            "declared otherwise"
        };
        push_update(world, group, member, before.clone(), because, draft);
        changed_entries(world, group, member, &mut listings[index]);
    } else {
        dip(world, group, member, before, &mut listings[index], draft);
    }
    add_wait(
        before,
        Wait::Step(update_id(group.name, member.server.name)),
    );
    add_wait(before, healthy(world, group, member));
    if listings[index].dips {
        for entry in &member.entries {
            if matches!(entry.standing, Standing::Free | Standing::Ours) {
                let id = publish_id(&entry.key, group.name, member.server.name);
                add_wait(before, Wait::Step(id));
            }
        }
    }
}

/// Whether clients that look for `other` find `member` as well.
fn covers(member: &Member<'_>, other: &Member<'_>) -> bool {
    other
        .entries
        .iter()
        .all(|entry| member.entries.iter().any(|mine| mine.key == entry.key))
}

/// Where the update changes what the instance is found by, it is published anew.
fn changed_entries(
    world: &World<'_>,
    group: &Group<'_>,
    member: &Member<'_>,
    listing: &mut Listing,
) {
    if member.entries.iter().any(|entry| entry.next.is_some()) {
        listing.publish_waits = vec![
            Wait::Step(update_id(group.name, member.server.name)),
            healthy(world, group, member),
        ];
    }
}

/// Out of DNS, drained, updated, healthy, in again.
fn dip(
    world: &World<'_>,
    group: &Group<'_>,
    member: &Member<'_>,
    before: &[Wait],
    listing: &mut Listing,
    draft: &mut Draft,
) {
    let drained = drain(world, group, member, before, draft);
    let waits = drained.map_or_else(|| before.to_vec(), |step| vec![step]);
    push_update(world, group, member, waits, "declared otherwise", draft);
    *listing = Listing {
        now: if before.is_empty() {
            Now::Out
        } else {
            listing.now
        },
        later: Some(true),
        dips: true,
        withdraw_waits: before.to_vec(),
        publish_waits: vec![
            Wait::Step(update_id(group.name, member.server.name)),
            healthy(world, group, member),
        ],
    };
}

fn push_update(
    world: &World<'_>,
    group: &Group<'_>,
    member: &Member<'_>,
    waits: Vec<Wait>,
    because: &str,
    draft: &mut Draft,
) {
    draft.push(Step {
        id: update_id(group.name, member.server.name),
        action: Action::Update {
            group: group.name.clone(),
            server: member.server.name.clone(),
        },
        waits,
        part_of: None,
        because: because.to_owned(),
        place: group.place().cloned(),
        deadline: world.policy.agent_step,
    });
}
