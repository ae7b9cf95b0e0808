//! The rules of when work may be done, without tasks or sockets: orders and clock readings go in.
//!
//! I1b: no unit of work starts at or after the deadline. H5: a claim rests on a proof sent after the
//! store connection was opened. H6: a jump of realtime against boottime ends work until a newer proof.
//! Whether the store agrees is the token's matter, not this one's.

use crate::clock::Reading;
use crate::control::{Order, Stop, Work};

/// Larger steps of realtime against boottime are a pause or a move of the machine (H6).
const JUMP_MS: i128 = 1_000;

/// Why no work may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Idle {
    /// Nobody ordered any, or it was stopped.
    NoOrder,
    /// The deadline has passed.
    RanOut,
    /// The proof is older than the last jump.
    Jumped,
    /// The proof is older than the store connection.
    OldProof,
    /// The store knows this higher term, or another holder of the same.
    Outranked(u64),
}

impl Idle {
    pub(super) fn reason(self) -> String {
        match self {
            Self::NoOrder => "there is no order to work".to_owned(),
            Self::RanOut => "the deadline has passed".to_owned(),
            Self::Jumped => "the clock jumped: waiting for a newer proof of the lease".to_owned(),
            Self::OldProof => {
                "waiting for a proof of the lease newer than the store connection".to_owned()
            }
            Self::Outranked(term) => format!("the store knows term {term}"),
        }
    }
}

/// What was ordered, and what time says about it.
#[derive(Debug, Default)]
pub(super) struct Lease {
    order: Option<Work>,
    /// No work at this term or below.
    stopped: Option<u64>,
    outranked: Option<u64>,
    /// Proofs must be newer than this.
    floor: Option<u64>,
    /// Realtime less boottime, when last looked.
    offset: Option<i128>,
}

impl Lease {
    /// Takes an order. An older term, or one that was stopped, changes nothing.
    pub(super) fn obey(&mut self, order: Order, now: Reading) {
        self.look(now);
        match order {
            Order::Stop(Stop { term }) => {
                self.stopped = self.stopped.max(Some(term));
                if self.order.is_some_and(|order| order.term <= term) {
                    self.order = None;
                }
            }
            Order::Work(work) if self.stopped.is_some_and(|term| work.term <= term) => {}
            Order::Work(work) => match &mut self.order {
                Some(last) if work.term < last.term => {}
                // A deadline that was given is never taken back, and answers may come late.
                Some(last) if work.term == last.term => {
                    last.proved = last.proved.max(work.proved);
                    last.until = last.until.max(work.until);
                }
                _ => self.order = Some(work),
            },
        }
    }

    /// The highest term that was stopped.
    pub(super) const fn stopped(&self) -> Option<u64> {
        self.stopped
    }

    /// The store refused the token of `ours` for this term.
    pub(super) fn outrank(&mut self, ours: u64, theirs: u64) {
        self.outranked = self.outranked.max(Some(theirs.max(ours)));
    }

    /// The store took the token of `term`.
    pub(super) fn accepted(&mut self, term: u64) {
        if self.outranked.is_some_and(|theirs| theirs < term) {
            self.outranked = None;
        }
    }

    pub(super) const fn outranked(&self) -> Option<u64> {
        self.outranked
    }

    pub(super) const fn order(&self) -> Option<Work> {
        self.order
    }

    /// The term under which a unit of work may start now.
    pub(super) fn permit(&mut self, now: Reading) -> Result<u64, Idle> {
        self.look(now);
        let order = self.order.ok_or(Idle::NoOrder)?;
        if let Some(theirs) = self.outranked.filter(|theirs| order.term <= *theirs) {
            return Err(Idle::Outranked(theirs));
        }
        if self.floor.is_some_and(|floor| order.proved <= floor) {
            return Err(Idle::Jumped);
        }
        if now.boot >= order.until {
            return Err(Idle::RanOut);
        }
        Ok(order.term)
    }

    /// The term to claim over a connection opened at `opened`.
    pub(super) fn claim(&mut self, now: Reading, opened: u64) -> Result<u64, Idle> {
        let term = self.permit(now)?;
        match self.order {
            Some(order) if order.proved > opened => Ok(term),
            _ => Err(Idle::OldProof),
        }
    }

    /// Each look compares with the last one, so that slow corrections of the clock are no jump.
    fn look(&mut self, now: Reading) {
        let offset = i128::from(now.real) - i128::from(now.boot);
        let last = self.offset.replace(offset).unwrap_or(offset);
        if (offset - last).abs() > JUMP_MS {
            self.floor = self.floor.max(Some(now.boot));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(boot: u64) -> Reading {
        Reading {
            boot,
            real: boot + 1_000_000,
        }
    }

    const fn work(term: u64, proved: u64, until: u64) -> Order {
        Order::Work(Work {
            term,
            proved,
            until,
        })
    }

    #[test]
    fn no_unit_of_work_starts_at_or_after_the_deadline() {
        let mut lease = Lease::default();
        assert_eq!(lease.permit(at(0)), Err(Idle::NoOrder));
        lease.obey(work(7, 10, 100), at(20));
        assert_eq!(lease.permit(at(99)), Ok(7));
        assert_eq!(lease.permit(at(100)), Err(Idle::RanOut), "I1b");
        lease.obey(work(7, 90, 200), at(101));
        assert_eq!(lease.permit(at(199)), Ok(7));
        // Late and out of order: nothing is taken back, nothing resumed.
        lease.obey(work(7, 10, 100), at(150));
        lease.obey(work(6, 140, 900), at(150));
        assert_eq!(lease.permit(at(199)), Ok(7));
        assert_eq!(lease.permit(at(200)), Err(Idle::RanOut));
    }

    #[test]
    fn a_stop_is_final_for_its_term() {
        let mut lease = Lease::default();
        lease.obey(work(7, 10, 100), at(20));
        lease.obey(Order::Stop(Stop { term: 6 }), at(21));
        assert_eq!(lease.permit(at(22)), Ok(7));
        lease.obey(Order::Stop(Stop { term: 7 }), at(23));
        lease.obey(work(7, 24, 200), at(25));
        assert_eq!(lease.permit(at(26)), Err(Idle::NoOrder), "R13");
        lease.obey(work(8, 27, 200), at(28));
        assert_eq!(lease.permit(at(29)), Ok(8));
    }

    #[test]
    fn a_claim_rests_on_a_proof_sent_after_the_connection_was_opened() {
        let mut lease = Lease::default();
        lease.obey(work(7, 50, 500), at(60));
        assert_eq!(lease.claim(at(61), 49), Ok(7));
        for opened in [50, 55] {
            assert_eq!(lease.claim(at(61), opened), Err(Idle::OldProof), "H5");
        }
        // Received later, sent before: still too old.
        lease.obey(work(7, 55, 600), at(90));
        assert_eq!(lease.claim(at(91), 55), Err(Idle::OldProof), "H5");
        lease.obey(work(7, 56, 600), at(92));
        assert_eq!(lease.claim(at(93), 55), Ok(7));
    }

    #[test]
    fn h6_a_jump_of_the_clock_ends_work_until_a_newer_proof() {
        let mut lease = Lease::default();
        lease.obey(work(7, 10, 5_000), at(20));
        let jumped = |boot| Reading {
            boot,
            real: boot + 1_002_000,
        };
        assert_eq!(lease.permit(at(30)), Ok(7));
        assert_eq!(lease.permit(jumped(40)), Err(Idle::Jumped), "H6");
        // What lay in the socket during the pause was sent before it.
        lease.obey(work(7, 39, 6_000), jumped(45));
        assert_eq!(lease.permit(jumped(46)), Err(Idle::Jumped), "H6");
        lease.obey(work(7, 47, 6_000), jumped(48));
        assert_eq!(lease.permit(jumped(49)), Ok(7));
        // Backwards is one, too; a second of slow correction is none.
        assert_eq!(lease.permit(at(60)), Err(Idle::Jumped));
        lease.obey(work(7, 61, 90_000), at(62));
        for step in 0..50 {
            let slow = Reading {
                boot: 100 + step * 100,
                real: 1_000_100 + step * 150,
            };
            assert_eq!(lease.permit(slow), Ok(7), "step {step}");
        }
    }

    #[test]
    fn a_term_that_the_store_refused_works_no_more() {
        let mut lease = Lease::default();
        lease.obey(work(7, 10, 500), at(20));
        lease.outrank(7, 57);
        assert_eq!(lease.permit(at(21)), Err(Idle::Outranked(57)));
        lease.obey(work(57, 22, 500), at(23));
        assert_eq!(lease.permit(at(24)), Err(Idle::Outranked(57)));
        lease.obey(work(58, 25, 500), at(26));
        assert_eq!(lease.permit(at(27)), Ok(58));
        lease.accepted(58);
        assert_eq!(lease.outranked(), None);
    }
}
