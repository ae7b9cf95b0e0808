//! A lease message on its way: `POST /v1/lease`, answered with the messages it brings about at once.
//!
//! Beside the message it carries how often its sender has voted, and how often it saw the receiver
//! vote: a voter that is told of votes it does not remember has an old ledger (H4).

use serde::{Deserialize, Serialize};
use site_lease::Message;
use stead_schemas::names::{IdentityKind, ServerName, SiteCode};
use thiserror::Error;

use crate::Voter;

/// Where letters go.
pub const PATH: &str = "/v1/lease";
/// Longest letter: many times what one with eight voters takes.
pub const LETTER_BYTES_MAX: usize = 64 * 1024;
/// Most messages in an answer: more than any message brings about for one voter.
pub(crate) const ANSWERS_MAX: usize = 4;

/// One message to one voter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Letter {
    /// The site.
    pub site: SiteCode,
    /// Who speaks; the certificate must bear the same name.
    pub from: Voter,
    /// To whom: another life of the receiver's ledger does not take it.
    pub to: Voter,
    /// How often the sender has voted.
    pub votes: u64,
    /// How often, as far as the sender has heard, the receiver has.
    pub seen: u64,
    /// What it says.
    pub message: Message<ServerName>,
}

/// What came of a letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Reply {
    /// As in a letter, the other way round.
    pub votes: u64,
    /// As in a letter, the other way round.
    pub seen: u64,
    /// The answers; none: it has none, or is silent.
    pub messages: Vec<Message<ServerName>>,
}

/// Why a letter is not taken. It has had no effect, and is counted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LetterRefusal {
    /// The name in it is not the caller's.
    #[error("the certificate is that of {caller}, the letter says it comes from {from}")]
    Forged {
        /// Who calls.
        caller: String,
        /// Who it says it is.
        from: ServerName,
    },
    /// It is for another site, or another life of this voter's ledger.
    #[error("that is for {to} of {site}, which this voter is not")]
    NotForMe {
        /// The site.
        site: SiteCode,
        /// The receiver.
        to: ServerName,
    },
    /// This voter does not vote now.
    #[error("this voter does not vote: {0}")]
    Out(String),
    /// Too many letters wait.
    #[error("too many letters wait; try again later")]
    Busy,
}

impl LetterRefusal {
    /// The HTTP status it is answered with.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Busy => 503,
            Self::Forged { .. } => 403,
            Self::NotForMe { .. } => 421,
            Self::Out(_) => 409,
        }
    }
}

/// Why somebody of this kind writes no letters; none: they may.
#[must_use]
pub const fn no_writer(kind: IdentityKind) -> Option<&'static str> {
    match kind {
        IdentityKind::Operator => Some("an operator's certificate has no vote"),
        IdentityKind::Reconciler | IdentityKind::Server => None,
    }
}
