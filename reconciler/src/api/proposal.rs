//! `POST /v1/plan`: a topology is sent, checked, planned as if it were in force, and forgotten.
//!
//! One at a time, for it costs as much as a revision: a body is read only by whoever has the turn,
//! and the turn ends with the work, also where nobody waits for the answer any more. Nothing is
//! applied, stored or journalled. The planning itself is [`super::as_if`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Body as _;
use stead_schemas::api::{ApiError, PLAN_BYTES_MAX, PlanRequest, PlanView};
use stead_schemas::declared::{Checked, SourceFile, check};
use stead_schemas::names::{ObjectName, SecretName, SiteCode};
use stead_schemas::record::RecordKey;
use thiserror::Error;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::access::By;
use super::as_if::AsIf;
use super::endpoints::Shared;
use super::snapshot::Snapshot;

/// Longest body: quoting adds a byte a line or a quotation mark, never as much as there was.
const BODY_MAX: usize = 2 * PLAN_BYTES_MAX;
/// How long to wait for one's turn (the largest hierarchy is planned in that time), and for the
/// body; together with the work less than a listener waits for an answer.
const TURN: Duration = Duration::from_secs(3);
const ARRIVES: Duration = Duration::from_secs(10);
/// How much of what does not check is told: more than one answer holds helps nobody.
const TOLD: usize = 10;
const TOLD_BYTES: usize = 2_500;

/// Why there is no plan.
#[derive(Debug, Error)]
pub(super) enum Refused {
    #[error("another topology is being planned")]
    Busy,
    #[error("the topology is too large: more than {PLAN_BYTES_MAX} bytes")]
    TooLarge,
    #[error("the topology did not arrive within {} s", ARRIVES.as_secs())]
    Late,
    #[error("the topology did not arrive: {0}")]
    Broken(Box<dyn std::error::Error + Send + Sync>),
    #[error("that is no topology to plan: {0}")]
    Body(serde_json::Error),
    #[error("the topology does not check here: {errors} errors{told}")]
    Unchecked { errors: usize, told: String },
    #[error("the topology declares the hierarchy {theirs}, and this reconciler keeps {ours}")]
    OtherHierarchy { theirs: ObjectName, ours: String },
    #[error("no revision is in force yet, so nothing is observed")]
    NothingObserved,
    #[error("planning failed, which is a mistake of this program; please report it")]
    Failed,
}

impl Refused {
    const fn status(&self) -> StatusCode {
        match self {
            Self::Busy => StatusCode::TOO_MANY_REQUESTS,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Late => StatusCode::REQUEST_TIMEOUT,
            Self::Broken(_) | Self::Body(_) => StatusCode::BAD_REQUEST,
            Self::Unchecked { .. } | Self::OtherHierarchy { .. } => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            Self::NothingObserved => StatusCode::SERVICE_UNAVAILABLE,
            Self::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Busy | Self::Late | Self::Broken(_) => Some("ask again in a moment"),
            Self::TooLarge => Some("`stead plan --from` plans it without a reconciler"),
            Self::Body(_) => Some("send {\"tree\": ID, \"files\": {PATH: YAML}}"),
            Self::Unchecked { .. } => {
                Some("where `stead check` finds nothing, it is not of the reconciler's version")
            }
            Self::OtherHierarchy { .. } => Some("ask that hierarchy's reconciler: --api"),
            Self::NothingObserved => Some("`stead status` says how far it is"),
            Self::Failed => None,
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let error = ApiError {
            error: self.to_string(),
            hint: self.hint().map(str::to_owned),
        };
        (self.status(), Json(error)).into_response()
    }
}

/// A topology that checks, while it is planned.
struct Proposal {
    tree: String,
    as_if: AsIf,
    unread: BTreeSet<RecordKey>,
    turn: OwnedSemaphorePermit,
}

pub(super) async fn propose(
    _: By,
    State(backend): State<Shared>,
    request: Request,
) -> Result<Json<PlanView>, Refused> {
    let turn = timeout(TURN, backend.plan_turn().acquire_owned()).await;
    let Ok(Ok(turn)) = turn else {
        return Err(Refused::Busy);
    };
    let body = arrived(request.into_body()).await?;
    let seen = Arc::clone(&backend);
    let mut proposal = working(move || Proposal::new(&body, &seen.snapshot(), turn)).await??;
    let read = backend
        .read_records(std::mem::take(&mut proposal.unread))
        .await;
    let view = working(move || {
        proposal.as_if.take_in(&read);
        let has = |site: &SiteCode, name: &SecretName| backend.has_secret(site, name);
        let view = proposal.as_if.plan(&proposal.tree, has);
        drop(proposal.turn);
        view
    });
    view.await.map(Json)
}

/// Work for the processor, where it keeps nobody else waiting.
async fn working<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refused> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Refused::Failed)
}

async fn arrived(body: Body) -> Result<Bytes, Refused> {
    if body.size_hint().lower() > BODY_MAX as u64 {
        return Err(Refused::TooLarge);
    }
    let collected = timeout(ARRIVES, Limited::new(body, BODY_MAX).collect()).await;
    match collected {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refused::TooLarge),
        Ok(Err(error)) => Err(Refused::Broken(error)),
        Err(_) => Err(Refused::Late),
    }
}

impl Proposal {
    fn new(body: &[u8], snapshot: &Snapshot, turn: OwnedSemaphorePermit) -> Result<Self, Refused> {
        let ours = snapshot.reconciler.hierarchy.as_deref();
        let ours = ours.ok_or(Refused::NothingObserved)?;
        let PlanRequest { tree, files } = serde_json::from_slice(body).map_err(Refused::Body)?;
        let bytes: usize = files
            .iter()
            .map(|(path, text)| path.len() + text.len())
            .sum();
        if bytes > PLAN_BYTES_MAX {
            return Err(Refused::TooLarge);
        }
        let files: Vec<SourceFile> = files
            .into_iter()
            .map(|(path, text)| SourceFile::new(path, text))
            .collect();
        let checked = check(&files);
        let Some(target) = &checked.desired else {
            return Err(unchecked(&checked));
        };
        if target.name.as_str() != ours {
            return Err(Refused::OtherHierarchy {
                theirs: target.name.clone(),
                ours: ours.to_owned(),
            });
        }
        let as_if = AsIf::new(target, snapshot);
        Ok(Self {
            tree,
            unread: as_if.unread(),
            as_if,
            turn,
        })
    }
}

fn unchecked(checked: &Checked) -> Refused {
    let mut told = String::new();
    for problem in checked.errors().take(TOLD) {
        told += &format!("\n{problem}");
    }
    if told.len() > TOLD_BYTES {
        told.truncate(told.floor_char_boundary(TOLD_BYTES));
        told.push_str(" ...");
    }
    Refused::Unchecked {
        errors: checked.errors().count(),
        told,
    }
}
