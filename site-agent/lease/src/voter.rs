//! What a voter answers. A yes is a promise to one holder; a no says what the asker should know.
//!
//! A voter with a live promise to somebody else answers no to asking and sounding alike, so that an
//! election never disturbs a renewal (H12). One that is quarantined says nothing at all (R5).

use crate::message::Body;
use crate::node::{Node, Part, Promise, Turn};
use crate::time::{Mono, Ms};
use crate::voters::{Configuration, Epoch, Name, Term, Voter};

/// Term, when it was sent, how long the promise shall last.
pub(crate) type Request = (Term, Mono, Ms);

/// For so long only the successor may have the term after a handover (H11).
const RESERVED: Ms = Ms(1_000);
/// No promise is longer, whatever is asked: a mistake must not silence a voter for ever.
const PROMISE_MAX: Ms = Ms(3_600_000);

impl<N: Name> Node<N> {
    pub(crate) fn on_pre_ask(&self, turn: &mut Turn<N>, from: &Voter<N>, epoch: Epoch, term: Term) {
        if self.would_grant(from, epoch, term) {
            self.send(turn, from, Body::PreGrant { term });
        } else {
            self.refuse(turn, from, term);
        }
    }

    pub(crate) fn on_ask(
        &mut self,
        turn: &mut Turn<N>,
        from: &Voter<N>,
        epoch: Epoch,
        (term, sent, promise): Request,
    ) {
        if self.would_grant(from, epoch, term) {
            self.grant(turn, from, term, promise);
            self.send(turn, from, Body::Grant { term, sent });
        } else {
            self.refuse(turn, from, term);
        }
    }

    pub(crate) fn on_renew(
        &mut self,
        turn: &mut Turn<N>,
        from: &Voter<N>,
        epoch: Epoch,
        (term, sent, promise): Request,
        in_force: Epoch,
    ) {
        if !self.extend(turn, from, epoch, (term, sent, promise)) {
            self.refuse(turn, from, term);
            return;
        }
        let configuration = &mut self.saved.configuration;
        if let Some(pending) = configuration.pending.take_if(|p| p.epoch == in_force) {
            configuration.in_force = pending;
            turn.save = true;
        }
        let ready = self.ready;
        self.send(turn, from, Body::Renewed { term, sent, ready });
    }

    /// The end of a term, from its holder. Another's, or an older one, changes nothing (R3); nor does
    /// one of a term that was not granted here while somebody else's lease may live.
    pub(crate) fn on_release(
        &mut self,
        turn: &mut Turn<N>,
        from: &Voter<N>,
        term: Term,
        successor: Option<Voter<N>>,
    ) {
        self.heard = self.heard.max(term);
        let granted = self.saved.granted.as_ref();
        let theirs = granted.is_some_and(|(known, to)| *known == term && to == from);
        let free = self.promise.is_none() && !self.is_silent(turn.now);
        let unknown = self.saved.highest() < term && free;
        if !(theirs || unknown) || self.saved.closed >= term {
            return;
        }
        self.saved.closed = term;
        turn.save = true;
        // If there is one it is theirs.
        self.promise = None;
        self.ask_after = turn.now;
        let Some(successor) = successor else {
            return;
        };
        let mine = self.is_me(&successor);
        self.reserved = Some(Promise {
            to: successor,
            until: turn.now.plus(RESERVED),
        });
        if mine && !self.is_silent(turn.now) {
            self.ask(turn);
        }
    }

    /// Voters to store, from the holder of a live term (H3).
    pub(crate) fn on_configure(
        &mut self,
        turn: &mut Turn<N>,
        from: &Voter<N>,
        request: Request,
        configuration: &Configuration<N>,
    ) {
        let (term, sent, _) = request;
        if !self.extend(turn, from, configuration.epoch(), request) {
            self.refuse(turn, from, term);
            return;
        }
        self.learn_voters(turn, configuration);
        let ready = self.ready;
        self.send(turn, from, Body::Renewed { term, sent, ready });
    }

    /// A holder goes on: the promise is given anew. A voter that was not asked for the term grants
    /// it now; otherwise the term is on disk already and nothing has to be saved (H15).
    fn extend(
        &mut self,
        turn: &mut Turn<N>,
        from: &Voter<N>,
        epoch: Epoch,
        (term, _, promise): Request,
    ) -> bool {
        let granted = self.saved.granted.as_ref();
        let same = granted.is_some_and(|(known, to)| *known == term && to == from);
        let goes_on = same && term > self.saved.closed && self.is_current(epoch);
        if goes_on {
            self.promise_to(turn, from, promise);
        } else if self.would_grant(from, epoch, term) {
            self.grant(turn, from, term, promise);
        } else {
            return false;
        }
        true
    }

    /// Whether a term may be granted to this voter now.
    pub(crate) fn would_grant(&self, to: &Voter<N>, epoch: Epoch, term: Term) -> bool {
        let other = |promise: &Option<Promise<N>>| promise.as_ref().is_some_and(|p| p.to != *to);
        term > self.saved.highest()
            && self.is_current(epoch)
            && self.is_voter(to, epoch)
            && !other(&self.promise)
            && !other(&self.reserved)
            && (self.is_me(to) || !matches!(self.part, Part::Holding(_)))
    }

    /// Durable before the answer leaves: the save is part of the same effects (I4).
    pub(crate) fn grant(&mut self, turn: &mut Turn<N>, to: &Voter<N>, term: Term, promise: Ms) {
        self.saved.granted = Some((term, to.clone()));
        self.saved.votes += 1;
        self.heard = self.heard.max(term);
        turn.save = true;
        self.promise_to(turn, to, promise);
        if !self.is_me(to) && matches!(self.part, Part::Sounding(_) | Part::Asking(_)) {
            self.part = Part::Following;
        }
    }

    pub(crate) fn promise_to(&mut self, turn: &mut Turn<N>, to: &Voter<N>, promise: Ms) {
        let promise = promise.max(self.timing.promise()).min(PROMISE_MAX);
        if promise > self.saved.longest {
            self.saved.longest = promise;
            turn.save = true;
        }
        let until = turn.now.plus(promise);
        if !self.is_me(to) {
            self.ask_after = self.ask_after.max(until);
        }
        let to = to.clone();
        self.promise = Some(Promise { to, until });
    }

    /// Quarantined, or with work left that should be gone (H10).
    pub(crate) fn is_silent(&self, now: Mono) -> bool {
        now < self.quiet_until || matches!(self.part, Part::Stopping(_))
    }

    /// Whoever has stored newer voters may know of one that is not known here.
    fn is_voter(&self, voter: &Voter<N>, epoch: Epoch) -> bool {
        let configuration = &self.saved.configuration;
        configuration.has(voter) || epoch > configuration.epoch()
    }

    /// Whoever has stored older voters may be counting people out who are in.
    fn is_current(&self, epoch: Epoch) -> bool {
        epoch >= self.saved.configuration.epoch()
    }

    fn refuse(&self, turn: &mut Turn<N>, to: &Voter<N>, term: Term) {
        let held = self.promise.as_ref();
        let refusal = Body::Refuse {
            term,
            held: held.map(|p| (p.to.clone(), turn.now.until(p.until))),
            highest: self.saved.highest().max(self.heard),
            configuration: self.saved.configuration.clone(),
        };
        self.send(turn, to, refusal);
    }
}
