//! Whether a server is fit for the site server of a site with a lease, before it is installed there.
//!
//! Its agent is asked (`Action::Check`), and until it has answered that nothing is missing, nothing is
//! installed (SP-1 to SP-18, G-9, G-10). What is missing is a hold, each thing with its own way out,
//! and is asked for again by itself. A server that has its site server already is asked now and then,
//! for the notes in `status`: nothing is held, and nothing taken from it (G-15).

use std::collections::BTreeMap;

use stead_schemas::desired::{DatabaseDesired, LeaseDesired, SiteServerDesired};
use stead_schemas::names::{IdentityKind, ServerName};
use stead_schemas::plan::{Action, HoldReason, PlannedCheck, Step, Wait};
use stead_schemas::prerequisite::{CheckPeer, CheckQuestion, Checked, Prerequisite};
use stead_schemas::role::Role;
use stead_schemas::time::DurationMs;

use crate::agents::change_held;
use crate::lease::Rule;
use crate::road::{Draft, check_id, install_id};
use crate::spec::Source;
use crate::world::{SITE_SERVER, Server, Well, World};

/// What was missing is asked for again after so long: a repair ends its hold by itself.
const AGAIN: DurationMs = DurationMs::seconds(10);
/// What was found fit is believed so long; the installation follows in the next pass.
const BELIEVED: DurationMs = DurationMs::seconds(60);
/// One that has its site server is asked this often.
const NOW_AND_THEN: DurationMs = DurationMs::seconds(600);

/// What is known of a server's prerequisites.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fitness {
    /// Nothing is missing, or nothing is asked of it.
    Fit,
    /// It is being asked.
    Open,
    /// Something is missing: there are holds that say what.
    Unfit,
}

/// What is known of a server, which is heard, now; drafts what finds out, or what is held.
pub(crate) fn fitness(world: &World<'_>, server: &Server<'_>, draft: &mut Draft) -> Fitness {
    let Some((site_server, question)) = question(world, server) else {
        return Fitness::Fit;
    };
    let known = server.checked.filter(|known| known.question == question);
    let mut lacks = known.map(lacks).unwrap_or_default();
    lacks.extend(older_than_active(world, server));
    if lacks.is_empty() {
        let fresh = known.is_some_and(|known| world.now.since(known.at) < BELIEVED);
        if fresh {
            return Fitness::Fit;
        }
        push_check(world, server, site_server, question, draft);
        return Fitness::Open;
    }
    for lack in lacks {
        let about = world.instance(&SITE_SERVER, server.name).to_string();
        draft.hold(about, lack, Some(&site_server.place));
    }
    ask_again(world, server, known.map(|_| AGAIN), question, draft);
    Fitness::Unfit
}

/// What comes before a site's first lease: the site server of its active, so that somebody can hold
/// it. Where one runs without a lease, and without a store, every candidate is found fit first, and
/// who is to stand by does; none: one can't, and all stays as it is.
pub(crate) fn before_founding(
    world: &World<'_>,
    active: &Server<'_>,
    runs: bool,
    draft: &mut Draft,
) -> Option<Vec<Wait>> {
    if has_site_server(active) {
        return Some(Vec::new());
    }
    if !runs {
        let install = install_id(&SITE_SERVER, active.name);
        return draft.has_step(&install).then(|| vec![Wait::Step(install)]);
    }
    let site_server = world.lease.site_server();
    let passive = site_server.into_iter().flat_map(|s| &s.passive);
    let passive: Vec<_> = passive.filter_map(|name| world.servers.get(name)).collect();
    let mut fit = Vec::new();
    let mut waits = Vec::new();
    for server in std::iter::once(&active).chain(&passive) {
        let fitness = fitness_once(world, server, draft);
        if fitness == Fitness::Open {
            waits.push(Wait::Step(check_id(server.name)));
        }
        fit.push(fitness != Fitness::Unfit);
    }
    for server in passive {
        let stands_by = has_site_server(server) && server.well(&SITE_SERVER) == Well::Healthy;
        if !stands_by {
            waits.push(Wait::Healthy(world.instance(&SITE_SERVER, server.name)));
        }
    }
    fit.into_iter().all(|fit| fit).then_some(waits)
}

/// As [`fitness`], however long ago it was found: a founding that was told is not taken back.
fn fitness_once(world: &World<'_>, server: &Server<'_>, draft: &mut Draft) -> Fitness {
    if has_site_server(server) || change_held(world, server).is_some() {
        return Fitness::Fit;
    }
    let question = question(world, server).map(|(_, question)| question);
    let known = server
        .checked
        .filter(|known| Some(&known.question) == question.as_ref());
    if known.is_some_and(Checked::is_passed) {
        return Fitness::Fit;
    }
    fitness(world, server, draft)
}

/// Asks those that have their site server, now and then.
pub(crate) fn watch(world: &World<'_>, draft: &mut Draft) {
    for server in world.servers.values() {
        if server.is_heard()
            && has_site_server(server)
            && let Some((_, question)) = question(world, server)
        {
            let known = server.checked.map(|_| NOW_AND_THEN);
            ask_again(world, server, known, question, draft);
        }
    }
}

/// Whether its site server is one of a pair, which uses the database.
pub(crate) fn has_site_server(server: &Server<'_>) -> bool {
    let spec = server.assigned(&SITE_SERVER);
    spec.is_some_and(|spec| !spec.settings.is_null())
}

fn push_check(
    world: &World<'_>,
    server: &Server<'_>,
    site_server: &SiteServerDesired,
    question: CheckQuestion,
    draft: &mut Draft,
) {
    let id = check_id(server.name);
    let waits: Vec<Wait> = store(world).into_iter().collect();
    if waits.is_empty() {
        let check = PlannedCheck {
            question,
            step: Some(id.clone()),
        };
        draft.checks.insert(server.name.clone(), Box::new(check));
    }
    draft.push(Step {
        id,
        action: Action::Check {
            server: server.name.clone(),
        },
        waits,
        part_of: None,
        because: "nothing is installed before all it needs is there".to_owned(),
        place: Some(site_server.place.clone()),
        deadline: world.policy.agent_step,
    });
}

/// Asks once `every` has passed since the last answer; at once where there is none.
fn ask_again(
    world: &World<'_>,
    server: &Server<'_>,
    every: Option<DurationMs>,
    question: CheckQuestion,
    draft: &mut Draft,
) {
    let last = server.checked.map(|known| known.at);
    match last.zip(every).map(|(last, every)| last.plus(every)) {
        Some(due) if world.now < due => draft.wake(due),
        _ => {
            let check = PlannedCheck {
                question,
                step: None,
            };
            draft.checks.insert(server.name.clone(), Box::new(check));
        }
    }
}

/// What a server is asked; none: it is no candidate of a lease.
fn question<'a>(
    world: &World<'a>,
    server: &Server<'_>,
) -> Option<(&'a SiteServerDesired, CheckQuestion)> {
    let Rule::Leased(site_server) = world.lease.rule else {
        return None;
    };
    let lease = site_server.lease.as_ref()?;
    lease.voters.get(server.name)?.rank?;
    let address = server.declared?.address;
    let question = CheckQuestion {
        site: world.code.clone(),
        server: server.name.clone(),
        instance: Source::SiteServer(site_server).spec(Role::SiteServer, address),
        peers: peers(world, server, lease),
        // A renewal needs a vote on the disk, and time to travel (design section 6).
        sync_within: DurationMs(lease.timing.renew.0 / 2),
        content_library: world.desired?.content_library.clone(),
    };
    Some((site_server, question))
}

/// The other voters that are heard: what keeps the rest has its own holds.
fn peers(
    world: &World<'_>,
    server: &Server<'_>,
    lease: &LeaseDesired,
) -> BTreeMap<ServerName, CheckPeer> {
    let others = lease.voters.iter().filter(|(name, voter)| {
        let heard = match voter.kind {
            IdentityKind::Reconciler => world.context.witness.contains_key(*name),
            _ => world.servers.get(*name).is_some_and(Server::is_heard),
        };
        heard && *name != server.name
    });
    let peer = |(name, voter): (&ServerName, &stead_schemas::lease::VoterSpec)| {
        let (kind, address) = (voter.kind, voter.address);
        (name.clone(), CheckPeer { kind, address })
    };
    others.map(peer).collect()
}

/// An embedded database runs before anybody is asked whether it can be reached.
fn store(world: &World<'_>) -> Option<Wait> {
    let desired = world.desired?;
    let DatabaseDesired::Embedded { server, .. } = desired.database.as_ref()? else {
        return None;
    };
    let mut groups = desired.groups.values();
    let group = &groups.find(|group| group.role == Role::Database)?.name;
    let seen = world.servers.get(server);
    let healthy = seen.is_some_and(|seen| seen.well(group) == Well::Healthy);
    (!healthy).then(|| Wait::Healthy(world.instance(group, server)))
}

/// What the answer says is missing, one reason a thing.
fn lacks(known: &Checked) -> Vec<HoldReason> {
    let mut lacks = Vec::new();
    for check in &known.checks {
        let fatal: Vec<_> = check.findings.iter().filter(|f| f.fatal).collect();
        if fatal.is_empty() {
            continue;
        }
        let joined = |of: fn(&stead_schemas::prerequisite::Finding) -> &str| {
            let texts: Vec<&str> = fatal.iter().map(|finding| of(finding)).collect();
            texts.join("; ")
        };
        lacks.push(HoldReason::Prerequisite {
            server: known.question.server.clone(),
            prerequisite: check.prerequisite,
            why: joined(|finding| &finding.text),
            remedy: joined(|finding| &finding.remedy),
        });
    }
    lacks
}

/// SP-8 asks for the active's very version; a standby that is updated first is newer, and fine (G-49).
fn older_than_active(world: &World<'_>, server: &Server<'_>) -> Option<HoldReason> {
    let active = world.lease.known.holder.or_else(|| {
        let site_server = world.lease.site_server()?;
        Some(&site_server.active)
    })?;
    let version = |server: &Server<'_>| Some(server.report?.version.clone());
    let other = world.servers.get(active)?;
    let (own, theirs) = (version(server)?, version(other)?);
    let older = parts(&own)? < parts(&theirs)?;
    (older && other.is_heard()).then(|| HoldReason::Prerequisite {
        server: server.name.clone(),
        prerequisite: Prerequisite::Version,
        why: format!("its site-agent is {own}, older than {theirs} of the active {active} (SP-8)"),
        remedy: format!(
            "install site-agent {theirs} on {}, then site-agent reload",
            server.name
        ),
    })
}

/// `1.12.0` as numbers; what comes after them is left out.
fn parts(version: &str) -> Option<[u64; 3]> {
    let (numbers, _) = version.split_once(['-', '+']).unwrap_or((version, ""));
    let mut parts = numbers.split('.').map(|part| part.parse().ok());
    let three = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(three)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(parts("0.9.2") < parts("0.10.0"));
        assert_eq!(parts("1.2.3-rc1"), parts("1.2.3+abc"));
        assert_eq!(parts("unknown"), None);
        assert_eq!(parts("1.2"), None);
    }
}
