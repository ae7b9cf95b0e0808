//! The plan of one site: from the view of it to steps, holds and payloads.

use std::collections::BTreeMap;

use stead_schemas::desired::SiteDesired;
use stead_schemas::names::GroupName;
use stead_schemas::observed::SiteObserved;
use stead_schemas::plan::{HoldReason, SitePlan, StepId, Wait};
use stead_schemas::role::{Role, SiteType};
use stead_schemas::time::WallMs;

use crate::agents::{self, server_about};
use crate::context::{Context, Policy, Scope};
use crate::drain;
use crate::lease_steps;
use crate::members::{self, Group};
use crate::payload;
use crate::place::{self, Placed};
use crate::publish::Board;
use crate::records;
use crate::road::{Draft, publish_id, remove_id};
use crate::world::{Hearing, Seen, Well, World};

/// The road of one site from what is observed to what is desired.
///
/// `desired` is none for a site that is gone from git: everything of it is removed, the site
/// server last. `now` is only compared with times in `observed` and in suspensions.
pub fn plan_site(
    desired: Option<&SiteDesired>,
    observed: &SiteObserved,
    context: &Context,
    now: WallMs,
    policy: &Policy,
) -> SitePlan {
    let world = World::new(desired, observed, context, now, policy);
    let mut draft = Draft::default();
    drain::note(&world, &mut draft);
    if is_stopped(&world, &mut draft) {
        lease_steps::stop_failover(&world, &mut draft);
        return finish(&world, draft, BTreeMap::new(), &[]);
    }
    let mut view = View::new(&world);
    for (group, placed) in &mut view.placed {
        let place = world
            .desired
            .and_then(|d| d.groups.get(*group))
            .map(|g| &g.place);
        for (about, reason) in placed.holds.drain(..) {
            draft.hold(about, reason, place);
        }
        if let Some(at) = placed.wake {
            draft.wake(at);
        }
    }
    note_silence(&world, &view.groups, &mut draft);
    note_implied_provider(&world, &mut draft);
    decide_groups(&world, &mut view.groups, &mut draft);
    lease_steps::decide(&world, &view.groups, &mut draft);
    let records = records::plan_records(&world, &view.board, &view.groups, &mut draft);
    finish(&world, draft, records, &view.groups)
}

/// Groups and records of a site side by side; shared by the plan and the views made from it.
pub(crate) struct View<'a> {
    pub(crate) placed: BTreeMap<&'a GroupName, Placed<'a>>,
    pub(crate) groups: Vec<Group<'a>>,
    pub(crate) board: Board<'a>,
}

impl<'a> View<'a> {
    pub(crate) fn new(world: &'a World<'a>) -> Self {
        let holders = world.holders();
        let placed = place::place(world, &holders);
        let board = Board::new(world);
        let groups = members::groups(world, &placed, &holders, &board);
        Self {
            placed,
            groups,
            board,
        }
    }
}

/// What stops the whole site: suspension, self-doubt, protection.
fn is_stopped(world: &World<'_>, draft: &mut Draft) -> bool {
    let context = world.context;
    let suspension = context.suspended.iter().find(|suspension| {
        suspension.holds_at(world.now)
            && match &suspension.scope {
                Scope::All => true,
                Scope::Site(site) => site == world.code,
                Scope::Server(_) => false,
            }
    });
    for until in context
        .suspended
        .iter()
        .filter_map(|s| s.until)
        .filter(|until| *until > world.now)
    {
        draft.wake(until);
    }
    let reason = if let Some(suspension) = suspension {
        suspension.reason()
    } else if world.desired.is_some_and(|site| site.only_observed) {
        HoldReason::OnlyObserved
    } else if world.observed.reconciler_suspect {
        HoldReason::ReconcilerSuspect
    } else if world.desired.is_none() && context.recorded.protected {
        HoldReason::Protected
    } else {
        return false;
    };
    draft.hold(
        world.code.to_string(),
        reason,
        world.desired.map(|site| &site.place),
    );
    true
}

/// A hold for every server that matters and is silent, cut off or refused.
fn note_silence(world: &World<'_>, groups: &[Group<'_>], draft: &mut Draft) {
    for server in world.servers.values() {
        let since = match server.hearing {
            Hearing::Silent { since, .. } => Some(since),
            Hearing::Unclear { since: Some(since) } if !is_unsure(server.contact) => Some(since),
            Hearing::Heard | Hearing::Lost | Hearing::Never | Hearing::Unclear { .. } => None,
        };
        let matters = groups.iter().any(|group| {
            group
                .member(server.name)
                .is_some_and(|m| m.wanted || m.seen == Seen::Held)
        });
        if since.is_some() && matters {
            let reason = HoldReason::UnknownObservation {
                server: server.name.clone(),
                since,
            };
            let place = server.declared.map(|declared| &declared.place);
            draft.hold(server_about(world, server.name), reason, place);
        }
    }
}

/// A moment's silence is not worth a line.
fn is_unsure(contact: Option<stead_schemas::observed::Contact>) -> bool {
    use stead_schemas::observed::Contact;
    matches!(
        contact,
        None | Some(Contact::Unsure { .. } | Contact::Connecting)
    )
}

/// Site servers imply an SMS Provider (SS-6, PR-1), which has no program yet (H28).
fn note_implied_provider(world: &World<'_>, draft: &mut Draft) {
    let Some(site) = world
        .desired
        .filter(|site| site.site_type != SiteType::Secondary)
    else {
        return;
    };
    let declared = site
        .groups
        .values()
        .any(|group| group.role == Role::SmsProvider);
    if let Some(site_server) = site.site_server.as_ref().filter(|_| !declared) {
        let about = format!("{}/smsProvider@{}", world.code, site_server.active);
        let reason = HoldReason::NoProgram {
            role: Role::SmsProvider,
        };
        draft.hold(about, reason, Some(&site_server.place));
    }
}

/// Client roles first; where the whole site goes, its site server waits for them.
fn decide_groups<'a>(world: &World<'a>, groups: &mut [Group<'a>], draft: &mut Draft) {
    let mut before = Vec::new();
    let mut held = false;
    for group in groups.iter_mut().filter(|group| !group.is_site_server()) {
        agents::decide(world, group, &[], draft);
        if world.desired.is_some() {
            continue;
        }
        for (instance, seen) in agents::remaining(world, group) {
            let id = remove_id(&instance.group, &instance.server);
            match seen {
                Seen::Present if draft.has_step(&id) => before.push(Wait::Step(id)),
                Seen::Stopping => before.push(Wait::Gone(instance)),
                Seen::Absent | Seen::Held | Seen::Present | Seen::Unknown => held = true,
            }
        }
    }
    for group in groups.iter_mut().filter(|group| group.is_site_server()) {
        if !held {
            agents::decide(world, group, &before, draft);
        }
    }
}

/// The instance whose health a publishing step waits for, unless it is well.
fn health_behind(world: &World<'_>, groups: &[Group<'_>], id: &StepId) -> Option<Wait> {
    let mut members = groups
        .iter()
        .flat_map(|g| g.members.iter().map(move |m| (g, m)));
    let (group, member) = members.find(|(group, member)| {
        let server = member.server.name;
        member
            .entries
            .iter()
            .any(|entry| publish_id(&entry.key, group.name, server) == *id)
    })?;
    (member.well != Well::Healthy).then(|| agents::healthy(world, group, member))
}

fn finish(
    world: &World<'_>,
    mut draft: Draft,
    records: BTreeMap<stead_schemas::record::RecordKey, stead_schemas::plan::PlannedRecord>,
    groups: &[Group<'_>],
) -> SitePlan {
    draft.mend(|id| health_behind(world, groups, id));
    let draft = draft.into_order();
    let assignments = payload::assignments(world, groups, &draft);
    SitePlan {
        site: world.code.clone(),
        revision: world.context.revision.to_string(),
        steps: draft.steps,
        holds: draft.holds,
        assignments,
        records,
        checks: draft.checks,
        wake_at: draft.wake_at,
    }
}
