//! What is on its way: a sorted set, at most the newest and one stale copy a kind and channel (H17).
//!
//! Questions stay after they were delivered, as they may come twice; an answer that comes twice
//! changes nothing, so it goes. What can have no effect any more is left out.

use std::mem::discriminant;

use site_lease::{Body, Message, Mono, Part, Term, Voter};

use super::rules::{Rules, Wrong};
use super::shared::Shared;
use super::site::{Machine, NOW, Packet, Site};

impl Site {
    pub(super) fn post(&mut self, rules: &Rules, packet: Packet) {
        if !self.matters(rules, &packet) || self.mail.iter().any(|other| **other == packet) {
            return;
        }
        let kind = discriminant(&packet.message.body);
        let like = |other: &&Shared<Packet>| {
            (other.to, &other.from) == (packet.to, &packet.from)
                && discriminant(&other.message.body) == kind
        };
        if self.mail.iter().filter(like).count() >= rules.copies {
            let oldest = self.mail.iter().filter(like).min_by_key(|p| age(p));
            let oldest = oldest.cloned();
            self.mail.retain(|other| Some(other) != oldest.as_ref());
        }
        let at = self.mail.partition_point(|other| **other < packet);
        self.mail.insert(at, Shared::new(packet));
    }

    /// Leaves out what can have no effect any more. A question whose answer is not waited for is
    /// still one to its receiver; when it was asked no longer matters.
    pub(super) fn prune(&mut self, rules: &Rules) {
        let oldest = NOW.minus(rules.timing.duration());
        let mut mail = std::mem::take(&mut self.mail);
        mail.retain(|packet| self.matters(rules, packet));
        let mut moved = false;
        for packet in &mut mail {
            let (term, sent) = age(packet);
            let asker = self.machines.get(usize::from(packet.from.name));
            let waits = asker.is_some_and(|asker| waits_for(asker, term));
            let timed = sent_of(&packet.message.body).is_some();
            if timed && packet.message.body.is_request() && !waits && sent > oldest {
                moved = true;
                if let Some(sent) = sent_mut(&mut packet.make_mut().message.body) {
                    *sent = oldest;
                }
            }
        }
        if moved {
            mail.sort_unstable();
            mail.dedup();
        }
        self.mail = mail;
    }

    fn matters(&self, rules: &Rules, packet: &Packet) -> bool {
        let Some(machine) = self.machines.get(usize::from(packet.to)) else {
            return false;
        };
        let node = &machine.node;
        let saved = node.saved();
        let granted = saved.granted.as_ref().map_or(Term(0), |(term, _)| *term);
        // Refused, it is told the newer voters.
        let learns = packet.message.epoch < saved.configuration.epoch();
        match &packet.message.body {
            Body::Ask { term, .. } => *term > saved.highest() || learns,
            Body::Renew { term, .. } => {
                // Refused for the term itself, its holder asks above, within the bound.
                let asker = self.machines.get(usize::from(packet.from.name));
                let waits = asker.is_some_and(|asker| waits_for(asker, *term));
                let moves = waits && saved.highest() >= *term && term.0 < rules.terms;
                *term > saved.closed && *term >= granted || learns || moves
            }
            Body::Configure { term, .. } => *term > saved.closed && *term >= granted || learns,
            Body::Release { term, .. } => {
                let open = rules.is(Wrong::OwnerOnlyRelease) || *term >= granted;
                *term > saved.closed.max(machine.over) && open
            }
            Body::Grant { term, sent } | Body::Renewed { term, sent, .. } => {
                let counts = sent.plus(rules.timing.duration()) > NOW;
                counts && (waits_for(machine, *term) || rules.is(Wrong::UnqualifiedGrant))
            }
            Body::PreAsk { .. } | Body::PreGrant { .. } | Body::Refuse { .. } => false,
        }
    }

    /// Time passed: by so much on each host's clock.
    pub(super) fn age_mail(&mut self, rules: &Rules, passed: &[u64]) {
        let oldest = NOW.minus(rules.timing.duration());
        for packet in &mut self.mail {
            let asker = match packet.message.body.is_request() {
                true => packet.from.name,
                false => packet.to,
            };
            let by = passed.get(usize::from(asker)).copied().unwrap_or(0);
            let sent = sent_of(&packet.message.body);
            let older = sent.map(|sent| Mono(sent.0 - by).max(oldest));
            if older != sent
                && let (Some(older), Some(sent)) =
                    (older, sent_mut(&mut packet.make_mut().message.body))
            {
                *sent = older;
            }
        }
        self.mail.sort_unstable();
        self.mail.dedup();
    }
}

/// Whether an answer about this term can still count here.
fn waits_for(machine: &Machine, term: Term) -> bool {
    match machine.node.part() {
        // The attempt's term is the last one it granted itself.
        Part::Asking(_) => machine.node.saved().highest() == term,
        Part::Holding(lease) => lease.term == term,
        Part::Following | Part::Sounding(_) | Part::Stopping(_) => false,
    }
}

fn age(packet: &Packet) -> (Term, Mono) {
    match &packet.message.body {
        Body::Ask { term, sent, .. }
        | Body::Renew { term, sent, .. }
        | Body::Configure { term, sent, .. }
        | Body::Grant { term, sent }
        | Body::Renewed { term, sent, .. } => (*term, *sent),
        Body::Release { term, .. }
        | Body::PreAsk { term }
        | Body::PreGrant { term }
        | Body::Refuse { term, .. } => (*term, Mono(0)),
    }
}

fn sent_of(body: &Body<u8>) -> Option<Mono> {
    match body {
        Body::Ask { sent, .. }
        | Body::Renew { sent, .. }
        | Body::Configure { sent, .. }
        | Body::Grant { sent, .. }
        | Body::Renewed { sent, .. } => Some(*sent),
        Body::Release { .. }
        | Body::PreAsk { .. }
        | Body::PreGrant { .. }
        | Body::Refuse { .. } => None,
    }
}

fn sent_mut(body: &mut Body<u8>) -> Option<&mut Mono> {
    match body {
        Body::Ask { sent, .. }
        | Body::Renew { sent, .. }
        | Body::Configure { sent, .. }
        | Body::Grant { sent, .. }
        | Body::Renewed { sent, .. } => Some(sent),
        Body::Release { .. }
        | Body::PreAsk { .. }
        | Body::PreGrant { .. }
        | Body::Refuse { .. } => None,
    }
}

/// The message as a receiver in the wrong takes it.
pub(super) fn as_taken(rules: &Rules, at: &Machine, packet: &Packet) -> (Voter<u8>, Message<u8>) {
    let (mut from, mut message) = (packet.from.clone(), packet.message.clone());
    match (&mut message.body, rules.wrong) {
        (Body::Release { term, .. }, Some(Wrong::OwnerOnlyRelease)) => {
            if let Some((granted, to)) = &at.node.saved().granted
                && *to == from
            {
                *term = *granted;
            }
        }
        (Body::Grant { term, .. }, Some(Wrong::UnqualifiedGrant)) => {
            *term = at.node.saved().highest();
        }
        // The second copy of an answer counts for somebody else, as a sum of answers would have it.
        (Body::Grant { .. }, Some(Wrong::ScalarCounting)) if packet.again => {
            let others = rules.hosts().map(super::rules::voter);
            let mut others = others.filter(|v| *v != from && *v != at.node.saved().me);
            from = others.next().unwrap_or(from);
        }
        _ => {}
    }
    (from, message)
}
