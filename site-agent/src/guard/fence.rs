//! One kill, from the first blow to the proof that nothing is left (R12, H10).
//!
//! The first blow was struck before there is a fence. It goes on, at a bounded rate, until the
//! agent is gone and then the workload; whether a release may follow is its answer.

use std::sync::Arc;

use super::message::Release;
use super::watched::Watched;
use super::workload::{Left, Workload};

/// What is not gone after this long is told of, and its release is never sent.
const BOUND_MS: u64 = 2_000;
/// How often it is tried, before and after that.
const PAUSE_MS: u64 = 5;
const STUBBORN_PAUSE_MS: u64 = 250;

/// A kill under way.
#[derive(Debug)]
pub(super) struct Fence {
    /// 0 for what a starting guard finds.
    pub(super) term: u64,
    release: Option<Arc<Release>>,
    agent: Option<Watched>,
    since: u64,
    next: u64,
    told: bool,
}

/// How it stands.
#[derive(Debug)]
pub(super) enum Step {
    /// Not yet.
    Wait,
    /// The time is up; it is tried on, and nothing will be released.
    Incomplete,
    /// Nothing is left.
    Over {
        /// The cgroup says so.
        proven: bool,
        /// To be sent now.
        release: Option<Arc<Release>>,
    },
}

impl Fence {
    pub(super) const fn new(
        term: u64,
        release: Option<Arc<Release>>,
        agent: Option<Watched>,
        now: u64,
    ) -> Self {
        Self {
            term,
            release,
            agent,
            since: now,
            next: now,
            told: false,
        }
    }

    /// Whether this process is being killed.
    pub(super) fn is_killing(&self, pid: rustix::process::Pid) -> bool {
        self.agent
            .as_ref()
            .is_some_and(|agent| agent.pid() == pid && !agent.gone())
    }

    /// How long until the next try.
    pub(super) const fn pause(&self, now: u64) -> u64 {
        self.next.saturating_sub(now)
    }

    /// Tries once more, if it is time.
    pub(super) fn step(&mut self, workload: &mut Workload, now: u64) -> Step {
        if now < self.next {
            return Step::Wait;
        }
        // In this order: an agent that lives could start the workload again after it was looked at.
        let gone = self.agent.as_ref().is_none_or(Watched::gone);
        if let (false, Some(agent)) = (gone, &self.agent) {
            agent.kill();
        }
        let left = workload.sweep();
        if gone && left != Left::Some {
            let proven = left == Left::None;
            let release = self.release.take().filter(|_| proven);
            return Step::Over { proven, release };
        }
        let late = now.saturating_sub(self.since) >= BOUND_MS;
        self.next = now + if late { STUBBORN_PAUSE_MS } else { PAUSE_MS };
        if late && !self.told {
            self.told = true;
            self.release = None;
            return Step::Incomplete;
        }
        Step::Wait
    }
}
