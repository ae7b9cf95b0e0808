//! Mutual TLS between real sockets: who gets in, who doesn't, and what every bound does.

#![expect(
    clippy::unwrap_used,
    reason = "a test; helpers are not recognised as such"
)]

mod bounds;
mod certificates;
mod dates;
mod hierarchy;
mod meeting;
mod raw;

use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde_json::{Value, json};
use stead_wire::peer::CallError;
use stead_wire::serve::Caller;

use hierarchy::{Hierarchy, PATIENCE};

/// Answers with the caller's identity.
pub(crate) fn whoami() -> Router {
    Router::new().route(
        "/whoami",
        get(|Caller(identity): Caller| async move { Json(identity.to_string()) }),
    )
}

#[tokio::test]
async fn a_good_call_brings_the_callers_identity_from_its_certificate() {
    let hierarchy = Hierarchy::new();
    let server = hierarchy.server(whoami()).await;
    let peer = hierarchy.peer(server.addr);
    let caller: String = peer.get_json("/whoami", PATIENCE).await.unwrap();
    assert_eq!(caller, "stead://contoso/reconciler/stead-1");
    server.stop().await;
}

#[tokio::test]
async fn put_and_post_carry_json_both_ways() {
    let hierarchy = Hierarchy::new();
    let router = Router::new()
        .route(
            "/double",
            put(|Json(n): Json<i64>| async move { Json(2 * n) }),
        )
        .route("/take", post(|Json(_): Json<Value>| async {}));
    let server = hierarchy.server(router).await;
    let peer = hierarchy.peer(server.addr);
    let doubled: i64 = peer.put_json("/double", &21, PATIENCE).await.unwrap();
    assert_eq!(doubled, 42);
    let body = json!({"text": "x".repeat(3_000_000)});
    peer.post_json::<_, ()>("/take", &body, PATIENCE)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_refusal_brings_its_status_and_words_without_control_characters() {
    let hierarchy = Hierarchy::new();
    let router = Router::new().route(
        "/no",
        get(|| async {
            (
                axum::http::StatusCode::CONFLICT,
                "stale\u{1b}[2J\ngeneration 7",
            )
        }),
    );
    let server = hierarchy.server(router).await;
    let peer = hierarchy.peer(server.addr);
    match peer.get_json::<Value>("/no", PATIENCE).await {
        Err(CallError::Status { code, text, .. }) => {
            assert_eq!((code, text.as_str()), (409, "stale [2J generation 7"));
        }
        other => panic!("{other:?}"),
    }
    // Not the agreed JSON, no such path, and a path that is none.
    let router = whoami();
    let server = hierarchy.server(router).await;
    let peer = hierarchy.peer(server.addr);
    let number = peer.get_json::<u32>("/whoami", PATIENCE).await;
    assert!(matches!(number, Err(CallError::BadBody { .. })));
    let missing = peer.get_json::<Value>("/nothing", PATIENCE).await;
    assert!(matches!(missing, Err(CallError::Status { code: 404, .. })));
    let unsendable = peer.get_json::<Value>("/a b", PATIENCE).await;
    assert!(matches!(unsendable, Err(CallError::Unsendable { .. })));
}

#[tokio::test]
async fn nobody_listening_is_refused() {
    let hierarchy = Hierarchy::new();
    let server = hierarchy.server(whoami()).await;
    let addr = server.addr;
    server.stop().await;
    let answer = hierarchy.peer(addr).get_json::<Value>("/", PATIENCE).await;
    assert!(
        matches!(answer, Err(CallError::Refused { .. })),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_panicking_handler_ends_one_connection_only() {
    let hierarchy = Hierarchy::new();
    let router = whoami().route("/panic", get(|| async { panic!("a bug") as () }));
    let server = hierarchy.server(router).await;
    let peer = hierarchy.peer(server.addr);
    let answer = peer.get_json::<Value>("/panic", PATIENCE).await;
    assert!(matches!(answer, Err(CallError::Lost { .. })), "{answer:?}");
    peer.get_json::<String>("/whoami", PATIENCE).await.unwrap();
}

/// H25: the watch fans out; requests come in crowds after a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_calls_at_once_are_all_answered() {
    raw::raise_nofile();
    let hierarchy = Hierarchy::new();
    let server = hierarchy.server(whoami()).await;
    let tls = stead_wire::tls::ClientTls::new(&hierarchy.material(&hierarchy::id("operator/ann")))
        .unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..500 {
        let peer = stead_wire::peer::Peer::new(
            server.addr,
            hierarchy::id("server/p01-a"),
            std::sync::Arc::clone(&tls),
        );
        calls.spawn(async move { peer.get_json::<String>("/whoami", PATIENCE * 3).await });
    }
    let answers = calls.join_all().await;
    assert_eq!(answers.len(), 500);
    for answer in answers {
        assert_eq!(answer.unwrap(), "stead://contoso/operator/ann");
    }
}
