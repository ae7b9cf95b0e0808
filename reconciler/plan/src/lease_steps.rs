//! The steps that lead to a site's lease as declared, and what holds them up.
//!
//! A server is told the lease in its assignment: first so that it opens a vote ledger, then, once
//! every ledger of a new site is known, who founds it (H4). Changes of voters and of the active are
//! the holder's work; here they are told, and waited for. Nothing is taken from a server that holds.

use stead_schemas::names::{IdentityKind, ServerName};
use stead_schemas::plan::{Action, HoldReason, Step, Wait};
use stead_schemas::time::{DurationMs, WallMs};

use crate::agents::{change_held, not_heard, server_about};
use crate::lease::{
    Rule, ends, founding_waits, has_new_ledger, holds, is_given_up, is_told, manual_for, report_of,
    spec_for,
};
use crate::leave::{self, Exit};
use crate::members::{Group, Listing, Member};
use crate::prerequisites;
use crate::road::{Draft, add_wait, install_id, lease_id, remove_id, switch_id, update_id};
use crate::site_server::old_active;
use crate::world::{Hearing, SITE_SERVER, Seen, Server, World};

const HOUR: DurationMs = DurationMs::seconds(3_600);

/// Why nothing of the site server may be changed: git wants it without a lease on a server that does
/// not stand by, so that nobody could hand over to it.
pub(crate) fn held(world: &World<'_>) -> Option<HoldReason> {
    let Rule::Ending(site_server) = world.lease.rule else {
        return None;
    };
    let active = world.servers.get(&site_server.active);
    let stands_by = active.is_some_and(|active| active.assigned(&SITE_SERVER).is_some())
        && world.lease.known.has_vote(&site_server.active);
    if ends(world) || stands_by {
        return None;
    }
    let known = &world.lease.known;
    let voters = known.voters.map(|voters| voters.in_force.keys());
    let server = known.holder.or_else(|| voters?.next())?.clone();
    Some(HoldReason::HoldsLease { server })
}

/// An instance of a leased site server that is not wanted where it is.
pub(crate) fn leave(
    world: &World<'_>,
    group: &Group<'_>,
    member: &Member<'_>,
    exit: Exit,
    stays: Listing,
    draft: &mut Draft,
) -> Listing {
    let server = member.server.name;
    let mut waits = Vec::new();
    if holds(world, member.server) {
        let Some(to) = successor(world) else {
            let about = world.instance(group.name, server).to_string();
            let reason = HoldReason::HoldsLease {
                server: server.clone(),
            };
            draft.hold(about, reason, group.place());
            return stays;
        };
        waits.push(Wait::Step(switch_id(group.name, server, to)));
    }
    if world.lease.declared().contains(server) {
        // Told that it is a witness, it asks for nothing any more.
        let want = spec_for(world, member.server, false);
        let founded = world.lease.known.voters.is_some();
        if founded && !is_told(member.server, want.as_ref()) {
            waits.push(Wait::Step(lease_id(server)));
        }
    } else if world.lease.known.has_vote(server) {
        waits.push(all_vote(world));
    }
    leave::remove(world, group, member, exit, waits, draft);
    Listing {
        later: Some(false),
        ..stays
    }
}

pub(crate) fn all_vote(world: &World<'_>) -> Wait {
    Wait::Voters(world.lease.declared().into_iter().cloned().collect())
}

/// Who shall take over from the holder: a declared active that the site has not taken note of, else
/// the one that was asked for and is not there yet (H21). A parked one is not asked for.
fn successor<'a>(world: &World<'a>) -> Option<&'a ServerName> {
    let site_server = world.lease.site_server()?;
    let (memory, holder) = (world.lease.known.memory?, world.lease.known.holder?);
    let declared = memory.declared.as_ref()?;
    let to = if *declared == site_server.active {
        memory.request.as_ref()?
    } else {
        &site_server.active
    };
    (to != holder).then_some(to)
}

/// Drafts what the lease needs, and mends what was drafted of the site server's instances.
pub(crate) fn decide(world: &World<'_>, groups: &[Group<'_>], draft: &mut Draft) {
    let group = groups.iter().find(|group| *group.name == *SITE_SERVER);
    match world.lease.rule {
        Rule::None => return,
        Rule::Over => return over(world, group, draft),
        Rule::Leased(_) | Rule::Ending(_) => {}
    }
    if held(world).is_some() {
        return;
    }
    let runner = group.and_then(|group| unleased(group));
    let stands_by = before_founding(world, runner, draft);
    let fit = stands_by.as_ref().and_then(|_| founding(world, draft));
    let founding = fit.is_some();
    let fit = fit.unwrap_or_default();
    let before: Vec<Wait> = stands_by.into_iter().flatten().chain(fit.clone()).collect();
    for server in world.servers.values().filter(|s| has_part(world, s)) {
        vote(world, server, founding, &before, draft);
    }
    if let Some(group) = group {
        mend_updates(world, group, runner, founding.then_some(fit), draft);
    }
    switch_over(world, draft);
    prerequisites::watch(world, draft);
    note_voters(world, draft);
    note_failovers(world, draft);
}

/// Where the site may not be changed: what a person said of its failover is told all the same (H31).
pub(crate) fn stop_failover(world: &World<'_>, draft: &mut Draft) {
    for server in world.servers.values() {
        tell_manual(world, server, draft);
    }
}

fn tell_manual(world: &World<'_>, server: &Server<'_>, draft: &mut Draft) {
    let Some(want) = manual_for(world, server) else {
        return;
    };
    let because = "failover is suspended: nobody takes over or back by itself".to_owned();
    push_vote(world, server, Vec::new(), because, draft);
    draft
        .leases
        .insert(server.name.clone(), Some(Box::new(want)));
}

/// A server that votes, shall vote, or was told to.
fn has_part(world: &World<'_>, server: &Server<'_>) -> bool {
    let told = server.report.is_some_and(|r| r.assigned_lease.is_some());
    let known = &world.lease.known;
    // What a lost ledger says of others is not theirs to answer for once the lease is ended.
    let votes = known.has_vote(server.name) && !ends(world);
    told || votes || matches!(world.lease.rule, Rule::Leased(_)) && is_declared(world, server)
}

fn is_declared(world: &World<'_>, server: &Server<'_>) -> bool {
    server.declared.is_some() && world.lease.declared().contains(server.name)
}

/// The site is gone, or has no site server any more: nobody votes once nothing is left of it.
fn over(world: &World<'_>, group: Option<&Group<'_>>, draft: &mut Draft) {
    let members = group.into_iter().flat_map(|group| &group.members);
    let there = members.filter(|m| matches!(m.seen, Seen::Present | Seen::Stopping));
    let waits: Vec<Wait> = there
        .map(|m| Wait::Gone(world.instance(&SITE_SERVER, m.server.name)))
        .collect();
    for server in world.servers.values() {
        if server.report.is_some_and(|r| r.assigned_lease.is_some())
            && may_be_told(world, server, draft)
        {
            let because = "the site has no site server any more".to_owned();
            push_vote(world, server, waits.clone(), because, draft);
            draft.leases.insert(server.name.clone(), None);
        }
    }
}

/// Whether a new site's lease may begin, and after what; a hold says what keeps it.
fn founding(world: &World<'_>, draft: &mut Draft) -> Option<Vec<Wait>> {
    let Rule::Leased(site_server) = world.lease.rule else {
        return None;
    };
    if world.lease.known.voters.is_some() {
        return None;
    }
    let about = format!("{}/{}", world.code, *SITE_SERVER);
    let place = Some(&site_server.place);
    if let Some(voter) = founding_waits(world) {
        let voter = voter.clone();
        draft.hold(about, HoldReason::FoundingWaits { voter }, place);
        return None;
    }
    let active = world.servers.get(&site_server.active)?;
    // H14: without a lease there was one active, which has to be seen.
    let runs = active
        .assigned(&SITE_SERVER)
        .is_some_and(|spec| spec.settings.is_null());
    match old_active(world, active).filter(|_| !runs) {
        Some(reason) => {
            draft.hold(about, reason, place);
            None
        }
        None => prerequisites::before_founding(world, active, runs, draft),
    }
}

/// The instance that is the active one without a lease.
fn unleased<'g, 'a>(group: &'g Group<'a>) -> Option<&'g Member<'a>> {
    let there = group.members.iter().filter(|m| m.seen == Seen::Present);
    let mut unleased = there.filter(|m| m.spec.is_some_and(|spec| spec.settings.is_null()));
    unleased.next()
}

/// What must be so before a lease begins: who was active without one, and is not to be, stands by.
/// None: that is held.
fn before_founding(
    world: &World<'_>,
    runner: Option<&Member<'_>>,
    draft: &Draft,
) -> Option<Vec<Wait>> {
    let (Some(runner), Rule::Leased(site_server)) = (runner, world.lease.rule) else {
        return Some(Vec::new());
    };
    let server = runner.server.name;
    if *server == site_server.active {
        return Some(Vec::new());
    }
    let steps = [
        update_id(&SITE_SERVER, server),
        remove_id(&SITE_SERVER, server),
    ];
    let mut there = steps.into_iter().filter(|id| draft.has_step(id));
    Some(vec![Wait::Step(there.next()?)])
}

/// Tells one server what it should know, or says what is waited for after it was told.
fn vote(
    world: &World<'_>,
    server: &Server<'_>,
    founding: bool,
    before: &[Wait],
    draft: &mut Draft,
) {
    let want = spec_for(world, server, founding);
    if is_told(server, want.as_ref()) {
        let waits = after(world, server, founding);
        if !waits.is_empty() {
            let because = "it was told the site's lease".to_owned();
            push_vote(world, server, waits, because, draft);
        }
        return;
    }
    if !may_be_told(world, server, draft) {
        tell_manual(world, server, draft);
        return;
    }
    let founders = want.as_ref().is_some_and(|want| want.founders.is_some());
    let waits = if founders && world.lease.known.voters.is_none() {
        before.to_vec()
    } else {
        Vec::new()
    };
    let because = match &want {
        None => "it does not vote any more".to_owned(),
        Some(want) => {
            let rank = want.voters.get(server.name).map(|voter| voter.rank);
            let part = match rank {
                Some(Some(_)) => "votes, may be active",
                Some(None) if server.is_away() => "votes; drained, so it does not take over",
                Some(None) => "votes",
                None => "votes until others do",
            };
            let manual = if world.context.manual {
                "; failover is suspended"
            } else {
                ""
            };
            format!("{part}; declared active {}{manual}", want.declared.active)
        }
    };
    push_vote(world, server, waits, because, draft);
    draft.leases.insert(server.name.clone(), want.map(Box::new));
}

/// Whether a server can be told anything now; a hold says why not.
fn may_be_told(world: &World<'_>, server: &Server<'_>, draft: &mut Draft) -> bool {
    let place = server.declared.map(|declared| &declared.place);
    if !server.is_heard() {
        // A person said that one is gone: nothing is waited for.
        if server.hearing != Hearing::Lost {
            draft.hold(server_about(world, server.name), not_heard(server), place);
        }
        return false;
    }
    match change_held(world, server) {
        Some((about, reason)) => {
            draft.hold(about, reason, place);
            false
        }
        None => true,
    }
}

/// What has still to come of what a server was told.
fn after(world: &World<'_>, server: &Server<'_>, founding: bool) -> Vec<Wait> {
    let lease = &world.lease;
    if ends(world) {
        return Vec::new();
    }
    if lease.known.voters.is_none() {
        let ledgers = unopened(world);
        return match (founding, ledgers.is_empty()) {
            (false, _) => Vec::new(),
            (true, false) => ledgers,
            (true, true) => vec![all_vote(world)],
        };
    }
    let speaks = match lease.known.holder {
        Some(holder) => server.name == holder,
        None => lease
            .site_server()
            .is_some_and(|s| s.active == *server.name),
    };
    let leaves = !lease.declared().contains(server.name);
    if lease.is_as_declared() || !(speaks || leaves) || !all_can_vote(world) {
        return Vec::new();
    }
    vec![all_vote(world)]
}

/// Voters whose ledger is not open yet.
fn unopened(world: &World<'_>) -> Vec<Wait> {
    let declared = world.lease.declared().into_iter();
    let closed = declared.filter(|name| {
        let server = world.servers.get(*name);
        server.is_some_and(|server| report_of(server).is_none())
    });
    closed.map(|name| Wait::Ledger(name.clone())).collect()
}

/// Every declared voter is heard and says nothing against it: the holder can make them vote.
fn all_can_vote(world: &World<'_>) -> bool {
    world.lease.declared().into_iter().all(|name| {
        let Some(server) = world.servers.get(name) else {
            return world.context.witness.contains_key(name)
                && !is_given_up(world, name, IdentityKind::Reconciler);
        };
        let problem = report_of(server).is_some_and(|report| report.problem.is_some());
        let kind = IdentityKind::Server;
        server.is_heard()
            && !problem
            && !has_new_ledger(world, name, kind)
            && !is_given_up(world, name, kind)
    })
}

fn push_vote(
    world: &World<'_>,
    server: &Server<'_>,
    waits: Vec<Wait>,
    because: String,
    draft: &mut Draft,
) {
    draft.push(Step {
        id: lease_id(server.name),
        action: Action::Vote {
            server: server.name.clone(),
        },
        waits,
        part_of: None,
        because,
        place: world.lease.site_server().map(|s| s.place.clone()),
        deadline: world.policy.agent_step,
    });
}

/// The active's instance changes with the lease it begins or ends under, not before.
fn mend_updates(
    world: &World<'_>,
    group: &Group<'_>,
    runner: Option<&Member<'_>>,
    founding: Option<Vec<Wait>>,
    draft: &mut Draft,
) {
    let Some(site_server) = world.lease.site_server() else {
        return;
    };
    let mut waits = Vec::new();
    let mut dropped = false;
    let server = match world.lease.rule {
        Rule::Ending(_) if !ends(world) => {
            waits.push(all_vote(world));
            Some(&site_server.active)
        }
        Rule::Leased(_) if world.lease.known.voters.is_none() => {
            dropped = founding.is_none();
            waits = unopened(world);
            waits.extend(founding.into_iter().flatten());
            runner.map(|runner| runner.server.name)
        }
        _ => None,
    };
    if let Some(server) = server {
        let ids = [
            install_id(group.name, server),
            remove_id(group.name, server),
            update_id(group.name, server),
        ];
        for step in draft.steps.iter_mut().filter(|s| ids.contains(&s.id)) {
            for wait in &waits {
                add_wait(&mut step.waits, wait.clone());
            }
        }
        if dropped {
            draft.retract(&ids);
        }
    }
    let active = world.lease.known.holder.or(server);
    let update = active.map(|active| update_id(group.name, active));
    for step in draft
        .steps
        .iter_mut()
        .filter(|s| Some(&s.id) == update.as_ref())
    {
        "declared otherwise; it is the active one: interruption while it restarts"
            .clone_into(&mut step.because);
    }
}

/// The change of the active that the holder is asked for: waited for, not done here.
fn switch_over(world: &World<'_>, draft: &mut Draft) {
    let (Some(site_server), Some(from), Some(to)) = (
        world.lease.site_server(),
        world.lease.known.holder,
        successor(world),
    ) else {
        return;
    };
    let place = Some(&site_server.place);
    let about = world.instance(&SITE_SERVER, to).to_string();
    let Some(server) = world.servers.get(to) else {
        return;
    };
    if !server.is_heard() {
        draft.hold(about, not_heard(server), place);
        return;
    }
    if let Some(drain) = server.drained {
        draft.hold(about, drain.reason(to), place);
        return;
    }
    let first = [lease_id(from), lease_id(to), install_id(&SITE_SERVER, to)];
    let mut waits: Vec<Wait> = first
        .into_iter()
        .filter(|id| draft.has_step(id))
        .map(Wait::Step)
        .collect();
    let report = report_of(server);
    let ready = report.is_some_and(|report| report.ready);
    if !ready && waits.is_empty() {
        let why = report.and_then(|report| report.not_ready.clone());
        let reason = HoldReason::NotReady {
            server: to.clone(),
            why: why.unwrap_or_else(|| "it does not say that it is ready".to_owned()),
        };
        draft.hold(about, reason, place);
        return;
    }
    waits.push(Wait::Holds(to.clone()));
    let because = if *to == site_server.active {
        format!("{} declares {to} the active site server", site_server.place)
    } else {
        format!("{to} was asked for by hand")
    };
    draft.push(Step {
        id: switch_id(&SITE_SERVER, from, to),
        action: Action::SwitchOver {
            from: from.clone(),
            to: to.clone(),
        },
        waits,
        part_of: None,
        because,
        place: place.cloned(),
        deadline: world.policy.agent_step,
    });
}

/// Voters that do not vote, and why.
fn note_voters(world: &World<'_>, draft: &mut Draft) {
    let Rule::Leased(site_server) = world.lease.rule else {
        return;
    };
    for (name, voter) in site_server.lease.iter().flat_map(|lease| &lease.voters) {
        let server = world.servers.get(name).filter(|server| server.is_heard());
        let problem = server.and_then(|s| report_of(s)?.problem.clone());
        let reason = if is_given_up(world, name, voter.kind) {
            HoldReason::VoterProblem {
                server: name.clone(),
                problem: format!(
                    "given up by `stead promote`: it stays out until `stead replace {name}`"
                ),
            }
        } else if has_new_ledger(world, name, voter.kind) {
            HoldReason::NewLedger {
                server: name.clone(),
            }
        } else if let Some(problem) = problem {
            HoldReason::VoterProblem {
                server: name.clone(),
                problem,
            }
        } else {
            continue;
        };
        let place = server.and_then(|s| s.declared).map(|d| &d.place);
        draft.hold(server_about(world, name), reason, place);
    }
}

/// The hourly limit of unplanned failovers (H19).
fn note_failovers(world: &World<'_>, draft: &mut Draft) {
    let (Rule::Leased(site_server), Some(memory)) = (world.lease.rule, world.lease.known.memory)
    else {
        return;
    };
    let lease = site_server.lease.as_ref().filter(|lease| lease.automatic);
    let Some(limit) = lease.and_then(|lease| lease.failovers_per_hour) else {
        return;
    };
    let mut lately: Vec<WallMs> = memory
        .failovers
        .iter()
        .map(|at| at.plus(HOUR))
        .filter(|end| *end > world.now)
        .collect();
    lately.sort();
    if let Some(end) = lately.len().checked_sub(limit as usize) {
        let about = format!("{}/{}", world.code, *SITE_SERVER);
        let reason = HoldReason::FailoversSpent { limit };
        draft.hold(about, reason, Some(&site_server.place));
        if let Some(end) = lately.get(end) {
            draft.wake(*end);
        }
    }
}
