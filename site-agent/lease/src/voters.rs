//! Who votes: voters with incarnations, configurations with epochs, and what a majority is (H3, H4).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::time::Mono;

/// What voters are called by.
pub trait Name: Clone + Ord + fmt::Debug {}
impl<T: Clone + Ord + fmt::Debug> Name for T {}

/// The number of an attempt to hold the lease: rises for ever, names one holder, fences the rest.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Term(pub u64);

impl Term {
    /// The next one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Drawn when a ledger is first made: a voter that forgot is another voter (H4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

/// One that votes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Voter<N> {
    /// Its name.
    pub name: N,
    /// The life of its ledger.
    pub incarnation: Incarnation,
}

/// Orders configurations. The number rises by one a change; the term of the holder that proposed it
/// keeps two proposals of one number apart, as one of them can't have had a majority.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct Epoch {
    /// Changes so far.
    pub number: u64,
    /// The term in which it was proposed.
    pub term: Term,
}

/// A set of voters, and its place among all such sets of the site.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "N: Ord + Deserialize<'de>"))]
pub struct Voters<N> {
    /// Its place.
    pub epoch: Epoch,
    /// Its members.
    pub members: BTreeSet<Voter<N>>,
}

impl<N: Name> Voters<N> {
    /// The latest instant that a majority has reached: the middle one, counted from the latest.
    fn reached(&self, acknowledged: &BTreeMap<Voter<N>, Mono>) -> Option<Mono> {
        let mut at: Vec<Mono> = self
            .members
            .iter()
            .filter_map(|voter| acknowledged.get(voter).copied())
            .collect();
        at.sort_unstable_by(|a, b| b.cmp(a));
        at.get(self.members.len() / 2).copied()
    }

    /// Whether these are a majority; each voter counts once (R2).
    fn is_majority(&self, yes: &BTreeSet<Voter<N>>) -> bool {
        self.members.intersection(yes).count() > self.members.len() / 2
    }
}

/// The voters in force, and those that shall replace them. While there are both, whatever needs a
/// majority needs one of each (H3).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    bound(deserialize = "N: Ord + Deserialize<'de>")
)]
pub struct Configuration<N> {
    /// What holds.
    pub in_force: Voters<N>,
    /// What is stored and not known to be in force.
    pub pending: Option<Voters<N>>,
}

impl<N: Name> Configuration<N> {
    /// A configuration with nothing pending.
    #[must_use]
    pub const fn of(in_force: Voters<N>) -> Self {
        Self {
            in_force,
            pending: None,
        }
    }

    /// The newest epoch stored.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.pending.as_ref().unwrap_or(&self.in_force).epoch
    }

    /// Everyone in it, in order.
    #[must_use]
    pub fn everyone(&self) -> BTreeSet<Voter<N>> {
        self.sets()
            .flat_map(|set| set.members.iter().cloned())
            .collect()
    }

    /// Whether it has this voter, of this incarnation.
    #[must_use]
    pub fn has(&self, voter: &Voter<N>) -> bool {
        self.sets().any(|set| set.members.contains(voter))
    }

    /// Whether these are a majority of every set.
    #[must_use]
    pub fn is_quorum(&self, yes: &BTreeSet<Voter<N>>) -> bool {
        self.sets().all(|set| set.is_majority(yes))
    }

    /// The latest instant that a majority of every set has reached.
    #[must_use]
    pub fn reached(&self, acknowledged: &BTreeMap<Voter<N>, Mono>) -> Option<Mono> {
        let mut least: Option<Mono> = None;
        for set in self.sets() {
            let at = set.reached(acknowledged)?;
            least = Some(least.map_or(at, |least| least.min(at)));
        }
        least
    }

    /// What somebody else has stored is newer: it is taken over, and together with the old one
    /// where they do not know it to be in force.
    #[must_use]
    pub(crate) fn learned(&self, theirs: &Self) -> Option<Self> {
        if theirs.epoch() <= self.epoch() {
            // The same newest one, which they know to be in force.
            let settled = theirs.in_force.epoch == self.epoch() && self.pending.is_some();
            return settled.then(|| Self::of(theirs.in_force.clone()));
        }
        let newer = theirs.in_force.epoch > self.in_force.epoch;
        let in_force = if newer { theirs } else { self }.in_force.clone();
        Some(Self {
            in_force,
            pending: theirs.pending.clone(),
        })
    }

    fn sets(&self) -> impl Iterator<Item = &Voters<N>> {
        core::iter::once(&self.in_force).chain(&self.pending)
    }
}
