//! Going on alone when a majority is gone for good (H32): who is asked first, and what is waited for.
//!
//! Every voter of the configuration is called twice, a promise apart: one that answers is not lost,
//! one that does not must be named. What follows from that is `site-lease`'s.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use site_lease::{Configuration, Incarnation, PromoteRefusal};
use site_voting::{Route, Snapshot, Voter};
use stead_schemas::lease::{LeaseSpec, PromoteAnswer, PromoteRequest};
use stead_schemas::names::{Identity, ServerName};
use stead_wire::peer::{CallError, Peer};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Question, Seat};

/// How long a voter may take to show that it lives.
const ANSWER: Duration = Duration::from_secs(1);
/// How long the voter here may take to decide.
const DECIDE: Duration = Duration::from_secs(2);
/// Longest wait for a promise to be over; a site whose promises are longer asks again.
const PROMISE_MAX: Duration = Duration::from_secs(20);

impl Seat {
    /// Makes this server the only voter of its site, and the active one.
    ///
    /// # Errors
    /// Why not, in words; then nothing has changed.
    pub async fn promote(&self, request: PromoteRequest) -> Result<PromoteAnswer, String> {
        let snapshot = self.voter_of(&request)?;
        let node = snapshot.node.as_ref();
        let node = node.ok_or("this server's voter does not vote; ask for its status")?;
        let configuration = &node.saved().configuration;
        let spec = self.spec().ok_or("the seat was given up meanwhile")?;
        let lost = named(configuration, &spec, &snapshot.me, &request.lost)?;
        self.none_answers(&snapshot, configuration, &lost).await?;
        let promise = Duration::from_millis(node.timing().promise().0);
        tokio::time::sleep(promise.min(PROMISE_MAX)).await;
        self.none_answers(&snapshot, configuration, &lost).await?;
        let warnings = warnings(configuration, &lost);
        let (answer, answered) = oneshot::channel();
        self.ask(Question::Promote { lost, answer })?;
        match timeout(DECIDE, answered).await {
            Ok(Ok(decided)) => decided?,
            Ok(Err(_)) => return Err("the seat was given up meanwhile".to_owned()),
            Err(_) => return Err("it was not decided in time; ask for the status".to_owned()),
        }
        let now = self.voter_of(&request)?;
        let saved = now.node.as_ref().map(site_lease::Node::saved);
        Ok(PromoteAnswer {
            server: snapshot.me.name.clone(),
            term: saved.map_or(0, |saved| saved.highest().0),
            number: saved.map_or(0, |saved| saved.configuration.epoch().number),
            warnings,
        })
    }

    fn voter_of(&self, request: &PromoteRequest) -> Result<Arc<Snapshot>, String> {
        let Some((site, voting)) = self.voting() else {
            return Err("this server has no seat in a lease".to_owned());
        };
        if site != request.site_code {
            let asked = &request.site_code;
            return Err(format!("this server is one of {site}, not of {asked}"));
        }
        Ok(Arc::clone(&voting.snapshot().borrow()))
    }

    /// Calls everyone else: the lost must not answer, all others must.
    async fn none_answers(
        &self,
        snapshot: &Snapshot,
        configuration: &Configuration<ServerName>,
        lost: &BTreeSet<Voter>,
    ) -> Result<(), String> {
        let mut calls = JoinSet::new();
        let everyone = configuration.everyone();
        for voter in everyone.union(lost).cloned() {
            if voter == snapshot.me {
                continue;
            }
            let route = snapshot.routes.get(&voter.name).cloned();
            let peer = route.map(|route| self.peer(&voter.name, &route));
            calls.spawn(async move {
                let alive = match peer {
                    Some(peer) => answers(&peer).await,
                    None => false,
                };
                (voter, alive)
            });
        }
        for (voter, alive) in calls.join_all().await {
            let name = &voter.name;
            match (lost.contains(&voter), alive) {
                (true, true) => {
                    return Err(format!(
                        "{name} answers: it is not lost; nothing was changed"
                    ));
                }
                (false, false) => {
                    return Err(format!(
                        "{name} does not answer and is not named: name every voter that is gone for \
                         good, or bring it back"
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn peer(&self, name: &ServerName, route: &Route) -> Peer {
        let identity = Identity {
            hierarchy: self.surroundings.hierarchy.clone(),
            kind: route.kind,
            name: name.to_string(),
        };
        Peer::new(route.address, identity, Arc::clone(&self.surroundings.tls))
    }
}

/// The voters of these names, of every life that has a vote, or is declared to get one.
fn named(
    configuration: &Configuration<ServerName>,
    spec: &LeaseSpec,
    me: &Voter,
    names: &[ServerName],
) -> Result<BTreeSet<Voter>, String> {
    let mut lost = BTreeSet::new();
    for name in names {
        if *name == me.name {
            return Err(format!("{name} is the one that goes on: it can't be lost"));
        }
        let declared = spec.voters.get(name).and_then(|voter| voter.incarnation);
        let declared = declared.map(|life| Voter {
            name: name.clone(),
            incarnation: Incarnation(life),
        });
        let everyone = configuration.everyone().into_iter().chain(declared);
        let before = lost.len();
        lost.extend(everyone.filter(|voter| voter.name == *name));
        if lost.len() == before {
            return Err(format!(
                "{name} has no vote in this site, or is named twice"
            ));
        }
    }
    Ok(lost)
}

/// Whether anybody of that identity is there: any answer will do, a refusal as well.
async fn answers(peer: &Peer) -> bool {
    let answer: Result<serde_json::Value, _> = peer.get_json("/v1/alive", ANSWER).await;
    matches!(
        answer,
        Ok(_)
            | Err(CallError::Status { .. }
                | CallError::BadBody { .. }
                | CallError::Tls { .. }
                | CallError::Lost { .. })
    )
}

/// One that was alone needs nobody's answer to go on: its silence proves nothing.
fn warnings(configuration: &Configuration<ServerName>, lost: &BTreeSet<Voter>) -> Vec<String> {
    let sets = std::iter::once(&configuration.in_force).chain(&configuration.pending);
    let alone = sets.filter_map(|set| {
        let mut members = set.members.iter();
        members.next().filter(|_| members.next().is_none())
    });
    alone
        .filter(|voter| lost.contains(voter))
        .map(|voter| {
            let name = &voter.name;
            format!(
                "the last known voter was {name} alone: it may go on without hearing anybody, and \
                 waiting proves nothing; only its power being off, or the token, protects"
            )
        })
        .collect()
}

pub(super) fn words(refusal: &PromoteRefusal<ServerName>) -> String {
    match refusal {
        PromoteRefusal::NotCandidate => {
            "this server may not be active, never knew the site's voters, or was given up itself"
                .to_owned()
        }
        PromoteRefusal::Holder => "the lease is held here already".to_owned(),
        PromoteRefusal::Silent => {
            "this server was restarted, or work is left on it; try again in a few seconds"
                .to_owned()
        }
        PromoteRefusal::Promised(to) => format!("the lease of {} may still live", to.name),
        PromoteRefusal::Majority => {
            "those that are not lost are a majority: they need no promotion".to_owned()
        }
    }
}
