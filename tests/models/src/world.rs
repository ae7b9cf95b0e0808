//! One model checker's view of a site: what can happen next, and what must hold.

use std::collections::BTreeSet;
use std::fmt;

use site_lease::{Body, Input, Memory, Message, Mono, Part, Term, Voter};
use stateright::{Model, Property};

use super::rules::{Invariant, Rules, TICK, Wrong};
use super::shared::Shared;
use super::site::{Agent, Machine, NOW, Packet, Session, Site};

/// A model: its bounds and its properties.
#[derive(Clone)]
pub struct World {
    /// Its bounds.
    pub rules: Rules,
    pub(super) properties: Vec<Property<Self>>,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rules.fmt(f)
    }
}

/// Something that happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A tick of true time.
    Time,
    /// A node looks at its clock.
    Wakes(u8),
    /// A message arrives.
    Arrives(Shared<Packet>),
    /// No work of the last term is left.
    Idle(u8),
    /// An agent starts, or starts again.
    Starts(u8),
    /// An agent hangs.
    Hangs(u8),
    /// It goes on.
    GoesOn(u8),
    /// An agent dies.
    Dies(u8),
    /// A guard sees that its agent hangs or is gone.
    Guards(u8),
    /// A guard dies, and another one starts.
    GuardStarts(u8),
    /// A holder is asked to go solo.
    Solo(u8),
    /// A holder is asked to take back all there are.
    Readmit(u8),
    /// A ledger is lost.
    Forgets(u8),
    /// A machine stands still.
    Pauses(u8),
    /// A clock is set back.
    StepsBack(u8),
    /// The active connects to the database.
    Connects(u8),
    /// It claims its row.
    Claims(u8),
    /// A claim arrives at the DNS server, from whoever ever held.
    Names(u8),
    /// The database falls back to a replica that lacks the last claim.
    FallsBack,
}

impl Model for World {
    type State = Site;
    type Action = Step;

    fn init_states(&self) -> Vec<Site> {
        let mut all = vec![vec![]];
        for rates in &self.rules.rates {
            let longer = |some: &Vec<u64>| {
                let one = |rate: &u64| [some.as_slice(), &[*rate]].concat();
                rates.iter().map(one).collect::<Vec<_>>()
            };
            all = all.iter().flat_map(longer).collect();
        }
        let site = |rates: Vec<u64>| {
            let mut site = Site::new(&self.rules, &rates);
            if self.rules.elected {
                self.elects(&mut site);
            }
            site
        };
        all.into_iter().map(site).collect()
    }

    fn actions(&self, site: &Site, steps: &mut Vec<Step>) {
        // What is broken stays so; of a wrong variant the worst is wanted, not the first.
        if site.broken.is_some() && self.rules.wrong.is_none() {
            return;
        }
        steps.push(Step::Time);
        let runs = |host: u8| site.at(host).agent == Agent::Runs;
        for host in self.rules.hosts().filter(|host| runs(*host)) {
            if host < 2 {
                steps.push(Step::Wakes(host));
            }
            if matches!(site.at(host).node.part(), Part::Stopping(_)) {
                steps.push(Step::Idle(host));
            }
            if self.rules.restarts == Some(host) {
                steps.push(Step::Starts(host));
            }
        }
        let arrive = site.mail.iter().filter(|packet| runs(packet.to));
        steps.extend(arrive.cloned().map(Step::Arrives));
        for host in 0..2 {
            self.processes(site, host, steps);
            self.changes(site, host, steps);
            self.registers(site, host, steps);
        }
        if site.left.amnesias > 0 {
            steps.push(Step::Forgets(2));
        }
        if site.left.database_failovers > 0 && site.database.term > site.database.before {
            steps.push(Step::FallsBack);
        }
    }

    fn next_state(&self, before: &Site, step: Step) -> Option<Site> {
        let mut site = before.clone();
        self.happens(&mut site, &step);
        let over = |machine: &Machine| machine.node.saved().highest().0 > self.rules.terms;
        if site.machines.iter().any(|machine| over(machine)) {
            return None;
        }
        site.prune(&self.rules);
        if self.rules.database || self.rules.dns {
            let fenced = is_fenced(&self.rules, &site);
            site.breaks((!fenced).then_some(Invariant::Fenced));
        }
        (site != *before).then_some(site)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        self.properties.clone()
    }
}

impl World {
    /// The last host hears the first one's question; the first hears its answer.
    fn elects(&self, site: &mut Site) {
        site.take(&self.rules, 0, Input::Tick);
        for to in [2, 0] {
            let packet = site.mail.iter().find(|packet| packet.to == to).cloned();
            if let Some(packet) = packet {
                site.deliver(&self.rules, &packet);
                site.prune(&self.rules);
            }
        }
    }

    fn processes(&self, site: &Site, host: u8, steps: &mut Vec<Step>) {
        if !self.rules.works {
            return;
        }
        let machine = site.at(host);
        let left = &site.left;
        match machine.agent {
            Agent::Runs => {
                // A hang and a death matter where something is held or asked for.
                let busy = *machine.node.part() != Part::Following || machine.work.is_some();
                if left.hangs > 0 && busy {
                    steps.push(Step::Hangs(host));
                }
                if left.deaths > 0 && busy {
                    steps.push(Step::Dies(host));
                }
            }
            Agent::Hangs => steps.push(Step::GoesOn(host)),
            Agent::Gone => steps.push(Step::Starts(host)),
            Agent::Paused => {}
        }
        if let Some(work) = &machine.work {
            let guarded = work.guarded && !self.rules.is(Wrong::NoGuard);
            if guarded && machine.agent != Agent::Runs {
                steps.push(Step::Guards(host));
            }
            if guarded && left.guard_restarts > 0 {
                steps.push(Step::GuardStarts(host));
            }
        }
    }

    fn changes(&self, site: &Site, host: u8, steps: &mut Vec<Step>) {
        if site.left.changes == 0 || site.at(host).node.lease().is_none() {
            return;
        }
        let configuration = &site.at(host).node.saved().configuration;
        if configuration.pending.is_some() {
            return;
        }
        if configuration.in_force.members.len() > 1 {
            steps.push(Step::Solo(host));
        }
        if configuration.in_force.members != everyone(site) {
            steps.push(Step::Readmit(host));
        }
    }

    fn registers(&self, site: &Site, host: u8, steps: &mut Vec<Step>) {
        let machine = site.at(host);
        // Only a holder whom a newer term can follow within the bound.
        let followed = machine
            .node
            .lease()
            .is_some_and(|lease| lease.term.0 < self.rules.terms);
        if site.left.pauses > 0 && machine.holds() && followed {
            steps.push(Step::Pauses(host));
        }
        if machine.agent == Agent::Paused {
            steps.push(Step::GoesOn(host));
        }
        if site.left.steps > 0 && machine.holds() {
            steps.push(Step::StepsBack(host));
        }
        if self.rules.dns && machine.held > Term(0) && site.dns.term < machine.held {
            steps.push(Step::Names(host));
        }
        if !self.rules.database || machine.agent != Agent::Runs || !machine.holds() {
            return;
        }
        match &machine.session {
            None => steps.push(Step::Connects(host)),
            Some(session)
                if session.claimed.is_none() && self.is_fresh(machine, session.opened) =>
            {
                steps.push(Step::Claims(host));
            }
            Some(_) => {}
        }
    }

    /// A claim rests on a renewal sent after the connection was opened, and answered (H5).
    fn is_fresh(&self, machine: &Machine, opened: Mono) -> bool {
        let duration = self.rules.timing.duration();
        let lease = machine.node.lease();
        let asked = lease.map(|lease| lease.until.minus(duration));
        self.rules.is(Wrong::StaleClaim) || asked.is_some_and(|asked| asked > opened)
    }

    fn happens(&self, site: &mut Site, step: &Step) {
        let rules = &self.rules;
        match *step {
            Step::Time => site.passes(rules),
            Step::Wakes(host) => site.take(rules, host, Input::Tick),
            Step::Arrives(ref packet) => site.deliver(rules, packet),
            Step::Idle(host) => site.take(rules, host, Input::Idle),
            Step::Starts(host) => site.restart(rules, host),
            Step::Hangs(host) => {
                site.left.hangs -= 1;
                site.at_mut(host).agent = Agent::Hangs;
            }
            Step::GoesOn(host) => site.at_mut(host).agent = Agent::Runs,
            Step::Dies(host) => {
                site.left.deaths -= 1;
                site.at_mut(host).agent = Agent::Gone;
            }
            Step::Guards(host) => guards(rules, site, host),
            Step::GuardStarts(host) => guard_starts(rules, site, host),
            Step::Solo(host) => {
                site.left.changes -= 1;
                let members = BTreeSet::from([site.at(host).node.saved().me.clone()]);
                site.take(rules, host, Input::Change { members });
            }
            Step::Readmit(host) => {
                site.left.changes -= 1;
                let members = everyone(site);
                site.take(rules, host, Input::Change { members });
            }
            Step::Forgets(host) => {
                site.left.amnesias -= 1;
                site.forget(rules, host);
            }
            Step::Pauses(host) => {
                site.left.pauses -= 1;
                site.at_mut(host).agent = Agent::Paused;
            }
            Step::StepsBack(host) => {
                site.left.steps -= 1;
                site.steps_back(host, TICK);
            }
            Step::Connects(host) => {
                let session = Session {
                    opened: NOW,
                    claimed: None,
                };
                site.at_mut(host).session = Some(session);
            }
            Step::Claims(host) => claims(site, host),
            Step::Names(host) => site.dns.claimed(site.at(host).held),
            Step::FallsBack => {
                site.left.database_failovers -= 1;
                site.database.term = site.database.before;
                for host in rules.hosts() {
                    site.at_mut(host).session = None;
                }
            }
        }
    }
}

/// All hosts, as they are now.
fn everyone(site: &Site) -> BTreeSet<Voter<u8>> {
    let machines = site.machines.iter();
    machines
        .map(|machine| machine.node.saved().me.clone())
        .collect()
}

/// Kills agent and workload, and when both are gone releases (R12).
fn guards(rules: &Rules, site: &mut Site, host: u8) {
    let machine = site.at_mut(host);
    if !rules.is(Wrong::GuardSparesAgent) {
        machine.agent = Agent::Gone;
    }
    let Some(work) = machine.work.take() else {
        return;
    };
    let saved = machine.node.saved();
    let (from, epoch) = (saved.me.clone(), saved.configuration.epoch());
    for to in rules.hosts().filter(|to| *to != host) {
        let body = Body::Release {
            term: work.term,
            successor: None,
        };
        let packet = Packet {
            to,
            from: from.clone(),
            message: Message {
                epoch,
                memory: Memory::default(),
                body,
            },
            again: false,
        };
        site.post(rules, packet);
    }
}

/// A guard that starts kills first and knows no allowed term (R13).
fn guard_starts(rules: &Rules, site: &mut Site, host: u8) {
    site.left.guard_restarts -= 1;
    let machine = site.at_mut(host);
    if rules.is(Wrong::GuardForgets) {
        if let Some(work) = &mut machine.work {
            work.guarded = false;
        }
        return;
    }
    machine.work = None;
    machine.agent = Agent::Gone;
}

/// Raises the row, ends everybody else's sessions first; a newer one refuses.
fn claims(site: &mut Site, host: u8) {
    let Some(term) = site.at(host).node.lease().map(|lease| lease.term) else {
        return;
    };
    if term < site.database.term {
        return;
    }
    site.database.claimed(term);
    for machine in &mut site.machines {
        machine
            .make_mut()
            .session
            .take_if(|session| session.claimed.is_some());
    }
    if let Some(session) = &mut site.at_mut(host).session {
        session.claimed = Some(term);
        session.opened = Mono(0);
    }
}

/// I5: whatever anybody could write now, the database over a connection that claimed and DNS by
/// whoever ever held, it is not taken under an older term than was ever claimed.
fn is_fenced(rules: &Rules, site: &Site) -> bool {
    let writes = |machine: &Machine| {
        let claimed = machine.session.as_ref().and_then(|session| session.claimed);
        let taken = claimed.filter(|term| *term == site.database.term);
        taken.is_none_or(|term| term >= site.database.newest)
    };
    let names = |machine: &Machine| {
        let checked = !rules.is(Wrong::NoTokenAtDns);
        let taken = !checked || machine.held == site.dns.term;
        machine.held == Term(0) || !taken || machine.held >= site.dns.newest
    };
    let mut machines = site.machines.iter();
    machines.all(|machine| writes(machine) && names(machine))
}
