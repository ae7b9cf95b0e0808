//! Lease letters from other voters, and requests to hand the lease over.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use site_voting::{Letter, LetterRefusal};
use stead_schemas::lease::HandoverRequest;
use stead_schemas::names::IdentityKind;
use stead_wire::serve::Caller;

use super::{Api, Refused, forbidden, read};

/// Longest letter: many times what one with eight voters takes.
const LETTER_MAX: usize = 64 * 1024;

/// `POST /v1/lease`: only voters write; which ones is the voter's own to know.
pub(super) async fn letter(
    State(api): State<Api>,
    Caller(caller): Caller,
    body: Bytes,
) -> Result<Response, Refused> {
    if caller.kind == IdentityKind::Operator {
        return Ok(forbidden("an operator's certificate has no vote"));
    }
    if body.len() > LETTER_MAX {
        return Ok((StatusCode::PAYLOAD_TOO_LARGE, "no letter is so long").into_response());
    }
    let letter: Letter = read(&body)?;
    Ok(match api.agent.seat.receive(&caller.name, letter).await {
        Ok(reply) => Json(reply).into_response(),
        Err(refusal) => (status_of(&refusal), refusal.to_string()).into_response(),
    })
}

/// `POST /v1/handover`: answered once it has begun, or is refused.
pub(super) async fn hand_over(State(api): State<Api>, body: Bytes) -> Result<Response, Refused> {
    let request: HandoverRequest = read(&body)?;
    Ok(match api.agent.seat.hand_over(request.to).await {
        Ok(()) => StatusCode::ACCEPTED.into_response(),
        Err(why) => (StatusCode::CONFLICT, why).into_response(),
    })
}

const fn status_of(refusal: &LetterRefusal) -> StatusCode {
    match refusal {
        LetterRefusal::Busy => StatusCode::SERVICE_UNAVAILABLE,
        LetterRefusal::Forged { .. } => StatusCode::FORBIDDEN,
        LetterRefusal::NotForMe { .. } => StatusCode::MISDIRECTED_REQUEST,
        LetterRefusal::Out(_) => StatusCode::CONFLICT,
    }
}
