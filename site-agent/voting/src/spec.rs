//! What a declared lease means to one voter: lengths, standing, founders, the voters there shall be.
//! Pure.

use std::collections::{BTreeMap, BTreeSet};

use site_lease::{
    Configuration, Epoch, Incarnation, Memory, Mono, Ms, Node, Saved, Standing, Term, Timing,
    TimingError, Voters,
};
use stead_schemas::lease::{LeaseSpec, LeaseTiming};
use stead_schemas::names::ServerName;
use stead_schemas::time::WallMs;

use crate::Voter;
use crate::ledger::Route;

const HOUR_MS: u64 = 3_600_000;
/// Passives that are silent for so long are not waited for any more (H3).
const SOLO_AFTER: Ms = Ms(60_000);
/// One that answered so lately is there.
const BACK_WITHIN: Ms = Ms(2_000);
/// Configurations are counted from one; the founders' was made in no term.
const FOUNDING: Epoch = Epoch {
    number: 1,
    term: Term(0),
};

pub(crate) fn timing(declared: &LeaseTiming) -> Result<Timing, TimingError> {
    Timing::new(
        Ms(declared.duration.0),
        Ms(declared.renew.0),
        Ms(declared.stop_before.0),
        declared.drift_percent.into(),
    )
}

/// Ranks behind the declared active that everybody else stands while the site never had an active: 3 s,
/// in which the slowest of the founders hears that it is one.
const FOUNDING_RANKS: u32 = 20;

/// What this voter may do. Past the limit of failovers an hour nobody takes over by itself (H19). The first
/// active of a site is the declared one, whoever is told first that there is a lease.
pub(crate) fn standing(
    spec: &LeaseSpec,
    me: &ServerName,
    memory: &Memory<ServerName>,
    now: WallMs,
) -> Standing {
    let waits = memory.declared.is_none() && spec.declared.active != *me;
    match spec.voters.get(me).and_then(|voter| voter.rank) {
        Some(rank) => Standing::Candidate {
            rank: rank.saturating_add(if waits { FOUNDING_RANKS } else { 0 }),
            automatic: spec.automatic && !is_spent(spec, memory, now),
        },
        None => Standing::Witness,
    }
}

fn is_spent(spec: &LeaseSpec, memory: &Memory<ServerName>, now: WallMs) -> bool {
    let Some(limit) = spec.failovers_per_hour else {
        return false;
    };
    let hour_ago = now.0.saturating_sub(HOUR_MS);
    let lately = memory.failovers.iter().filter(|at| **at > hour_ago).count();
    lately >= usize::try_from(limit).unwrap_or(usize::MAX)
}

/// What a voter knows before anybody told it the voters.
pub(crate) fn nobody() -> Configuration<ServerName> {
    Configuration::of(Voters {
        epoch: Epoch::default(),
        members: BTreeSet::new(),
    })
}

/// Whether it was ever told any.
pub(crate) fn is_nobody(configuration: &Configuration<ServerName>) -> bool {
    configuration.epoch() == Epoch::default()
}

/// The first voters of the site, if this voter, in this life of its ledger, is one of them.
pub(crate) fn founding(spec: &LeaseSpec, me: &Voter) -> Option<Configuration<ServerName>> {
    let members: BTreeSet<Voter> = spec
        .founders
        .iter()
        .flatten()
        .map(|(name, incarnation)| voter(name, *incarnation))
        .collect();
    members.contains(me).then(|| {
        Configuration::of(Voters {
            epoch: FOUNDING,
            members,
        })
    })
}

/// The voters there shall be, as things are at a holder; none: not known yet, or as they are.
///
/// Those declared. Where every other candidate has been silent for so long, the holder alone (H3:
/// solo), so that a later loss of the witness stops nobody; the others again once one is heard.
pub(crate) fn wanted(
    spec: &LeaseSpec,
    node: &Node<ServerName>,
    now: Mono,
) -> Option<BTreeSet<Voter>> {
    let saved = node.saved();
    let members = members(spec, &saved.memory)?;
    let in_force = &saved.configuration.in_force.members;
    let candidates = || {
        let ranked = |voter: &&Voter| spec.is_candidate(&voter.name);
        members
            .iter()
            .filter(ranked)
            .filter(|voter| **voter != saved.me)
    };
    let silent_for = |voter: &Voter| {
        let answered = node.answered(voter).unwrap_or_default();
        answered.until(now)
    };
    let alone = BTreeSet::from([saved.me.clone()]);
    let is_alone = *in_force == alone;
    let lost =
        candidates().next().is_some() && candidates().all(|voter| silent_for(voter) >= SOLO_AFTER);
    let back = candidates().any(|voter| silent_for(voter) <= BACK_WITHIN);
    let wanted = match (is_alone, lost, back) {
        (false, true, _) | (true, _, false) if members.len() > 1 => alone,
        _ => members,
    };
    (wanted != *in_force && wanted.contains(&saved.me)).then_some(wanted)
}

/// Who shall vote and doesn't.
pub(crate) fn guests(spec: &LeaseSpec, saved: &Saved<ServerName>) -> BTreeSet<Voter> {
    let members = members(spec, &saved.memory).unwrap_or_default();
    members
        .into_iter()
        .filter(|voter| !saved.configuration.has(voter))
        .collect()
}

/// The voters that are declared, once the life of every ledger is known; lives that a person gave up
/// are left out (H32).
pub(crate) fn members(spec: &LeaseSpec, memory: &Memory<ServerName>) -> Option<BTreeSet<Voter>> {
    let lost = |name: &ServerName| memory.lost.iter().any(|voter| voter.name == *name);
    spec.voters
        .iter()
        .filter(|(name, declared)| declared.incarnation.is_some() || !lost(name))
        .map(|(name, declared)| Some(voter(name, declared.incarnation?)))
        .filter(|voter| voter.as_ref().is_none_or(|v| !memory.lost.contains(v)))
        .collect()
}

pub(crate) fn routes(spec: &LeaseSpec) -> BTreeMap<ServerName, Route> {
    let route = |(name, voter): (&ServerName, &stead_schemas::lease::VoterSpec)| {
        let route = Route {
            kind: voter.kind,
            address: voter.address,
        };
        (name.clone(), route)
    };
    spec.voters.iter().map(route).collect()
}

fn voter(name: &ServerName, incarnation: u64) -> Voter {
    Voter {
        name: name.clone(),
        incarnation: Incarnation(incarnation),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use site_lease::{Body, Input, Message};
    use stead_schemas::lease::{DeclaredActive, VoterSpec};
    use stead_schemas::names::IdentityKind;

    use super::*;

    fn declared() -> LeaseSpec {
        let ranks = [("p01-a", Some(0)), ("p01-b", Some(1)), ("p01-w", None)];
        let voters: BTreeMap<ServerName, VoterSpec> = ranks
            .into_iter()
            .map(|(name, rank)| {
                let voter = VoterSpec {
                    kind: IdentityKind::Server,
                    address: "127.0.0.1:7443".parse().unwrap(),
                    rank,
                    incarnation: Some(1),
                };
                (name.parse().unwrap(), voter)
            })
            .collect();
        LeaseSpec {
            voters,
            founders: None,
            declared: DeclaredActive {
                active: "p01-a".parse().unwrap(),
                above: 0,
            },
            automatic: true,
            failback_after: None,
            failovers_per_hour: None,
            timing: LeaseTiming::default(),
            alias: None,
        }
    }

    fn named(name: &str) -> Voter {
        voter(&name.parse().unwrap(), 1)
    }

    /// p01-a as it starts, one of three founders, and the three.
    fn founder(spec: &LeaseSpec) -> (Node<ServerName>, BTreeSet<Voter>) {
        let all: BTreeSet<Voter> = ["p01-a", "p01-b", "p01-w"].map(named).into();
        let first = Configuration::of(Voters {
            epoch: FOUNDING,
            members: all.clone(),
        });
        let saved = Saved::new(named("p01-a"), first);
        let standing = Standing::Candidate {
            rank: 0,
            automatic: true,
        };
        let timing = timing(&spec.timing).unwrap();
        (Node::start(saved, timing, standing, Mono(0)), all)
    }

    /// Gives an input, and answers what is asked of those who are there.
    fn take(node: &mut Node<ServerName>, now: u64, input: Input<ServerName>, there: &[&str]) {
        let effects = node.handle(Mono(now), input);
        let done = effects.commit(|_| Ok::<(), ()>(())).unwrap();
        for action in done.actions {
            let site_lease::Action::Send { to, mut message } = action else {
                continue;
            };
            if let Body::Configure { configuration, .. } = &message.body {
                message.epoch = configuration.epoch();
            }
            let body = match message.body {
                Body::PreAsk { term } => Body::PreGrant { term },
                Body::Ask { term, sent, .. } => Body::Grant { term, sent },
                Body::Renew { term, sent, .. } | Body::Configure { term, sent, .. } => {
                    Body::Renewed {
                        term,
                        sent,
                        ready: true,
                    }
                }
                _ => continue,
            };
            if there.contains(&to.name.as_str()) {
                let message = Message {
                    epoch: message.epoch,
                    memory: message.memory,
                    body,
                };
                take(node, now, Input::Received { from: to, message }, there);
            }
        }
    }

    /// Runs a holder as the driver does, until then.
    fn run(
        node: &mut Node<ServerName>,
        spec: &LeaseSpec,
        until: u64,
        now: &mut u64,
        there: &[&str],
    ) {
        while *now < until {
            *now += 250;
            take(node, *now, Input::Progress, there);
            let configuration = node.saved().configuration.clone();
            let guests = guests(spec, node.saved());
            take(node, *now, Input::Guests(guests), there);
            if configuration.pending.is_none()
                && let Some(members) = wanted(spec, node, Mono(*now))
            {
                take(node, *now, Input::Change { members }, there);
            }
        }
    }

    #[test]
    fn h14_the_first_active_of_a_site_is_the_declared_one_whoever_hears_of_it_first() {
        let spec = declared();
        let rank = |name: &str, memory: &Memory<ServerName>| match standing(
            &spec,
            &name.parse().unwrap(),
            memory,
            WallMs(0),
        ) {
            Standing::Candidate { rank, .. } => rank,
            Standing::Witness => panic!("{name} may hold"),
        };
        let mut memory = Memory::default();
        assert_eq!(rank("p01-a", &memory), 0);
        assert_eq!(rank("p01-b", &memory), 1 + FOUNDING_RANKS);
        memory.declared = Some("p01-a".parse().unwrap());
        assert_eq!(rank("p01-b", &memory), 1, "a failover waits for nobody");
    }

    #[test]
    fn h3_a_holder_whose_passives_are_long_silent_goes_on_alone_and_takes_them_back() {
        let spec = declared();
        let (mut node, all) = founder(&spec);
        let in_force =
            |node: &Node<ServerName>| node.saved().configuration.in_force.members.clone();
        let mut now = 0;
        run(&mut node, &spec, 5_000, &mut now, &["p01-b", "p01-w"]);
        assert_eq!(in_force(&node), all);
        // A passive that is only restarting is waited for.
        run(&mut node, &spec, 50_000, &mut now, &["p01-w"]);
        assert_eq!(in_force(&node), all);
        run(&mut node, &spec, 70_000, &mut now, &["p01-w"]);
        assert_eq!(in_force(&node), BTreeSet::from([named("p01-a")]), "solo");
        // Now the witness may go, too.
        run(&mut node, &spec, 200_000, &mut now, &[]);
        assert!(node.lease().is_some(), "a second loss stops nobody");
        // The witness alone is no reason: nobody could take over.
        run(&mut node, &spec, 220_000, &mut now, &["p01-w"]);
        assert_eq!(in_force(&node), BTreeSet::from([named("p01-a")]));
        run(&mut node, &spec, 240_000, &mut now, &["p01-b", "p01-w"]);
        assert_eq!(in_force(&node), all, "taken back");
    }

    #[test]
    fn h3_nobody_goes_solo_while_the_only_passive_is_drained() {
        let mut spec = declared();
        let (mut node, all) = founder(&spec);
        let in_force =
            |node: &Node<ServerName>| node.saved().configuration.in_force.members.clone();
        let mut now = 0;
        run(&mut node, &spec, 5_000, &mut now, &["p01-b", "p01-w"]);
        // Drained: told that it is no candidate, and then switched off for two hours.
        let b: ServerName = "p01-b".parse().unwrap();
        spec.voters.get_mut(&b).unwrap().rank = None;
        run(&mut node, &spec, 7_200_000, &mut now, &["p01-w"]);
        assert_eq!(in_force(&node), all, "2 of 3 remain");
        assert!(node.lease().is_some());
        // Its time is over, and it is still off: as for any passive that is lost.
        spec.voters.get_mut(&b).unwrap().rank = Some(1);
        run(&mut node, &spec, 7_201_000, &mut now, &["p01-w"]);
        assert_eq!(in_force(&node), BTreeSet::from([named("p01-a")]), "solo");
    }

    #[test]
    fn h3_a_witness_that_went_first_is_not_covered() {
        let spec = declared();
        let (mut node, all) = founder(&spec);
        let mut now = 0;
        run(&mut node, &spec, 5_000, &mut now, &["p01-b", "p01-w"]);
        run(&mut node, &spec, 100_000, &mut now, &["p01-b"]);
        assert_eq!(node.saved().configuration.in_force.members, all);
        run(&mut node, &spec, 110_000, &mut now, &[]);
        assert!(node.lease().is_none());
    }
}
