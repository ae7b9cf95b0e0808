//! `status` and `plan`: sites, servers and instances as people see them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use stead_plan::served_instances;
use stead_schemas::api::{
    InstanceView, Need, PlanView, ServerView, SiteState, SiteView, StatusView, instance_of,
};
use stead_schemas::desired::{Place, Placement, SiteDesired};
use stead_schemas::names::{GroupName, ServerName, SiteCode};
use stead_schemas::observed::{Contact, ServerObserved};
use stead_schemas::plan::{Action, Hold, HoldReason, SitePlan};
use stead_schemas::role::Role;
use stead_schemas::time::WallMs;
use stead_schemas::wire::{Health, InstanceReport};

use super::snapshot::{SiteSnapshot, Snapshot};
use super::{drain, lease, prerequisites};
use crate::output::status::hold_reason;

/// The whole status, or that of one site.
pub(super) fn status(snapshot: &Snapshot, only: Option<&SiteCode>) -> StatusView {
    let mut needs = snapshot.needs.clone();
    let mut sites = Vec::new();
    for (code, site) in &snapshot.sites {
        if only.is_some_and(|wanted| wanted != code) {
            continue;
        }
        needs.extend(lease::needs(code, site, snapshot.now));
        needs.extend(site_needs(site, snapshot.now));
        sites.push(site_view(snapshot, code, site));
    }
    StatusView {
        reconciler: snapshot.reconciler.clone(),
        source: snapshot.source.clone(),
        needs_person: needs,
        sites,
    }
}

/// The roads of all sites that have one.
pub(super) fn plan(snapshot: &Snapshot) -> PlanView {
    let plans = snapshot
        .sites
        .values()
        .filter_map(|site| site.plan.as_deref());
    PlanView::of(None, plans)
}

fn site_needs(site: &SiteSnapshot, now: WallMs) -> impl Iterator<Item = Need> {
    let holds = site.plan.iter().flat_map(|plan| &plan.holds);
    holds
        .filter(|hold| hold.reason.needs_person())
        .map(move |hold| Need {
            about: hold.about.clone(),
            text: hold_reason(hold, now),
            remedy: hold.reason.remedy(&hold.about),
        })
}

fn site_view(snapshot: &Snapshot, code: &SiteCode, site: &SiteSnapshot) -> SiteView {
    let desired = site.desired.as_deref();
    let instances = instances(code, site);
    let scope = code.to_string();
    let suspended = snapshot
        .suspensions
        .iter()
        .find(|suspension| suspension.scope.is_empty() || suspension.scope == scope)
        .cloned();
    let state = state(site, &instances, suspended.is_some());
    let declared = desired.and_then(|desired| desired.site_server.as_ref());
    let lease = lease::lease(site);
    let holder = lease.as_ref().and_then(|lease| lease.holder.clone());
    SiteView {
        code: code.clone(),
        site_type: site.site_type,
        parent: desired.and_then(|desired| desired.parent.clone()),
        state,
        revision: site.revision.clone(),
        servers: servers(code, site, snapshot.now),
        active: holder.or_else(|| declared.map(|server| server.active.clone())),
        passive: lease::passive(site),
        lease,
        instances,
        steps: site
            .plan
            .as_ref()
            .map(|plan| plan.steps.clone())
            .unwrap_or_default(),
        holds: site
            .plan
            .as_ref()
            .map(|plan| plan.holds.clone())
            .unwrap_or_default(),
        suspended,
        failure: site.failure.clone(),
    }
}

/// The worst that is so.
fn state(site: &SiteSnapshot, instances: &[InstanceView], suspended: bool) -> SiteState {
    let holds: &[Hold] = site.plan.as_ref().map_or(&[], |plan| plan.holds.as_slice());
    let steps = site.plan.as_ref().is_none_or(|plan| !plan.steps.is_empty());
    let ill =
        |instance: &InstanceView| instance.wanted && instance.health == Some(Health::Unhealthy);
    let unknown = |server: &ServerObserved| server.contact != Contact::Heard;
    let quiet = |hold: &Hold| {
        matches!(
            hold.reason,
            HoldReason::Drained { .. } | HoldReason::NoProgram { .. }
        )
    };
    if site.failure.is_some() || instances.iter().any(ill) {
        SiteState::Degraded
    } else if suspended {
        SiteState::Suspended
    } else if holds.iter().any(|hold| hold.reason.needs_person()) {
        SiteState::Held
    } else if site.observed.servers.values().any(unknown) {
        SiteState::Unknown
    } else if steps || holds.iter().any(|hold| !quiet(hold)) {
        SiteState::Changing
    } else {
        SiteState::Converged
    }
}

fn servers(code: &SiteCode, site: &SiteSnapshot, now: WallMs) -> Vec<ServerView> {
    let view = |(name, seen): (&ServerName, &ServerObserved)| {
        let declared = site
            .desired
            .as_ref()
            .and_then(|desired| desired.servers.get(name));
        ServerView {
            name: name.clone(),
            agent: seen.agent,
            zone: declared
                .and_then(|server| server.zone.as_ref())
                .map(ToString::to_string),
            contact: seen.contact,
            heard_at: seen.heard_at,
            version: seen.report.as_ref().map(|report| report.version.clone()),
            problems: seen
                .report
                .iter()
                .flat_map(|report| &report.problems)
                .chain(site.troubles.get(name))
                .cloned()
                .chain(prerequisites::notes(site, name))
                .collect(),
            declared: declared.is_some(),
            drain: drain::view(code, site, name, now),
        }
    };
    site.observed.servers.iter().map(view).collect()
}

type Key = (GroupName, ServerName);

/// Every instance there is or should be.
fn instances(code: &SiteCode, site: &SiteSnapshot) -> Vec<InstanceView> {
    let published = served_instances(site.desired.as_deref(), &site.observed, &site.context);
    let mut keys: BTreeMap<Key, Option<&InstanceReport>> = BTreeMap::new();
    for (server, seen) in &site.observed.servers {
        for (group, report) in seen.report.iter().flat_map(|report| &report.instances) {
            keys.insert((group.clone(), server.clone()), Some(report));
        }
    }
    let wanted = wanted(site, &keys);
    for key in &wanted {
        keys.entry(key.clone()).or_insert(None);
    }
    keys.into_iter()
        .map(|(key, report)| {
            let is_wanted = wanted.contains(&key);
            let is_published = published.contains_key(&key);
            instance_view(code, site, &key, report, is_wanted, is_published)
        })
        .collect()
}

fn instance_view(
    code: &SiteCode,
    site: &SiteSnapshot,
    (group, server): &Key,
    report: Option<&InstanceReport>,
    wanted: bool,
    published: bool,
) -> InstanceView {
    let heard = site
        .observed
        .servers
        .get(server)
        .is_some_and(|s| s.contact == Contact::Heard);
    let current = report.filter(|_| heard);
    let desired = site.desired.as_deref();
    let (role, place) = declared(desired, group);
    InstanceView {
        name: instance_of(code, group, server),
        role: report
            .map(|report| report.role)
            .or(role)
            .unwrap_or(Role::Custom),
        phase: current.map(|report| report.phase),
        health: current.map(|report| report.health),
        since: current.map(|report| report.since),
        restarts: current.map_or(0, |report| report.restarts),
        pid: current.and_then(|report| report.pid),
        endpoint: report.map(|report| report.endpoint),
        wanted,
        published,
        message: current.and_then(|report| report.message.clone()),
        place,
    }
}

/// The role and the place that declare a group of this name; `siteServer` is declared by itself.
pub(super) fn declared(
    desired: Option<&SiteDesired>,
    group: &GroupName,
) -> (Option<Role>, Option<Place>) {
    let Some(desired) = desired else {
        return (None, None);
    };
    if let Some(group) = desired.groups.get(group) {
        return (Some(group.role), Some(group.place.clone()));
    }
    let site_server = desired
        .site_server
        .as_ref()
        .filter(|_| group.as_str() == "siteServer");
    site_server.map_or((None, None), |server| {
        (Some(Role::SiteServer), Some(server.place.clone()))
    })
}

/// Instances git asks for: placed by hand, about to be installed, or there and not leaving.
fn wanted(site: &SiteSnapshot, there: &BTreeMap<Key, Option<&InstanceReport>>) -> BTreeSet<Key> {
    let Some(desired) = site.desired.as_deref() else {
        return BTreeSet::new();
    };
    let leaving = site
        .plan
        .as_deref()
        .map(|plan| chosen(plan, true))
        .unwrap_or_default();
    let coming = site
        .plan
        .as_deref()
        .map(|plan| chosen(plan, false))
        .unwrap_or_default();
    let by_hand = desired.groups.values().flat_map(|group| {
        let servers: &[ServerName] = match &group.placement {
            Placement::ByHand(servers) => servers,
            Placement::ByCount { .. } => &[],
        };
        servers
            .iter()
            .map(|server| (group.name.clone(), server.clone()))
    });
    let known = |key: &&Key| declared(Some(desired), &key.0).0.is_some();
    there
        .keys()
        .filter(known)
        .cloned()
        .chain(by_hand)
        .filter(|key| !leaving.contains(key))
        .chain(coming)
        .collect()
}

fn chosen(plan: &SitePlan, leaving: bool) -> BTreeSet<Key> {
    let pick = |action: &Action| match action {
        Action::Remove { group, server } if leaving => Some((group.clone(), server.clone())),
        Action::Install { group, server } if !leaving => Some((group.clone(), server.clone())),
        Action::Check { .. }
        | Action::Drain { .. }
        | Action::Install { .. }
        | Action::Publish { .. }
        | Action::Remove { .. }
        | Action::SwitchOver { .. }
        | Action::Update { .. }
        | Action::Vote { .. }
        | Action::Withdraw { .. } => None,
    };
    plan.steps
        .iter()
        .filter_map(|step| pick(&step.action))
        .collect()
}
