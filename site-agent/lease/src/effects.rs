//! What comes out of a node: first what must be durable, then what may be done.
//!
//! Actions can't be reached but through [`Effects::commit`], which saves first: durable before
//! answered holds by type, not by the order of calls (I4).

use alloc::vec::Vec;

use crate::ledger::Saved;
use crate::message::Message;
use crate::time::Mono;
use crate::voters::{Epoch, Term, Voter};

/// The outcome of one input.
#[derive(Debug)]
#[must_use = "what is not committed was not saved"]
pub struct Effects<N> {
    save: Option<Saved<N>>,
    actions: Vec<Action<N>>,
    notes: Vec<Note<N>>,
}

/// What may be done and told, now that the save is durable.
#[derive(Debug)]
pub struct Committed<N> {
    /// To do, in this order.
    pub actions: Vec<Action<N>>,
    /// To tell.
    pub notes: Vec<Note<N>>,
}

/// Something to do, after the save.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action<N> {
    /// Send this.
    Send {
        /// To whom.
        to: Voter<N>,
        /// What.
        message: Message<N>,
    },
    /// Work may go on under this term until then, no unit of it begun later (I1b).
    Work {
        /// The term: the fencing token.
        term: Term,
        /// The deadline, [`crate::Timing::stop_before`] ahead of the lease's end.
        until: Mono,
    },
    /// Work must end now; answer with [`crate::Input::Idle`] once it is proven ended.
    Stop {
        /// The term it was done under.
        term: Term,
    },
}

/// Something worth telling; the caller logs it, tests assert on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Note<N> {
    /// The lease is held.
    Won(Term, How<N>),
    /// An attempt failed; what it got was released.
    GaveUp(Term),
    /// The lease ran out here.
    Lost(Term),
    /// The lease was released for good.
    Released(Term),
    /// A handover was refused: somebody else's is under way, or the target is not ready.
    HandoverRefused(HandoverRefusal<N>),
    /// New voters are stored, and asked for at the others.
    Proposed(Epoch),
    /// New voters are in force.
    InForce(Epoch),
    /// New voters can't be asked for now.
    ChangeRefused(ChangeRefusal),
    /// Somebody shall be active, or nobody else any more (H21).
    Requested(Option<N>),
    /// A person named the lost: this voter is the only one (H32).
    Promoted(Epoch),
    /// It is not.
    PromoteRefused(PromoteRefusal<N>),
    /// From somebody who has no vote; no effect.
    Stranger(Voter<N>),
}

/// How a term came to be held here.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum How<N> {
    /// The one before was held here, too.
    Again,
    /// By itself, after the holder was silent.
    Failover {
        /// Who held it before, as far as is known here.
        from: Option<Voter<N>>,
    },
    /// Nobody is known to have held it before.
    First,
    /// It was handed over.
    Handover {
        /// By whom.
        from: Voter<N>,
    },
    /// A person said that the others are gone for good.
    Promoted {
        /// Who held it before, as far as is known here.
        from: Option<Voter<N>>,
    },
}

/// Why a handover is not begun.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HandoverRefusal<N> {
    /// The lease is not here.
    NotHolder,
    /// One is under way, to this voter.
    UnderWay(Voter<N>),
    /// The target has not said in the last 2 s that it is ready (H11).
    NotReady(Voter<N>),
}

/// Why a voter does not go on alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PromoteRefusal<N> {
    /// It may not hold, never knew the site's voters, or was given up itself.
    NotCandidate,
    /// The lease is here.
    Holder,
    /// It was restarted, or work is left: it says nothing yet.
    Silent,
    /// Somebody's lease may still live.
    Promised(Voter<N>),
    /// Those who are not lost are a majority.
    Majority,
}

/// Why a change of voters is not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChangeRefusal {
    /// Only the holder proposes.
    NotHolder,
    /// One at a time.
    UnderWay(Epoch),
    /// The holder itself would have no vote.
    WithoutHolder,
}

impl<N> Effects<N> {
    pub(crate) const fn new(
        save: Option<Saved<N>>,
        actions: Vec<Action<N>>,
        notes: Vec<Note<N>>,
    ) -> Self {
        Self {
            save,
            actions,
            notes,
        }
    }

    /// Whether anything has to be saved.
    #[must_use]
    pub const fn saves(&self) -> bool {
        self.save.is_some()
    }

    /// Saves what must be saved, then hands out the actions.
    ///
    /// # Errors
    /// What `save` answered. The node's memory has moved on already: the caller must end and begin
    /// again from the ledger.
    pub fn commit<E>(
        self,
        save: impl FnOnce(&Saved<N>) -> Result<(), E>,
    ) -> Result<Committed<N>, E> {
        if let Some(saved) = &self.save {
            save(saved)?;
        }
        Ok(Committed {
            actions: self.actions,
            notes: self.notes,
        })
    }
}
