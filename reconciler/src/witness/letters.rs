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
use site_voting::{Letter, LetterRefusal, PATH};
use stead_schemas::names::IdentityKind;
use stead_wire::serve::Caller;

use super::Witness;

/// Where a witness says what it knows.
pub(super) const REPORTS: &str = "/v1/witness";
/// Longest letter: many times what one with eight voters takes.
const LETTER_MAX: usize = 64 * 1024;

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
        .layer(DefaultBodyLimit::max(LETTER_MAX))
        .with_state(witness)
}

async fn letter(
    State(witness): State<Arc<Witness>>,
    Caller(caller): Caller,
    Json(letter): Json<Letter>,
) -> Response {
    if caller.kind == IdentityKind::Operator {
        let why = "an operator's certificate has no vote";
        return (StatusCode::FORBIDDEN, why).into_response();
    }
    match witness.receive(&caller.name, letter).await {
        Ok(reply) => Json(reply).into_response(),
        Err(refusal) => (status_of(&refusal), refusal.to_string()).into_response(),
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

const fn status_of(refusal: &LetterRefusal) -> StatusCode {
    match refusal {
        LetterRefusal::Busy => StatusCode::SERVICE_UNAVAILABLE,
        LetterRefusal::Forged { .. } => StatusCode::FORBIDDEN,
        LetterRefusal::NotForMe { .. } => StatusCode::MISDIRECTED_REQUEST,
        LetterRefusal::Out(_) => StatusCode::CONFLICT,
    }
}
