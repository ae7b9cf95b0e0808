//! Time as data: durations as operators write them, and wall-clock instants.
//!
//! `now` is always an argument; nothing here asks a clock. Wall time is shown and journalled; it
//! is never what safety rests on.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::names::NameError;

/// A length of time in milliseconds, written `500ms`, `30s`, `5m`, `4h`, `8d`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct DurationMs(pub u64);

const UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

impl DurationMs {
    /// A length given in seconds.
    #[must_use]
    pub const fn seconds(s: u64) -> Self {
        Self(s * 1_000)
    }

    /// The same length for the standard library.
    #[must_use]
    pub const fn std(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }

    /// Whole seconds, rounded up; what a DNS TTL is written in.
    #[must_use]
    pub fn as_secs_ceil(self) -> u32 {
        u32::try_from(self.0.div_ceil(1_000)).unwrap_or(u32::MAX)
    }
}

impl fmt::Display for DurationMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.pad("0s");
        }
        let (unit, factor) = UNITS
            .iter()
            .rev()
            .find(|(_, factor)| self.0.is_multiple_of(*factor))
            .unwrap_or(&UNITS[0]);
        f.pad(&format!("{}{unit}", self.0 / factor))
    }
}

impl FromStr for DurationMs {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = || NameError {
            text: text.to_owned(),
            kind: "duration",
            want: "a whole number and a unit: 500ms, 30s, 5m, 4h or 8d",
        };
        let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (digits, unit) = text.split_at(split);
        let factor = UNITS.iter().find(|(u, _)| *u == unit).ok_or_else(wrong)?.1;
        let number: u64 = digits.parse().map_err(|_| wrong())?;
        number
            .checked_mul(factor)
            .filter(|ms| *ms <= 3_660 * 86_400_000)
            .map(Self)
            .ok_or_else(wrong)
    }
}

impl TryFrom<String> for DurationMs {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<DurationMs> for String {
    fn from(duration: DurationMs) -> Self {
        duration.to_string()
    }
}

impl JsonSchema for DurationMs {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[0-9]+(ms|s|m|h|d)$",
            "patternErrorMessage":
                "not a duration: a whole number and a unit: 500ms, 30s, 5m, 4h or 8d",
            "examples": ["500ms", "30s", "5m", "4h", "8d"]
        })
    }
}

/// A length of time, or `never`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DurationOrNever {
    /// After this long.
    After(DurationMs),
    /// Never by itself.
    Never,
}

impl TryFrom<String> for DurationOrNever {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        if text == "never" {
            Ok(Self::Never)
        } else {
            text.parse().map(Self::After)
        }
    }
}

impl From<DurationOrNever> for String {
    fn from(value: DurationOrNever) -> Self {
        match value {
            DurationOrNever::After(duration) => duration.to_string(),
            DurationOrNever::Never => "never".to_owned(),
        }
    }
}

impl JsonSchema for DurationOrNever {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "DurationOrNever".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^([0-9]+(ms|s|m|h|d)|never)$",
            "patternErrorMessage": "not a duration like 30s, 5m or 4h, nor `never`",
            "examples": ["10m", "never"]
        })
    }
}

/// An instant of wall-clock time: milliseconds since 1970-01-01 UTC.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct WallMs(pub u64);

impl WallMs {
    /// The instant this much later.
    #[must_use]
    pub const fn plus(self, duration: DurationMs) -> Self {
        Self(self.0.saturating_add(duration.0))
    }

    /// How long before `self` the instant `earlier` was; nothing if it was later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> DurationMs {
        DurationMs(self.0.saturating_sub(earlier.0))
    }
}
