//! Writing a file so that a crash leaves the old one or the new one: temporary, synced, renamed,
//! folder synced (design section 5).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Replaces `folder/name`. When it fails, the old file is still there and whole.
///
/// # Errors
/// The first thing that went wrong; a full disk among others.
pub fn write(folder: &Path, name: &str, content: &[u8], mode: u32) -> io::Result<()> {
    let temporary = folder.join(format!(".{name}.new"));
    let target = folder.join(name);
    let written = write_synced(&temporary, content, mode)
        .and_then(|()| fs::rename(&temporary, &target))
        .and_then(|()| sync_folder(folder));
    if written.is_err() {
        drop(fs::remove_file(&temporary));
    }
    written
}

/// Replaces `folder/name` for readers of this boot; after a crash of the machine it may be the old
/// file, the new one, or empty.
///
/// # Errors
/// What the system says; then the old file is still there.
pub fn replace(folder: &Path, name: &str, content: &[u8], mode: u32) -> io::Result<()> {
    let temporary = folder.join(format!(".{name}.new"));
    let written = create(&temporary, mode)
        .and_then(|mut file| file.write_all(content))
        .and_then(|()| fs::rename(&temporary, folder.join(name)));
    if written.is_err() {
        drop(fs::remove_file(&temporary));
    }
    written
}

/// Makes names made, renamed or removed in `folder` durable.
///
/// # Errors
/// What the system says.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    File::open(folder)?.sync_all()
}

fn write_synced(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = create(path, mode)?;
    file.write_all(content)?;
    file.sync_all()
}

fn create(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn replaces_and_leaves_nothing_beside() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a.json", b"one", 0o600).unwrap();
        write(dir.path(), "a.json", b"two", 0o600).unwrap();
        assert_eq!(fs::read(dir.path().join("a.json")).unwrap(), b"two");
        let mode = fs::metadata(dir.path().join("a.json")).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failure_leaves_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a.json")).unwrap();
        assert!(write(dir.path(), "a.json", b"two", 0o600).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
