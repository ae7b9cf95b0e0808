//! The site's store in the simulation: the term row and what was accepted (I5), and the site servers
//! that write to it while their own clocks allow.

use alloc::vec::Vec;

use super::site::{Host, Site};
use crate::{Input, Term};

/// Between two writes of one site server.
const EVERY: u64 = 50;

/// A row with the token that rules, and a log.
#[derive(Debug, Default)]
pub(super) struct Store {
    row: Option<(Term, Host)>,
    accepted: Vec<(Term, Host)>,
    pub(super) refused: u64,
}

impl Store {
    /// Raises the row, or says by whom the claimant is outranked.
    fn claim(&mut self, term: Term, host: Host) -> Result<(), Term> {
        match self.row {
            Some((newer, holder)) if newer > term || newer == term && holder != host => Err(newer),
            _ => {
                self.row = Some((term, host));
                Ok(())
            }
        }
    }

    /// Takes a write of exactly the token that rules.
    fn append(&mut self, term: Term, host: Host) -> bool {
        let rules = self.row == Some((term, host));
        if rules {
            self.accepted.push((term, host));
        } else {
            self.refused += 1;
        }
        rules
    }

    /// I5: the log's terms rise, and each has one writer.
    pub(super) fn is_in_order(&self) -> bool {
        self.accepted
            .windows(2)
            .all(|pair| pair[0].0 < pair[1].0 || pair[0] == pair[1])
    }

    pub(super) fn last_writer(&self) -> Option<Host> {
        self.accepted.last().map(|(_, host)| *host)
    }

    pub(super) fn len(&self) -> usize {
        self.accepted.len()
    }
}

impl Site {
    /// One unit of work at a host, if it may begin one: the deadline is that of its own clock (I1b).
    pub(super) fn work_at(&mut self, host: Host) {
        if !self.now.is_multiple_of(EVERY) {
            return;
        }
        let Some((term, claimed)) = self.may_work(host) else {
            return;
        };
        if claimed != Some(term) {
            match self.store.claim(term, host) {
                Ok(()) => self.note_claim(host, term),
                Err(by) => {
                    self.say(host, &std::format!("{term:?} is outranked by {by:?}"));
                    self.store.refused += 1;
                    self.input(host, Input::Outranked(by));
                    return;
                }
            }
        }
        if !self.store.append(term, host) {
            self.say(host, &std::format!("a write of {term:?} is refused"));
            self.forget_claim(host);
        }
        self.must(self.store.is_in_order(), "a stale write was accepted");
    }
}
