//! What voters and other reconcilers ask of a witness, over mutual TLS.
//!
//! Letters come from servers and reconcilers; an operator's certificate has no vote. Which of them may
//! speak in which site is the voter's own to know.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use site_voting::{LETTER_BYTES_MAX, Letter, LetterRefusal, PATH, no_writer};
use stead_schemas::names::IdentityKind;
use stead_wire::serve::Caller;

use super::Witness;

/// Where a witness says what it knows.
pub(super) const REPORTS: &str = "/v1/witness";

/// What the voters here know.
pub fn reports_router(witness: Arc<Witness>) -> Router {
    Router::new()
        .route(REPORTS, get(reports))
        .with_state(witness)
}

/// Letters; they go on outside a certificate's dates (H20).
pub fn letters_router(witness: Arc<Witness>) -> Router {
    Router::new()
        .route(PATH, post(letter))
        .layer(DefaultBodyLimit::max(LETTER_BYTES_MAX))
        .with_state(witness)
}

async fn letter(
    State(witness): State<Arc<Witness>>,
    Caller(caller): Caller,
    Json(letter): Json<Letter>,
) -> Response {
    if let Some(why) = no_writer(caller.kind) {
        return (StatusCode::FORBIDDEN, why).into_response();
    }
    match witness.receive(&caller.name, letter).await {
        Ok(reply) => Json(reply).into_response(),
        Err(refusal) => refused(&refusal),
    }
}

async fn reports(State(witness): State<Arc<Witness>>, Caller(caller): Caller) -> Response {
    match caller.kind {
        IdentityKind::Operator | IdentityKind::Reconciler => {
            Json(witness.reports()).into_response()
        }
        IdentityKind::Server => {
            let why = "a server's certificate reads no reconciler";
            (StatusCode::FORBIDDEN, why).into_response()
        }
    }
}

fn refused(refusal: &LetterRefusal) -> Response {
    let status = StatusCode::from_u16(refusal.status());
    let status = status.unwrap_or(StatusCode::CONFLICT);
    (status, refusal.to_string()).into_response()
}
