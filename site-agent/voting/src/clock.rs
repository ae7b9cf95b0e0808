//! The two clocks, asked in one place: boot time, on which deadlines rest, and wall time, which is
//! shown and logged and decides nothing (H20).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use site_lease::Mono;
use stead_schemas::time::WallMs;

/// Now, by the steady clock that goes on in suspend (`CLOCK_BOOTTIME`).
#[must_use]
pub fn boot_now() -> Mono {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or_default();
    Mono(seconds * 1_000 + nanoseconds / 1_000_000)
}

/// Now, by the wall clock.
#[must_use]
pub fn wall_now() -> WallMs {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    WallMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Waits until then; a suspended machine wakes late, and whoever waits looks at the clock again.
pub async fn sleep_until(then: Mono) {
    let left = boot_now().until(then);
    tokio::time::sleep(Duration::from_millis(left.0)).await;
}
