//! The task that follows the repository: one fetch at a time, woken by anything, told nothing.
//!
//! A poll with jitter, a [`Waker`] (webhook) and file notification (local repositories) all do the
//! same: they make it look again. What it sees is in a watch channel; whoever reads it decides
//! whether a commit is good. It tears nothing down, whatever happens to the remote.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use stead_schemas::declared::settings::GitSettings;
use stead_wire::clock::wall_now;
use thiserror::Error;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::commit::{CommitInfo, commit_info};
use super::condition::{Brought, SourceState, Tracker};
use super::fetch::{self, FetchCause, FetchError, blocking};
use super::mirror::{Mirror, MirrorError};
use super::notice::RefNotice;
use super::remote::{Remote, SettingError};

/// How long a wake is let settle: a push touches several files, forges send several hooks.
const DEBOUNCE: Duration = Duration::from_millis(50);

/// Makes the source look again, soon. Carries nothing else; calls that come together count once.
#[derive(Debug, Clone, Default)]
pub struct Waker(Arc<Notify>);

impl Waker {
    /// A waker that wakes whoever awaits [`Waker::woken`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for a look.
    pub fn wake(&self) {
        self.0.notify_one();
    }

    /// Returns once somebody asked since the last return. Cancel safe.
    pub async fn woken(&self) {
        self.0.notified().await;
    }
}

/// Why the source cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The settings.
    #[error("the settings of the git source are wrong: {}", list(.0))]
    Settings(Vec<SettingError>),
    /// The state folder.
    #[error("the git mirror cannot be opened")]
    Mirror(#[source] MirrorError),
}

fn list(errors: &[SettingError]) -> String {
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

/// A git source that has its mirror, and its lock, and does not run yet.
#[derive(Debug)]
pub struct Opened {
    mirror: Arc<Mirror>,
    head: Option<CommitInfo>,
    remote: Remote,
    waker: Waker,
}

impl Opened {
    /// Opens the mirror below `state_dir`; a second one of the same folder is refused.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn open(settings: &GitSettings, state_dir: &Path) -> Result<Self, StartError> {
        let remote = Remote::from_settings(settings).map_err(StartError::Settings)?;
        Self::remote(remote, state_dir)
    }

    fn remote(remote: Remote, state_dir: &Path) -> Result<Self, StartError> {
        let mirror = Arc::new(Mirror::open(state_dir).map_err(StartError::Mirror)?);
        let head = known_head(&mirror).map_err(StartError::Mirror)?;
        Ok(Self {
            mirror,
            head,
            remote,
            waker: Waker::new(),
        })
    }

    /// Wakes it, once it runs.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// The mirror, to read commits from and to pin the one in force.
    #[must_use]
    pub fn mirror(&self) -> Arc<Mirror> {
        Arc::clone(&self.mirror)
    }

    /// Starts to follow the remote.
    #[must_use]
    pub fn follow(self) -> GitSource {
        let tracker = Tracker::new(self.head, self.remote.poll);
        let (sender, state) = watch::channel(tracker.state().clone());
        let follow = Follow {
            notice: RefNotice::new(&self.remote, self.waker.clone()),
            mirror: Arc::clone(&self.mirror),
            waker: self.waker.clone(),
            remote: self.remote,
            tracker,
            sender,
        };
        GitSource {
            mirror: self.mirror,
            state,
            waker: self.waker,
            task: tokio::spawn(follow.run()),
        }
    }
}

/// A running git source; dropped, it stops.
#[derive(Debug)]
pub struct GitSource {
    mirror: Arc<Mirror>,
    state: watch::Receiver<SourceState>,
    waker: Waker,
    task: JoinHandle<()>,
}

impl GitSource {
    /// Opens the mirror below `state_dir` and starts to follow the remote.
    ///
    /// What an earlier process saw is known at once, before the remote answers. Must be called on
    /// a tokio runtime; opening reads a few small files.
    ///
    /// # Errors
    /// [`StartError`]; a remote that cannot be reached is a [`super::Condition`] instead.
    pub fn spawn(settings: &GitSettings, state_dir: &Path) -> Result<Self, StartError> {
        Ok(Opened::open(settings, state_dir)?.follow())
    }

    /// As [`Self::spawn`], of settings that were checked.
    ///
    /// # Errors
    /// [`StartError::Mirror`].
    pub fn spawn_remote(remote: Remote, state_dir: &Path) -> Result<Self, StartError> {
        Ok(Opened::remote(remote, state_dir)?.follow())
    }

    /// What is known, and a notice of each change.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<SourceState> {
        self.state.clone()
    }

    /// Wakes it.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// The mirror, to read commits from and to pin the one in force.
    #[must_use]
    pub fn mirror(&self) -> Arc<Mirror> {
        Arc::clone(&self.mirror)
    }
}

impl Drop for GitSource {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn known_head(mirror: &Mirror) -> Result<Option<CommitInfo>, MirrorError> {
    let Some(head) = mirror.head()? else {
        return Ok(None);
    };
    Ok(commit_info(&mirror.repository()?, head).ok())
}

struct Follow {
    mirror: Arc<Mirror>,
    remote: Remote,
    waker: Waker,
    notice: RefNotice,
    tracker: Tracker,
    sender: watch::Sender<SourceState>,
}

impl Follow {
    async fn run(mut self) {
        loop {
            // Before the look: what is pushed after it began must not be missed.
            self.notice.arm();
            let outcome = self.look().await;
            if let Err(error) = &outcome {
                tracing::warn!(%error, hint = error.cause.hint(), "git fetch failed");
            }
            let wait = self.tracker.record(outcome, wall_now(), random());
            self.sender.send_replace(self.tracker.state().clone());
            tokio::select! {
                // Both are cancel safe: a wake that is not taken here stays for the next turn.
                () = tokio::time::sleep(wait.std()) => {}
                () = self.waker.woken() => tokio::time::sleep(DEBOUNCE).await,
            }
        }
    }

    async fn look(&self) -> Result<Brought, FetchError> {
        let fetched = fetch::fetch(&self.mirror, &self.remote).await?;
        let (mirror, remote) = (Arc::clone(&self.mirror), self.remote.clone());
        blocking(move || {
            let brought = take_in(&mirror, fetched);
            brought.map_err(|error| FetchError::new(&remote, FetchCause::Other, error))
        })
        .await
    }
}

/// Makes a fetched commit the head, and notes whether it descends from the one before.
fn take_in(mirror: &Mirror, fetched: git2::Oid) -> Result<Brought, MirrorError> {
    let unusable = |source| MirrorError::Git {
        path: mirror.path().to_owned(),
        source,
    };
    let repository = mirror.repository()?;
    let old = mirror.head()?;
    let rewrote = match old {
        Some(old) if old != fetched => {
            let descends = repository.graph_descendant_of(fetched, old);
            (!descends.map_err(unusable)?).then_some(old)
        }
        _ => None,
    };
    let info = |id| commit_info(&repository, id).map_err(unusable);
    let brought = Brought {
        head: info(fetched)?,
        rewrote: rewrote.map(info).transpose()?,
    };
    if old != Some(fetched) {
        mirror.advance(fetched)?;
        if let Err(error) = mirror.compact() {
            // Many packs are slow, not wrong.
            tracing::warn!(%error, "git mirror was not compacted");
        }
    }
    Ok(brought)
}

/// For jitter only; where the system has no randomness, none is used.
fn random() -> u32 {
    let mut bytes = [0; 4];
    match SystemRandom::new().fill(&mut bytes) {
        Ok(()) => u32::from_le_bytes(bytes),
        Err(_) => 0,
    }
}
