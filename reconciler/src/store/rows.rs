//! What the store keeps, as values: journal entries, revisions, and what the reconciler remembers.
//!
//! `memory` rows are whole JSON documents by kind and name, replaced as a whole. This file turns
//! values into rows and back; who writes when is not its business.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use stead_plan::Drain;
use stead_schemas::api::{JournalEntry, JournalKind, RevisionView, SuspensionView, TakeoverView};
use stead_schemas::names::{GroupName, ServerName, SiteCode};
use stead_schemas::observed::{SiteRecorded, Withdrawn};
use stead_schemas::record::RecordKey;
use stead_schemas::role::SiteType;
use stead_schemas::time::WallMs;
use stead_schemas::wire::AgentReport;

use super::schema::StoreError;
use crate::site::takeovers::KEPT;

/// Revisions kept.
const REVISIONS_MAX: i64 = 1_000;
/// Journal entries kept, whatever their age.
pub(super) const ENTRIES_MAX: i64 = 500_000;

/// A journal entry on its way in; the store numbers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEntry {
    /// When.
    pub at: WallMs,
    /// The site; none: the hierarchy or the reconciler.
    pub site: Option<SiteCode>,
    /// The revision in force then.
    pub revision: Option<String>,
    /// What kind of thing happened.
    pub kind: JournalKind,
    /// What it is about, in the address grammar.
    pub about: String,
    /// What happened, in words.
    pub text: String,
    /// For `Held` and `Released`: the hold's id. An open hold's entry outlives retention.
    pub hold: Option<String>,
}

/// What is remembered of one site beside its journal.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SiteMemory {
    /// The planner's own memory.
    pub recorded: SiteRecorded,
    /// Where each server's agent was last reached: a site gone from git is still dismantled.
    pub agents: BTreeMap<ServerName, SocketAddr>,
    /// What left DNS, and since when (H27).
    #[serde(default)]
    pub withdrawn: Vec<WithdrawnMemory>,
    /// Record keys it had: those of a group gone from git are still read and taken away.
    #[serde(default)]
    pub records: BTreeSet<RecordKey>,
    /// Its type, for when git no longer says.
    #[serde(default)]
    pub site_type: Option<SiteType>,
}

/// One entry of [`SiteMemory::withdrawn`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WithdrawnMemory {
    /// The group.
    pub group: GroupName,
    /// The server.
    pub server: ServerName,
    /// Since when, and the TTL last served.
    pub withdrawn: Withdrawn,
}

/// The last report of a server, and when it came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerMemory {
    /// When it was last heard, to a few seconds.
    pub heard_at: WallMs,
    /// What it said.
    pub report: Box<AgentReport>,
}

/// A person's word that a server is gone for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostMemory {
    /// Who said so.
    pub by: String,
    /// Why they are certain.
    pub why: String,
    /// When.
    pub at: WallMs,
}

/// A person's word that a voter with a new ledger is to be let in (H4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplacedMemory {
    /// Who said so.
    pub by: String,
    /// Why.
    pub why: String,
    /// When.
    pub at: WallMs,
    /// The lives of its ledger that voted then, by site: done once others do.
    pub before: BTreeMap<SiteCode, u64>,
}

/// A person took a server out of service for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainMemory {
    /// The server's site.
    pub site: SiteCode,
    /// Who.
    pub by: String,
    /// Why.
    pub why: String,
    /// When.
    pub at: WallMs,
    /// Until when.
    pub until: WallMs,
}

impl DrainMemory {
    /// As the planner takes it.
    #[must_use]
    pub fn as_of(&self, now: WallMs) -> Drain {
        Drain {
            by: self.by.clone(),
            why: self.why.clone(),
            at: self.at,
            until: self.until,
            ended: now >= self.until,
        }
    }
}

/// What is remembered of a server's join token; the token itself is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenMemory {
    /// SHA-256 of the token, lower-case hex.
    pub digest: String,
    /// Who asked for it.
    pub by: String,
    /// When.
    pub made_at: WallMs,
    /// Its last instant.
    pub until: WallMs,
    /// The key that it was used for: that one may ask again.
    pub used_for: Option<String>,
}

/// The few values there is one of.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnMemory {
    /// The highest epoch counter this store ever met or made (H7).
    pub epoch_counter: u64,
    /// The commit in force.
    pub in_force: Option<String>,
}

/// Everything the store remembers when a reconciler starts.
#[derive(Debug, Clone, Default)]
pub struct Remembered {
    /// The few values there is one of.
    pub own: OwnMemory,
    /// Sites.
    pub sites: BTreeMap<SiteCode, SiteMemory>,
    /// Servers' last reports.
    pub servers: BTreeMap<ServerName, ServerMemory>,
    /// Suspensions by scope.
    pub suspensions: BTreeMap<String, SuspensionView>,
    /// Servers out of service.
    pub drains: BTreeMap<ServerName, DrainMemory>,
    /// Servers confirmed lost.
    pub lost: BTreeMap<ServerName, LostMemory>,
    /// Voters whose new ledgers are to be let in.
    pub replaced: BTreeMap<ServerName, ReplacedMemory>,
    /// Join tokens, by server.
    pub tokens: BTreeMap<ServerName, TokenMemory>,
    /// How leases were taken up, by site and term.
    pub takeovers: BTreeMap<SiteCode, BTreeMap<u64, TakeoverView>>,
    /// Holds whose end was not journalled, by site and id: what each is about, and its words.
    pub open_holds: BTreeMap<SiteCode, BTreeMap<String, (String, String)>>,
    /// Rows that could not be read and were left out.
    pub unreadable: Vec<String>,
}

/// One change of the store.
#[derive(Debug, Clone)]
pub enum Write {
    /// A server is out of service, or (none) not any more.
    Drain(ServerName, Option<DrainMemory>),
    /// New journal entries.
    Journal(Vec<NewEntry>),
    /// A server is confirmed lost, or (none) not any more.
    Lost(ServerName, Option<LostMemory>),
    /// The few values there is one of.
    Own(OwnMemory),
    /// A voter with a new ledger is to be let in, or (none) was.
    Replaced(ServerName, Option<ReplacedMemory>),
    /// What became of a revision.
    Revision(RevisionView),
    /// A server's last report, or (none) forget it.
    Server(ServerName, Option<Box<ServerMemory>>),
    /// A site's memory, or (none) forget it.
    Site(SiteCode, Option<SiteMemory>),
    /// A suspension by scope, or (none) its end.
    Suspension(String, Option<SuspensionView>),
    /// What is remembered of a server's join token.
    Token(ServerName, TokenMemory),
    /// How a lease was taken up; with the entry that tells it, where it is new.
    Takeover(Box<TakeoverView>, Option<NewEntry>),
}

/// Which journal entries are wanted; newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HistoryQuery {
    /// Of this site.
    pub site: Option<SiteCode>,
    /// About exactly this.
    pub about: Option<String>,
    /// Of this hold.
    pub hold: Option<String>,
    /// Older than this entry.
    pub before: Option<i64>,
    /// At most so many.
    pub limit: u32,
}

pub(super) fn apply(connection: &Connection, write: &Write) -> Result<(), rusqlite::Error> {
    match write {
        Write::Journal(entries) => entries
            .iter()
            .try_for_each(|entry| append(connection, entry)),
        Write::Drain(server, drain) => {
            remember(connection, "drain", server.as_str(), drain.as_ref())
        }
        Write::Lost(server, lost) => remember(connection, "lost", server.as_str(), lost.as_ref()),
        Write::Own(own) => remember(connection, "own", "own", Some(own)),
        Write::Replaced(server, memory) => {
            remember(connection, "replaced", server.as_str(), memory.as_ref())
        }
        Write::Revision(view) => revision(connection, view),
        Write::Server(server, memory) => {
            remember(connection, "server", server.as_str(), memory.as_deref())
        }
        Write::Site(code, memory) => {
            if memory.is_none() {
                forget_takeovers(connection, code, 0)?;
            }
            remember(connection, "site", code.as_str(), memory.as_ref())
        }
        Write::Suspension(scope, view) => remember(connection, "suspension", scope, view.as_ref()),
        Write::Token(server, memory) => {
            remember(connection, "token", server.as_str(), Some(memory))
        }
        Write::Takeover(view, entry) => {
            entry
                .iter()
                .try_for_each(|entry| append(connection, entry))?;
            // Terms of one width: names are in their order.
            let name = format!("{}/{:020}", view.site, view.takeover.term);
            remember(connection, "takeover", &name, Some(view.as_ref()))?;
            forget_takeovers(connection, &view.site, KEPT)
        }
    }
}

/// Forgets all but the newest takeovers of a site.
fn forget_takeovers(
    connection: &Connection,
    site: &SiteCode,
    keep: usize,
) -> Result<(), rusqlite::Error> {
    let keep = i64::try_from(keep).unwrap_or(i64::MAX);
    connection
        .prepare_cached(
            "DELETE FROM memory WHERE kind = 'takeover' AND name >= ?1 AND name < ?2
             AND name NOT IN (SELECT name FROM memory WHERE kind = 'takeover'
                 AND name >= ?1 AND name < ?2 ORDER BY name DESC LIMIT ?3)",
        )?
        // `0` follows `/`.
        .execute(params![format!("{site}/"), format!("{site}0"), keep])?;
    Ok(())
}

fn append(connection: &Connection, entry: &NewEntry) -> Result<(), rusqlite::Error> {
    if let Some(hold) = &entry.hold {
        connection
            .prepare_cached("UPDATE journal SET open = 0 WHERE open = 1 AND hold = ?1")?
            .execute([hold])?;
    }
    let open = entry.hold.is_some() && entry.kind == JournalKind::Held;
    connection
        .prepare_cached(
            "INSERT INTO journal (at, site, revision, kind, about, text, hold, open)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            number(entry.at.0),
            entry.site.as_ref().map(SiteCode::as_str),
            entry.revision,
            kind_text(entry.kind),
            entry.about,
            entry.text,
            entry.hold,
            open,
        ])?;
    Ok(())
}

fn remember<T: Serialize>(
    connection: &Connection,
    kind: &str,
    name: &str,
    value: Option<&T>,
) -> Result<(), rusqlite::Error> {
    match value {
        Some(value) => {
            let body = serde_json::to_string(value)
                .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
            connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO memory (kind, name, body) VALUES (?, ?, ?)",
                )?
                .execute(params![kind, name, body])?;
        }
        None => {
            connection
                .prepare_cached("DELETE FROM memory WHERE kind = ?1 AND name = ?2")?
                .execute(params![kind, name])?;
        }
    }
    Ok(())
}

fn revision(connection: &Connection, view: &RevisionView) -> Result<(), rusqlite::Error> {
    let body = serde_json::to_string(view)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    connection.execute(
        "INSERT INTO revisions (revision, body) VALUES (?1, ?2)
         ON CONFLICT (revision) DO UPDATE SET body = excluded.body",
        params![view.revision, body],
    )?;
    connection.execute(
        "DELETE FROM revisions WHERE seq <= (SELECT max(seq) FROM revisions) - ?1",
        [REVISIONS_MAX],
    )?;
    Ok(())
}

/// Removes what is older than `cutoff` or too many; open holds stay.
pub(super) fn retain(connection: &Connection, cutoff: WallMs) -> Result<usize, rusqlite::Error> {
    let old = connection.execute(
        "DELETE FROM journal WHERE open = 0 AND at < ?1",
        [number(cutoff.0)],
    )?;
    let many = connection.execute(
        "DELETE FROM journal WHERE open = 0 AND id <= (SELECT max(id) FROM journal) - ?1",
        [ENTRIES_MAX],
    )?;
    Ok(old + many)
}

pub(super) fn remembered(connection: &Connection) -> Result<Remembered, StoreError> {
    let mut found = Remembered::default();
    let mut statement = connection.prepare("SELECT kind, name, body FROM memory")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (kind, name, body): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if take(&mut found, &kind, &name, &body).is_none() {
            found.unreadable.push(format!("{kind} {name}"));
        }
    }
    found.open_holds = open_holds(connection)?;
    Ok(found)
}

type OpenHolds = BTreeMap<SiteCode, BTreeMap<String, (String, String)>>;

fn open_holds(connection: &Connection) -> Result<OpenHolds, StoreError> {
    let mut found = OpenHolds::new();
    let mut statement =
        connection.prepare("SELECT site, hold, about, text FROM journal WHERE open = 1")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (site, hold): (Option<String>, Option<String>) = (row.get(0)?, row.get(1)?);
        let site = site.and_then(|code| code.parse().ok());
        if let (Some(site), Some(hold)) = (site, hold) {
            let words = (row.get(2)?, row.get(3)?);
            found.entry(site).or_default().insert(hold, words);
        }
    }
    Ok(found)
}

fn take(found: &mut Remembered, kind: &str, name: &str, body: &str) -> Option<()> {
    match kind {
        "drain" => drop(found.drains.insert(name.parse().ok()?, read(body)?)),
        "lost" => drop(found.lost.insert(name.parse().ok()?, read(body)?)),
        "own" => found.own = read(body)?,
        "replaced" => drop(found.replaced.insert(name.parse().ok()?, read(body)?)),
        "server" => drop(found.servers.insert(name.parse().ok()?, read(body)?)),
        "site" => drop(found.sites.insert(name.parse().ok()?, read(body)?)),
        "suspension" => drop(found.suspensions.insert(name.to_owned(), read(body)?)),
        "token" => drop(found.tokens.insert(name.parse().ok()?, read(body)?)),
        "takeover" => {
            let view: TakeoverView = read(body)?;
            let of_site = found.takeovers.entry(view.site.clone()).or_default();
            of_site.insert(view.takeover.term, view);
        }
        _ => return None,
    }
    Some(())
}

fn read<T: DeserializeOwned>(body: &str) -> Option<T> {
    serde_json::from_str(body).ok()
}

pub(super) fn history(
    connection: &Connection,
    query: &HistoryQuery,
) -> Result<Vec<JournalEntry>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT id, at, site, revision, kind, about, text FROM journal
         WHERE (?1 IS NULL OR site = ?1) AND (?2 IS NULL OR about = ?2)
           AND (?3 IS NULL OR hold = ?3) AND id < ?4
         ORDER BY id DESC LIMIT ?5",
    )?;
    let rows = statement.query_map(
        params![
            query.site.as_ref().map(SiteCode::as_str),
            query.about,
            query.hold,
            query.before.unwrap_or(i64::MAX),
            query.limit,
        ],
        entry_of,
    )?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn entry_of(row: &Row<'_>) -> Result<JournalEntry, rusqlite::Error> {
    let site: Option<String> = row.get(2)?;
    let kind: String = row.get(4)?;
    let kind = serde_json::from_value(serde_json::Value::String(kind))
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(4, text_type(), error.into()))?;
    Ok(JournalEntry {
        id: row.get(0)?,
        at: WallMs(row.get::<_, i64>(1)?.unsigned_abs()),
        site: site.and_then(|code| code.parse().ok()),
        revision: row.get(3)?,
        kind,
        about: row.get(5)?,
        text: row.get(6)?,
    })
}

pub(super) fn revisions(
    connection: &Connection,
    limit: u32,
) -> Result<Vec<RevisionView>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT body FROM revisions ORDER BY seq DESC LIMIT ?1")?;
    let bodies = statement.query_map([limit], |row| row.get::<_, String>(0))?;
    let mut found = Vec::new();
    for body in bodies {
        found.extend(read(&body?));
    }
    Ok(found)
}

pub(super) fn one_revision(
    connection: &Connection,
    revision: &str,
) -> Result<Option<RevisionView>, StoreError> {
    let body: Option<String> = connection
        .query_row(
            "SELECT body FROM revisions WHERE revision = ?1",
            [revision],
            |row| row.get(0),
        )
        .optional()?;
    Ok(body.as_deref().and_then(read))
}

const fn text_type() -> rusqlite::types::Type {
    rusqlite::types::Type::Text
}

/// SQLite's integers are signed; no instant of ours comes near the end.
fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The kind as JSON writes it.
fn kind_text(kind: JournalKind) -> String {
    match serde_json::to_value(kind) {
        Ok(serde_json::Value::String(text)) => text,
        _ => String::new(),
    }
}
