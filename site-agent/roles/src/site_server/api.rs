//! The HTTP interface of a site server of a pair: health, state, and writes while it works.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::shared::{Shared, WRITES};
use crate::store::Entry;

/// Largest request.
const BODY_MAX: usize = 16 * 1024;
/// Longest wait for a write's turn and the store.
const ANSWER: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
struct Api {
    shared: Arc<Shared>,
    /// Writes at a time, those that the store has included.
    slots: Arc<Semaphore>,
}

pub(super) fn router(shared: Arc<Shared>) -> Router {
    let slots = Arc::new(Semaphore::new(WRITES));
    Router::new()
        .route("/health", get(health))
        .route("/v1/state", get(state))
        .route("/v1/write", post(write))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(Api { shared, slots })
}

async fn health(State(api): State<Api>) -> Response {
    let state = api.shared.state();
    let mut body = json!({
        "role": "siteServer", "ready": state.ready, "working": state.working,
    });
    if state.ready {
        return Json(body).into_response();
    }
    body["reason"] = json!(state.reason);
    (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
}

async fn state(State(api): State<Api>) -> Response {
    let state = api.shared.state();
    let order = api.shared.order();
    Json(json!({
        "role": "siteServer",
        "ready": state.ready,
        "reason": state.reason,
        "working": state.working,
        "outranked": state.outranked,
        "sequence": state.sequence,
        "term": order.map(|order| order.term),
        "proved": order.map(|order| order.proved),
        "until": order.map(|order| order.until),
        "now": api.shared.clock.read().boot,
    }))
    .into_response()
}

/// `POST /v1/write`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Write {
    id: String,
    text: String,
}

async fn write(State(api): State<Api>, asked: Result<Json<Write>, JsonRejection>) -> Response {
    let Ok(Json(Write { id, text })) = asked else {
        return (StatusCode::BAD_REQUEST, r#"{"id": …, "text": …}"#).into_response();
    };
    let entry = Entry { id: Some(id), text };
    if !entry.fits() {
        let bounds = "an id has 1 to 64 bytes, a text at most 1024";
        return (StatusCode::BAD_REQUEST, bounds).into_response();
    }
    let Ok(_slot) = Arc::clone(&api.slots).try_acquire_owned() else {
        return unavailable("too many writes at a time");
    };
    let answered = match api.shared.submit(entry) {
        Ok(answered) => answered,
        Err(reason) => return unavailable(&reason),
    };
    match timeout(ANSWER, answered).await {
        Ok(Ok(Ok(written))) => {
            Json(json!({ "sequence": written.sequence, "term": written.term })).into_response()
        }
        Ok(Ok(Err(reason))) => unavailable(&reason),
        Ok(Err(_)) => unavailable("the site server ends"),
        Err(_) => unavailable("no answer in time: ask again with the same id"),
    }
}

fn unavailable(reason: &str) -> Response {
    let body = Json(json!({ "reason": reason }));
    (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
}
