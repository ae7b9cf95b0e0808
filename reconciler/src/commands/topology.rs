//! Reading a topology for the commands that work without a reconciler.

use std::path::{Path, PathBuf};

use clap::Args;
use stead_schemas::declared::{self, Checked, SourceFile};

use super::CommandError;
use crate::git::{Limits, ReadError, read_folder_at_path};
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

    /// Fails, with every error told on stderr, unless it checks.
    #[expect(dead_code, reason = "plan and render use it next")]
    pub(super) fn require_checked(&self, ui: &Ui) -> Result<(), CommandError> {
        let errors: Vec<_> = self.checked.errors().collect();
        if errors.is_empty() {
            return Ok(());
        }
        for problem in &errors {
            ui.note(&snippet(problem, self.texts(), ui.err));
        }
        let error = CommandError::failed(format!(
            "the topology does not check: {} errors",
            errors.len()
        ));
        Err(error.hinted("`stead check` tells warnings as well"))
    }
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
