//! Placement: on which servers the instances of each group should run.
//!
//! Stable: whoever holds an instance and still matches keeps it; only what is missing is placed
//! and only what is too many goes, or what stands on another group's port (`ports`) or on a drained
//! server (`drain`). Nothing is
//! remembered between passes but what agents report.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use stead_schemas::desired::{
    GroupDesired, Placement, ServerDesired, SiteDesired, SiteServerDesired,
};
use stead_schemas::names::{GroupName, ServerName};
use stead_schemas::observed::SiteObserved;
use stead_schemas::plan::HoldReason;
use stead_schemas::time::{DurationMs, DurationOrNever, WallMs};

use crate::context::{Context, Policy};
use crate::crowd::Crowd;
use crate::drain;
use crate::ports::Ports;
use crate::shortage::{is_in_doubt, note_shortage, port_taken};
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
    /// There, on a port that is another group's or on a drained server: goes as soon as there is
    /// another place for it.
    yielding: Vec<&'a ServerName>,
    /// Of the targets those that would go, and stay for want of another place.
    pub(crate) stuck: Vec<&'a ServerName>,
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
    let mut ports = Ports::default();
    if let Some(site_server) = &desired.site_server {
        ports.claim_site_server(site_server);
        all.insert(&*SITE_SERVER, site_servers(site_server));
    }
    let mut counted: Vec<&GroupDesired> = Vec::new();
    for (name, group) in &desired.groups {
        let placed = match &group.placement {
            Placement::ByHand(servers) => by_hand(servers),
            Placement::ByCount { .. } => {
                let holders = holders.get(name).map_or(&[][..], Vec::as_slice);
                counted.push(group);
                keep(world, group, holders)
            }
        };
        if matches!(group.placement, Placement::ByHand(_)) {
            ports.claim(group, &placed.targets);
        }
        all.insert(name, placed);
    }
    settle(world, &counted, &mut all, &mut ports);
    let mut load = BTreeMap::new();
    for placed in all.values() {
        count(&mut load, &placed.targets);
    }
    for group in scarcest_first(world, counted, &all) {
        let placed = all.get_mut(&group.name).expect("inserted above");
        fill(world, group, placed, &mut load, &mut ports);
    }
    all
}

/// What is there of counted groups: off other groups' ports and drained servers, and no more than
/// wanted.
fn settle<'a>(
    world: &World<'a>,
    counted: &[&'a GroupDesired],
    all: &mut BTreeMap<&'a GroupName, Placed<'a>>,
    ports: &mut Ports<'a>,
) {
    let there: Vec<(&GroupDesired, &[&ServerName])> = counted
        .iter()
        .map(|group| (*group, all[&group.name].targets.as_slice()))
        .collect();
    let clashes = ports.clashes(world, &there);
    for group in counted {
        let placed = all.get_mut(&group.name).expect("inserted by the caller");
        let yields = |server: &&ServerName| {
            clashes.contains(&(&group.name, *server))
                || drain::yields(group, &world.servers[*server])
        };
        (placed.yielding, placed.targets) = placed.targets.drain(..).partition(yields);
        trim(world, group, placed);
        ports.claim(group, &placed.targets);
    }
    for group in counted {
        let placed = all.get_mut(&group.name).expect("inserted by the caller");
        take_back(world, group, placed, ports);
    }
}

/// What was in the way of an instance may be too many itself, and go: then nobody has to yield to it.
/// Otherwise the next pass, which sees it gone, would place anew.
fn take_back<'a>(
    world: &World<'a>,
    group: &'a GroupDesired,
    placed: &mut Placed<'a>,
    ports: &mut Ports<'a>,
) {
    let wanted = by_count(group).wanted;
    for server in std::mem::take(&mut placed.yielding) {
        let may_stay = ports.in_the_way(group, server).is_none()
            && !drain::yields(group, &world.servers[server]);
        if may_stay && placed.targets.len() < wanted {
            placed.targets.push(server);
            ports.claim(group, &[server]);
        } else {
            placed.yielding.push(server);
        }
    }
}

/// Groups that lack instances; who has the fewest servers to choose from chooses first.
fn scarcest_first<'a>(
    world: &World<'a>,
    counted: Vec<&'a GroupDesired>,
    all: &BTreeMap<&'a GroupName, Placed<'a>>,
) -> Vec<&'a GroupDesired> {
    let (mut short, full): (Vec<_>, Vec<_>) = counted
        .into_iter()
        .partition(|group| all[&group.name].targets.len() < by_count(group).wanted);
    short.sort_by_cached_key(|group| {
        let rule = by_count(group);
        let servers = world.servers.values();
        servers
            .filter(|server| is_candidate(server, group, &rule))
            .count()
    });
    short.extend(full);
    short
}

fn count<'a>(load: &mut BTreeMap<&'a ServerName, u32>, targets: &[&'a ServerName]) {
    for server in targets {
        *load.entry(server).or_default() += 1;
    }
}

/// On the active; under a lease on the passives as well, where it stands by.
fn site_servers(site_server: &SiteServerDesired) -> Placed<'_> {
    let passive = site_server.passive.iter();
    let standing_by = passive.filter(|_| site_server.has_lease());
    let sorted: BTreeSet<&ServerName> = standing_by.chain([&site_server.active]).collect();
    Placed {
        targets: sorted.into_iter().collect(),
        ..Placed::default()
    }
}

fn by_hand(servers: &[ServerName]) -> Placed<'_> {
    let sorted: BTreeSet<&ServerName> = servers.iter().collect();
    Placed {
        targets: sorted.into_iter().collect(),
        ..Placed::default()
    }
}

/// What a counted group asks for.
pub(crate) struct ByCount<'a> {
    pub(crate) wanted: usize,
    pub(crate) among: &'a BTreeMap<String, String>,
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

pub(crate) fn matches(server: &ServerDesired, among: &BTreeMap<String, String>) -> bool {
    among
        .iter()
        .all(|(label, value)| server.labels.get(label) == Some(value))
}

/// Present holders that still match.
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
    placed
}

/// Too many: the least useful go.
fn trim<'a>(world: &World<'a>, group: &'a GroupDesired, placed: &mut Placed<'a>) {
    let rule = by_count(group);
    let mut crowd = Crowd::of(world, rule.spread, &placed.targets);
    while placed.targets.len() > rule.wanted {
        let worst = (0..placed.targets.len())
            .min_by_key(|index| usefulness(world, group, &crowd, placed.targets[*index]))
            .expect("longer than wanted, so not empty");
        let gone = placed.targets.remove(worst);
        crowd.change(world, gone, |count| count - 1);
    }
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
        // It comes back, or was moved away before; nothing is concluded from its silence.
        Seen::Held if server.is_away() && server.hearing != Hearing::Lost => true,
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

/// Places what is missing on the best servers that are heard.
fn fill<'a>(
    world: &World<'a>,
    group: &'a GroupDesired,
    placed: &mut Placed<'a>,
    load: &mut BTreeMap<&'a ServerName, u32>,
    ports: &mut Ports<'a>,
) {
    let rule = by_count(group);
    if placed.targets.len() < rule.wanted
        && Source::Declared(group).unrunnable(group.role).is_none()
    {
        if is_in_doubt(world, group, &rule, placed) {
            stay_put(&rule, placed);
        } else {
            choose(world, group, &rule, placed, load, ports);
            stay_put(&rule, placed);
            note_clashes(world, group, placed, ports);
            note_shortage(world, group, &rule, placed, ports);
        }
        ports.claim(group, &placed.targets);
    }
    placed.targets.sort();
}

/// A server that could take an instance, were its port free.
pub(crate) fn is_candidate(server: &Server<'_>, group: &GroupDesired, rule: &ByCount<'_>) -> bool {
    server.is_heard()
        && server.suspended.is_none()
        && server.drained.is_none()
        && server
            .declared
            .is_some_and(|d| matches(d, rule.among) && d.agent_port != group.port)
}

fn choose<'a>(
    world: &World<'a>,
    group: &'a GroupDesired,
    rule: &ByCount<'_>,
    placed: &mut Placed<'a>,
    load: &mut BTreeMap<&'a ServerName, u32>,
    ports: &Ports<'a>,
) {
    let mut crowd = Crowd::of(world, rule.spread, &placed.targets);
    let mut free: BTreeMap<&ServerName, &Server<'a>> = world
        .servers
        .iter()
        .filter(|(name, server)| {
            is_candidate(server, group, rule) && ports.in_the_way(group, name).is_none()
        })
        .map(|(name, server)| (*name, server))
        .collect();
    for target in &placed.targets {
        free.remove(target);
    }
    while placed.targets.len() < rule.wanted {
        let burden = |name: &ServerName| load.get(name).copied().unwrap_or(0);
        let best = free
            .iter()
            .min_by_key(|(name, server)| (crowd.around(server), burden(name), **name))
            .map(|(name, _)| *name);
        let Some(best) = best else {
            break;
        };
        free.remove(best);
        placed.targets.push(best);
        crowd.change(world, best, |count| count + 1);
        *load.entry(best).or_default() += 1;
    }
}

/// What has no other place stays where it is: nothing that runs is taken away for a port.
fn stay_put(rule: &ByCount<'_>, placed: &mut Placed<'_>) {
    let targets = &placed.targets;
    let mut stuck = std::mem::take(&mut placed.yielding);
    stuck.retain(|server| !targets.contains(server));
    stuck.truncate(rule.wanted.saturating_sub(targets.len()));
    placed.targets.extend(&stuck);
    placed.stuck = stuck;
}

fn note_clashes<'a>(
    world: &World<'a>,
    group: &'a GroupDesired,
    placed: &mut Placed<'a>,
    ports: &Ports<'a>,
) {
    for server in &placed.stuck {
        if let Some(reason) = port_taken(group, server, ports) {
            let about = world.instance(&group.name, server).to_string();
            placed.holds.push((about, reason));
        }
    }
}
