//! From a declared instance to what its keeper runs: program, environment, folders.
//!
//! An instance gets a small environment of its own, not the agent's: `PATH`, `LANG` and `TZ` as they
//! are, what is declared, and where it should serve and keep its data (`STEAD_ADDRESS`, `STEAD_PORT`,
//! `STEAD_DATA`), and the role's settings as JSON (`STEAD_SETTINGS`) where it has any; a site server
//! with settings is one of a pair, and listens for its agent (`STEAD_CONTROL`).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use stead_schemas::names::GroupName;
use stead_schemas::role::Role;
use stead_schemas::wire::{EnvValue, InstanceReport, InstanceSpec, Program};
use thiserror::Error;

use super::archive::{self, ArchiveError};
use super::{Context, Run};
use crate::keeper::spec::{EnvSource, KeeperSpec};
use crate::processes::procfs;

/// Taken from the agent's own environment.
const PASSED_ON: [&str; 3] = ["PATH", "LANG", "TZ"];
/// Where a bare `site-agent` as first word of a command leads: to this very program.
const OWN_NAME: &str = "site-agent";

/// Why an instance can't run as declared.
#[derive(Debug, Error)]
pub(super) enum PrepareError {
    /// H28.
    #[error("no program for {role}: site-agent brings none; declare a `service:` for it")]
    NoProgram {
        /// The role.
        role: Role,
    },
    /// Not in this version.
    #[error("this version of site-agent runs no systemd units (unit {unit}); declare a command")]
    Systemd {
        /// The unit.
        unit: String,
    },
    /// An archive's command leads out of it.
    #[error("the command {program:?} of an archive must be a path within it")]
    Outside {
        /// The program.
        program: String,
    },
    /// The archive is not there.
    #[error("no archive")]
    Archive(#[source] ArchiveError),
    /// A folder can't be made.
    #[error("can't make {path}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Everything a keeper needs for this run; archives are fetched, folders made.
///
/// # Errors
/// [`PrepareError`].
pub(super) async fn prepare(
    context: &Context,
    group: &GroupName,
    run: &Run,
    report: InstanceReport,
) -> Result<KeeperSpec, PrepareError> {
    let data = context.layout.data(group);
    for folder in [context.layout.instance(group), data.clone()] {
        fs::create_dir_all(&folder).map_err(|source| PrepareError::Folder {
            path: folder.clone(),
            source,
        })?;
    }
    let archive = match &run.spec.program {
        Program::Archive { sha256, .. } => Some(sha256.to_ascii_lowercase()),
        Program::BuiltIn | Program::Command(_) | Program::Systemd { .. } => None,
    };
    Ok(KeeperSpec {
        instance: context.instance(group),
        spec: run.spec.id(),
        run: run.key.clone(),
        command: command(context, group, &run.spec).await?,
        env: environment(context, group, run),
        folder: data,
        cgroup: context.cgroup(group),
        archive,
        stop: run.spec.stop.clone(),
        report,
    })
}

/// What a check that is a command may see: everything but secrets.
pub(super) fn plain_environment(
    context: &Context,
    group: &GroupName,
    run: &Run,
) -> Vec<(String, String)> {
    let mut plain: Vec<(String, String)> = environment(context, group, run)
        .into_iter()
        .filter_map(|(name, value)| match value {
            EnvSource::Plain(value) => Some((name, value)),
            EnvSource::File(_) => None,
        })
        .collect();
    plain.push((procfs::INSTANCE_VAR.to_owned(), context.instance(group)));
    plain
}

async fn command(
    context: &Context,
    group: &GroupName,
    spec: &InstanceSpec,
) -> Result<Vec<String>, PrepareError> {
    match &spec.program {
        Program::Archive {
            url,
            sha256,
            command,
        } => {
            let home = archive::ensure(&context.layout.archives(), url, sha256)
                .await
                .map_err(PrepareError::Archive)?;
            let mut command = command.clone();
            if let Some(program) = command.first_mut() {
                let within =
                    archive::within_archive(program).ok_or_else(|| PrepareError::Outside {
                        program: program.clone(),
                    })?;
                *program = home.join(within).display().to_string();
            }
            Ok(command)
        }
        Program::BuiltIn => built_in(context, group, spec),
        Program::Command(command) => Ok(own_program(context, command.clone())),
        Program::Systemd { unit, .. } => Err(PrepareError::Systemd { unit: unit.clone() }),
    }
}

fn own_program(context: &Context, mut command: Vec<String>) -> Vec<String> {
    if let Some(program) = command.first_mut()
        && program == OWN_NAME
    {
        *program = context.exe.display().to_string();
    }
    command
}

fn built_in(
    context: &Context,
    group: &GroupName,
    spec: &InstanceSpec,
) -> Result<Vec<String>, PrepareError> {
    let name = site_roles::program_of(spec.role)
        .ok_or(PrepareError::NoProgram { role: spec.role })?
        .name();
    let listen = std::net::SocketAddr::new(spec.address, spec.port).to_string();
    let mut command = vec![
        context.exe.display().to_string(),
        "role".to_owned(),
        name.to_owned(),
        "--listen".to_owned(),
        listen,
    ];
    if spec.role == Role::DistributionPoint {
        let content = context
            .content_dir
            .clone()
            .unwrap_or_else(|| context.layout.data(group).join("content"));
        fs::create_dir_all(&content).map_err(|source| PrepareError::Folder {
            path: content.clone(),
            source,
        })?;
        command.extend(["--content".to_owned(), content.display().to_string()]);
    }
    Ok(command)
}

fn environment(context: &Context, group: &GroupName, run: &Run) -> BTreeMap<String, EnvSource> {
    let mut env: BTreeMap<String, EnvSource> = PASSED_ON
        .iter()
        .filter_map(|name| {
            Some((
                (*name).to_owned(),
                EnvSource::Plain(std::env::var(name).ok()?),
            ))
        })
        .collect();
    for (name, value) in &run.spec.env {
        let source = match value {
            EnvValue::Plain(text) => EnvSource::Plain(text.clone()),
            EnvValue::Secret { secret } => {
                let version = run.versions.get(secret).map_or("", String::as_str);
                EnvSource::File(context.layout.secrets().file(secret, version))
            }
        };
        env.insert(name.clone(), source);
    }
    let plain = [
        (
            procfs::STATE_VAR,
            context.layout.root().display().to_string(),
        ),
        ("STEAD_ADDRESS", run.spec.address.to_string()),
        ("STEAD_PORT", run.spec.port.to_string()),
        (
            "STEAD_DATA",
            context.layout.data(group).display().to_string(),
        ),
    ];
    for (name, value) in plain {
        env.insert(name.to_owned(), EnvSource::Plain(value));
    }
    if !run.spec.settings.is_null() {
        let text = run.spec.settings.to_string();
        env.insert("STEAD_SETTINGS".to_owned(), EnvSource::Plain(text));
        if run.spec.role == Role::SiteServer {
            let control = context.control_socket().display().to_string();
            env.insert("STEAD_CONTROL".to_owned(), EnvSource::Plain(control));
        }
    }
    env
}
