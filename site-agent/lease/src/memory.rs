//! What a site remembers of who was declared to be active, and what is still asked for (H21).
//!
//! It goes from voter to voter with every message, durable at each, newest wins; only the holder
//! writes it. So it outlives every reconciler and its store. It decides nothing about safety: a
//! memory that is lost costs a switchover nobody asked for, never a second active.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::effects::Note;
use crate::node::{Node, Part, Turn};
use crate::voters::{Name, Term, Voter};

/// Unplanned failovers that are remembered; more an hour than any limit allows.
const FAILOVERS_MAX: usize = 16;

/// Orders memories: changes so far, then the term of the holder that wrote it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct Version {
    /// Changes so far.
    pub number: u64,
    /// The term it was written in.
    pub term: Term,
}

/// What is remembered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    rename_all = "camelCase",
    bound(deserialize = "N: Ord + Deserialize<'de>")
)]
pub struct Memory<N> {
    /// Its place among all memories of the site.
    pub version: Version,
    /// The active that git declared when it was last asked: the value, not the text.
    pub declared: Option<N>,
    /// Who shall be active instead: open until it is, or until it is withdrawn.
    pub request: Option<N>,
    /// When passives took over by themselves, by their wall clocks, in milliseconds; for the limit
    /// an hour (H19), and for nothing else.
    pub failovers: Vec<u64>,
    /// Voters that a person gave up (H32): these lives of their ledgers are not let in again.
    #[serde(default = "BTreeSet::new")]
    pub lost: BTreeSet<Voter<N>>,
}

impl<N> Default for Memory<N> {
    fn default() -> Self {
        Self {
            version: Version::default(),
            declared: None,
            request: None,
            failovers: Vec::new(),
            lost: BTreeSet::new(),
        }
    }
}

impl<N: Name> Node<N> {
    /// Takes over what somebody else has stored, if it is newer.
    pub(crate) fn learn_memory(&mut self, turn: &mut Turn<N>, theirs: Memory<N>) {
        if theirs.version > self.saved.memory.version {
            self.saved.memory = theirs;
            turn.save = true;
        }
    }

    /// Git declares this active, as somebody says who knew the memory of this number. A changed
    /// value opens a request, an equal one never does; one that was said about an older memory is
    /// stale, whoever repeats it.
    pub(crate) fn note_declared(&mut self, turn: &mut Turn<N>) {
        let Some((active, above)) = self.told.clone() else {
            return;
        };
        let memory = &self.saved.memory;
        let known = memory.declared.is_none() || above == memory.version.number;
        if !matches!(self.part, Part::Holding(_))
            || !known
            || memory.declared.as_ref() == Some(&active)
        {
            return;
        }
        // The first value ever is what is, not what is asked for.
        let first = memory.declared.is_none();
        let asked = (!first && active != self.saved.me.name).then(|| active.clone());
        self.remember(turn, |memory| {
            memory.declared = Some(active);
            memory.request = asked;
        });
    }

    /// A passive took over by itself, at this time of its wall clock.
    pub(crate) fn note_failover(&mut self, turn: &mut Turn<N>, wall: u64) {
        if matches!(self.part, Part::Holding(_)) {
            self.remember(turn, |memory| {
                memory.failovers.push(wall);
                let surplus = memory.failovers.len().saturating_sub(FAILOVERS_MAX);
                memory.failovers.drain(..surplus);
            });
        }
    }

    /// A new holder writes what it knows anew, so that a majority has it; a request for itself is
    /// done.
    pub(crate) fn renew_memory(&mut self, turn: &mut Turn<N>) {
        let me = self.saved.me.name.clone();
        self.remember(turn, |memory| {
            memory.request.take_if(|to| *to == me);
        });
    }

    /// The voter that is asked for, once a majority remembers it.
    pub(crate) fn requested(&self) -> Option<N> {
        let Part::Holding(lease) = &self.part else {
            return None;
        };
        let to = self.saved.memory.request.clone()?;
        let reached = self.saved.configuration.reached(&lease.acknowledged)?;
        (reached > lease.remembered_at).then_some(to)
    }

    fn remember(&mut self, turn: &mut Turn<N>, write: impl FnOnce(&mut Memory<N>)) {
        let Part::Holding(lease) = &mut self.part else {
            return;
        };
        let before = self.saved.memory.clone();
        let memory = &mut self.saved.memory;
        write(memory);
        // A new term alone is no change: whoever speaks of that number still means this.
        memory.version = Version {
            number: before.version.number + u64::from(*memory != before),
            term: lease.term,
        };
        lease.remembered_at = turn.now;
        turn.save = true;
        if memory.request != before.request {
            turn.notes.push(Note::Requested(memory.request.clone()));
        }
    }
}
