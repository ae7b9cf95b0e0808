//! Runs the system's `git fetch`: own process group, one deadline, bounded output and disk.
//!
//! What can be known about the files a fetch needs is checked before it starts, because git and
//! ssh say it less clearly. The command itself is [`super::command`]'s.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, geteuid, kill_process_group, prlimit};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr};

use super::command::fetch_command;
use super::{FetchCause, FetchError, blocking, classify};
use crate::git::mirror::Mirror;
use crate::git::remote::{Place, Remote};

/// Most of standard error that is kept.
const MOST_STDERR_BYTES: usize = 16 * 1024;
/// How long the end of standard error is waited for once git has ended.
const STDERR_GRACE: Duration = Duration::from_millis(500);
const MOST_TOKEN_BYTES: u64 = 4 * 1024;

pub(super) async fn fetch(mirror: &Arc<Mirror>, remote: &Remote) -> Result<(), FetchError> {
    let (checked, to_check) = (Arc::clone(mirror), remote.clone());
    blocking(move || {
        checked.sweep();
        check_files(&to_check)
    })
    .await?;
    let (status, stderr) = run(mirror, remote).await?;
    if status.success() {
        return Ok(());
    }
    // Half a pack is of no use until the next look, which may be an hour away.
    let failed = Arc::clone(mirror);
    let largest = blocking(move || failed.sweep()).await;
    // The program that writes the pack dies of the limit, and git only says that its answer was
    // not understood.
    let cause = if largest >= remote.most_bytes {
        FetchCause::TooLarge
    } else {
        classify::cause(&stderr)
    };
    Err(FetchError::new(remote, cause, classify::detail(&stderr)))
}

async fn run(mirror: &Mirror, remote: &Remote) -> Result<(ExitStatus, String), FetchError> {
    let mut command = fetch_command(mirror, remote);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0);
    let child = command.spawn().map_err(|error| {
        let cause = match error.kind() {
            std::io::ErrorKind::NotFound => FetchCause::GitMissing,
            _ => FetchCause::Other,
        };
        FetchError::new(remote, cause, error)
    })?;
    let mut group = Group(child);
    group.limit_files(remote.most_bytes);
    let stderr = tokio::spawn(read_bounded(group.0.stderr.take()));
    match tokio::time::timeout(remote.timeout, group.0.wait()).await {
        Err(_) => {
            let after = format!("stopped after {} ms", remote.timeout.as_millis());
            Err(FetchError::new(remote, FetchCause::Timeout, after))
        }
        Ok(Err(error)) => Err(FetchError::new(remote, FetchCause::Other, error)),
        Ok(Ok(status)) => {
            let text = tokio::time::timeout(STDERR_GRACE, stderr).await;
            let text = text.ok().and_then(Result::ok).unwrap_or_default();
            Ok((status, text))
        }
    }
}

/// A process group that does not outlive the interest in it.
struct Group(Child);

impl Group {
    fn pid(&self) -> Option<Pid> {
        let id = i32::try_from(self.0.id()?).ok()?;
        Pid::from_raw(id)
    }

    /// A fetch writes one file, a pack. What git starts inherits the limit; it starts writing only
    /// after the server answered.
    fn limit_files(&self, most_bytes: u64) {
        let limit = Rlimit {
            current: Some(most_bytes),
            maximum: Some(most_bytes),
        };
        if let Some(pid) = self.pid() {
            // It may have ended already; then there is nothing to limit.
            prlimit(Some(pid), Resource::Fsize, limit).ok();
        }
    }
}

impl Drop for Group {
    /// `Child::id` is none once the child was reaped, so the number cannot be somebody else's.
    fn drop(&mut self) {
        if let Some(pid) = self.pid() {
            kill_process_group(pid, Signal::KILL).ok();
        }
    }
}

/// Everything, so that the writer never waits; the first part of it kept.
async fn read_bounded(stderr: Option<ChildStderr>) -> String {
    let Some(mut stderr) = stderr else {
        return String::new();
    };
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count) = stderr.read(&mut buffer).await {
        if count == 0 {
            break;
        }
        let room = MOST_STDERR_BYTES - kept.len();
        kept.extend_from_slice(&buffer[..count.min(room)]);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

fn check_files(remote: &Remote) -> Result<(), FetchError> {
    let refused = |cause, (path, problem): (&Path, String)| {
        FetchError::new(remote, cause, format!("{}: {problem}", path.display()))
    };
    match &remote.place {
        Place::Local(_) => Ok(()),
        Place::Https {
            token_file,
            ca_file,
            ..
        } => {
            if let Some(path) = token_file {
                check_token(path).map_err(|p| refused(FetchCause::TokenFile, (path, p)))?;
            }
            if let Some(path) = ca_file {
                check_readable(path).map_err(|p| refused(FetchCause::CaFile, (path, p)))?;
            }
            Ok(())
        }
        Place::Ssh {
            key_file,
            known_hosts_file,
            ..
        } => {
            check_key(key_file).map_err(|p| refused(FetchCause::KeyFile, (key_file, p)))?;
            check_readable(known_hosts_file)
                .map_err(|p| refused(FetchCause::HostKeyUnknown, (known_hosts_file, p)))
        }
    }
}

fn check_readable(path: &Path) -> Result<(), String> {
    let file = File::open(path).map_err(|e| e.to_string())?;
    let is_file = file.metadata().is_ok_and(|facts| facts.is_file());
    is_file
        .then_some(())
        .ok_or_else(|| "is not a file".to_owned())
}

/// One line of something; the content goes nowhere from here.
fn check_token(path: &Path) -> Result<(), String> {
    check_readable(path)?;
    let mut text = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MOST_TOKEN_BYTES + 1).read_to_end(&mut text))
        .map_err(|e| e.to_string())?;
    let token = text.trim_ascii_end();
    match token {
        [] => Err("is empty".to_owned()),
        _ if text.len() as u64 > MOST_TOKEN_BYTES => Err("is longer than 4 KiB".to_owned()),
        _ if token.iter().any(|b| b.is_ascii_control()) => {
            Err("holds more than one line".to_owned())
        }
        _ => Ok(()),
    }
}

/// As ssh itself demands, said in advance.
fn check_key(path: &Path) -> Result<(), String> {
    check_readable(path)?;
    let facts = std::fs::metadata(path).map_err(|e| e.to_string())?;
    let is_own = facts.uid() == geteuid().as_raw();
    match facts.permissions().mode() & 0o077 {
        0 => Ok(()),
        _ if !is_own => Ok(()),
        open => Err(format!("others may use it (mode has {open:03o})")),
    }
}
