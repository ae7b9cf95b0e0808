//! How the source is, and when to look again: what one fetch after another adds up to.
//!
//! Pure: outcome, instant and a random number come in. The head is never taken back: whatever
//! happens to the remote, what is known stays known.

use stead_schemas::time::{DurationMs, WallMs};

use super::commit::CommitInfo;
use super::fetch::{FetchCause, FetchError};

const FIRST_RETRY_MS: u64 = 1_000;
const LAST_RETRY_MS: u64 = 60_000;

/// The source as seen from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceState {
    /// The newest commit seen, also by an earlier process; none before the first.
    pub head: Option<CommitInfo>,
    /// When the remote last answered this process.
    pub fetched_at: Option<WallMs>,
    /// How many looks succeeded and failed since the start.
    pub looks: Looks,
    /// How it is.
    pub condition: Condition,
}

/// Counts for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Looks {
    /// The remote answered.
    pub good: u64,
    /// It did not, or not with what is followed.
    pub failed: u64,
}

/// How the source is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// The remote was not asked yet.
    Starting,
    /// The head is what the remote has.
    InStep,
    /// So it is, but the head does not descend from the head before it: a force-push, or a tag
    /// that was moved. Stays until an ordinary commit comes.
    HistoryRewritten {
        /// The head before.
        old: CommitInfo,
        /// The head now.
        new: CommitInfo,
    },
    /// The remote has no such branch or tag; the head stays.
    BranchGone(Trouble),
    /// The remote has no such repository; the head stays.
    RepositoryGone(Trouble),
    /// The remote cannot be asked; the head stays.
    Failing(Trouble),
}

/// A fetch that keeps failing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// When the first of these failures was.
    pub since: WallMs,
    /// The latest.
    pub error: FetchError,
    /// When it is tried again, unless something wakes the source earlier.
    pub next_try: WallMs,
}

impl Condition {
    /// What is wrong, in words; none while nothing is.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        match self {
            Self::Starting | Self::InStep => None,
            Self::HistoryRewritten { old, new } => Some(format!(
                "history was rewritten: {} does not descend from {}",
                new.short_id(),
                old.short_id()
            )),
            Self::BranchGone(trouble) | Self::RepositoryGone(trouble) | Self::Failing(trouble) => {
                Some(trouble.error.to_string())
            }
        }
    }

    /// What to do about it; none while nothing is wrong.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Starting | Self::InStep => None,
            Self::HistoryRewritten { .. } => {
                Some("if nobody meant to, push the old commit again; it is still in the mirror")
            }
            Self::BranchGone(trouble) | Self::RepositoryGone(trouble) | Self::Failing(trouble) => {
                Some(trouble.error.cause.hint())
            }
        }
    }

    const fn trouble(&self) -> Option<&Trouble> {
        match self {
            Self::Starting | Self::InStep | Self::HistoryRewritten { .. } => None,
            Self::BranchGone(t) | Self::RepositoryGone(t) | Self::Failing(t) => Some(t),
        }
    }
}

/// What a fetch brought.
pub(super) struct Brought {
    pub(super) head: CommitInfo,
    /// The head before, where the new one does not descend from it.
    pub(super) rewrote: Option<CommitInfo>,
}

/// Keeps [`SourceState`] from outcome to outcome.
pub(super) struct Tracker {
    state: SourceState,
    rewrite: Option<(CommitInfo, CommitInfo)>,
    failures: u32,
    poll: DurationMs,
}

impl Tracker {
    pub(super) fn new(head: Option<CommitInfo>, poll: DurationMs) -> Self {
        Self {
            state: SourceState {
                head,
                fetched_at: None,
                looks: Looks::default(),
                condition: Condition::Starting,
            },
            rewrite: None,
            failures: 0,
            poll,
        }
    }

    pub(super) const fn state(&self) -> &SourceState {
        &self.state
    }

    /// Takes in one outcome at `now`; says how long to wait for the next look.
    pub(super) fn record(
        &mut self,
        outcome: Result<Brought, FetchError>,
        now: WallMs,
        random: u32,
    ) -> DurationMs {
        match outcome {
            Ok(brought) => {
                self.succeeded(brought, now);
                jittered(self.poll.0, random)
            }
            Err(error) => self.failed(error, now, random),
        }
    }

    fn succeeded(&mut self, brought: Brought, now: WallMs) {
        self.failures = 0;
        self.state.looks.good += 1;
        self.state.fetched_at = Some(now);
        let is_new = self.state.head.as_ref().map(|h| h.id) != Some(brought.head.id);
        if let Some(old) = brought.rewrote {
            self.rewrite = Some((old, brought.head.clone()));
        } else if is_new {
            self.rewrite = None;
        }
        self.state.head = Some(brought.head);
        self.state.condition = match &self.rewrite {
            None => Condition::InStep,
            Some((old, new)) => Condition::HistoryRewritten {
                old: old.clone(),
                new: new.clone(),
            },
        };
    }

    fn failed(&mut self, error: FetchError, now: WallMs, random: u32) -> DurationMs {
        let doubled = FIRST_RETRY_MS << self.failures.min(6);
        let wait = jittered(doubled.min(LAST_RETRY_MS), random);
        self.failures = self.failures.saturating_add(1);
        self.state.looks.failed += 1;
        let trouble = Trouble {
            since: self.state.condition.trouble().map_or(now, |t| t.since),
            next_try: now.plus(wait),
            error,
        };
        self.state.condition = match trouble.error.cause {
            FetchCause::BranchGone => Condition::BranchGone(trouble),
            FetchCause::RepositoryGone => Condition::RepositoryGone(trouble),
            _ => Condition::Failing(trouble),
        };
        wait
    }
}

/// A tenth less to a tenth more, so that many reconcilers don't ask one server together.
fn jittered(ms: u64, random: u32) -> DurationMs {
    let tenth = ms / 10;
    DurationMs(ms - tenth + u64::from(random) % (2 * tenth + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(digit: u8) -> CommitInfo {
        CommitInfo {
            id: git2::Oid::from_str(&format!("{digit:x}").repeat(40)).unwrap(),
            author: "A".into(),
            when: WallMs(0),
            subject: String::new(),
        }
    }

    fn brought(digit: u8, rewrote: Option<u8>) -> Result<Brought, FetchError> {
        Ok(Brought {
            head: commit(digit),
            rewrote: rewrote.map(commit),
        })
    }

    fn failed(cause: FetchCause) -> Result<Brought, FetchError> {
        Err(FetchError {
            from: "/t".into(),
            cause,
            detail: String::new(),
        })
    }

    #[test]
    fn back_off_doubles_to_a_minute_and_starts_over_after_a_success() {
        let mut tracker = Tracker::new(None, DurationMs::seconds(3_600));
        let fail = |tracker: &mut Tracker| {
            // 0.1 of the wait, so that jitter adds nothing.
            let wait = tracker.record(failed(FetchCause::Unreachable), WallMs(5), 0);
            wait.0 * 10 / 9
        };
        let waits: Vec<u64> = (0..8).map(|_| fail(&mut tracker)).collect();
        assert_eq!(
            waits,
            [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]
        );
        let wait = tracker.record(brought(1, None), WallMs(6), 360_000);
        assert_eq!(wait, DurationMs::seconds(3_600));
        assert_eq!(fail(&mut tracker), 1_000);
    }

    #[test]
    fn jitter_stays_within_a_tenth() {
        for random in [0, 1, 7, 12_345, u32::MAX] {
            let wait = jittered(60_000, random).0;
            assert!((54_000..=66_000).contains(&wait), "{wait}");
        }
        assert_eq!(jittered(5, 9).0, 5);
    }

    #[test]
    fn no_failure_takes_the_head_back_and_the_first_one_dates_the_trouble() {
        let mut tracker = Tracker::new(Some(commit(1)), DurationMs::seconds(60));
        assert_eq!(tracker.state().condition, Condition::Starting);
        for (at, cause) in [(1, FetchCause::Timeout), (2, FetchCause::BranchGone)] {
            tracker.record(failed(cause), WallMs(at), 0);
            assert_eq!(tracker.state().head, Some(commit(1)));
        }
        let Condition::BranchGone(trouble) = &tracker.state().condition else {
            panic!("{:?}", tracker.state().condition);
        };
        assert_eq!(trouble.since, WallMs(1));
        assert!(tracker.state().condition.hint().is_some());
        tracker.record(failed(FetchCause::RepositoryGone), WallMs(3), 0);
        assert!(matches!(
            tracker.state().condition,
            Condition::RepositoryGone(_)
        ));
        assert_eq!(tracker.state().fetched_at, None);
    }

    #[test]
    fn a_rewritten_history_is_said_until_an_ordinary_commit_comes() {
        let mut tracker = Tracker::new(Some(commit(1)), DurationMs::seconds(60));
        let mut after = |outcome| {
            tracker.record(outcome, WallMs(1), 0);
            tracker.state().condition.clone()
        };
        let rewritten = Condition::HistoryRewritten {
            old: commit(1),
            new: commit(2),
        };
        assert_eq!(after(brought(2, Some(1))), rewritten);
        assert_eq!(after(brought(2, None)), rewritten);
        assert!(matches!(
            after(failed(FetchCause::Timeout)),
            Condition::Failing(_)
        ));
        assert_eq!(after(brought(2, None)), rewritten);
        assert_eq!(after(brought(3, None)), Condition::InStep);
    }
}
