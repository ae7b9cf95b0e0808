//! H20: what an agent does for callers whose certificates are outside their dates, and what it says.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use site_agent::agent::Alive;
use stead_schemas::names::IdentityKind;
use stead_schemas::time::WallMs;
use stead_schemas::wire::{AgentReport, ClaimRequest, WatchEvent};
use stead_wire::clock::wall_now;
use stead_wire::peer::{CallError, Peer};

use crate::lab::{Instances, Lab, Secrets, YEAR, generation, issue_at, peer_at};

const CALL: Duration = Duration::from_secs(10);

fn refused<T: std::fmt::Debug>(answer: Result<T, CallError>) -> String {
    match answer {
        Err(CallError::Status {
            code: 403, text, ..
        }) => text,
        other => panic!("expected 403, got {other:?}"),
    }
}

fn caller(lab: &Lab, kind: IdentityKind, name: &str, issued: WallMs) -> Peer {
    peer_at(&lab.ca, kind, name, issued, lab.listen, &lab.server)
}

#[tokio::test]
async fn h20_a_reconciler_outside_its_dates_reads_and_commands_nothing() {
    let mut lab = Lab::running().await;
    for (issued, why) in [
        (WallMs(wall_now().0 - YEAR), "ended"),
        (WallMs(wall_now().0 + YEAR), "not valid before"),
    ] {
        let late = caller(&lab, IdentityKind::Reconciler, "stead-1", issued);
        let request = lab.request(Instances::new(), Secrets::new());
        let answer = late.put_json::<_, AgentReport>("/v1/assignment", &request, CALL);
        let text = refused(answer.await);
        assert!(text.contains(why), "{text}");
        assert!(
            text.contains("stead pki issue reconciler stead-1"),
            "{text}"
        );
        let claim = ClaimRequest {
            epoch: generation(9, 0).epoch,
        };
        refused(
            late.post_json::<_, AgentReport>("/v1/claim", &claim, CALL)
                .await,
        );
        for path in ["/v1/reach", "/v1/handover"] {
            refused(late.post_json::<_, Value>(path, &json!({}), CALL).await);
        }
        refused(late.get_json::<Value>("/v1/logs/web", CALL).await);
        // It goes on watching: no server looks dead for a date.
        let report: AgentReport = late.get_json("/v1/state", CALL).await.unwrap();
        assert_eq!((report.generation, report.highest_epoch), (None, None));
        let mut lines = late.stream_lines("/v1/watch", CALL, CALL).await.unwrap();
        let first: WatchEvent = lines.next_json().await.unwrap().unwrap();
        assert!(matches!(first, WatchEvent::Report(_)));
        late.get_json::<Alive>("/v1/alive", CALL).await.unwrap();
        // For a person it is over.
        let person = caller(&lab, IdentityKind::Operator, "ann", issued);
        let text = refused(person.get_json::<Value>("/v1/state", CALL).await);
        assert!(text.contains("stead pki issue operator ann"), "{text}");
    }
}

#[tokio::test]
async fn h20_the_agent_tells_of_others_until_a_good_one_is_seen_and_of_its_own() {
    let mut lab = Lab::new();
    let issued = |at| issue_at(&lab.ca, IdentityKind::Server, "p01-a", at);
    let (old, good) = (issued(WallMs(wall_now().0 - YEAR)), issued(wall_now()));
    let place = |lab: &Lab, issued: &stead_wire::pki::Issued| {
        fs::write(lab.dir.path().join("server.key"), &issued.key_pem).unwrap();
        fs::write(lab.dir.path().join("server.crt"), &issued.certificate_pem).unwrap();
    };
    place(&lab, &old);
    // The lab's reconciler would not talk to it.
    let tolerant = caller(&lab, IdentityKind::Reconciler, "stead-1", wall_now()).tolerant();
    let strict = std::mem::replace(&mut lab.reconciler, tolerant);
    lab.start().await;
    assert!(matches!(
        strict.get_json::<Value>("/v1/state", CALL).await,
        Err(CallError::Tls { .. })
    ));
    let year_ago = WallMs(wall_now().0 - YEAR);
    let other = caller(&lab, IdentityKind::Server, "p01-b", year_ago).tolerant();
    other.get_json::<Alive>("/v1/alive", CALL).await.unwrap();
    let told = |report: &AgentReport, of: &str| {
        let begins = format!("certificate: server {of}'s certificate ended");
        report.problems.iter().any(|one| one.starts_with(&begins))
    };
    lab.until("both told of", |report| {
        told(report, "p01-a") && told(report, "p01-b")
    })
    .await;
    // Renewed, and seen.
    place(&lab, &good);
    let other = caller(&lab, IdentityKind::Server, "p01-b", wall_now()).tolerant();
    other.get_json::<Alive>("/v1/alive", CALL).await.unwrap();
    lab.until("all well", |report| report.problems.is_empty())
        .await;
    strict.get_json::<Value>("/v1/state", CALL).await.unwrap();
}
