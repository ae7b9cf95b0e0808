//! An instance's output: a ring of files, lines with time and stream, bounded whatever it writes.
//!
//! The ring outlives runs and keepers. Values of the instance's secrets are blotted out (H30). A
//! full disk loses lines, and says how many once there is room; it never holds up the instance.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use stead_schemas::time::WallMs;

/// Files kept.
pub const FILES: usize = 4;
/// A file that has reached this size is followed by the next.
pub const FILE_BYTES: u64 = 256 * 1024;
/// Longer lines are cut into several.
pub const LINE_BYTES: usize = 8 * 1024;
/// Of the last line, this much goes into reports.
const LAST_LINE_CHARS: usize = 200;
/// Shorter secrets are not looked for: they would blot out half the log and hide nothing.
const BLOT_BYTES: usize = 6;

/// Which pipe a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard error.
    Err,
    /// Standard output.
    Out,
}

/// The writing end of the ring.
#[derive(Debug)]
pub struct Output {
    dir: PathBuf,
    file: Option<File>,
    number: u64,
    size: u64,
    lost: u64,
    pending: [Vec<u8>; 2],
    blots: Vec<String>,
    last_line: Option<String>,
}

impl Output {
    /// Goes on with the ring in `dir`, which need not exist. `secrets` are never written.
    #[must_use]
    pub fn open(dir: PathBuf, secrets: Vec<String>) -> Self {
        drop(fs::create_dir_all(&dir));
        let number = numbers(&dir).last().copied().unwrap_or(0);
        let mut output = Self {
            dir,
            file: None,
            number,
            size: 0,
            lost: 0,
            pending: [Vec::new(), Vec::new()],
            blots: blots(&secrets),
            last_line: None,
        };
        output.reopen();
        output
    }

    /// Takes what came out of a pipe; writes whole lines.
    pub fn take(&mut self, stream: Stream, bytes: &[u8], now: WallMs) {
        let mut ready = Vec::new();
        let pending = &mut self.pending[stream as usize];
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            pending.extend_from_slice(piece);
            while pending.len() > LINE_BYTES {
                let rest = pending.split_off(LINE_BYTES);
                ready.push(std::mem::replace(pending, rest));
            }
            if pending.last() == Some(&b'\n') {
                pending.pop();
                ready.push(std::mem::take(pending));
            }
        }
        self.write_lines(stream, &ready, now);
    }

    /// Writes what is left of an unfinished line.
    pub fn finish(&mut self, now: WallMs) {
        for stream in [Stream::Out, Stream::Err] {
            let rest = std::mem::take(&mut self.pending[stream as usize]);
            if !rest.is_empty() {
                self.write_lines(stream, &[rest], now);
            }
        }
    }

    /// The last line that was not empty, cut short.
    #[must_use]
    pub fn last_line(&self) -> Option<String> {
        self.last_line.clone()
    }

    fn write_lines(&mut self, stream: Stream, lines: &[Vec<u8>], now: WallMs) {
        if lines.is_empty() {
            return;
        }
        let stamp = stamp(now);
        let name = match stream {
            Stream::Err => "err",
            Stream::Out => "out",
        };
        let mut text = String::new();
        for line in lines {
            let line = self.blotted(&String::from_utf8_lossy(line));
            if !line.trim().is_empty() {
                self.last_line = Some(line.chars().take(LAST_LINE_CHARS).collect());
            }
            text.push_str(&format!("{stamp} {name} {line}\n"));
        }
        self.append(&stamp, &text, lines.len());
    }

    fn append(&mut self, stamp: &str, text: &str, lines: usize) {
        if self.size >= FILE_BYTES {
            self.number += 1;
            self.reopen();
        }
        let note = match self.lost {
            0 => String::new(),
            lost => format!("{stamp} err [{lost} lines could not be written]\n"),
        };
        let Some(file) = &mut self.file else {
            self.lost += lines as u64;
            self.reopen();
            return;
        };
        match file.write_all(format!("{note}{text}").as_bytes()) {
            Ok(()) => {
                self.size += text.len() as u64;
                self.lost = 0;
            }
            Err(_) => self.lost += lines as u64,
        }
    }

    fn blotted(&self, line: &str) -> String {
        let mut line: String = line
            .chars()
            .map(|c| if c.is_control() && c != '\t' { ' ' } else { c })
            .collect();
        for blot in &self.blots {
            if line.contains(blot.as_str()) {
                line = line.replace(blot.as_str(), "[secret]");
            }
        }
        line
    }

    fn reopen(&mut self) {
        let path = self.dir.join(file_name(self.number));
        self.file = OpenOptions::new().create(true).append(true).open(path).ok();
        self.size = self
            .file
            .as_ref()
            .and_then(|file| file.metadata().ok())
            .map_or(0, |metadata| metadata.len());
        let known = numbers(&self.dir);
        for old in known.iter().rev().skip(FILES) {
            drop(fs::remove_file(self.dir.join(file_name(*old))));
        }
    }
}

/// The last `count` lines of the ring in `dir`, oldest first.
///
/// # Errors
/// When a file of the ring can't be read.
pub fn last_lines(dir: &Path, count: usize) -> io::Result<Vec<String>> {
    let mut lines: VecDeque<String> = VecDeque::new();
    for number in numbers(dir).into_iter().rev() {
        let text = match fs::read(dir.join(file_name(number))) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for line in String::from_utf8_lossy(&text).lines().rev() {
            if lines.len() == count {
                return Ok(lines.into());
            }
            lines.push_front(line.to_owned());
        }
    }
    Ok(lines.into())
}

/// A reader that follows the ring as it grows.
#[derive(Debug)]
pub struct Follow {
    dir: PathBuf,
    number: u64,
    offset: u64,
}

impl Follow {
    /// From the end of what there is now.
    #[must_use]
    pub fn from_end(dir: PathBuf) -> Self {
        let number = numbers(&dir).last().copied().unwrap_or(0);
        let offset = fs::metadata(dir.join(file_name(number))).map_or(0, |metadata| metadata.len());
        Self {
            dir,
            number,
            offset,
        }
    }

    /// Whole lines written since the last call; empty when there are none.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn more(&mut self) -> io::Result<String> {
        use std::io::{Read, Seek, SeekFrom};
        let mut text = Vec::new();
        match File::open(self.dir.join(file_name(self.number))) {
            Ok(mut file) => {
                file.seek(SeekFrom::Start(self.offset))?;
                file.take(FILE_BYTES).read_to_end(&mut text)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let whole = text
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        text.truncate(whole);
        self.offset += whole as u64;
        if text.is_empty()
            && let Some(next) = numbers(&self.dir).into_iter().find(|n| *n > self.number)
        {
            self.number = next;
            self.offset = 0;
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

fn file_name(number: u64) -> String {
    format!("output.{number:08}.log")
}

fn numbers(dir: &Path) -> Vec<u64> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut found: Vec<u64> = entries
        .filter_map(|entry| {
            let name = entry.ok()?.file_name();
            let name = name.to_str()?;
            name.strip_prefix("output.")?
                .strip_suffix(".log")?
                .parse()
                .ok()
        })
        .collect();
    found.sort_unstable();
    found
}

/// Every line of a secret long enough to be one.
fn blots(secrets: &[String]) -> Vec<String> {
    let mut found: Vec<String> = secrets
        .iter()
        .flat_map(|secret| secret.lines())
        .map(str::trim)
        .filter(|line| line.len() >= BLOT_BYTES)
        .map(str::to_owned)
        .collect();
    found.sort_by_key(|blot| std::cmp::Reverse(blot.len()));
    found
}

fn stamp(now: WallMs) -> String {
    let ms = i64::try_from(now.0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms)
        .map(|at| format!("{at:.3}"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallMs = WallMs(1_700_000_000_123);

    fn ring_bytes(dir: &Path) -> u64 {
        numbers(dir)
            .iter()
            .map(|n| fs::metadata(dir.join(file_name(*n))).unwrap().len())
            .sum()
    }

    #[test]
    fn lines_carry_time_and_stream() {
        let dir = tempfile::tempdir().unwrap();
        let mut output = Output::open(dir.path().to_owned(), Vec::new());
        output.take(Stream::Out, b"hel", NOW);
        output.take(Stream::Err, b"oops\n", NOW);
        output.take(Stream::Out, b"lo\nunfinished", NOW);
        output.finish(NOW);
        assert_eq!(
            last_lines(dir.path(), 10).unwrap(),
            [
                "2023-11-14T22:13:20.123Z err oops",
                "2023-11-14T22:13:20.123Z out hello",
                "2023-11-14T22:13:20.123Z out unfinished"
            ]
        );
        assert_eq!(output.last_line().as_deref(), Some("unfinished"));
    }

    #[test]
    fn h18_the_ring_is_bounded_and_keeps_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let mut output = Output::open(dir.path().to_owned(), Vec::new());
        let line = format!("{}\n", "x".repeat(1_000));
        for _ in 0..4_000 {
            output.take(Stream::Out, line.as_bytes(), NOW);
        }
        output.take(Stream::Out, b"newest\n", NOW);
        assert!(ring_bytes(dir.path()) <= FILES as u64 * (FILE_BYTES + 2_000));
        let last = last_lines(dir.path(), 1).unwrap();
        assert!(last[0].ends_with("newest"));
    }

    #[test]
    fn a_line_without_end_is_cut_and_lost_by_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let mut output = Output::open(dir.path().to_owned(), Vec::new());
        for _ in 0..20 {
            output.take(Stream::Out, &[b'y'; 1_024], NOW);
        }
        output.finish(NOW);
        let lines = last_lines(dir.path(), 100).unwrap();
        let count: usize = lines.iter().map(|line| line.matches('y').count()).sum();
        assert_eq!(count, 20 * 1_024);
        assert!(lines.len() >= 3);
    }

    #[test]
    fn h30_secrets_are_blotted_out() {
        let dir = tempfile::tempdir().unwrap();
        let mut output = Output::open(dir.path().to_owned(), vec!["hunter2-hunter2\n".to_owned()]);
        output.take(Stream::Err, b"login with hunter2-hunter2 failed\n", NOW);
        let lines = last_lines(dir.path(), 1).unwrap();
        assert!(
            lines[0].ends_with("login with [secret] failed"),
            "{lines:?}"
        );
        assert!(!output.last_line().unwrap().contains("hunter2"));
    }

    #[test]
    fn following_goes_on_into_the_next_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut output = Output::open(dir.path().to_owned(), Vec::new());
        output.take(Stream::Out, b"before\n", NOW);
        let mut follow = Follow::from_end(dir.path().to_owned());
        let line = format!("{}\n", "z".repeat(1_000));
        for _ in 0..300 {
            output.take(Stream::Out, line.as_bytes(), NOW);
        }
        output.take(Stream::Out, b"after\n", NOW);
        let mut seen = String::new();
        for _ in 0..6 {
            seen.push_str(&follow.more().unwrap());
        }
        assert!(!seen.contains("before") && seen.ends_with("after\n"));
        assert_eq!(seen.lines().count(), 301);
    }
}
