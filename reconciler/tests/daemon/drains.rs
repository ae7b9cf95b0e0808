//! A server out of service: handed over first, remembered, refused with a way out, and put back.
//!
//! The agents say what they are told to say of their lease; real ones are drained in the system tests.

use stead::api::{Backend as _, DrainRefusal};
use stead_schemas::api::{
    ApiError, DrainPlanView, DrainRequest, JournalKind, SuspendRequest, SwitchoverState,
    UndrainRequest,
};
use stead_schemas::lease::TakeoverCause;
use stead_schemas::plan::HoldReason;
use stead_schemas::time::DurationMs;

use super::leases::{NAMES, Site, follow, journal, name, take_up};
use super::scene::Running;

fn request(server: &str) -> DrainRequest {
    DrainRequest {
        server: name(server),
        lasts: DurationMs::seconds(7_200),
        reason: "CHG-4711".to_owned(),
        to: None,
        dry_run: false,
    }
}

async fn drain(daemon: &Running, request: DrainRequest) -> Result<DrainPlanView, DrainRefusal> {
    daemon.desk().drain(request, "bob".to_owned()).await
}

async fn undrain(daemon: &Running, server: &str) -> Result<Vec<String>, ApiError> {
    let request = UndrainRequest {
        server: name(server),
    };
    let answer = daemon.desk().undrain(request, "eve".to_owned()).await;
    answer.map(|answer| answer.consequences)
}

/// p01-a hands over when it is asked.
fn hands_over(site: &Site) {
    let (a, b) = (site.book("p01-a"), site.book("p01-b"));
    site.book("p01-a").when_asked(move |_| {
        follow(&a, "p01-b", 8);
        take_up(&b, 8, TakeoverCause::Handover);
        Ok(())
    });
}

/// Whether every voter was told that a server may, or may not, take over.
fn all_told(site: &Site, server: &str, candidate: bool) -> bool {
    NAMES.iter().all(|voter| {
        let book = site.book(voter);
        let assigned = book.assigned.lock().unwrap();
        let lease = assigned
            .last()
            .and_then(|last| last.assignment.lease.clone());
        lease.is_some_and(|lease| lease.is_candidate(&name(server)) == candidate)
    })
}

fn holds(daemon: &Running) -> Vec<HoldReason> {
    let snapshot = daemon.snapshot();
    let plans = snapshot.sites.values().flat_map(|site| &site.plan);
    let holds = plans.flat_map(|plan| &plan.holds);
    holds.map(|hold| hold.reason.clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h3_an_active_is_handed_over_drained_remembered_and_put_back() {
    let site = Site::new().await;
    let daemon = site.daemon().await;
    daemon
        .until("told", |_| all_told(&site, "p01-a", true))
        .await;
    let planned = drain(
        &daemon,
        DrainRequest {
            dry_run: true,
            ..request("p01-a")
        },
    );
    let planned = planned.await.unwrap();
    let switch = planned.switch_over.unwrap();
    assert_eq!(switch.state, SwitchoverState::Planned);
    let votes = planned.votes.unwrap();
    assert_eq!(votes.remain, [name("p01-b"), name("p01-w")]);
    assert_eq!((votes.of, votes.spare()), (3, Some(0)));
    assert!(journal(&daemon, JournalKind::Command).await.is_empty());
    assert!(daemon.0.core().drain(&name("p01-a")).is_none());

    hands_over(&site);
    let view = drain(&daemon, request("p01-a")).await.unwrap();
    assert_eq!(view.switch_over.unwrap().state, SwitchoverState::Done);
    daemon
        .until("no candidate any more", |_| all_told(&site, "p01-a", false))
        .await;
    let commands = journal(&daemon, JournalKind::Command).await;
    assert!(
        commands[0].starts_with("bob drained it until "),
        "{commands:?}"
    );
    assert!(commands[0].ends_with(": CHG-4711"), "{commands:?}");
    assert_eq!(
        commands[1],
        "bob asked p01-a to hand over to p01-b: CHG-4711"
    );
    daemon.0.stop().await;

    let daemon = site.daemon().await;
    daemon
        .until("still drained", |s| {
            s.sites.values().any(|s| s.plan.is_some())
        })
        .await;
    let drained = holds(&daemon);
    let bobs =
        |reason: &HoldReason| matches!(reason, HoldReason::Drained { by, .. } if by == "bob");
    assert!(drained.iter().any(bobs), "{drained:?}");
    assert!(all_told(&site, "p01-a", false));
    undrain(&daemon, "p01-a").await.unwrap();
    daemon
        .until("a candidate again", |_| all_told(&site, "p01-a", true))
        .await;
    daemon
        .until("no hold is left", |_| !holds(&daemon).iter().any(bobs))
        .await;
    let twice = undrain(&daemon, "p01-a").await.unwrap_err();
    assert!(twice.error.contains("is not drained"), "{twice:?}");
    for book in NAMES.map(|name| site.book(name)) {
        book.assert_nothing_twice();
    }
    daemon.0.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_is_refused_with_the_reason_and_then_nothing_is_begun() {
    let site = Site::new().await;
    let daemon = site.daemon().await;
    let error = async |request: DrainRequest| {
        let refusal = drain(&daemon, request).await.unwrap_err();
        let told = ApiError::from(refusal);
        assert!(told.hint.is_some(), "{told:?}");
        told.error
    };
    let unknown = error(request("p09-z")).await;
    assert_eq!(unknown, "there is no server p09-z");
    let reconciler = error(request("stead-1")).await;
    assert!(reconciler.contains("is a reconciler"), "{reconciler}");
    let endless = error(DrainRequest {
        lasts: DurationMs(0),
        ..request("p01-b")
    });
    assert!(endless.await.contains("longer than no time"));

    // The holder refuses: no drain, whatever else it would have done.
    site.book("p01-a")
        .when_asked(|_| Err("its disk is full".to_owned()));
    let refused = error(request("p01-a")).await;
    assert!(refused.contains("its disk is full"), "{refused}");
    assert!(daemon.0.core().drain(&name("p01-a")).is_none());

    // Its pair: one at a time.
    drain(&daemon, request("p01-b")).await.unwrap();
    let twice = error(request("p01-b")).await;
    assert!(
        twice.contains("drained already by bob: CHG-4711"),
        "{twice}"
    );
    let second = error(request("p01-a")).await;
    assert!(second.contains("drained by bob"), "{second}");
    let witness = error(request("p01-w")).await;
    assert!(witness.contains("1 of 3 would remain (p01-a)"), "{witness}");
    undrain(&daemon, "p01-b").await.unwrap();

    let suspension = SuspendRequest {
        scope: Some("P01".to_owned()),
        reason: "CHG-1".to_owned(),
        until: None,
        failover: false,
    };
    let desk = daemon.desk();
    desk.suspend(suspension, "eve".into()).await.unwrap();
    let suspended = error(request("p01-b")).await;
    assert!(suspended.contains("P01 is suspended by eve"), "{suspended}");
    daemon.0.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_that_nobody_ends_becomes_a_persons_at_its_time() {
    let site = Site::new().await;
    let daemon = site.daemon().await;
    let short = DrainRequest {
        lasts: DurationMs(1_500),
        ..request("p01-b")
    };
    drain(&daemon, short).await.unwrap();
    let ended = |reason: &HoldReason| matches!(reason, HoldReason::DrainEnded { .. });
    daemon
        .until("ended", |_| holds(&daemon).iter().any(ended))
        .await;
    daemon
        .until("it stands by again", |_| all_told(&site, "p01-b", true))
        .await;
    let held = journal(&daemon, JournalKind::Held).await;
    let line = "the drain of p01-b ended and nobody undrained it";
    assert!(held.iter().any(|text| text.starts_with(line)), "{held:?}");
    // It takes longer than was thought.
    drain(&daemon, request("p01-b")).await.unwrap();
    daemon
        .until("drained anew", |_| !holds(&daemon).iter().any(ended))
        .await;
    daemon.0.stop().await;
}
