//! What a holder does: renew while there is progress, extend by what a majority answered, stop in
//! time.

use crate::effects::{Action, Note};
use crate::message::Body;
use crate::node::{Lease, Node, Part, Standing, Turn};
use crate::time::{Mono, Ms, Timing};
use crate::voters::{Name, Term, Voter};

/// A write to the ledger's disk that is older proves nothing: as many renewals may rest on it.
const PROGRESS_FOR: u64 = 2;

impl<N: Name> Lease<N> {
    /// The voters that agreed to it, its holder among them.
    pub fn granted_by(&self) -> impl Iterator<Item = &Voter<N>> {
        self.acknowledged.keys()
    }
}

impl<N: Name> Node<N> {
    /// When a holder last asked this one, voter or guest, and was answered; not before its lease.
    #[must_use]
    pub fn answered(&self, by: &Voter<N>) -> Option<Mono> {
        let lease = self.lease()?;
        let answered = lease.acknowledged.get(by).copied();
        Some(answered.unwrap_or_default().max(lease.since))
    }

    /// Voters that a holder has not heard for longer than a promise.
    pub fn silent(&self, now: Mono) -> impl Iterator<Item = &Voter<N>> {
        let voters = &self.saved.configuration.in_force.members;
        let promise = self.timing.promise();
        voters.iter().filter(move |voter| {
            let answered = self.answered(voter);
            answered.is_some_and(|at| now > at.plus(promise))
        })
    }

    /// Until when work may begin under a lease.
    pub(crate) fn work_until(&self, lease: &Lease<N>) -> Mono {
        lease.until.minus(self.timing.stop_before())
    }

    /// Renews a lease that is due, with everyone who may have a say in it.
    pub(crate) fn renew_when_due(&mut self, turn: &mut Turn<N>) {
        let Part::Holding(lease) = &mut self.part else {
            return;
        };
        if turn.now < lease.renew_at {
            return;
        }
        lease.renew_at = turn.now.plus(self.timing.renew());
        let fresh = Ms(self.timing.renew().0.saturating_mul(PROGRESS_FOR));
        // A stalled disk lets the lease run out by itself.
        if self.progress_at.is_none_or(|at| turn.now > at.plus(fresh)) {
            return;
        }
        let (me, term, sent) = (self.saved.me.clone(), lease.term, turn.now);
        lease.acknowledged.insert(me.clone(), sent);
        let promise = self.timing.promise();
        self.promise_to(turn, &me, promise);
        let renew = Body::Renew {
            term,
            sent,
            promise,
            in_force: self.saved.configuration.in_force.epoch,
        };
        // Whoever is not known to have stored the newest voters is told them (H3).
        let configure = Body::Configure {
            term,
            sent,
            promise,
            configuration: self.saved.configuration.clone(),
        };
        let voters = self.saved.configuration.everyone();
        for voter in voters.iter().filter(|voter| **voter != me) {
            let stored = self
                .lease()
                .is_some_and(|lease| lease.stored.contains(voter));
            let body = if stored { &renew } else { &configure };
            self.send(turn, voter, body.clone());
        }
        for guest in self.guests.difference(&voters) {
            self.send(turn, guest, renew.clone());
        }
        self.tell_the_lost(turn);
        self.extend_lease(turn);
        self.settle_change(turn);
    }

    /// The lease lasts from when the question went out that a majority has answered.
    pub(crate) fn extend_lease(&mut self, turn: &mut Turn<N>) {
        let Part::Holding(lease) = &mut self.part else {
            return;
        };
        let Some(at) = self.saved.configuration.reached(&lease.acknowledged) else {
            return;
        };
        let until = at.plus(self.timing.duration());
        if until > lease.until {
            lease.until = until;
            turn.actions.push(Action::Work {
                term: lease.term,
                until: until.minus(self.timing.stop_before()),
            });
        }
    }

    /// The term held here is refused by what it should fence: it ends, and the next one is above.
    pub(crate) fn outranked(&mut self, turn: &mut Turn<N>, by: Term) {
        self.heard = self.heard.max(by);
        self.outranked = matches!(self.part, Part::Holding(_));
        self.lose(turn);
    }

    /// Other lengths hold for what is asked from now on: answers to what was asked before don't
    /// count any more, the deadline given out stays.
    pub(crate) fn settle(&mut self, timing: Timing, standing: Standing) {
        self.standing = standing;
        if self.timing == timing {
            return;
        }
        self.timing = timing;
        if let Part::Holding(lease) = &mut self.part {
            lease.acknowledged.clear();
        }
    }

    /// The lease can't be used any more; no renewal of its term is ever sent again (H12).
    pub(crate) fn lose(&mut self, turn: &mut Turn<N>) {
        let Part::Holding(lease) = &self.part else {
            return;
        };
        let term = lease.term;
        self.part = Part::Stopping(term);
        turn.notes.push(Note::Lost(term));
        turn.actions.push(Action::Stop { term });
    }

    /// Closes a term for good, here first (R11).
    pub(crate) fn release(&mut self, turn: &mut Turn<N>, term: Term, successor: Option<Voter<N>>) {
        self.saved.closed = self.saved.closed.max(term);
        turn.save = true;
        let me = self.saved.me.clone();
        if self.promise.as_ref().is_some_and(|p| p.to == me) {
            self.promise = None;
        }
        self.send_all(turn, &Body::Release { term, successor });
    }
}
