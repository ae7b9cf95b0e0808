//! Placement: on which servers the instances of each group should run.
//!
//! Stable: whoever holds an instance and still matches keeps it; only what is missing is placed
//! and only what is too many goes. Nothing is remembered between passes but what agents report.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use stead_schemas::desired::{GroupDesired, Placement, ServerDesired, SiteDesired};
use stead_schemas::names::{GroupName, ServerName, ZonePath};
use stead_schemas::observed::SiteObserved;
use stead_schemas::plan::HoldReason;
use stead_schemas::time::{DurationMs, DurationOrNever, WallMs};

use crate::context::{Context, Policy};
use crate::spec::Source;
use crate::world::{Hearing, SITE_SERVER, Seen, Server, Well, World};

/// Where a group's instances should be, and what stands in the way.
#[derive(Debug, Default)]
pub(crate) struct Placed<'a> {
    /// By name.
    pub(crate) targets: Vec<&'a ServerName>,
    /// Why there are fewer than wanted, or one is not moved; with what each is about.
    pub(crate) holds: Vec<(String, HoldReason)>,
    /// When a silence has lasted long enough for a move.
    pub(crate) wake: Option<WallMs>,
}

/// The servers each group's instances should run on, the site server's included.
///
/// What `status` and `why` show as wanted; [`crate::plan_site`] plans towards the same.
#[must_use]
pub fn placement(
    desired: &SiteDesired,
    observed: &SiteObserved,
    context: &Context,
    now: WallMs,
) -> BTreeMap<GroupName, Vec<ServerName>> {
    let policy = Policy::default();
    let world = World::new(Some(desired), observed, context, now, &policy);
    place(&world, &world.holders())
        .into_iter()
        .map(|(group, placed)| {
            let targets = placed.targets.into_iter().cloned().collect();
            (group.clone(), targets)
        })
        .collect()
}

/// Places every declared group: by hand first, then keeps, then fills.
pub(crate) fn place<'a>(
    world: &World<'a>,
    holders: &BTreeMap<&'a GroupName, Vec<&'a ServerName>>,
) -> BTreeMap<&'a GroupName, Placed<'a>> {
    let mut all = BTreeMap::new();
    let Some(desired) = world.desired else {
        return all;
    };
    let mut load = Load::of(world);
    if let Some(site_server) = &desired.site_server {
        let targets = vec![&site_server.active];
        load.count(
            &SITE_SERVER,
            Source::SiteServer(site_server).port(),
            &targets,
        );
        all.insert(
            &*SITE_SERVER,
            Placed {
                targets,
                ..Placed::default()
            },
        );
    }
    let mut counted = Vec::new();
    for (name, group) in &desired.groups {
        let placed = match &group.placement {
            Placement::ByHand(servers) => by_hand(servers),
            Placement::ByCount { .. } => {
                let holders = holders.get(name).map_or(&[][..], Vec::as_slice);
                counted.push(group);
                keep(world, group, holders)
            }
        };
        load.count(name, group.port, &placed.targets);
        all.insert(name, placed);
    }
    for group in counted {
        let placed = all.get_mut(&group.name).expect("inserted above");
        fill(world, group, placed, &mut load);
    }
    all
}

/// What the servers have to bear already.
struct Load<'a> {
    /// How many instances.
    instances: BTreeMap<&'a ServerName, u32>,
    /// Whose port it is: what is placed there, and what still runs there.
    ports: BTreeMap<(&'a ServerName, u16), BTreeSet<&'a GroupName>>,
}

impl<'a> Load<'a> {
    fn of(world: &World<'a>) -> Self {
        let running = world.servers.iter().flat_map(|(server, seen)| {
            let assigned = seen.report.into_iter().flat_map(|report| &report.assigned);
            assigned.map(|(group, spec)| ((*server, spec.port), group))
        });
        let mut ports: BTreeMap<_, BTreeSet<&GroupName>> = BTreeMap::new();
        for (port, group) in running {
            ports.entry(port).or_default().insert(group);
        }
        Self {
            instances: BTreeMap::new(),
            ports,
        }
    }

    fn count(&mut self, group: &'a GroupName, port: u16, targets: &[&'a ServerName]) {
        for server in targets {
            *self.instances.entry(server).or_default() += 1;
            self.ports.entry((server, port)).or_default().insert(group);
        }
    }

    fn burden(&self, server: &ServerName) -> u32 {
        self.instances.get(server).copied().unwrap_or(0)
    }

    /// The other group that has the port of this one there.
    fn port_owner(&self, server: &'a ServerName, group: &GroupDesired) -> Option<&'a GroupName> {
        let owners = self.ports.get(&(server, group.port))?;
        owners.iter().find(|owner| ***owner != group.name).copied()
    }
}

fn by_hand(servers: &[ServerName]) -> Placed<'_> {
    let sorted: BTreeSet<&ServerName> = servers.iter().collect();
    Placed {
        targets: sorted.into_iter().collect(),
        ..Placed::default()
    }
}

struct ByCount<'a> {
    wanted: usize,
    among: &'a BTreeMap<String, String>,
    spread: bool,
}

fn by_count(group: &GroupDesired) -> ByCount<'_> {
    match &group.placement {
        Placement::ByCount {
            instances,
            among,
            spread_zones,
        } => ByCount {
            wanted: usize::from(*instances),
            among,
            spread: *spread_zones,
        },
        Placement::ByHand(_) => unreachable!("only counted groups come here"),
    }
}

fn matches(server: &ServerDesired, among: &BTreeMap<String, String>) -> bool {
    among
        .iter()
        .all(|(label, value)| server.labels.get(label) == Some(value))
}

/// Present holders that still match; too many: the least useful go.
fn keep<'a>(world: &World<'a>, group: &'a GroupDesired, holders: &[&'a ServerName]) -> Placed<'a> {
    let rule = by_count(group);
    let mut placed = Placed::default();
    for name in holders {
        let server = &world.servers[name];
        let still = server.declared.is_some_and(|d| matches(d, rule.among));
        if still && stays(world, group, server, &mut placed) {
            placed.targets.push(server.name);
        }
    }
    let mut crowd = Crowd::of(world, rule.spread, &placed.targets);
    while placed.targets.len() > rule.wanted {
        let worst = (0..placed.targets.len())
            .min_by_key(|index| usefulness(world, group, &crowd, placed.targets[*index]))
            .expect("longer than wanted, so not empty");
        let gone = placed.targets.remove(worst);
        crowd.change(world, gone, |count| count - 1);
    }
    placed
}

/// Whether a holder's instance counts as there (H8).
fn stays(
    world: &World<'_>,
    group: &GroupDesired,
    server: &Server<'_>,
    placed: &mut Placed<'_>,
) -> bool {
    match server.seen(&group.name) {
        Seen::Present => true,
        Seen::Absent | Seen::Stopping | Seen::Unknown => false,
        Seen::Held => {
            let Hearing::Silent { confirmed_for, .. } = server.hearing else {
                return true;
            };
            let DurationOrNever::After(limit) = group.move_after else {
                return true;
            };
            if confirmed_for < limit {
                let end = world.now.plus(DurationMs(limit.0 - confirmed_for.0));
                placed.wake = Some(placed.wake.map_or(end, |wake| wake.min(end)));
                return true;
            }
            if group.role.rules().may_overlap {
                return false;
            }
            placed.holds.push((
                world.instance(&group.name, server.name).to_string(),
                HoldReason::NeedsConfirmLost {
                    server: server.name.clone(),
                    role: group.role,
                },
            ));
            true
        }
    }
}

type Usefulness<'a> = (bool, bool, Reverse<Vec<u32>>, Reverse<&'a ServerName>);

/// Least useful first: not serving, left over from before a move, in the fullest zone, last by name.
fn usefulness<'a>(
    world: &World<'a>,
    group: &GroupDesired,
    crowd: &Crowd<'a>,
    name: &'a ServerName,
) -> Usefulness<'a> {
    let server = &world.servers[name];
    let placed = world.context.recorded.placed.get(&group.name);
    (
        server.well(&group.name) != Well::Sick,
        placed.is_none_or(|placed| placed.contains(name)),
        Reverse(crowd.around(server)),
        Reverse(name),
    )
}

/// How many instances there are in each zone and in all zones around it; nothing where the group
/// is not spread. Servers without a zone share one.
struct Crowd<'a> {
    spread: bool,
    counts: BTreeMap<&'a str, u32>,
}

impl<'a> Crowd<'a> {
    fn of(world: &World<'a>, spread: bool, targets: &[&'a ServerName]) -> Self {
        let mut crowd = Self {
            spread,
            counts: BTreeMap::new(),
        };
        for target in targets {
            crowd.change(world, target, |count| count + 1);
        }
        crowd
    }

    fn change(&mut self, world: &World<'a>, server: &ServerName, change: fn(u32) -> u32) {
        if self.spread {
            for zone in zones(&world.servers[server]) {
                let count = self.counts.entry(zone).or_default();
                *count = change(*count);
            }
        }
    }

    /// In a server's zones, the widest first.
    fn around(&self, server: &Server<'a>) -> Vec<u32> {
        if !self.spread {
            return Vec::new();
        }
        let count = |zone: &str| self.counts.get(zone).copied().unwrap_or(0);
        zones(server).map(count).collect()
    }
}

/// `seattle`, `seattle/room-1`, `seattle/room-1/rack-3`.
fn zones<'a>(server: &Server<'a>) -> impl Iterator<Item = &'a str> + use<'a> {
    let zone = server.declared.and_then(|declared| declared.zone.as_ref());
    let path = zone.map_or("", ZonePath::as_str);
    path.match_indices('/')
        .map(|(end, _)| end)
        .chain([path.len()])
        .map(move |end| &path[..end])
}

/// Places what is missing on the best servers that are heard.
fn fill<'a>(
    world: &World<'a>,
    group: &'a GroupDesired,
    placed: &mut Placed<'a>,
    load: &mut Load<'a>,
) {
    let rule = by_count(group);
    if placed.targets.len() >= rule.wanted
        || Source::Declared(group).unrunnable(group.role).is_some()
        || is_in_doubt(world, group, &rule, placed)
    {
        placed.targets.sort();
        return;
    }
    let mut crowd = Crowd::of(world, rule.spread, &placed.targets);
    let mut free: BTreeMap<&ServerName, &Server<'a>> = world
        .servers
        .iter()
        .filter(|(_, server)| {
            server.is_heard()
                && server.suspended.is_none()
                && server.declared.is_some_and(|d| matches(d, rule.among))
        })
        .map(|(name, server)| (*name, server))
        .collect();
    for target in &placed.targets {
        free.remove(target);
    }
    let mut clash = None;
    free.retain(|server, _| match load.port_owner(server, group) {
        Some(owner) => {
            clash.get_or_insert((*server, owner));
            false
        }
        None => true,
    });
    while placed.targets.len() < rule.wanted {
        let best = free
            .iter()
            .min_by_key(|(name, server)| (crowd.around(server), load.burden(name), **name))
            .map(|(name, _)| *name);
        let Some(best) = best else {
            break;
        };
        free.remove(best);
        placed.targets.push(best);
        crowd.change(world, best, |count| count + 1);
        load.count(&group.name, group.port, &[best]);
    }
    note_shortage(world, group, &rule, clash, placed);
    placed.targets.sort();
}

/// Whether a server whose contents are not known may hold one already: then nothing is placed, or
/// there might be one too many.
fn is_in_doubt(
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

fn note_shortage(
    world: &World<'_>,
    group: &GroupDesired,
    rule: &ByCount<'_>,
    clash: Option<(&ServerName, &GroupName)>,
    placed: &mut Placed<'_>,
) {
    let found = placed.targets.len();
    if found >= rule.wanted {
        return;
    }
    let unjoined = world.servers.values().find(|server| {
        server.hearing == Hearing::Never && server.declared.is_some_and(|d| matches(d, rule.among))
    });
    let number = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
    let of_group = || format!("{}/{}", world.code, group.name);
    placed.holds.push(match (unjoined, clash) {
        (Some(server), _) => (
            format!("{}/{}", world.code, server.name),
            HoldReason::AwaitingJoin {
                server: server.name.clone(),
            },
        ),
        (None, Some((server, by))) => (
            of_group(),
            HoldReason::PortTaken {
                group: group.name.clone(),
                port: group.port,
                server: server.clone(),
                by: by.clone(),
            },
        ),
        (None, None) => (
            of_group(),
            HoldReason::NoCandidate {
                group: group.name.clone(),
                wanted: number(rule.wanted),
                found: number(found),
            },
        ),
    });
}
