//! A reconciler as the witness of a site, with real processes: founding, the loss of either, the loss
//! of both, and what is said then (H4).
//!
//! The active and the passive are servers; the store is on a third one, which has no vote.

use std::time::Duration;

use stead_schemas::lease::{LeasePart, LeaseReport};
use system_tests::harness::{HIERARCHY, Harness, holds};
use system_tests::processes::wait_until;

const PATIENCE: Duration = Duration::from_secs(90);
/// Longer than any lease.
const LATE: Duration = Duration::from_secs(6);
const SERVERS: [(&str, u8); 3] = [("p01-a", 11), ("p01-b", 12), ("p01-d", 13)];

fn hierarchy(harness: &Harness) -> String {
    format!(
        "apiVersion: stead/v1
kind: Hierarchy
metadata: {{name: {HIERARCHY}}}
spec:
  reconcilers:
    stead-1: {{address: {}, zone: hq}}
",
        harness.address(2)
    )
}

fn site(harness: &Harness) -> String {
    let servers: String = SERVERS
        .iter()
        .map(|(name, last)| {
            let address = harness.address(*last);
            format!("    {name}: {{address: {address}, zone: room-{last}}}\n")
        })
        .collect();
    format!(
        "apiVersion: stead/v1
kind: Site
metadata: {{name: P01}}
spec:
  type: primary
  servers:
{servers}  siteServer:
    active: p01-a
    passive: [p01-b]
    witnesses: [stead-1]
  database: {{engine: embedded, server: p01-d}}
  contentLibrary: {{url: \"file:///tmp/content\", shared: true}}
"
    )
}

fn until(harness: &Harness, server: &str, what: &str, so: impl Fn(&LeaseReport) -> bool) {
    harness.until_lease(server, what, PATIENCE, so);
}

/// A pair with the reconciler as its witness, founded; the active works.
fn founded() -> Harness {
    let mut harness = Harness::new();
    harness.issue("pki", "operator", "alice", &[]);
    let revision = harness.commit(
        "a pair",
        &[
            ("hierarchy.yaml", &hierarchy(&harness)),
            ("p01.yaml", &site(&harness)),
        ],
    );
    for (name, last) in SERVERS {
        harness.start_agent(name, last);
    }
    harness.start_reconciler();
    harness.wait_converged(&revision, PATIENCE);
    until(&harness, "p01-a", "holds, by three voters", |lease| {
        let voters = lease.voters.as_ref();
        holds(lease)
            && lease.ready_voters.len() == 1
            && lease.silent_voters.is_empty()
            && voters.is_some_and(|voters| voters.in_force.len() == 3)
    });
    harness
}

fn via(harness: &Harness, server: &str, args: &[&str]) -> (i32, String) {
    let found = SERVERS.iter().find(|(name, _)| *name == server);
    harness.via(server, found.expect("a server").1, args)
}

fn promote(harness: &Harness, lost: &str, site: &str) -> (i32, String) {
    let args = [
        "promote",
        "p01-a",
        "--lost",
        lost,
        "--reason",
        "burnt",
        "--yes-site",
        site,
    ];
    via(harness, "p01-a", &args)
}

#[test]
fn h4_a_reconciler_votes_and_losing_it_stops_nobody_until_the_passive_is_lost_as_well() {
    let mut harness = founded();
    let ledger = harness.path("state/votes/P01/votes.json");
    assert!(ledger.exists(), "the reconciler has a vote ledger");
    let term = harness.lease("p01-a").expect("a report").term;

    // The passive is lost: the active goes on, with the reconciler's vote.
    harness.kill_server("p01-b");
    until(&harness, "p01-a", "misses the passive", |lease| {
        lease
            .silent_voters
            .iter()
            .any(|name| name.as_str() == "p01-b")
    });
    std::thread::sleep(LATE);
    let now = harness.lease("p01-a").expect("a report");
    assert!(holds(&now) && now.term == term, "{now:#?}");
    harness.start_agent("p01-b", 12);
    until(&harness, "p01-a", "is followed again", |lease| {
        holds(lease) && lease.ready_voters.len() == 1
    });

    // The reconciler is lost: the active goes on, with the passive's vote (I6).
    harness.kill_reconciler();
    std::thread::sleep(LATE);
    let now = harness.lease("p01-a").expect("a report");
    assert!(holds(&now) && now.term == term, "{now:#?}");

    // Both are: it stops, and says what it needs.
    harness.kill_server("p01-b");
    until(
        &harness,
        "p01-a",
        "stops and says whom it misses",
        |lease| {
            let problem = lease.problem.as_deref().unwrap_or_default();
            lease.part == LeasePart::Following
                && problem.contains("p01-b, stead-1")
                && problem.contains("--lost p01-b,stead-1")
        },
    );

    // The reconciler comes back with its ledger: its vote is enough.
    harness.start_reconciler();
    until(&harness, "p01-a", "holds again", |lease| {
        holds(lease) && lease.term > term && lease.problem.is_none()
    });
}

#[test]
fn h32_without_any_reconciler_an_operator_switches_over_and_promotes() {
    let mut harness = founded();
    harness.kill_reconciler();
    let (code, said) = via(&harness, "p01-b", &["status", "P01"]);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("to p01-a") && said.contains("stead-1"),
        "{said}"
    );

    // Asked of any server: it goes to the holder.
    let (code, said) = via(&harness, "p01-b", &["switchover", "P01", "--to", "p01-b"]);
    assert_eq!(code, 0, "{said}\n{}", harness.describe());
    until(&harness, "p01-b", "holds", holds);

    // One that answers is not lost; one that does not must be named; the site must be meant.
    let (code, said) = promote(&harness, "p01-b,stead-1", "P01");
    assert!(code == 1 && said.contains("p01-b answers"), "{said}");
    harness.kill_server("p01-b");
    let (code, said) = promote(&harness, "p01-b", "P01");
    assert!(
        code == 1 && said.contains("stead-1 does not answer"),
        "{said}"
    );
    let (code, said) = promote(&harness, "p01-b,stead-1", "P02");
    assert!(code == 1 && said.contains("not of P02"), "{said}");
    let (code, said) = promote(&harness, "p01-b,stead-1", "P01");
    assert_eq!(code, 0, "{said}\n{}", harness.describe());
    until(&harness, "p01-a", "holds alone", |lease| {
        let voters = lease.voters.as_ref();
        holds(lease) && voters.is_some_and(|v| v.in_force.len() == 1 && v.number > 1_000)
    });
    let term = harness.lease("p01-a").expect("a report").term;
    assert!(term > 1_000, "{term}");
    let log = std::fs::read_to_string(harness.path("agents/p01-a/commands.log")).expect("a log");
    assert!(
        log.contains("operator/alice") && log.contains("burnt"),
        "{log}"
    );

    // Those who come back stay out, and the reconciler says what to do about it.
    harness.start_agent("p01-b", 12);
    harness.start_reconciler();
    until(&harness, "p01-b", "stays out", |lease| {
        let problem = lease.problem.as_deref().unwrap_or_default();
        lease.part == LeasePart::Out && problem.contains("stead replace p01-b")
    });
    wait_until(
        "the reconciler holds its voters' return",
        PATIENCE,
        || {
            let (_, holds, _) = harness.stead(&["list", "holds", "-o", "json"]);
            holds.contains("stead replace p01-b") && holds.contains("stead replace stead-1")
        },
        || harness.describe(),
    );
    std::thread::sleep(LATE);
    let now = harness.lease("p01-a").expect("a report");
    assert!(holds(&now) && now.term == term, "{now:#?}");
}
