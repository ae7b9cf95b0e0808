//! Reads the topology folder of a commit straight from git objects.
//!
//! No work tree, no checkout, no filters: what the commit names is what is read, under the rules
//! and bounds of [`super::folder`]. Sizes are asked before contents, so a blob or a tree that
//! unpacks without end costs nothing. It fetches nothing and parses no YAML.

use std::collections::BTreeMap;

use git2::{ObjectType, Oid, Repository, Tree};
use stead_schemas::declared::SourceFile;

use super::folder::{
    EntryKind, Gather, IGNORE_FILE, Limits, ReadError, Step, components, too_much,
};

/// A file of the folder, its content not read yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedFile {
    /// Path within the folder, with `/`.
    pub path: String,
    /// Id of its content: equal ids, equal bytes.
    pub blob: Oid,
}

/// What happened to a file between two commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Only the newer commit has it.
    Added,
    /// Both have it, with different content.
    Modified,
    /// Only the older commit has it.
    Removed,
}

/// A file that differs between two commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedFile {
    /// Path within the folder.
    pub path: String,
    /// How it differs.
    pub change: Change,
}

/// The YAML files of `folder` in `commit`, by path.
///
/// # Errors
/// [`ReadError`], naming the path; nothing is returned then.
pub fn read_folder(
    repository: &Repository,
    commit: Oid,
    folder: Option<&str>,
    limits: &Limits,
) -> Result<Vec<SourceFile>, ReadError> {
    list_folder(repository, commit, folder, limits)?
        .into_iter()
        .map(|file| {
            let bytes = blob(repository, file.blob, &file.path)?;
            Ok(SourceFile::new(file.path, bytes))
        })
        .collect()
}

/// The same files without their contents; bounds are checked as for [`read_folder`].
///
/// # Errors
/// As [`read_folder`].
pub fn list_folder(
    repository: &Repository,
    commit: Oid,
    folder: Option<&str>,
    limits: &Limits,
) -> Result<Vec<ListedFile>, ReadError> {
    let tree = find_folder(repository, commit, folder)?;
    let listed = list(repository, &tree, limits)?;
    Ok(listed
        .into_iter()
        .map(|(path, blob)| ListedFile { path, blob })
        .collect())
}

/// The text of one file of the folder; none where it is not there, or is no text.
#[must_use]
pub fn file_text(
    repository: &Repository,
    commit: Oid,
    folder: Option<&str>,
    path: &str,
) -> Option<String> {
    let tree = find_folder(repository, commit, folder).ok()?;
    let entry = tree.get_path(std::path::Path::new(path)).ok()?;
    String::from_utf8(blob(repository, entry.id(), path).ok()?).ok()
}

/// The id of the folder's tree: equal ids, equal declared state. Plan ids are made of it.
///
/// # Errors
/// [`ReadError`] if the commit or the folder is not there.
pub fn folder_tree(
    repository: &Repository,
    commit: Oid,
    folder: Option<&str>,
) -> Result<Oid, ReadError> {
    find_folder(repository, commit, folder).map(|tree| tree.id())
}

/// The files that differ between two commits, by path; a folder that one of them lacks is empty.
///
/// Contents are not read. A changed `.steadignore` shows as the files it adds and removes.
///
/// # Errors
/// As [`read_folder`], for either commit.
pub fn changed_files(
    repository: &Repository,
    (old, new): (Oid, Oid),
    folder: Option<&str>,
    limits: &Limits,
) -> Result<Vec<ChangedFile>, ReadError> {
    let of = |commit| match find_folder(repository, commit, folder) {
        Ok(tree) => list(repository, &tree, limits),
        Err(ReadError::FolderMissing { .. }) => Ok(BTreeMap::new()),
        Err(error) => Err(error),
    };
    let (old, new) = (of(old)?, of(new)?);
    let removed = old
        .keys()
        .filter(|path| !new.contains_key(*path))
        .map(|path| (path, Change::Removed));
    let others = new.iter().filter_map(|(path, blob)| match old.get(path) {
        None => Some((path, Change::Added)),
        Some(before) if before != blob => Some((path, Change::Modified)),
        Some(_) => None,
    });
    let changes: BTreeMap<&String, Change> = removed.chain(others).collect();
    Ok(changes
        .into_iter()
        .map(|(path, change)| ChangedFile {
            path: path.clone(),
            change,
        })
        .collect())
}

fn find_folder<'r>(
    repository: &'r Repository,
    commit: Oid,
    folder: Option<&str>,
) -> Result<Tree<'r>, ReadError> {
    let parts = components(folder)?;
    let mut tree = repository
        .find_commit(commit)
        .and_then(|commit| commit.tree())
        .map_err(|source| unreadable("", commit, source))?;
    for part in parts {
        let missing = || ReadError::FolderMissing {
            folder: folder.unwrap_or_default().to_owned(),
        };
        let id = tree
            .get_name(part)
            .filter(|entry| kind(entry.filemode_raw()) == EntryKind::Folder)
            .map(|entry| entry.id())
            .ok_or_else(missing)?;
        tree = repository
            .find_tree(id)
            .map_err(|source| unreadable(part, id, source))?;
    }
    Ok(tree)
}

fn list(
    repository: &Repository,
    top: &Tree<'_>,
    limits: &Limits,
) -> Result<BTreeMap<String, Oid>, ReadError> {
    let mut gather = Gather::new(limits);
    if let Some(entry) = top.get_name(IGNORE_FILE) {
        if kind(entry.filemode_raw()) != EntryKind::File {
            let path = IGNORE_FILE.to_owned();
            return Err(ReadError::Symlink { path });
        }
        let most = Gather::<Oid>::ignore_bytes();
        if size(repository, entry.id(), IGNORE_FILE)? > most {
            return Err(too_much(IGNORE_FILE, "bytes", most));
        }
        gather.exclude(&blob(repository, entry.id(), IGNORE_FILE)?)?;
    }
    walk(repository, top, "", &mut gather)?;
    Ok(gather.finish())
}

/// Goes down one folder; as deep as [`Limits::depth`], which [`Gather::step`] enforces.
fn walk(
    repository: &Repository,
    tree: &Tree<'_>,
    folder: &str,
    gather: &mut Gather<'_, Oid>,
) -> Result<(), ReadError> {
    for entry in tree {
        let kind = kind(entry.filemode_raw());
        match gather.step(folder, entry.name_bytes(), kind)? {
            Step::Skip => {}
            Step::Read(path) => {
                gather.admit(&path, size(repository, entry.id(), &path)?)?;
                gather.keep(path, entry.id())?;
            }
            Step::Descend(path) => {
                let below = repository
                    .find_tree(entry.id())
                    .map_err(|source| unreadable(&path, entry.id(), source))?;
                walk(repository, &below, &path, gather)?;
            }
        }
    }
    Ok(())
}

/// The kind by the type bits of the mode; permission bits say nothing about it.
const fn kind(mode: i32) -> EntryKind {
    match mode & 0o170_000 {
        0o100_000 => EntryKind::File,
        0o040_000 => EntryKind::Folder,
        0o120_000 => EntryKind::Symlink,
        0o160_000 => EntryKind::Submodule,
        _ => EntryKind::Other,
    }
}

fn size(repository: &Repository, id: Oid, path: &str) -> Result<u64, ReadError> {
    let (size, kind) = repository
        .odb()
        .and_then(|odb| odb.read_header(id))
        .map_err(|source| unreadable(path, id, source))?;
    if kind != ObjectType::Blob {
        let path = path.to_owned();
        return Err(ReadError::NotAFile { path });
    }
    Ok(size as u64)
}

fn blob(repository: &Repository, id: Oid, path: &str) -> Result<Vec<u8>, ReadError> {
    let blob = repository
        .find_blob(id)
        .map_err(|source| unreadable(path, id, source))?;
    Ok(blob.content().to_vec())
}

fn unreadable(path: &str, id: Oid, source: git2::Error) -> ReadError {
    ReadError::Object {
        path: path.to_owned(),
        id: id.to_string(),
        source,
    }
}
