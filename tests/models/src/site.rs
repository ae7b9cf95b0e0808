//! A site in a model: machines with a node each, what is on its way, and what the invariants need
//! to remember. Every clock reads [`NOW`] in every state; time passes by moving all else back.

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;

use site_lease::{
    Action, Body, Configuration, Epoch, Input, Memory, Message, Mono, Ms, Node, Note, Part, Saved,
    Standing, Term, Voter, Voters,
};

use super::mail::as_taken;
use super::rules::{Faults, Invariant, Rules, Wrong, voter};
use super::shared::Shared;

/// What every clock reads.
pub(super) const NOW: Mono = Mono(1_000_000);

/// A message on its way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Packet {
    /// The host.
    pub to: u8,
    /// Who sent it.
    pub from: Voter<u8>,
    /// What.
    pub message: Message<u8>,
    /// Whether it was delivered before; kept only where that matters.
    pub again: bool,
}

/// The agent's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Agent {
    /// Does what it should, whenever it likes.
    Runs,
    /// Does nothing, and may go on.
    Hangs,
    /// Does nothing, and its clock stands still, as does everything on its machine.
    Paused,
    /// Is no more.
    Gone,
}

/// Work under way. It does not look at its deadline: others see to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Work {
    /// Under this term.
    pub term: Term,
    /// Until then.
    pub until: Mono,
    /// There is a guard that knows.
    pub guarded: bool,
}

/// A connection to the database.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Session {
    /// When.
    pub opened: Mono,
    /// What was claimed over it.
    pub claimed: Option<Term>,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Machine {
    /// How fast its clock runs, in thousandths.
    pub rate: u64,
    /// Its voter.
    pub node: Node<u8>,
    /// The process that the node is in.
    pub agent: Agent,
    /// Its work.
    pub work: Option<Work>,
    /// Its connection.
    pub session: Option<Session>,
    /// The last term it held.
    pub held: Term,
    /// What this voter promised, remembered across its restarts.
    promised: Option<(Voter<u8>, Term, Mono)>,
    /// The highest term that it closed or saw released.
    pub(super) over: Term,
}

/// What carries a token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Register {
    /// What it says.
    pub term: Term,
    /// What it said before.
    pub before: Term,
    /// The newest that was ever claimed.
    pub newest: Term,
}

/// A state of a model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Site {
    /// The hosts, by name.
    pub machines: Vec<Shared<Machine>>,
    /// What is on its way, in order.
    pub mail: Vec<Shared<Packet>>,
    /// The highest term that was won.
    pub won: Term,
    /// The database's row.
    pub database: Register,
    /// The name's record.
    pub dns: Register,
    /// What may still happen.
    pub left: Faults,
    /// The first invariant that an event broke.
    pub broken: Option<Invariant>,
}

impl Register {
    pub(super) fn claimed(&mut self, term: Term) {
        if term > self.term {
            self.before = self.term;
            self.term = term;
        }
        self.newest = self.newest.max(term);
    }
}

impl Machine {
    /// Whether its lease lasts, by its own clock, which runs at a steady rate: by true time, too.
    #[must_use]
    pub fn holds(&self) -> bool {
        let lease = self.node.lease();
        self.agent != Agent::Gone && lease.is_some_and(|lease| lease.until > NOW)
    }

    fn promises(&mut self, to: &Voter<u8>, term: Term, length: Ms) -> Option<Invariant> {
        let kept = self.promised.as_ref().is_none_or(|(whom, _, _)| whom == to);
        let over = term <= self.over;
        self.promised = Some((to.clone(), term, NOW.plus(length)));
        match (kept, over) {
            (false, _) => Some(Invariant::PromisesKept),
            (true, true) => Some(Invariant::Over),
            (true, false) => None,
        }
    }

    /// A promise that the node knows of lasts as long as it says.
    fn notes_promise(&mut self) {
        let granted = self.node.saved().granted.as_ref();
        let term = granted.map_or(Term(0), |(term, _)| *term);
        if let Some((to, length)) = self.node.promised(NOW)
            && self.promised.as_ref().is_none_or(|(whom, _, _)| whom == to)
        {
            self.promised = Some((to.clone(), term, NOW.plus(length)));
        }
    }

    fn closes(&mut self, term: Term) {
        self.over = self.over.max(term);
        let over = self.over;
        self.promised.take_if(|(_, term, _)| *term <= over);
    }

    fn passes(&mut self, rules: &Rules, by: u64) {
        let back = |at: Mono| Mono(at.0.saturating_sub(by));
        self.node.fold(NOW.plus(Ms(by)), NOW);
        self.node.forget_memory();
        if let Some((_, _, until)) = &mut self.promised {
            *until = back(*until);
        }
        self.promised.take_if(|(_, _, until)| *until <= NOW);
        if let Some(session) = &mut self.session {
            let oldest = NOW.minus(rules.timing.duration());
            if session.claimed.is_none() {
                session.opened = back(session.opened).max(oldest);
            }
        }
        // Nothing is claimed any more over a connection that outlived its lease.
        let holds = self.holds();
        self.session
            .take_if(|session| session.claimed.is_none() && !holds);
        let guarded = !rules.is(Wrong::NoGuard);
        if let Some(work) = &mut self.work {
            work.until = back(work.until).max(Mono(NOW.0 - 1));
            // The guard's one duty, on time whatever the agent does.
            if guarded && work.guarded && work.until <= NOW {
                self.work = None;
            }
        }
    }
}

impl Site {
    /// With each clock at a rate.
    pub(super) fn new(rules: &Rules, rates: &[u64]) -> Self {
        let members = rules.hosts().map(voter).collect();
        let configuration = Configuration::of(Voters {
            epoch: Epoch::default(),
            members,
        });
        let machine = |(host, rate): (u8, &u64)| {
            let saved = Saved::new(voter(host), configuration.clone());
            Shared::new(Machine {
                rate: *rate,
                node: start(rules, host, saved),
                agent: Agent::Runs,
                work: None,
                session: None,
                held: Term(0),
                promised: None,
                over: Term(0),
            })
        };
        Self {
            machines: rules.hosts().zip(rates).map(machine).collect(),
            mail: vec![],
            won: Term(0),
            database: Register::default(),
            dns: Register::default(),
            left: rules.faults,
            broken: None,
        }
    }

    pub(super) fn at(&self, host: u8) -> &Machine {
        &self.machines[usize::from(host)]
    }

    pub(super) fn at_mut(&mut self, host: u8) -> &mut Machine {
        self.machines[usize::from(host)].make_mut()
    }

    pub(super) fn breaks(&mut self, invariant: Option<Invariant>) {
        self.broken = self.broken.or(invariant);
    }

    /// One tick of true time. A paused machine's clock stands still.
    pub(super) fn passes(&mut self, rules: &Rules) {
        let late = |machine: &Machine| {
            rules.is(Wrong::LateTimer) && matches!(machine.node.part(), Part::Asking(_))
        };
        let rate = |machine: &Shared<Machine>| {
            if machine.agent == Agent::Paused || late(machine) {
                return 0;
            }
            machine.rate
        };
        let passed: Vec<u64> = self.machines.iter().map(rate).collect();
        for (host, by) in rules.hosts().zip(&passed).filter(|(_, by)| **by > 0) {
            self.at_mut(host).passes(rules, *by);
        }
        self.age_mail(rules, &passed);
    }

    /// A clock that is set back by a tick: all that was to come comes later.
    pub(super) fn steps_back(&mut self, host: u8, by: u64) {
        let machine = self.at_mut(host);
        machine.node.fold(NOW.minus(Ms(by)), NOW);
        machine.node.forget_memory();
    }

    pub(super) fn restart(&mut self, rules: &Rules, host: u8) {
        let machine = self.at_mut(host);
        let mut saved = machine.node.saved().clone();
        if rules.is(Wrong::ShortQuarantine) {
            saved.longest.0 = saved.longest.0.saturating_sub(super::rules::TICK);
        }
        if rules.is(Wrong::DroppedSave) {
            saved = Saved::new(saved.me, saved.configuration);
        }
        machine.node = start(rules, host, saved);
        machine.agent = Agent::Runs;
        // What it finds running it ends (R13).
        machine.work = None;
        machine.session = None;
    }

    /// The ledger is gone: another voter, that knows no configuration in which it votes (H4).
    pub(super) fn forget(&mut self, rules: &Rules, host: u8) {
        let machine = self.at_mut(host);
        let mut me = machine.node.saved().me.clone();
        let mut configuration = Configuration::of(Voters {
            epoch: Epoch::default(),
            members: BTreeSet::new(),
        });
        if rules.is(Wrong::OldIncarnation) {
            configuration.in_force.members = rules.hosts().map(voter).collect();
        } else {
            me.incarnation.0 += 1;
            machine.promised = None;
            machine.over = Term(0);
        }
        machine.node = start(rules, host, Saved::new(me, configuration));
    }

    pub(super) fn deliver(&mut self, rules: &Rules, packet: &Packet) {
        let host = packet.to;
        let (from, message) = as_taken(rules, self.at(host), packet);
        if !rules.repeats || !packet.message.body.is_request() {
            self.mail.retain(|other| **other != *packet);
            if rules.is(Wrong::ScalarCounting) && !packet.again {
                let again = true;
                self.mail.push(Shared::new(Packet {
                    again,
                    ..packet.clone()
                }));
                self.mail.sort_unstable();
            }
        }
        let release = matches!(message.body, Body::Release { .. });
        let before = self.at(host).node.saved().clone();
        self.take(rules, host, Input::Received { from, message });
        if release && rules.is(Wrong::ReleaseLeavesOpen) && before.closed < self.at(host).over {
            // As it was, but for the promise: what it heard is in `over` only.
            let longest = Ms(0);
            self.at_mut(host).node = start(rules, host, Saved { longest, ..before });
        }
    }

    /// One input, and all that comes of it.
    pub(super) fn take(&mut self, rules: &Rules, host: u8, input: Input<u8>) {
        let machine = self.machines[usize::from(host)].make_mut();
        let node = &mut machine.node;
        let mut disk = node.saved().clone();
        let mut notes = Vec::new();
        let mut actions = Vec::new();
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let effects = node.handle(NOW, input);
            let broken = &mut self.broken;
            let committed = effects.commit(|saved| {
                *broken = broken.or(broken_by_save(&disk, saved));
                disk.clone_from(saved);
                Ok::<(), Infallible>(())
            });
            let Ok(committed) = committed;
            let won = committed.notes.iter().find_map(won);
            if let Some(term) = won.filter(|_| rules.faults.changes == 0) {
                inputs.extend(nothing_to_store(rules, host, term, &disk));
            }
            notes.extend(committed.notes);
            for action in committed.actions {
                match sounded(rules, node, &action) {
                    Some(answer) => inputs.push_back(answer),
                    None => actions.push(action),
                }
            }
        }
        fold(rules, node);
        machine.closes(disk.closed);
        for note in &notes {
            self.note(rules, host, note);
        }
        for action in actions {
            self.act(rules, host, &disk, action);
        }
        self.at_mut(host).notes_promise();
    }

    fn note(&mut self, rules: &Rules, host: u8, note: &Note<u8>) {
        if let Note::Won(term, _) = note {
            let rises = *term > self.won;
            self.breaks((!rises).then_some(Invariant::TermsRise));
            self.won = self.won.max(*term);
            // Remembered only where it matters.
            if rules.dns {
                self.at_mut(host).held = *term;
            }
        }
    }

    fn act(&mut self, rules: &Rules, host: u8, disk: &Saved<u8>, action: Action<u8>) {
        match action {
            Action::Send { to, mut message } => {
                // Nothing is declared here, and what is remembered decides nothing about safety.
                message.memory = Memory::default();
                self.send(rules, host, disk, (&to, message));
            }
            Action::Work { term, until } => {
                self.breaks((until <= NOW).then_some(Invariant::InTime));
                if rules.works {
                    let guarded = true;
                    let work = Work {
                        term,
                        until,
                        guarded,
                    };
                    self.at_mut(host).work = Some(work);
                }
            }
            Action::Stop { .. } => self.at_mut(host).work = None,
        }
    }

    fn send(
        &mut self,
        rules: &Rules,
        host: u8,
        disk: &Saved<u8>,
        (to, message): (&Voter<u8>, Message<u8>),
    ) {
        let promise = rules.timing.promise();
        let from = disk.me.clone();
        let (yes, durable) = match &message.body {
            Body::Ask { term, .. } => {
                let granted = disk.granted == Some((*term, from.clone()));
                (Some((&from, *term)), granted)
            }
            Body::Renew { term, .. } => (Some((&from, *term)), true),
            Body::Grant { term, .. } => {
                let granted = disk.granted == Some((*term, to.clone()));
                (Some((to, *term)), granted)
            }
            Body::Renewed { term, .. } => {
                let granted = disk.granted == Some((*term, to.clone()));
                let stored = disk.configuration.epoch() >= message.epoch;
                (Some((to, *term)), granted && stored)
            }
            Body::Release { term, .. } => (None, disk.closed >= *term),
            Body::PreAsk { .. }
            | Body::PreGrant { .. }
            | Body::Refuse { .. }
            | Body::Configure { .. } => (None, true),
        };
        self.breaks((!durable).then_some(Invariant::Durable));
        if let Some((whom, term)) = yes {
            let broken = self.at_mut(host).promises(whom, term, promise);
            self.breaks(broken);
        }
        if rules.is(Wrong::AloneWithoutWitness)
            && let Some(answer) = forged(&message)
        {
            self.take(
                rules,
                host,
                Input::Received {
                    from: to.clone(),
                    message: answer,
                },
            );
            return;
        }
        if matches!(message.body, Body::Refuse { .. }) {
            let asker = self.at(to.name);
            if asker.agent == Agent::Runs && !at_bound(rules, &asker.node, &message) {
                self.take(rules, to.name, Input::Received { from, message });
            }
            return;
        }
        let to = to.name;
        let again = false;
        self.post(
            rules,
            Packet {
                to,
                from,
                message,
                again,
            },
        );
    }
}

pub(super) fn start(rules: &Rules, host: u8, saved: Saved<u8>) -> Node<u8> {
    let standing = match host {
        // Both as eager: who asks first is the model's choice.
        0 | 1 => Standing::Candidate {
            rank: 0,
            automatic: true,
        },
        _ => Standing::Witness,
    };
    let mut node = Node::start(saved, rules.timing, standing, NOW);
    fold(rules, &mut node);
    node
}

/// A candidate whose next term would be above the bound finds no quorum, whenever it looks for one: it
/// is a witness from then on.
fn fold(rules: &Rules, node: &mut Node<u8>) {
    if node.would_ask().0 > rules.terms && node.standing() != Standing::Witness {
        let settings = Input::Settings {
            timing: rules.timing,
            standing: Standing::Witness,
        };
        let effects = node.handle(NOW, settings);
        debug_assert!(!effects.saves(), "a standing is not saved");
        let Ok(_) = effects.commit(|_| Ok::<(), Infallible>(()));
    }
    node.forget_memory();
    node.fold(NOW, NOW);
}

fn won(note: &Note<u8>) -> Option<Term> {
    match note {
        Note::Won(term, _) => Some(*term),
        _ => None,
    }
}

/// Where voters never change all have stored them: that a new holder asks them to is one more form of
/// its renewal, which is not followed beside the other.
fn nothing_to_store(
    rules: &Rules,
    host: u8,
    term: Term,
    disk: &Saved<u8>,
) -> impl Iterator<Item = Input<u8>> {
    let epoch = disk.configuration.epoch();
    let others = rules.hosts().filter(move |other| *other != host);
    others.map(move |other| Input::Received {
        from: voter(other),
        message: Message {
            epoch,
            memory: Memory::default(),
            body: Body::Renewed {
                term,
                sent: Mono(0),
                ready: false,
            },
        },
    })
}

/// A holder of the last term that is looked at does not hear that it should ask above: such a refusal is
/// lost, unless it tells of newer voters.
fn at_bound(rules: &Rules, asker: &Node<u8>, no: &Message<u8>) -> bool {
    let last = asker
        .lease()
        .is_some_and(|lease| lease.term.0 >= rules.terms);
    let Body::Refuse { configuration, .. } = &no.body else {
        return false;
    };
    last && configuration.epoch() <= asker.saved().configuration.epoch()
}

/// The answer of somebody who was never asked to store new voters.
fn forged(message: &Message<u8>) -> Option<Message<u8>> {
    let Body::Configure {
        term,
        sent,
        ref configuration,
        ..
    } = message.body
    else {
        return None;
    };
    let ready = false;
    let body = Body::Renewed { term, sent, ready };
    Some(Message {
        epoch: configuration.epoch(),
        memory: Memory::default(),
        body,
    })
}

/// What a sounding is answered: yes by everyone, or no, where the term is above the bound.
fn sounded(rules: &Rules, node: &Node<u8>, action: &Action<u8>) -> Option<Input<u8>> {
    let Action::Send { to, message } = action else {
        return None;
    };
    let Body::PreAsk { term } = message.body else {
        return None;
    };
    let mut message = message.clone();
    message.body = if term.0 > rules.terms {
        Body::Refuse {
            term,
            held: Some((to.clone(), Ms(0))),
            highest: Term(0),
            configuration: node.saved().configuration.clone(),
        }
    } else {
        Body::PreGrant { term }
    };
    let from = to.clone();
    Some(Input::Received { from, message })
}

/// I2 and I3 on a ledger: terms and epochs rise, a term is granted once, what is closed stays so.
fn broken_by_save(before: &Saved<u8>, after: &Saved<u8>) -> Option<Invariant> {
    let term = |saved: &Saved<u8>| saved.granted.as_ref().map(|(term, _)| *term);
    let falls = term(after) < term(before)
        || after.closed < before.closed
        || after.longest < before.longest
        || after.configuration.epoch() < before.configuration.epoch();
    let twice = term(after) == term(before) && after.granted != before.granted;
    (falls || twice).then_some(Invariant::TermsRise)
}
