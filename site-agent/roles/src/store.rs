//! The store that a site server's work is kept in: one open connection, and what goes over it.
//!
//! Whoever writes names its token (term, holder); the store takes it only when it equals the one
//! claimed last (H5). An operation has no deadline of its own here: its caller gives it one and drops
//! the connection when it is over, because what was asked may still happen. Which term may be
//! claimed, and when, is not decided here.

mod embedded;
pub mod postgres;

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stead_schemas::prerequisite::{Check, Finding, Prerequisite};
use thiserror::Error;

use crate::settings::{PairSettings, Password, SiteServerSettings, StoreSettings};

/// Most entries of one append.
pub const ENTRIES_MAX: usize = 128;
/// Longest id of an entry, in bytes.
pub const ID_MAX: usize = 64;
/// Longest text of an entry, in bytes.
pub const TEXT_MAX: usize = 1_024;
/// Longest name of a holder, in bytes.
pub const HOLDER_MAX: usize = 63;
/// How many entries a store keeps, and knows again by their id.
pub const KEPT: usize = 50_000;

/// Who may write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Token {
    /// The term.
    pub term: u64,
    /// The server that holds it.
    pub holder: String,
}

/// One thing to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Written once, however often it is asked for; none: written each time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What.
    pub text: String,
}

impl Entry {
    /// Whether it is within the bounds of every store.
    #[must_use]
    pub fn fits(&self) -> bool {
        let named = |id: &String| (1..=ID_MAX).contains(&id.len()) && !id.contains('\0');
        self.id.as_ref().is_none_or(named)
            && self.text.len() <= TEXT_MAX
            && !self.text.contains('\0')
    }
}

/// Why an operation was not done.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Another token rules: a higher term, or another holder. Nothing was written.
    #[error("the store knows term {} of {}", .0.term, .0.holder)]
    Outranked(Token),
    /// The last look at the deadline said no. Nothing was written.
    #[error("the deadline has passed")]
    Closed,
    /// The store said no; nothing was written, and the connection is fine.
    #[error("the store refused: {0}")]
    Refused(String),
    /// No connection, or not any more. What was under way may have happened.
    #[error("{0}")]
    Broken(String),
    /// No answer in time. What was under way may have happened.
    #[error("the store did not answer within {} ms", .0.as_millis())]
    Late(Duration),
}

impl StoreError {
    /// Whether the connection is of no more use.
    #[must_use]
    pub const fn ends_connection(&self) -> bool {
        matches!(self, Self::Broken(_) | Self::Late(_))
    }

    /// An error and its causes in one line; those of the store's libraries hold no secrets.
    pub(crate) fn broken(what: &str, error: &dyn std::error::Error) -> Self {
        Self::Broken(told(what, error))
    }
}

pub(crate) fn told(what: &str, error: &dyn std::error::Error) -> String {
    let mut text = format!("{what}: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text.retain(|letter| !letter.is_control());
    text
}

/// Asked right before anything takes effect: may it still?
pub type Gate<'a> = &'a (dyn Fn() -> bool + Send + Sync);

/// An open connection to a store.
#[derive(Debug)]
pub enum Store {
    /// `site-agent role database`.
    Embedded(embedded::Embedded),
    /// PostgreSQL, boxed for its size.
    Postgres(Box<postgres::Postgres>),
}

impl Store {
    /// Opens a connection, to the writable host where there are several.
    ///
    /// # Errors
    /// [`StoreError::Broken`], [`StoreError::Late`].
    pub async fn connect(settings: &PairSettings) -> Result<Self, StoreError> {
        let within = settings.settings.timeout();
        match &settings.settings.store {
            StoreSettings::Embedded(store) => {
                let connected = tokio::time::timeout(
                    within,
                    embedded::Embedded::connect(store, settings.address),
                );
                let open = connected.await.map_err(|_| StoreError::Late(within))??;
                Ok(Self::Embedded(open))
            }
            StoreSettings::Postgresql(store) => {
                let session = postgres::Session {
                    site: settings.settings.site.clone(),
                    holder: settings.holder.clone(),
                    password: settings.password.clone(),
                    within,
                };
                let open = postgres::Postgres::connect(store, session).await?;
                Ok(Self::Postgres(Box::new(open)))
            }
        }
    }

    /// What a site server with these settings would lack of its store, when it runs on `holder` and its
    /// calls leave from `address`. `secret` is the name of the password. Nothing is written.
    pub async fn look(
        settings: &SiteServerSettings,
        holder: &str,
        address: Option<IpAddr>,
        password: Password,
        secret: Option<&str>,
    ) -> Check {
        let within = settings.timeout();
        match &settings.store {
            StoreSettings::Embedded(store) => {
                let connected = embedded::Embedded::connect(store, address);
                let answer = tokio::time::timeout(within, connected).await;
                let wrong = match answer {
                    Ok(Ok(_)) => None,
                    Ok(Err(error)) => Some(error),
                    Err(_) => Some(StoreError::Late(within)),
                };
                let finding = wrong.map(|error| {
                    let address = store.address;
                    Finding::fatal(
                        format!("the embedded database at {address}: {error}"),
                        format!(
                            "it has to run, and {holder} has to reach TCP port {}",
                            address.port()
                        ),
                    )
                });
                Check {
                    prerequisite: Prerequisite::Database,
                    measured: Some(format!("embedded, at {}", store.address)),
                    findings: finding.into_iter().collect(),
                }
            }
            StoreSettings::Postgresql(store) => {
                let session = postgres::Session {
                    site: settings.site.clone(),
                    holder: holder.to_owned(),
                    password,
                    within,
                };
                postgres::Postgres::look(store, &session, secret).await
            }
        }
    }

    /// Whether a claim here and now would find a store that writes.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn check(&mut self) -> Result<(), StoreError> {
        match self {
            Self::Embedded(store) => store.check().await,
            Self::Postgres(store) => store.check().await,
        }
    }

    /// Raises the token, durably. Only a higher term, or the same of the same holder, is taken.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Outranked`] when another token rules.
    pub async fn claim(&mut self, token: &Token, gate: Gate<'_>) -> Result<(), StoreError> {
        match self {
            Self::Embedded(store) => store.claim(token, gate).await,
            Self::Postgres(store) => store.claim(token, gate).await,
        }
    }

    /// Appends, durably, all or nothing: the sequence number of each entry. An entry whose id is
    /// known already gets the number it has.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Outranked`] when another token rules.
    pub async fn append(
        &mut self,
        token: &Token,
        entries: &[Entry],
        gate: Gate<'_>,
    ) -> Result<Vec<u64>, StoreError> {
        let appended = match self {
            Self::Embedded(store) => store.append(token, entries, gate).await?,
            Self::Postgres(store) => store.append(token, entries, gate).await?,
        };
        if appended.len() == entries.len() {
            Ok(appended)
        } else {
            Err(StoreError::Broken("the store answered in part".to_owned()))
        }
    }
}
