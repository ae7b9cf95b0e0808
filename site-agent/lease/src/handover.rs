//! Handing the lease over: one request to the holder, which does the rest (H11).
//!
//! The term is released only once no work of it is left, with the place kept for the successor.

use crate::effects::{Action, HandoverRefusal, Note};
use crate::node::{Node, Part, Promise, Turn};
use crate::time::{Mono, Ms};
use crate::voters::{Name, Term, Voter};

/// A readiness that was told longer ago is none.
pub(crate) const READY_WITHIN: Ms = Ms(2_000);
/// The old holder stays out of the way of the successor this long.
const ASIDE: Ms = Ms(1_000);

impl<N: Name> Node<N> {
    /// What a voter said last counts: one that was ready and is not any more takes over from nobody.
    pub(crate) fn note_ready(&mut self, now: Mono, from: &Voter<N>, term: Term, ready: bool) {
        if let Part::Holding(lease) = &mut self.part
            && lease.term == term
        {
            if ready {
                lease.ready_at.insert(from.clone(), now);
            } else {
                lease.ready_at.remove(from);
            }
        }
    }

    /// The voters that a holder could hand over to now: they said in time that they are ready.
    pub fn ready(&self, now: Mono) -> impl Iterator<Item = &Voter<N>> {
        let told = self.lease().into_iter().flat_map(|lease| &lease.ready_at);
        told.filter(move |(_, at)| now <= at.plus(READY_WITHIN))
            .map(|(voter, _)| voter)
    }

    pub(crate) fn hand_over(&mut self, turn: &mut Turn<N>, to: Voter<N>) {
        let in_force = &self.saved.configuration.in_force;
        let votes = in_force.members.contains(&to) && to != self.saved.me;
        let Part::Holding(lease) = &mut self.part else {
            let refusal = HandoverRefusal::NotHolder;
            turn.notes.push(Note::HandoverRefused(refusal));
            return;
        };
        let ready = lease.ready_at.get(&to);
        let refusal = if let Some(first) = &lease.handing_to {
            Some(HandoverRefusal::UnderWay(first.clone()))
        } else if !votes || ready.is_none_or(|at| turn.now > at.plus(READY_WITHIN)) {
            Some(HandoverRefusal::NotReady(to.clone()))
        } else {
            None
        };
        if let Some(refusal) = refusal {
            turn.notes.push(Note::HandoverRefused(refusal));
            return;
        }
        lease.handing_to = Some(to);
        turn.actions.push(Action::Stop { term: lease.term });
    }

    /// Hands over by itself to whoever is asked for, as soon as it is ready (H21).
    pub(crate) fn hand_over_when_asked(&mut self, turn: &mut Turn<N>) {
        let Some(name) = self.requested() else {
            return;
        };
        let Part::Holding(lease) = &self.part else {
            return;
        };
        let ready = lease.ready_at.iter().find(|(voter, at)| {
            voter.name == name && turn.now <= at.plus(READY_WITHIN) && lease.handing_to.is_none()
        });
        if let Some(to) = ready.map(|(voter, _)| voter.clone()) {
            self.hand_over(turn, to);
        }
    }

    /// No work of the term is left: it may be released, for good (R12, R13).
    pub(crate) fn idle(&mut self, turn: &mut Turn<N>) {
        let (term, successor) = match &self.part {
            Part::Stopping(term) => (*term, self.outranked.then(|| self.saved.me.clone())),
            Part::Holding(lease) => match &lease.handing_to {
                Some(to) => (lease.term, Some(to.clone())),
                None => return,
            },
            Part::Following | Part::Sounding(_) | Part::Asking(_) => return,
        };
        self.part = Part::Following;
        self.release(turn, term, successor.clone());
        turn.notes.push(Note::Released(term));
        let aside = turn.now.plus(ASIDE);
        self.ask_after = self.ask_after.max(aside);
        self.reserved = successor.map(|to| Promise { to, until: aside });
        if core::mem::take(&mut self.outranked) {
            self.ask(turn);
        }
    }
}
