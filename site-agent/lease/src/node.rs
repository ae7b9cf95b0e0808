//! One voter of one site: its state, its inputs, and where each goes.
//!
//! Deadlines are looked at first in every call, with the one time the call was given (R1). What a
//! voter answers is in [`crate::voter`], how a term is won in [`crate::candidate`], what a holder
//! does in [`crate::holder`], [`crate::handover`] and [`crate::change`].

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::candidate::Refusal;
use crate::effects::{Action, Effects, How, Note};
use crate::ledger::Saved;
use crate::message::{Body, Message};
use crate::time::{Mono, Ms, Timing};
use crate::voters::{Name, Term, Voter};

/// What a voter may do beside voting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Votes only.
    Witness,
    /// May hold, in this order of preference.
    Candidate {
        /// 0 asks first.
        rank: u32,
        /// Asks by itself when the holder is silent; otherwise only the last holder does (H31).
        automatic: bool,
    },
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Input<N> {
    /// Time passed.
    Tick,
    /// A message came, from whom its certificate says.
    Received {
        /// The sender.
        from: Voter<N>,
        /// The message.
        message: Message<N>,
    },
    /// The ledger's disk took a fresh write and the instance is alive: renewals may go on.
    Progress,
    /// Whether a promotion here and now would succeed.
    Ready(bool),
    /// No work of the term last stopped, or being handed over, is left: its cgroup is empty.
    Idle,
    /// Hand the lease to this voter.
    HandOver {
        /// The successor.
        to: Voter<N>,
    },
    /// Go on alone: a person says that these voters are gone for good (H32).
    Promote {
        /// The lost.
        lost: BTreeSet<Voter<N>>,
    },
    /// Git declares this voter to be active, as somebody says who knew the memory of this number.
    Declared {
        /// The declared active.
        active: N,
        /// [`crate::Version::number`] of the memory it was said about.
        above: u64,
    },
    /// The holder here took over by itself, at this time of its wall clock (milliseconds).
    FailedOver(u64),
    /// A resource refused the term held here because of this higher one (H5): it is given up, and
    /// the next attempt is above.
    Outranked(Term),
    /// The term held here is given up, for whoever asks next.
    Resign,
    /// Other lengths of time, another standing.
    Settings {
        /// How long things last from now on.
        timing: Timing,
        /// What it may do from now on.
        standing: Standing,
    },
    /// These shall vote and don't: a holder tells them, too, that it goes on, and hears whether they
    /// are there (H3: they are let in again once they are).
    Guests(BTreeSet<Voter<N>>),
    /// Replace the voters.
    Change {
        /// All of the new ones.
        members: BTreeSet<Voter<N>>,
    },
    /// What this node waits for by chance, at most [`Node::JITTER_MAX`]; drawn by the caller.
    Jitter(Ms),
}

/// A promise to one holder.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Promise<N> {
    pub(crate) to: Voter<N>,
    pub(crate) until: Mono,
}

/// What a node is doing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Part<N> {
    /// Voting.
    Following,
    /// Asking whether asking would do.
    Sounding(Sounding<N>),
    /// Asking for a term.
    Asking(Attempt<N>),
    /// Holding it.
    Holding(Lease<N>),
    /// Holding no more; work of that term may still be there.
    Stopping(Term),
}

/// Who would grant a term.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sounding<N> {
    pub(crate) term: Term,
    pub(crate) yes: BTreeSet<Voter<N>>,
    pub(crate) give_up: Mono,
}

/// An attempt to win a term.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Attempt<N> {
    pub(crate) term: Term,
    /// When each voter that granted was asked.
    pub(crate) acknowledged: BTreeMap<Voter<N>, Mono>,
    pub(crate) give_up: Mono,
    pub(crate) how: How<N>,
}

/// A term that is held.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lease<N> {
    /// The term.
    pub term: Term,
    /// The end, on this machine's clock.
    pub until: Mono,
    /// When each voter was last asked and agreed.
    pub(crate) acknowledged: BTreeMap<Voter<N>, Mono>,
    /// When each other voter last said that it is ready.
    pub(crate) ready_at: BTreeMap<Voter<N>, Mono>,
    /// Who stored the newest voters.
    pub(crate) stored: BTreeSet<Voter<N>>,
    pub(crate) renew_at: Mono,
    /// When it was won.
    pub(crate) since: Mono,
    /// When it last wrote down what the site is to remember.
    pub(crate) remembered_at: Mono,
    pub(crate) handing_to: Option<Voter<N>>,
}

/// One voter of one site.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Node<N> {
    pub(crate) saved: Saved<N>,
    pub(crate) timing: Timing,
    pub(crate) standing: Standing,
    pub(crate) part: Part<N>,
    /// Silent until then: a promise that was forgotten may still bind (R5).
    pub(crate) quiet_until: Mono,
    pub(crate) promise: Option<Promise<N>>,
    /// Only this voter may have the next term until then (H11).
    pub(crate) reserved: Option<Promise<N>>,
    /// The highest term heard of (R6).
    pub(crate) heard: Term,
    /// Not before this does it ask by itself.
    pub(crate) ask_after: Mono,
    pub(crate) jitter: Ms,
    pub(crate) progress_at: Option<Mono>,
    pub(crate) ready: bool,
    /// Told of renewals without a vote.
    pub(crate) guests: BTreeSet<Voter<N>>,
    /// The declared active, and the memory this was said about.
    pub(crate) told: Option<(N, u64)>,
    /// The term being given up is refused by what it should fence: the next is asked for at once.
    pub(crate) outranked: bool,
}

/// One call: its time and what it brings about.
#[derive(Debug)]
pub(crate) struct Turn<N> {
    pub(crate) now: Mono,
    pub(crate) save: bool,
    pub(crate) actions: Vec<Action<N>>,
    pub(crate) notes: Vec<Note<N>>,
}

impl<N: Name> Node<N> {
    /// The most that chance adds before a candidate asks.
    pub const JITTER_MAX: Ms = Ms(100);

    /// A node that starts, with what its ledger holds. Whatever it held before is not held now (R13).
    #[must_use]
    pub fn start(saved: Saved<N>, timing: Timing, standing: Standing, now: Mono) -> Self {
        let quiet_until = now.plus(saved.longest);
        Self {
            saved,
            timing,
            standing,
            part: Part::Following,
            quiet_until,
            promise: None,
            reserved: None,
            heard: Term(0),
            ask_after: quiet_until,
            jitter: Ms(0),
            progress_at: None,
            ready: false,
            guests: BTreeSet::new(),
            told: None,
            outranked: false,
        }
    }

    /// A node that goes on with a term that this very process held before its program was replaced in
    /// place, as its guard vouches (H18); none where the ledger or the clock says otherwise. Its vote
    /// is silent as after any start, and no answer to what was asked before counts.
    #[must_use]
    pub fn resume(
        saved: Saved<N>,
        timing: Timing,
        standing: Standing,
        now: Mono,
        (term, until): (Term, Mono),
    ) -> Option<Self> {
        let granted = saved.granted.as_ref();
        let mine = granted.is_some_and(|(known, to)| *known == term && *to == saved.me);
        if !mine || saved.closed >= term || until.minus(timing.stop_before()) <= now {
            return None;
        }
        let me = saved.me.clone();
        let mut node = Self::start(saved, timing, standing, now);
        node.promise = Some(Promise {
            to: me.clone(),
            until: now.plus(timing.promise()),
        });
        node.part = Part::Holding(Lease {
            term,
            until,
            acknowledged: BTreeMap::new(),
            ready_at: BTreeMap::new(),
            stored: BTreeSet::from([me]),
            renew_at: now,
            since: now,
            remembered_at: now,
            handing_to: None,
        });
        Some(node)
    }

    /// Its ledger, as it must be on disk.
    #[must_use]
    pub const fn saved(&self) -> &Saved<N> {
        &self.saved
    }

    /// What it is doing.
    #[must_use]
    pub const fn part(&self) -> &Part<N> {
        &self.part
    }

    /// What it may do.
    #[must_use]
    pub const fn standing(&self) -> Standing {
        self.standing
    }

    /// How long things last.
    #[must_use]
    pub const fn timing(&self) -> &Timing {
        &self.timing
    }

    /// Who is promised to be let alone, and for how long still.
    #[must_use]
    pub fn promised(&self, now: Mono) -> Option<(&Voter<N>, Ms)> {
        let promise = self.promise.as_ref().filter(|p| p.until > now)?;
        Some((&promise.to, now.until(promise.until)))
    }

    /// Silent until then: a promise that was forgotten may still bind (R5).
    #[must_use]
    pub const fn quiet_until(&self) -> Mono {
        self.quiet_until
    }

    /// The lease, while it is held.
    #[must_use]
    pub const fn lease(&self) -> Option<&Lease<N>> {
        match &self.part {
            Part::Holding(lease) => Some(lease),
            _ => None,
        }
    }

    /// Takes one input at one time.
    pub fn handle(&mut self, now: Mono, input: Input<N>) -> Effects<N> {
        let mut turn = Turn {
            now,
            save: false,
            actions: Vec::new(),
            notes: Vec::new(),
        };
        self.expire(&mut turn);
        match input {
            Input::Tick => {}
            Input::Received { from, message } => self.receive(&mut turn, from, message),
            Input::Progress => self.progress_at = Some(now),
            Input::Ready(ready) => self.ready = ready,
            Input::Jitter(jitter) => self.jitter = jitter.min(Self::JITTER_MAX),
            Input::Idle => self.idle(&mut turn),
            Input::HandOver { to } => self.hand_over(&mut turn, to),
            Input::Change { members } => self.change(&mut turn, members),
            Input::Guests(guests) => self.guests = guests,
            Input::Promote { lost } => self.promote(&mut turn, lost),
            Input::Declared { active, above } => self.told = Some((active, above)),
            Input::FailedOver(wall) => self.note_failover(&mut turn, wall),
            Input::Outranked(term) => self.outranked(&mut turn, term),
            Input::Resign => self.lose(&mut turn),
            Input::Settings { timing, standing } => self.settle(timing, standing),
        }
        self.note_declared(&mut turn);
        self.renew_when_due(&mut turn);
        self.hand_over_when_asked(&mut turn);
        self.ask_when_due(&mut turn);
        let save = turn.save.then(|| self.saved.clone());
        Effects::new(save, turn.actions, turn.notes)
    }

    /// When it has to be called again though nothing comes.
    #[must_use]
    pub fn wake_at(&self) -> Option<Mono> {
        let promise = self.promise.as_ref().map(|promise| promise.until);
        let part = match &self.part {
            Part::Following => self.ask_at(),
            Part::Sounding(sounding) => Some(sounding.give_up),
            Part::Asking(attempt) => Some(attempt.give_up),
            Part::Holding(lease) => Some(lease.renew_at.min(self.work_until(lease))),
            Part::Stopping(_) => None,
        };
        promise.into_iter().chain(part).min()
    }

    /// Ends what has run out, before anything else is looked at.
    fn expire(&mut self, turn: &mut Turn<N>) {
        if self.promise.as_ref().is_some_and(|p| p.until <= turn.now) {
            self.promise = None;
        }
        if self.reserved.as_ref().is_some_and(|p| p.until <= turn.now) {
            self.reserved = None;
        }
        match &self.part {
            Part::Holding(lease) if self.work_until(lease) <= turn.now => self.lose(turn),
            Part::Asking(attempt) if attempt.give_up <= turn.now => self.give_up(turn),
            Part::Sounding(sounding) if sounding.give_up <= turn.now => self.back_off(turn),
            Part::Following
            | Part::Sounding(_)
            | Part::Asking(_)
            | Part::Holding(_)
            | Part::Stopping(_) => {}
        }
    }

    fn receive(&mut self, turn: &mut Turn<N>, from: Voter<N>, message: Message<N>) {
        if message.body.is_request() && self.is_silent(turn.now) {
            return;
        }
        if self.saved.configuration.has(&from) {
            self.learn_memory(turn, message.memory);
        }
        match message.body {
            Body::PreAsk { term } => self.on_pre_ask(turn, &from, message.epoch, term),
            Body::Ask {
                term,
                sent,
                promise,
            } => self.on_ask(turn, &from, message.epoch, (term, sent, promise)),
            Body::Renew {
                term,
                sent,
                promise,
                in_force,
            } => {
                let request = (term, sent, promise);
                self.on_renew(turn, &from, message.epoch, request, in_force);
            }
            Body::Release { term, successor } => self.on_release(turn, &from, term, successor),
            Body::Configure {
                term,
                sent,
                promise,
                configuration,
            } => self.on_configure(turn, &from, (term, sent, promise), &configuration),
            Body::PreGrant { term } => self.on_pre_grant(turn, from, term),
            Body::Grant { term, sent } => self.on_yes(turn, &from, term, sent),
            Body::Renewed { term, sent, ready } => {
                self.note_ready(turn.now, &from, term, ready);
                self.on_yes(turn, &from, term, sent);
                self.note_stored(turn, &from, term, message.epoch);
            }
            Body::Refuse {
                term,
                held,
                highest,
                configuration,
            } => {
                let no = Refusal {
                    held: held.is_some(),
                    highest,
                    configuration: &configuration,
                };
                self.on_refuse(turn, &from, term, &no);
            }
        }
    }

    pub(crate) fn is_me(&self, voter: &Voter<N>) -> bool {
        *voter == self.saved.me
    }

    pub(crate) fn send(&self, turn: &mut Turn<N>, to: &Voter<N>, body: Body<N>) {
        let message = Message {
            epoch: self.saved.configuration.epoch(),
            memory: self.saved.memory.clone(),
            body,
        };
        turn.actions.push(Action::Send {
            to: to.clone(),
            message,
        });
    }

    /// To every other voter, of the old and of the new set.
    pub(crate) fn send_all(&self, turn: &mut Turn<N>, body: &Body<N>) {
        for voter in self.saved.configuration.everyone() {
            if !self.is_me(&voter) {
                self.send(turn, &voter, body.clone());
            }
        }
    }
}
