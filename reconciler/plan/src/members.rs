//! A role group as planning sees it: every server that should have, or has, an instance of it.
//!
//! Filled from the world, from placement and from what DNS serves; `agents` then decides each
//! member's fate, and `records` and `road` read it. Nothing is decided here.

use std::collections::{BTreeMap, BTreeSet};

use stead_schemas::desired::{Place, Placement};
use stead_schemas::names::{GroupName, ServerName};
use stead_schemas::plan::{HoldReason, Move, Wait};
use stead_schemas::role::Role;
use stead_schemas::time::DurationMs;
use stead_schemas::wire::{InstanceReport, InstanceSpec};

use crate::lease_steps;
use crate::place::Placed;
use crate::publish::{Board, Entry};
use crate::spec::Source;
use crate::world::{SITE_SERVER, Seen, Server, Well, World};

/// One group, declared or still somewhere.
pub(crate) struct Group<'a> {
    pub(crate) name: &'a GroupName,
    pub(crate) role: Role,
    pub(crate) source: Source<'a>,
    /// Nothing of it is touched, and why: no program, or protected.
    pub(crate) frozen: Option<HoldReason>,
    /// It is to have no instance any more.
    pub(crate) going: bool,
    /// A lease says which of its instances is active.
    pub(crate) leased: bool,
    pub(crate) members: Vec<Member<'a>>,
}

/// One server's part in a group.
pub(crate) struct Member<'a> {
    pub(crate) server: &'a Server<'a>,
    /// The group should have an instance here.
    pub(crate) wanted: bool,
    pub(crate) seen: Seen,
    pub(crate) well: Well,
    /// As assigned now, or when last heard.
    pub(crate) spec: Option<&'a InstanceSpec>,
    pub(crate) report: Option<&'a InstanceReport>,
    /// It is assigned otherwise than declared.
    pub(crate) outdated: bool,
    /// The records it is, or should be, found by.
    pub(crate) entries: Vec<Entry>,
    /// The move it is an end of.
    pub(crate) part_of: Option<Move>,
    pub(crate) listing: Listing,
}

/// Whether an instance is to be found in DNS.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) now: Now,
    /// At the end of the road; none: as now.
    pub(crate) later: Option<bool>,
    /// It leaves DNS and comes back, for an update.
    pub(crate) dips: bool,
    pub(crate) publish_waits: Vec<Wait>,
    pub(crate) withdraw_waits: Vec<Wait>,
}

/// Whether it should be served now.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Now {
    /// Left as it is: not known, or not allowed to change.
    #[default]
    AsServed,
    /// It serves and its server is drained: out as soon as one that stays does.
    Away,
    /// It serves.
    In,
    /// It is to go; what remains was looked at.
    Out,
    /// It does not serve: out as soon as another one of the record does.
    Sick,
}

impl<'a> Group<'a> {
    pub(crate) fn place(&self) -> Option<&'a Place> {
        match self.source {
            Source::Declared(group) => Some(&group.place),
            Source::SiteServer(site_server) => Some(&site_server.place),
            Source::Gone => None,
        }
    }

    pub(crate) fn is_site_server(&self) -> bool {
        self.role == Role::SiteServer
    }

    /// Whether two may run; under a lease site servers may, of which one alone works.
    pub(crate) fn may_overlap(&self) -> bool {
        self.role.rules().may_overlap || self.leased
    }

    pub(crate) fn drain_wait(&self) -> DurationMs {
        match self.source {
            Source::Declared(group) => group.drain_wait,
            Source::Gone | Source::SiteServer(_) => DurationMs(0),
        }
    }

    pub(crate) fn member(&self, server: &ServerName) -> Option<&Member<'a>> {
        self.members.iter().find(|m| m.server.name == server)
    }

    pub(crate) fn wanted(&self) -> impl Iterator<Item = &Member<'a>> {
        self.members.iter().filter(|member| member.wanted)
    }
}

impl Member<'_> {
    /// It serves as declared, and every DNS server says so.
    pub(crate) fn is_settled(&self) -> bool {
        self.seen == Seen::Present && !self.outdated && self.serves()
    }

    /// It is well, and every DNS server says so.
    pub(crate) fn serves(&self) -> bool {
        self.well == Well::Healthy && self.entries.iter().all(Entry::is_served_or_foreign)
    }

    /// Some DNS server hands it out.
    pub(crate) fn is_served(&self) -> bool {
        self.entries.iter().any(|entry| entry.served.any)
    }
}

/// Every group of the site, in order of their names, the site server among them.
pub(crate) fn groups<'a>(
    world: &'a World<'a>,
    placed: &BTreeMap<&'a GroupName, Placed<'a>>,
    holders: &BTreeMap<&'a GroupName, Vec<&'a ServerName>>,
    board: &Board<'a>,
) -> Vec<Group<'a>> {
    let names: BTreeSet<&GroupName> = placed.keys().chain(holders.keys()).copied().collect();
    let (nowhere, none) = (Placed::default(), Vec::new());
    names
        .into_iter()
        .map(|name| {
            let placed = placed.get(name).unwrap_or(&nowhere);
            let holders = holders.get(name).unwrap_or(&none);
            group(world, name, placed, holders, board)
        })
        .collect()
}

fn group<'a>(
    world: &'a World<'a>,
    name: &'a GroupName,
    placed: &Placed<'a>,
    holders: &[&'a ServerName],
    board: &Board<'a>,
) -> Group<'a> {
    let source = source(world, name);
    let role = role(world, source, name, holders);
    let mut group = Group {
        name,
        role,
        source,
        frozen: frozen(world, source, role, name),
        going: is_going(source),
        leased: role == Role::SiteServer && world.lease.site_server().is_some(),
        members: Vec::with_capacity(placed.targets.len()),
    };
    let servers: BTreeSet<&ServerName> = placed.targets.iter().chain(holders).copied().collect();
    for server in servers {
        let Some(server) = world.servers.get(server) else {
            continue;
        };
        let wanted = placed.targets.binary_search(&server.name).is_ok();
        let mut member = member(&group, server, wanted);
        // Changed to a port that is another's, it would stop serving: it waits as it is.
        let port = member.spec.map(|spec| spec.port);
        if placed.stuck.contains(&server.name) && port != Some(group.source.port()) {
            member.outdated = false;
        }
        member.entries = board.entries(&group, &member);
        group.members.push(member);
    }
    group
}

fn source<'a>(world: &World<'a>, name: &GroupName) -> Source<'a> {
    let Some(desired) = world.desired else {
        return Source::Gone;
    };
    match (desired.groups.get(name), &desired.site_server) {
        (Some(group), _) => Source::Declared(group),
        (None, Some(site_server)) if name == &*SITE_SERVER => Source::SiteServer(site_server),
        (None, _) => Source::Gone,
    }
}

fn role(world: &World<'_>, source: Source<'_>, name: &GroupName, holders: &[&ServerName]) -> Role {
    match source {
        Source::Declared(group) => group.role,
        Source::SiteServer(_) => Role::SiteServer,
        Source::Gone => holders
            .iter()
            .filter_map(|server| world.servers.get(*server))
            .find_map(|server| {
                let assigned = server.assigned(name).map(|spec| spec.role);
                assigned.or_else(|| server.reported(name).map(|report| report.role))
            })
            .unwrap_or(Role::Custom),
    }
}

fn frozen(
    world: &World<'_>,
    source: Source<'_>,
    role: Role,
    name: &GroupName,
) -> Option<HoldReason> {
    match source {
        Source::Gone if world.context.recorded.protected_groups.contains(name) => {
            Some(HoldReason::Protected)
        }
        Source::Gone => None,
        Source::SiteServer(_) => lease_steps::held(world).or_else(|| source.unrunnable(role)),
        Source::Declared(_) => source.unrunnable(role),
    }
}

fn is_going(source: Source<'_>) -> bool {
    match source {
        Source::Gone => true,
        Source::SiteServer(_) => false,
        Source::Declared(group) => match &group.placement {
            Placement::ByHand(servers) => servers.is_empty(),
            Placement::ByCount { instances, .. } => *instances == 0,
        },
    }
}

fn member<'a>(group: &Group<'a>, server: &'a Server<'a>, wanted: bool) -> Member<'a> {
    let seen = server.seen(group.name);
    let spec = server.assigned(group.name);
    let outdated = match (spec, server.declared) {
        (Some(spec), Some(declared)) if wanted && group.frozen.is_none() => {
            !group.source.matches(group.role, declared.address, spec)
        }
        _ => false,
    };
    Member {
        server,
        wanted,
        seen,
        well: match seen {
            Seen::Present | Seen::Held | Seen::Unknown => server.well(group.name),
            Seen::Absent | Seen::Stopping => Well::Sick,
        },
        spec,
        report: server.reported(group.name),
        outdated,
        entries: Vec::new(),
        part_of: None,
        listing: Listing::default(),
    }
}
