//! `stead init`: a topology repository to start from.
//!
//! One site, one document a file, editor help, pull-request checks. It writes into a new or empty
//! folder only and makes no git repository of it: that is one command more, and the person's own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use stead_schemas::declared;
use stead_schemas::names::{DomainName, ObjectName, SiteCode};
use thiserror::Error;

use super::{CommandError, CommandResult, Outcome};
use crate::dns::policy::policy_text;
use crate::output::Ui;

/// Make a topology to start from: one site, editor help, pull-request checks
#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// A new or empty folder; its name becomes the hierarchy's
    dir: PathBuf,
}

#[derive(Debug, Error)]
enum InitError {
    #[error("{} is not empty: nothing was written", dir.display())]
    NotEmpty { dir: PathBuf },
    #[error("{} is not a folder", dir.display())]
    NotAFolder { dir: PathBuf },
    #[error("can't write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Domain of the examples; RFC 2606 keeps it free.
const DOMAIN: &str = "cm.example.com";
/// Key name in `hierarchy.yaml`.
const KEY: &str = "stead";
const SITE: &str = "P01";

pub(super) fn run(ui: &Ui, args: InitArgs) -> CommandResult {
    let dir = args.dir;
    ensure_empty(&dir)?;
    let files = files(&hierarchy_name(&dir));
    write_all(&dir, &files)?;
    for (path, _) in &files {
        ui.line(&format!("wrote {}", dir.join(path).display()))?;
    }
    ui.note(&format!(
        "next: cd {}, read README.md, then `stead check` and `git init`",
        dir.display()
    ));
    Ok(Outcome::Done)
}

/// Every file and its content, in the order they are worth reading.
fn files(name: &ObjectName) -> Vec<(&'static str, String)> {
    let domain = DomainName::new(DOMAIN).expect("a constant domain");
    let site = SiteCode::new(SITE).expect("a constant code");
    let policy = policy_text(KEY, &domain, &[site]);
    let filled = |template: &str| {
        template
            .replace("@name@", name.as_str())
            .replace("@domain@", DOMAIN)
            .replace("@bind@", &indented(&policy.bind))
            .replace("@knot@", &indented(&policy.knot))
    };
    let schema = serde_json::to_string_pretty(&declared::schema::combined_schema())
        .expect("a schema has string keys");
    vec![
        ("README.md", filled(include_str!("readme.md"))),
        ("hierarchy.yaml", filled(include_str!("hierarchy.yaml"))),
        ("sites/P01.yaml", filled(include_str!("site.yaml"))),
        (".stead/schema.json", schema + "\n"),
        (
            ".github/workflows/stead.yml",
            include_str!("github.yml").to_owned(),
        ),
        (".gitlab-ci.yml", include_str!("gitlab.yml").to_owned()),
    ]
}

fn indented(text: &str) -> String {
    let lines: Vec<String> = text
        .trim_end()
        .lines()
        .map(|line| format!("   {line}"))
        .collect();
    lines.join("\n")
}

/// The folder's name where that is a name, else `example`.
fn hierarchy_name(dir: &Path) -> ObjectName {
    let full = std::path::absolute(dir).ok();
    full.as_deref()
        .and_then(Path::file_name)
        .and_then(|name| name.to_str())
        .and_then(|name| ObjectName::new(name.to_ascii_lowercase()).ok())
        .unwrap_or_else(|| ObjectName::new("example").expect("a constant name"))
}

fn ensure_empty(dir: &Path) -> Result<(), CommandError> {
    let dir = dir.to_owned();
    match fs::read_dir(&dir).map(|mut entries| entries.next()) {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Err(CommandError::from(InitError::NotEmpty { dir })
            .hinted("name a folder that does not exist yet")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            Err(InitError::NotAFolder { dir }.into())
        }
        Err(source) => Err(InitError::Write { path: dir, source }.into()),
    }
}

/// All files or none: they are written beside the folder and moved in when all are there. A folder
/// that exists stays the same one, as somebody's shell may stand in it.
fn write_all(dir: &Path, files: &[(&str, String)]) -> Result<(), InitError> {
    let failed = |source| InitError::Write {
        path: dir.to_owned(),
        source,
    };
    let full = std::path::absolute(dir).map_err(failed)?;
    let beside = full.with_extension(format!("new-{}", std::process::id()));
    let written = files
        .iter()
        .try_for_each(|(path, content)| write(&beside.join(path), content))
        .and_then(|()| move_in(&beside, &full).map_err(failed));
    // Empty by now, or of no use.
    drop(fs::remove_dir_all(&beside));
    written
}

fn move_in(beside: &Path, dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    for entry in fs::read_dir(beside)? {
        let entry = entry?;
        fs::rename(entry.path(), dir.join(entry.file_name()))?;
    }
    Ok(())
}

fn write(path: &Path, content: &str) -> Result<(), InitError> {
    let failed = |source| InitError::Write {
        path: path.to_owned(),
        source,
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    fs::write(path, content).map_err(failed)
}
