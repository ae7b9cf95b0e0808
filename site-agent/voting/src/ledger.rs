//! The vote ledger: what a voter must not forget. A file of its own, never in a backup (H4).
//!
//! `votes.json` is a sealed file ([`crate::sealed`]). One that is torn, foreign or of another machine is
//! refused, never guessed at: a voter without its ledger is another voter, which votes only once it was
//! let in.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use site_lease::{Incarnation, Saved};
use stead_schemas::names::{IdentityKind, ObjectName, ServerName, SiteCode};
use thiserror::Error;

use crate::Voter;
use crate::sealed::Sealed;

/// The file's name in its folder.
pub const FILE: &str = "votes.json";
const FORM: Sealed = Sealed {
    file: FILE,
    header: "stead-votes 1 ",
    kind: "a vote ledger of version 1",
    size_max: 1024 * 1024,
};
/// What JSON readers of any kind keep exact.
const INCARNATION_BITS: u64 = (1 << 53) - 1;

/// Whose ledger it is. Another machine's is refused: it may be a copy, and two of one voter vote
/// twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Owner {
    /// The hierarchy.
    pub hierarchy: ObjectName,
    /// The site it votes in.
    pub site: SiteCode,
    /// The voter's name.
    pub name: ServerName,
    /// The machine, as [`machine_id`] tells it.
    pub machine: String,
}

/// Where another voter hears.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Route {
    /// A server's agent, or a reconciler.
    pub kind: IdentityKind,
    /// Where its letters go.
    pub address: SocketAddr,
}

/// What a voter remembers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VoteLedger {
    /// Whose it is.
    pub owner: Owner,
    /// Drawn when this ledger was made.
    pub incarnation: Incarnation,
    /// Votes and voters; none: it was never let in.
    pub saved: Option<Saved<ServerName>>,
    /// The highest count of votes that each other voter told of itself (H4).
    pub(crate) seen: BTreeMap<ServerName, (Incarnation, u64)>,
    /// Where voters hear, those included that are on their way out.
    pub(crate) routes: BTreeMap<ServerName, Route>,
}

/// Why a vote ledger is not used.
#[derive(Debug, Error)]
pub enum LedgerError {
    /// It can't be read, or the first one not be written.
    #[error("can't use the vote ledger {path}")]
    Disk {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not whole.
    #[error(
        "the vote ledger {path} is damaged ({what}); move it away and run `stead replace {name}`: \
         a voter without its ledger has to be let in anew"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
        /// The voter.
        name: ServerName,
    },
    /// It belongs to somebody else.
    #[error(
        "the vote ledger {path} is that of {theirs}, this is {ours}; was the disk copied or restored? \
         Move the file away and run `stead replace {name}`"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        theirs: String,
        /// Who we are.
        ours: String,
        /// The voter.
        name: ServerName,
    },
}

impl VoteLedger {
    /// The ledger in this folder; a new one, with a new incarnation, where there is none.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn open(folder: &Path, owner: &Owner) -> Result<Self, LedgerError> {
        let path = folder.join(FILE);
        let disk = |source| LedgerError::Disk {
            path: path.clone(),
            source,
        };
        let Some(found) = FORM.read::<Self>(folder).map_err(disk)? else {
            let new = Self {
                owner: owner.clone(),
                incarnation: draw().map_err(disk)?,
                saved: None,
                seen: BTreeMap::new(),
                routes: BTreeMap::new(),
            };
            new.save(folder).map_err(disk)?;
            return Ok(new);
        };
        let ledger = found.map_err(|what| LedgerError::Damaged {
            path: path.clone(),
            what,
            name: owner.name.clone(),
        })?;
        if ledger.owner != *owner {
            return Err(LedgerError::Foreign {
                path,
                theirs: ledger.owner.to_string(),
                ours: owner.to_string(),
                name: owner.name.clone(),
            });
        }
        Ok(ledger)
    }

    /// Makes it durable; when this fails, the old one is in force.
    ///
    /// # Errors
    /// What the disk says.
    pub fn save(&self, folder: &Path) -> io::Result<()> {
        FORM.write(folder, serde_json::to_vec(self).map_err(io::Error::other)?)
    }

    /// This voter.
    #[must_use]
    pub fn me(&self) -> Voter {
        Voter {
            name: self.owner.name.clone(),
            incarnation: self.incarnation,
        }
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let machine = self.machine.get(..8).unwrap_or(&self.machine);
        write!(
            f,
            "{} in {} of {} on machine {machine}",
            self.name, self.site, self.hierarchy
        )
    }
}

/// What tells this machine from a copy of its disk: `/etc/machine-id`, and the hardware's own id where
/// it can be read, which a cloned virtual machine does not share. Empty where there is neither.
#[must_use]
pub fn machine_id() -> String {
    let read = |path| {
        fs::read_to_string(path)
            .map(|text| text.trim().to_ascii_lowercase())
            .unwrap_or_default()
    };
    let (system, hardware) = (
        read("/etc/machine-id"),
        read("/sys/class/dmi/id/product_uuid"),
    );
    match hardware.as_str() {
        "" => system,
        hardware => format!("{system}/{hardware}"),
    }
}

fn draw() -> io::Result<Incarnation> {
    let mut bytes = [0; 8];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| io::Error::other("the system gives no random bytes"))?;
    Ok(Incarnation(u64::from_le_bytes(bytes) & INCARNATION_BITS))
}
