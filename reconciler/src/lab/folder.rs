//! The lab's folder: what is where, who has it, and what `lab.json` tells others about it.
//!
//! ```text
//! topology/  pki/  secrets/  reconciler/  dns/  servers/NAME/  logs/  lab.json  lab.sock  stead.sock
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::processes::Process;
use crate::commands::CommandError;

/// Longest path of the folder: socket names are 107 bytes at most.
const PATH_MAX: usize = 90;

/// The paths of a lab.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
}

/// What others may read about a lab while it runs; not how it is governed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LabState {
    /// The lab itself.
    pub(super) lab: Option<Process>,
    /// The servers' loopback network, `127.80`.
    pub(super) network: String,
    /// The DNS server's address.
    pub(super) dns: String,
    /// The domain it serves.
    pub(super) domain: String,
    /// The reconciler's socket.
    pub(super) api: PathBuf,
    /// Programs by name: `stead run`, `stead dns`, `site-agent p01-a`.
    pub(super) processes: BTreeMap<String, Process>,
}

/// Held while a lab runs in its folder.
#[derive(Debug)]
pub(super) struct FolderLock {
    _file: File,
}

impl Folder {
    /// The folder at this path, which need not exist.
    ///
    /// # Errors
    /// When the path is too long for sockets, or there is no current folder.
    pub fn at(dir: &Path) -> Result<Self, CommandError> {
        let root = std::path::absolute(dir)?;
        if root.as_os_str().len() > PATH_MAX {
            let message = format!("{} is too long a path for sockets in it", root.display());
            return Err(CommandError::failed(message).hinted("give a shorter one with --dir"));
        }
        Ok(Self { root })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn topology(&self) -> PathBuf {
        self.root.join("topology")
    }

    pub(super) fn pki(&self) -> PathBuf {
        self.root.join("pki")
    }

    pub(super) fn secrets(&self) -> PathBuf {
        self.root.join("secrets")
    }

    pub(super) fn reconciler(&self) -> PathBuf {
        self.root.join("reconciler")
    }

    pub(super) fn dns(&self) -> PathBuf {
        self.root.join("dns")
    }

    /// A server's folder.
    pub(super) fn server(&self, name: &str) -> PathBuf {
        self.root.join("servers").join(name)
    }

    /// The folder below which all servers have theirs.
    pub(super) fn servers(&self) -> PathBuf {
        self.root.join("servers")
    }

    /// A server's agent's state; also the mark its processes carry.
    pub(super) fn agent_state(&self, name: &str) -> PathBuf {
        self.server(name).join("state")
    }

    /// Where a program's output goes.
    pub(super) fn log(&self, program: &str) -> PathBuf {
        self.root
            .join("logs")
            .join(format!("{}.log", program.replace(' ', "-")))
    }

    pub(super) fn api_socket(&self) -> PathBuf {
        self.root.join("stead.sock")
    }

    pub(super) fn control_socket(&self) -> PathBuf {
        self.root.join("lab.sock")
    }

    fn state_file(&self) -> PathBuf {
        self.root.join("lab.json")
    }

    /// Whether a lab was made here before.
    ///
    /// # Errors
    /// When something else is there.
    pub(super) fn is_made(&self) -> Result<bool, CommandError> {
        if self.state_file().exists() {
            return Ok(true);
        }
        match fs::read_dir(&self.root).map(|mut entries| entries.next()) {
            Ok(None) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Ok(Some(_)) => {
                let message = format!("{} is no lab, and it is not empty", self.root.display());
                Err(CommandError::failed(message).hinted("give another folder with --dir"))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the folder for this process.
    ///
    /// # Errors
    /// When another lab runs in it.
    pub(super) fn lock(&self) -> Result<FolderLock, CommandError> {
        fs::create_dir_all(&self.root)?;
        let file = File::open(&self.root)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(FolderLock { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let message = format!("a lab runs in {} already", self.root.display());
                Err(CommandError::failed(message)
                    .hinted("end it with Ctrl-C there, or give another folder with --dir"))
            }
            Err(error) => Err(io::Error::from(error).into()),
        }
    }

    /// What the last lab here wrote; nothing where it can't be read.
    pub(super) fn read_state(&self) -> Option<LabState> {
        serde_json::from_slice(&fs::read(self.state_file()).ok()?).ok()
    }

    /// Tells others, whole or not at all.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn write_state(&self, state: &LabState) -> io::Result<()> {
        let aside = self.root.join("lab.json.new");
        let text = serde_json::to_vec_pretty(state).map_err(io::Error::other)?;
        fs::write(&aside, text)?;
        fs::rename(aside, self.state_file())
    }
}
