//! The embedded store over HTTP: one winner of many claimants, stale terms refused, bounds.

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::stage::{Serving, ask, serve};

async fn store(dir: &tempfile::TempDir) -> Serving {
    serve(site_roles::database::router(dir.path()).unwrap()).await
}

#[tokio::test]
async fn of_ten_claimants_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    for term in 1..=20_u64 {
        let mut claims = JoinSet::new();
        for one in 0..10 {
            let (addr, body) = (
                store.addr,
                json!({"term": term, "holder": format!("s{one}")}),
            );
            claims.spawn(async move { ask(addr, "POST", "/v1/claim", &body).await });
        }
        let answers = claims.join_all().await;
        let winners: Vec<&Value> = answers
            .iter()
            .filter(|(status, _)| *status == 200)
            .map(|(_, row)| &row["holder"])
            .collect();
        assert_eq!(winners.len(), 1, "term {term}");
        let lost = answers.iter().filter(|(status, _)| *status == 409);
        for (_, row) in lost {
            assert_eq!(&row["holder"], winners[0]);
        }
    }
}

#[tokio::test]
async fn a_stale_term_is_refused_with_the_row_and_ids_are_written_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    let post = |path, body: Value| async move { ask(store.addr, "POST", path, &body).await };
    let get = |path| async move { ask(store.addr, "GET", path, &Value::Null).await };
    let append = |term, holder| {
        let entries = json!([{"id": "i", "text": "x"}, {"text": "beat"}]);
        json!({"term": term, "holder": holder, "entries": entries})
    };
    assert_eq!(get("/v1/row").await.1["term"], 0);
    post("/v1/claim", json!({"term": 7, "holder": "a"})).await;
    let (status, body) = post("/v1/append", append(7, "a")).await;
    assert_eq!((status, body), (200, json!({"sequences": [1, 2]})));
    post("/v1/claim", json!({"term": 8, "holder": "b"})).await;
    let (status, row) = post("/v1/append", append(7, "a")).await;
    let expected = json!({"term": 8, "holder": "b", "sequence": 2});
    assert_eq!((status, row), (409, expected), "I5");
    let (status, body) = post("/v1/append", append(8, "b")).await;
    assert_eq!((status, body), (200, json!({"sequences": [1, 3]})));
    let (_, page) = get("/v1/log?from=2").await;
    assert_eq!(page["next"], 4);
    assert_eq!(page["entries"][0]["term"], 7);
    assert_eq!(page["entries"][1]["holder"], "b");
    assert_eq!(get("/health").await.0, 200);
}

#[tokio::test]
async fn what_is_too_large_or_no_request_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    let post = |path, body: Value| async move { ask(store.addr, "POST", path, &body).await.0 };
    let append = |entries: Value| json!({"term": 1, "holder": "a", "entries": entries});
    assert_eq!(
        post("/v1/claim", json!({"term": 0, "holder": "a"})).await,
        400
    );
    let long = json!({"term": 1, "holder": "a".repeat(64)});
    assert_eq!(post("/v1/claim", long).await, 400);
    assert_eq!(
        post("/v1/claim", json!({"term": 1, "holder": "a"})).await,
        200
    );
    assert_eq!(post("/v1/append", append(json!([]))).await, 400);
    let long = json!([{"text": "x".repeat(1_025)}]);
    assert_eq!(post("/v1/append", append(long)).await, 400);
    let many: Vec<Value> = (0..129).map(|_| json!({"text": ""})).collect();
    assert_eq!(post("/v1/append", append(json!(many))).await, 400);
    // The largest of all fits.
    let full: Vec<Value> = (0..128)
        .map(|one| json!({"id": format!("{one:064}"), "text": "\u{1}".repeat(1_024)}))
        .collect();
    assert_eq!(post("/v1/append", append(json!(full))).await, 200);
}
