//! Time as this crate knows it, and the lengths a lease is made of.
//!
//! Wall time does not occur: what safety rests on is one machine's steady clock, suspend included.

use core::fmt;

use serde::{Deserialize, Serialize};

/// An instant of one machine's steady clock, suspend included, in milliseconds. Instants of
/// different machines are never compared.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Mono(pub u64);

/// A length of time in milliseconds.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Ms(pub u64);

impl Mono {
    /// That much later; the end of time at the latest.
    #[must_use]
    pub const fn plus(self, length: Ms) -> Self {
        Self(self.0.saturating_add(length.0))
    }

    /// That much earlier; the beginning at the earliest.
    #[must_use]
    pub const fn minus(self, length: Ms) -> Self {
        Self(self.0.saturating_sub(length.0))
    }

    /// How long until `later`; nothing where it has passed (R1: compare, then subtract).
    #[must_use]
    pub const fn until(self, later: Self) -> Ms {
        Ms(later.0.saturating_sub(self.0))
    }
}

impl fmt::Display for Ms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

/// The lengths of a site's lease; their relations hold by construction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timing {
    duration: Ms,
    renew: Ms,
    stop_before: Ms,
    promise: Ms,
}

/// Why lengths make no lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimingError {
    /// Work would have to stop before two renewals were missed.
    TooFewRenewals {
        /// Until work stops.
        work: Ms,
        /// Between two renewals.
        renew: Ms,
    },
    /// More drift than any clock in order has.
    Drift {
        /// Percent.
        percent: u64,
    },
}

impl fmt::Display for TimingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFewRenewals { work, renew } => write!(
                f,
                "work stops after {work}, before a third renewal at {renew} each: lengthen `duration` or shorten `renew`"
            ),
            Self::Drift { percent } => write!(
                f,
                "a drift of {percent}% is no clock in order: at most {DRIFT_MAX}%"
            ),
        }
    }
}

impl core::error::Error for TimingError {}

const DRIFT_MAX: u64 = 10;
/// What a promise lasts beyond the lease for late packets and slow schedulers (H15).
const PROMISE_MARGIN: u64 = 400;

impl Timing {
    /// Lengths as declared. The promise follows (H15): duration x (1+d)/(1-d) + 400 ms, rounded up
    /// to 100 ms; 3 s and 1 % make 3.5 s.
    ///
    /// # Errors
    /// [`TimingError`].
    pub fn new(
        duration: Ms,
        renew: Ms,
        stop_before: Ms,
        drift_percent: u64,
    ) -> Result<Self, TimingError> {
        if drift_percent > DRIFT_MAX {
            return Err(TimingError::Drift {
                percent: drift_percent,
            });
        }
        let work = Ms(duration.0.saturating_sub(stop_before.0));
        if renew.0 == 0 || work.0 <= renew.0.saturating_mul(2) {
            return Err(TimingError::TooFewRenewals { work, renew });
        }
        let drifted = duration
            .0
            .saturating_mul(100 + drift_percent)
            .div_ceil(100 - drift_percent);
        let promise = drifted.saturating_add(PROMISE_MARGIN).div_ceil(100) * 100;
        Ok(Self {
            duration,
            renew,
            stop_before,
            promise: Ms(promise),
        })
    }

    /// Lengths as given, for models, whose tick is no millisecond and whose wrong variants must fail.
    #[must_use]
    pub const fn unchecked(duration: Ms, renew: Ms, stop_before: Ms, promise: Ms) -> Self {
        Self {
            duration,
            renew,
            stop_before,
            promise,
        }
    }

    /// How long a lease lasts, from when its holder sent.
    #[must_use]
    pub const fn duration(&self) -> Ms {
        self.duration
    }

    /// Between two renewals.
    #[must_use]
    pub const fn renew(&self) -> Ms {
        self.renew
    }

    /// Work stops this much before the lease ends.
    #[must_use]
    pub const fn stop_before(&self) -> Ms {
        self.stop_before
    }

    /// How long a voter's promise lasts, from when it received.
    #[must_use]
    pub const fn promise(&self) -> Ms {
        self.promise
    }
}
