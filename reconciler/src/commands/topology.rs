//! Reading a topology for the commands that work without a reconciler.

use std::path::{Path, PathBuf};

use clap::Args;
use git2::Repository;
use stead_schemas::declared::{self, Checked, SourceFile};
use stead_schemas::desired::HierarchyDesired;

use super::CommandError;
use crate::git::{Limits, ReadError, read_folder, read_folder_at_path};
use crate::output::Ui;
use crate::output::diagnostics::{Texts, snippet};

/// The folder of a topology.
#[derive(Debug, Clone, Args)]
pub(super) struct PathArg {
    /// Folder of the topology
    #[arg(default_value = ".")]
    pub(super) path: PathBuf,
}

/// A topology as read, whether it checks or not.
#[derive(Debug)]
pub(super) struct Topology {
    pub(super) files: Vec<SourceFile>,
    pub(super) checked: Checked,
    prefix: String,
}

impl Topology {
    /// Files that were read, and what was found.
    pub(super) fn new(files: Vec<SourceFile>, prefix: String) -> Self {
        let checked = declared::check(&files);
        Self {
            files,
            checked,
            prefix,
        }
    }

    /// The files, to take lines from.
    pub(super) fn texts(&self) -> Texts<'_> {
        Texts::new(&self.files, &self.prefix)
    }

    /// What it declares; every error is told on stderr where it does not check.
    pub(super) fn require_checked(&self, ui: &Ui) -> Result<&HierarchyDesired, CommandError> {
        if let Some(desired) = &self.checked.desired {
            return Ok(desired);
        }
        for problem in self.checked.errors() {
            ui.note(&snippet(problem, self.texts(), ui.err));
        }
        let errors = self.checked.errors().count();
        let error = CommandError::failed(format!("the topology does not check: {errors} errors"));
        Err(error.hinted("`stead check` tells warnings as well"))
    }
}

/// What a plan starts from.
pub(super) enum Base {
    /// Nothing is there.
    Nothing,
    /// A revision, taken as in place.
    Revision(Box<Topology>),
}

impl Base {
    /// What is taken as in place.
    pub(super) fn desired(&self) -> Option<&HierarchyDesired> {
        match self {
            Self::Nothing => None,
            Self::Revision(topology) => topology.checked.desired.as_ref(),
        }
    }
}

/// Reads the folder as it was in a revision of the repository that holds it.
pub(super) fn read_base(ui: &Ui, path: &Path, revision: &str) -> Result<Base, CommandError> {
    let found = Repo::around(path).ok_or_else(|| {
        CommandError::failed(format!("{} is in no git repository", path.display()))
    })?;
    let commit = found
        .repository
        .revparse_single(revision)
        .and_then(|object| object.peel_to_commit())
        .map_err(|error| {
            CommandError::failed(format!(
                "there is no revision `{revision}`: {}",
                error.message()
            ))
            .hinted("fetch it first; in CI, a checkout of full depth")
        })?;
    let folder = found.folder.as_deref();
    let files = match read_folder(&found.repository, commit.id(), folder, &Limits::default()) {
        Ok(files) if !files.is_empty() => files,
        Ok(_) | Err(ReadError::FolderMissing { .. }) => {
            ui.note(&format!(
                "{revision} has no topology here: planned from nothing"
            ));
            return Ok(Base::Nothing);
        }
        Err(error) => return Err(unreadable(path, error)),
    };
    let base = Topology::new(files, format!("{revision}:"));
    base.require_checked(ui).map_err(|error| {
        error.hinted(format!(
            "that is {revision}; plan from one that checks, or without --from"
        ))
    })?;
    Ok(Base::Revision(Box::new(base)))
}

/// The id of the folder's tree, as a commit of it as it is now would have: merging does not change
/// it. Outside a repository: a digest of the files read.
pub(super) fn tree_of(path: &Path, files: &[SourceFile]) -> String {
    Repo::around(path)
        .and_then(|found| found.tree().ok())
        .unwrap_or_else(|| digest(files))
}

/// A repository and where in it a folder lies.
struct Repo {
    repository: Repository,
    folder: Option<String>,
}

impl Repo {
    fn around(path: &Path) -> Option<Self> {
        let full = path.canonicalize().ok()?;
        let repository = Repository::discover(&full).ok()?;
        let top = repository.workdir()?.canonicalize().ok()?;
        let below = full.strip_prefix(&top).ok()?;
        let folder = below.to_str()?.to_owned();
        Some(Self {
            repository,
            folder: Some(folder).filter(|folder| !folder.is_empty()),
        })
    }

    /// Of the files on disk that git would commit; nothing is written to the repository.
    fn tree(&self) -> Result<String, git2::Error> {
        let odb = self.repository.odb()?;
        let _memory = odb.add_new_mempack_backend(1_000)?;
        let mut index = self.repository.index()?;
        let spec = self.folder.as_deref().unwrap_or("*");
        index.add_all([spec], git2::IndexAddOption::DEFAULT, None)?;
        index.update_all([spec], None)?;
        let tree = self.repository.find_tree(index.write_tree()?)?;
        match &self.folder {
            None => Ok(tree.id().to_string()),
            Some(folder) => Ok(tree.get_path(Path::new(folder))?.id().to_string()),
        }
    }
}

fn digest(files: &[SourceFile]) -> String {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for file in files {
        context.update(&(file.path.len() as u64).to_be_bytes());
        context.update(file.path.as_bytes());
        context.update(&(file.bytes.len() as u64).to_be_bytes());
        context.update(&file.bytes);
    }
    let digest = context.finish();
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Reads and checks the folder; what it finds is in the answer.
pub(super) fn read(path: &Path) -> Result<Topology, CommandError> {
    let files =
        read_folder_at_path(path, &Limits::default()).map_err(|error| unreadable(path, error))?;
    if files.is_empty() {
        let error = CommandError::failed(format!("there is no YAML file in {}", path.display()));
        return Err(error.hinted("`stead init DIR` makes a topology to start from"));
    }
    Ok(Topology::new(files, prefix(path)))
}

/// A folder that can't be read, with the remedy.
pub(super) fn unreadable(path: &Path, error: ReadError) -> CommandError {
    let hint = match &error {
        ReadError::FolderMissing { .. } => {
            format!("`{}` should be the folder of a topology", path.display())
        }
        other => other.hint().to_owned(),
    };
    CommandError::from(error).hinted(hint)
}

/// What to put before a file's path so that it can be opened from here.
fn prefix(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let below = here
        .as_deref()
        .and_then(|here| path.strip_prefix(here).ok());
    let text = match below {
        Some(path) if path.as_os_str().is_empty() => ".".into(),
        Some(path) => path.to_string_lossy(),
        None => path.to_string_lossy(),
    };
    match text.trim_end_matches('/') {
        "." | "./" => String::new(),
        "" => "/".to_owned(),
        other => format!("{}/", other.trim_start_matches("./")),
    }
}
