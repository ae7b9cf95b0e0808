//! The lint: what must be true of every plan, whatever the planner thought.
//!
//! Written against the plan and the observation alone, not with the planner's own view, so that it
//! catches the planner's mistakes. The daemon lints every plan before acting and refuses one with
//! notes; every test that plans does too.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use stead_schemas::desired::SiteDesired;
use stead_schemas::lease::LeasePart;
use stead_schemas::names::{GroupName, ServerName};
use stead_schemas::observed::{Contact, ServerObserved, SiteObserved};
use stead_schemas::plan::{Action, SitePlan, Step, StepId, Wait};
use stead_schemas::role::Role;
use stead_schemas::wire::{Health, Phase};

use crate::context::Context;
use crate::payload::effect;
use crate::publish::{address_data, group_key};
use crate::world::SITE_SERVER;

/// A rule that a plan breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What it is about: a step, a server or a record.
    pub about: String,
    /// The rule.
    pub kind: NoteKind,
}

/// Which rule is broken. All are fatal: such a plan must not be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoteKind {
    /// A ready step takes something from a server that is not heard.
    DestroysUnknown,
    /// The same step twice.
    DuplicateStep,
    /// A drain without anything to wait for.
    IdleDrain,
    /// A published group would be left without a healthy instance.
    LastHealthy,
    /// A payload was not planned against what is in force.
    NotBasedOnObserved,
    /// The active site server would be stopped though the site stays.
    StopsActive,
    /// A payload changes what no ready step names.
    PayloadBeyondSteps,
    /// A ready step has no payload, or a later one has.
    PayloadMissing,
    /// An instance is removed while DNS hands it out.
    RemovesPublished,
    /// A step waits for one that is not on the road.
    WaitsForNothing,
    /// A record of somebody else, or one not read, would be written.
    WritesForeign,
    /// A set of a declared group would be emptied.
    EmptiesRecord,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.about)
    }
}

/// Checks a plan; empty: nothing is wrong with it.
#[must_use]
pub fn lint(
    desired: Option<&SiteDesired>,
    observed: &SiteObserved,
    context: &Context,
    plan: &SitePlan,
) -> Vec<Note> {
    let mut notes = Vec::new();
    lint_road(plan, &mut notes);
    lint_payloads(observed, plan, &mut notes);
    lint_records(observed, context, plan, &mut notes);
    lint_removals(desired, observed, context, plan, &mut notes);
    notes
}

fn note(notes: &mut Vec<Note>, kind: NoteKind, about: impl fmt::Display) {
    notes.push(Note {
        about: about.to_string(),
        kind,
    });
}

/// Each step once, and nothing waits for what never comes.
fn lint_road(plan: &SitePlan, notes: &mut Vec<Note>) {
    let mut ids: BTreeSet<&StepId> = BTreeSet::new();
    for step in &plan.steps {
        if !ids.insert(&step.id) {
            note(notes, NoteKind::DuplicateStep, &step.id);
        }
        if matches!(step.action, Action::Drain { .. }) && step.waits.is_empty() {
            note(notes, NoteKind::IdleDrain, &step.id);
        }
    }
    for step in &plan.steps {
        for wait in &step.waits {
            if let Wait::Step(id) = wait
                && !ids.contains(id)
            {
                note(
                    notes,
                    NoteKind::WaitsForNothing,
                    format!("{} waits for {id}", step.id),
                );
            }
        }
    }
}

/// Ready steps have payload, later ones none, and a payload does what its steps say.
fn lint_payloads(observed: &SiteObserved, plan: &SitePlan, notes: &mut Vec<Note>) {
    let ready: BTreeSet<&StepId> = plan.ready().map(|step| &step.id).collect();
    let carried: BTreeSet<&StepId> = plan
        .assignments
        .values()
        .flat_map(|assignment| &assignment.steps)
        .chain(plan.records.values().flat_map(|record| &record.steps))
        .chain(plan.checks.values().filter_map(|check| check.step.as_ref()))
        .collect();
    for id in ready.symmetric_difference(&carried) {
        note(notes, NoteKind::PayloadMissing, id);
    }
    for (server, assignment) in &plan.assignments {
        let Some(report) = observed.servers.get(server).and_then(|s| s.report.as_ref()) else {
            note(notes, NoteKind::NotBasedOnObserved, server);
            continue;
        };
        if assignment.based_on != report.generation {
            note(notes, NoteKind::NotBasedOnObserved, server);
        }
        let told = |step: &Step| matches!(&step.action, Action::Vote { server: s } if s == server);
        if assignment.lease != report.assigned_lease && !plan.ready().any(told) {
            let about = format!("lease of {server}");
            note(notes, NoteKind::PayloadBeyondSteps, about);
        }
        let named = named_groups(plan, server);
        let groups: BTreeSet<&GroupName> = assignment
            .instances
            .keys()
            .chain(report.assigned.keys())
            .collect();
        for group in groups {
            let same = assignment.instances.get(group) == report.assigned.get(group);
            if !same && !named.contains(group) {
                note(
                    notes,
                    NoteKind::PayloadBeyondSteps,
                    format!("{group}@{server}"),
                );
            }
        }
    }
}

fn named_groups<'a>(plan: &'a SitePlan, server: &ServerName) -> BTreeSet<&'a GroupName> {
    plan.ready()
        .filter_map(|step| effect(&step.action))
        .filter(|(at, _, _)| *at == server)
        .map(|(_, group, _)| group)
        .collect()
}

/// Only what is ours, or nobody's, is written; a declared group's set is never emptied.
fn lint_records(
    observed: &SiteObserved,
    context: &Context,
    plan: &SitePlan,
    notes: &mut Vec<Note>,
) {
    let ours = format!("v=1 h={} s={} ", context.hierarchy, context.site);
    for (key, planned) in &plan.records {
        let record = observed.records.get(key);
        let first = record.and_then(|record| record.servers.first()?.served.as_ref());
        let free = match first {
            None => false,
            Some(served) => match &served.mark {
                Some(mark) => mark.starts_with(&ours),
                None => served.set.is_none(),
            },
        };
        let contested = record.is_some_and(|record| record.contested);
        let expected =
            first.and_then(|served| served.mark.as_ref()) == planned.expect_mark.as_ref();
        if !free || contested || !expected {
            note(notes, NoteKind::WritesForeign, key);
        }
        if planned
            .want
            .as_ref()
            .is_some_and(|set| set.values.is_empty())
        {
            note(notes, NoteKind::EmptiesRecord, key);
        }
    }
}

fn lint_removals(
    desired: Option<&SiteDesired>,
    observed: &SiteObserved,
    context: &Context,
    plan: &SitePlan,
    notes: &mut Vec<Note>,
) {
    let mut taken: BTreeMap<&GroupName, BTreeSet<&ServerName>> = BTreeMap::new();
    for step in plan.ready() {
        let Some((server, group, comes)) = effect(&step.action) else {
            continue;
        };
        let heard = observed
            .servers
            .get(server)
            .is_some_and(|s| s.contact == Contact::Heard);
        if !heard || observed.reconciler_suspect {
            note(notes, NoteKind::DestroysUnknown, &step.id);
        }
        if stops_active(desired, step) || stops_holder(desired, observed, &step.action) {
            note(notes, NoteKind::StopsActive, &step.id);
        }
        if matches!(step.action, Action::Install { .. }) {
            continue;
        }
        taken.entry(group).or_default().insert(server);
        let role = role(desired, observed, group, server);
        if !comes && role.is_none_or(|role| role.rules().may_overlap) {
            lint_published(observed, context, step, server, group, notes);
        }
    }
    for (group, servers) in taken {
        lint_last(desired, observed, context, group, &servers, notes);
    }
}

/// No step takes the declared active; of a pair that leaves one, always.
fn stops_active(desired: Option<&SiteDesired>, step: &Step) -> bool {
    let site_server = desired.and_then(|site| site.site_server.as_ref());
    site_server.is_some_and(|site_server| match &step.action {
        Action::Remove { group, server } => *group == *SITE_SERVER && *server == site_server.active,
        Action::SwitchOver { from, to } => *from == site_server.active || from == to,
        _ => false,
    })
}

/// No step takes the site server that holds the lease, unless the whole goes.
fn stops_holder(desired: Option<&SiteDesired>, observed: &SiteObserved, action: &Action) -> bool {
    let Action::Remove { group, server } = action else {
        return false;
    };
    let report = observed.servers.get(server).and_then(|s| s.report.as_ref());
    let lease = report.and_then(|report| report.lease.as_ref());
    *group == *SITE_SERVER
        && desired.is_some_and(|site| site.site_server.is_some())
        && lease.is_some_and(|l| matches!(l.part, LeasePart::Holding | LeasePart::Stopping))
}

fn role(
    desired: Option<&SiteDesired>,
    observed: &SiteObserved,
    group: &GroupName,
    server: &ServerName,
) -> Option<Role> {
    let declared = desired
        .and_then(|site| site.groups.get(group))
        .map(|group| group.role);
    declared.or_else(|| {
        let report = observed.servers.get(server)?.report.as_ref()?;
        Some(report.assigned.get(group)?.role)
    })
}

/// Nobody is sent to an instance that is removed (H27).
fn lint_published(
    observed: &SiteObserved,
    context: &Context,
    step: &Step,
    server: &ServerName,
    group: &GroupName,
    notes: &mut Vec<Note>,
) {
    if handed_out(observed, context, group, server) {
        note(notes, NoteKind::RemovesPublished, &step.id);
    }
}

/// Whether some DNS server hands an instance out by the group's own record.
fn handed_out(
    observed: &SiteObserved,
    context: &Context,
    group: &GroupName,
    server: &ServerName,
) -> bool {
    let report = observed.servers.get(server).and_then(|s| s.report.as_ref());
    let spec = report.and_then(|report| report.assigned.get(group));
    let (Some(dns), Some(spec)) = (context.dns.as_deref(), spec) else {
        return false;
    };
    let key = group_key(group, &context.site.dns_label(), spec.address, dns);
    let data = address_data(spec.address);
    let ours = format!("v=1 h={} s={} ", context.hierarchy, context.site);
    let Some(record) = observed.records.get(&key) else {
        return false;
    };
    record
        .servers
        .iter()
        .filter_map(|server| server.served.as_ref())
        .any(|served| {
            let marked = served
                .mark
                .as_ref()
                .is_some_and(|mark| mark.starts_with(&ours));
            marked
                && served
                    .set
                    .as_ref()
                    .is_some_and(|set| set.values.contains(&data))
        })
}

/// A published group that stays keeps a healthy instance that is handed out, unless it has only
/// one.
fn lint_last(
    desired: Option<&SiteDesired>,
    observed: &SiteObserved,
    context: &Context,
    group: &GroupName,
    taken: &BTreeSet<&ServerName>,
    notes: &mut Vec<Note>,
) {
    let Some(declared) = desired.and_then(|site| site.groups.get(group)) else {
        return;
    };
    let serving: Vec<&ServerName> = observed
        .servers
        .iter()
        .filter(|(name, server)| {
            is_healthy(server, group) && handed_out(observed, context, group, name)
        })
        .map(|(name, _)| name)
        .collect();
    let took = taken.iter().any(|server| serving.contains(server));
    let remain = serving.iter().any(|server| !taken.contains(server));
    if declared.role.rules().may_overlap && took && !remain && serving.len() > 1 {
        note(notes, NoteKind::LastHealthy, group);
    }
}

fn is_healthy(server: &ServerObserved, group: &GroupName) -> bool {
    let report = server
        .report
        .as_ref()
        .filter(|_| server.contact == Contact::Heard);
    report
        .and_then(|report| report.instances.get(group))
        .is_some_and(|instance| {
            instance.phase == Phase::Running && instance.health == Health::Healthy
        })
}
