//! Handovers that begin here: asked for, because the site server is sick, because the declared active is
//! well again, or because the agent ends.

use site_lease::{HandoverRefusal, Input, Note, Term};
use site_voting::{Letter, Route, Voter};
use stead_schemas::names::{Identity, ServerName};

use super::attend::Attendance;
use super::{Question, Resume};
use crate::guard::message::{GuardPeer, Release};

/// How long the declared active has been ready to take back.
#[derive(Debug, Default)]
pub(super) struct Patience {
    ready_since: Option<std::time::Duration>,
}

impl Attendance {
    pub(super) async fn on_question(&mut self, question: Question) {
        match question {
            Question::HandOver { to, answer } => {
                if self.asked.is_some() {
                    drop(answer.send(Err("a handover is being asked for already".to_owned())));
                    return;
                }
                let Some(voter) = self.voter(&to) else {
                    drop(answer.send(Err(format!("{to} has no vote in this lease"))));
                    return;
                };
                self.asked = Some(answer);
                self.voting.input(Input::HandOver { to: voter }).await;
            }
            Question::Promote { lost, answer } => {
                if let Some(before) = self.promoting.replace(answer) {
                    drop(before.send(Err("somebody else asked for it meanwhile".to_owned())));
                }
                self.voting.input(Input::Promote { lost }).await;
            }
            Question::Leave { done } => self.leave(done).await,
            Question::Resume { answer } => {
                let held = self.held.as_ref().filter(|_| !self.is_ending());
                let note = held.map(|held| Resume::of(held.term, held.lease));
                answer.send(note).ok();
            }
        }
    }

    /// The agent ends: somebody who is ready takes over, else the work ends and the term with it.
    async fn leave(&mut self, done: tokio::sync::oneshot::Sender<()>) {
        if self.held.is_none() {
            done.send(()).ok();
            return;
        }
        self.leaving = Some(done);
        match self.successor() {
            Some(to) => self.voting.input(Input::HandOver { to }).await,
            None => self.voting.input(Input::Resign).await,
        }
    }

    pub(super) fn on_note(&mut self, note: Note<ServerName>) {
        // Who asked may have gone.
        match note {
            Note::HandoverRefused(refusal) => {
                if let Some(asked) = self.asked.take() {
                    drop(asked.send(Err(words(&refusal))));
                }
            }
            Note::PromoteRefused(refusal) => {
                if let Some(asked) = self.promoting.take() {
                    drop(asked.send(Err(super::promote::words(&refusal))));
                }
            }
            Note::Promoted(_) => {
                if let Some(asked) = self.promoting.take() {
                    drop(asked.send(Ok(())));
                }
            }
            _ => {}
        }
    }

    /// Hands over by itself where there is a reason and somebody ready.
    pub(super) async fn look_for_reasons(&mut self) {
        if self.is_ending() {
            return;
        }
        let Some(term) = self.held.as_ref().map(|held| held.term) else {
            return;
        };
        let (seen, elapsed) = (self.seen(term), self.elapsed());
        let sick = match &mut self.held {
            Some(held) => held.signs.reason(seen, elapsed),
            None => None,
        };
        let to = match sick {
            Some(_) => self.successor(),
            None => self.declared_is_back(elapsed),
        };
        if let Some(to) = to {
            let why = sick.unwrap_or("the declared active is well again");
            tracing::warn!(to = %to.name, "handing over: {why}");
            self.voting.input(Input::HandOver { to }).await;
        }
    }

    /// `failback: automatic`, after the settling time.
    fn declared_is_back(&mut self, now: std::time::Duration) -> Option<Voter> {
        let settle = self.spec.failback_after?;
        let declared = self.spec.declared.active.clone();
        let ready = self.ready_voters().contains(&declared);
        let held = self.held.as_mut()?;
        if !ready {
            held.patience.ready_since = None;
            return None;
        }
        let since = *held.patience.ready_since.get_or_insert(now);
        let settled = now.saturating_sub(since) >= settle.std();
        settled.then(|| self.voter(&declared)).flatten()
    }

    /// The first of those who are ready, in order of preference.
    fn successor(&self) -> Option<Voter> {
        let mut ready = self.ready_voters();
        ready.sort_by_key(|name| self.spec.voters.get(name).and_then(|voter| voter.rank));
        ready.first().and_then(|name| self.voter(name))
    }

    /// A voter in force, by its name.
    fn voter(&self, name: &ServerName) -> Option<Voter> {
        let snapshot = self.snapshot.borrow();
        let configuration = &snapshot.node.as_ref()?.saved().configuration;
        let members = &configuration.in_force.members;
        members.iter().find(|voter| voter.name == *name).cloned()
    }

    /// What the guard sends once everything of the term is proven gone.
    pub(super) fn release(&self, term: Term) -> Release {
        let peer = |(route, letter): (Route, Letter)| {
            let identity = Identity {
                hierarchy: self.around.hierarchy.clone(),
                kind: route.kind,
                name: letter.to.name.to_string(),
            };
            // A letter has string keys only.
            let body = serde_json::to_value(&letter).ok()?;
            Some(GuardPeer {
                address: route.address,
                identity,
                body,
            })
        };
        let releases = self.voting.releases(term).into_iter();
        Release {
            path: site_voting::PATH.to_owned(),
            peers: releases.filter_map(peer).collect(),
        }
    }
}

fn words(refusal: &HandoverRefusal<ServerName>) -> String {
    match refusal {
        HandoverRefusal::NotHolder => "the lease is not held here".to_owned(),
        HandoverRefusal::UnderWay(to) => format!("a handover to {} is under way", to.name),
        HandoverRefusal::NotReady(to) => format!("{} has not said that it is ready", to.name),
    }
}
