//! Which term the guard allows, and until when. Pure: the time is an argument.
//!
//! Terms that are over stay over, deadlines only rise (H1). What happens when one passes is
//! `attend`'s business.

use std::sync::Arc;

use super::message::{Allow, Release};

/// A deadline further ahead is a mistake of units, not a lease.
const FAR: u64 = 60 * 60 * 1_000;

/// What is armed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Allowed {
    pub(super) term: u64,
    pub(super) until: u64,
    pub(super) release: Arc<Release>,
}

/// The guard's memory; lost with its process (R13).
#[derive(Debug, Clone, Default)]
pub(super) struct Charge {
    /// The highest term that is over: this one and all below are refused.
    over: u64,
    allowed: Option<Allowed>,
}

impl Charge {
    pub(super) const fn allowed(&self) -> Option<&Allowed> {
        self.allowed.as_ref()
    }

    pub(super) fn highest(&self) -> u64 {
        let allowed = self.allowed.as_ref().map_or(0, |one| one.term);
        self.over.max(allowed)
    }

    /// Whether a deadline has passed.
    pub(super) fn due(&self, now: u64) -> bool {
        self.allowed.as_ref().is_some_and(|one| now >= one.until)
    }

    /// Notes a deadline; the one in force from now on.
    pub(super) fn allow(&mut self, now: u64, asked: Allow) -> Result<u64, String> {
        if let Some(flaw) = asked.release.flaw() {
            return Err(flaw.to_owned());
        }
        if asked.term <= self.over {
            return Err(format!(
                "term {} is over; the highest that is over is {}",
                asked.term, self.over
            ));
        }
        if asked.until <= now {
            return Err("the deadline has passed already".to_owned());
        }
        if asked.until - now > FAR {
            return Err("the deadline is more than an hour ahead".to_owned());
        }
        let before = match &self.allowed {
            Some(one) if one.term != asked.term => {
                return Err(format!("term {} has not ended yet", one.term));
            }
            Some(one) => one.until,
            None => 0,
        };
        let until = asked.until.max(before);
        self.allowed = Some(Allowed {
            term: asked.term,
            until,
            release: Arc::new(asked.release),
        });
        Ok(until)
    }

    /// Notes that a term is over; true when nothing is armed any more. The end of a later term than
    /// the one that is armed proves nothing about that one.
    pub(super) fn end(&mut self, term: u64) -> Result<bool, String> {
        match &self.allowed {
            Some(one) if one.term < term => {
                return Err(format!("term {} has not ended yet", one.term));
            }
            Some(one) if one.term == term => self.allowed = None,
            Some(_) | None => {}
        }
        self.over = self.over.max(term);
        Ok(self.allowed.is_none())
    }

    /// Takes what is armed in order to kill it; its term is over.
    pub(super) fn trip(&mut self) -> Option<Allowed> {
        let allowed = self.allowed.take()?;
        self.over = self.over.max(allowed.term);
        Some(allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allow(term: u64, until: u64) -> Allow {
        Allow {
            term,
            until,
            release: Release {
                path: "/v1/lease".to_owned(),
                peers: Vec::new(),
            },
        }
    }

    #[test]
    fn deadlines_only_rise_within_a_term() {
        let mut charge = Charge::default();
        assert_eq!(charge.allow(0, allow(7, 100)), Ok(100));
        assert_eq!(charge.allow(1, allow(7, 50)), Ok(100));
        assert_eq!(charge.allow(2, allow(7, 150)), Ok(150));
        assert!(!charge.due(149) && charge.due(150));
    }

    #[test]
    fn h1_a_term_that_is_over_is_never_allowed_again() {
        let mut charge = Charge::default();
        charge.allow(0, allow(7, 100)).unwrap();
        assert_eq!(charge.end(7), Ok(true));
        assert!(charge.allow(1, allow(7, 200)).is_err());
        assert!(charge.allow(1, allow(6, 200)).is_err());
        charge.allow(1, allow(8, 200)).unwrap();
        assert_eq!(charge.trip().unwrap().term, 8);
        assert!(charge.allow(2, allow(8, 300)).is_err());
        assert_eq!((charge.highest(), charge.trip()), (8, None));
    }

    #[test]
    fn the_next_term_waits_for_the_end_of_the_one_before() {
        let mut charge = Charge::default();
        charge.allow(0, allow(7, 100)).unwrap();
        assert!(charge.allow(1, allow(8, 200)).is_err());
        assert!(charge.allow(1, allow(6, 200)).is_err());
        assert_eq!(charge.end(6), Ok(false), "7 is still armed");
        assert!(charge.end(8).is_err(), "8 was never allowed, 7 may work");
        assert!(charge.due(100));
        assert_eq!(charge.end(7), Ok(true));
        assert!(charge.allow(1, allow(8, 200)).is_ok());
    }

    #[test]
    fn deadlines_that_make_no_sense_are_refused() {
        let mut charge = Charge::default();
        assert!(charge.allow(100, allow(1, 100)).is_err());
        assert!(charge.allow(0, allow(1, FAR + 1)).is_err());
        assert!(charge.allow(0, allow(0, 10)).is_err(), "there is no term 0");
        assert!(charge.allowed().is_none());
    }
}
