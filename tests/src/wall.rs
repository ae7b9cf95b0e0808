//! Wall clocks of single programs, by libfaketime: what a program asks of libc is moved, nothing else. Its
//! monotonic clocks are the machine's, and so is everything that is read past libc: of ours, the clocks
//! of leases and of the site server.

use std::fs;
use std::path::{Path, PathBuf};

/// Where Debian puts it.
fn library() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").expect("there are libraries");
    folders
        .flatten()
        .map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"))
        .find(|library| library.exists())
        .expect("libfaketime (tests/run installs it)")
}

/// What a program is started with whose wall clock is set in this file.
///
/// # Panics
/// When there is no libfaketime.
#[must_use]
pub fn environment(file: &Path) -> [(&'static str, PathBuf); 5] {
    let yes = || PathBuf::from("1");
    [
        ("LD_PRELOAD", library()),
        ("FAKETIME_TIMESTAMP_FILE", file.to_owned()),
        ("FAKETIME_NO_CACHE", yes()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", yes()),
        ("NO_FAKE_STAT", yes()),
    ]
}

/// Sets it so many seconds ahead of the machine's, or behind it.
///
/// # Panics
/// When it can't be written.
pub fn set(file: &Path, seconds: i64) {
    // Readers never see half of it.
    let new = file.with_extension("new");
    fs::write(&new, format!("{seconds:+}")).expect("a file");
    fs::rename(new, file).expect("a file");
}
