//! The agent's side of a keeper: start one, find one, hear it, ask it.
//!
//! A keeper that answers on its socket is alive and is the parent of what it speaks of, so no pid
//! of its can have been used again. One that does not answer in time is hung: it is killed by the
//! pid the kernel gives for its socket, and its instance is cleaned up as that of a dead keeper.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf, pipe};
use tokio::time::{Instant, sleep, timeout};

use super::SOCKET;
use super::launch::Hello;
use super::state::{KeeperCommand, KeeperPhase, KeeperState};
use crate::processes::procfs;

/// How long a keeper may take to start its instance, cleaning up after an earlier one included.
const START: Duration = Duration::from_secs(15);
/// How long a living keeper may take to say how it stands.
const ANSWER: Duration = Duration::from_secs(2);
/// How long a keeper without a socket may take to end.
const REAP: Duration = Duration::from_secs(60);
const REAP_PAUSE: Duration = Duration::from_millis(5);
/// Environment variable that tells keepers from what they keep.
const KEEPER_VAR: &str = "STEAD_KEEPER";

/// Why there is no keeper to talk to.
#[derive(Debug, Error)]
pub enum LinkError {
    /// The keeper could not be started.
    #[error("can't start a keeper")]
    Spawn(#[source] io::Error),
    /// The keeper could not start the instance.
    #[error("{0}")]
    Start(String),
    /// The instance was started, and is over already; `exit.json` says how.
    #[error("it ended at once")]
    Over,
    /// It said nothing in time, or nothing sensible.
    #[error("the keeper did not answer")]
    Silent,
    /// The connection broke.
    #[error("the connection to the keeper broke")]
    Broken(#[source] io::Error),
}

/// A connection to a living keeper.
#[derive(Debug)]
pub struct KeeperLink {
    lines: Lines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
    state: KeeperState,
}

impl KeeperLink {
    /// Starts a keeper for the instance in `folder`, which holds its `instance.json`.
    ///
    /// # Errors
    /// [`LinkError`]; then nothing of the instance runs.
    pub async fn start(exe: &Path, state: &Path, folder: &Path) -> Result<Self, LinkError> {
        let (sender, receiver) = io::pipe().map_err(LinkError::Spawn)?;
        let (read_end, write_end) = (sender, receiver);
        let child = keeper_command(exe, state, folder)
            .and_then(|mut command| command.stdout(write_end).spawn())
            .map_err(LinkError::Spawn)?;
        let pid = child.id();
        let hello = read_hello(read_end);
        match timeout(START, hello).await {
            Ok(Ok(Hello::Ready(_))) => {}
            Ok(Ok(Hello::Failed(reason))) => {
                reap_soon(pid);
                return Err(LinkError::Start(reason));
            }
            Ok(Err(error)) => {
                reap_soon(pid);
                return Err(LinkError::Broken(error));
            }
            Err(_) => {
                drop(crate::processes::signal(pid, rustix::process::Signal::KILL));
                reap_soon(pid);
                return Err(LinkError::Silent);
            }
        }
        let link = Self::connect(folder).await?;
        if link.is_none() {
            reap_soon(pid);
        }
        link.ok_or(LinkError::Over)
    }

    /// The living keeper of the instance in `folder`, if there is one.
    ///
    /// # Errors
    /// [`LinkError::Silent`] for a hung keeper, which has been killed when this returns.
    pub async fn connect(folder: &Path) -> Result<Option<Self>, LinkError> {
        let Ok(stream) = dial(folder).await else {
            return Ok(None);
        };
        let pid = stream.peer_cred().ok().and_then(|cred| cred.pid());
        let (reader, writer) = stream.into_split();
        let mut lines = BufReader::new(reader).lines();
        match timeout(ANSWER, lines.next_line()).await {
            Ok(Ok(Some(line))) => {
                let state = parse(&line).map_err(LinkError::Broken)?;
                Ok(Some(Self {
                    lines,
                    writer,
                    state,
                }))
            }
            // It ended just now.
            Ok(Ok(None) | Err(_)) => Ok(None),
            Err(_) => {
                if let Some(pid) = pid.and_then(|pid| u32::try_from(pid).ok()) {
                    drop(crate::processes::signal(pid, rustix::process::Signal::KILL));
                }
                Err(LinkError::Silent)
            }
        }
    }

    /// How the instance stood when the keeper last spoke.
    #[must_use]
    pub const fn state(&self) -> &KeeperState {
        &self.state
    }

    /// Waits for the keeper's next word; `None` once it is gone, and its folder free. Cancel safe.
    pub async fn next(&mut self) -> Option<&KeeperState> {
        if self.state.phase == KeeperPhase::Ended {
            // It lets go of its lock before it hangs up.
            drop(timeout(ANSWER, self.lines.next_line()).await);
        } else if let Ok(Some(line)) = self.lines.next_line().await
            && let Ok(state) = parse(&line)
        {
            self.state = state;
            return Some(&self.state);
        }
        reap_soon(self.state.keeper);
        None
    }

    /// Asks the keeper for something; what comes of it is heard by [`KeeperLink::next`].
    pub async fn ask(&mut self, command: &KeeperCommand) {
        let mut line = serde_json::to_vec(command).expect("a command has string keys only");
        line.push(b'\n');
        // A keeper that can't be written to is gone, which `next` says.
        drop(timeout(ANSWER, self.writer.write_all(&line)).await);
    }

    /// Kills a keeper that does not do what it is asked. The kernel says who it is.
    pub fn kill_keeper(&self) {
        let stream: &UnixStream = self.writer.as_ref();
        if let Some(pid) = stream.peer_cred().ok().and_then(|cred| cred.pid())
            && let Ok(pid) = u32::try_from(pid)
        {
            drop(crate::processes::signal(pid, rustix::process::Signal::KILL));
        }
    }
}

/// Sockets close before their process can be reaped: a moment later it can.
pub(crate) fn reap_soon(pid: u32) {
    tokio::spawn(async move {
        let end = Instant::now() + REAP;
        while !crate::processes::reap(pid) && Instant::now() < end {
            sleep(REAP_PAUSE).await;
        }
    });
}

fn keeper_command(exe: &Path, state: &Path, folder: &Path) -> io::Result<Command> {
    let complaints: File = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(folder.join("keeper.err"))?;
    let mut command = Command::new(exe);
    command
        .args([OsStr::new("keep"), folder.as_os_str()])
        .env_clear()
        .env(procfs::STATE_VAR, state)
        .env(KEEPER_VAR, folder)
        .stdin(Stdio::null())
        .stderr(complaints);
    Ok(command)
}

async fn read_hello(end: io::PipeReader) -> io::Result<Hello> {
    let receiver = pipe::Receiver::from_owned_fd(OwnedFd::from(end))?;
    let line = BufReader::new(receiver).lines().next_line().await?;
    let line = line.ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the keeper ended before it started anything",
        )
    })?;
    serde_json::from_str(&line).map_err(io::Error::other)
}

/// Through the folder's descriptor: socket names are at most 107 bytes long, folders aren't.
async fn dial(folder: &Path) -> io::Result<UnixStream> {
    let folder = File::open(folder)?;
    let path: PathBuf = format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd()).into();
    UnixStream::connect(path).await
}

fn parse(line: &str) -> io::Result<KeeperState> {
    serde_json::from_str(line).map_err(io::Error::other)
}
