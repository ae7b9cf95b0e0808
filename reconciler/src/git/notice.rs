//! Notices commits to a repository of this machine from changes to its ref files.
//!
//! Only a hint: what changed is never looked at beyond "may concern what is followed", events may
//! be lost, and where watching is impossible the poll remains. Few folders are watched, none
//! recursively (notify 8 skips subtrees silently).

use std::path::{Path, PathBuf};

use notify::{Config, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use super::remote::Remote;
use super::source::Waker;

/// File notification for one remote; nothing for one that is elsewhere.
pub(super) struct RefNotice {
    folder: Option<PathBuf>,
    reference: String,
    watcher: Option<RecommendedWatcher>,
}

impl RefNotice {
    pub(super) fn new(remote: &Remote, waker: Waker) -> Self {
        let watcher = remote.local_folder().and_then(|_| start(waker));
        Self {
            folder: remote.local_folder().map(Path::to_owned),
            reference: remote.reference().to_owned(),
            watcher,
        }
    }

    /// Watches the folders that hold the ref now; before each look, as they come and go.
    pub(super) fn arm(&mut self) {
        let (Some(folder), Some(watcher)) = (&self.folder, &mut self.watcher) else {
            return;
        };
        for folder in ref_folders(folder, &self.reference) {
            if let Err(error) = watcher.watch(&folder, RecursiveMode::NonRecursive) {
                tracing::debug!(folder = %folder.display(), %error, "not watched; polled");
            }
        }
    }
}

fn start(waker: Waker) -> Option<RecommendedWatcher> {
    let handler = move |event: notify::Result<notify::Event>| match event {
        Ok(event) if concerns_refs(&event) => waker.wake(),
        Ok(_) => {}
        // Overflow and the like: something may have been missed.
        Err(_) => waker.wake(),
    };
    match RecommendedWatcher::new(handler, Config::default()) {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            tracing::warn!(%error, "no file notification; the repository is only polled");
            None
        }
    }
}

/// Reading is no change: our own fetch opens these files. Nor is git's lock on them.
fn concerns_refs(event: &notify::Event) -> bool {
    let changes = matches!(
        event.kind,
        EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_)
    );
    changes && (event.need_rescan() || event.paths.iter().any(|path| is_ref_path(path)))
}

fn is_ref_path(path: &Path) -> bool {
    let is_below_refs = path.components().any(|part| part.as_os_str() == "refs");
    let is_lock = path.extension().is_some_and(|ending| ending == "lock");
    (is_below_refs && !is_lock) || path.ends_with("packed-refs")
}

/// The git folder (packed-refs is replaced there) and those on the way down to the ref's file.
fn ref_folders(repository: &Path, reference: &str) -> Vec<PathBuf> {
    let Ok(opened) = git2::Repository::open(repository) else {
        return Vec::new();
    };
    let mut folder = opened.commondir().to_owned();
    let mut folders = vec![folder.clone()];
    let below = reference.rsplit_once('/').map_or("", |(below, _)| below);
    for part in below.split('/') {
        folder.push(part);
        if !folder.is_dir() {
            break;
        }
        folders.push(folder.clone());
    }
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_finished_changes_of_refs_concern_us() {
        for (path, wanted) in [
            ("/t/.git/refs/heads/main", true),
            ("/t/.git/refs/heads/main.lock", false),
            ("/t/.git/packed-refs", true),
            ("/t/.git/packed-refs.lock", false),
            ("/t/.git/index", false),
            ("/t/.git/FETCH_HEAD", false),
        ] {
            assert_eq!(is_ref_path(Path::new(path)), wanted, "{path}");
        }
    }

    #[test]
    fn the_folders_on_the_way_to_a_nested_branch_are_watched() {
        let dir = tempfile::tempdir().unwrap();
        git2::Repository::init_bare(dir.path()).unwrap();
        std::fs::create_dir_all(dir.path().join("refs/heads/team")).unwrap();
        let found = ref_folders(dir.path(), "refs/heads/team/deep/main");
        let names: Vec<_> = found.iter().map(|f| f.file_name().unwrap()).collect();
        assert_eq!(names[1..], ["refs", "heads", "team"]);
    }
}
