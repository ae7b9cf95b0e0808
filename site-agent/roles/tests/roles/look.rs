//! What a site server would lack at a real PostgreSQL, by name and with what repairs it (G-9, G-10).

use std::time::Duration;

use site_roles::settings::{Password, PostgresSettings};
use site_roles::store::postgres::{Postgres, Session};
use stead_schemas::desired::DatabaseTls;
use stead_schemas::prerequisite::{Check, Finding};

use crate::cluster::{NAME, Server, USER};
use crate::stage::SOON;

fn settings(server: &Server) -> PostgresSettings {
    PostgresSettings {
        hosts: vec![server.addr().to_string()],
        name: NAME.to_owned(),
        user: USER.to_owned(),
        tls: DatabaseTls::Disable,
        ca: None,
    }
}

async fn look_with(settings: &PostgresSettings, password: Option<&str>, within: Duration) -> Check {
    let session = Session {
        site: "P01".to_owned(),
        holder: "p01-b".to_owned(),
        password: Password::new(password.map(str::to_owned)),
        within,
    };
    Postgres::look(settings, &session, Some("db-password")).await
}

async fn look(settings: &PostgresSettings) -> Check {
    look_with(settings, Some("correct horse"), SOON).await
}

fn fatal(check: &Check) -> Vec<&Finding> {
    check.findings.iter().filter(|f| f.fatal).collect()
}

/// The only fatal finding: its text and its remedy.
fn only(check: &Check) -> (&str, &str) {
    match fatal(check).as_slice() {
        [finding] => (&finding.text, &finding.remedy),
        _ => panic!("{check:#?}"),
    }
}

#[tokio::test]
async fn sp_14_every_missing_right_is_named_with_the_statement_that_grants_it() {
    let server = Server::primary().await;
    let admin = server.admin().await;
    let settings = settings(&server);
    assert_eq!(fatal(&look(&settings).await), [] as [&Finding; 0]);
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    let made: i64 = admin.query_one(tables, &[]).await.unwrap().get(0);
    assert_eq!(made, 0, "looking makes nothing");

    let mine = format!(
        "ALTER DATABASE {NAME} OWNER TO postgres; REVOKE CREATE ON SCHEMA public FROM PUBLIC"
    );
    admin.batch_execute(&mine).await.unwrap();
    let check = look(&settings).await;
    assert_eq!(
        only(&check),
        (
            "role cm may not CREATE in database cm_p01 (needed: term table)",
            "GRANT CREATE ON SCHEMA public TO cm"
        )
    );
    admin.batch_execute(only(&check).1).await.unwrap();
    assert_eq!(fatal(&look(&settings).await), [] as [&Finding; 0]);

    let session = Session {
        site: "P01".to_owned(),
        holder: "p01-a".to_owned(),
        password: Password::new(Some("correct horse".to_owned())),
        within: SOON,
    };
    drop(Postgres::connect(&settings, session).await.unwrap());
    let taken = "REVOKE CREATE ON SCHEMA public FROM cm; ALTER TABLE stead_term OWNER TO postgres; \
        ALTER TABLE stead_entries OWNER TO postgres; GRANT SELECT ON stead_term TO cm";
    admin.batch_execute(taken).await.unwrap();
    let check = look(&settings).await;
    let texts: Vec<&str> = fatal(&check).iter().map(|f| f.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "role cm may not DELETE, INSERT, SELECT stead_entries in database cm_p01",
            "role cm may not UPDATE stead_term in database cm_p01",
        ],
        "with the tables there, nobody has to make any"
    );
    for finding in fatal(&check) {
        admin.batch_execute(&finding.remedy).await.unwrap();
    }
    assert_eq!(fatal(&look(&settings).await), [] as [&Finding; 0]);

    admin
        .batch_execute("REVOKE USAGE ON SCHEMA public FROM PUBLIC")
        .await
        .unwrap();
    let check = look(&settings).await;
    assert!(only(&check).0.contains("may use no schema"), "{check:#?}");
    admin.batch_execute(only(&check).1).await.unwrap();
    assert_eq!(fatal(&look(&settings).await), [] as [&Finding; 0]);

    let read_only = "ALTER ROLE cm SET default_transaction_read_only = on";
    admin.batch_execute(read_only).await.unwrap();
    let check = look(&settings).await;
    assert!(only(&check).0.contains("are read only"), "{check:#?}");
    admin.batch_execute(only(&check).1).await.unwrap();
    assert_eq!(fatal(&look(&settings).await), [] as [&Finding; 0]);
}

#[tokio::test]
async fn sp_10_an_account_that_is_not_let_in_is_told_apart_from_a_host_that_is_not_there() {
    let mut server = Server::primary().await;
    server.stop();
    server.scram();
    server.start().await;
    let settings = settings(&server);
    let host = server.addr().to_string();
    assert_eq!(fatal(&look(&settings).await), [] as [&Finding; 0]);

    let check = look_with(&settings, Some("wrong"), SOON).await;
    let wrong = format!("{host} refuses the password of role cm (secret db-password)");
    assert_eq!(only(&check).0, wrong);
    assert!(!format!("{check:?}").contains("\"wrong\""), "H30");

    let check = look_with(&settings, None, SOON).await;
    assert!(only(&check).0.contains("asks for a password"), "{check:#?}");

    let mut other = settings.clone();
    other.name = "nowhere".to_owned();
    let check = look(&other).await;
    assert_eq!(
        only(&check),
        (
            format!("there is no database nowhere at {host}").as_str(),
            "CREATE DATABASE nowhere OWNER cm"
        )
    );

    let admin = server.admin().await;
    admin.batch_execute("ALTER ROLE cm NOLOGIN").await.unwrap();
    let check = look(&settings).await;
    assert!(
        only(&check).0.contains("does not let role cm in"),
        "{check:#?}"
    );
    let grants = format!(
        "ALTER ROLE cm LOGIN; REVOKE CONNECT ON DATABASE {NAME} FROM PUBLIC; ALTER DATABASE {NAME} OWNER TO postgres"
    );
    admin.batch_execute(&grants).await.unwrap();
    let check = look(&settings).await;
    assert!(only(&check).0.contains("may not CONNECT"), "{check:#?}");
    admin.batch_execute(only(&check).1).await.unwrap();

    let mut encrypted = settings.clone();
    encrypted.tls = DatabaseTls::Require;
    let check = look(&encrypted).await;
    assert!(only(&check).1.starts_with("database.tls"), "{check:#?}");

    server.stop();
    let check = look(&settings).await;
    assert!(only(&check).0.contains("is not reached"), "{check:#?}");
}

#[tokio::test]
async fn a_host_that_never_answers_is_given_up_in_time() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = PostgresSettings {
        hosts: vec![listener.local_addr().unwrap().to_string()],
        name: NAME.to_owned(),
        user: USER.to_owned(),
        tls: DatabaseTls::Disable,
        ca: None,
    };
    let check = look_with(&settings, None, Duration::from_millis(200)).await;
    assert!(
        only(&check).0.ends_with("no answer within 200 ms"),
        "{check:#?}"
    );
}

#[tokio::test]
async fn h5_a_database_without_a_synchronous_standby_is_a_warning() {
    let mut server = Server::primary().await;
    let mut settings = settings(&server);
    let warned = |check: &Check| {
        let mut warnings = check.findings.iter().filter(|f| !f.fatal);
        warnings.any(|f| f.text.contains("no synchronous standby") && f.text.contains("(H5)"))
    };
    let check = look(&settings).await;
    assert!(warned(&check) && fatal(&check).is_empty(), "{check:#?}");
    let admin = server.admin().await;
    let named = "ALTER SYSTEM SET synchronous_standby_names = '*'";
    admin.batch_execute(named).await.unwrap();
    admin
        .batch_execute("SELECT pg_reload_conf()")
        .await
        .unwrap();
    crate::cluster::until(
        &admin,
        "SELECT current_setting('synchronous_standby_names') = '*'",
    )
    .await;
    let check = look(&settings).await;
    assert!(check.findings.is_empty(), "{check:#?}");

    let replica = server.replica().await;
    settings.hosts.push(replica.addr().to_string());
    assert!(
        look(&settings).await.findings.is_empty(),
        "one of them writes"
    );
    server.crash();
    let check = look(&settings).await;
    let texts: Vec<&str> = fatal(&check).iter().map(|f| f.text.as_str()).collect();
    assert_eq!(texts.len(), 2, "{check:#?}");
    assert!(texts[1].contains("no host is writable"), "{texts:?}");
}
