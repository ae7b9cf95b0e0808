//! The agent's HTTP interface (docs/protocols.md): commands and reports over mutual TLS, and the
//! reading half of it on a socket for people on this machine.
//!
//! Who calls is known from the certificate. Reading is for reconcilers and operators, commanding for
//! reconcilers, what is done by hand for both, being reached for every certificate of the hierarchy.
//! Only `Api::tolerant` goes on for a certificate outside its dates (H20); what is added elsewhere needs
//! a valid one.

mod lease;
mod logs;
mod watch;

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post, put};
use serde::de::DeserializeOwned;
use site_voting::PATH;
use stead_schemas::names::{Identity, IdentityKind};
use stead_schemas::prerequisite::CheckRequest;
use stead_schemas::wire::{AssignRequest, ClaimRequest, NewCertificate, ReachRequest, Refusal};
use stead_wire::clock::wall_now;
use stead_wire::dates::Dates;
use stead_wire::doors::Doors;
use stead_wire::serve::Caller;
use tokio::sync::{Notify, Semaphore};

use crate::agent::{Agent, Alive};
use crate::preflight::Looks;
use crate::renewal::Renewal;
use crate::{chain, commanded};

/// Streams at a time, of watchers and of log readers together.
const STREAMS: usize = 64;
/// Questions to other agents at a time.
const REACHES: usize = 16;

/// What handlers share.
#[derive(Debug, Clone)]
pub struct Api {
    agent: Arc<Agent>,
    streams: Arc<Semaphore>,
    reaches: Arc<Semaphore>,
    looks: Looks,
    reload: Arc<Notify>,
    renewal: Arc<Renewal>,
}

impl Api {
    /// The interface of this agent; `reload` is notified when somebody asks for a reload.
    #[must_use]
    pub fn new(agent: &Arc<Agent>, reload: &Arc<Notify>, renewal: &Arc<Renewal>) -> Self {
        Self {
            agent: Arc::clone(agent),
            streams: Arc::new(Semaphore::new(STREAMS)),
            reaches: Arc::new(Semaphore::new(REACHES)),
            looks: Looks::default(),
            reload: Arc::clone(reload),
            renewal: Arc::clone(renewal),
        }
    }

    /// For callers with certificates.
    pub fn remote(&self) -> Doors {
        Doors::new(self.strict(), self.tolerant())
    }

    fn strict(&self) -> Router {
        let commands = Router::new()
            .route("/v1/assignment", put(assign))
            .route("/v1/claim", post(claim))
            .route("/v1/certificate", put(take_certificate))
            .route("/v1/reach", post(reach))
            .route("/v1/preflight", post(preflight))
            .layer(middleware::from_fn_with_state(self.clone(), commanders));
        let by_hand = Router::new()
            .route("/v1/handover", post(lease::hand_over))
            .route("/v1/promote", post(lease::promote))
            .layer(middleware::from_fn_with_state(self.clone(), operators));
        let logs = logs_route().layer(middleware::from_fn(readers));
        commands.merge(by_hand).merge(logs).with_state(self.clone())
    }

    /// Lease letters, and the watch of a reconciler: no site stops or looks dead for a date (H20).
    fn tolerant(&self) -> Router {
        let reads = report_routes().layer(middleware::from_fn(readers));
        Router::new()
            .route("/v1/alive", get(alive))
            .route(PATH, post(lease::letter))
            .merge(reads)
            .with_state(self.clone())
    }

    /// For the same user on this machine; the socket's folder lets nobody else in.
    pub fn local(&self) -> Router {
        report_routes()
            .merge(logs_route())
            .route("/v1/status", get(status))
            .route("/v1/reload", post(reload))
            .with_state(self.clone())
    }
}

impl Api {
    /// Keeps what somebody asks for by hand, and what came of it (H31).
    async fn journal(&self, by: &Identity, text: String) {
        tracing::warn!(%by, "by hand: {text}");
        let (folder, by) = (self.agent.layout.root().to_owned(), by.clone());
        let noted =
            tokio::task::spawn_blocking(move || commanded::note(&folder, &by, &text, wall_now()));
        match noted.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "it is not in commands.log"),
            Err(error) => tracing::error!(%error, "it is not in commands.log"),
        }
    }
}

fn report_routes() -> Router<Api> {
    Router::new()
        .route("/v1/state", get(state))
        .route("/v1/watch", get(watch::watch))
}

fn logs_route() -> Router<Api> {
    Router::new().route("/v1/logs/{group}", get(logs::logs))
}

async fn take_certificate(State(api): State<Api>, Json(new): Json<NewCertificate>) -> Response {
    let taken = tokio::task::spawn_blocking(move || api.renewal.take(&new));
    match taken.await {
        Ok(Ok(())) => StatusCode::NO_CONTENT.into_response(),
        Ok(Err(error)) => (StatusCode::CONFLICT, chain(&error)).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn commanders(State(api): State<Api>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    match caller(&mut parts).await {
        Ok(Caller(caller)) if api.agent.obeys(&caller) => {
            next.run(Request::from_parts(parts, body)).await
        }
        Ok(Caller(caller)) => forbidden(&format!("{caller} may not command this agent")),
        Err(response) => response,
    }
}

async fn operators(State(api): State<Api>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    match caller(&mut parts).await {
        Ok(Caller(caller)) if api.agent.may_operate(&caller) => {
            next.run(Request::from_parts(parts, body)).await
        }
        Ok(Caller(caller)) => forbidden(&format!("{caller} may not operate this agent")),
        Err(response) => response,
    }
}

async fn readers(request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let (caller, dates) = match (caller(&mut parts).await, dates(&mut parts).await) {
        (Ok(Caller(caller)), Ok(dates)) => (caller, dates),
        (Err(response), _) | (_, Err(response)) => return response,
    };
    // For a person the end of a certificate is the end of what it allows.
    let over = dates.complaint(&caller);
    match (caller.kind, over) {
        (IdentityKind::Operator, Some(complaint)) => forbidden(&complaint),
        (IdentityKind::Operator | IdentityKind::Reconciler, _) => {
            next.run(Request::from_parts(parts, body)).await
        }
        (IdentityKind::Server, _) => forbidden("a server's certificate reads no other server"),
    }
}

async fn dates(parts: &mut Parts) -> Result<Dates, Response> {
    Dates::from_request_parts(parts, &())
        .await
        .map_err(IntoResponse::into_response)
}

async fn caller(parts: &mut Parts) -> Result<Caller, Response> {
    Caller::from_request_parts(parts, &())
        .await
        .map_err(IntoResponse::into_response)
}

fn forbidden(why: &str) -> Response {
    (StatusCode::FORBIDDEN, why.to_owned()).into_response()
}

fn busy() -> Response {
    (
        StatusCode::SERVICE_UNAVAILABLE,
        "too many of these at a time; try again later",
    )
        .into_response()
}

async fn alive(State(api): State<Api>) -> Json<Alive> {
    Json(Alive {
        server: api.agent.me.server.clone(),
        wall: Some(wall_now()),
    })
}

async fn state(State(api): State<Api>) -> Response {
    Json(&*api.agent.board.report()).into_response()
}

async fn status(State(api): State<Api>) -> Response {
    Json(api.agent.status().await).into_response()
}

async fn reload(State(api): State<Api>) -> StatusCode {
    api.reload.notify_one();
    StatusCode::ACCEPTED
}

async fn assign(
    State(api): State<Api>,
    Caller(caller): Caller,
    body: Bytes,
) -> Result<Response, Refused> {
    let request: AssignRequest = read(&body)?;
    let report = api.agent.assign(&caller.name, request).await?;
    Ok(Json(&*report).into_response())
}

async fn claim(
    State(api): State<Api>,
    Caller(caller): Caller,
    body: Bytes,
) -> Result<Response, Refused> {
    let request: ClaimRequest = read(&body)?;
    let report = api.agent.claim(&caller.name, &request.epoch).await?;
    Ok(Json(&*report).into_response())
}

async fn reach(State(api): State<Api>, body: Bytes) -> Result<Response, Refused> {
    let asked: ReachRequest = read(&body)?;
    let Ok(_slot) = api.reaches.try_acquire() else {
        return Ok(busy());
    };
    Ok(Json(api.agent.reach(asked).await).into_response())
}

async fn preflight(State(api): State<Api>, body: Bytes) -> Result<Response, Refused> {
    let request: CheckRequest = read(&body)?;
    let answer = api.looks.answer(&api.agent, &request).await?;
    Ok(answer.map_or_else(busy, |answer| Json(answer).into_response()))
}

/// Only the place of an error goes back: a parser's words may hold what was read, which may be a
/// secret (H30).
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let wrong = |place: String| Refusal::Invalid {
        reason: format!("the body can't be read: {place}"),
    };
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let inner = error.inner();
        wrong(format!(
            "wrong at `{}`, line {}, column {}",
            error.path(),
            inner.line(),
            inner.column()
        ))
    })?;
    reader
        .end()
        .map_err(|_| wrong("something follows its end".to_owned()))?;
    Ok(value)
}

/// A [`Refusal`] as an answer.
#[derive(Debug)]
struct Refused(Refusal);

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = match &self.0 {
            Refusal::Invalid { .. } => StatusCode::BAD_REQUEST,
            Refusal::NotDurable { .. } => StatusCode::INSUFFICIENT_STORAGE,
            Refusal::NotForMe { .. } => StatusCode::MISDIRECTED_REQUEST,
            Refusal::StaleEpoch { .. } | Refusal::StaleGeneration { .. } => StatusCode::CONFLICT,
        };
        (status, Json(self.0)).into_response()
    }
}
