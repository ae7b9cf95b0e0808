//! The embedded store's rules over its file: one token, one log, no entry twice.
//!
//! What is in memory was synced first. It keeps the newest entries and forgets the others; the token
//! and the numbering never go back.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};

use super::file::{self, Lock, LogFile, Record};
use super::protocol::{Logged, Page, Row};
use crate::store::{Entry, KEPT, Token};

/// Entries of one page.
const PAGE: usize = 1_000;

/// Why nothing was done.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Another token rules.
    Outranked(Row),
    /// The disk refused.
    Disk(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

/// The store.
#[derive(Debug)]
pub(super) struct Ledger {
    folder: PathBuf,
    file: LogFile,
    contents: Contents,
    _lock: Lock,
}

#[derive(Debug)]
struct Contents {
    token: Token,
    sequence: u64,
    kept: VecDeque<Logged>,
    known: BTreeMap<String, u64>,
    /// Entries in the file, those forgotten included.
    written: usize,
}

impl Contents {
    const fn new() -> Self {
        Self {
            token: Token {
                term: 0,
                holder: String::new(),
            },
            sequence: 0,
            kept: VecDeque::new(),
            known: BTreeMap::new(),
            written: 0,
        }
    }

    fn apply(&mut self, record: Record) {
        let (token, first, entries) = match record {
            Record::Claim(token) => {
                self.token = token;
                return;
            }
            Record::Append {
                token,
                first,
                entries,
            } => (token, first, entries),
        };
        for (sequence, entry) in (first..).zip(entries) {
            if let Some(id) = &entry.id {
                self.known.insert(id.clone(), sequence);
            }
            self.sequence = sequence;
            self.written += 1;
            self.kept.push_back(Logged {
                sequence,
                token: token.clone(),
                entry,
            });
            if self.kept.len() > KEPT {
                let oldest = self.kept.pop_front().and_then(|oldest| oldest.entry.id);
                if let Some(id) = oldest {
                    self.known.remove(&id);
                }
            }
        }
    }

    fn row(&self) -> Row {
        Row {
            token: self.token.clone(),
            sequence: self.sequence,
        }
    }
}

impl Ledger {
    /// Opens the store in `folder`, which is then this process's alone.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let lock = file::lock(folder)?;
        let (file, contents) = read(folder)?;
        Ok(Self {
            folder: folder.to_owned(),
            file,
            contents,
            _lock: lock,
        })
    }

    /// Reads the file again where a failed write left it unknown.
    pub(super) fn mend(&mut self) -> Result<(), Refusal> {
        if self.file.is_broken() {
            (self.file, self.contents) = read(&self.folder)?;
        }
        Ok(())
    }

    pub(super) fn row(&self) -> Row {
        self.contents.row()
    }

    /// Raises the token: to a higher term, or to the same of the same holder again.
    pub(super) fn claim(&mut self, token: Token) -> Result<Row, Refusal> {
        self.mend()?;
        if token == self.contents.token {
            return Ok(self.row());
        }
        if token.term <= self.contents.token.term {
            return Err(Refusal::Outranked(self.row()));
        }
        let record = Record::Claim(token);
        self.file.append(&record)?;
        self.contents.apply(record);
        Ok(self.row())
    }

    /// Appends under exactly the token that rules; all or nothing.
    pub(super) fn append(
        &mut self,
        token: &Token,
        entries: Vec<Entry>,
    ) -> Result<Vec<u64>, Refusal> {
        self.mend()?;
        if *token != self.contents.token {
            return Err(Refusal::Outranked(self.row()));
        }
        let first = self.contents.sequence + 1;
        let (mut fresh, mut sequences) = (Vec::new(), Vec::new());
        let mut here = BTreeMap::new();
        for entry in entries {
            let next = first + fresh.len() as u64;
            let id = entry.id.as_ref();
            let known = id.and_then(|id| here.get(id).or_else(|| self.contents.known.get(id)));
            if let Some(sequence) = known {
                sequences.push(*sequence);
                continue;
            }
            if let Some(id) = id {
                here.insert(id.clone(), next);
            }
            sequences.push(next);
            fresh.push(entry);
        }
        if !fresh.is_empty() {
            let record = Record::Append {
                token: token.clone(),
                first,
                entries: fresh,
            };
            self.file.append(&record)?;
            self.contents.apply(record);
            self.shorten();
        }
        Ok(sequences)
    }

    /// Entries from this number on.
    pub(super) fn page(&self, from: u64) -> Page {
        let kept = &self.contents.kept;
        let begin = kept.partition_point(|entry| entry.sequence < from);
        let entries: Vec<Logged> = kept.iter().skip(begin).take(PAGE).cloned().collect();
        Page {
            next: entries
                .last()
                .map_or_else(|| from.max(1), |last| last.sequence + 1),
            oldest: kept.front().map_or(0, |oldest| oldest.sequence),
            entries,
        }
    }

    /// Writes the file anew without what was forgotten, once that is half of it. Failing is fine: it
    /// is tried again after the next append.
    fn shorten(&mut self) {
        if self.contents.written < 2 * KEPT {
            return;
        }
        let token = Record::Claim(self.contents.token.clone());
        let kept = self.contents.kept.iter().map(|logged| Record::Append {
            token: logged.token.clone(),
            first: logged.sequence,
            entries: vec![logged.entry.clone()],
        });
        match LogFile::rewrite(&self.folder, std::iter::once(token).chain(kept)) {
            Ok(file) => {
                self.file = file;
                self.contents.written = self.contents.kept.len();
            }
            Err(error) => eprintln!("the store can't be shortened: {error}"),
        }
    }
}

fn read(folder: &Path) -> io::Result<(LogFile, Contents)> {
    let mut contents = Contents::new();
    let file = LogFile::read(folder, &mut |record| contents.apply(record))?;
    Ok((file, contents))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File, OpenOptions};
    use std::io::Write;

    fn token(term: u64, holder: &str) -> Token {
        Token {
            term,
            holder: holder.to_owned(),
        }
    }

    fn entry(id: &str) -> Entry {
        Entry {
            id: Some(id.to_owned()),
            text: "x".to_owned(),
        }
    }

    fn beat() -> Entry {
        Entry {
            id: None,
            text: String::new(),
        }
    }

    #[test]
    fn only_the_token_that_rules_may_write() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        assert!(Ledger::open(dir.path()).is_err(), "H13: one process");
        ledger.claim(token(7, "a")).unwrap();
        ledger.claim(token(7, "a")).unwrap();
        assert!(ledger.claim(token(7, "b")).is_err());
        assert_eq!(ledger.append(&token(7, "a"), vec![beat()]).unwrap(), [1]);
        assert!(ledger.append(&token(7, "b"), vec![beat()]).is_err());
        ledger.claim(token(9, "b")).unwrap();
        let Err(Refusal::Outranked(row)) = ledger.append(&token(7, "a"), vec![beat()]) else {
            panic!("a stale term wrote");
        };
        assert_eq!(row.token, token(9, "b"), "I5");
        assert!(ledger.append(&token(10, "b"), vec![beat()]).is_err());
        assert_eq!(ledger.row().sequence, 1);
    }

    #[test]
    fn an_id_is_written_once_also_over_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        ledger.claim(token(1, "a")).unwrap();
        let batch = vec![entry("x"), entry("y"), entry("x"), beat(), beat()];
        let first = ledger.append(&token(1, "a"), batch.clone()).unwrap();
        assert_eq!(first, [1, 2, 1, 3, 4]);
        drop(ledger);
        let mut ledger = Ledger::open(dir.path()).unwrap();
        ledger.claim(token(2, "b")).unwrap();
        let again = ledger.append(&token(2, "b"), batch).unwrap();
        assert_eq!(again, [1, 2, 1, 5, 6]);
        let page = ledger.page(4);
        assert_eq!((page.oldest, page.next), (1, 7));
        let terms: Vec<u64> = page.entries.iter().map(|one| one.token.term).collect();
        assert_eq!(terms, [1, 2, 2], "monotone in term (H26)");
    }

    #[test]
    fn a_torn_end_is_cut_and_other_damage_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.log");
        let mut ledger = Ledger::open(dir.path()).unwrap();
        ledger.claim(token(1, "a")).unwrap();
        ledger.append(&token(1, "a"), vec![entry("x")]).unwrap();
        let good = fs::read(&path).unwrap();
        ledger.append(&token(1, "a"), vec![entry("y")]).unwrap();
        drop(ledger);
        let all = fs::read(&path).unwrap();
        for cut in good.len()..all.len() {
            fs::write(&path, &all[..cut]).unwrap();
            let mut ledger = Ledger::open(dir.path()).unwrap();
            assert_eq!(ledger.row().sequence, 1, "cut at {cut}");
            let sequence = ledger.append(&token(1, "a"), vec![entry("y")]).unwrap();
            assert_eq!(sequence, [2]);
        }
        let mut damaged = all;
        damaged[20] ^= 1;
        fs::write(&path, damaged).unwrap();
        assert!(Ledger::open(dir.path()).is_err());
    }

    #[test]
    fn a_full_disk_leaves_nothing_half_done() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        ledger.claim(token(1, "a")).unwrap();
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        ledger.file.replace_by(full);
        let Err(Refusal::Disk(error)) = ledger.append(&token(1, "a"), vec![entry("x")]) else {
            panic!("a full disk wrote");
        };
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(ledger.row().sequence, 0);
        // What the file holds is read again before anything else.
        let sequences = ledger.append(&token(1, "a"), vec![entry("x")]).unwrap();
        assert_eq!(sequences, [1]);
        drop(ledger);
        assert_eq!(Ledger::open(dir.path()).unwrap().row().sequence, 1);
    }

    #[test]
    fn what_is_forgotten_leaves_the_file_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.log");
        let mut file = File::create(&path).unwrap();
        drop(file.flush());
        let mut ledger = Ledger::open(dir.path()).unwrap();
        ledger.claim(token(3, "a")).unwrap();
        ledger.contents.written = 2 * KEPT;
        ledger
            .append(&token(3, "a"), vec![beat(), entry("x")])
            .unwrap();
        assert_eq!(ledger.contents.written, 2);
        ledger.append(&token(3, "a"), vec![beat()]).unwrap();
        drop(ledger);
        let ledger = Ledger::open(dir.path()).unwrap();
        assert_eq!(ledger.row().token, token(3, "a"));
        assert_eq!(ledger.row().sequence, 3);
        assert!(!dir.path().join(".store.log.new").exists());
    }
}
