//! Scratch repositories, made with libgit2 so that a hundred of them cost nothing.

use std::path::{Path, PathBuf};

use git2::{IndexEntry, IndexTime, Oid, Repository, RepositoryInitOptions, Signature, Time};

/// A bare repository in a folder of its own.
pub(crate) struct Scratch {
    _dir: tempfile::TempDir,
    pub(crate) path: PathBuf,
    pub(crate) git: Repository,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("topology.git");
        let git = init(&path);
        Self {
            _dir: dir,
            path,
            git,
        }
    }

    /// Commits exactly these files to `main`, on top of what is there.
    pub(crate) fn commit(&self, files: &[(&str, &str)]) -> Oid {
        let parent = self.git.refname_to_id("refs/heads/main").ok();
        let entries = files.iter().map(|(path, text)| (*path, *text, 0o100_644));
        self.commit_on(parent, "refs/heads/main", entries)
    }

    /// Points `main` at a commit without parents: a rewritten history.
    pub(crate) fn rewrite(&self, files: &[(&str, &str)]) -> Oid {
        let entries = files.iter().map(|(path, text)| (*path, *text, 0o100_644));
        let id = self.commit_on(None, "refs/heads/orphan", entries);
        self.git
            .reference("refs/heads/main", id, true, "rewrite")
            .unwrap();
        id
    }

    pub(crate) fn commit_on<'f>(
        &self,
        parent: Option<Oid>,
        reference: &str,
        files: impl IntoIterator<Item = (&'f str, &'f str, u32)>,
    ) -> Oid {
        let mut index = self.git.index().unwrap();
        index.clear().unwrap();
        for (path, text, mode) in files {
            index
                .add_frombuffer(&entry(path, mode), text.as_bytes())
                .unwrap();
        }
        let tree = index.write_tree().unwrap();
        self.commit_tree(parent, reference, tree)
    }

    pub(crate) fn commit_tree(&self, parent: Option<Oid>, reference: &str, tree: Oid) -> Oid {
        let who =
            Signature::new("Ada Admin", "ada@example.org", &Time::new(1_790_000_000, 0)).unwrap();
        let tree = self.git.find_tree(tree).unwrap();
        let parent = parent.map(|id| self.git.find_commit(id).unwrap());
        let parents: Vec<_> = parent.iter().collect();
        let message = format!("state {}\n\nbody", tree.id());
        let id = self
            .git
            .commit(None, &who, &who, &message, &tree, &parents)
            .unwrap();
        self.git.reference(reference, id, true, "test").unwrap();
        id
    }
}

pub(crate) fn init(path: &Path) -> Repository {
    let mut options = RepositoryInitOptions::new();
    options
        .bare(true)
        .external_template(false)
        .initial_head("main");
    Repository::init_opts(path, &options).unwrap()
}

fn entry(path: &str, mode: u32) -> IndexEntry {
    IndexEntry {
        ctime: IndexTime::new(0, 0),
        mtime: IndexTime::new(0, 0),
        dev: 0,
        ino: 0,
        mode,
        uid: 0,
        gid: 0,
        file_size: 0,
        id: Oid::ZERO_SHA1,
        flags: 0,
        flags_extended: 0,
        path: path.as_bytes().to_vec(),
    }
}
