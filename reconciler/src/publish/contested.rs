//! Two writers fighting over a name: noticed by how often it has to be healed (design section 7).
//!
//! Pure. A heal is a write of what we had already written and seen served. After ten within an
//! hour the record is left alone until that hour has passed without one.

use std::collections::{BTreeMap, VecDeque};

use stead_schemas::record::RecordKey;
use stead_schemas::time::{DurationMs, WallMs};

/// So many heals within `WINDOW` are a fight.
pub const HEALS_MAX: usize = 10;
const WINDOW: DurationMs = DurationMs::seconds(3_600);

/// Heals of the last hour, by record.
#[derive(Debug, Clone, Default)]
pub struct Contests(BTreeMap<RecordKey, VecDeque<WallMs>>);

impl Contests {
    /// A record was healed.
    pub fn healed(&mut self, key: &RecordKey, now: WallMs) {
        let heals = self.0.entry(key.clone()).or_default();
        heals.push_back(now);
        while heals.len() > HEALS_MAX {
            heals.pop_front();
        }
    }

    /// Whether the record is to be left alone.
    #[must_use]
    pub fn is_contested(&self, key: &RecordKey, now: WallMs) -> bool {
        self.0.get(key).is_some_and(|heals| {
            // All ten within an hour of each other, and the last one less than an hour ago.
            let (Some(first), Some(last)) = (heals.front(), heals.back()) else {
                return false;
            };
            heals.len() >= HEALS_MAX && last.since(*first) <= WINDOW && now.since(*last) <= WINDOW
        })
    }

    /// How often it was healed within the last hour.
    #[must_use]
    pub fn heals(&self, key: &RecordKey, now: WallMs) -> usize {
        self.0.get(key).map_or(0, |heals| {
            heals.iter().filter(|at| now.since(**at) <= WINDOW).count()
        })
    }

    /// Forgets records that are no longer read.
    pub fn retain(&mut self, wanted: impl Fn(&RecordKey) -> bool) {
        self.0.retain(|key, _| wanted(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_heals_in_an_hour_are_a_fight_and_an_hour_of_peace_ends_it() {
        let key: RecordKey = "p01.cm.example/A".parse().unwrap();
        let mut contests = Contests::default();
        for n in 0..10_u64 {
            assert!(!contests.is_contested(&key, WallMs(n * 1_000)), "{n}");
            contests.healed(&key, WallMs(n * 1_000));
        }
        assert!(contests.is_contested(&key, WallMs(10_000)));
        assert!(contests.is_contested(&key, WallMs(3_600_000)));
        assert!(!contests.is_contested(&key, WallMs(3_609_001)));
    }

    #[test]
    fn a_heal_now_and_then_is_no_fight() {
        let key: RecordKey = "p01.cm.example/A".parse().unwrap();
        let mut contests = Contests::default();
        for n in 0..50_u64 {
            contests.healed(&key, WallMs(n * 600_000));
            assert!(!contests.is_contested(&key, WallMs(n * 600_000)), "{n}");
        }
    }
}
