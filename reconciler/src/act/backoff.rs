//! How long to wait before trying again: doubled to a bound, with jitter.
//!
//! Pure: the random number comes in. One for each target, so that a failing one delays no other.

use std::collections::BTreeMap;
use std::time::Duration;

use stead_schemas::time::{DurationMs, WallMs};

/// First and longest wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// After the first failure.
    pub first: Duration,
    /// However many failures there were.
    pub longest: Duration,
}

impl Bounds {
    /// The wait after so many failures in a row (from 1), within a quarter of the doubled bound.
    #[must_use]
    pub fn wait(self, failures: u32, random: u32) -> Duration {
        let doubled = self
            .first
            .saturating_mul(1 << failures.saturating_sub(1).min(16));
        let whole = u64::try_from(doubled.min(self.longest).as_millis()).unwrap_or(u64::MAX);
        let quarter = whole / 4;
        let jitter = u64::from(random) % (quarter + 1);
        Duration::from_millis(whole - quarter + jitter)
    }
}

/// Targets that failed, and when each may be tried again.
#[derive(Debug, Clone)]
pub struct Retries<K> {
    bounds: Bounds,
    failed: BTreeMap<K, Failure>,
}

#[derive(Debug, Clone)]
struct Failure {
    count: u32,
    next: WallMs,
    text: String,
}

impl<K: Ord + Clone> Retries<K> {
    /// Nothing failed yet.
    #[must_use]
    pub const fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            failed: BTreeMap::new(),
        }
    }

    /// Whether the target may be tried now.
    #[must_use]
    pub fn may(&self, target: &K, now: WallMs) -> bool {
        self.failed.get(target).is_none_or(|f| now >= f.next)
    }

    /// It worked.
    pub fn succeeded(&mut self, target: &K) {
        self.failed.remove(target);
    }

    /// It did not; true where this is news: the first failure, or another one than before.
    pub fn failed(&mut self, target: &K, text: &str, now: WallMs, random: u32) -> bool {
        let failure = self.failed.entry(target.clone()).or_insert(Failure {
            count: 0,
            next: now,
            text: String::new(),
        });
        let news = failure.text != text;
        text.clone_into(&mut failure.text);
        failure.count = failure.count.saturating_add(1);
        let wait = self.bounds.wait(failure.count, random);
        failure.next = now.plus(DurationMs(
            u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
        ));
        news
    }

    /// Forgets targets that nobody wants any more.
    pub fn retain(&mut self, wanted: impl Fn(&K) -> bool) {
        self.failed.retain(|target, _| wanted(target));
    }

    /// When the next failed target may be tried.
    #[must_use]
    pub fn next(&self, now: WallMs) -> Option<WallMs> {
        self.failed
            .values()
            .map(|f| f.next)
            .filter(|at| *at > now)
            .min()
    }

    /// The last failure, in words.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.failed.values().map(|f| f.text.as_str()).next()
    }
}

/// A random number for jitter; nothing rests on its quality.
#[must_use]
pub fn random() -> u32 {
    use ring::rand::SecureRandom as _;
    let mut bytes = [0_u8; 4];
    // Without randomness there is no jitter, which is no reason to stop.
    match ring::rand::SystemRandom::new().fill(&mut bytes) {
        Ok(()) => u32::from_le_bytes(bytes),
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        first: Duration::from_millis(100),
        longest: Duration::from_secs(5),
    };

    #[test]
    fn waits_double_to_the_bound_whatever_the_jitter() {
        for (failures, least, most) in [
            (1, 75, 100),
            (2, 150, 200),
            (6, 2_400, 3_200),
            (7, 3_750, 5_000),
            (99, 3_750, 5_000),
        ] {
            for random in [0, 1, 24, u32::MAX] {
                let wait = BOUNDS.wait(failures, random).as_millis();
                assert!((least..=most).contains(&wait), "{failures}: {wait}");
            }
        }
    }

    #[test]
    fn a_target_waits_alone_and_the_same_failure_is_news_once() {
        let mut retries = Retries::new(BOUNDS);
        assert!(retries.failed(&"a", "refused", WallMs(0), 0));
        assert!(!retries.failed(&"a", "refused", WallMs(0), 0));
        assert!(retries.failed(&"a", "timeout", WallMs(0), 0));
        assert!(!retries.may(&"a", WallMs(10)));
        assert!(retries.may(&"b", WallMs(10)));
        assert_eq!(retries.next(WallMs(10)), Some(WallMs(300)));
        assert!(retries.may(&"a", WallMs(300)));
        retries.succeeded(&"a");
        assert!(retries.may(&"a", WallMs(0)));
    }
}
