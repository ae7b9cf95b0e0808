//! When an instance that ended is started again. Pure: time comes in as milliseconds of any
//! monotonic clock, chance as a number.

use std::collections::VecDeque;
use std::time::Duration;

/// This many ends ...
pub const LOOP_EXITS: usize = 5;
/// ... within this time are a crash loop.
pub const LOOP_WINDOW_MS: u64 = 60_000;
/// Healthy for this long, and all is forgotten.
pub const FORGET_MS: u64 = 60_000;
const FIRST_MS: u64 = 100;
const LAST_MS: u64 = 30_000;

/// What is remembered of an instance's ends.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    ends: VecDeque<u64>,
    streak: u32,
    looping: bool,
}

/// What to do after an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// Wait this long.
    pub wait: Duration,
    /// Whether it ends too often in too short a time.
    pub crash_loop: bool,
}

impl Backoff {
    /// The instance ended at `now_ms`, having been healthy for `healthy_ms` without a break.
    /// `chance` spreads restarts of many instances: up to a quarter of the wait is added.
    pub fn ended(&mut self, now_ms: u64, healthy_ms: u64, chance: u64) -> Pause {
        if healthy_ms >= FORGET_MS {
            *self = Self::default();
        }
        self.ends.push_back(now_ms);
        while self
            .ends
            .front()
            .is_some_and(|end| now_ms.saturating_sub(*end) > LOOP_WINDOW_MS)
        {
            self.ends.pop_front();
        }
        self.looping |= self.ends.len() >= LOOP_EXITS;
        let base = match (self.looping, self.streak) {
            (true, _) => LAST_MS,
            (false, 0) => 0,
            (false, streak) => (FIRST_MS << (streak - 1).min(16)).min(LAST_MS),
        };
        self.streak = self.streak.saturating_add(1);
        Pause {
            wait: Duration::from_millis(base + chance % (base / 4 + 1)),
            crash_loop: self.looping,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_is_at_once_and_the_next_double() {
        let mut backoff = Backoff::default();
        // Far apart, so that it is no crash loop.
        let waits: Vec<u128> = (0..11)
            .map(|n| backoff.ended(n * 100_000, 0, 0).wait.as_millis())
            .collect();
        assert_eq!(
            waits,
            [
                0, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000
            ]
        );
    }

    #[test]
    fn five_ends_in_a_minute_are_a_loop_until_a_healthy_minute() {
        let mut backoff = Backoff::default();
        for n in 0..4 {
            assert!(!backoff.ended(n * 1_000, 0, 0).crash_loop);
        }
        let fifth = backoff.ended(4_000, 0, 0);
        assert!(fifth.crash_loop && fifth.wait == Duration::from_secs(30));
        assert!(
            backoff.ended(200_000, 30_000, 0).crash_loop,
            "still tried, still said"
        );
        let after = backoff.ended(400_000, FORGET_MS, 0);
        assert_eq!((after.crash_loop, after.wait), (false, Duration::ZERO));
    }

    #[test]
    fn chance_adds_at_most_a_quarter() {
        for chance in [0, 1, 999, u64::MAX] {
            let mut backoff = Backoff::default();
            for _ in 0..5 {
                backoff.ended(0, 0, chance);
            }
            let wait = backoff.ended(0, 0, chance).wait;
            assert!(wait >= Duration::from_secs(30) && wait <= Duration::from_millis(37_500));
        }
    }
}
