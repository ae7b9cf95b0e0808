//! What a declared lease means to one voter: lengths, standing, founders, the voters there shall be.
//! Pure.

use std::collections::{BTreeMap, BTreeSet};

use site_lease::{
    Configuration, Epoch, Incarnation, Memory, Ms, Standing, Term, Timing, TimingError, Voters,
};
use stead_schemas::lease::{LeaseSpec, LeaseTiming};
use stead_schemas::names::ServerName;
use stead_schemas::time::WallMs;

use crate::Voter;
use crate::ledger::Route;

const HOUR_MS: u64 = 3_600_000;
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

/// What this voter may do. Past the limit of failovers an hour nobody takes over by itself (H19).
pub(crate) fn standing(
    spec: &LeaseSpec,
    me: &ServerName,
    memory: &Memory<ServerName>,
    now: WallMs,
) -> Standing {
    match spec.voters.get(me).and_then(|voter| voter.rank) {
        Some(rank) => Standing::Candidate {
            rank,
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
