//! Paths and methods. Reads answer from a snapshot; commands go to the backend. Bodies and limits
//! are bounded; an error is always an [`ApiError`].

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use stead_schemas::api::{
    ApiError, CommandAnswer, ConfirmLostRequest, DrainPlanView, DrainRequest, FailbackRequest,
    JournalEntry, PlanView, RecordView, ReplaceRequest, ResumeRequest, RevisionView, SecretView,
    StatusView, SuspendRequest, SwitchoverRequest, SwitchoverView, TakeoverView, UndrainRequest,
    WhyView, WriterState,
};
use stead_schemas::names::{InstanceName, SiteCode, Thing};

use super::access::{Access, By};
use super::openapi::openapi;
use super::proposal::propose;
use super::snapshot::{Backend, LogRequest};
use super::switchover::SwitchoverRefusal;
use super::{records, status, why};

pub(super) type Shared = Arc<dyn Backend>;
type Answered<T> = Result<Json<T>, Failed>;

/// Most journal entries one answer holds.
const HISTORY_MAX: u32 = 10_000;
/// Most log lines one answer begins with.
const LINES_MAX: u32 = 10_000;
/// Longest command body, bytes.
const BODY_MAX: usize = 64 * 1024;

/// The whole API, reached as `access` says.
pub fn router(backend: Shared, access: Access) -> Router {
    Router::new()
        .route("/v1/status", get(show_status))
        .route("/v1/plan", get(show_plan).post(propose))
        .route("/v1/records", get(show_records))
        .route("/v1/revisions", get(show_revisions))
        .route("/v1/history", get(show_history))
        .route("/v1/takeovers", get(show_takeovers))
        .route("/v1/why", get(show_why))
        .route("/v1/secrets", get(show_secrets))
        .route("/v1/logs", get(show_logs))
        .route("/v1/suspend", post(suspend))
        .route("/v1/resume", post(resume))
        .route("/v1/confirm-lost", post(confirm_lost))
        .route("/v1/drain", post(drain))
        .route("/v1/undrain", post(undrain))
        .route("/v1/switchover", post(switchover))
        .route("/v1/failback", post(failback))
        .route("/v1/replace", post(replace))
        .layer(map_response(in_words))
        .route("/openapi.json", get(|| async { Json(openapi()) }))
        .merge(health_router(Arc::clone(&backend)))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(Extension(access))
        .with_state(backend)
}

/// `/healthz`, `/readyz` and `/metrics` alone, for a listener without authentication.
pub fn health_router(backend: Shared) -> Router<Shared> {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(show_ready))
        .route("/metrics", get(show_metrics))
        .with_state(backend)
}

/// What axum refuses in a line of text (no identity, a body too large or not as described) as an
/// [`ApiError`]; other answers as they are.
async fn in_words(answer: Response) -> Response {
    let status = answer.status();
    let is_json = answer
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if is_json || !(status.is_client_error() || status.is_server_error()) {
        return answer;
    }
    let text = axum::body::to_bytes(answer.into_body(), BODY_MAX).await;
    let text = text.unwrap_or_default();
    let error = ApiError {
        error: match String::from_utf8_lossy(&text).trim() {
            "" => status.to_string(),
            said => said.to_owned(),
        },
        hint: None,
    };
    Failed(status, error).into_response()
}

/// An [`ApiError`] with its status.
struct Failed(StatusCode, ApiError);

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

fn refused(error: ApiError) -> Failed {
    Failed(StatusCode::UNPROCESSABLE_ENTITY, error)
}

fn not_found(error: ApiError) -> Failed {
    Failed(StatusCode::NOT_FOUND, error)
}

fn bad(error: impl ToString) -> Failed {
    let error = ApiError {
        error: error.to_string(),
        hint: None,
    };
    Failed(StatusCode::BAD_REQUEST, error)
}

#[derive(Debug, Deserialize)]
struct SiteQuery {
    site: Option<SiteCode>,
}

#[derive(Debug, Deserialize)]
struct HistoryQuery {
    site: Option<SiteCode>,
    limit: Option<u32>,
    before: Option<i64>,
}

#[derive(Debug, Deserialize)]
struct WhyQuery {
    thing: String,
}

#[derive(Debug, Deserialize)]
struct LogsQuery {
    instance: InstanceName,
    lines: Option<u32>,
    #[serde(default)]
    follow: bool,
}

async fn show_status(
    _: By,
    State(backend): State<Shared>,
    Query(query): Query<SiteQuery>,
) -> Answered<StatusView> {
    let snapshot = backend.snapshot();
    if let Some(site) = &query.site {
        why::find(&snapshot, site).map_err(not_found)?;
    }
    Ok(Json(status::status(&snapshot, query.site.as_ref())))
}

async fn show_plan(_: By, State(backend): State<Shared>) -> Json<PlanView> {
    Json(status::plan(&backend.snapshot()))
}

async fn show_records(
    _: By,
    State(backend): State<Shared>,
    Query(query): Query<SiteQuery>,
) -> Answered<Vec<RecordView>> {
    let snapshot = backend.snapshot();
    if let Some(site) = &query.site {
        why::find(&snapshot, site).map_err(not_found)?;
    }
    Ok(Json(records::records(&snapshot, query.site.as_ref())))
}

async fn show_revisions(_: By, State(backend): State<Shared>) -> Answered<Vec<RevisionView>> {
    backend.revisions().await.map(Json).map_err(refused)
}

async fn show_history(
    _: By,
    State(backend): State<Shared>,
    Query(query): Query<HistoryQuery>,
) -> Answered<Vec<JournalEntry>> {
    let limit = query.limit.unwrap_or(200).min(HISTORY_MAX);
    backend
        .history(query.site, limit, query.before)
        .await
        .map(Json)
        .map_err(refused)
}

/// How leases were taken up, the newest term of each site first.
async fn show_takeovers(
    _: By,
    State(backend): State<Shared>,
    Query(query): Query<SiteQuery>,
) -> Answered<Vec<TakeoverView>> {
    let snapshot = backend.snapshot();
    if let Some(site) = &query.site {
        why::find(&snapshot, site).map_err(not_found)?;
    }
    let asked = |code: &SiteCode| query.site.as_ref().is_none_or(|site| site == code);
    let sites = snapshot.sites.iter().filter(|(code, _)| asked(code));
    let views = sites.flat_map(|(_, site)| site.takeovers.values().rev().cloned());
    Ok(Json(views.collect()))
}

async fn show_why(
    _: By,
    State(backend): State<Shared>,
    Query(query): Query<WhyQuery>,
) -> Answered<WhyView> {
    let thing: Thing = query.thing.parse().map_err(bad)?;
    let view = why::why(&backend.snapshot(), &thing).map_err(not_found)?;
    let history = backend
        .history_of(view.thing.clone(), 20)
        .await
        .map_err(refused)?;
    Ok(Json(why::with_history(view, history)))
}

async fn show_secrets(_: By, State(backend): State<Shared>) -> Answered<Vec<SecretView>> {
    backend.secrets().await.map(Json).map_err(refused)
}

async fn show_logs(
    _: By,
    State(backend): State<Shared>,
    Query(query): Query<LogsQuery>,
) -> Result<Response, Failed> {
    let request = LogRequest {
        instance: query.instance,
        lines: query.lines.unwrap_or(100).min(LINES_MAX),
        follow: query.follow,
    };
    let stream = backend.logs(request).await.map_err(not_found)?;
    let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    Ok((kind, Body::from_stream(stream)).into_response())
}

async fn suspend(
    By(by): By,
    State(backend): State<Shared>,
    Json(request): Json<SuspendRequest>,
) -> Answered<CommandAnswer> {
    if request.reason.trim().is_empty() {
        return Err(bad(
            "a reason is needed: whoever meets the hold at night reads it",
        ));
    }
    backend
        .suspend(request, by)
        .await
        .map(Json)
        .map_err(refused)
}

async fn resume(
    By(by): By,
    State(backend): State<Shared>,
    Json(request): Json<ResumeRequest>,
) -> Answered<CommandAnswer> {
    backend.resume(request, by).await.map(Json).map_err(refused)
}

async fn confirm_lost(
    By(by): By,
    State(backend): State<Shared>,
    Json(request): Json<ConfirmLostRequest>,
) -> Answered<CommandAnswer> {
    if request.reason.trim().is_empty() {
        return Err(bad(
            "a reason is needed: how do you know that its power is off?",
        ));
    }
    backend
        .confirm_lost(request, by)
        .await
        .map(Json)
        .map_err(refused)
}

async fn drain(
    By(by): By,
    State(backend): State<Shared>,
    Json(request): Json<DrainRequest>,
) -> Answered<DrainPlanView> {
    if request.reason.trim().is_empty() {
        return Err(bad(
            "a reason is needed: whoever wonders why it is off reads it",
        ));
    }
    let drained = backend.drain(request, by).await;
    drained
        .map(Json)
        .map_err(|refusal| Failed(status_of(refusal.is_unobserved()), refusal.into()))
}

async fn undrain(
    By(by): By,
    State(backend): State<Shared>,
    Json(request): Json<UndrainRequest>,
) -> Answered<CommandAnswer> {
    backend
        .undrain(request, by)
        .await
        .map(Json)
        .map_err(refused)
}

async fn switchover(
    By(by): By,
    State(backend): State<Shared>,
    Json(request): Json<SwitchoverRequest>,
) -> Answered<SwitchoverView> {
    let switched = backend.switchover(request, by).await;
    switched.map(Json).map_err(not_switched)
}

async fn failback(
    By(by): By,
    State(backend): State<Shared>,
    Json(request): Json<FailbackRequest>,
) -> Answered<SwitchoverView> {
    let switched = backend.failback(request, by).await;
    switched.map(Json).map_err(not_switched)
}

fn not_switched(refusal: SwitchoverRefusal) -> Failed {
    Failed(status_of(refusal.is_unobserved()), refusal.into())
}

/// Not found out is not refused.
const fn status_of(unobserved: bool) -> StatusCode {
    if unobserved {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::UNPROCESSABLE_ENTITY
    }
}

async fn replace(
    By(by): By,
    State(backend): State<Shared>,
    Json(request): Json<ReplaceRequest>,
) -> Answered<CommandAnswer> {
    if request.reason.trim().is_empty() {
        return Err(bad("a reason is needed: what became of the old machine?"));
    }
    backend
        .replace(request, by)
        .await
        .map(Json)
        .map_err(refused)
}

/// Ready: it acts, or rightly stands by, and has judged every agent once.
async fn show_ready(State(backend): State<Shared>) -> (StatusCode, String) {
    let snapshot = backend.snapshot();
    let why_not = match &snapshot.reconciler.writer {
        WriterState::Fenced { by } => Some(format!("fenced by {by}")),
        WriterState::Starting => Some("starting".to_owned()),
        WriterState::Standby | WriterState::Writing if !snapshot.ready => {
            Some("not every agent is judged yet, or the journal can't be written".to_owned())
        }
        WriterState::Standby | WriterState::Writing => None,
    };
    match why_not {
        Some(cause) => (StatusCode::SERVICE_UNAVAILABLE, format!("{cause}\n")),
        None => (StatusCode::OK, "ready\n".to_owned()),
    }
}

async fn show_metrics(State(backend): State<Shared>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], backend.metrics()).into_response()
}
