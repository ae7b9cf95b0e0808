//! What of a node matters from now on. Models fold the states of a site by it (H17): two nodes with
//! one outlook answer alike to whatever comes, so a site need not be followed twice, and time can go
//! on for ever in a model that ends.
//!
//! Nothing that runs a site calls this, and it decides nothing.

use crate::handover::READY_WITHIN;
use crate::memory::Memory;
use crate::node::{Node, Part, Promise};
use crate::time::{Mono, Ms};
use crate::voters::{Name, Term, Voter};

impl<N: Name> Node<N> {
    /// The term that it would ask for next.
    #[must_use]
    pub fn would_ask(&self) -> Term {
        self.saved.highest().max(self.heard).next()
    }

    /// Leaves out what the site remembers (H21), which decides nothing but whom to hand over to: for
    /// models, that hand nothing over.
    pub fn forget_memory(&mut self) {
        self.saved.memory = Memory::default();
        if let Part::Holding(lease) = &mut self.part {
            lease.remembered_at = Mono::default();
        }
    }

    /// Leaves of the node its outlook, with `origin` for `now` on its clock. What has run out is gone,
    /// and so is what is too old to matter again. Its disk counts as written to just now.
    pub fn fold(&mut self, now: Mono, origin: Mono) {
        let duration = self.timing.duration();
        let later = |at: Mono| match at > now {
            true => origin.plus(now.until(at)),
            false => Mono::default(),
        };
        let earlier = |at: Mono| origin.minus(Ms(at.until(now).0.min(duration.0)));
        let promised = |promise: Option<Promise<N>>| {
            let alive = promise.filter(|promise| promise.until > now)?;
            let until = later(alive.until);
            Some(Promise { until, ..alive })
        };
        self.quiet_until = later(self.quiet_until);
        self.promise = promised(self.promise.take());
        self.reserved = promised(self.reserved.take());
        // A count for peers: nothing here is decided by it.
        self.saved.votes = 0;
        self.heard = self.heard.max(self.saved.highest());
        self.progress_at = Some(origin);
        let due = self.asks_after();
        self.ask_after = match due {
            Some(due) if due > now && self.ask_after > now => later(self.ask_after),
            Some(due) if due > now => origin.minus(self.ask_after.until(now)),
            Some(_) | None => Mono::default(),
        };
        let me = self.saved.me.clone();
        // Whoever was asked a whole lease ago adds nothing to one; this node's own is a bound.
        let matters = |voter: &Voter<N>, at: &Mono| *voter == me || at.plus(duration) > now;
        match &mut self.part {
            Part::Following | Part::Stopping(_) => {}
            Part::Sounding(sounding) => sounding.give_up = later(sounding.give_up),
            Part::Asking(attempt) => {
                attempt.give_up = later(attempt.give_up);
                attempt.acknowledged.retain(|voter, at| matters(voter, at));
                attempt
                    .acknowledged
                    .values_mut()
                    .for_each(|at| *at = earlier(*at));
            }
            Part::Holding(lease) => {
                lease.until = later(lease.until);
                lease.renew_at = later(lease.renew_at);
                lease.remembered_at = earlier(lease.remembered_at);
                // Only told, never decided by.
                lease.since = Mono::default();
                lease.acknowledged.retain(|voter, at| matters(voter, at));
                lease
                    .acknowledged
                    .values_mut()
                    .for_each(|at| *at = earlier(*at));
                lease.ready_at.retain(|_, at| at.plus(READY_WITHIN) >= now);
                lease
                    .ready_at
                    .values_mut()
                    .for_each(|at| *at = origin.minus(at.until(now)));
            }
        }
    }
}
