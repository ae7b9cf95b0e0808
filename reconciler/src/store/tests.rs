//! The store against a real SQLite file: restart, retention, full disk, damage, a killed writer.

use stead_schemas::api::{JournalKind, SuspensionView};
use tempfile::TempDir;

use super::*;
use crate::store::schema;

fn entry(at: u64, about: &str, kind: JournalKind, hold: Option<&str>) -> NewEntry {
    NewEntry {
        at: stead_schemas::time::WallMs(at),
        site: about.parse().ok(),
        revision: None,
        kind,
        about: about.to_owned(),
        text: format!("{about} at {at}"),
        hold: hold.map(str::to_owned),
    }
}

fn suspension() -> SuspensionView {
    SuspensionView {
        scope: "P01".into(),
        by: "alice".into(),
        why: "CHG-1".into(),
        at: stead_schemas::time::WallMs(1),
        until: None,
        failover: false,
    }
}

fn all() -> HistoryQuery {
    HistoryQuery {
        limit: 1_000,
        ..HistoryQuery::default()
    }
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("stead.db");
    let (store, first) = Store::open(&path, DurationMs::seconds(1_000_000_000_000)).unwrap();
    assert!(first.sites.is_empty(), "H7: a missing file is a new store");
    store.write(Write::Journal(vec![entry(
        5,
        "P01",
        JournalKind::Taken,
        None,
    )]));
    store
        .commit(Write::Suspension("P01".into(), Some(suspension())))
        .await
        .unwrap();
    let own = OwnMemory {
        epoch_counter: 7,
        in_force: Some("abc".into()),
    };
    store.commit(Write::Own(own.clone())).await.unwrap();
    drop(store);
    let (store, again) = Store::open(&path, DurationMs::seconds(1_000_000_000_000)).unwrap();
    assert_eq!(again.own, own);
    assert_eq!(again.suspensions["P01"], suspension());
    let history = store.history(all()).await.unwrap();
    assert_eq!(history.len(), 1);
    assert_eq!(history[0].text, "P01 at 5");
    store
        .commit(Write::Suspension("P01".into(), None))
        .await
        .unwrap();
    drop(store);
    let (_, last) = Store::open(&path, DurationMs::seconds(1)).unwrap();
    assert!(last.suspensions.is_empty());
}

#[tokio::test]
async fn history_is_newest_first_filtered_and_paged() {
    let dir = TempDir::new().unwrap();
    let (store, _) = Store::open(&dir.path().join("s.db"), DurationMs(u64::MAX / 4)).unwrap();
    for at in 1..=9 {
        let about = if at % 2 == 0 { "P01" } else { "P02" };
        store.write(Write::Journal(vec![entry(
            at,
            about,
            JournalKind::Plan,
            None,
        )]));
    }
    let query = HistoryQuery {
        site: Some("P01".parse().unwrap()),
        limit: 2,
        ..HistoryQuery::default()
    };
    let first = store.history(query.clone()).await.unwrap();
    let times: Vec<u64> = first.iter().map(|e| e.at.0).collect();
    assert_eq!(times, [8, 6]);
    let before = Some(first[1].id);
    let second = store
        .history(HistoryQuery { before, ..query })
        .await
        .unwrap();
    assert_eq!(second.iter().map(|e| e.at.0).collect::<Vec<_>>(), [4, 2]);
}

#[test]
fn retention_removes_the_old_and_keeps_open_holds() {
    let dir = TempDir::new().unwrap();
    let connection = schema::open(&dir.path().join("s.db")).unwrap();
    let entries = vec![
        entry(1, "P01", JournalKind::Held, Some("aa")),
        entry(2, "P02", JournalKind::Held, Some("bb")),
        entry(3, "P02", JournalKind::Released, Some("bb")),
        entry(4, "P03", JournalKind::Taken, None),
        entry(100, "P03", JournalKind::Taken, None),
    ];
    rows::apply(&connection, &Write::Journal(entries)).unwrap();
    let removed = rows::retain(&connection, stead_schemas::time::WallMs(50)).unwrap();
    assert_eq!(removed, 3);
    let left = rows::history(&connection, &all()).unwrap();
    let abouts: Vec<&str> = left.iter().map(|e| e.about.as_str()).collect();
    assert_eq!(abouts, ["P03", "P01"], "the open hold of P01 stays");
}

#[tokio::test]
async fn a_full_disk_shows_and_nothing_that_waited_is_lost() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("s.db");
    let connection = schema::open(&path).unwrap();
    let pages: i64 = connection
        .query_row("PRAGMA page_count", [], |row| row.get(0))
        .unwrap();
    connection
        .pragma_update(None, "max_page_count", pages)
        .unwrap();
    let (store, _) = Store::over(connection, &path, DurationMs(u64::MAX / 4)).unwrap();
    let big = "x".repeat(20_000);
    let mut long = entry(1, "P01", JournalKind::Taken, None);
    long.text = big.clone();
    store.write(Write::Journal(vec![long]));
    store.settle().await;
    let problem = store.problem().expect("a full disk is a problem");
    assert!(problem.contains("1 changes wait"), "{problem}");
    let refused = store
        .commit(Write::Suspension(big, Some(suspension())))
        .await;
    assert!(refused.is_err(), "nobody is told that it was done");
    assert!(
        store.history(all()).await.unwrap().is_empty(),
        "reads go on"
    );
    // Space comes back: a handle's last breath writes what waited.
    drop(store);
    let (again, _) = wait_open(&path).await;
    // The thread's own connection still had its limit: the entry could not be kept. A fresh one
    // works at once, and the file is whole.
    again.write(Write::Journal(vec![entry(
        2,
        "P01",
        JournalKind::Taken,
        None,
    )]));
    again.settle().await;
    assert_eq!(again.problem(), None);
}

#[tokio::test]
async fn what_waited_is_written_when_there_is_room_again() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("s.db");
    let connection = schema::open(&path).unwrap();
    // Somebody else holds the write lock: the same "can't be written", and it ends.
    let blocker = rusqlite::Connection::open(&path).unwrap();
    connection
        .busy_timeout(std::time::Duration::from_millis(20))
        .unwrap();
    blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (store, _) = Store::over(connection, &path, DurationMs(u64::MAX / 4)).unwrap();
    for at in 1..=3 {
        store.write(Write::Journal(vec![entry(
            at,
            "P01",
            JournalKind::Taken,
            None,
        )]));
    }
    store.settle().await;
    assert!(store.problem().is_some());
    blocker.execute_batch("ROLLBACK").unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while store.problem().is_some() {
        assert!(std::time::Instant::now() < deadline, "never written");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        store.settle().await;
    }
    let history = store.history(all()).await.unwrap();
    assert_eq!(
        history.iter().map(|e| e.at.0).collect::<Vec<_>>(),
        [3, 2, 1]
    );
}

#[test]
fn a_damaged_file_is_refused_with_a_way_out() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("s.db");
    std::fs::write(&path, vec![0x5a; 8192]).unwrap();
    let error = Store::open(&path, DurationMs::seconds(1)).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    assert!(error.to_string().contains("move it away"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), vec![0x5a; 8192], "untouched");
}

#[test]
fn a_newer_file_is_refused() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("s.db");
    schema::open(&path)
        .unwrap()
        .pragma_update(None, "user_version", 99)
        .unwrap();
    let error = Store::open(&path, DurationMs::seconds(1)).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 99, .. }));
}

#[test]
fn a_copy_taken_in_the_middle_of_writing_is_whole() {
    // What a kill leaves behind is what the files hold at that moment: copies taken while the
    // writer works stand for it.
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("s.db");
    let connection = schema::open(&path).unwrap();
    for round in 0..40_u64 {
        let open = connection.unchecked_transaction().unwrap();
        let entries = (0..20)
            .map(|i| entry(round * 20 + i, "P01", JournalKind::Taken, None))
            .collect();
        rows::apply(&open, &Write::Journal(entries)).unwrap();
        let copy = dir.path().join(format!("copy{round}"));
        std::fs::create_dir(&copy).unwrap();
        for name in ["s.db", "s.db-wal"] {
            let from = dir.path().join(name);
            if from.exists() {
                std::fs::copy(from, copy.join(name)).unwrap();
            }
        }
        open.commit().unwrap();
        let seen = schema::open(&copy.join("s.db")).unwrap();
        let check: String = seen
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(check, "ok");
        let query = HistoryQuery {
            limit: 10_000,
            ..HistoryQuery::default()
        };
        let kept = rows::history(&seen, &query).unwrap().len();
        assert_eq!(kept as u64, round * 20, "whole batches only");
    }
}

async fn wait_open(path: &Path) -> (Store, Remembered) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        match Store::open(path, DurationMs(u64::MAX / 4)) {
            Ok(opened) => return opened,
            Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn the_newest_takeovers_of_each_site_are_kept_until_the_site_goes() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("stead.db");
    let keep = DurationMs::seconds(1_000_000_000_000);
    let (store, _) = Store::open(&path, keep).unwrap();
    let view = |site: &str, term: u64| {
        let view = serde_json::json!({
            "site": site, "server": "p01-b", "seenAt": 9,
            "takeover": {"term": term, "from": null, "cause": "failover", "wonAt": 1, "grantedBy": []},
        });
        Box::new(serde_json::from_value(view).unwrap())
    };
    for term in 1..=120 {
        let told = (term == 120).then(|| entry(9, "P01", JournalKind::Takeover, None));
        store.write(Write::Takeover(view("P01", term), told));
    }
    store.write(Write::Takeover(view("P00", 3), None));
    store.write(Write::Takeover(view("P02", 4), None));
    store
        .commit(Write::Site("P02".parse().unwrap(), None))
        .await
        .unwrap();
    assert_eq!(store.history(all()).await.unwrap().len(), 1);
    drop(store);
    let terms = |found: &Remembered, site: &str| {
        let of_site = found.takeovers.get(&site.parse().unwrap());
        of_site.map(|of_site| (of_site.len(), *of_site.keys().next().unwrap()))
    };
    // The thread may still hold the file for a moment.
    let (_store, found) = Store::open(&path, keep).unwrap();
    assert_eq!(terms(&found, "P01"), Some((100, 21)));
    assert_eq!(terms(&found, "P00"), Some((1, 3)));
    assert_eq!(terms(&found, "P02"), None);
    assert!(found.unreadable.is_empty(), "{:?}", found.unreadable);
}
