//! Letters in and out: who may speak, and the counts of votes that go with every message (H4).

use site_lease::{Body, Input, Message};
use stead_schemas::names::ServerName;
use stead_wire::clock::wall_now;

use super::{Done, Driver};
use crate::Voter;
use crate::clock::boot_now;
use crate::letter::{ANSWERS_MAX, Letter, LetterRefusal, Reply};

impl Driver {
    pub(super) async fn take_letter(
        &mut self,
        letter: Letter,
    ) -> Done<Result<Reply, LetterRefusal>> {
        if let Err(refusal) = self.check(&letter) {
            self.snapshot.refused += 1;
            return Ok(Err(refusal));
        }
        self.count(&letter.from, letter.votes, letter.seen);
        if self.node.is_none() {
            return Ok(Err(self.out()));
        }
        if matches!(letter.message.body, Body::Renew { .. }) {
            self.heard_at = Some(wall_now());
        }
        let input = Input::Received {
            from: letter.from.clone(),
            message: letter.message,
        };
        let messages = self.take(input, Some(&letter.from)).await?;
        self.follow_up().await?;
        let (votes, seen) = self.counts(&letter.from);
        Ok(Ok(Reply {
            votes,
            seen,
            messages,
        }))
    }

    pub(super) async fn take_reply(&mut self, from: Voter, reply: Reply) -> Done<()> {
        self.count(&from, reply.votes, reply.seen);
        for message in reply.messages.into_iter().take(ANSWERS_MAX) {
            let from = from.clone();
            self.take(Input::Received { from, message }, None).await?;
        }
        self.follow_up().await
    }

    pub(super) fn send(&self, to: Voter, message: Message<ServerName>) {
        let (votes, seen) = self.counts(&to);
        let letter = Letter {
            site: self.ledger.owner.site.clone(),
            from: self.ledger.me(),
            to,
            votes,
            seen,
            message,
        };
        self.mail.send(letter, self.patience());
    }

    /// Whether a letter is for this voter, from one that may speak to it.
    fn check(&mut self, letter: &Letter) -> Result<(), LetterRefusal> {
        let me = self.ledger.me();
        if self.retired {
            return Err(self.out());
        }
        if letter.from.name == me.name {
            // Nobody writes to himself: somebody else has this voter's certificate, and may have its
            // ledger.
            self.retire("another one speaks with this voter's name; one of them is a copy");
            return Err(self.out());
        }
        if letter.site != self.ledger.owner.site || letter.to != me {
            return Err(LetterRefusal::NotForMe {
                site: letter.site.clone(),
                to: letter.to.name.clone(),
            });
        }
        let declared = self.spec.as_ref();
        let is_declared = declared.is_some_and(|spec| spec.voters.contains_key(&letter.from.name));
        let saved = self.ledger.saved.as_ref();
        let votes = saved.is_some_and(|saved| saved.configuration.has(&letter.from));
        if is_declared || votes {
            return Ok(());
        }
        let name = &letter.from.name;
        let why = format!("{name} is no voter of {}", letter.site);
        Err(LetterRefusal::Out(why))
    }

    /// Notes how often another has voted, and looks whether it knows more of this one's votes than
    /// this one does.
    fn count(&mut self, other: &Voter, votes: u64, seen: u64) {
        self.snapshot.heard.insert(other.name.clone(), boot_now());
        let known = self.ledger.seen.entry(other.name.clone());
        let known = known.or_insert((other.incarnation, 0));
        if known.0 != other.incarnation {
            *known = (other.incarnation, 0);
        }
        known.1 = known.1.max(votes);
        let mine = self.ledger.saved.as_ref().map_or(0, |saved| saved.votes);
        if seen > mine {
            let name = &other.name;
            self.retire(&format!(
                "{name} knows of {seen} votes of this voter, its ledger of {mine}: it is an old copy"
            ));
        }
    }

    fn counts(&self, other: &Voter) -> (u64, u64) {
        let seen = self.ledger.seen.get(&other.name);
        let seen = seen.filter(|(incarnation, _)| *incarnation == other.incarnation);
        let mine = self.ledger.saved.as_ref().map_or(0, |saved| saved.votes);
        (mine, seen.map_or(0, |(_, votes)| *votes))
    }

    /// Votes no more: what it held, it loses.
    fn retire(&mut self, why: &str) {
        self.retired = true;
        let name = &self.ledger.owner.name;
        let problem = format!("{why}; run `stead replace {name}`");
        tracing::error!("this voter votes no more: {problem}");
        if let Some(node) = self.node.take()
            && let Some(lease) = node.lease()
        {
            self.tell(super::Event::Stop(lease.term));
        }
        self.snapshot.problem = Some(problem);
    }

    fn out(&self) -> LetterRefusal {
        let why = self.snapshot.problem.clone();
        LetterRefusal::Out(why.unwrap_or_else(|| "it is starting".to_owned()))
    }
}
