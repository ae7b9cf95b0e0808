//! The way out when a majority is gone for good: a person names the lost, and this voter goes on alone
//! (H32).
//!
//! It rests on that person's word, not on votes: where somebody named lost is alive, only the token
//! protects. A configuration far above every known one, and a term far above, keep the lost out: a
//! voter that returns learns of it and has no vote until another life of its ledger is let in.

use alloc::collections::BTreeSet;

use crate::effects::{How, Note, PromoteRefusal};
use crate::message::Body;
use crate::node::{Node, Part, Standing, Turn};
use crate::voters::{Configuration, Epoch, Name, Term, Voter, Voters};

/// How far above everything known: the lost may have gone on among themselves.
const ABOVE: u64 = 1_000;
/// Lost voters that are remembered.
const LOST_MAX: usize = 16;

impl<N: Name> Node<N> {
    /// Makes this voter the only one, and takes the lease. The caller has made sure that none of the
    /// lost answers, and has waited one promise since.
    pub(crate) fn promote(&mut self, turn: &mut Turn<N>, lost: BTreeSet<Voter<N>>) {
        if let Some(refusal) = self.promotion_refused(turn, &lost) {
            turn.notes.push(Note::PromoteRefused(refusal));
            return;
        }
        if matches!(self.part, Part::Asking(_)) {
            self.give_up(turn);
        }
        self.part = Part::Following;
        self.promise = None;
        self.reserved = None;
        let me = self.saved.me.clone();
        let from = self.saved.granted.as_ref().map(|(_, to)| to.clone());
        let from = from.filter(|to| *to != me);
        self.heard = Term(self.saved.highest().max(self.heard).0 + ABOVE);
        let epoch = Epoch {
            number: self.saved.configuration.epoch().number + ABOVE,
            term: self.heard,
        };
        let members = BTreeSet::from([me]);
        self.saved.configuration = Configuration::of(Voters { epoch, members });
        let memory = &mut self.saved.memory;
        memory.lost.extend(lost);
        while memory.lost.len() > LOST_MAX {
            memory.lost.pop_first();
        }
        memory.version.number += 1;
        turn.save = true;
        turn.notes.push(Note::Promoted(epoch));
        self.ask_as(turn, How::Promoted { from });
    }

    fn promotion_refused(
        &self,
        turn: &Turn<N>,
        lost: &BTreeSet<Voter<N>>,
    ) -> Option<PromoteRefusal<N>> {
        let configuration = &self.saved.configuration;
        let me = &self.saved.me;
        // Where another was the only voter this one has no vote, and is who may go on. One that never
        // had voters knows nobody whom it could outlive, and one that was given up stays out.
        let stranger = configuration.everyone().is_empty()
            || self.saved.memory.lost.contains(me) && !configuration.has(me);
        if self.standing == Standing::Witness || stranger || lost.contains(me) {
            return Some(PromoteRefusal::NotCandidate);
        }
        if matches!(self.part, Part::Holding(_)) {
            return Some(PromoteRefusal::Holder);
        }
        if self.is_silent(turn.now) {
            return Some(PromoteRefusal::Silent);
        }
        if let Some(promise) = self.promise.as_ref().filter(|p| p.to != *me) {
            return Some(PromoteRefusal::Promised(promise.to.clone()));
        }
        let left = configuration.everyone().difference(lost).cloned().collect();
        configuration
            .is_quorum(&left)
            .then_some(PromoteRefusal::Majority)
    }

    /// Tells the lost what is in force, with each renewal: one that returns hears it while it is still
    /// silent, before it can vote for another that returns.
    pub(crate) fn tell_the_lost(&self, turn: &mut Turn<N>) {
        let Part::Holding(lease) = &self.part else {
            return;
        };
        for voter in &self.saved.memory.lost {
            if self.saved.configuration.has(voter) {
                continue;
            }
            let refusal = Body::Refuse {
                term: lease.term,
                held: Some((self.saved.me.clone(), self.timing.promise())),
                highest: self.saved.highest(),
                configuration: self.saved.configuration.clone(),
            };
            self.send(turn, voter, refusal);
        }
    }
}
