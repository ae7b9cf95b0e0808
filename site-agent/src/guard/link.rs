//! The agent's side of its guard: find or start one, arm deadlines, hear what it did.
//!
//! No guard, no extension (H34): every error here means that the deadline was not armed. After one,
//! other than a refusal, the link is of no use any more: drop it and [`GuardLink::ensure`] a new
//! one, whose welcome says what is armed.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

use super::message::{Allow, FromGuard, Killed, LINE_BYTES, Release, ToGuard, Welcome, line};
use super::{LOG, SOCKET, journal};
use crate::keeper::link::reap_soon;
use crate::layout::Layout;
use crate::processes::{self, procfs};

/// How long a guard may take to arm a deadline, or to take one back.
const ANSWER: Duration = Duration::from_millis(100);
/// How long it may take to say hello; one that takes longer hangs.
const HELLO: Duration = Duration::from_secs(1);
/// How long a guard may take to start; it kills first.
const START: Duration = Duration::from_secs(5);
const START_PAUSE: Duration = Duration::from_millis(10);
/// Answers that were not asked for any more.
const ANSWERS: usize = 8;

/// Why a deadline is not armed.
#[derive(Debug, Error)]
pub enum GuardError {
    /// It could not be started.
    #[error("can't start a guard")]
    Spawn(#[source] io::Error),
    /// It ended at once, or did not listen in time.
    #[error("the guard did not start: {0}")]
    Start(String),
    /// It does not do that.
    #[error("the guard refused: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// It did not answer in time. The deadline may be armed or not.
    #[error("the guard did not answer within {} ms", .0.as_millis())]
    Silent(Duration),
    /// It is gone, or the connection is.
    #[error("the guard is gone")]
    Lost,
}

/// What the guard did by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GuardNews {
    /// Its last kill.
    pub killed: Option<Killed>,
    /// It is gone, or the connection is: nothing can be armed through this link any more.
    pub lost: bool,
}

/// A connection to a living guard.
#[derive(Debug)]
pub struct GuardLink {
    writer: OwnedWriteHalf,
    answers: mpsc::Receiver<FromGuard>,
    news: watch::Receiver<GuardNews>,
    welcome: Welcome,
    pid: Option<u32>,
    broken: bool,
    reader: AbortHandle,
}

impl GuardLink {
    /// The guard of this state folder, started with the agent's settings if there is none. A hung
    /// one is killed, and replaced by one that kills first.
    ///
    /// # Errors
    /// [`GuardError`].
    pub async fn ensure(exe: &Path, config: &Path, layout: &Layout) -> Result<Self, GuardError> {
        let end = Instant::now() + START;
        let mut started: Option<Child> = None;
        loop {
            match Self::connect(layout).await {
                Ok(Some(link)) => return Ok(link),
                Ok(None) | Err(GuardError::Silent(_) | GuardError::Lost) => {}
                Err(error) => return Err(error),
            }
            let ended = started.as_mut().map(Child::try_wait);
            if Instant::now() >= end {
                return Err(GuardError::Start(last_words(layout)));
            }
            match ended {
                // It may have been the second of two, and the first about to listen.
                None | Some(Ok(Some(_))) => {
                    started = Some(spawn(exe, config, layout).map_err(GuardError::Spawn)?);
                    sleep(START_PAUSE * if ended.is_some() { 20 } else { 1 }).await;
                }
                Some(Ok(None) | Err(_)) => sleep(START_PAUSE).await,
            }
        }
    }

    /// The living guard of this state folder, if there is one.
    ///
    /// # Errors
    /// [`GuardError::Silent`] for a hung guard, which has been killed when this returns;
    /// [`GuardError::Refused`] where another agent has it.
    pub async fn connect(layout: &Layout) -> Result<Option<Self>, GuardError> {
        let Ok(stream) = dial(layout.root()).await else {
            return Ok(None);
        };
        let pid = stream.peer_cred().ok().and_then(|cred| cred.pid());
        let pid = pid.and_then(|pid| u32::try_from(pid).ok());
        let (reader, writer) = stream.into_split();
        let (sender, answers) = mpsc::channel(ANSWERS);
        let (tell, news) = watch::channel(GuardNews::default());
        let reader = tokio::spawn(listen(reader, sender, tell, pid)).abort_handle();
        let mut link = Self {
            writer,
            answers,
            news,
            welcome: Welcome {
                term: None,
                until: None,
                pid_lived: false,
                highest: 0,
                killing: false,
            },
            pid,
            broken: false,
            reader,
        };
        let welcome = link.ask(&ToGuard::Hello {}, HELLO, |answer| match answer {
            FromGuard::Welcome(welcome) => Some(welcome),
            _ => None,
        });
        match welcome.await {
            Ok(welcome) => {
                link.welcome = welcome;
                Ok(Some(link))
            }
            Err(GuardError::Silent(after)) => {
                if let Some(pid) = pid {
                    drop(processes::signal(pid, rustix::process::Signal::KILL));
                }
                Err(GuardError::Silent(after))
            }
            Err(error) => Err(error),
        }
    }

    /// How the guard stood when it said hello. An agent that was re-executed goes on with its term
    /// only where `pid_lived`, and `term` and `until` are its own (H18).
    #[must_use]
    pub const fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// The guard's process.
    #[must_use]
    pub const fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// What the guard does by itself, from now on.
    #[must_use]
    pub fn news(&self) -> watch::Receiver<GuardNews> {
        self.news.clone()
    }

    /// Arms a deadline, in milliseconds of [`super::timer::boot_ms`]. When this returns `Ok`, the
    /// guard kills at that time or later (deadlines only rise), and not before the agent's death.
    ///
    /// # Errors
    /// [`GuardError`]; then nothing may rest on the new deadline.
    pub async fn allow(
        &mut self,
        term: u64,
        until: u64,
        release: &Release,
    ) -> Result<(), GuardError> {
        let allow = ToGuard::Allow(Allow {
            term,
            until,
            release: release.clone(),
        });
        self.ask(&allow, ANSWER, |answer| match answer {
            FromGuard::Allowed { term: t, until: u } if t == term && u >= until => Some(()),
            _ => None,
        })
        .await
    }

    /// Takes the deadline of a term back, whose work the agent has proven to have ended. The term is
    /// never allowed again.
    ///
    /// # Errors
    /// [`GuardError`]; then the guard may still kill.
    pub async fn ended(&mut self, term: u64) -> Result<(), GuardError> {
        self.ask(&ToGuard::Ended { term }, ANSWER, |answer| match answer {
            FromGuard::Ended { term: t } if t == term => Some(()),
            _ => None,
        })
        .await
    }

    /// One question at a time; after a silence a late answer could be taken for the next one's.
    async fn ask<T>(
        &mut self,
        question: &ToGuard,
        within: Duration,
        wanted: impl Fn(FromGuard) -> Option<T>,
    ) -> Result<T, GuardError> {
        if self.broken {
            return Err(GuardError::Lost);
        }
        // Until it is answered: whoever drops the future half way leaves an answer behind.
        self.broken = true;
        let text = line(question);
        let exchange = async {
            let written = self.writer.write_all(&text).await;
            written.map_err(|_| GuardError::Lost)?;
            loop {
                match self.answers.recv().await {
                    Some(FromGuard::Refused { reason }) => {
                        return Err(GuardError::Refused { reason });
                    }
                    Some(answer) => {
                        if let Some(found) = wanted(answer) {
                            return Ok(found);
                        }
                    }
                    None => return Err(GuardError::Lost),
                }
            }
        };
        let answer = timeout(within, exchange).await;
        let answer = answer.unwrap_or(Err(GuardError::Silent(within)));
        self.broken = matches!(answer, Err(GuardError::Silent(_) | GuardError::Lost));
        answer
    }
}

impl Drop for GuardLink {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Sorts what the guard says into answers and news.
async fn listen(
    reader: OwnedReadHalf,
    answers: mpsc::Sender<FromGuard>,
    news: watch::Sender<GuardNews>,
    pid: Option<u32>,
) {
    let mut reader = BufReader::new(reader);
    loop {
        let mut text = Vec::new();
        let mut bounded = (&mut reader).take(LINE_BYTES as u64);
        let read = bounded.read_until(b'\n', &mut text).await;
        if read.is_err() || text.last() != Some(&b'\n') {
            break;
        }
        match serde_json::from_slice(&text) {
            Ok(FromGuard::Killed(killed)) => news.send_modify(|one| one.killed = Some(killed)),
            Ok(answer) => {
                if answers.try_send(answer).is_err() {
                    break;
                }
            }
            // A newer guard may say more.
            Err(_) => {}
        }
    }
    news.send_modify(|one| one.lost = true);
    // It is our child where we started it, also before we were re-executed.
    if let Some(pid) = pid {
        reap_soon(pid);
    }
}

/// Through the folder's descriptor: socket names are at most 107 bytes long, folders aren't.
async fn dial(folder: &Path) -> io::Result<UnixStream> {
    let folder = File::open(folder)?;
    let path: PathBuf = format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd()).into();
    UnixStream::connect(path).await
}

/// It leads a session of its own and holds nothing of ours: it outlives the agent. If it ends
/// before, tokio reaps it.
fn spawn(exe: &Path, config: &Path, layout: &Layout) -> io::Result<Child> {
    let path = layout.root().join(LOG);
    if fs::metadata(&path).is_ok_and(|log| log.len() > journal::FILE_BYTES) {
        fs::rename(&path, path.with_extension("log.old"))?;
    }
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&path)?;
    let mut command = Command::new(exe);
    command.env_clear();
    if let Some(filter) = std::env::var_os("STEAD_LOG") {
        command.env("STEAD_LOG", filter);
    }
    command
        .args(["guard", "--config"])
        .arg(std::path::absolute(config)?)
        .env(procfs::STATE_VAR, layout.root())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
}

/// Why it ended, for people: the last error in its log, in one line.
fn last_words(layout: &Layout) -> String {
    let text = fs::read(layout.root().join(LOG)).unwrap_or_default();
    let text = format!("\n{}", String::from_utf8_lossy(&text));
    let error = text.rsplit_once("\nerror: ").map(|(_, error)| error);
    let words: Vec<&str> = error
        .unwrap_or("it said nothing")
        .split_whitespace()
        .collect();
    words.join(" ").chars().take(500).collect()
}
