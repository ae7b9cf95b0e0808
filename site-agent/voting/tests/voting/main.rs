//! Three voters over real TLS, with ledgers on disk: they find a holder, hand over, fail over, come
//! back from their ledgers, and refuse letters that are not what they should be.

#![expect(
    clippy::unwrap_used,
    reason = "a test; helpers are not recognised as such"
)]

mod dates;
mod refusals;
mod site;

use std::time::Duration;

use site_lease::Input;
use site_voting::{FILE, LedgerError, Owner, VoteLedger};
use stead_schemas::lease::{LeasePart, TakeoverCause};

use site::Site;

#[tokio::test]
async fn founders_find_the_declared_active_and_remember_it() {
    let mut site = Site::founded().await;
    assert_eq!(site.holder().await, "p01-a");
    let report = site.report("p01-a");
    assert_eq!(report.part, LeasePart::Holding);
    assert_eq!(report.takeover.unwrap().cause, TakeoverCause::First);
    assert_eq!(report.memory.declared.unwrap().as_str(), "p01-a");
    // Every voter has it on its disk, in the end.
    site.until("p01-w", |report| report.memory.declared.is_some())
        .await;
}

#[tokio::test]
async fn h21_a_declared_change_is_carried_out_by_the_holder_itself() {
    let mut site = Site::founded().await;
    assert_eq!(site.holder().await, "p01-a");
    let above = site.report("p01-a").memory.number;
    site.declare("p01-b", above).await;
    site.until("p01-b", |report| report.part == LeasePart::Holding)
        .await;
    let report = site.report("p01-b");
    assert_eq!(report.takeover.unwrap().cause, TakeoverCause::Handover);
    assert_eq!(report.memory.declared.unwrap().as_str(), "p01-b");
}

#[tokio::test]
async fn a_lost_holder_is_followed_and_comes_back_as_a_follower() {
    let mut site = Site::founded().await;
    assert_eq!(site.holder().await, "p01-a");
    site.stop("p01-a");
    site.until("p01-b", |report| report.part == LeasePart::Holding)
        .await;
    let report = site.report("p01-b");
    let takeover = report.takeover.unwrap();
    assert_eq!(takeover.cause, TakeoverCause::Failover);
    assert_eq!(takeover.from.unwrap().as_str(), "p01-a");
    assert_eq!(takeover.granted_by.len(), 2);
    assert_eq!(report.memory.failovers.len(), 1);
    site.start("p01-a").await;
    site.until("p01-a", |report| {
        report.part == LeasePart::Following
            && report
                .holder
                .as_ref()
                .is_some_and(|h| h.as_str() == "p01-b")
    })
    .await;
    assert_eq!(site.report("p01-b").part, LeasePart::Holding);
}

#[tokio::test]
async fn h19_past_the_limit_nobody_takes_over_by_itself() {
    let mut site = Site::founded().await;
    assert_eq!(site.holder().await, "p01-a");
    site.limit_failovers(Some(1)).await;
    for (lost, next) in [("p01-a", "p01-b"), ("p01-b", "p01-a")] {
        site.stop(lost);
        if next == "p01-b" {
            site.until(next, |report| report.part == LeasePart::Holding)
                .await;
            site.start(lost).await;
            site.until(lost, |report| {
                report.part == LeasePart::Following && !report.memory.failovers.is_empty()
            })
            .await;
        }
    }
    // Twice as long as a failover takes; what must not happen has no event to wait for.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(site.report("p01-a").part, LeasePart::Following);
    site.limit_failovers(None).await;
    site.until("p01-a", |report| report.part == LeasePart::Holding)
        .await;
}

#[tokio::test]
async fn i4_a_ledger_that_cannot_be_written_ends_the_voter() {
    let mut site = Site::founded().await;
    assert_eq!(site.holder().await, "p01-a");
    site.spoil_disk("p01-a");
    let above = site.report("p01-a").memory.number;
    site.declare("p01-b", above).await;
    site.until("p01-a", |report| {
        report.part == LeasePart::Out && report.problem.is_some()
    })
    .await;
    site.until("p01-b", |report| report.part == LeasePart::Holding)
        .await;
}

#[tokio::test]
async fn h3_a_new_voter_is_let_in_by_the_holder() {
    let mut site = Site::founded().await;
    assert_eq!(site.holder().await, "p01-a");
    site.add_witness("p01-x").await;
    site.until("p01-x", |report| {
        let voters = report.voters.as_ref();
        voters.is_some_and(|voters| voters.in_force.len() == 4)
    })
    .await;
    site.forget("p01-x").await;
    site.until("p01-x", |report| report.voters.is_none()).await;
    // Another life of the ledger is nobody's voter until it is let in.
    let votes = site.report("p01-a").voters.unwrap();
    assert_ne!(
        votes.in_force[&"p01-x".parse().unwrap()],
        site.report("p01-x").incarnation,
    );
}

#[test]
fn h4_a_ledger_is_bound_to_its_voter_and_machine_and_torn_ones_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let owner = site::owner("p01-a");
    let made = VoteLedger::open(dir.path(), &owner).unwrap();
    assert_eq!(VoteLedger::open(dir.path(), &owner).unwrap(), made);
    let elsewhere = Owner {
        machine: "another".to_owned(),
        ..owner.clone()
    };
    for other in [site::owner("p01-b"), elsewhere] {
        let error = VoteLedger::open(dir.path(), &other).unwrap_err();
        assert!(matches!(error, LedgerError::Foreign { .. }), "{error}");
        assert!(error.to_string().contains("stead replace"), "{error}");
    }
    let path = dir.path().join(FILE);
    let whole = std::fs::read(&path).unwrap();
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = VoteLedger::open(dir.path(), &owner).unwrap_err();
        assert!(
            matches!(error, LedgerError::Damaged { .. }),
            "{length}: {error}"
        );
    }
    // A first start elsewhere is another life.
    let other = tempfile::tempdir().unwrap();
    let again = VoteLedger::open(other.path(), &owner).unwrap();
    assert_ne!(again.incarnation, made.incarnation);
}

#[tokio::test]
async fn a_holder_that_is_asked_to_hand_over_by_hand_does_and_git_is_parked() {
    let mut site = Site::founded().await;
    assert_eq!(site.holder().await, "p01-a");
    site.until("p01-a", |report| report.ready_voters.len() == 1)
        .await;
    let to = site.voter("p01-b");
    site.input("p01-a", Input::HandOver { to }).await;
    site.until("p01-b", |report| report.part == LeasePart::Holding)
        .await;
    // Git goes on saying p01-a, with what is known now: no request.
    let above = site.report("p01-b").memory.number;
    site.declare("p01-a", above).await;
    let memory = site.report("p01-b").memory;
    assert_eq!(memory.declared.unwrap().as_str(), "p01-a");
    assert_eq!(memory.request, None);
}
