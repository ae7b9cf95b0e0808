//! How a term is won: sound the others (R10), ask, count each voter once (R2), before the attempt's
//! own deadline (R1).

use alloc::collections::{BTreeMap, BTreeSet};

use crate::effects::{Action, How, Note};
use crate::message::Body;
use crate::node::{Attempt, Lease, Node, Part, Sounding, Standing, Turn};
use crate::time::{Mono, Ms};
use crate::voters::{Configuration, Name, Term, Voter};

/// Between the candidates of a site, so that they don't ask at once.
const RANK_DELAY: Ms = Ms(150);

/// What a no says beside its term.
pub(crate) struct Refusal<'a, N> {
    /// Somebody is promised to.
    pub(crate) held: bool,
    /// The highest term known there.
    pub(crate) highest: Term,
    /// The voters stored there.
    pub(crate) configuration: &'a Configuration<N>,
}

impl<N: Name> Node<N> {
    /// When it asks by itself if nothing comes; none: it doesn't.
    pub(crate) fn ask_at(&self) -> Option<Mono> {
        let Standing::Candidate { rank, automatic } = self.standing else {
            return None;
        };
        if !(automatic || self.was_mine()) || !self.saved.configuration.has(&self.saved.me) {
            return None;
        }
        Some(self.in_turn(rank))
    }

    fn in_turn(&self, rank: u32) -> Mono {
        let rank = Ms(RANK_DELAY.0.saturating_mul(rank.into()));
        self.ask_after.plus(rank).plus(self.jitter)
    }

    /// Before this it never asks by itself, whatever else changes; none: it never does.
    pub(crate) fn asks_after(&self) -> Option<Mono> {
        match self.standing {
            Standing::Witness => None,
            Standing::Candidate { rank, .. } => Some(self.in_turn(rank)),
        }
    }

    pub(crate) fn ask_when_due(&mut self, turn: &mut Turn<N>) {
        let due = self.ask_at().is_some_and(|at| at <= turn.now);
        if !due || self.part != Part::Following || self.is_silent(turn.now) {
            return;
        }
        let term = self.next_term();
        let me = self.saved.me.clone();
        if !self.would_grant(&me, self.saved.configuration.epoch(), term) {
            return;
        }
        let sounding = Sounding {
            term,
            yes: BTreeSet::from([me]),
            give_up: turn.now.plus(self.timing.renew()),
        };
        self.part = Part::Sounding(sounding);
        self.send_all(turn, &Body::PreAsk { term });
        self.ask_when_sounded(turn);
    }

    pub(crate) fn on_pre_grant(&mut self, turn: &mut Turn<N>, from: Voter<N>, term: Term) {
        if let Part::Sounding(sounding) = &mut self.part
            && sounding.term == term
        {
            sounding.yes.insert(from);
            self.ask_when_sounded(turn);
        }
    }

    fn ask_when_sounded(&mut self, turn: &mut Turn<N>) {
        if let Part::Sounding(sounding) = &self.part
            && self.saved.configuration.is_quorum(&sounding.yes)
        {
            self.ask(turn);
        }
    }

    /// Asks for the next term.
    pub(crate) fn ask(&mut self, turn: &mut Turn<N>) {
        let how = self.how();
        self.ask_as(turn, how);
    }

    /// A host's own vote is a call, not a message.
    pub(crate) fn ask_as(&mut self, turn: &mut Turn<N>, how: How<N>) {
        let (me, term) = (self.saved.me.clone(), self.next_term());
        if self.standing == Standing::Witness
            || !self.saved.configuration.has(&me)
            || !self.would_grant(&me, self.saved.configuration.epoch(), term)
        {
            return;
        }
        let promise = self.timing.promise();
        self.grant(turn, &me, term, promise);
        self.part = Part::Asking(Attempt {
            term,
            acknowledged: BTreeMap::from([(me, turn.now)]),
            give_up: turn.now.plus(self.timing.renew()),
            how,
        });
        let sent = turn.now;
        let ask = Body::Ask {
            term,
            sent,
            promise,
        };
        self.send_all(turn, &ask);
        self.hold_when_won(turn);
    }

    /// How a term would come to be held here, by what is known now.
    fn how(&self) -> How<N> {
        let kept = self.reserved.as_ref().is_some_and(|r| self.is_me(&r.to));
        match self.saved.granted.clone() {
            None if self.heard == Term(0) => How::First,
            Some(_) if self.was_mine() => How::Again,
            Some((_, from)) if kept => How::Handover { from },
            granted => How::Failover {
                from: granted.map(|(_, to)| to).filter(|to| !self.is_me(to)),
            },
        }
    }

    /// Nobody is known to have held the lease since this node did.
    fn was_mine(&self) -> bool {
        match &self.saved.granted {
            None => self.heard == Term(0),
            Some((term, to)) => self.is_me(to) && *term >= self.heard,
        }
    }

    /// Somebody agreed: to an attempt, or to go on. An answer to a question not asked yet counts as
    /// one to the last that was.
    pub(crate) fn on_yes(&mut self, turn: &mut Turn<N>, from: &Voter<N>, term: Term, sent: Mono) {
        let acknowledged = match &mut self.part {
            Part::Asking(attempt) if attempt.term == term => &mut attempt.acknowledged,
            Part::Holding(lease) if lease.term == term => &mut lease.acknowledged,
            Part::Following
            | Part::Sounding(_)
            | Part::Asking(_)
            | Part::Holding(_)
            | Part::Stopping(_) => return,
        };
        if !self.saved.configuration.has(from) && !self.guests.contains(from) {
            turn.notes.push(Note::Stranger(from.clone()));
            return;
        }
        let last = acknowledged.get(&self.saved.me).copied();
        let sent = sent.min(last.unwrap_or_default());
        let at = acknowledged.entry(from.clone()).or_insert(sent);
        *at = sent.max(*at);
        self.hold_when_won(turn);
        self.extend_lease(turn);
    }

    fn hold_when_won(&mut self, turn: &mut Turn<N>) {
        let Part::Asking(attempt) = &self.part else {
            return;
        };
        let Some(at) = self.saved.configuration.reached(&attempt.acknowledged) else {
            return;
        };
        let until = at.plus(self.timing.duration());
        let work = until.minus(self.timing.stop_before());
        if work <= turn.now {
            return;
        }
        let (term, how) = (attempt.term, attempt.how.clone());
        let lease = Lease {
            term,
            until,
            acknowledged: attempt.acknowledged.clone(),
            ready_at: BTreeMap::new(),
            stored: BTreeSet::from([self.saved.me.clone()]),
            renew_at: at.plus(self.timing.renew()),
            since: turn.now,
            remembered_at: turn.now,
            handing_to: None,
        };
        self.part = Part::Holding(lease);
        turn.notes.push(Note::Won(term, how));
        self.renew_memory(turn);
        turn.actions.push(Action::Work { term, until: work });
    }

    pub(crate) fn on_refuse(
        &mut self,
        turn: &mut Turn<N>,
        from: &Voter<N>,
        term: Term,
        no: &Refusal<'_, N>,
    ) {
        let highest = no.highest;
        self.heard = self.heard.max(highest);
        self.learn_voters(turn, no.configuration);
        if self.is_above_me(from, term, no) {
            self.outranked(turn, highest);
            return;
        }
        let asked = match &self.part {
            Part::Sounding(sounding) => sounding.term == term,
            Part::Asking(attempt) => attempt.term == term,
            Part::Following | Part::Holding(_) | Part::Stopping(_) => false,
        };
        // Somebody who holds is heard through one voter: that is enough to wait (R10).
        if asked && (no.held || highest >= term) {
            self.give_up(turn);
        }
    }

    /// A voter that is promised to nobody refuses the holder for its term alone: it granted that one, or a
    /// higher one, to an attempt that came to nothing, and has one grant a term. It could never answer
    /// again, be ready or be handed over to; a term above is open to it.
    fn is_above_me(&self, from: &Voter<N>, term: Term, no: &Refusal<'_, N>) -> bool {
        let Part::Holding(lease) = &self.part else {
            return false;
        };
        let configuration = &self.saved.configuration;
        let counts = configuration.has(from) || self.guests.contains(from);
        lease.term == term
            && no.highest >= term
            && !no.held
            && lease.handing_to.is_none()
            && counts
            && no.configuration.epoch() <= configuration.epoch()
    }

    /// An attempt ends; what it got is given back, closed for good.
    pub(crate) fn give_up(&mut self, turn: &mut Turn<N>) {
        if let Part::Asking(attempt) = &self.part {
            let term = attempt.term;
            self.release(turn, term, None);
            turn.notes.push(Note::GaveUp(term));
        }
        self.back_off(turn);
    }

    pub(crate) fn back_off(&mut self, turn: &Turn<N>) {
        self.part = Part::Following;
        self.ask_after = turn.now.plus(self.timing.renew());
    }

    fn next_term(&self) -> Term {
        self.saved.highest().max(self.heard).next()
    }
}
