//! The bare mirror in the state folder: every commit that was seen and may still be needed.
//!
//! It is a cache with two marks that matter: `refs/stead/head`, the newest commit seen, and
//! `refs/stead/in-force`, the revision that is being applied. Both keep their history through a
//! force-push, through a repository that is gone, and through [`Mirror::compact`]. A mirror that
//! cannot be read is moved aside and fetched again. It does not fetch ([`super::fetch`]).

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use git2::{ErrorCode, Oid, Repository, RepositoryInitOptions};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Where a fetch leaves what it got, until it was looked at.
pub(super) const FETCHED: &str = "refs/stead/fetched";
const HEAD: &str = "refs/stead/head";
const IN_FORCE: &str = "refs/stead/in-force";
const KEPT: &str = "+refs/stead/*:refs/stead/*";
/// Each fetch that brings something adds a pack, and each lookup asks all packs.
const MOST_PACKS: usize = 64;

/// The mirror below one state folder; one process has it at a time.
#[derive(Debug)]
pub struct Mirror {
    path: PathBuf,
    /// Held while marks are set or the folder is exchanged.
    marks: Mutex<()>,
    /// Held by a libgit2 fetch as long as it runs, also when nobody waits for it any more.
    turn: Arc<Semaphore>,
    /// Locked as long as the mirror is open.
    _owner: File,
}

/// Why the mirror cannot be used.
#[derive(Debug, Error)]
pub enum MirrorError {
    /// Another process has it.
    #[error("{path}: another reconciler is using this state folder")]
    InUse {
        /// The lock file.
        path: PathBuf,
    },
    /// The state folder does not take it.
    #[error("{path}: cannot be used for the git mirror")]
    Disk {
        /// File or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// libgit2 cannot read or write it.
    #[error("{path}: the git mirror is unusable")]
    Git {
        /// The mirror.
        path: PathBuf,
        /// What libgit2 says.
        source: git2::Error,
    },
}

impl MirrorError {
    /// What to do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::InUse { .. } => "stop the other one, or give this one a `stateDir` of its own",
            Self::Disk { .. } => "check that the folder exists, is writable and has room",
            Self::Git { .. } => "stop the reconciler and remove the folder; it is fetched again",
        }
    }
}

impl Mirror {
    /// Opens or makes the mirror of a state folder, and removes what a killed process left.
    ///
    /// # Errors
    /// [`MirrorError`]; a mirror that is merely damaged is no error, it is made anew.
    pub fn open(state_dir: &Path) -> Result<Self, MirrorError> {
        std::fs::create_dir_all(state_dir).map_err(disk(state_dir))?;
        let owner = own(&state_dir.join("mirror.lock"))?;
        let mirror = Self {
            path: state_dir.join("mirror.git"),
            marks: Mutex::new(()),
            turn: Arc::new(Semaphore::new(1)),
            _owner: owner,
        };
        mirror.sweep();
        if mirror.path.exists() && mirror.usable().is_err() {
            let aside = state_dir.join("mirror.git.damaged");
            tracing::warn!(mirror = %mirror.path.display(), "git mirror is damaged; made anew");
            remove_folder(&aside).map_err(disk(&aside))?;
            std::fs::rename(&mirror.path, &aside).map_err(disk(&aside))?;
        }
        if !mirror.path.exists() {
            mirror.make(&mirror.path)?;
        }
        Ok(mirror)
    }

    /// A handle of the caller's own; handles are not shared between threads.
    ///
    /// # Errors
    /// [`MirrorError::Git`].
    pub fn repository(&self) -> Result<Repository, MirrorError> {
        Repository::open_bare(&self.path).map_err(self.git())
    }

    /// The newest commit seen, also by earlier processes.
    ///
    /// # Errors
    /// [`MirrorError::Git`].
    pub fn head(&self) -> Result<Option<Oid>, MirrorError> {
        self.mark(HEAD)
    }

    /// Marks the revision in force; its history stays readable whatever happens to the remote.
    ///
    /// # Errors
    /// [`MirrorError::Git`], also where the commit is not in the mirror.
    pub fn pin(&self, revision: Oid) -> Result<(), MirrorError> {
        self.set_mark(IN_FORCE, revision, "in force")
    }

    /// The revision last pinned.
    ///
    /// # Errors
    /// [`MirrorError::Git`].
    pub fn pinned(&self) -> Result<Option<Oid>, MirrorError> {
        self.mark(IN_FORCE)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn local_turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.turn).try_acquire_owned().ok()
    }

    pub(super) fn advance(&self, revision: Oid) -> Result<(), MirrorError> {
        self.set_mark(HEAD, revision, "seen")
    }

    /// Removes locks and half-written packs of a fetch that was killed; none may be running.
    /// Answers the size of the largest.
    pub(super) fn sweep(&self) -> u64 {
        let _marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let is_lock = |name: &str| name.ends_with(".lock");
        for folder in ["", "refs/stead"] {
            remove_files(&self.path.join(folder), is_lock);
        }
        remove_files(&self.path.join("objects/pack"), |name| {
            !name.starts_with("pack-")
        })
    }

    /// Writes everything the marks reach into one pack, once there are many.
    pub(super) fn compact(&self) -> Result<(), MirrorError> {
        let packs = self.path.join("objects/pack");
        let is_pack = |entry: &std::fs::DirEntry| {
            let path = entry.path();
            path.extension().is_some_and(|ending| ending == "pack")
        };
        let count = std::fs::read_dir(&packs)
            .map_err(disk(&packs))?
            .flatten()
            .filter(is_pack)
            .count();
        if count <= MOST_PACKS {
            return Ok(());
        }
        let _marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = self.path.with_extension("git.new");
        remove_folder(&fresh).map_err(disk(&fresh))?;
        self.make(&fresh)?;
        self.copy_marked(&fresh).map_err(self.git())?;
        renameat_with(CWD, &fresh, CWD, &self.path, RenameFlags::EXCHANGE)
            .map_err(|errno| disk(&fresh)(errno.into()))?;
        remove_folder(&fresh).map_err(disk(&fresh))
    }

    fn copy_marked(&self, to: &Path) -> Result<(), git2::Error> {
        let repository = Repository::open_bare(to)?;
        let mut options = git2::FetchOptions::new();
        options.download_tags(git2::AutotagOption::None);
        options.update_fetchhead(false);
        let from = self.path.to_str().unwrap_or_default();
        repository
            .remote_anonymous(from)?
            .fetch(&[KEPT], Some(&mut options), None)
    }

    fn make(&self, path: &Path) -> Result<(), MirrorError> {
        let mut options = RepositoryInitOptions::new();
        options.bare(true).mkdir(true).external_template(false);
        let repository = Repository::init_opts(path, &options).map_err(self.git())?;
        let mut config = repository.config().map_err(self.git())?;
        // A power cut must not leave marks that name objects which never reached the disk.
        config
            .set_bool("core.fsyncObjectFiles", true)
            .map_err(self.git())
    }

    fn usable(&self) -> Result<(), MirrorError> {
        let repository = self.repository()?;
        for mark in [self.head()?, self.pinned()?].into_iter().flatten() {
            let commit = repository.find_commit(mark).map_err(self.git())?;
            commit.tree().map_err(self.git())?;
        }
        Ok(())
    }

    fn mark(&self, name: &str) -> Result<Option<Oid>, MirrorError> {
        match self.repository()?.refname_to_id(name) {
            Ok(id) => Ok(Some(id)),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(self.git()(error)),
        }
    }

    fn set_mark(&self, name: &str, revision: Oid, why: &str) -> Result<(), MirrorError> {
        let _marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let repository = self.repository()?;
        repository.find_commit(revision).map_err(self.git())?;
        repository
            .reference(name, revision, true, why)
            .map(|_| ())
            .map_err(self.git())
    }

    fn git(&self) -> impl Fn(git2::Error) -> MirrorError + use<> {
        let path = self.path.clone();
        move |source| MirrorError::Git {
            path: path.clone(),
            source,
        }
    }
}

fn disk(path: &Path) -> impl Fn(std::io::Error) -> MirrorError + use<> {
    let path = path.to_owned();
    move |source| MirrorError::Disk {
        path: path.clone(),
        source,
    }
}

fn own(path: &Path) -> Result<File, MirrorError> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(disk(path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(MirrorError::InUse {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(disk(path)(source)),
    }
}

fn remove_folder(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Best effort: what cannot be removed shows up as the next fetch's error. Answers the size of the
/// largest file removed.
fn remove_files(folder: &Path, unwanted: impl Fn(&str) -> bool) -> u64 {
    let mut largest = 0;
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && entry.file_name().to_str().is_some_and(&unwanted) {
            let size = entry.metadata().map_or(0, |facts| facts.len());
            if std::fs::remove_file(entry.path()).is_ok() {
                largest = largest.max(size);
            }
        }
    }
    largest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::fetch;
    use crate::git::remote::Remote;

    fn commit(repository: &Repository, parent: Option<Oid>, text: &str) -> Oid {
        let who = git2::Signature::now("t", "t@example.org").unwrap();
        let mut tree = repository.treebuilder(None).unwrap();
        let blob = repository.blob(text.as_bytes()).unwrap();
        tree.insert("a.yaml", blob, 0o100_644).unwrap();
        let tree = repository.find_tree(tree.write().unwrap()).unwrap();
        let parent = parent.map(|id| repository.find_commit(id).unwrap());
        let parents: Vec<_> = parent.iter().collect();
        let id = repository
            .commit(None, &who, &who, text, &tree, &parents)
            .unwrap();
        repository
            .reference("refs/heads/main", id, true, "t")
            .unwrap();
        id
    }

    fn packs(mirror: &Mirror) -> usize {
        let folder = std::fs::read_dir(mirror.path.join("objects/pack")).unwrap();
        let names = folder.map(|entry| entry.unwrap().file_name());
        names
            .filter(|name| name.to_string_lossy().ends_with(".pack"))
            .count()
    }

    #[tokio::test]
    async fn many_fetches_end_in_few_packs_and_lose_nothing_that_is_marked() {
        let dir = tempfile::tempdir().unwrap();
        let source = Repository::init_bare(dir.path().join("t.git")).unwrap();
        let url = source.path().to_str().unwrap();
        let settings = serde_json::from_value(serde_json::json!({ "url": url })).unwrap();
        let remote = Remote::from_settings(&settings).unwrap();
        let mirror = Arc::new(Mirror::open(&dir.path().join("state")).unwrap());
        let pinned = commit(&source, None, "pinned");
        let held_open = mirror.repository().unwrap();
        let mut most = 0;
        let mut tip = None;
        for number in 0..MOST_PACKS + 4 {
            if number > 0 {
                // The first of these starts a history of its own: a rewrite.
                tip = Some(commit(&source, tip, &number.to_string()));
            }
            let fetched = fetch::fetch(&mirror, &remote).await.unwrap();
            mirror.advance(fetched).unwrap();
            if number == 0 {
                mirror.pin(fetched).unwrap();
            }
            most = most.max(packs(&mirror));
            mirror.compact().unwrap();
        }
        assert!(most > MOST_PACKS, "{most} packs: nothing to compact");
        assert!(packs(&mirror) < 8, "{}", packs(&mirror));
        assert_eq!(mirror.pinned().unwrap(), Some(pinned));
        assert_eq!(mirror.head().unwrap(), tip);
        let fresh = mirror.repository().unwrap();
        for repository in [&fresh, &held_open] {
            assert!(repository.find_commit(pinned).unwrap().tree().is_ok());
            assert!(repository.find_commit(tip.unwrap()).unwrap().tree().is_ok());
        }
    }

    #[test]
    fn a_state_folder_has_one_owner() {
        let dir = tempfile::tempdir().unwrap();
        let first = Mirror::open(dir.path()).unwrap();
        let error = Mirror::open(dir.path()).unwrap_err();
        assert!(matches!(error, MirrorError::InUse { .. }), "{error}");
        drop(first);
        Mirror::open(dir.path()).unwrap();
    }

    #[test]
    fn what_a_killed_process_left_is_swept_and_damage_is_moved_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = Mirror::open(dir.path()).unwrap().path.clone();
        let repository = Repository::open_bare(&path).unwrap();
        let id = commit(&repository, None, "x");
        let leftovers = [
            "refs/stead/head.lock",
            "objects/pack/tmp_pack_x",
            "packed-refs.lock",
        ];
        std::fs::create_dir_all(path.join("refs/stead")).unwrap();
        for leftover in leftovers {
            std::fs::write(path.join(leftover), "").unwrap();
        }
        let mirror = Mirror::open(dir.path()).unwrap();
        assert!(
            leftovers
                .iter()
                .all(|leftover| !path.join(leftover).exists())
        );
        mirror.advance(id).unwrap();
        drop(mirror);
        std::fs::write(path.join("refs/stead/head"), "").unwrap();
        let mirror = Mirror::open(dir.path()).unwrap();
        assert_eq!(mirror.head().unwrap(), None);
        assert!(dir.path().join("mirror.git.damaged").exists());
    }
}
