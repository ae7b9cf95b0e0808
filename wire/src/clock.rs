//! The wall clock, asked in one place for every program. It is shown, logged, and held against the dates
//! of certificates; no lease and no command rests on it (H20).

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
