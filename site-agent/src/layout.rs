//! The agent's state folder: what is where, and the lock that keeps a second agent out.
//!
//! ```text
//! agent.lock  agent.sock  guard.lock  guard.sock  guard.log  ledger.json
//! control.sock  votes.json  progress  commands.log
//! secrets/NAME/VERSION    archives/SHA256/    instances/GROUP/    data/GROUP/
//! ```

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use stead_schemas::names::GroupName;
use thiserror::Error;

use crate::secrets::SecretStore;

/// How long an agent that is just being replaced may hold on to the folder.
const HANDOVER: Duration = Duration::from_secs(5);

/// Why the state folder can't be used.
#[derive(Debug, Error)]
pub enum LayoutError {
    /// It can't be made or read.
    #[error("can't use the state folder {path}; it must be writable for the agent's user")]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another agent has it.
    #[error("another site-agent uses the state folder {path}; give each agent its own `stateDir`")]
    Taken {
        /// The folder.
        path: PathBuf,
    },
}

/// The paths of a state folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

/// Held while an agent uses a state folder.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

impl Layout {
    /// The folder at `root`, made private if it is missing.
    ///
    /// # Errors
    /// [`LayoutError::Folder`].
    pub fn make(root: &Path) -> Result<Self, LayoutError> {
        let failed = |path: &Path, source| LayoutError::Folder {
            path: path.to_owned(),
            source,
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(root)
            .map_err(|source| failed(root, source))?;
        let layout = Self::of(root)?;
        for dir in [layout.instances(), layout.archives(), layout.data_root()] {
            fs::create_dir_all(&dir).map_err(|source| failed(&dir, source))?;
        }
        Ok(layout)
    }

    /// The folder at `root`, which is there already.
    ///
    /// # Errors
    /// [`LayoutError::Folder`].
    pub fn of(root: &Path) -> Result<Self, LayoutError> {
        let root = root.canonicalize().map_err(|source| LayoutError::Folder {
            path: root.to_owned(),
            source,
        })?;
        Ok(Self { root })
    }

    /// Takes the folder for this process.
    ///
    /// # Errors
    /// [`LayoutError::Taken`] when another agent has it, and keeps it.
    pub fn lock(&self) -> Result<FolderLock, LayoutError> {
        let path = self.root.join("agent.lock");
        let failed = |source| LayoutError::Folder {
            path: path.clone(),
            source,
        };
        let file = File::create(&path).map_err(failed)?;
        let end = Instant::now() + HANDOVER;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(FolderLock { _file: file }),
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(LayoutError::Taken {
                        path: self.root.clone(),
                    });
                }
                Err(error) => return Err(failed(error.into())),
            }
        }
    }

    /// The folder itself, canonical.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The socket for people on this machine.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.root.join(SOCKET)
    }

    /// All instance folders.
    #[must_use]
    pub fn instances(&self) -> PathBuf {
        self.root.join("instances")
    }

    /// What belongs to one instance, its data apart.
    #[must_use]
    pub fn instance(&self, group: &GroupName) -> PathBuf {
        self.instances().join(group.as_str())
    }

    /// An instance's captured output.
    #[must_use]
    pub fn output(&self, group: &GroupName) -> PathBuf {
        self.instance(group).join("output")
    }

    /// All data folders.
    #[must_use]
    pub fn data_root(&self) -> PathBuf {
        self.root.join("data")
    }

    /// What an instance keeps; survives its removal.
    #[must_use]
    pub fn data(&self, group: &GroupName) -> PathBuf {
        self.data_root().join(group.as_str())
    }

    /// Unpacked archives by digest.
    #[must_use]
    pub fn archives(&self) -> PathBuf {
        self.root.join("archives")
    }

    /// The secrets.
    #[must_use]
    pub fn secrets(&self) -> SecretStore {
        SecretStore::at(self.root.join("secrets"))
    }

    /// The groups that have a folder below `dir`; names that are none are left alone.
    #[must_use]
    pub fn groups_in(dir: &Path) -> Vec<GroupName> {
        let Ok(entries) = fs::read_dir(dir) else {
            return Vec::new();
        };
        let mut found: Vec<GroupName> = entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        found.sort();
        found
    }
}

/// The name of the socket for people on this machine.
pub const SOCKET: &str = "agent.sock";
