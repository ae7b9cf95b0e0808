//! The ledger: what must survive a crash. Assignment, highest epoch, whose ledger it is.
//!
//! `ledger.json` is a sealed file (`site_voting::sealed`). It is durable before anybody is answered (I4).
//! A damaged or foreign ledger is refused, never guessed at: instances go on under their keepers meanwhile. Secrets are not in it (H30).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use stead_schemas::generation::{Epoch, Generation};
use stead_schemas::names::{ObjectName, ServerName};
use stead_schemas::time::WallMs;
use stead_schemas::wire::Assignment;
use thiserror::Error;

use crate::secrets::Versions;
use site_voting::sealed::Sealed;

/// The file's name in the state folder.
pub const FILE: &str = "ledger.json";
const FORM: Sealed = Sealed {
    file: FILE,
    header: "stead-ledger 1 ",
    kind: "a ledger of version 1",
    size_max: 16 * 1024 * 1024,
};

/// Whose ledger it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Owner {
    /// The hierarchy.
    pub hierarchy: ObjectName,
    /// The server.
    pub server: ServerName,
    /// The machine, by `/etc/machine-id`; empty where there is none.
    pub machine: String,
}

/// What an agent remembers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ledger {
    /// Whose it is.
    pub owner: Owner,
    /// The highest epoch ever met (H7).
    pub highest_epoch: Option<Epoch>,
    /// The assignment in force.
    pub assignment: Option<Assignment>,
    /// When it came.
    pub assigned_at: Option<WallMs>,
    /// The secrets held for it.
    pub secrets: Versions,
}

/// Why a ledger is not used.
#[derive(Debug, Error)]
pub enum LedgerError {
    /// It can't be read.
    #[error("can't read the ledger {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not whole.
    #[error(
        "the ledger {path} is damaged ({what}); restore it, or move it away: the reconciler then assigns again"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// It belongs to somebody else.
    #[error(
        "the ledger {path} is that of server {theirs} on another machine or hierarchy, this is {ours}; \
         was the disk copied? Give this agent an empty `stateDir`, or move the ledger away"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        theirs: String,
        /// Who we are.
        ours: String,
    },
}

impl Ledger {
    /// An empty one.
    #[must_use]
    pub const fn new(owner: Owner) -> Self {
        Self {
            owner,
            highest_epoch: None,
            assignment: None,
            assigned_at: None,
            secrets: Versions::new(),
        }
    }

    /// The ledger in the state folder, or `None` before the first.
    ///
    /// # Errors
    /// [`LedgerError`] when it is damaged, or not this owner's.
    pub fn load(folder: &Path, owner: &Owner) -> Result<Option<Self>, LedgerError> {
        let Some(ledger) = Self::read(folder)? else {
            return Ok(None);
        };
        if ledger.owner != *owner {
            return Err(LedgerError::Foreign {
                path: folder.join(FILE),
                theirs: ledger.owner.to_string(),
                ours: owner.to_string(),
            });
        }
        Ok(Some(ledger))
    }

    /// The same without asking whose it is; for looking only.
    ///
    /// # Errors
    /// [`LedgerError`] when it is damaged.
    pub fn read(folder: &Path) -> Result<Option<Self>, LedgerError> {
        let path = folder.join(FILE);
        match FORM.read(folder) {
            Ok(Some(found)) => found
                .map(Some)
                .map_err(|what| LedgerError::Damaged { path, what }),
            Ok(None) => Ok(None),
            Err(source) => Err(LedgerError::Read { path, source }),
        }
    }

    /// Makes it durable; when this fails, the old one is in force.
    ///
    /// # Errors
    /// What the disk says.
    pub fn save(&self, folder: &Path) -> io::Result<()> {
        let body = serde_json::to_vec_pretty(self).map_err(io::Error::other)?;
        FORM.write(folder, body)
    }

    /// The generation in force.
    #[must_use]
    pub fn generation(&self) -> Option<&Generation> {
        self.assignment.as_ref().map(|one| &one.generation)
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.hierarchy, self.server)?;
        match self.machine.get(..8) {
            Some(start) => write!(f, " (machine {start})"),
            None => Ok(()),
        }
    }
}

/// This machine's id; empty where there is none.
#[must_use]
pub fn machine_id() -> String {
    fs::read_to_string("/etc/machine-id")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(server: &str) -> Owner {
        Owner {
            hierarchy: ObjectName::new("contoso").unwrap(),
            server: ServerName::new(server).unwrap(),
            machine: "0123456789abcdef".to_owned(),
        }
    }

    fn ledger() -> Ledger {
        let mut ledger = Ledger::new(owner("p01-a"));
        ledger.highest_epoch = Some(Epoch {
            counter: 7,
            reconciler: "stead-1".to_owned(),
            start: "ab".to_owned(),
        });
        ledger
    }

    #[test]
    fn i4_what_is_saved_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Ledger::load(dir.path(), &owner("p01-a")).unwrap(), None);
        ledger().save(dir.path()).unwrap();
        assert_eq!(
            Ledger::load(dir.path(), &owner("p01-a")).unwrap(),
            Some(ledger())
        );
    }

    #[test]
    fn every_torn_length_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        ledger().save(dir.path()).unwrap();
        let path = dir.path().join(FILE);
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let error = Ledger::load(dir.path(), &owner("p01-a")).unwrap_err();
            assert!(
                matches!(error, LedgerError::Damaged { .. }),
                "{length}: {error}"
            );
        }
    }

    #[test]
    fn one_flipped_bit_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        ledger().save(dir.path()).unwrap();
        let path = dir.path().join(FILE);
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.len() - 10;
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(Ledger::read(dir.path()).is_err());
    }

    #[test]
    fn h4_another_servers_ledger_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        ledger().save(dir.path()).unwrap();
        let error = Ledger::load(dir.path(), &owner("p01-b")).unwrap_err();
        assert!(matches!(error, LedgerError::Foreign { .. }));
        assert!(error.to_string().contains("p01-a"), "{error}");
    }
}
