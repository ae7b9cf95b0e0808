//! The two clocks of this machine that work is judged by, passed in so that tests can turn them.
//!
//! Deadlines are CLOCK_BOOTTIME, which counts through suspend; realtime serves one purpose, to
//! notice that the machine was paused or moved (H6). Monotonic timers only wake; they decide nothing.

use std::sync::{Arc, Mutex, PoisonError};

use rustix::time::{ClockId, clock_gettime};

/// Both clocks at one moment, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reading {
    /// CLOCK_BOOTTIME.
    pub boot: u64,
    /// CLOCK_REALTIME.
    pub real: u64,
}

/// Where readings come from.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    /// None: the machine's own.
    set: Option<Arc<Mutex<Reading>>>,
}

impl Clock {
    /// The machine's clocks.
    #[must_use]
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that shows what it is told, and otherwise stands still.
    #[must_use]
    pub fn standing(at: Reading) -> Self {
        Self {
            set: Some(Arc::new(Mutex::new(at))),
        }
    }

    /// Turns a standing clock; the machine's own is left alone.
    pub fn turn(&self, change: impl FnOnce(&mut Reading)) {
        if let Some(set) = &self.set {
            change(&mut set.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Now.
    #[must_use]
    pub fn read(&self) -> Reading {
        match &self.set {
            Some(set) => *set.lock().unwrap_or_else(PoisonError::into_inner),
            None => Reading {
                boot: milliseconds(ClockId::Boottime),
                real: milliseconds(ClockId::Realtime),
            },
        }
    }
}

fn milliseconds(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let rest = u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000;
    seconds.saturating_mul(1_000).saturating_add(rest)
}
