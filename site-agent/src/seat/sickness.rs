//! Whether a holder's site server is sick enough to hand over: pure, from times and what is seen.
//!
//! An instance that exits is restarted in place once; the second exit within a minute, or one that
//! does not work again in time, is a reason (H26). So is a store that is gone for it and not for a
//! passive: both lose it when it restarts, and who finds it again first is chance. None of it is a reason
//! while no passive is ready (H11).

use std::collections::VecDeque;
use std::time::Duration;

/// How long after an exit it may take to work again.
const RESTART: Duration = Duration::from_millis(500);
/// Two exits in this time are one too many.
const EXITS_IN: Duration = Duration::from_secs(60);
/// How long it may say that it can't work while a passive says that it could.
const UNABLE: Duration = Duration::from_secs(2);

/// What a moment looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// A process of it is connected and says something.
    pub(super) connected: bool,
    /// It says that it works under the term held, and that the store answers.
    pub(super) works: bool,
    /// A passive says that it could work.
    pub(super) passive_ready: bool,
}

/// The signs so far, within one term. Times are from any one beginning.
#[derive(Debug, Default)]
pub(super) struct Signs {
    exits: VecDeque<Duration>,
    was_connected: bool,
    unable_since: Option<Duration>,
    /// Since when a passive could work, and it can't.
    outdone_since: Option<Duration>,
}

impl Signs {
    /// Why it should be handed over now.
    pub(super) fn reason(&mut self, seen: Seen, now: Duration) -> Option<&'static str> {
        if self.was_connected && !seen.connected {
            self.exits.push_back(now);
        }
        self.was_connected = seen.connected;
        while self.exits.front().is_some_and(|at| *at + EXITS_IN < now) {
            self.exits.pop_front();
        }
        if seen.works {
            self.unable_since = None;
        } else if self.unable_since.is_none() {
            self.unable_since = Some(now);
        }
        if seen.works || !seen.passive_ready {
            self.outdone_since = None;
        } else if self.outdone_since.is_none() {
            self.outdone_since = Some(now);
        }
        let unable = self.unable_since.map(|since| now.saturating_sub(since));
        let outdone = self.outdone_since.map(|since| now.saturating_sub(since));
        let exited = self.exits.back().map(|at| now.saturating_sub(*at));
        match (self.exits.len(), unable, exited) {
            (2.., _, _) => Some("it ended twice within a minute"),
            (1, Some(unable), Some(exited)) if unable >= RESTART && exited < UNABLE => {
                Some("it ended and did not work again in time")
            }
            _ if outdone.is_some_and(|outdone| outdone >= UNABLE) => {
                Some("it can't work, and a passive could")
            }
            _ => None,
        }
    }

    /// When to look again though nothing changes.
    pub(super) fn look_in(&self) -> Option<Duration> {
        self.unable_since.map(|_| RESTART / 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKS: Seen = Seen {
        connected: true,
        works: true,
        passive_ready: true,
    };
    const GONE: Seen = Seen {
        connected: false,
        works: false,
        passive_ready: true,
    };
    const UNWELL: Seen = Seen {
        connected: true,
        works: false,
        passive_ready: true,
    };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn h26_one_exit_is_restarted_in_place_and_the_second_in_a_minute_is_not() {
        let mut signs = Signs::default();
        assert_eq!(signs.reason(WORKS, ms(0)), None);
        assert_eq!(signs.reason(GONE, ms(10)), None);
        assert_eq!(signs.reason(WORKS, ms(120)), None);
        assert_eq!(signs.reason(WORKS, ms(50_000)), None);
        assert!(signs.reason(GONE, ms(59_000)).is_some());
    }

    #[test]
    fn h26_exits_more_than_a_minute_apart_are_no_reason() {
        let mut signs = Signs::default();
        for minute in 0..5 {
            let at = minute * 61_000;
            assert_eq!(signs.reason(WORKS, ms(at)), None);
            assert_eq!(signs.reason(GONE, ms(at + 10)), None);
            assert_eq!(signs.reason(WORKS, ms(at + 100)), None);
        }
    }

    #[test]
    fn h26_not_working_again_within_half_a_second_of_an_exit_is_a_reason() {
        let mut signs = Signs::default();
        assert_eq!(signs.reason(WORKS, ms(0)), None);
        assert_eq!(signs.reason(GONE, ms(10)), None);
        assert_eq!(signs.reason(UNWELL, ms(400)), None);
        assert!(signs.reason(UNWELL, ms(510)).is_some());
    }

    #[test]
    fn a_store_that_is_gone_is_a_reason_after_two_seconds() {
        let mut signs = Signs::default();
        assert_eq!(signs.reason(WORKS, ms(0)), None);
        assert_eq!(signs.reason(UNWELL, ms(100)), None);
        assert_eq!(signs.reason(UNWELL, ms(1_900)), None);
        assert_eq!(signs.reason(WORKS, ms(2_000)), None);
        assert_eq!(signs.reason(UNWELL, ms(2_500)), None);
        assert!(signs.reason(UNWELL, ms(4_500)).is_some());
    }

    #[test]
    fn h11_a_store_that_was_gone_for_everybody_is_no_reason_when_a_passive_finds_it_first() {
        let nobody_could = Seen {
            passive_ready: false,
            ..UNWELL
        };
        let mut signs = Signs::default();
        assert_eq!(signs.reason(WORKS, ms(0)), None);
        // It is killed: the passive has not noticed yet, then it has.
        assert_eq!(signs.reason(UNWELL, ms(100)), None);
        assert_eq!(signs.reason(nobody_could, ms(900)), None);
        assert_eq!(signs.reason(nobody_could, ms(9_000)), None);
        // It is back, and the passive is connected first.
        assert_eq!(signs.reason(UNWELL, ms(9_100)), None);
        assert_eq!(signs.reason(WORKS, ms(9_900)), None);
        // Gone for this server alone it is a reason all the same.
        assert_eq!(signs.reason(nobody_could, ms(20_000)), None);
        assert_eq!(signs.reason(UNWELL, ms(21_000)), None);
        assert!(signs.reason(UNWELL, ms(23_000)).is_some());
    }
}
