//! What is sent to agents: for each server with ready steps, everything it should run afterwards.
//!
//! What no ready step touches is repeated as the agent says it is assigned.

use std::collections::BTreeMap;

use stead_schemas::names::{GroupName, ServerName};
use stead_schemas::plan::{Action, PlannedAssignment};
use stead_schemas::wire::InstanceSpec;

use crate::members::Group;
use crate::road::Draft;
use crate::world::{SITE_SERVER, World};

/// The assignments that carry out the ready agent steps.
pub(crate) fn assignments(
    world: &World<'_>,
    groups: &[Group<'_>],
    draft: &Draft,
) -> BTreeMap<ServerName, PlannedAssignment> {
    let mut planned = BTreeMap::new();
    for step in draft.steps.iter().filter(|step| step.waits.is_empty()) {
        if let Action::Vote { server } = &step.action {
            let assignment = planned
                .entry(server.clone())
                .or_insert_with(|| in_force(world, server));
            assignment.lease = draft.leases.get(server).cloned().flatten();
            assignment.steps.push(step.id.clone());
            continue;
        }
        let Some((server, group, comes)) = effect(&step.action) else {
            continue;
        };
        let assignment = planned
            .entry(server.clone())
            .or_insert_with(|| in_force(world, server));
        if comes {
            if let Some(spec) = spec(world, groups, group, server) {
                assignment.instances.insert(group.clone(), Box::new(spec));
            }
        } else {
            assignment.instances.remove(group);
        }
        assignment.steps.push(step.id.clone());
    }
    planned
}

/// Which instance an action concerns, and whether it is there afterwards.
pub(crate) fn effect(action: &Action) -> Option<(&ServerName, &GroupName, bool)> {
    match action {
        Action::Install { group, server } | Action::Update { group, server } => {
            Some((server, group, true))
        }
        Action::Remove { group, server } => Some((server, group, false)),
        Action::SwitchOver { from, .. } => Some((from, &SITE_SERVER, false)),
        Action::Check { .. }
        | Action::Drain { .. }
        | Action::Publish { .. }
        | Action::Vote { .. }
        | Action::Withdraw { .. } => None,
    }
}

/// The server whose assignment carries an action.
pub(crate) fn acts_on(action: &Action) -> Option<&ServerName> {
    match action {
        Action::Vote { server } => Some(server),
        _ => effect(action).map(|(server, _, _)| server),
    }
}

fn in_force(world: &World<'_>, server: &ServerName) -> PlannedAssignment {
    let report = world.servers.get(server).and_then(|server| server.report);
    PlannedAssignment {
        based_on: report.and_then(|report| report.generation.clone()),
        instances: report
            .map(|report| report.assigned.clone())
            .unwrap_or_default(),
        lease: report.and_then(|report| report.assigned_lease.clone()),
        steps: Vec::new(),
    }
}

fn spec(
    world: &World<'_>,
    groups: &[Group<'_>],
    group: &GroupName,
    server: &ServerName,
) -> Option<InstanceSpec> {
    let group = groups.iter().find(|g| g.name == group)?;
    let address = world.servers.get(server)?.declared?.address;
    Some(group.source.spec(group.role, address))
}
