//! What a voter of a site is made of beside the rules: a clock, a ledger on disk, the other voters at
//! the end of TLS connections, and one task that drives the `site_lease::Node` with them.
//!
//! Shared by agents and by reconcilers that are witnesses. It knows no site server and kills nothing:
//! that work may go on or must end is told to the caller as an [`Event`].

pub mod clock;
mod driver;
pub mod durable;
mod ledger;
mod letter;
mod mail;
pub mod sealed;
mod snapshot;
mod spec;

pub use driver::{Event, Voting, VotingError};
pub use ledger::{FILE, LedgerError, Owner, Route, VoteLedger, machine_id};
pub use letter::{LETTER_BYTES_MAX, Letter, LetterRefusal, PATH, Reply, no_writer};
pub use snapshot::{Snapshot, report};

use stead_schemas::names::ServerName;

/// A voter as this crate knows it: by the name its certificate bears.
pub type Voter = site_lease::Voter<ServerName>;
