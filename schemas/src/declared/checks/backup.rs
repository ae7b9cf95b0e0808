//! Backups: where they may be, and schedules in the five fields of cron.

use super::super::problem::Findings;
use super::super::tree::Spot;
use super::super::typed::ReadSite;
use super::{has_server, no_such_server};
use crate::role::SiteType;

pub(super) fn check(site: &ReadSite<'_>, findings: &mut Findings) {
    let Some(backup) = &site.spec().backup else {
        return;
    };
    if site.spec().r#type == SiteType::Secondary {
        let message = "a secondary site has no backup: it is reinstalled from its parent";
        let finding = site
            .error("backup", site.key_spot(&["backup"]), message)
            .tag("BK-1");
        findings.add(finding.hint("write `backup: null` where defaults bring one"));
        return;
    }
    let spot = site.spot(&["backup", "schedule"]);
    if let Some(schedule) = check_schedule(site, &backup.schedule, spot, findings)
        && schedule.gap_days > 5
    {
        let message = format!(
            "`{}` leaves up to {} days between backups: at most 5 can be caught up with",
            backup.schedule, schedule.gap_days
        );
        findings.add(site.warning("backup", spot, message).tag("BK-2"));
    }
    if let Some(drill) = &backup.drill {
        let spot = site.spot(&["backup", "drill", "schedule"]);
        check_schedule(site, &drill.schedule, spot, findings);
        if let Some(server) = &drill.server
            && !has_server(site, server)
        {
            findings.add(no_such_server(site, server, &["backup", "drill", "server"]));
        }
    }
}

fn check_schedule(
    site: &ReadSite<'_>,
    text: &str,
    spot: Spot,
    findings: &mut Findings,
) -> Option<Schedule> {
    match Schedule::of(text) {
        Ok(schedule) => Some(schedule),
        Err(why) => {
            let message = format!("`{text}` is no schedule: {why}");
            let finding = site.error("schedule", spot, message);
            findings.add(finding.hint(
                "write minute, hour, day of month, month, day of week: `0 2 * * *` is daily at 2:00",
            ));
            None
        }
    }
}

/// What a check needs to know of a schedule.
#[derive(Debug, PartialEq, Eq)]
struct Schedule {
    /// About how many days lie between two runs at most.
    gap_days: u32,
}

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// Name, lowest and highest number of each field.
const FIELDS: [(&str, u32, u32); 5] = [
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day of month", 1, 31),
    ("month", 1, 12),
    ("day of week", 0, 7),
];

impl Schedule {
    fn of(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        if words.len() != FIELDS.len() {
            return Err(format!("it has {} fields, not 5", words.len()));
        }
        let mut fields = Vec::new();
        for (word, (name, low, high)) in words.iter().zip(FIELDS) {
            let numbers = field(word, low, high).ok_or_else(|| {
                format!("`{word}` is no {name}: numbers from {low} to {high}, `*`, `,`, `-`, `/`")
            })?;
            fields.push(numbers);
        }
        let days: Vec<u32> = fields[4].iter().map(|day| day % 7).collect();
        // Where both are restricted cron runs on either.
        let gap_days = match (words[2], words[4]) {
            ("*", _) => gap(&days, 7),
            (_, "*") => gap(&fields[2], 31),
            _ => gap(&days, 7).min(gap(&fields[2], 31)),
        };
        let months = gap(&fields[3], 12).saturating_sub(1) * 30;
        Ok(Self {
            gap_days: gap_days.max(months),
        })
    }
}

/// The largest distance between neighbours on a circle.
fn gap(numbers: &[u32], circle: u32) -> u32 {
    let mut sorted: Vec<u32> = numbers.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let Some(first) = sorted.first().copied() else {
        return circle;
    };
    let next = sorted.iter().skip(1).copied().chain([first + circle]);
    let gaps = sorted.iter().zip(next).map(|(a, b)| b - a);
    gaps.max().unwrap_or(circle)
}

/// The numbers of one field.
fn field(word: &str, low: u32, high: u32) -> Option<Vec<u32>> {
    let mut numbers = Vec::new();
    for part in word.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, step.parse().ok().filter(|step| *step > 0)?),
            None => (part, 1),
        };
        let (from, to) = if range == "*" {
            (low, high)
        } else if let Some((from, to)) = range.split_once('-') {
            (number(from, low, high)?, number(to, low, high)?)
        } else {
            let from = number(range, low, high)?;
            (from, if part.contains('/') { high } else { from })
        };
        if from > to {
            return None;
        }
        numbers.extend((from..=to).step_by(step));
    }
    Some(numbers)
}

fn number(word: &str, low: u32, high: u32) -> Option<u32> {
    let lower = word.to_ascii_lowercase();
    let named = match high {
        12 => MONTHS
            .iter()
            .position(|name| *name == lower)
            .map(|at| at + 1),
        7 => DAYS.iter().position(|name| *name == lower),
        _ => None,
    };
    let number = match named {
        Some(at) => u32::try_from(at).ok()?,
        None if word.len() <= 2 && word.bytes().all(|b| b.is_ascii_digit()) => word.parse().ok()?,
        None => return None,
    };
    (low..=high).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_read_with_the_longest_gap() {
        for (text, days) in [
            ("0 2 * * *", 1),
            ("*/15 0-6,22 * * *", 1),
            ("0 5 * * 0", 7),
            ("0 5 * * mon,thu", 4),
            ("0 5 1,15 * *", 17),
            ("0 0 * jan *", 330),
        ] {
            let gap_days = Schedule::of(text).unwrap().gap_days;
            assert_eq!(gap_days, days, "{text}");
        }
    }

    #[test]
    fn what_is_no_schedule_says_why() {
        for text in [
            "",
            "daily",
            "0 2 * *",
            "0 24 * * *",
            "0 2 * * 8",
            "0 2 * foo *",
            "5-1 * * * *",
            "*/0 * * * *",
        ] {
            assert!(Schedule::of(text).is_err(), "{text}");
        }
    }
}
