//! The wall clock, asked in one place. It is shown and logged; nothing rests on it (H20).

use std::time::{SystemTime, UNIX_EPOCH};

use stead_schemas::time::WallMs;

/// Now, by this machine's wall clock.
#[must_use]
pub fn wall_now() -> WallMs {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    WallMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
