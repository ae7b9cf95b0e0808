//! `intervals.log`: when this server worked, for whoever judges overlaps from records (H26).
//!
//! One JSON line when an interval begins, before anything is written, one when it ends; instants are
//! CLOCK_BOOTTIME in milliseconds. An interval without an end was killed. A ring of two files, not
//! synced: it must outlive the process, not the machine.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

const NAME: &str = "intervals.log";
const OLDER: &str = "intervals.log.1";
/// Longest of either file.
const FILE_MAX: u64 = 256 * 1024;

/// One line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Line {
    /// Work begins.
    Begin {
        /// Under this term.
        term: u64,
        /// Now.
        from: u64,
    },
    /// Nothing is in flight any more.
    #[serde(rename_all = "camelCase")]
    End {
        /// Under this term.
        term: u64,
        /// When it began.
        from: u64,
        /// Now.
        to: u64,
        /// When the store last took something.
        last_write: Option<u64>,
    },
}

/// The record, open.
#[derive(Debug)]
pub(super) struct Intervals {
    folder: PathBuf,
    file: File,
}

impl Intervals {
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        Ok(Self {
            file: open(folder)?,
            folder: folder.to_owned(),
        })
    }

    pub(super) fn write(&mut self, line: Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        if self.file.metadata()?.len() + text.len() as u64 > FILE_MAX {
            fs::rename(self.folder.join(NAME), self.folder.join(OLDER))?;
            self.file = open(&self.folder)?;
        }
        self.file.write_all(&text)
    }
}

fn open(folder: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(folder.join(NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_is_a_ring_of_two() {
        let dir = tempfile::tempdir().unwrap();
        let mut intervals = Intervals::open(dir.path()).unwrap();
        intervals.write(Line::Begin { term: 1, from: 5 }).unwrap();
        let text = fs::read_to_string(dir.path().join(NAME)).unwrap();
        assert_eq!(text, "{\"begin\":{\"term\":1,\"from\":5}}\n");
        let end = Line::End {
            term: 1,
            from: 5,
            to: 9,
            last_write: None,
        };
        for _ in 0..20_000 {
            intervals.write(end).unwrap();
        }
        for name in [NAME, OLDER] {
            let path = dir.path().join(name);
            assert!(fs::metadata(&path).unwrap().len() <= FILE_MAX);
            let text = fs::read_to_string(path).unwrap();
            assert!(text.ends_with("\"to\":9,\"lastWrite\":null}}\n"));
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
