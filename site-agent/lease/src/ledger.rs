//! What must survive a crash: saved before anything that rests on it leaves (I4).

use serde::{Deserialize, Serialize};

use crate::memory::Memory;
use crate::time::Ms;
use crate::voters::{Configuration, Term, Voter};

/// A voter's ledger.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    bound(deserialize = "N: Ord + Deserialize<'de>")
)]
pub struct Saved<N> {
    /// Whose it is, and its incarnation.
    pub me: Voter<N>,
    /// The last term granted and its receiver: one grant a term, terms rise (H15).
    pub granted: Option<(Term, Voter<N>)>,
    /// How often this voter has voted: who is told a higher number of its own has an old ledger (H4).
    pub votes: u64,
    /// No request of this term or one below is ever answered with yes (R11).
    pub closed: Term,
    /// The longest promise ever given: how long a restarted voter stays silent (R5).
    pub longest: Ms,
    /// The voters.
    pub configuration: Configuration<N>,
    /// What the site remembers (H21).
    pub memory: Memory<N>,
}

impl<N: Clone> Saved<N> {
    /// The ledger of a voter that has never voted.
    #[must_use]
    pub fn new(me: Voter<N>, configuration: Configuration<N>) -> Self {
        Self {
            me,
            granted: None,
            votes: 0,
            closed: Term(0),
            longest: Ms(0),
            configuration,
            memory: Memory::default(),
        }
    }

    /// The highest term this voter has granted or closed.
    #[must_use]
    pub fn highest(&self) -> Term {
        let granted = self.granted.as_ref().map_or(Term(0), |(term, _)| *term);
        granted.max(self.closed)
    }
}
