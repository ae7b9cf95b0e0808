//! A site server is installed only where nothing that it needs is missing, and what is missing is told.

use std::process::Command;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use stead::api::Snapshot;
use stead_schemas::names::SiteCode;
use stead_schemas::plan::HoldReason;
use stead_schemas::prerequisite::{Check, Finding, Prerequisite};

use super::leases::Site;
use super::scene::Running;

/// Everything is seen within this time, or never.
const DEADLINE: Duration = Duration::from_secs(40);

fn lack(finding: Finding) -> Vec<Check> {
    vec![Check {
        prerequisite: Prerequisite::Database,
        measured: None,
        findings: vec![finding],
    }]
}

/// What is missing at p01-b, in words.
fn missing(snapshot: &Snapshot) -> Option<String> {
    let site = snapshot.sites.get(&"P01".parse::<SiteCode>().unwrap())?;
    let holds = site.plan.iter().flat_map(|plan| &plan.holds);
    let mut missing = holds.filter(|hold| match &hold.reason {
        HoldReason::Prerequisite { server, .. } => server.as_str() == "p01-b",
        _ => false,
    });
    missing.next().map(|hold| hold.reason.to_string())
}

/// What a command of `stead` prints.
async fn stead(daemon: &Running, args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stead"));
    command
        .args(args)
        .env("STEAD_API", &daemon.0.addresses().socket)
        .env("NO_COLOR", "1");
    let ran = tokio::task::spawn_blocking(move || command.output());
    let output = ran.await.unwrap().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// What a command prints once it holds this text.
async fn until_says(daemon: &Running, args: &[&str], text: &str) -> String {
    let end = Instant::now() + DEADLINE;
    loop {
        let said = stead(daemon, args).await;
        if said.contains(text) {
            return said;
        }
        assert!(Instant::now() < end, "never: {text}\n{said}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g10_a_passive_with_a_broken_prerequisite_gets_nothing_until_it_is_repaired() {
    let site = Site::new().await;
    let book = site.book("p01-b");
    book.lacks(lack(Finding::fatal(
        "role cm may not CREATE in database cm_p01 (needed: term table)",
        "GRANT CREATE ON SCHEMA public TO cm",
    )));
    book.change(|report| report.lease.as_mut().unwrap().ready = false);
    let daemon = site.daemon().await;
    let exact = "p01-b is not fit for it: database: role cm may not CREATE in database cm_p01 \
                 (needed: term table)";
    daemon
        .until("held", |s| missing(s).as_deref() == Some(exact))
        .await;
    daemon
        .until("the other one is installed", |_| {
            site.book("p01-a").runs("siteServer")
        })
        .await;
    let standby = "p01-b: installing 0/4  [!] checks  [ ] assigned  [ ] running  [ ] ready";
    let status = until_says(&daemon, &["status", "P01"], standby).await;
    let (needs, _) = status.split_once("LEASE").unwrap();
    assert!(needs.starts_with("NEEDS A PERSON"), "{status}");
    assert!(
        needs.contains(&format!("P01/siteServer@p01-b  {exact}\n")),
        "{status}"
    );
    assert!(
        needs.contains("GRANT CREATE ON SCHEMA public TO cm"),
        "{status}"
    );
    let asked = book.asked();
    daemon.until("asked again", |_| book.asked() > asked).await;
    assert!(!book.runs("siteServer"), "nothing is installed");
    book.lacks(Vec::new());
    daemon.until("installed", |_| book.runs("siteServer")).await;
    daemon
        .until("nothing is missing", |s| missing(s).is_none())
        .await;
    let repaired = "prerequisites of a site server: nothing is missing";
    until_says(&daemon, &["history", "P01"], repaired).await;
    book.assert_nothing_twice();
    daemon.0.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h5_a_warning_is_shown_and_holds_nothing() {
    let site = Site::new().await;
    let book = site.book("p01-b");
    book.lacks(lack(Finding::warning(
        "db:5432 has no synchronous standby (H5)",
        "set synchronous_standby_names",
    )));
    let daemon = site.daemon().await;
    daemon.until("installed", |_| book.runs("siteServer")).await;
    let shown = "database: db:5432 has no synchronous standby (H5); set synchronous_standby_names";
    until_says(&daemon, &["status", "P01"], shown).await;
    until_says(&daemon, &["why", "P01/p01-b"], shown).await;
    until_says(&daemon, &["why", "P01/siteServer"], shown).await;
    daemon.0.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_answer_is_not_fit() {
    let refuse = || async {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "too many of these at a time",
        )
    };
    let router = Router::new().route("/v1/preflight", post(refuse));
    let site = Site::with(Some(router)).await;
    let daemon = site.daemon().await;
    daemon
        .until("unknown", |s| {
            let missing = missing(s).unwrap_or_default();
            missing.contains("agent: what it lacks is not known") && missing.contains("503")
        })
        .await;
    assert!(!site.book("p01-b").runs("siteServer"));
    daemon.0.stop().await;
}
