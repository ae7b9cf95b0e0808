//! What an unquoted scalar means, and which ones are refused.
//!
//! YAML 1.1 and 1.2, and the programs that read either, disagree about `yes`, `007`, `22:00` or
//! `1E5`. Stead takes only what all of them read alike; anything else has to be quoted. The source
//! of the forms is the YAML 1.1 type repository and the core schema of YAML 1.2.

use super::tree::Meaning;

/// Why an unquoted scalar is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ambiguous {
    /// What some reader takes it for.
    pub(super) taken_for: &'static str,
}

/// What an unquoted scalar means to every reader.
///
/// # Errors
/// [`Ambiguous`] where readers disagree.
pub(super) fn plain(text: &str) -> Result<Meaning, Ambiguous> {
    match text {
        "" | "null" => return Ok(Meaning::Null),
        "true" => return Ok(Meaning::Bool(true)),
        "false" => return Ok(Meaning::Bool(false)),
        _ => {}
    }
    if let Some(taken_for) = word(text) {
        return Err(Ambiguous { taken_for });
    }
    let first = text.as_bytes()[0];
    if !(first.is_ascii_digit() || matches!(first, b'+' | b'-' | b'.')) {
        return Ok(Meaning::Text);
    }
    if let Some(number) = decimal(text) {
        return Ok(number);
    }
    match number_of_some(text) {
        Some(taken_for) => Err(Ambiguous { taken_for }),
        None => Ok(Meaning::Text),
    }
}

fn word(text: &str) -> Option<&'static str> {
    if text.len() > 5 {
        return None;
    }
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "n" | "N" | "no" | "No" | "NO" | "on" | "On" | "ON"
        | "off" | "Off" | "OFF" | "True" | "TRUE" | "False" | "FALSE" => Some("true or false"),
        "~" | "Null" | "NULL" => Some("null"),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf" | "-.INF"
        | ".nan" | ".NaN" | ".NAN" => Some("a number"),
        "=" => Some("a default value"),
        _ => None,
    }
}

/// Whole numbers and decimal fractions that every reader takes alike.
fn decimal(text: &str) -> Option<Meaning> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = match digits.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (digits, None),
    };
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !all_digits(whole) || (whole.len() > 1 && whole.starts_with('0')) {
        return None;
    }
    match fraction {
        None => text.parse().ok().map(Meaning::Int),
        Some(fraction) if all_digits(fraction) => text.parse().ok().map(Meaning::Float),
        Some(_) => None,
    }
}

/// What some reader takes a text for that starts like a number.
fn number_of_some(text: &str) -> Option<&'static str> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if based(unsigned) || decimal_of_some(unsigned) {
        return Some("a number");
    }
    if sexagesimal(unsigned) {
        return Some("a number to the base of 60");
    }
    timestamp(text).then_some("a date")
}

fn based(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let of = |prefix: &str, base: u32| {
        lower.strip_prefix(prefix).is_some_and(|rest| {
            !rest.is_empty() && rest.chars().all(|c| c == '_' || c.is_digit(base))
        })
    };
    of("0x", 16) || of("0o", 8) || of("0b", 2)
}

/// `007`, `1_000`, `+1`, `1.`, `.5`, `1e5`, `1.5E-3` and numbers too large.
fn decimal_of_some(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let (mantissa, exponent) = match lower.split_once('e') {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (lower.as_str(), None),
    };
    let exponent_fits = exponent.is_none_or(|e| {
        let digits = e.strip_prefix(['+', '-']).unwrap_or(e);
        !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
    });
    exponent_fits
        && mantissa.bytes().any(|b| b.is_ascii_digit())
        && mantissa
            .bytes()
            .all(|b| b.is_ascii_digit() || matches!(b, b'_' | b'.'))
        && mantissa.bytes().filter(|b| *b == b'.').count() <= 1
}

/// `22:00`, `190:20:30`, also with a fraction.
fn sexagesimal(text: &str) -> bool {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = whole.split(':');
    let first = parts.next().unwrap_or_default();
    let rest: Vec<&str> = parts.collect();
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    !rest.is_empty()
        && first.starts_with(|c: char| c.is_ascii_digit())
        && digits(first)
        && digits(fraction)
        && rest
            .iter()
            .all(|part| (1..=2).contains(&part.len()) && digits(part) && *part < "60")
}

/// `2026-12-15`, also with a time.
fn timestamp(text: &str) -> bool {
    let date = text.split(['T', 't', ' ']).next().unwrap_or_default();
    let parts: Vec<&str> = date.split('-').collect();
    let digits = |part: &str, lengths: std::ops::RangeInclusive<usize>| {
        lengths.contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit())
    };
    matches!(parts.as_slice(), [year, month, day]
        if digits(year, 4..=4) && digits(month, 1..=2) && digits(day, 1..=2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_reader_takes_alike_is_taken() {
        for text in [
            "p01-a", "10.101.0", "10.0.0.5", "1.4.2", "4h", "500ms", "1%", "::1",
        ] {
            assert_eq!(plain(text), Ok(Meaning::Text), "{text}");
        }
        assert_eq!(plain("8080"), Ok(Meaning::Int(8080)));
        assert_eq!(plain("-1"), Ok(Meaning::Int(-1)));
        assert_eq!(plain("0"), Ok(Meaning::Int(0)));
        assert_eq!(plain("0.5"), Ok(Meaning::Float(0.5)));
        assert_eq!(plain("true"), Ok(Meaning::Bool(true)));
        assert_eq!(plain(""), Ok(Meaning::Null));
    }

    #[test]
    fn what_readers_disagree_about_has_to_be_quoted() {
        for text in [
            "007",
            "08",
            "1E5",
            "1e5",
            "1.5e3",
            "YES",
            "no",
            "on",
            "Off",
            "y",
            "True",
            "22:00",
            "22:00:10",
            "0x1F",
            "0o17",
            "0b1",
            "1_000",
            "~",
            "NULL",
            "2026-12-15",
            "2026-12-15T00:00:00Z",
            ".inf",
            "-.INF",
            ".nan",
            "+1",
            "1.",
            ".5",
            "=",
            "99999999999999999999",
        ] {
            assert!(plain(text).is_err(), "{text}");
        }
    }
}
