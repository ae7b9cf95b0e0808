//! The two clocks of the daemon.
//!
//! Planning and silences use a steady clock, anchored to wall time once: a jump of the wall clock
//! makes nobody silent and ends no drain. The journal and what people set an end to use wall time
//! (`stead_wire::clock`).

use stead_schemas::time::WallMs;
use stead_wire::clock::wall_now;
use tokio::time::Instant;

/// Steady time, written as wall time of the moment the daemon started plus what passed since.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    anchor: Instant,
    wall: WallMs,
}

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub fn start() -> Self {
        Self {
            anchor: Instant::now(),
            wall: wall_now(),
        }
    }

    /// Steady time now.
    #[must_use]
    pub fn now(&self) -> WallMs {
        self.at(Instant::now())
    }

    /// Steady time of an instant.
    #[must_use]
    pub fn at(&self, instant: Instant) -> WallMs {
        let passed = instant.saturating_duration_since(self.anchor).as_millis();
        WallMs(
            self.wall
                .0
                .saturating_add(u64::try_from(passed).unwrap_or(u64::MAX)),
        )
    }

    /// The instant of a steady time; now for one that is past.
    #[must_use]
    pub fn instant(&self, at: WallMs) -> Instant {
        Instant::now() + at.since(self.now()).std()
    }
}
