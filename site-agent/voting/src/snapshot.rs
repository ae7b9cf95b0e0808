//! What a voter knows at one moment, and as it is reported.

use std::collections::BTreeMap;

use site_lease::{Configuration, Memory, Mono, Ms, Node, Part, Standing, Voters};
use stead_schemas::lease::{LeasePart, LeaseReport, MemoryReport, Takeover, VotersReport};
use stead_schemas::names::ServerName;
use stead_schemas::time::WallMs;

use crate::ledger::Route;
use crate::{Voter, spec};

/// Promises long that a voter has to be silent before it is missed.
const DESERTED: u64 = 2;

/// A voter at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Who.
    pub me: Voter,
    /// Its state; none: it does not vote.
    pub node: Option<Node<ServerName>>,
    /// When.
    pub at: Mono,
    /// The last time the lease was taken up here.
    pub takeover: Option<Takeover>,
    /// Where the other voters hear.
    pub routes: BTreeMap<ServerName, Route>,
    /// Letters that were refused.
    pub refused: u64,
    /// When each other voter was last heard.
    pub heard: BTreeMap<ServerName, Mono>,
    /// When this voter started.
    pub since: Mono,
    /// Why it does not vote.
    pub problem: Option<String>,
}

/// A snapshot as an agent reports it, and why it is not ready if it is not.
#[must_use]
pub fn report(snapshot: &Snapshot, not_ready: Option<String>) -> LeaseReport {
    let node = snapshot.node.as_ref();
    let saved = node.map(Node::saved);
    let granted = saved.and_then(|saved| saved.granted.as_ref());
    let names = |voters: Vec<&Voter>| {
        let mut names: Vec<ServerName> = voters.iter().map(|voter| voter.name.clone()).collect();
        names.sort();
        names
    };
    LeaseReport {
        incarnation: snapshot.me.incarnation.0,
        voters: saved
            .map(|saved| &saved.configuration)
            .filter(|configuration| !spec::is_nobody(configuration))
            .map(voters),
        part: node.map_or(LeasePart::Out, |node| part(node, snapshot.at)),
        term: granted.map_or(0, |(term, _)| term.0),
        holder: granted.map(|(_, holder)| holder.name.clone()),
        ready: node.is_some() && not_ready.is_none(),
        not_ready,
        memory: saved.map(|saved| memory(&saved.memory)).unwrap_or_default(),
        takeover: snapshot.takeover.clone(),
        ready_voters: names(node.map_or_else(Vec::new, |n| n.ready(snapshot.at).collect())),
        silent_voters: names(node.map_or_else(Vec::new, |n| n.silent(snapshot.at).collect())),
        problem: snapshot.problem.clone().or_else(|| deserted(snapshot)),
    }
}

/// A person gave this life of the ledger up.
fn given_up(node: &Node<ServerName>, me: &Voter) -> bool {
    let saved = node.saved();
    saved.memory.lost.contains(me) && !saved.configuration.has(me)
}

/// What a voter that may hold, and hears no majority, is waiting for.
fn deserted(snapshot: &Snapshot) -> Option<String> {
    let node = snapshot.node.as_ref()?;
    let configuration = &node.saved().configuration;
    let me = &snapshot.me;
    if given_up(node, me) {
        let name = &me.name;
        return Some(format!(
            "it has no vote: a person gave it up with `stead promote`; run `stead replace {name}`"
        ));
    }
    let candidate = matches!(node.standing(), Standing::Candidate { .. });
    let waits = matches!(node.part(), Part::Following | Part::Sounding(_));
    if !candidate
        || !waits
        || spec::is_nobody(configuration)
        || node.promised(snapshot.at).is_some()
    {
        return None;
    }
    let patience = Ms(node.timing().promise().0.saturating_mul(DESERTED));
    let silent = |voter: &Voter| {
        let heard = snapshot.heard.get(&voter.name).copied();
        let heard = heard.unwrap_or_default().max(snapshot.since);
        *voter != *me && snapshot.at > heard.plus(patience)
    };
    let everyone = configuration.everyone();
    let there = everyone.iter().filter(|voter| !silent(voter));
    if configuration.is_quorum(&there.cloned().collect()) {
        return None;
    }
    let gone: Vec<&str> = everyone
        .iter()
        .filter(|voter| silent(voter))
        .map(|voter| voter.name.as_str())
        .collect();
    Some(format!(
        "no majority of the voters is heard, so nobody is active: {} of {} are silent; bring one back \
         ({}), or, where they are gone for good: stead promote {} --lost {} --reason …",
        gone.len(),
        everyone.len(),
        gone.join(", "),
        me.name,
        gone.join(","),
    ))
}

fn part(node: &Node<ServerName>, now: Mono) -> LeasePart {
    let configuration = &node.saved().configuration;
    match node.part() {
        _ if !configuration.has(&node.saved().me) => LeasePart::Out,
        Part::Following if now < node.quiet_until() => LeasePart::Out,
        Part::Following | Part::Sounding(_) => LeasePart::Following,
        Part::Asking(_) => LeasePart::Asking,
        Part::Holding(_) => LeasePart::Holding,
        Part::Stopping(_) => LeasePart::Stopping,
    }
}

fn voters(configuration: &Configuration<ServerName>) -> VotersReport {
    let lives = |voters: &Voters<ServerName>| -> BTreeMap<ServerName, u64> {
        let lives = voters.members.iter();
        lives
            .map(|voter| (voter.name.clone(), voter.incarnation.0))
            .collect()
    };
    let epoch = configuration.in_force.epoch;
    VotersReport {
        number: epoch.number,
        term: epoch.term.0,
        in_force: lives(&configuration.in_force),
        pending: configuration.pending.as_ref().map(lives),
    }
}

fn memory(memory: &Memory<ServerName>) -> MemoryReport {
    MemoryReport {
        number: memory.version.number,
        declared: memory.declared.clone(),
        request: memory.request.clone(),
        failovers: memory.failovers.iter().copied().map(WallMs).collect(),
        lost: memory
            .lost
            .iter()
            .map(|voter| (voter.name.clone(), voter.incarnation.0))
            .collect(),
    }
}
