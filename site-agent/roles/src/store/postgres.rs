//! PostgreSQL as a store: one session, which never writes without having locked the token (H5).
//!
//! Every write takes the token's row `FOR SHARE` and requires equality, so that a claim, which takes
//! it `FOR UPDATE`, comes before or after it, never between. A claim first ends the sessions of other
//! tokens, or it would wait for the open transaction of a host that is cut off. Acknowledged means
//! committed with `synchronous_commit = on`: with `synchronous_standby_names` set, at a standby too.

mod connect;
mod look;
mod tls;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stead_schemas::prerequisite::Check;
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, Row, Statement};

use super::{Entry, Gate, KEPT, StoreError, Token};
use crate::settings::{Password, PostgresSettings};

/// Forgetting what is no longer kept is done once in this many numbers.
const FORGET_EVERY: i64 = 1_000;

/// How a session says who it is, and how long it waits.
#[derive(Debug, Clone)]
pub struct Session {
    /// The site's code.
    pub site: String,
    /// This server.
    pub holder: String,
    /// The user's.
    pub password: Password,
    /// Longest wait for anything, shorter than the lease.
    pub within: Duration,
}

impl Session {
    /// `stead/<site>/<holder>/<term>`; term 0 has claimed nothing and so written nothing.
    fn application(&self, term: u64) -> String {
        format!("stead/{}/{}/{term}", self.site, self.holder)
    }
}

/// An open session. Dropping it closes it.
#[derive(Debug)]
pub struct Postgres {
    client: Client,
    share: Statement,
    insert: Statement,
    session: Session,
    /// The server warned since this was last reset.
    warned: Arc<AtomicBool>,
    _driver: Driver,
}

/// The task that carries a session's traffic; it ends with the session, also while the server owes
/// an answer.
#[derive(Debug)]
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

const LOOK: &str = "SELECT term, holder FROM stead_term";
const SHARE: &str = "SELECT term, holder FROM stead_term FOR SHARE";
const LOCK: &str = "SELECT term, holder FROM stead_term FOR UPDATE";
/// Standbys that never claimed are left alone. Names are cut at 63 bytes; a cut one is ended.
const END_OTHERS: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
    WHERE datname = current_database() AND pid <> pg_backend_pid() \
    AND starts_with(application_name, $1) AND application_name NOT LIKE '%/0'";
const RAISE: &str = "UPDATE stead_term SET term = $1, holder = $2";
const INSERT: &str = "INSERT INTO stead_entries (term, holder, id, text) \
    SELECT $1, $2, e.id, e.text FROM unnest($3::text[], $4::text[]) WITH ORDINALITY \
    AS e (id, text, place) ORDER BY e.place \
    ON CONFLICT (id) DO NOTHING RETURNING sequence, id";
const KNOWN: &str = "SELECT sequence, id FROM stead_entries WHERE id = ANY($1::text[])";
const FORGET: &str = "DELETE FROM stead_entries WHERE sequence <= $1";

impl Postgres {
    /// Opens a session on the host that is writable, and makes the tables where there are none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn connect(
        settings: &PostgresSettings,
        session: Session,
    ) -> Result<Self, StoreError> {
        connect::connect(settings, session).await
    }

    /// What a site server with these settings would lack here, each thing by name (SP-10, SP-14, G-10).
    /// `secret` is the name of its password. Nothing is written.
    pub async fn look(
        settings: &PostgresSettings,
        session: &Session,
        secret: Option<&str>,
    ) -> Check {
        look::look(settings, session, secret).await
    }

    /// Whether the session would write here and now.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn check(&mut self) -> Result<(), StoreError> {
        let asked = "SELECT pg_is_in_recovery() FROM stead_term";
        let row = self.client.query_one(asked, &[]).await.map_err(failed)?;
        if row.try_get(0).map_err(failed)? {
            return Err(StoreError::Broken("the host is a standby".to_owned()));
        }
        Ok(())
    }

    /// As [`super::Store::claim`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn claim(&mut self, token: &Token, gate: Gate<'_>) -> Result<(), StoreError> {
        let term = number(token.term)?;
        // Before anything is ended: a stale claimant disturbs nobody.
        refuse_lower(&self.read(LOOK).await?, token)?;
        self.name(token.term).await?;
        let prefix = format!("stead/{}/", self.session.site);
        self.client
            .execute(END_OTHERS, &[&prefix])
            .await
            .map_err(failed)?;
        self.begin().await?;
        match self.raise(term, token).await {
            Ok(()) => self.commit(gate).await,
            Err(refusal) => self.back_out(refusal).await,
        }
    }

    async fn raise(&self, term: i64, token: &Token) -> Result<(), StoreError> {
        refuse_lower(&self.read(LOCK).await?, token)?;
        // Written also when it is the same: only a commit waits for the standby.
        let raised = self.client.execute(RAISE, &[&term, &token.holder]).await;
        raised.map(drop).map_err(failed)
    }

    /// As [`super::Store::append`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn append(
        &mut self,
        token: &Token,
        entries: &[Entry],
        gate: Gate<'_>,
    ) -> Result<Vec<u64>, StoreError> {
        self.begin().await?;
        match self.insert(token, entries).await {
            Ok(sequences) => self.commit(gate).await.map(|()| sequences),
            Err(refusal) => self.back_out(refusal).await,
        }
    }

    /// Whether commits wait for a standby: without `synchronous_standby_names` an acknowledged write,
    /// and the token, are safe within one database primary only (H5).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn has_synchronous_standby(&mut self) -> Result<bool, StoreError> {
        let asked = "SELECT current_setting('synchronous_standby_names') <> ''";
        let row = self.client.query_one(asked, &[]).await.map_err(failed)?;
        row.try_get(0).map_err(failed)
    }

    async fn read(&self, query: &str) -> Result<Token, StoreError> {
        let row = self.client.query_one(query, &[]).await.map_err(failed)?;
        token_of(&row)
    }

    async fn name(&self, term: u64) -> Result<(), StoreError> {
        let name = self.session.application(term);
        self.client
            .execute("SELECT set_config('application_name', $1, false)", &[&name])
            .await
            .map(drop)
            .map_err(failed)
    }

    async fn begin(&self) -> Result<(), StoreError> {
        let begin = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
        self.client.batch_execute(begin).await.map_err(failed)
    }

    /// Numbers in the order of the entries; those of one statement rise with their place.
    async fn insert(&self, token: &Token, entries: &[Entry]) -> Result<Vec<u64>, StoreError> {
        let term = number(token.term)?;
        let row = token_of(
            &self
                .client
                .query_one(&self.share, &[])
                .await
                .map_err(failed)?,
        )?;
        if row != *token {
            return Err(StoreError::Outranked(row));
        }
        let mut fresh: Vec<&Entry> = Vec::with_capacity(entries.len());
        for entry in entries {
            let twice = |earlier: &&Entry| earlier.id.is_some() && earlier.id == entry.id;
            if !fresh.iter().any(twice) {
                fresh.push(entry);
            }
        }
        let ids: Vec<Option<&str>> = fresh.iter().map(|entry| entry.id.as_deref()).collect();
        let texts: Vec<&str> = fresh.iter().map(|entry| entry.text.as_str()).collect();
        let inserted = self
            .client
            .query(&self.insert, &[&term, &token.holder, &ids, &texts])
            .await
            .map_err(failed)?;
        let mut found = Found::default();
        inserted.iter().try_for_each(|row| found.add(row))?;
        let newest = found.newest;
        if inserted.len() < fresh.len() {
            let named: Vec<&str> = ids.iter().flatten().copied().collect();
            let known = self.client.query(KNOWN, &[&named]).await.map_err(failed)?;
            known.iter().try_for_each(|row| found.add(row))?;
        }
        let kept = i64::try_from(KEPT).unwrap_or(i64::MAX);
        if newest / FORGET_EVERY > (newest - inserted.len() as i64) / FORGET_EVERY {
            self.client
                .execute(FORGET, &[&(newest - kept)])
                .await
                .map_err(failed)?;
        }
        found.numbers(entries)
    }

    async fn commit(&self, gate: Gate<'_>) -> Result<(), StoreError> {
        if !gate() {
            return self.back_out(StoreError::Closed).await;
        }
        self.warned.store(false, Ordering::Relaxed);
        self.client.batch_execute("COMMIT").await.map_err(lost)?;
        // A commit whose wait for the standby was cancelled succeeds with a warning, and is not safe.
        if self.warned.load(Ordering::Relaxed) {
            return Err(StoreError::Broken(
                "the commit came with a warning".to_owned(),
            ));
        }
        Ok(())
    }

    /// Ends the transaction with nothing written, and says why.
    async fn back_out<T>(&self, refusal: StoreError) -> Result<T, StoreError> {
        if !refusal.ends_connection() {
            self.client.batch_execute("ROLLBACK").await.map_err(lost)?;
        }
        Err(refusal)
    }
}

/// Numbers by id, and those without one in their order.
#[derive(Debug, Default)]
struct Found {
    named: std::collections::BTreeMap<String, i64>,
    unnamed: std::collections::VecDeque<i64>,
    newest: i64,
}

impl Found {
    fn add(&mut self, row: &Row) -> Result<(), StoreError> {
        let sequence: i64 = row.try_get(0).map_err(failed)?;
        self.newest = self.newest.max(sequence);
        match row.try_get(1).map_err(failed)? {
            Some(id) => drop(self.named.insert(id, sequence)),
            None => self.unnamed.push_back(sequence),
        }
        Ok(())
    }

    fn numbers(mut self, entries: &[Entry]) -> Result<Vec<u64>, StoreError> {
        let number = |entry: &Entry| {
            let found = match &entry.id {
                Some(id) => self.named.get(id).copied(),
                None => self.unnamed.pop_front(),
            };
            found.and_then(|sequence| u64::try_from(sequence).ok())
        };
        let all: Option<Vec<u64>> = entries.iter().map(number).collect();
        all.ok_or_else(|| StoreError::Refused("an entry has no number".to_owned()))
    }
}

fn token_of(row: &Row) -> Result<Token, StoreError> {
    let term: i64 = row.try_get(0).map_err(failed)?;
    Ok(Token {
        term: u64::try_from(term).unwrap_or(0),
        holder: row.try_get(1).map_err(failed)?,
    })
}

fn refuse_lower(row: &Token, token: &Token) -> Result<(), StoreError> {
    if row.term < token.term || row == token {
        Ok(())
    } else {
        Err(StoreError::Outranked(row.clone()))
    }
}

fn number(term: u64) -> Result<i64, StoreError> {
    i64::try_from(term).map_err(|_| StoreError::Refused(format!("term {term} is too high")))
}

/// Before a commit: what the server itself refused has no effect.
#[expect(clippy::needless_pass_by_value, reason = "as `map_err` gives it")]
fn failed(error: Error) -> StoreError {
    match error.as_db_error() {
        Some(refusal) if !ends(refusal.code()) => {
            StoreError::Refused(format!("{}: {}", refusal.code().code(), refusal.message()))
        }
        _ => StoreError::broken("the database", &error),
    }
}

/// At a commit nothing is certain.
#[expect(clippy::needless_pass_by_value, reason = "as `map_err` gives it")]
fn lost(error: Error) -> StoreError {
    StoreError::broken("the database", &error)
}

/// Errors after which the server closes the session.
fn ends(code: &SqlState) -> bool {
    code.code().starts_with("57P")
        || code.code().starts_with("08")
        || [
            SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
            SqlState::READ_ONLY_SQL_TRANSACTION,
        ]
        .contains(code)
}
