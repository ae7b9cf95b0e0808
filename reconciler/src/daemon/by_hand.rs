//! What people ask of a site's lease by way of the reconciler, beside the rest of its API: a promotion
//! when a majority is gone for good (H32).
//!
//! The agent decides and does it; this passes it on and keeps it in the journal for ever.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use stead_schemas::api::{ApiError, CommandAnswer, JournalKind, PromotionRequest};
use stead_schemas::lease::{PromoteAnswer, PromoteRequest};
use stead_wire::peer::CallError;

use super::core::Core;
use crate::api::By;
use crate::commands::chain;
use crate::site::changes::Happened;

/// An agent waits a promise, and for voters that don't answer.
const PROMOTE: Duration = Duration::from_secs(28);
/// Longest body.
const BODY_MAX: usize = 64 * 1024;

/// The routes; who may call is known from the access that is laid over them.
pub fn router(core: Arc<Core>) -> Router {
    Router::new()
        .route("/v1/promote", post(promote))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(core)
}

async fn promote(
    By(by): By,
    State(core): State<Arc<Core>>,
    Json(request): Json<PromotionRequest>,
) -> Response {
    match carry_out(&core, request, &by).await {
        Ok(answer) => Json(answer).into_response(),
        Err((status, error)) => (status, Json(error)).into_response(),
    }
}

async fn carry_out(
    core: &Core,
    request: PromotionRequest,
    by: &str,
) -> Result<CommandAnswer, (StatusCode, ApiError)> {
    let refused = |error: String, hint: Option<&str>| {
        let hint = hint.map(str::to_owned);
        (StatusCode::UNPROCESSABLE_ENTITY, ApiError { error, hint })
    };
    let (server, site_code) = (request.server, request.site_code);
    if request.reason.trim().is_empty() {
        let error = "a reason is needed: how do you know that they are gone?";
        return Err(refused(error.to_owned(), None));
    }
    let site = core.site(&site_code);
    let peer = site.and_then(|site| site.world().peers.get(&server).cloned());
    let Some(peer) = peer else {
        let error = format!("there is no server {site_code}/{server}");
        return Err(refused(error, Some("stead list servers")));
    };
    let about = format!("{site_code}/{server}");
    let tell = |text: String| {
        let happened = Happened::new(JournalKind::Command, about.as_str(), text);
        core.journal(Some(&site_code), vec![happened]);
    };
    let lost: Vec<String> = request.lost.iter().map(ToString::to_string).collect();
    let (lost, reason) = (lost.join(","), request.reason.clone());
    let order = PromoteRequest {
        lost: request.lost,
        reason: request.reason,
        site_code: site_code.clone(),
    };
    let done: Result<PromoteAnswer, _> = peer.post_json_once("/v1/promote", &order, PROMOTE).await;
    match done {
        Ok(answer) => {
            let PromoteAnswer { term, number, .. } = answer;
            tell(format!(
                "{by} promoted it alone, lost {lost}: {reason} (term {term}, configuration {number})"
            ));
            Ok(in_words(&answer, &lost))
        }
        Err(CallError::Status { text, .. }) => {
            tell(format!(
                "{by} asked to promote it, lost {lost}; refused: {text}"
            ));
            Err(refused(text, None))
        }
        Err(error) => {
            let error = format!("the agent of {server} does not answer: {}", chain(&error));
            tell(format!("{by} asked to promote it, lost {lost}; {error}"));
            let hint = Some(format!("site-agent status on {server}"));
            Err((StatusCode::SERVICE_UNAVAILABLE, ApiError { error, hint }))
        }
    }
}

/// What a promotion has done, as people read it.
pub(crate) fn in_words(answer: &PromoteAnswer, lost: &str) -> CommandAnswer {
    let PromoteAnswer {
        server,
        term,
        number,
        warnings,
    } = answer;
    let mut consequences: Vec<String> = warnings
        .iter()
        .map(|said| format!("WARNING: {said}"))
        .collect();
    consequences.extend([
        format!("{server} votes alone: losing it stops the site"),
        format!("{lost}: out, also when they come back, until each is let in with `stead replace`"),
    ]);
    CommandAnswer {
        text: format!("{server} holds term {term}, configuration {number}"),
        consequences,
    }
}
