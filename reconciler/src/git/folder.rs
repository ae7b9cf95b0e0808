//! Which files of a topology folder are read, wherever the folder is kept.
//!
//! One set of rules for a commit's objects and for a plain directory (design section 3): YAML
//! files only, no dot-files, `.steadignore` excludes, nothing that reaches outside, nothing
//! without a bound. It opens nothing itself; [`super::tree`] and [`super::disk`] do.

use std::collections::BTreeMap;

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use thiserror::Error;

/// The file at the top of the folder whose lines, in gitignore syntax, name what is not read.
pub(super) const IGNORE_FILE: &str = ".steadignore";
const IGNORE_BYTES: u64 = 64 * 1024;
const IGNORE_LINES: usize = 1_000;

/// Bounds on what one folder may hold.
///
/// The defaults are several times the largest supported hierarchy (6,276 sites, 3.3 MiB, H23).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// YAML files.
    pub files: usize,
    /// Bytes of one file.
    pub file_bytes: u64,
    /// Bytes of all files together.
    pub total_bytes: u64,
    /// Folders below each other.
    pub depth: usize,
    /// Names looked at, read or not: a tree of a few objects can name billions of paths.
    pub entries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            files: 20_000,
            file_bytes: 8 * 1024 * 1024,
            total_bytes: 64 * 1024 * 1024,
            depth: 32,
            entries: 200_000,
        }
    }
}

/// Why a folder could not be read. Nothing of it is used then.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The configured folder is not a plain relative path.
    #[error("`{folder}` is not a folder inside the repository")]
    FolderName {
        /// As configured.
        folder: String,
    },
    /// The folder does not exist there.
    #[error("there is no folder `{folder}`")]
    FolderMissing {
        /// As configured, or the path on disk.
        folder: String,
    },
    /// A symbolic link; it could lead outside.
    #[error("{path}: is a symbolic link, and links are not followed")]
    Symlink {
        /// Within the folder.
        path: String,
    },
    /// A submodule, or a repository inside the folder.
    #[error("{path}: is a submodule, and submodules are not read")]
    Submodule {
        /// Within the folder.
        path: String,
    },
    /// A device, socket or pipe.
    #[error("{path}: is neither a file nor a folder")]
    NotAFile {
        /// Within the folder.
        path: String,
    },
    /// A name that no checkout would accept, or that cannot be shown.
    #[error("{path}: is not a usable name")]
    Name {
        /// Within the folder, escaped.
        path: String,
    },
    /// A tree that names the same path twice; git itself never writes one.
    #[error("{path}: is in the tree twice")]
    Twice {
        /// Within the folder.
        path: String,
    },
    /// A `.steadignore` that is not at the top.
    #[error("{path}: only the `.steadignore` at the top of the folder counts")]
    NestedIgnore {
        /// Within the folder.
        path: String,
    },
    /// A line of `.steadignore` that means nothing.
    #[error(".steadignore:{line}: is not a gitignore pattern")]
    IgnoreLine {
        /// Counted from 1.
        line: usize,
        /// What the pattern parser says.
        source: Option<ignore::Error>,
    },
    /// More than [`Limits`] allow.
    #[error("{path}: too large: more than {limit} {what}")]
    TooMuch {
        /// Where the bound was passed; empty: the folder as a whole.
        path: String,
        /// What there is too much of.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// The object store does not give the object.
    #[error("{path}: git object {id} is unreadable")]
    Object {
        /// Within the folder.
        path: String,
        /// Full id.
        id: String,
        /// What libgit2 says.
        source: git2::Error,
    },
    /// The disk does not give the file.
    #[error("{path}: cannot be read")]
    Disk {
        /// Within the folder.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
}

impl ReadError {
    /// The file or folder it is about, where it is about one.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::FolderName { .. } | Self::FolderMissing { .. } => None,
            Self::IgnoreLine { .. } => Some(IGNORE_FILE),
            Self::Symlink { path }
            | Self::Submodule { path }
            | Self::NotAFile { path }
            | Self::Name { path }
            | Self::Twice { path }
            | Self::NestedIgnore { path }
            | Self::TooMuch { path, .. }
            | Self::Object { path, .. }
            | Self::Disk { path, .. } => Some(path).filter(|p| !p.is_empty()).map(String::as_str),
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::FolderName { .. } => "write it as `sites/production`, without `..`",
            Self::FolderMissing { .. } => "correct `git.folder`, or commit the folder",
            Self::Symlink { .. } | Self::Submodule { .. } => {
                "commit the files themselves, or exclude the path in .steadignore"
            }
            Self::NotAFile { .. } => "remove it, or exclude the path in .steadignore",
            Self::Name { .. } => "rename it: UTF-8, no control characters",
            Self::Twice { .. } => "the commit is damaged: `git fsck` in the repository it is from",
            Self::NestedIgnore { .. } => "move its lines to the .steadignore at the top",
            Self::IgnoreLine { .. } => "write it as in a .gitignore, or remove the line",
            Self::TooMuch { .. } => "split it, or exclude what is no topology in .steadignore",
            Self::Object { .. } => "remove mirror.git in the state folder; it is fetched again",
            Self::Disk { .. } => "give the user it runs as the right to read it",
        }
    }
}

/// Whether a name in a folder of the topology is YAML that is read; dot-files are not.
#[must_use]
pub(super) fn is_yaml(name: &str) -> bool {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    ending.eq_ignore_ascii_case("yaml") || ending.eq_ignore_ascii_case("yml")
}

/// What an entry is, as far as the rules care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryKind {
    File,
    Folder,
    Symlink,
    Submodule,
    Other,
}

/// What to do with an entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Skip,
    Descend(String),
    Read(String),
}

/// The rules, and the count of what they let through; `T` is what the caller keeps a file.
pub(super) struct Gather<'l, T> {
    limits: &'l Limits,
    ignore: Gitignore,
    entries: usize,
    bytes: u64,
    found: BTreeMap<String, T>,
}

impl<'l, T> Gather<'l, T> {
    pub(super) fn new(limits: &'l Limits) -> Self {
        Self {
            limits,
            ignore: Gitignore::empty(),
            entries: 0,
            bytes: 0,
            found: BTreeMap::new(),
        }
    }

    /// Largest `.steadignore`, for whoever reads it.
    pub(super) const fn ignore_bytes() -> u64 {
        IGNORE_BYTES
    }

    /// Takes the rules of the `.steadignore` at the top; before any entry.
    pub(super) fn exclude(&mut self, text: &[u8]) -> Result<(), ReadError> {
        let text = std::str::from_utf8(text).map_err(|e| ReadError::IgnoreLine {
            line: 1 + text[..e.valid_up_to()]
                .iter()
                .filter(|b| **b == b'\n')
                .count(),
            source: None,
        })?;
        let mut builder = GitignoreBuilder::new("");
        for (number, line) in text.lines().enumerate() {
            if number >= IGNORE_LINES {
                return Err(too_much(IGNORE_FILE, "lines", IGNORE_LINES as u64));
            }
            let refused = |source| ReadError::IgnoreLine {
                line: number + 1,
                source: Some(source),
            };
            builder.add_line(None, line).map_err(refused)?;
        }
        self.ignore = builder.build().map_err(|source| ReadError::IgnoreLine {
            line: 1,
            source: Some(source),
        })?;
        Ok(())
    }

    /// Decides about the entry `name` of `folder` (empty at the top, else ending in `/`).
    pub(super) fn step(
        &mut self,
        folder: &str,
        name: &[u8],
        kind: EntryKind,
    ) -> Result<Step, ReadError> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(too_much(folder, "names", self.limits.entries as u64));
        }
        let Some(name) = usable(name) else {
            let path = format!("{folder}{}", name.escape_ascii());
            return Err(ReadError::Name { path });
        };
        let path = format!("{folder}{name}");
        if name == IGNORE_FILE && !folder.is_empty() {
            return Err(ReadError::NestedIgnore { path });
        }
        if name.starts_with('.') || self.is_excluded(&path, kind) {
            return Ok(Step::Skip);
        }
        match kind {
            EntryKind::Symlink => Err(ReadError::Symlink { path }),
            EntryKind::Submodule => Err(ReadError::Submodule { path }),
            EntryKind::Other => Err(ReadError::NotAFile { path }),
            EntryKind::File if is_yaml(name) => Ok(Step::Read(path)),
            EntryKind::File => Ok(Step::Skip),
            EntryKind::Folder if path.matches('/').count() >= self.limits.depth => Err(too_much(
                &path,
                "folders below each other",
                self.limits.depth as u64,
            )),
            EntryKind::Folder => Ok(Step::Descend(path + "/")),
        }
    }

    fn is_excluded(&self, path: &str, kind: EntryKind) -> bool {
        let is_folder = matches!(kind, EntryKind::Folder | EntryKind::Submodule);
        self.ignore.matched(path, is_folder).is_ignore()
    }

    /// Counts a file in before its content is read.
    pub(super) fn admit(&mut self, path: &str, size: u64) -> Result<(), ReadError> {
        let Limits {
            files,
            file_bytes,
            total_bytes,
            ..
        } = *self.limits;
        if size > file_bytes {
            return Err(too_much(path, "bytes in one file", file_bytes));
        }
        self.bytes += size;
        if self.bytes > total_bytes {
            return Err(too_much(path, "bytes in all files", total_bytes));
        }
        if self.found.len() >= files {
            return Err(too_much(path, "YAML files", files as u64));
        }
        Ok(())
    }

    /// Keeps what was found at `path`.
    pub(super) fn keep(&mut self, path: String, found: T) -> Result<(), ReadError> {
        match self.found.entry(path) {
            std::collections::btree_map::Entry::Occupied(taken) => Err(ReadError::Twice {
                path: taken.key().clone(),
            }),
            std::collections::btree_map::Entry::Vacant(free) => {
                free.insert(found);
                Ok(())
            }
        }
    }

    /// Everything kept, by path.
    pub(super) fn finish(self) -> BTreeMap<String, T> {
        self.found
    }
}

pub(super) fn too_much(path: &str, what: &'static str, limit: u64) -> ReadError {
    ReadError::TooMuch {
        path: path.to_owned(),
        what,
        limit,
    }
}

/// The name, if it is one that a checkout could have and a terminal can show.
fn usable(name: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(name).ok()?;
    let plain = !text.is_empty() && text != "." && text != ".." && text.len() <= 255;
    (plain && !text.contains(|c: char| c == '/' || c == '\\' || c.is_control())).then_some(text)
}

/// The components of a configured folder; refuses what could lead elsewhere.
pub(super) fn components(folder: Option<&str>) -> Result<Vec<&str>, ReadError> {
    let Some(folder) = folder else {
        return Ok(Vec::new());
    };
    let trimmed = folder.strip_suffix('/').unwrap_or(folder);
    if trimmed.is_empty() || trimmed == "." {
        return Ok(Vec::new());
    }
    let parts: Vec<&str> = trimmed.split('/').collect();
    if parts.iter().all(|part| usable(part.as_bytes()).is_some()) {
        return Ok(parts);
    }
    Err(ReadError::FolderName {
        folder: folder.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(rules: &str, folder: &str, name: &str, kind: EntryKind) -> Result<Step, ReadError> {
        let limits = Limits::default();
        let mut gather = Gather::<()>::new(&limits);
        gather.exclude(rules.as_bytes()).unwrap();
        gather.step(folder, name.as_bytes(), kind)
    }

    #[test]
    fn only_yaml_without_a_dot_in_front_is_read() {
        let read = |name: &str| step("", "", name, EntryKind::File).unwrap();
        assert_eq!(read("a.yaml"), Step::Read("a.yaml".into()));
        assert_eq!(read("a.YML"), Step::Read("a.YML".into()));
        assert_eq!(read("README.md"), Step::Skip);
        assert_eq!(read(".gitlab-ci.yml"), Step::Skip, "H37");
    }

    #[test]
    fn ignore_rules_are_those_of_git() {
        let rules = "# drafts\n/drafts/\n*.tmp.yaml\n!keep.tmp.yaml\nlink\n";
        let of = |folder: &str, name: &str, kind| step(rules, folder, name, kind).unwrap();
        assert_eq!(of("", "drafts", EntryKind::Folder), Step::Skip);
        assert_eq!(
            of("a/", "drafts", EntryKind::Folder),
            Step::Descend("a/drafts/".into())
        );
        assert_eq!(of("a/", "x.tmp.yaml", EntryKind::File), Step::Skip);
        assert_eq!(
            of("", "keep.tmp.yaml", EntryKind::File),
            Step::Read("keep.tmp.yaml".into())
        );
        assert_eq!(of("", "link", EntryKind::Symlink), Step::Skip);
    }

    #[test]
    fn names_that_reach_outside_are_refused() {
        for name in ["..", ".", "", "a/b", "a\\b", "a\nb"] {
            let error = step("", "x/", name, EntryKind::File).unwrap_err();
            assert!(matches!(error, ReadError::Name { .. }), "{name:?}: {error}");
        }
        for folder in ["../x", "/etc", "a//b", "a/../b"] {
            assert!(components(Some(folder)).is_err(), "{folder}");
        }
        assert_eq!(components(Some("a/b/")).unwrap(), ["a", "b"]);
        assert!(components(Some(".")).unwrap().is_empty());
    }

    #[test]
    fn an_ignore_file_that_means_nothing_names_its_line() {
        let limits = Limits::default();
        let mut gather = Gather::<()>::new(&limits);
        let error = gather.exclude(b"a\n[z-a]\n").unwrap_err();
        assert!(
            matches!(error, ReadError::IgnoreLine { line: 2, .. }),
            "{error}"
        );
        let error = gather.exclude(b"a\nb\n\xff\n").unwrap_err();
        assert!(
            matches!(error, ReadError::IgnoreLine { line: 3, .. }),
            "{error}"
        );
    }
}
