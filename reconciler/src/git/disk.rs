//! Reads a topology folder from a plain directory, for `stead check PATH` and editors.
//!
//! The same rules, bounds and result as for a commit ([`super::tree`]), so that what checks on a
//! laptop checks in the reconciler. Folders are opened from their parent's handle and links never
//! followed, so nothing swapped in meanwhile leads outside. It knows nothing of git: files that
//! are not committed are read as well.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use stead_schemas::declared::SourceFile;

use super::folder::{EntryKind, Gather, IGNORE_FILE, Limits, ReadError, Step, too_much};

/// The YAML files below `folder`, by path.
///
/// # Errors
/// [`ReadError`], naming the path; nothing is returned then.
pub fn read_folder_at_path(folder: &Path, limits: &Limits) -> Result<Vec<SourceFile>, ReadError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = openat(CWD, folder, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::NOENT | Errno::NOTDIR => ReadError::FolderMissing {
            folder: folder.display().to_string(),
        },
        other => unreadable(&folder.display().to_string(), other),
    })?;
    let mut gather = Gather::new(limits);
    if let Some(text) = read_ignore_file(&top)? {
        gather.exclude(&text)?;
    }
    walk(&top, "", &mut gather)?;
    Ok(gather
        .finish()
        .into_iter()
        .map(|(path, bytes)| SourceFile { path, bytes })
        .collect())
}

fn read_ignore_file(top: &OwnedFd) -> Result<Option<Vec<u8>>, ReadError> {
    let most = Gather::<Vec<u8>>::ignore_bytes();
    let file = match open(top, IGNORE_FILE, IGNORE_FILE) {
        Err(ReadError::Disk { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return Ok(None);
        }
        other => other?,
    };
    if kind(FileType::from_raw_mode(stat(&file, IGNORE_FILE)?.st_mode)) != EntryKind::File {
        let path = IGNORE_FILE.to_owned();
        return Err(ReadError::NotAFile { path });
    }
    let bytes = read_at_most(file, most, IGNORE_FILE)?;
    if bytes.len() as u64 > most {
        return Err(too_much(IGNORE_FILE, "bytes", most));
    }
    Ok(Some(bytes))
}

/// Goes down one folder, names in order.
fn walk(folder: &OwnedFd, path: &str, gather: &mut Gather<'_, Vec<u8>>) -> Result<(), ReadError> {
    for (name, listed) in names(folder, path)? {
        let is_repository = listed == EntryKind::Folder && holds_repository(folder, &name);
        let kind = if is_repository {
            EntryKind::Submodule
        } else {
            listed
        };
        match gather.step(path, &name, kind)? {
            Step::Skip => {}
            Step::Read(path) => read(folder, &name, path, gather)?,
            Step::Descend(path) => {
                let below = open(folder, &name[..], &path)?;
                walk(&below, &path, gather)?;
            }
        }
    }
    Ok(())
}

/// The names of a folder with what they are, in order.
fn names(folder: &OwnedFd, path: &str) -> Result<Vec<(Vec<u8>, EntryKind)>, ReadError> {
    let failed = |errno| unreadable(path, errno);
    let mut names = Vec::new();
    for entry in Dir::read_from(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let mut file_type = entry.file_type();
        if file_type == FileType::Unknown {
            let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
            let stat = rustix::fs::statat(folder, name, flags).map_err(failed)?;
            file_type = FileType::from_raw_mode(stat.st_mode);
        }
        names.push((name.to_bytes().to_vec(), kind(file_type)));
    }
    names.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(names)
}

/// A folder with a `.git` of its own is a submodule to whoever commits it.
fn holds_repository(folder: &OwnedFd, name: &[u8]) -> bool {
    let inner = [name, b"/.git"].concat();
    rustix::fs::statat(folder, &inner[..], rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

fn read(
    folder: &OwnedFd,
    name: &[u8],
    path: String,
    gather: &mut Gather<'_, Vec<u8>>,
) -> Result<(), ReadError> {
    let file = open(folder, name, &path)?;
    let stat = stat(&file, &path)?;
    if kind(FileType::from_raw_mode(stat.st_mode)) != EntryKind::File {
        return Err(ReadError::NotAFile { path });
    }
    let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
    gather.admit(&path, size)?;
    let bytes = read_at_most(file, size, &path)?;
    if bytes.len() as u64 > size {
        let source = std::io::Error::other("it grew while it was read");
        return Err(ReadError::Disk { path, source });
    }
    gather.keep(path, bytes)
}

/// Opens a name of a folder without following a link, and without waiting for a pipe's writer.
fn open<P: rustix::path::Arg>(folder: &OwnedFd, name: P, path: &str) -> Result<OwnedFd, ReadError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    openat(folder.as_fd(), name, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::LOOP => ReadError::Symlink {
            path: path.to_owned(),
        },
        other => unreadable(path, other),
    })
}

fn stat(file: &OwnedFd, path: &str) -> Result<rustix::fs::Stat, ReadError> {
    fstat(file).map_err(|errno| unreadable(path, errno))
}

/// The content up to one byte more than `most`, so that the caller sees that there is more.
fn read_at_most(file: OwnedFd, most: u64, path: &str) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    File::from(file)
        .take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| ReadError::Disk {
            path: path.to_owned(),
            source,
        })?;
    Ok(bytes)
}

const fn kind(file_type: FileType) -> EntryKind {
    match file_type {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Folder,
        FileType::Symlink => EntryKind::Symlink,
        _ => EntryKind::Other,
    }
}

fn unreadable(path: &str, errno: Errno) -> ReadError {
    ReadError::Disk {
        path: path.to_owned(),
        source: errno.into(),
    }
}
