//! Going on with a term through a replaced program (H18): what the old one leaves for the new one.
//!
//! The note counts only for the process that wrote it, in this boot, whose guard never saw it die.
//! Everybody else starts without a term (R13).

use std::fs;
use std::io;

use serde::{Deserialize, Serialize};
use site_lease::{Mono, Term};
use site_voting::durable;

use crate::guard::message::Welcome;
use crate::layout::Layout;
use crate::processes::procfs;

const FILE: &str = "resume.json";

/// A term held, and the end of its lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resume {
    term: u64,
    lease_end_ms: u64,
    pid: u32,
    boot_id: String,
}

impl Resume {
    pub(super) fn of(term: Term, lease_end: Mono) -> Self {
        Self {
            term: term.0,
            lease_end_ms: lease_end.0,
            pid: std::process::id(),
            boot_id: procfs::boot_id(),
        }
    }

    /// Leaves it for the program that replaces this one.
    ///
    /// # Errors
    /// What the disk says; then the new one starts without the term.
    pub fn leave(&self, layout: &Layout) -> io::Result<()> {
        let text = serde_json::to_vec(self).map_err(io::Error::other)?;
        durable::replace(layout.root(), FILE, &text, 0o600)
    }

    /// Takes what was left, once: whatever comes of it, nobody takes it again.
    pub(super) fn take(layout: &Layout) -> Option<Self> {
        let path = layout.root().join(FILE);
        let text = fs::read(&path).ok()?;
        fs::remove_file(&path).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// What may be gone on with, as the guard vouches.
    pub(super) fn vouched(&self, welcome: &Welcome) -> Option<(Term, Mono)> {
        let same = self.pid == std::process::id() && self.boot_id == procfs::boot_id();
        let vouched = welcome.pid_lived && !welcome.killing && welcome.term == Some(self.term);
        (same && vouched).then_some((Term(self.term), Mono(self.lease_end_ms)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn welcome(term: u64) -> Welcome {
        Welcome {
            term: Some(term),
            until: Some(9_000),
            pid_lived: true,
            highest: term,
            killing: false,
        }
    }

    #[test]
    fn h18_a_note_counts_once_for_its_own_process_and_where_the_guard_vouches() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::make(dir.path()).unwrap();
        Resume::of(Term(7), Mono(8_000)).leave(&layout).unwrap();
        let note = Resume::take(&layout).unwrap();
        assert_eq!(Resume::take(&layout), None);
        assert_eq!(note.vouched(&welcome(7)), Some((Term(7), Mono(8_000))));
        assert_eq!(note.vouched(&welcome(8)), None);
        let died = Welcome {
            pid_lived: false,
            ..welcome(7)
        };
        let killing = Welcome {
            killing: true,
            ..welcome(7)
        };
        for other in [died, killing] {
            assert_eq!(note.vouched(&other), None);
        }
        let another = Resume {
            pid: note.pid + 1,
            ..note.clone()
        };
        assert_eq!(another.vouched(&welcome(7)), None);
        let another = Resume {
            boot_id: "another".to_owned(),
            ..note
        };
        assert_eq!(another.vouched(&welcome(7)), None);
    }
}
