//! What voters say to each other (H15). Who said it is known from the certificate, not from here.

use serde::{Deserialize, Serialize};

use crate::memory::Memory;
use crate::time::{Mono, Ms};
use crate::voters::{Configuration, Epoch, Term, Voter};

/// One message. Every one carries the newest epoch, and what is to be remembered, as its sender has
/// stored them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "N: Ord + Deserialize<'de>"))]
pub struct Message<N> {
    /// The sender's newest epoch.
    pub epoch: Epoch,
    /// What the sender remembers (H21).
    pub memory: Memory<N>,
    /// What it says.
    pub body: Body<N>,
}

/// What a message says. `sent` is the sender's own clock when it asked, given back with the answer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields,
    bound(deserialize = "N: Ord + Deserialize<'de>")
)]
pub enum Body<N> {
    /// Would you grant? Changes nothing (R10).
    PreAsk {
        /// The term it would ask for.
        term: Term,
    },
    /// I would.
    PreGrant {
        /// The term asked for.
        term: Term,
    },
    /// Grant me this term.
    Ask {
        /// The term.
        term: Term,
        /// When.
        sent: Mono,
        /// How long the promise shall last.
        promise: Ms,
    },
    /// Granted, durably.
    Grant {
        /// The term.
        term: Term,
        /// As asked.
        sent: Mono,
    },
    /// No, and what the sender should know.
    Refuse {
        /// The term asked for.
        term: Term,
        /// Who holds, and how long the promise to it still lasts.
        held: Option<(Voter<N>, Ms)>,
        /// The highest term known (R6).
        highest: Term,
        /// The voters as stored here.
        configuration: Configuration<N>,
    },
    /// I hold this term and go on.
    Renew {
        /// The term.
        term: Term,
        /// When.
        sent: Mono,
        /// How long the promise shall last.
        promise: Ms,
        /// The voters that are in force.
        in_force: Epoch,
    },
    /// Go on. What is stored here the message's epoch says.
    Renewed {
        /// The term.
        term: Term,
        /// As asked.
        sent: Mono,
        /// A promotion here and now would succeed.
        ready: bool,
    },
    /// I hold this term no more, and never will again (H1).
    Release {
        /// The term, closed for good.
        term: Term,
        /// For a second only this voter may have the next one (H11).
        successor: Option<Voter<N>>,
    },
    /// I hold this term and go on; store these voters.
    Configure {
        /// The term of the holder that asks.
        term: Term,
        /// When.
        sent: Mono,
        /// How long the promise shall last.
        promise: Ms,
        /// The voters, with those in force until then: whoever missed how these came to be in force
        /// would else count without them (H3).
        configuration: Configuration<N>,
    },
}

impl<N> Body<N> {
    /// Whether it asks a voter for something, which one that is silent does not hear (R5, H10).
    #[must_use]
    pub const fn is_request(&self) -> bool {
        match self {
            Self::PreAsk { .. }
            | Self::Ask { .. }
            | Self::Renew { .. }
            | Self::Configure { .. } => true,
            Self::PreGrant { .. }
            | Self::Grant { .. }
            | Self::Refuse { .. }
            | Self::Renewed { .. }
            | Self::Release { .. } => false,
        }
    }
}
