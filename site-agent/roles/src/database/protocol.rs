//! What goes over the embedded store's HTTP interface, as JSON.

use serde::{Deserialize, Serialize};

use crate::store::{Entry, Token};

/// The token that rules, and how far the log is; before the first claim the term is 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Who may write.
    #[serde(flatten)]
    pub token: Token,
    /// The newest sequence number; 0: nothing was written.
    pub sequence: u64,
}

/// `POST /v1/append`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Append {
    /// Who writes.
    #[serde(flatten)]
    pub token: Token,
    /// What.
    pub entries: Vec<Entry>,
}

/// What an append is answered with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Appended {
    /// The sequence number of each entry.
    pub sequences: Vec<u64>,
}

/// `GET /v1/log?from=N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct From {
    /// The first sequence number wanted.
    #[serde(default)]
    pub from: u64,
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Logged {
    /// Its number.
    pub sequence: u64,
    /// Who wrote it.
    #[serde(flatten)]
    pub token: Token,
    /// What.
    #[serde(flatten)]
    pub entry: Entry,
}

/// A page of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Page {
    /// Ask for this one next.
    pub next: u64,
    /// The oldest sequence number that is kept.
    pub oldest: u64,
    /// At most 1,000, in order.
    pub entries: Vec<Logged>,
}
