//! Lease letters from other voters, and what people ask of the lease: to hand it over, to go on alone.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use site_voting::{LETTER_BYTES_MAX, Letter, LetterRefusal, no_writer};
use stead_schemas::lease::{HandoverRequest, PromoteRequest};
use stead_schemas::names::ServerName;
use stead_wire::serve::Caller;

use super::{Api, Refused, forbidden, read};

/// `POST /v1/lease`: only voters write; which ones is the voter's own to know.
pub(super) async fn letter(
    State(api): State<Api>,
    Caller(caller): Caller,
    body: Bytes,
) -> Result<Response, Refused> {
    if let Some(why) = no_writer(caller.kind) {
        return Ok(forbidden(why));
    }
    if body.len() > LETTER_BYTES_MAX {
        return Ok((StatusCode::PAYLOAD_TOO_LARGE, "no letter is so long").into_response());
    }
    let letter: Letter = read(&body)?;
    Ok(match api.agent.seat.receive(&caller.name, letter).await {
        Ok(reply) => Json(reply).into_response(),
        Err(refusal) => refused(&refusal),
    })
}

/// `POST /v1/handover`: answered once it has begun, or is refused.
pub(super) async fn hand_over(
    State(api): State<Api>,
    Caller(caller): Caller,
    body: Bytes,
) -> Result<Response, Refused> {
    let request: HandoverRequest = read(&body)?;
    let asked = api.journal(&caller, format!("hand over to {}", request.to));
    asked.await;
    let done = api.agent.seat.hand_over(request.to).await;
    Ok(match done {
        Ok(()) => StatusCode::ACCEPTED.into_response(),
        Err(why) => {
            api.journal(&caller, format!("handover refused: {why}"))
                .await;
            (StatusCode::CONFLICT, why).into_response()
        }
    })
}

/// `POST /v1/promote`: answered once this server holds alone, or it is refused (H32).
pub(super) async fn promote(
    State(api): State<Api>,
    Caller(caller): Caller,
    body: Bytes,
) -> Result<Response, Refused> {
    let request: PromoteRequest = read(&body)?;
    let lost: Vec<&str> = request.lost.iter().map(ServerName::as_str).collect();
    let (lost, why) = (lost.join(","), request.reason.clone());
    api.journal(&caller, format!("promote, lost {lost}: {why}"))
        .await;
    let done = api.agent.seat.promote(request).await;
    Ok(match done {
        Ok(answer) => {
            let (term, number) = (answer.term, answer.number);
            let text = format!("promoted: term {term}, configuration {number}, lost {lost}: {why}");
            tracing::error!(by = %caller, "{text}");
            api.journal(&caller, text).await;
            Json(answer).into_response()
        }
        Err(why) => {
            api.journal(&caller, format!("promote refused: {why}"))
                .await;
            (StatusCode::CONFLICT, why).into_response()
        }
    })
}

fn refused(refusal: &LetterRefusal) -> Response {
    let status = StatusCode::from_u16(refusal.status());
    let status = status.unwrap_or(StatusCode::CONFLICT);
    (status, refusal.to_string()).into_response()
}
