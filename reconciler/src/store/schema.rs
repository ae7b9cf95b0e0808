//! The store's tables, and how a database file is opened, checked and brought to this version.
//!
//! A missing file is a new store (H7: losing it costs the journal and nothing else). A damaged one
//! is refused: replacing it silently would hide a failing disk.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags};
use thiserror::Error;

/// The version this program writes.
const VERSION: i64 = 1;

const TABLES: &str = "
CREATE TABLE journal (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    site TEXT,
    revision TEXT,
    kind TEXT NOT NULL,
    about TEXT NOT NULL,
    text TEXT NOT NULL,
    hold TEXT,
    open INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX journal_about ON journal (about, id);
CREATE INDEX journal_site ON journal (site, id);
CREATE INDEX journal_open ON journal (hold) WHERE open = 1;
CREATE INDEX journal_hold ON journal (hold, id) WHERE hold IS NOT NULL;
CREATE TABLE revisions (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    revision TEXT NOT NULL UNIQUE,
    body TEXT NOT NULL
);
CREATE TABLE memory (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;
";

/// Why the store can't be used. `Display` leaves the source out; print the chain.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The file is no database, or a broken one.
    #[error(
        "{} is damaged; keep a copy, move it away and start again: agents and DNS tell the \
         reconciler everything but the journal", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: Option<rusqlite::Error>,
    },
    /// Written by a later program.
    #[error(
        "{} has version {found}, this program knows {VERSION}; run the newer stead", path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
    /// It can't be opened.
    #[error("can't open {}; check the folder, its owner and the space left", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// A read or a write failed.
    #[error("the journal can't be read or written; check the space left where it lies")]
    Sql {
        /// What SQLite said.
        #[from]
        source: rusqlite::Error,
    },
    /// The store is closing.
    #[error("the reconciler is shutting down")]
    Closed,
    /// More waits to be written than is kept in memory.
    #[error("too much waits to be written to the journal; check the disk below it")]
    Busy,
}

/// Opens, checks and prepares the file; makes it if it is missing.
///
/// # Errors
/// [`StoreError`].
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    let at = |source| of_open(path, source);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(at)?;
    connection
        .busy_timeout(std::time::Duration::from_secs(2))
        .map_err(at)?;
    let quick: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(at)?;
    if quick != "ok" {
        return Err(StoreError::Damaged {
            path: path.to_owned(),
            source: None,
        });
    }
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")
        .map_err(at)?;
    prepare(&connection, path)?;
    Ok(connection)
}

fn prepare(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    match found {
        0 => {
            connection.execute_batch(&format!(
                "BEGIN; {TABLES} PRAGMA user_version = {VERSION}; COMMIT;"
            ))?;
            Ok(())
        }
        VERSION => Ok(()),
        found => Err(StoreError::Newer {
            path: path.to_owned(),
            found,
        }),
    }
}

fn of_open(path: &Path, source: rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Damaged {
            path,
            source: Some(source),
        },
        _ => StoreError::Open { path, source },
    }
}
