//! Whether a record may be written, judged from its mark as read (H22). Pure.
//!
//! The server enforces the same with the prerequisite that the mark is still as read; this check
//! keeps records of others from being asked for at all, and an overtaken writer from trying.

use stead_schemas::names::ObjectName;
use stead_schemas::record::{Mark, RecordKey};
use thiserror::Error;

/// What a mark that was read means to one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MarkReading {
    /// No mark.
    Absent,
    /// A mark of this hierarchy.
    Ours(Mark),
    /// A mark of another hierarchy, or a text that is no mark.
    Foreign(String),
}

impl MarkReading {
    /// Reads a mark's text for a hierarchy.
    #[must_use]
    pub fn of(text: Option<&str>, hierarchy: &ObjectName) -> Self {
        let Some(text) = text else {
            return Self::Absent;
        };
        match text.parse::<Mark>() {
            Ok(mark) if mark.hierarchy == *hierarchy => Self::Ours(mark),
            _ => Self::Foreign(text.to_owned()),
        }
    }
}

/// Why a record must not be written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotOurs {
    /// The record exists without a mark, or the mark is someone else's.
    #[error("{key} is not this hierarchy's ({found}): remove it by hand, or choose another name")]
    Foreign {
        /// The record.
        key: RecordKey,
        /// The mark found, or that there is none.
        found: String,
    },
    /// The mark is of a newer writer.
    #[error(
        "{key} was written with a newer term or generation ({found}) than this writer's ({own}): another writer has taken over"
    )]
    Superseded {
        /// The record.
        key: RecordKey,
        /// The mark found.
        found: String,
        /// The mark this writer would have set.
        own: String,
    },
}

/// Allows a write whose mark would be `own` over what was read: nothing at all, or a mark of the
/// same hierarchy not above `own` by (term, generation).
///
/// # Errors
/// [`NotOurs`] otherwise.
pub fn may_write(
    key: &RecordKey,
    own: &Mark,
    read: Option<&str>,
    exists: bool,
) -> Result<(), NotOurs> {
    match MarkReading::of(read, &own.hierarchy) {
        MarkReading::Absent if exists => Err(NotOurs::Foreign {
            key: key.clone(),
            found: "it has no mark".to_owned(),
        }),
        MarkReading::Absent => Ok(()),
        MarkReading::Foreign(found) => Err(NotOurs::Foreign {
            key: key.clone(),
            found: format!("mark `{}`", found.escape_debug()),
        }),
        MarkReading::Ours(found)
            if (found.term, &found.generation) > (own.term, &own.generation) =>
        {
            Err(NotOurs::Superseded {
                key: key.clone(),
                found: found.to_string(),
                own: own.to_string(),
            })
        }
        MarkReading::Ours(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Mark {
        mark("contoso", 7, "3:stead-1:b", 10).parse().unwrap()
    }

    fn mark(hierarchy: &str, term: u64, epoch: &str, number: u64) -> String {
        format!("v=1 h={hierarchy} s=P01 t={term} g={epoch}.{number}")
    }

    fn judge(read: Option<&str>, exists: bool) -> Result<(), NotOurs> {
        may_write(&"p01.cm.example/A".parse().unwrap(), &own(), read, exists)
    }

    #[test]
    fn h22_a_first_publish_needs_nothing_there() {
        assert!(judge(None, false).is_ok());
        assert!(matches!(judge(None, true), Err(NotOurs::Foreign { .. })));
    }

    #[test]
    fn h22_only_the_own_hierarchys_mark_may_be_replaced() {
        for foreign in [
            mark("fabrikam", 1, "1:stead-1:a", 1).as_str(),
            "heritage=external-dns,external-dns/owner=default",
            "",
        ] {
            let refused = judge(Some(foreign), true);
            assert!(matches!(refused, Err(NotOurs::Foreign { .. })), "{foreign}");
        }
    }

    #[test]
    fn h22_a_writer_does_not_write_over_what_is_above_it() {
        let read = |term, epoch, number| judge(Some(&mark("contoso", term, epoch, number)), true);
        assert!(read(7, "3:stead-1:b", 10).is_ok(), "its own last write");
        assert!(
            read(6, "9:stead-2:z", 99).is_ok(),
            "an older term loses to a newer one"
        );
        assert!(read(7, "3:stead-1:b", 9).is_ok());
        assert!(read(7, "2:stead-1:b", 99).is_ok());
        for (term, epoch, number) in [
            (8, "1:stead-1:a", 1),
            (7, "3:stead-1:b", 11),
            (7, "3:stead-1:c", 1),
            (7, "4:stead-1:a", 1),
        ] {
            let refused = read(term, epoch, number);
            assert!(
                matches!(refused, Err(NotOurs::Superseded { .. })),
                "{term} {epoch} {number}"
            );
        }
    }

    #[test]
    fn a_foreign_text_cannot_forge_a_line_of_the_error() {
        let error = judge(Some("x\nhint: all fine"), true).unwrap_err();
        assert!(!error.to_string().contains('\n'));
    }
}
