//! What is to be remembered of a site beside what can be seen.
//!
//! Protection and placement outlive the revision that declared them: a protected thing that
//! vanished stays protected, however many commits follow, until one declares it unprotected.

use stead_schemas::desired::{Placement, SiteDesired, SiteServerDesired};
use stead_schemas::names::GroupName;
use stead_schemas::observed::{SiteObserved, SiteRecorded};
use stead_schemas::plan::{HoldReason, SitePlan};
use stead_schemas::time::WallMs;

use crate::context::Context;
use crate::payload::effect;

/// What to remember after planning; store it where it differs from `context.recorded`.
///
/// `plan` is the plan of `desired`; where the whole site is held nothing is taken over. A group's placement is taken over when
/// no step of it is left; what is gone from git is forgotten when nothing of it is left.
#[must_use]
pub fn recorded_after(
    desired: Option<&SiteDesired>,
    observed: &SiteObserved,
    context: &Context,
    now: WallMs,
    plan: &SitePlan,
) -> SiteRecorded {
    let mut recorded = (*context.recorded).clone();
    let stopped = plan
        .holds
        .iter()
        .any(|hold| hold.about == context.site.as_str());
    if stopped {
        return recorded;
    }
    if let Some(desired) = desired {
        protection(&mut recorded, desired);
        for (group, servers) in crate::placement(desired, observed, context, now) {
            if !is_moving(plan, &group) {
                recorded.placed.insert(group, servers.into_iter().collect());
            }
        }
    }
    recorded.placed.retain(|group, _| {
        desired.is_some_and(|d| d.groups.contains_key(group) || d.site_server.is_some())
            || is_moving(plan, group)
            || desired.is_none() && !plan.is_empty()
    });
    if plan.steps.is_empty() && !is_protected(plan) {
        recorded.objects = desired.map_or(0, objects);
    } else {
        recorded.objects = recorded.objects.max(desired.map_or(0, objects));
    }
    recorded
}

fn protection(recorded: &mut SiteRecorded, desired: &SiteDesired) {
    recorded.protected = desired.protect;
    for (name, server) in &desired.servers {
        if server.protect {
            recorded.protected_servers.insert(name.clone());
        } else {
            recorded.protected_servers.remove(name);
        }
    }
    for (name, group) in &desired.groups {
        if group.protect {
            recorded.protected_groups.insert(name.clone());
        } else {
            recorded.protected_groups.remove(name);
        }
    }
}

fn is_moving(plan: &SitePlan, group: &GroupName) -> bool {
    let by_step = plan.steps.iter().any(|step| {
        effect(&step.action).is_some_and(|(_, name, _)| name == group)
            || step
                .part_of
                .as_ref()
                .is_some_and(|pair| pair.group == *group)
    });
    by_step
        || plan
            .holds
            .iter()
            .any(|hold| hold.about.contains(&format!("/{group}@")))
}

fn is_protected(plan: &SitePlan) -> bool {
    let mut reasons = plan.holds.iter().map(|hold| &hold.reason);
    reasons.any(|reason| matches!(reason, HoldReason::Protected))
}

fn site_servers(site_server: &SiteServerDesired) -> usize {
    let standing_by = site_server.passive.len();
    1 + if site_server.has_lease() {
        standing_by
    } else {
        0
    }
}

/// How many objects a site declares: servers and instances.
#[must_use]
pub fn objects(desired: &SiteDesired) -> u32 {
    let instances = desired.groups.values().map(|group| match &group.placement {
        Placement::ByHand(servers) => servers.len(),
        Placement::ByCount { instances, .. } => usize::from(*instances),
    });
    let count = desired.servers.len()
        + desired.site_server.as_ref().map_or(0, site_servers)
        + instances.sum::<usize>();
    u32::try_from(count).unwrap_or(u32::MAX)
}
