//! The zone on disk: one SQLite file, one transaction an update message.
//!
//! The write-ahead log with `synchronous=FULL` makes a commit durable before anyone is answered, and
//! a crash keeps whole messages only (H2). The file is held exclusively: two servers on one folder
//! would each answer with their own truth. What is stored is decided elsewhere.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::{Name, RData, RecordType};
use hickory_proto::serialize::binary::{BinDecoder, BinEncodable, BinEncoder, Restrict};
use rusqlite::{Connection, OptionalExtension, params};
use thiserror::Error;

use super::zone::{Delta, RrSet, Zone};
use stead_dns::convert;

const FILE: &str = "zone.sqlite";
/// How long another server on the same folder is waited for: long enough for one that is just
/// being stopped.
const LOCK_WAIT: Duration = Duration::from_secs(2);
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS zone (apex TEXT NOT NULL PRIMARY KEY) STRICT;
    CREATE TABLE IF NOT EXISTS record (
        name TEXT NOT NULL, rtype INTEGER NOT NULL, ttl INTEGER NOT NULL, rdata BLOB NOT NULL,
        PRIMARY KEY (name, rtype, rdata)
    ) STRICT, WITHOUT ROWID;";

/// Why the zone could not be loaded or kept.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The folder could not be made.
    #[error("the folder {path} for the zone cannot be made", path = path.display())]
    Folder {
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// SQLite refused; a lock held by another `stead dns` shows here.
    #[error("the zone file {path} cannot be {doing}: is another `stead dns` using the folder, or the disk full?", path = path.display())]
    Sqlite {
        /// Which file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// The file holds another zone.
    #[error("the zone file {path} holds {found}, not {wanted}: give each zone its own --dir", path = path.display())]
    OtherZone {
        /// Which file.
        path: PathBuf,
        /// The zone in it.
        found: String,
        /// The zone asked for.
        wanted: String,
    },
    /// A row that this program did not write.
    #[error("the zone file {path} is damaged at {row}: restore it, or remove it and let the reconciler publish again", path = path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Name and type.
        row: String,
    },
}

/// The open zone file.
#[derive(Debug)]
pub(super) struct Store {
    db: Connection,
    path: PathBuf,
}

impl Store {
    /// Opens or makes the file and reads the zone; a new one gets SOA and NS.
    pub(super) fn open(dir: &Path, apex: &Name, server: &Name) -> Result<(Self, Zone), StoreError> {
        fs::create_dir_all(dir).map_err(|source| StoreError::Folder {
            path: dir.to_owned(),
            source,
        })?;
        let path = dir.join(FILE);
        let db = connect(&path).map_err(|source| StoreError::Sqlite {
            path: path.clone(),
            doing: "opened",
            source,
        })?;
        let mut store = Self { db, path };
        store.claim(apex)?;
        let mut zone = store.load(apex)?;
        if zone.soa().is_none() {
            let first = Zone::first_delta(apex, server);
            store.save(&first)?;
            zone.apply(first);
        }
        Ok((store, zone))
    }

    /// Makes a delta durable, all of it or nothing.
    pub(super) fn save(&mut self, delta: &Delta) -> Result<(), StoreError> {
        let rows = rows(delta);
        let write = |db: &mut Connection| {
            let transaction = db.transaction()?;
            for (name, rtype, set) in &rows {
                transaction
                    .prepare_cached("DELETE FROM record WHERE name = ?1 AND rtype = ?2")?
                    .execute(params![name, rtype])?;
                for (ttl, rdata) in set {
                    transaction
                        .prepare_cached("INSERT INTO record VALUES (?1, ?2, ?3, ?4)")?
                        .execute(params![name, rtype, ttl, rdata])?;
                }
            }
            transaction.commit()
        };
        write(&mut self.db).map_err(|source| self.failed("written", source))
    }

    /// Writes down which zone this is, or finds that it is another.
    fn claim(&mut self, apex: &Name) -> Result<(), StoreError> {
        let wanted = convert::text(apex);
        let found: Option<String> = self
            .db
            .query_row("SELECT apex FROM zone", [], |row| row.get(0))
            .optional()
            .map_err(|source| self.failed("read", source))?;
        match found {
            Some(found) if found == wanted => Ok(()),
            Some(found) => Err(StoreError::OtherZone {
                path: self.path.clone(),
                found,
                wanted,
            }),
            None => self
                .db
                .execute("INSERT INTO zone VALUES (?1)", [&wanted])
                .map(|_| ())
                .map_err(|source| self.failed("written", source)),
        }
    }

    fn load(&self, apex: &Name) -> Result<Zone, StoreError> {
        let mut zone = Zone::empty(apex.clone());
        let mut delta: Delta = Vec::new();
        for (name, rtype, ttl, rdata) in self.rows().map_err(|e| self.failed("read", e))? {
            let record = decode(&name, rtype, &rdata).ok_or_else(|| StoreError::Damaged {
                path: self.path.clone(),
                row: format!("{name}/{}", RecordType::from(rtype)),
            })?;
            let (owner, rtype, data) = record;
            match delta.last_mut() {
                Some((last, last_type, Some(set))) if *last == owner && *last_type == rtype => {
                    Arc::make_mut(set).data.push(data);
                }
                _ => {
                    let set = RrSet {
                        ttl,
                        data: vec![data],
                    };
                    delta.push((owner, rtype, Some(Arc::new(set))));
                }
            }
        }
        zone.apply(delta);
        Ok(zone)
    }

    fn rows(&self) -> rusqlite::Result<Vec<RecordRow>> {
        let mut statement = self
            .db
            .prepare("SELECT name, rtype, ttl, rdata FROM record ORDER BY name, rtype")?;
        let rows = statement.query_map([], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?;
        rows.collect()
    }

    fn failed(&self, doing: &'static str, source: rusqlite::Error) -> StoreError {
        StoreError::Sqlite {
            path: self.path.clone(),
            doing,
            source,
        }
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let db = Connection::open(path)?;
    db.busy_timeout(LOCK_WAIT)?;
    // Exclusive before WAL: then no shared memory file is needed, and the lock goes with the
    // process however it ends.
    db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.execute_batch(SCHEMA)?;
    Ok(db)
}

/// Name, type, TTL and data of one record, as stored.
type RecordRow = (String, u16, u32, Vec<u8>);
/// One set of a delta, as it will be stored.
type SetRows = (String, u16, Vec<(u32, Vec<u8>)>);

fn rows(delta: &Delta) -> Vec<SetRows> {
    let row = |(name, rtype, set): &(Name, RecordType, Option<Arc<RrSet>>)| {
        let data = set.iter().flat_map(|set| {
            set.data
                .iter()
                .map(|data| (set.ttl, encode(data)))
                .collect::<Vec<_>>()
        });
        (convert::text(name), u16::from(*rtype), data.collect())
    };
    delta.iter().map(row).collect()
}

fn encode(data: &RData) -> Vec<u8> {
    let mut buffer = Vec::new();
    data.emit(&mut BinEncoder::new(&mut buffer))
        .expect("data that was read from the wire fits into it again");
    buffer
}

fn decode(name: &str, rtype: u16, rdata: &[u8]) -> Option<(Name, RecordType, RData)> {
    let rtype = RecordType::from(rtype);
    let length = u16::try_from(rdata.len()).ok()?;
    let data = RData::read(&mut BinDecoder::new(rdata), rtype, Restrict::new(length)).ok()?;
    Some((convert::name(name).ok()?, rtype, data))
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::rdata::A;

    use super::*;

    fn open(dir: &Path, apex: &str) -> Result<(Store, Zone), StoreError> {
        let apex = convert::name(apex).unwrap();
        Store::open(dir, &apex, &convert::name("ns.lab.example").unwrap())
    }

    #[test]
    fn h2_what_was_saved_is_there_after_opening_again() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, zone) = open(dir.path(), "lab.example").unwrap();
        assert_eq!(zone.soa().unwrap().serial, 1);
        let owner = convert::name("a.lab.example").unwrap();
        let set = RrSet {
            ttl: 30,
            data: vec![
                RData::A(A::new(127, 0, 0, 1)),
                RData::A(A::new(127, 0, 0, 2)),
            ],
        };
        let delta = vec![(owner.clone(), RecordType::A, Some(Arc::new(set.clone())))];
        store.save(&delta).unwrap();
        drop(store);
        let (mut store, zone) = open(dir.path(), "lab.example").unwrap();
        assert_eq!(**zone.set(&owner, RecordType::A).unwrap(), set);
        store.save(&vec![(owner, RecordType::A, None)]).unwrap();
        drop(store);
        let (_store, zone) = open(dir.path(), "lab.example").unwrap();
        assert_eq!(zone.records(), 2);
    }

    #[test]
    fn a_folder_serves_one_zone_and_one_server() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path(), "lab.example").unwrap();
        let second = open(dir.path(), "lab.example").unwrap_err();
        assert!(matches!(second, StoreError::Sqlite { .. }), "{second}");
        drop(store);
        let other = open(dir.path(), "other.example").unwrap_err();
        assert!(matches!(other, StoreError::OtherZone { .. }), "{other}");
    }

    #[test]
    fn a_full_disk_keeps_the_last_whole_zone() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, _) = open(dir.path(), "lab.example").unwrap();
        let one = |name: &str, size: usize| {
            let data = convert::txt(&"x".repeat(size));
            let set = RrSet {
                ttl: 30,
                data: vec![data],
            };
            let owner = convert::name(name).unwrap();
            (owner, RecordType::TXT, Some(Arc::new(set)))
        };
        store.save(&vec![one("a.lab.example", 10)]).unwrap();
        // SQLite then answers "database or disk is full" by itself.
        let limit = store
            .db
            .query_row("PRAGMA max_page_count = 1", [], |row| row.get::<_, i64>(0));
        assert!(limit.unwrap() > 0);
        let both = vec![one("b.lab.example", 10), one("c.lab.example", 60_000)];
        let error = store.save(&both).unwrap_err();
        assert!(matches!(error, StoreError::Sqlite { .. }), "{error}");
        drop(store);
        let (_store, zone) = open(dir.path(), "lab.example").unwrap();
        assert_eq!(
            zone.records(),
            3,
            "SOA, NS and a; nothing of the failed message"
        );
    }

    #[test]
    fn a_damaged_row_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path(), "lab.example").unwrap();
        store
            .db
            .execute(
                "INSERT INTO record VALUES ('b.lab.example', 1, 5, x'01')",
                [],
            )
            .unwrap();
        drop(store);
        let error = open(dir.path(), "lab.example").unwrap_err();
        assert!(error.to_string().contains("b.lab.example/A"), "{error}");
    }
}
