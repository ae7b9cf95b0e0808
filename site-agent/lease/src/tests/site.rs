//! A simulated site: nodes on hosts with drifting clocks, a network that loses, repeats and delays,
//! disks that keep what was saved. After every event the invariants are checked.
//!
//! The agent's part is played here: work ends at its deadline (the guard's doing), what a crashed
//! agent left running ends there too, and an agent that starts ends what it finds (R13).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use std::string::String;
use std::{format, println, vec};

use super::store::Store;
use crate::{
    Action, Configuration, Epoch, Incarnation, Input, Message, Mono, Ms, Node, Note, Saved,
    Standing, Term, Timing, Voter, Voters,
};

pub(super) type Host = u8;

/// How long work takes to end once it is told to.
const STOPS_IN: u64 = 20;

/// Numbers by chance, the same for the same seed.
#[derive(Debug)]
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// A machine: what is on its disk, and what runs.
#[derive(Debug)]
struct Machine {
    node: Option<Node<Host>>,
    disk: Saved<Host>,
    standing: Standing,
    /// Its clock: an offset, and thousandths by which it runs fast (or slow, below 1,000).
    offset: u64,
    rate: u64,
    /// Work under way: its term, and until when by its own clock.
    work: Option<(Term, Mono)>,
    /// What its site server claimed.
    claimed: Option<Term>,
    /// Everything of it stands still until then; with it its clocks, if it is a virtual machine.
    pause: Option<(u64, bool)>,
    /// Its agent stands still; its guard doesn't.
    agent_frozen: bool,
    idle_at: Option<u64>,
    /// What is saved is lost, and the process with it.
    disk_fails: bool,
}

impl Machine {
    fn clock(&self, truth: u64) -> Mono {
        Mono(self.offset + truth * self.rate / 1_000)
    }

    /// The first true instant at which the clock has reached this.
    fn truth(&self, clock: Mono) -> u64 {
        (clock.0.saturating_sub(self.offset) * 1_000).div_ceil(self.rate)
    }
}

/// A site.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) now: u64,
    machines: BTreeMap<Host, Machine>,
    mail: Vec<(u64, Host, Voter<Host>, Message<Host>)>,
    pub(super) cut: BTreeSet<(Host, Host)>,
    pub(super) chance: Chance,
    /// One in so many messages is lost, and one in so many comes twice; 0: none.
    pub(super) loses: u64,
    pub(super) longest_delay: u64,
    holders: BTreeMap<Term, Host>,
    pub(super) notes: Vec<(u64, Host, Note<Host>)>,
    pub(super) history: Vec<String>,
    timing: Timing,
    pub(super) store: Store,
    /// A clock stood still once: from then on only the token protects (H6).
    stood_still: bool,
    /// Every node is put in place of its outlook after each input, which must change nothing.
    pub(super) folds: bool,
}

/// The default timing, with what it is declared as.
pub(super) fn timing() -> Timing {
    Timing::new(Ms(3_000), Ms(500), Ms(500), 1).unwrap()
}

pub(super) fn voter(host: Host) -> Voter<Host> {
    Voter {
        name: host,
        incarnation: Incarnation(1),
    }
}

pub(super) fn configuration(hosts: &[Host]) -> Configuration<Host> {
    Configuration::of(Voters {
        epoch: Epoch::default(),
        members: hosts.iter().map(|host| voter(*host)).collect(),
    })
}

impl Site {
    /// Most of the hosts may hold, in order; the others are witnesses. With three candidates two can win
    /// who know different voters; with two, the one who changes them is always one of both (H3).
    pub(super) fn new(hosts: u8, seed: u64, timing: Timing) -> Self {
        let all: Vec<Host> = (0..hosts).collect();
        let machines = all.iter().map(|host| {
            let standing = if *host < hosts.div_ceil(2) {
                Standing::Candidate {
                    rank: (*host).into(),
                    automatic: true,
                }
            } else {
                Standing::Witness
            };
            let machine = Machine {
                node: None,
                disk: Saved::new(voter(*host), configuration(&all)),
                standing,
                offset: 1_000_000 * u64::from(*host + 1),
                rate: 1_000,
                work: None,
                claimed: None,
                pause: None,
                agent_frozen: false,
                idle_at: None,
                disk_fails: false,
            };
            (*host, machine)
        });
        let mut site = Self {
            now: 10,
            machines: machines.collect(),
            mail: vec![],
            cut: BTreeSet::new(),
            chance: Chance(seed),
            loses: 0,
            longest_delay: 5,
            holders: BTreeMap::new(),
            notes: vec![],
            history: vec![],
            timing,
            store: Store::default(),
            stood_still: false,
            folds: false,
        };
        for host in all {
            site.start(host);
        }
        site
    }

    pub(super) fn set_rate(&mut self, host: Host, rate: u64) {
        let now = self.now;
        let machine = self.machines.get_mut(&host).unwrap();
        let before = machine.clock(now).0;
        machine.rate = rate;
        machine.offset = before - now * rate / 1_000;
    }

    /// What was running is ended before anything else (R13).
    pub(super) fn start(&mut self, host: Host) {
        let (now, timing) = (self.now, self.timing);
        let jitter = Ms(self.chance.below(Node::<Host>::JITTER_MAX.0 + 1));
        let machine = self.machines.get_mut(&host).unwrap();
        machine.work = None;
        machine.claimed = None;
        machine.pause = None;
        machine.agent_frozen = false;
        machine.idle_at = None;
        let clock = machine.clock(now);
        machine.node = Some(Node::start(
            machine.disk.clone(),
            timing,
            machine.standing,
            clock,
        ));
        self.say(host, "starts");
        self.input(host, Input::Jitter(jitter));
        self.input(host, Input::Ready(true));
        self.input(host, Input::Progress);
    }

    /// The agent is gone; its work goes on until its deadline.
    pub(super) fn kill(&mut self, host: Host) {
        self.machines.get_mut(&host).unwrap().node = None;
        self.say(host, "is killed");
    }

    /// The ledger is gone: what starts there next is another voter (H4).
    pub(super) fn forget(&mut self, host: Host) {
        self.kill(host);
        let machine = self.machines.get_mut(&host).unwrap();
        let mut me = machine.disk.me.clone();
        me.incarnation.0 += 1;
        // It is told the voters anew, as the reconciler knows them, and is not one of them.
        let members = configuration(&[]).in_force;
        machine.disk = Saved::new(me, Configuration::of(members));
        self.say(host, "forgets everything");
    }

    pub(super) fn set_pause(&mut self, host: Host, until: u64, with_clocks: bool) {
        let machine = self.machines.get_mut(&host).unwrap();
        if machine.pause.is_none() {
            machine.pause = Some((until, with_clocks));
            self.stood_still |= with_clocks;
        }
    }

    pub(super) fn is_paused(&self, host: Host) -> bool {
        self.machines[&host].pause.is_some()
    }

    pub(super) fn set_agent_frozen(&mut self, host: Host, frozen: bool) {
        self.machines.get_mut(&host).unwrap().agent_frozen = frozen;
    }

    /// Whether a host is paused now; its clocks lag afterwards if they stood still.
    fn stands_still(&mut self, host: Host) -> bool {
        let now = self.now;
        let machine = self.machines.get_mut(&host).unwrap();
        let Some((until, with_clocks)) = machine.pause else {
            return false;
        };
        if with_clocks {
            // A millisecond of true time that its clocks don't see.
            let before = machine.clock(now - 1).0;
            machine.offset -= machine.clock(now).0 - before;
        }
        if until <= now {
            machine.pause = None;
        }
        true
    }

    /// Ends the work of a host; its term, and what is on the disk.
    pub(super) fn kill_work(&mut self, host: Host) -> Option<(Term, Saved<Host>)> {
        let machine = self.machines.get_mut(&host).unwrap();
        let (term, _) = machine.work.take()?;
        machine.claimed = None;
        Some((term, machine.disk.clone()))
    }

    pub(super) fn post(&mut self, to: Host, from: Voter<Host>, message: Message<Host>) {
        self.mail.push((self.now + 1, to, from, message));
    }

    /// The term that a host may work under now, by its own clock, and what it claimed.
    pub(super) fn may_work(&self, host: Host) -> Option<(Term, Option<Term>)> {
        let machine = &self.machines[&host];
        let (term, until) = machine.work?;
        let may = machine.clock(self.now) < until && machine.idle_at.is_none();
        may.then_some((term, machine.claimed))
    }

    pub(super) fn note_claim(&mut self, host: Host, term: Term) {
        self.machines.get_mut(&host).unwrap().claimed = Some(term);
    }

    pub(super) fn forget_claim(&mut self, host: Host) {
        self.machines.get_mut(&host).unwrap().claimed = None;
    }

    pub(super) fn fail_disk(&mut self, host: Host) {
        self.machines.get_mut(&host).unwrap().disk_fails = true;
    }

    pub(super) fn has(&self, host: Host) -> bool {
        self.machines.contains_key(&host)
    }

    pub(super) fn is_up(&self, host: Host) -> bool {
        self.machines[&host].node.is_some()
    }

    pub(super) fn node(&self, host: Host) -> &Node<Host> {
        self.machines[&host].node.as_ref().unwrap()
    }

    pub(super) fn incarnation(&self, host: Host) -> Voter<Host> {
        self.machines[&host].disk.me.clone()
    }

    /// Who holds a lease by its own clock.
    pub(super) fn holders(&self) -> Vec<Host> {
        let holding = |node: &Node<Host>| node.lease().is_some();
        self.machines
            .iter()
            .filter(|(_, machine)| machine.node.as_ref().is_some_and(holding))
            .map(|(host, _)| *host)
            .collect()
    }

    /// Voters that a holder has not heard for longer than a promise.
    pub(super) fn unheard(&self) -> Vec<Host> {
        let silent = |machine: &Machine| -> Vec<Host> {
            let now = machine.clock(self.now);
            let node = machine.node.iter();
            node.flat_map(|node| node.silent(now))
                .map(|voter| voter.name)
                .collect()
        };
        self.machines.values().flat_map(silent).collect()
    }

    pub(super) fn input(&mut self, host: Host, input: Input<Host>) {
        let now = self.now;
        let machine = self.machines.get_mut(&host).unwrap();
        let clock = machine.clock(now);
        let deaf = machine.agent_frozen || machine.pause.is_some();
        let Some(node) = machine.node.as_mut().filter(|_| !deaf) else {
            return;
        };
        let effects = node.handle(clock, input);
        if self.folds {
            node.fold(clock, clock);
        }
        let before = machine.disk.clone();
        let (disk, fails) = (&mut machine.disk, machine.disk_fails);
        let committed = effects.commit(|saved| {
            if fails {
                return Err(());
            }
            disk.clone_from(saved);
            Ok(())
        });
        invariant_promises_are_kept(&before, &machine.disk);
        let Ok(committed) = committed else {
            machine.disk_fails = false;
            self.kill(host);
            return;
        };
        for note in committed.notes {
            self.note(host, note);
        }
        for action in committed.actions {
            self.act(host, action);
        }
    }

    /// Runs until then.
    pub(super) fn run_until(&mut self, end: u64) {
        while self.now < end {
            self.step();
        }
    }

    /// The next millisecond.
    pub(super) fn step(&mut self) {
        self.now += 1;
        let now = self.now;
        let (due, later) = self.mail.drain(..).partition(|(at, ..)| *at <= now);
        self.mail = later;
        let due: Vec<(u64, Host, Voter<Host>, Message<Host>)> = due;
        for (_, to, from, message) in due {
            if let Some((until, _)) = self.machines[&to].pause {
                self.mail.push((until + 1, to, from, message));
            } else if !self.cut.contains(&(from.name, to)) {
                self.input(to, Input::Received { from, message });
            }
        }
        let hosts: Vec<Host> = self.machines.keys().copied().collect();
        for host in hosts {
            if self.stands_still(host) {
                continue;
            }
            let machine = self.machines.get_mut(&host).unwrap();
            let clock = machine.clock(now);
            if machine.work.is_some_and(|(_, until)| until <= clock) {
                if machine.agent_frozen {
                    self.guard_kills(host);
                    continue;
                }
                machine.work = None;
            }
            if machine.agent_frozen {
                self.work_at(host);
                continue;
            }
            let idle = machine.idle_at.take_if(|at| *at <= now).is_some();
            if idle {
                machine.work = None;
            }
            let node = machine.node.as_ref();
            let wakes = node.and_then(Node::wake_at).is_some_and(|at| at <= clock);
            if idle {
                self.input(host, Input::Idle);
            }
            if now.is_multiple_of(250) {
                self.input(host, Input::Progress);
            }
            if wakes {
                self.input(host, Input::Tick);
            }
            self.work_at(host);
        }
    }

    fn act(&mut self, host: Host, action: Action<Host>) {
        match action {
            Action::Send { to, message } => {
                let from = self.machines[&host].disk.me.clone();
                if self.loses > 0 && self.chance.one_in(self.loses) {
                    return;
                }
                let copies = if self.loses > 0 && self.chance.one_in(self.loses) {
                    2
                } else {
                    1
                };
                for _ in 0..copies {
                    let mut delay = 1 + self.chance.below(self.longest_delay);
                    if self.loses > 0 && self.chance.one_in(200) {
                        delay += 4_000;
                    }
                    let copy = (self.now + delay, to.name, from.clone(), message.clone());
                    self.mail.push(copy);
                }
            }
            Action::Work { term, until } => {
                let machine = self.machines.get_mut(&host).unwrap();
                machine.work = Some((term, until));
                self.invariant_one_works(host);
            }
            Action::Stop { .. } => {
                let at = self.now + STOPS_IN;
                self.machines.get_mut(&host).unwrap().idle_at = Some(at);
            }
        }
    }

    fn note(&mut self, host: Host, note: Note<Host>) {
        if let Note::Won(term, _) = note {
            let holder = *self.holders.entry(term).or_insert(host);
            self.must(holder == host, &format!("{term:?} has two holders"));
            self.invariant_one_holds(host);
        }
        self.say(host, &format!("{note:?}"));
        self.notes.push((self.now, host, note));
    }

    /// I1a: by true time, whoever else still counts a lease as its own.
    fn invariant_one_holds(&self, host: Host) {
        for (other, machine) in &self.machines {
            let lease = machine.node.as_ref().and_then(Node::lease);
            let lives = lease.is_some_and(|lease| machine.truth(lease.until) > self.now);
            let lives = lives && !self.stood_still;
            self.must(!lives || *other == host, "two hold a lease");
        }
    }

    /// Work of another, left behind by a killed agent, counts.
    fn invariant_one_works(&self, host: Host) {
        for (other, machine) in &self.machines {
            let works = machine
                .work
                .is_some_and(|(_, until)| machine.truth(until) > self.now);
            let works = works && !self.stood_still;
            self.must(!works || *other == host, "two work");
        }
    }

    pub(super) fn say(&mut self, host: Host, what: &str) {
        let line = format!("{:>7} host {host}: {what}", self.now);
        self.history.push(line);
    }

    #[track_caller]
    pub(super) fn must(&self, holds: bool, what: &str) {
        if !holds {
            for line in &self.history {
                println!("{line}");
            }
            for (host, machine) in &self.machines {
                println!("host {host} at {:?}: {machine:?}", machine.clock(self.now));
            }
            panic!("{what} at {}", self.now);
        }
    }
}

/// I2, I3: terms rise, a term is granted once, what is closed stays closed, epochs rise.
fn invariant_promises_are_kept(before: &Saved<Host>, after: &Saved<Host>) {
    if before.me != after.me {
        return;
    }
    let term = |saved: &Saved<Host>| saved.granted.as_ref().map(|(term, _)| *term);
    assert!(term(after) >= term(before), "a granted term fell");
    if term(after) == term(before) {
        assert_eq!(before.granted, after.granted, "one term, two grants");
    }
    assert!(after.closed >= before.closed, "a closed term is open again");
    assert!(after.longest >= before.longest, "a promise was forgotten");
    assert!(
        after.configuration.epoch() >= before.configuration.epoch(),
        "an epoch fell"
    );
}
