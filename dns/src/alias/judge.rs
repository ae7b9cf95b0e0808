//! What to write over an alias as read, or why not (H22). Pure.
//!
//! The server enforces the same by the prerequisites in `message.rs`; this keeps who already knows
//! better from asking.

use stead_schemas::alias::AliasJob;
use stead_schemas::generation::{Epoch, Generation};
use stead_schemas::record::{Mark, RecordKey};

use super::{AliasError, AliasTerm, Reading};
use crate::client::MarkReading;

/// What is left to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing: it is as wanted, under this term.
    InStep {
        /// The mark there.
        mark: String,
    },
    /// One update.
    Write(Write),
}

/// One update of the alias.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Write {
    /// The mark it sets.
    pub(super) mark: Mark,
    /// The mark of the own family as read; none: neither mark nor record is there.
    pub(super) expect: Option<String>,
    /// What stands in the other family.
    pub(super) other: Other,
}

/// The other family, as read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Other {
    /// No mark; a record there would be someone else's and stays.
    Absent,
    /// Someone else's mark, which stays.
    Foreign,
    /// This site's, with its mark: withdrawn.
    Ours(String),
}

/// Judges a reading for a writer of a term. Outranked by either family is outranked: a newer holder
/// may have an address of the other one only.
pub(super) fn judge(
    job: &AliasJob,
    under: &AliasTerm,
    reading: &Reading,
) -> Result<Step, AliasError> {
    let term = under.term;
    let (record, other_record) = (job.record(), job.other_record());
    let own = ours(job, reading.own.mark.as_deref());
    let beside = ours(job, reading.other.mark.as_deref());
    for (record, mark) in [(&record, &own), (&other_record, &beside)] {
        if let Some(mark) = mark {
            outranked(record, mark, term)?;
        }
    }
    let found = match &reading.own.mark {
        Some(mark) if own.is_none() => Some(format!("mark `{}`", mark.escape_debug())),
        None if reading.own.set.is_some() => Some("it has no mark".to_owned()),
        Some(_) | None => None,
    };
    if let Some(found) = found {
        return Err(AliasError::Foreign { record, found });
    }
    let other = match &reading.other.mark {
        None => Other::Absent,
        Some(_) if beside.is_none() => Other::Foreign,
        Some(mark) => Other::Ours(mark.clone()),
    };
    let here = own.as_ref().is_some_and(|mark| mark.term == term);
    if here && reading.own.set == Some(job.set()) && !matches!(other, Other::Ours(_)) {
        let mark = reading.own.mark.clone().unwrap_or_default();
        return Ok(Step::InStep { mark });
    }
    let read = [&own, &beside].into_iter().flatten();
    let mark = Mark {
        hierarchy: job.hierarchy.clone(),
        site: job.site.to_string(),
        term,
        generation: next(&under.epoch, read.map(|mark| &mark.generation).max()),
    };
    Ok(Step::Write(Write {
        mark,
        expect: reading.own.mark.clone(),
        other,
    }))
}

/// A mark of this very site.
pub(super) fn ours(job: &AliasJob, text: Option<&str>) -> Option<Mark> {
    match MarkReading::of(text, &job.hierarchy) {
        MarkReading::Ours(mark) if mark.site == job.site.as_str() => Some(mark),
        MarkReading::Absent | MarkReading::Foreign(_) | MarkReading::Ours(_) => None,
    }
}

/// Refuses where a mark is of a newer term; within a term there is one holder, and nothing outranks
/// its own writes.
pub(super) fn outranked(record: &RecordKey, mark: &Mark, term: u64) -> Result<(), AliasError> {
    if mark.term <= term {
        return Ok(());
    }
    Err(AliasError::Outranked {
        record: record.clone(),
        term: mark.term,
        own: term,
        found: mark.to_string(),
    })
}

/// The generation after the one read, so that every write changes the mark. An agent makes up no
/// epoch: it takes the assignment's, or the one read where that is not below.
fn next(epoch: &Epoch, read: Option<&Generation>) -> Generation {
    match read {
        Some(read) if read.epoch >= *epoch => Generation {
            epoch: read.epoch.clone(),
            number: read.number.saturating_add(1),
        },
        Some(_) | None => Generation {
            epoch: epoch.clone(),
            number: 1,
        },
    }
}

#[cfg(test)]
mod tests {
    use stead_schemas::observed::Served;
    use stead_schemas::time::DurationMs;

    use super::*;

    fn job() -> AliasJob {
        AliasJob {
            hierarchy: "contoso".parse().unwrap(),
            site: "P01".parse().unwrap(),
            domain: "cm.example".parse().unwrap(),
            servers: Vec::new(),
            keys: Vec::new(),
            address: "10.1.0.12".parse().unwrap(),
            ttl: DurationMs::seconds(5),
        }
    }

    fn under(term: u64) -> AliasTerm {
        let epoch = Epoch {
            counter: 3,
            reconciler: "stead-1".to_owned(),
            start: "b".to_owned(),
        };
        AliasTerm { term, epoch }
    }

    fn mark(hierarchy: &str, site: &str, term: u64, generation: &str) -> String {
        format!("v=1 h={hierarchy} s={site} t={term} g={generation}")
    }

    fn with_mark(mark: &str) -> Served {
        Served {
            set: Some(job().set()),
            mark: Some(mark.to_owned()),
        }
    }

    fn own(mark: &str) -> Reading {
        Reading {
            own: with_mark(mark),
            other: Served::default(),
        }
    }

    fn written(term: u64, reading: &Reading) -> Write {
        match judge(&job(), &under(term), reading).unwrap() {
            Step::Write(write) => write,
            Step::InStep { mark } => panic!("in step with {mark}"),
        }
    }

    #[test]
    fn a_first_publish_takes_the_epoch_of_the_assignment() {
        let write = written(1, &Reading::default());
        assert_eq!(
            write.mark.to_string(),
            mark("contoso", "P01", 1, "3:stead-1:b.1")
        );
        assert_eq!((write.expect, write.other), (None, Other::Absent));
    }

    #[test]
    fn a_term_outranks_the_reconcilers_mark_and_every_write_changes_it() {
        let read = mark("contoso", "P01", 0, "3:stead-1:b.41");
        let write = written(1, &own(&read));
        assert_eq!(write.mark.generation.to_string(), "3:stead-1:b.42");
        assert_eq!(write.expect, Some(read));
        let later = mark("contoso", "P01", 1, "7:stead-2:x.5");
        let write = written(2, &own(&later));
        assert_eq!(write.mark.generation.to_string(), "7:stead-2:x.6");
        let earlier = mark("contoso", "P01", 1, "2:stead-2:x.5");
        let write = written(2, &own(&earlier));
        assert_eq!(write.mark.generation.to_string(), "3:stead-1:b.1");
    }

    #[test]
    fn h22_the_term_alone_decides_between_agents() {
        let newer = mark("contoso", "P01", 8, "1:stead-1:a.1");
        let refused = judge(&job(), &under(7), &own(&newer)).unwrap_err();
        assert!(
            matches!(
                refused,
                AliasError::Outranked {
                    term: 8,
                    own: 7,
                    ..
                }
            ),
            "{refused}"
        );
        let same = mark("contoso", "P01", 8, "9:stead-1:a.1");
        assert_eq!(
            judge(&job(), &under(8), &own(&same)).unwrap(),
            Step::InStep { mark: same }
        );
    }

    #[test]
    fn the_other_family_of_a_newer_term_outranks_as_well() {
        let reading = Reading {
            own: Served::default(),
            other: with_mark(&mark("contoso", "P01", 8, "3:stead-1:b.9")),
        };
        let refused = judge(&job(), &under(7), &reading).unwrap_err();
        assert!(matches!(refused, AliasError::Outranked { term: 8, .. }));
        let write = written(8, &reading);
        assert!(matches!(write.other, Other::Ours(_)), "withdrawn");
        assert_eq!(write.mark.generation.to_string(), "3:stead-1:b.10");
    }

    #[test]
    fn h22_what_is_not_this_sites_is_foreign() {
        let unmarked = Reading {
            own: Served {
                set: Some(job().set()),
                mark: None,
            },
            other: Served::default(),
        };
        let others = [
            mark("fabrikam", "P01", 1, "1:s:a.1"),
            mark("contoso", "P02", 1, "1:s:a.1"),
            "heritage=external-dns".to_owned(),
        ];
        let readings = others.iter().map(|mark| own(mark)).chain([unmarked]);
        for reading in readings {
            let refused = judge(&job(), &under(9), &reading);
            assert!(
                matches!(refused, Err(AliasError::Foreign { .. })),
                "{reading:?}"
            );
        }
    }

    #[test]
    fn a_foreign_other_family_stays_and_stops_nobody() {
        let reading = Reading {
            own: Served::default(),
            other: with_mark("heritage=external-dns"),
        };
        assert_eq!(written(1, &reading).other, Other::Foreign);
    }
}
