//! The embedded store's file: checksummed lines, synced before anybody is answered.
//!
//! A torn end is cut when the file is read; damage before a line that is whole is refused, since
//! what was promised is gone. A write that fails leaves the file as long as it was. What the records
//! mean is not known here.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::store::{Entry, Token};

const NAME: &str = "store.log";
/// Digits of the checksum that a line begins with.
const CHECKSUM: usize = 16;
/// Longest line: 128 entries of the longest id and text, escaped.
const LINE_MAX: u64 = 1024 * 1024;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Record {
    /// The token was raised.
    Claim(Token),
    /// Entries were appended.
    Append {
        /// By whom.
        token: Token,
        /// The sequence number of the first.
        first: u64,
        /// What.
        entries: Vec<Entry>,
    },
}

/// Held as long as the folder is this process's.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// Takes the folder, or says that another process has it.
pub(super) fn lock(folder: &Path) -> io::Result<Lock> {
    let file = private().open(folder.join("store.lock"))?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    Ok(Lock { _file: file })
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600);
    options
}

/// The file, open at its end.
#[derive(Debug)]
pub(super) struct LogFile {
    file: File,
    length: u64,
    /// The end could not be cut back: what the file holds is not known.
    broken: bool,
}

impl LogFile {
    /// Reads the file in `folder`, handing out each record, and cuts a torn end.
    pub(super) fn read(folder: &Path, each: &mut dyn FnMut(Record)) -> io::Result<Self> {
        let mut file = private().open(folder.join(NAME))?;
        let length = whole(&file, each)?;
        if file.metadata()?.len() != length {
            eprintln!("a torn write was cut from the end of {NAME}");
            file.set_len(length)?;
        }
        file.sync_all()?;
        File::open(folder)?.sync_all()?;
        file.seek(SeekFrom::Start(length))?;
        Ok(Self {
            file,
            length,
            broken: false,
        })
    }

    pub(super) const fn is_broken(&self) -> bool {
        self.broken
    }

    /// Writes and syncs one record. When it fails, the record is not in the file.
    pub(super) fn append(&mut self, record: &Record) -> io::Result<()> {
        let line = line(record)?;
        let written = self
            .file
            .write_all(&line)
            .and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => self.length += line.len() as u64,
            Err(_) => self.broken = self.cut().is_err(),
        }
        written
    }

    fn cut(&mut self) -> io::Result<()> {
        self.file.set_len(self.length)?;
        self.file.seek(SeekFrom::Start(self.length))?;
        self.file.sync_data()
    }

    /// Replaces the file in `folder` by these records; when it fails the old one is still there.
    pub(super) fn rewrite(
        folder: &Path,
        records: impl Iterator<Item = Record>,
    ) -> io::Result<Self> {
        let aside = Aside(folder.join(format!(".{NAME}.new")));
        let mut file = private().truncate(true).open(&aside.0)?;
        let mut length = 0;
        let mut buffered = io::BufWriter::new(&mut file);
        for record in records {
            let line = line(&record)?;
            buffered.write_all(&line)?;
            length += line.len() as u64;
        }
        buffered.flush()?;
        drop(buffered);
        file.sync_all()?;
        fs::rename(&aside.0, folder.join(NAME))?;
        File::open(folder)?.sync_all()?;
        Ok(Self {
            file,
            length,
            broken: false,
        })
    }

    #[cfg(test)]
    pub(super) fn replace_by(&mut self, file: File) {
        self.file = file;
    }
}

/// A file that is gone again unless it got its name.
struct Aside(PathBuf);

impl Drop for Aside {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

fn line(record: &Record) -> io::Result<Vec<u8>> {
    let text = serde_json::to_vec(record)?;
    let mut line = checksum(&text).into_bytes();
    line.push(b' ');
    line.extend_from_slice(&text);
    line.push(b'\n');
    Ok(line)
}

fn checksum(text: &[u8]) -> String {
    let digest = Sha256::digest(text);
    let half = digest.iter().take(CHECKSUM / 2);
    half.map(|byte| format!("{byte:02x}")).collect()
}

fn parse(line: &[u8]) -> Option<Record> {
    let text = line.strip_suffix(b"\n")?;
    let (sum, text) = text.split_at_checked(CHECKSUM)?;
    let text = text.strip_prefix(b" ")?;
    if checksum(text).as_bytes() != sum {
        return None;
    }
    serde_json::from_slice(text).ok()
}

/// The length of all whole lines.
fn whole(file: &File, each: &mut dyn FnMut(Record)) -> io::Result<u64> {
    let mut reader = BufReader::new(file);
    let (mut length, mut torn) = (0, false);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut reader).take(LINE_MAX).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(length);
        }
        match parse(&line) {
            Some(_) if torn => {
                let what =
                    format!("{NAME} is damaged at byte {length}, before records that are whole");
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            Some(record) => {
                each(record);
                length += read as u64;
            }
            None => torn = true,
        }
    }
}
