//! The site server of a pair over its control socket, against the embedded store.
//!
//! Its clock stands and is turned by hand, so that deadlines, proofs and jumps are exact; no test
//! asserts how long something takes.

use std::future::pending;

use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use site_roles::control::ControlLink;
use tokio::task::JoinSet;

use crate::stage::{Road, SOON, Server, Serving, ask, embedded, serve};

async fn store(dir: &tempfile::TempDir) -> Serving {
    serve(site_roles::database::router(dir.path()).unwrap()).await
}

async fn row(store: &Serving) -> Value {
    ask(store.addr, "GET", "/v1/row", &Value::Null).await.1
}

#[tokio::test]
async fn it_stands_by_and_works_on_an_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    let mut a = Server::new("p01-a", embedded(store.addr)).await;
    let mut b = Server::new("p01-b", embedded(store.addr)).await;
    for server in [&mut a, &mut b] {
        server.until("ready", |state| state.ready).await;
        let (status, body) = ask(server.http.addr, "GET", "/health", &Value::Null).await;
        assert_eq!(status, 200);
        let expected = json!({"role": "siteServer", "ready": true, "working": null});
        assert_eq!(body, expected);
        assert_eq!(server.write("x").await.0, 503);
    }
    assert_eq!(
        row(&store).await["sequence"],
        0,
        "standing by writes nothing"
    );

    a.work(7, 1_001, 5_000).await;
    a.until_working(7).await;
    let (status, first) = a.write("x").await;
    assert_eq!(status, 200);
    assert_eq!(first["term"], 7);
    let (_, again) = a.write("x").await;
    assert_eq!(
        again["sequence"], first["sequence"],
        "asked twice, written once"
    );
    assert_eq!(b.write("x").await.0, 503);

    // The handover: a says idle, then b works, in the same processes.
    a.halt(7).await;
    a.until("idle", |state| state.working.is_none()).await;
    let sequence = row(&store).await["sequence"].clone();
    b.work(8, 1_002, 6_000).await;
    b.until_working(8).await;
    let (_, body) = ask(store.addr, "GET", "/v1/log?from=1", &Value::Null).await;
    for entry in body["entries"].as_array().unwrap() {
        let by_b = entry["sequence"].as_u64() > sequence.as_u64();
        assert_eq!(entry["holder"], if by_b { "p01-b" } else { "p01-a" });
    }
    let lines = a.intervals();
    assert_eq!(lines[0]["begin"], json!({"term": 7, "from": 1_000}));
    assert_eq!(lines[1]["end"]["to"], 1_000);
    assert_eq!(lines[1]["end"]["lastWrite"], 1_000);
}

#[tokio::test]
async fn no_write_starts_at_or_after_the_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    let mut a = Server::new("p01-a", embedded(store.addr)).await;
    a.until("ready", |state| state.ready).await;
    a.work(7, 1_001, 3_000).await;
    a.until_working(7).await;
    a.at(2_999);
    assert_eq!(a.write("in time").await.0, 200);
    a.at(3_000);
    let (status, body) = a.write("late").await;
    assert_eq!(
        (status, &body["reason"]),
        (503, &json!("the deadline has passed")),
        "I1b"
    );
    a.until_reason("deadline").await;
    let last = row(&store).await;
    // A later deadline of the same term goes on; what was refused stayed refused.
    a.work(7, 2_900, 4_000).await;
    a.until("again", |state| {
        state.working == Some(7) && state.sequence > last["sequence"].as_u64()
    })
    .await;
    let (_, page) = ask(store.addr, "GET", "/v1/log?from=1", &Value::Null).await;
    assert!(!page.to_string().contains("late"));
    let ends: Vec<Value> = a.intervals();
    assert_eq!(ends[1]["end"]["to"], 3_000);
    assert_eq!(ends[1]["end"]["lastWrite"], 2_999);
}

#[tokio::test]
async fn a_claim_waits_for_a_proof_newer_than_the_connection() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    let mut a = Server::new("p01-a", embedded(store.addr)).await;
    a.until("ready", |state| state.ready).await;
    a.work(7, 1_000, 9_000).await;
    a.until_reason("newer than the store connection").await;
    assert_eq!(a.write("x").await.0, 503);
    assert_eq!(row(&store).await["term"], 0, "H5: nothing was claimed");
    a.work(7, 1_001, 9_000).await;
    a.until_working(7).await;
    assert_eq!(row(&store).await["term"], 7);
}

#[tokio::test]
async fn h6_a_jump_of_the_clock_ends_work_until_a_newer_proof() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    let mut a = Server::new("p01-a", embedded(store.addr)).await;
    a.until("ready", |state| state.ready).await;
    a.work(7, 1_001, 9_000).await;
    a.until_working(7).await;
    a.clock.turn(|now| {
        now.boot += 500;
        now.real += 60_000;
    });
    let (status, body) = a.write("x").await;
    assert_eq!(status, 503, "H6: before the next write");
    assert!(body["reason"].as_str().unwrap().contains("jumped"));
    a.until_reason("jumped").await;
    a.work(7, 1_500, 9_500).await;
    a.until_reason("jumped").await;
    a.at(1_600);
    a.work(7, 1_501, 9_500).await;
    a.until_working(7).await;
    assert_eq!(a.write("x").await.0, 200);
}

#[tokio::test]
async fn a_term_refused_by_the_store_is_told_and_a_higher_one_works() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    let mut a = Server::new("p01-a", embedded(store.addr)).await;
    a.until("ready", |state| state.ready).await;
    a.work(7, 1_001, 9_000).await;
    a.until_working(7).await;
    let row = json!({"term": 57, "holder": "p01-b"});
    ask(store.addr, "POST", "/v1/claim", &row).await;
    let told = a
        .until("outranked", |state| state.outranked.is_some())
        .await;
    assert_eq!(told.outranked, Some(57));
    a.until_reason("term 57").await;
    a.work(58, 1_002, 9_000).await;
    a.until("above", |state| {
        state.working == Some(58) && state.outranked.is_none()
    })
    .await;
    assert_eq!(a.write("x").await.1["term"], 58);
}

/// A store that takes claims, and appends that it never answers.
async fn stuck() -> Serving {
    let row = || async { Json(json!({"term": 7, "holder": "p01-a", "sequence": 0})) };
    let router = Router::new()
        .route("/v1/row", get(row))
        .route("/v1/claim", post(row))
        .route("/v1/append", post(|| async { pending::<()>().await }));
    serve(router).await
}

#[tokio::test]
async fn what_is_in_flight_is_given_up_after_a_stop_and_said_to_be_uncertain() {
    let store = stuck().await;
    let mut a = Server::new("p01-a", embedded(store.addr)).await;
    a.until("ready", |state| state.ready).await;
    a.work(7, 1_001, 9_000).await;
    a.until("working", |state| state.working == Some(7)).await;
    let mut writes = JoinSet::new();
    for one in 0..80 {
        let addr = a.http.addr;
        let body = json!({"id": one.to_string(), "text": ""});
        writes.spawn(async move { ask(addr, "POST", "/v1/write", &body).await });
    }
    // More than the bound are told so at once.
    let mut refused = 0;
    while refused < 16 {
        let (status, body) = writes.join_next().await.unwrap().unwrap();
        assert_eq!(status, 503);
        if body["reason"].as_str().unwrap().contains("too many") {
            refused += 1;
        }
    }
    a.halt(7).await;
    a.until("idle", |state| state.working.is_none()).await;
    for (status, _) in writes.join_all().await {
        assert_eq!(status, 503);
    }
    a.halt(7).await;
    let lines = a.intervals();
    assert_eq!(lines.last().unwrap()["end"]["lastWrite"], Value::Null);
}

#[tokio::test]
async fn a_new_connection_claims_again_and_the_agent_may_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    let road = Road::to(store.addr).await;
    let mut a = Server::new("p01-a", embedded(road.addr)).await;
    a.until("ready", |state| state.ready).await;
    a.work(7, 1_001, 9_000).await;
    a.until_working(7).await;
    // The agent's end of the connection: the deadline ends work, not this.
    a.link = ControlLink::connect(&a.control, SOON).await.unwrap();
    let before = a.until_working(7).await.sequence;
    a.until("going on", |state| state.sequence > before).await;

    // A connection that was lost is a new one, and the old proof does not do.
    road.lead(None);
    a.until("cut off", |state| !state.ready && state.working.is_none())
        .await;
    let before = row(&store).await;
    assert_eq!(a.write("x").await.0, 503);
    a.at(2_000);
    road.lead(Some(store.addr));
    a.until_reason("newer than the store connection").await;
    assert_eq!(row(&store).await, before, "H5");
    a.work(7, 2_001, 9_000).await;
    a.until("working", |state| state.working == Some(7)).await;
    assert_eq!(a.write("x").await.0, 200);
    a.server.stop().await;
    let end = std::fs::read_to_string(a.dir.path().join("intervals.log")).unwrap();
    assert!(end.lines().last().unwrap().contains("end"), "{end}");
}
