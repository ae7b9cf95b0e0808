//! Shortage: why a counted group has fewer instances than it asks for, or gets none for now.
//!
//! The typed reasons only; which servers are chosen is decided in `place`.

use stead_schemas::desired::GroupDesired;
use stead_schemas::names::ServerName;
use stead_schemas::plan::HoldReason;

use crate::place::{ByCount, Placed, is_candidate, matches};
use crate::ports::Ports;
use crate::world::{Hearing, World};

/// Whether a server whose contents are not known may hold one already: then nothing is placed, or
/// there might be one too many.
pub(crate) fn is_in_doubt(
    world: &World<'_>,
    group: &GroupDesired,
    rule: &ByCount<'_>,
    placed: &mut Placed<'_>,
) -> bool {
    let overlaps = group.role.rules().may_overlap;
    let mut doubt = false;
    for server in world.servers.values() {
        let candidate = server.declared.is_none_or(|d| matches(d, rule.among));
        if !candidate || server.report.is_some() {
            continue;
        }
        let reason = match server.hearing {
            Hearing::Unclear { since } => HoldReason::UnknownObservation {
                server: server.name.clone(),
                since,
            },
            // Where the store was lost, what never joined may be what was forgotten.
            Hearing::Never if !overlaps && server.declared.is_some() => HoldReason::AwaitingJoin {
                server: server.name.clone(),
            },
            Hearing::Silent { .. } if !overlaps => HoldReason::NeedsConfirmLost {
                server: server.name.clone(),
                role: group.role,
            },
            Hearing::Heard | Hearing::Lost | Hearing::Never | Hearing::Silent { .. } => continue,
        };
        doubt = true;
        placed
            .holds
            .push((format!("{}/{}", world.code, server.name), reason));
    }
    doubt
}

/// Why there are fewer than wanted, as a hold.
pub(crate) fn note_shortage<'a>(
    world: &World<'a>,
    group: &'a GroupDesired,
    rule: &ByCount<'_>,
    placed: &mut Placed<'a>,
    ports: &Ports<'a>,
) {
    let found = placed.targets.len();
    if found >= rule.wanted {
        return;
    }
    let unjoined = world.servers.values().find(|server| {
        server.hearing == Hearing::Never && server.declared.is_some_and(|d| matches(d, rule.among))
    });
    if let Some(server) = unjoined {
        let reason = HoldReason::AwaitingJoin {
            server: server.name.clone(),
        };
        placed
            .holds
            .push((format!("{}/{}", world.code, server.name), reason));
        return;
    }
    let clash = world
        .servers
        .values()
        .filter(|server| is_candidate(server, group, rule))
        .filter(|server| !placed.targets.contains(&server.name))
        .find_map(|server| port_taken(group, server.name, ports));
    let number = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
    let reason = clash.unwrap_or_else(|| HoldReason::NoCandidate {
        group: group.name.clone(),
        wanted: number(rule.wanted),
        found: number(found),
    });
    placed
        .holds
        .push((format!("{}/{}", world.code, group.name), reason));
}

/// Whose instance has the port on a server, as a hold.
pub(crate) fn port_taken(
    group: &GroupDesired,
    server: &ServerName,
    ports: &Ports<'_>,
) -> Option<HoldReason> {
    let by = ports.in_the_way(group, server)?;
    Some(HoldReason::PortTaken {
        group: group.name.clone(),
        by: by.clone(),
        server: server.clone(),
        port: group.port,
    })
}
