//! PostgreSQL as a store, for real: tokens, open transactions, standbys, TLS and passwords.

use std::time::Duration;

use site_roles::settings::{Password, PostgresSettings};
use site_roles::store::postgres::{Postgres, Session};
use site_roles::store::{Entry, StoreError, Token};
use stead_schemas::desired::DatabaseTls;
use tokio::task::JoinSet;

use crate::cluster::{NAME, Server, USER, until};
use crate::stage::SOON;

fn place(server: &Server) -> PostgresSettings {
    PostgresSettings {
        hosts: vec![server.addr().to_string()],
        name: NAME.to_owned(),
        user: USER.to_owned(),
        tls: DatabaseTls::Disable,
        ca: None,
    }
}

fn session(holder: &str) -> Session {
    Session {
        site: "P01".to_owned(),
        holder: holder.to_owned(),
        password: Password::new(None),
        within: SOON,
    }
}

async fn connect(server: &Server, holder: &str) -> Postgres {
    Postgres::connect(&place(server), session(holder))
        .await
        .unwrap()
}

fn token(term: u64, holder: &str) -> Token {
    Token {
        term,
        holder: holder.to_owned(),
    }
}

fn entries(ids: &[Option<&str>]) -> Vec<Entry> {
    let entry = |id: &Option<&str>| Entry {
        id: id.map(str::to_owned),
        text: "x".to_owned(),
    };
    ids.iter().map(entry).collect()
}

const OPEN: &(dyn Fn() -> bool + Send + Sync) = &|| true;

#[tokio::test]
async fn only_the_token_that_was_claimed_last_may_write() {
    let server = Server::primary().await;
    // Two servers that meet an empty database at once.
    let (mut a, mut b) = tokio::join!(connect(&server, "p01-a"), connect(&server, "p01-b"));
    assert!(!a.has_synchronous_standby().await.unwrap());
    let (seven, eight) = (token(7, "p01-a"), token(8, "p01-b"));
    a.claim(&seven, OPEN).await.unwrap();
    a.claim(&seven, OPEN).await.unwrap();
    let batch = entries(&[Some("x"), None, Some("y"), Some("x"), None]);
    let first = a.append(&seven, &batch, OPEN).await.unwrap();
    assert_eq!(first[3], first[0]);
    assert!(first[0] < first[1] && first[1] < first[2] && first[2] < first[4]);
    let again = a.append(&seven, &batch, OPEN).await.unwrap();
    assert_eq!(
        (again[0], again[2]),
        (first[0], first[2]),
        "ids are written once"
    );
    assert!(again[1] > first[4]);

    // The deadline is looked at once more before the commit.
    let late = entries(&[Some("late")]);
    let closed = a.append(&seven, &late, &|| false).await;
    assert!(matches!(closed, Err(StoreError::Closed)), "I1b");
    let closed = b.claim(&eight, &|| false).await;
    assert!(matches!(closed, Err(StoreError::Closed)));
    let same = b.claim(&token(7, "p01-b"), OPEN).await;
    assert!(matches!(same, Err(StoreError::Outranked(row)) if row == seven));

    b.claim(&eight, OPEN).await.unwrap();
    // Its session was ended; a new one is refused, too, and ends nobody's.
    assert!(a.append(&seven, &late, OPEN).await.is_err(), "I5");
    let mut a = connect(&server, "p01-a").await;
    for _ in 0..2 {
        let stale = a.append(&seven, &late, OPEN).await;
        assert!(matches!(stale, Err(StoreError::Outranked(row)) if row == eight));
        let stale = a.claim(&seven, OPEN).await;
        assert!(matches!(stale, Err(StoreError::Outranked(row)) if row == eight));
    }
    for other in [token(8, "p01-a"), token(9, "p01-b"), token(9, "p01-a")] {
        let unequal = b.append(&other, &late, OPEN).await;
        assert!(matches!(unequal, Err(StoreError::Outranked(row)) if row == eight));
    }
    b.append(&eight, &entries(&[None]), OPEN).await.unwrap();
    let admin = server.admin().await;
    let found = admin
        .query_one("SELECT count(*) FROM stead_entries WHERE id = 'late'", &[])
        .await
        .unwrap();
    assert_eq!(found.get::<_, i64>(0), 0);

    // What is no longer kept is forgotten, once in a thousand numbers.
    let counted = "SELECT setval('stead_entries_sequence_seq', 60999)";
    admin.query_one(counted, &[]).await.unwrap();
    let newest = b.append(&eight, &entries(&[None]), OPEN).await.unwrap();
    assert_eq!(newest, [61_000]);
    let left = "SELECT count(*) FROM stead_entries";
    let left = admin.query_one(left, &[]).await.unwrap();
    assert_eq!(left.get::<_, i64>(0), 1);

    let mut claims = JoinSet::new();
    for one in 0..10 {
        let holder = format!("s{one}");
        let mut session = connect(&server, &holder).await;
        claims.spawn(async move { session.claim(&token(9, &holder), OPEN).await });
    }
    let won = claims.join_all().await.into_iter().filter(Result::is_ok);
    assert_eq!(won.count(), 1, "of ten claimants one wins");
}

#[tokio::test]
async fn a_claim_ends_the_others_transaction_and_no_wait_for_a_standby_is_cut_short() {
    let server = Server::primary().await;
    let mut a = connect(&server, "p01-a").await;
    a.claim(&token(7, "p01-a"), OPEN).await.unwrap();
    // A host that was cut off between its look and its commit; nothing of it would time out.
    let open = server.client(USER, NAME, "stead/P01/p01-a/7").await;
    let begun = "BEGIN; SELECT * FROM stead_term FOR SHARE; \
                 INSERT INTO stead_entries (term, holder, text) VALUES (7, 'p01-a', 'cut off')";
    open.batch_execute(begun).await.unwrap();
    let mut standby = connect(&server, "p01-c").await;
    let mut b = connect(&server, "p01-b").await;
    b.claim(&token(8, "p01-b"), OPEN).await.unwrap();
    assert!(
        open.batch_execute("COMMIT").await.is_err(),
        "H5: ended, not waited for"
    );
    standby
        .check()
        .await
        .expect("who never claimed is left alone");

    // Write and claim exclude each other by the row's lock; a wait for it ends, the session stays.
    let admin = server.admin().await;
    let eight = token(8, "p01-b");
    let brief = Session {
        within: Duration::from_secs(3),
        ..session("p01-b")
    };
    let mut b = Postgres::connect(&place(&server), brief).await.unwrap();
    b.claim(&eight, OPEN).await.unwrap();
    for (lock, claims) in [("UPDATE", false), ("SHARE", true)] {
        let held = format!("BEGIN; SELECT * FROM stead_term FOR {lock}");
        admin.batch_execute(&held).await.unwrap();
        let refused = if claims {
            b.claim(&eight, OPEN).await
        } else {
            b.append(&eight, &entries(&[None]), OPEN).await.map(drop)
        };
        assert!(
            matches!(refused, Err(StoreError::Refused(_))),
            "{refused:?}"
        );
        admin.batch_execute("ROLLBACK").await.unwrap();
        b.append(&eight, &entries(&[None]), OPEN).await.unwrap();
    }

    // A cancelled wait commits here only, with a warning: that is no acknowledgement.
    for changed in [
        "ALTER SYSTEM SET synchronous_standby_names = 'nobody'",
        "SELECT pg_reload_conf()",
    ] {
        admin.batch_execute(changed).await.unwrap();
    }
    until(
        &admin,
        "SELECT current_setting('synchronous_standby_names') <> ''",
    )
    .await;
    let mut b = connect(&server, "p01-b").await;
    assert!(b.has_synchronous_standby().await.unwrap());
    let append = tokio::spawn(async move {
        let token = token(8, "p01-b");
        b.append(&token, &entries(&[Some("z")]), OPEN).await
    });
    let cancel = "SELECT coalesce(bool_or(pg_cancel_backend(pid)), false) \
                  FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    until(&admin, cancel).await;
    let answer = append.await.unwrap();
    assert!(matches!(answer, Err(StoreError::Broken(_))), "{answer:?}");
}

#[tokio::test]
async fn tls_proves_the_server_and_the_password_is_not_told() {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let authority = dir.path().join("ca.crt");
    std::fs::write(&authority, ca_certificate.pem()).unwrap();

    let mut server = Server::primary().await;
    server.stop();
    server.secure(&certificate.pem(), &key.serialize_pem());
    server.start().await;
    let port = server.addr().port();
    let attempt = async |host: &str, tls, ca: Option<&std::path::Path>, password: &str| {
        let settings = PostgresSettings {
            hosts: vec![format!("{host}:{port}")],
            tls,
            ca: ca.map(std::path::Path::to_owned),
            ..place(&server)
        };
        let session = Session {
            password: Password::new(Some(password.to_owned())),
            within: Duration::from_secs(30),
            ..session("p01-a")
        };
        Postgres::connect(&settings, session).await.map(drop)
    };
    use DatabaseTls::{Disable, Require, VerifyCa, VerifyFull};
    let (good, ours) = ("correct horse", Some(authority.as_path()));
    attempt("localhost", VerifyFull, ours, good).await.unwrap();
    attempt("127.0.0.1", VerifyCa, ours, good).await.unwrap();
    attempt("127.0.0.1", Require, None, good).await.unwrap();
    let wrong_name = attempt("127.0.0.1", VerifyFull, ours, good).await;
    assert!(wrong_name.is_err());
    assert!(attempt("localhost", VerifyFull, None, good).await.is_err());
    assert!(attempt("localhost", Disable, None, good).await.is_err());
    let refused = attempt("localhost", VerifyFull, ours, "hunter2").await;
    let told = refused.unwrap_err().to_string();
    assert!(told.contains("password authentication failed"), "{told}");
    assert!(!told.contains("hunter2"), "H30");
}
