//! From a folder with `instance.json` to a running instance with its keeper beside it.
//!
//! The keeper enters the cgroup, starts the command, and moves out again: the child is born inside,
//! without a step between fork and exec. Errors up to here reach the agent through standard
//! output; afterwards the socket speaks.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, PipeReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::attend::Attendance;
use super::output::Output;
use super::spec::{EnvSource, KeeperSpec};
use super::state::{KeeperPhase, KeeperState};
use super::{EXIT, LOCK, SOCKET, SPEC};
use crate::processes::cgroup::{self, Cgroup};
use crate::processes::procfs;
use stead_wire::clock::wall_now;

/// Largest secret handed over in a variable.
const VALUE_MAX: u64 = 64 * 1024;
/// How long what an earlier keeper left in the cgroup may take to die.
const CLEAN: Duration = Duration::from_secs(10);

/// Why an instance could not be started.
#[derive(Debug, Error)]
pub enum KeepError {
    /// The folder can't be used.
    #[error("can't use the instance folder {folder}")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another keeper is at work there.
    #[error("another keeper already runs this instance")]
    Taken,
    /// `instance.json` can't be read.
    #[error("can't read {SPEC}")]
    Spec(#[source] io::Error),
    /// The value of a variable can't be read.
    #[error("can't read the value of {name} from {path}")]
    Value {
        /// The variable.
        name: String,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The cgroup can't be used.
    #[error("can't use the cgroup {dir}; `cgroup: off` runs instances without")]
    Cgroup {
        /// The cgroup's folder.
        dir: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Processes of an earlier run are still there.
    #[error("processes of an earlier run can't be killed: {pids:?}")]
    Survivors {
        /// Which.
        pids: Vec<u32>,
    },
    /// The command can't be started.
    #[error("can't start {program}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel refused something a keeper needs.
    #[error("can't {what}")]
    System {
        /// What.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The one line a keeper writes to standard output.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Hello {
    /// Nothing was started; why.
    Failed(String),
    /// The instance runs.
    Ready(KeeperState),
}

/// Runs the instance in `folder` once and attends to it until nothing of it is left.
///
/// # Errors
/// [`KeepError`] when it could not be started; then nothing of it is left either.
pub fn keep(folder: &Path) -> Result<(), KeepError> {
    let attendance = match begin(folder) {
        Ok(attendance) => attendance,
        Err(error) => {
            say(&Hello::Failed(crate::chain(&error)));
            return Err(error);
        }
    };
    say(&Hello::Ready(attendance.state().clone()));
    attendance.run();
    Ok(())
}

fn say(hello: &Hello) {
    let line = serde_json::to_string(hello).expect("a hello has string keys only");
    // Without a reader there is no agent: the instance goes on, and the next agent finds it.
    drop(writeln!(io::stdout(), "{line}"));
}

fn begin(folder: &Path) -> Result<Attendance, KeepError> {
    let system = |what| {
        move |error: rustix::io::Errno| KeepError::System {
            what,
            source: error.into(),
        }
    };
    // Relative names from here on: socket names are at most 107 bytes long, state folders aren't.
    std::env::set_current_dir(folder).map_err(|source| KeepError::Folder {
        folder: folder.to_owned(),
        source,
    })?;
    let lock = lock()?;
    let spec = read_spec()?;
    rustix::process::setsid().map_err(system("start a session of its own"))?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(system("become the reaper of orphans"))?;
    let listener = listen()?;
    drop(fs::remove_file(EXIT));
    let (env, secrets) = resolve(&spec.env)?;
    let cgroup = spec.cgroup.clone().map(Cgroup::at);
    let (pid, pipes) = start(&spec, env, cgroup.as_ref())?;
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::NONBLOCK)
        .map_err(system("watch its child"))?;
    let state = KeeperState {
        run: spec.run.clone(),
        keeper: std::process::id(),
        pid: pid.as_raw_nonzero().get().unsigned_abs(),
        started: wall_now(),
        phase: KeeperPhase::Running,
        exit: None,
        survivors: Vec::new(),
    };
    let output = Output::open(PathBuf::from("output"), secrets);
    Ok(Attendance::new(
        lock, listener, pid, pidfd, pipes, cgroup, output, state,
    ))
}

fn lock() -> Result<File, KeepError> {
    let folder = |source| KeepError::Folder {
        folder: PathBuf::from(LOCK),
        source,
    };
    let file = File::create(LOCK).map_err(folder)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(KeepError::Taken),
        Err(error) => Err(folder(error.into())),
    }
}

fn read_spec() -> Result<KeeperSpec, KeepError> {
    let text = fs::read(SPEC).map_err(KeepError::Spec)?;
    serde_json::from_slice(&text).map_err(|error| KeepError::Spec(error.into()))
}

/// The lock is ours: a socket that is there belongs to a keeper that is gone.
fn listen() -> Result<UnixListener, KeepError> {
    let failed = |source| KeepError::System {
        what: "listen on its socket",
        source,
    };
    drop(fs::remove_file(SOCKET));
    let listener = UnixListener::bind(SOCKET).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

type Resolved = (BTreeMap<String, String>, Vec<String>);

fn resolve(env: &BTreeMap<String, EnvSource>) -> Result<Resolved, KeepError> {
    let (mut values, mut secrets) = (BTreeMap::new(), Vec::new());
    for (name, source) in env {
        let value = match source {
            EnvSource::Plain(value) => value.clone(),
            EnvSource::File(path) => {
                let value = read_value(path).map_err(|source| KeepError::Value {
                    name: name.clone(),
                    path: path.clone(),
                    source,
                })?;
                secrets.push(value.clone());
                value
            }
        };
        values.insert(name.clone(), value);
    }
    Ok((values, secrets))
}

fn read_value(path: &Path) -> io::Result<String> {
    let mut value = String::new();
    File::open(path)?
        .take(VALUE_MAX)
        .read_to_string(&mut value)?;
    Ok(value)
}

type Pipes = [PipeReader; 2];

/// Starts the command inside the cgroup, and leaves the cgroup again.
fn start(
    spec: &KeeperSpec,
    env: BTreeMap<String, String>,
    cgroup: Option<&Cgroup>,
) -> Result<(Pid, Pipes), KeepError> {
    let Some(cgroup) = cgroup else {
        return spawn(spec, env);
    };
    let failed = |source| KeepError::Cgroup {
        dir: cgroup.dir().to_owned(),
        source,
    };
    let home = cgroup::own().map_err(failed)?;
    cgroup.create().map_err(failed)?;
    clear(cgroup)?;
    cgroup.enter().map_err(failed)?;
    let started = spawn(spec, env);
    let left = home.enter().map_err(failed);
    if started.is_err() || left.is_err() {
        // In this order: a keeper still inside would die here, and then nothing is left either.
        cgroup.kill();
        cgroup.remove();
    }
    left?;
    started
}

/// Kills what a keeper that died left in the cgroup.
fn clear(cgroup: &Cgroup) -> Result<(), KeepError> {
    let end = std::time::Instant::now() + CLEAN;
    while cgroup.populated() {
        if std::time::Instant::now() >= end {
            return Err(KeepError::Survivors {
                pids: cgroup.members(),
            });
        }
        cgroup.kill();
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn spawn(spec: &KeeperSpec, env: BTreeMap<String, String>) -> Result<(Pid, Pipes), KeepError> {
    let program = spec.command.first().cloned().unwrap_or_default();
    let failed = |source| KeepError::Start {
        program: program.clone(),
        source,
    };
    let (out, out_end) = io::pipe().map_err(failed)?;
    let (err, err_end) = io::pipe().map_err(failed)?;
    for reader in [&out, &err] {
        rustix::io::ioctl_fionbio(reader, true).map_err(|error| failed(error.into()))?;
    }
    let child = Command::new(&program)
        .args(spec.command.iter().skip(1))
        .env_clear()
        .envs(env)
        .env(procfs::INSTANCE_VAR, &spec.instance)
        .current_dir(&spec.folder)
        .stdin(Stdio::null())
        .stdout(out_end)
        .stderr(err_end)
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    let pid = Pid::from_child(&child);
    Ok((pid, [out, err]))
}
