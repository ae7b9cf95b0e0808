//! Times as people read them: an age beside now, a time of day in the reader's own time zone.
//!
//! `now` is an argument, as everywhere; [`now`] is the one place where commands ask the clock.

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use stead_schemas::time::{DurationMs, WallMs};
pub use stead_wire::clock::wall_now as now;

/// A length of time in its two largest units: `12s`, `4m10s`, `3h5m`, `8d2h`.
#[must_use]
pub fn length(duration: DurationMs) -> String {
    let s = duration.0 / 1_000;
    let pair = |large: u64, unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large}{unit}"),
        small => format!("{large}{unit}{small}{small_unit}"),
    };
    match s {
        0 => format!("{}ms", duration.0),
        1..60 => format!("{s}s"),
        60..3_600 => pair(s / 60, "m", s % 60, "s"),
        3_600..86_400 => pair(s / 3_600, "h", s % 3_600 / 60, "m"),
        _ => pair(s / 86_400, "d", s % 86_400 / 3_600, "h"),
    }
}

/// How long ago: `4m10s ago`; `just now` below a second, a clock that is ahead included.
#[must_use]
pub fn ago(then: WallMs, now: WallMs) -> String {
    match now.since(then) {
        DurationMs(0..1_000) => "just now".to_owned(),
        duration => format!("{} ago", length(duration)),
    }
}

/// A time of day with its date where that is another day than now's: `14:02:11`,
/// `2026-11-22 14:02:11`.
#[must_use]
pub fn clock(then: WallMs, now: WallMs) -> String {
    clock_in(then, now, &TimeZone::system())
}

/// The same to the millisecond.
#[must_use]
pub fn clock_ms(then: WallMs, now: WallMs) -> String {
    format!("{}.{:03}", clock(then, now), then.0 % 1_000)
}

/// Until a moment, with the date where it is another day, to the minute.
#[must_use]
pub fn until(then: WallMs, now: WallMs) -> String {
    format!("until {}", minute(then, now))
}

/// At a moment, the same way.
#[must_use]
pub fn at(then: WallMs, now: WallMs) -> String {
    format!("at {}", minute(then, now))
}

fn minute(then: WallMs, now: WallMs) -> String {
    let zone = TimeZone::system();
    match (zoned(then, &zone), zoned(now, &zone)) {
        (Some(then), Some(now)) if then.date() == now.date() => then.strftime("%H:%M").to_string(),
        (Some(then), _) => then.strftime("%Y-%m-%d %H:%M").to_string(),
        (None, _) => "the end of time".to_owned(),
    }
}

fn clock_in(then: WallMs, now: WallMs, zone: &TimeZone) -> String {
    match (zoned(then, zone), zoned(now, zone)) {
        (Some(then), Some(now)) if then.date() == now.date() => {
            then.strftime("%H:%M:%S").to_string()
        }
        (Some(then), _) => then.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        (None, _) => "beyond all calendars".to_owned(),
    }
}

fn zoned(at: WallMs, zone: &TimeZone) -> Option<Zoned> {
    let ms = i64::try_from(at.0).ok()?;
    Some(Timestamp::from_millisecond(ms).ok()?.to_zoned(zone.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_has_two_units_at_most() {
        let text = |ms| length(DurationMs(ms));
        assert_eq!(text(250), "250ms");
        assert_eq!(text(59_999), "59s");
        assert_eq!(text(60_000), "1m");
        assert_eq!(text(3_725_000), "1h2m");
        assert_eq!(text(90_000_000), "1d1h");
    }

    #[test]
    fn a_clock_that_is_ahead_is_just_now() {
        assert_eq!(ago(WallMs(10_000), WallMs(4_000)), "just now");
        assert_eq!(ago(WallMs(4_000), WallMs(10_000)), "6s ago");
    }

    #[test]
    fn another_day_is_named() {
        let at = WallMs(1_763_906_531_000);
        let hour = WallMs(at.0 + 3_600_000);
        let day = WallMs(at.0 + 86_400_000);
        assert_eq!(clock_in(at, hour, &TimeZone::UTC), "14:02:11");
        assert_eq!(clock_in(at, day, &TimeZone::UTC), "2025-11-23 14:02:11");
    }

    #[test]
    fn no_instant_breaks_it() {
        assert_eq!(
            clock_in(WallMs(u64::MAX), WallMs(0), &TimeZone::UTC),
            "beyond all calendars"
        );
    }
}
