//! What people told this agent by hand, kept beside its ledger (H31): `commands.log`, one JSON object a
//! line, synced; the reconciler's journal may be gone on the night it is asked about.
//!
//! Two files of bounded size. It is read by people and by nothing else; a line that can't be written
//! is logged and stops no command.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::Serialize;
use site_voting::durable::sync_folder;
use stead_schemas::names::Identity;
use stead_schemas::time::WallMs;

/// The file in the state folder.
pub const FILE: &str = "commands.log";
const OLDER: &str = "commands.log.1";
/// Past this it becomes the older one.
const SIZE_MAX: u64 = 256 * 1024;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    at: WallMs,
    by: String,
    text: &'a str,
}

/// Writes one line.
///
/// # Errors
/// What the disk says.
pub fn note(folder: &Path, by: &Identity, text: &str, at: WallMs) -> io::Result<()> {
    let path = folder.join(FILE);
    if fs::metadata(&path).is_ok_and(|meta| meta.len() > SIZE_MAX) {
        fs::rename(&path, folder.join(OLDER))?;
    }
    let by = by.to_string();
    let mut line = serde_json::to_vec(&Line { at, by, text }).map_err(io::Error::other)?;
    line.push(b'\n');
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&path)?;
    file.write_all(&line)?;
    file.sync_all()?;
    sync_folder(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_kept_and_the_file_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let by: Identity = "stead://lab/operator/alice".parse().unwrap();
        let long = "x".repeat(100 * 1024);
        for at in 0..6 {
            note(dir.path(), &by, &long, WallMs(at)).unwrap();
        }
        let new = fs::read_to_string(dir.path().join(FILE)).unwrap();
        assert!(new.contains("\"at\":5") && new.contains("alice"), "{new}");
        let size = fs::metadata(dir.path().join(OLDER)).unwrap().len();
        assert!(size < 2 * SIZE_MAX);
    }
}
