//! Changing the voters: by the holder of a live term only, one change at a time, in force when a
//! majority of the old and of the new set has stored it (H3).
//!
//! Solo is such a change, to the holder alone; so is taking a voter back in.

use alloc::collections::BTreeSet;

use crate::effects::{ChangeRefusal, Note};
use crate::node::{Node, Part, Turn};
use crate::voters::{Configuration, Epoch, Name, Term, Voter, Voters};

impl<N: Name> Node<N> {
    pub(crate) fn change(&mut self, turn: &mut Turn<N>, members: BTreeSet<Voter<N>>) {
        let refusal = match (&self.part, &self.saved.configuration.pending) {
            (Part::Holding(_), Some(pending)) => Some(ChangeRefusal::UnderWay(pending.epoch)),
            (Part::Holding(_), None) if !members.contains(&self.saved.me) => {
                Some(ChangeRefusal::WithoutHolder)
            }
            (Part::Holding(_), None) => None,
            _ => Some(ChangeRefusal::NotHolder),
        };
        if let Some(refusal) = refusal {
            turn.notes.push(Note::ChangeRefused(refusal));
            return;
        }
        let me = self.saved.me.clone();
        let Part::Holding(lease) = &mut self.part else {
            return;
        };
        let epoch = Epoch {
            number: self.saved.configuration.in_force.epoch.number + 1,
            term: lease.term,
        };
        self.saved.configuration.pending = Some(Voters { epoch, members });
        turn.save = true;
        lease.stored = BTreeSet::from([me]);
        // Asked at once, not at the next renewal.
        lease.renew_at = turn.now;
        turn.notes.push(Note::Proposed(epoch));
    }

    /// Takes over what somebody else has stored, if it is newer. Nobody is known to have stored it.
    pub(crate) fn learn_voters(&mut self, turn: &mut Turn<N>, theirs: &Configuration<N>) {
        let Some(learned) = self.saved.configuration.learned(theirs) else {
            return;
        };
        if let Part::Holding(lease) = &mut self.part
            && learned.epoch() != self.saved.configuration.epoch()
        {
            lease.stored = BTreeSet::from([self.saved.me.clone()]);
        }
        self.saved.configuration = learned;
        turn.save = true;
    }

    /// A voter that renewed said which voters it has stored.
    pub(crate) fn note_stored(
        &mut self,
        turn: &mut Turn<N>,
        from: &Voter<N>,
        term: Term,
        stored: Epoch,
    ) {
        let newest = self.saved.configuration.epoch();
        if let Part::Holding(lease) = &mut self.part
            && lease.term == term
            && stored == newest
            && self.saved.configuration.has(from)
        {
            lease.stored.insert(from.clone());
            self.settle_change(turn);
        }
    }

    /// Puts stored voters in force, once the lease rests on the new ones alone for as long as was
    /// already said: a deadline that was given out is never taken back.
    pub(crate) fn settle_change(&mut self, turn: &mut Turn<N>) {
        let (Part::Holding(lease), Some(pending)) = (&self.part, &self.saved.configuration.pending)
        else {
            return;
        };
        let alone = Configuration::of(pending.clone());
        let reached = alone.reached(&lease.acknowledged);
        let lasts = reached.is_some_and(|at| at.plus(self.timing.duration()) >= lease.until);
        if !lasts || !self.saved.configuration.is_quorum(&lease.stored) {
            return;
        }
        let epoch = pending.epoch;
        self.saved.configuration = alone;
        turn.save = true;
        turn.notes.push(Note::InForce(epoch));
        self.extend_lease(turn);
    }
}
