//! Boot time, on which deadlines rest, asked in one place. Wall time, which decides nothing, is
//! `stead_wire::clock`'s.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use site_lease::Mono;

/// Now, by the steady clock that goes on in suspend (`CLOCK_BOOTTIME`).
#[must_use]
pub fn boot_now() -> Mono {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or_default();
    Mono(seconds * 1_000 + nanoseconds / 1_000_000)
}

/// Waits until then; a suspended machine wakes late, and whoever waits looks at the clock again.
pub async fn sleep_until(then: Mono) {
    let left = boot_now().until(then);
    tokio::time::sleep(Duration::from_millis(left.0)).await;
}
