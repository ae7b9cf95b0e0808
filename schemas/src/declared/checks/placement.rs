//! Where a group's instances may run: by hand or by count, enough servers, zones, ports.

use std::collections::{BTreeMap, BTreeSet};

use super::super::leased::database;
use super::super::problem::Findings;
use super::super::resolve::{program_of, role_of};
use super::super::tree::Spot;
use super::super::typed::ReadSite;
use super::super::types::GroupSpec;
use super::{Notices, candidates, has_server, no_such_server};
use crate::desired::DatabaseDesired;
use crate::names::{GroupName, ServerName, ZonePath};
use crate::time::DurationOrNever;
use crate::wire::{AGENT_PORT, Program};

pub(super) fn check(site: &ReadSite<'_>, findings: &mut Findings, notices: &mut Notices) {
    for (name, group) in &site.spec().roles {
        match (&group.servers, group.instances) {
            (Some(servers), None) => by_hand(site, name, group, servers, findings, notices),
            (None, Some(instances)) => by_count(site, name, group, instances, findings),
            (Some(_), Some(_)) => {
                let message = "`servers` and `instances` exclude each other: keep one";
                let spot = site.key_spot(&["roles", name.as_str(), "instances"]);
                findings.add(site.error("placement", spot, message));
            }
            (None, None) => {
                let message =
                    format!("`{name}` doesn't say where it runs: `servers` or `instances`");
                let spot = site.key_spot(&["roles", name.as_str()]);
                let finding = site.error("placement", spot, message);
                findings.add(finding.hint(
                    "`servers: [a, b]` places by hand, `instances: 2` lets the planner place",
                ));
            }
        }
    }
    check_ports(site, findings);
}

fn by_hand(
    site: &ReadSite<'_>,
    name: &GroupName,
    group: &GroupSpec,
    servers: &[ServerName],
    findings: &mut Findings,
    notices: &mut Notices,
) {
    let mut seen = BTreeSet::new();
    for (at, server) in servers.iter().enumerate() {
        let index = at.to_string();
        let path = ["roles", name.as_str(), "servers", index.as_str()];
        if !seen.insert(server) {
            let message = format!("`{server}` stands here twice");
            findings.add(site.error("duplicate", site.spot(&path), message));
        } else if !has_server(site, server) {
            findings.add(no_such_server(site, server, &path));
        }
    }
    for (key, given) in [
        ("among", group.among.is_some()),
        ("spread", group.spread.is_some()),
    ] {
        if given {
            let message = format!("`{key}` goes with `instances`, not with `servers`");
            let spot = site.key_spot(&["roles", name.as_str(), key]);
            findings.add(site.error("placement", spot, message));
        }
    }
    if matches!(group.move_after, Some(DurationOrNever::After(_))) {
        let message = "`moveAfter` does nothing with `servers`: what is placed by hand stays there";
        let spot = site.key_spot(&["roles", name.as_str(), "moveAfter"]);
        notices.add(
            "move-by-hand",
            "",
            site.warning("move-by-hand", spot, message),
        );
    }
}

fn by_count(
    site: &ReadSite<'_>,
    name: &GroupName,
    group: &GroupSpec,
    instances: u16,
    findings: &mut Findings,
) {
    if !site.damage.intact(&["servers"]) {
        return;
    }
    let servers: Vec<&ServerName> = candidates(site, group).collect();
    let wanted = usize::from(instances);
    if servers.len() < wanted {
        let (spot, which) = if group.among.is_some() {
            let spot = site.key_spot(&["roles", name.as_str(), "among"]);
            (spot, "match `among`")
        } else {
            let spot = site.spot(&["roles", name.as_str(), "instances"]);
            (spot, "are declared")
        };
        let message = format!(
            "`{name}` wants {instances} servers, and {} {which}",
            servers.len()
        );
        findings.add(site.error("too-few-servers", spot, message));
        return;
    }
    if group.spread.is_none() || wanted < 2 {
        return;
    }
    let zones: BTreeSet<Option<&ZonePath>> = servers
        .iter()
        .map(|server| site.spec().servers[*server].zone.as_ref())
        .collect();
    if zones.len() < 2 {
        let zone = zones.first().copied().flatten();
        let message = match zone {
            Some(zone) => format!("zone `{zone}` would hold all instances of `{name}`"),
            None => format!("no server that `{name}` may use has a `zone`"),
        };
        let spot = site.key_spot(&["roles", name.as_str(), "spread"]);
        let finding = site.error("spread", spot, message);
        findings.add(finding.hint("let `among` match servers of two zones, or leave `spread` out"));
    }
}

/// Two programs on one port of a server can't both run. Roles without a program don't count; two
/// groups may be the same systemd unit.
fn check_ports(site: &ReadSite<'_>, findings: &mut Findings) {
    let mut taken: BTreeMap<(&ServerName, u16), (&GroupName, Option<Program>)> = BTreeMap::new();
    let store = database(site);
    for (name, group) in &site.spec().roles {
        let Some(role) = role_of(name, group) else {
            continue;
        };
        let Some(service) = program_of(group, role) else {
            continue;
        };
        let port = group.port.unwrap_or_else(|| role.rules().default_port);
        for server in group.servers.iter().flatten() {
            let agent = site.spec().servers.get(server).map(|s| s.agent_port);
            if agent.is_some_and(|agent| agent.unwrap_or(AGENT_PORT) == port) {
                let message = format!("port {port} of `{server}` is its site agent's");
                findings.add(site.error("port", port_spot(site, name), message));
            }
            if let Some(DatabaseDesired::Embedded {
                server: at,
                port: its,
            }) = &store
                && (at, *its) == (server, port)
            {
                let message = format!("port {port} of `{server}` is used by the database already");
                let finding = site.error("port", port_spot(site, name), message);
                findings.add(finding.hint("give one of the two another `port`"));
            }
            let program = Some(service.program.clone());
            let Some((first, other)) = taken.insert((server, port), (name, program.clone())) else {
                continue;
            };
            let one_unit = matches!(&program, Some(Program::Systemd { .. })) && program == other;
            if one_unit || first == name {
                continue;
            }
            let message = format!("port {port} of `{server}` is used by `{first}` already");
            findings.add(
                site.error("port", port_spot(site, name), message)
                    .related(site.key_spot(&["roles", first.as_str()]), "the first one")
                    .hint("give one of the two another `port`"),
            );
        }
    }
}

/// The port where it is written, else the group.
fn port_spot(site: &ReadSite<'_>, name: &GroupName) -> Spot {
    let path = ["spec", "roles", name.as_str(), "port"];
    match site.site.tree.at(&path) {
        Some(node) => node.spot,
        None => site.key_spot(&path[1..3]),
    }
}
