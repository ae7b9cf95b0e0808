//! `database`: the small store of a site, for labs and tests (H13).
//!
//! The only process that opens its file. A request is checked against the token, written and synced
//! as one step, one at a time, so that nobody can come between the look and the write. It asks nobody
//! who he is: whoever reaches its port may claim.

mod file;
mod ledger;
pub mod protocol;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::sync::Semaphore;

use crate::RoleError;
use crate::store::{ENTRIES_MAX, HOLDER_MAX, Token};
use ledger::{Ledger, Refusal};
use protocol::{Append, Appended, From};

/// Largest request: 128 entries of the longest id and text, escaped.
const BODY_MAX: usize = 1024 * 1024;
/// Requests at a time; more are told to come again.
const WAITING: usize = 64;

#[derive(Debug, Clone)]
struct Database {
    ledger: Arc<Mutex<Ledger>>,
    slots: Arc<Semaphore>,
}

/// Its HTTP interface over the file in `folder`, which no other process may have open.
///
/// # Errors
/// [`RoleError::Store`] when the file can't be opened, or is damaged other than by a torn end.
pub fn router(folder: &Path) -> Result<Router, RoleError> {
    let ledger = Ledger::open(folder).map_err(|source| RoleError::Store {
        path: folder.to_owned(),
        source,
    })?;
    let database = Database {
        ledger: Arc::new(Mutex::new(ledger)),
        slots: Arc::new(Semaphore::new(WAITING)),
    };
    Ok(Router::new()
        .route("/health", get(health))
        .route("/v1/row", get(row))
        .route("/v1/log", get(log))
        .route("/v1/claim", post(claim))
        .route("/v1/append", post(append))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(database))
}

impl Database {
    /// Does `work` on the ledger, off the runtime's thread: it waits for the disk.
    async fn with<T, F>(self, work: F) -> Result<T, Response>
    where
        T: Send + 'static,
        F: FnOnce(&mut Ledger) -> Result<T, Refusal> + Send + 'static,
    {
        let busy = || (StatusCode::SERVICE_UNAVAILABLE, "too many requests").into_response();
        let slot = self.slots.try_acquire_owned().map_err(|_| busy())?;
        let ledger = self.ledger;
        let done = tokio::task::spawn_blocking(move || {
            let done = work(&mut ledger.lock().unwrap_or_else(PoisonError::into_inner));
            drop(slot);
            done
        });
        match done.await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(refusal)) => Err(refused(refusal)),
            Err(_) => Err(StatusCode::INTERNAL_SERVER_ERROR.into_response()),
        }
    }
}

fn refused(refusal: Refusal) -> Response {
    match refusal {
        Refusal::Outranked(row) => (StatusCode::CONFLICT, Json(row)).into_response(),
        Refusal::Disk(error) => {
            eprintln!("nothing was written: {error}");
            let status = match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    StatusCode::INSUFFICIENT_STORAGE
                }
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            (status, error.to_string()).into_response()
        }
    }
}

async fn health(State(database): State<Database>) -> Response {
    match database.with(Ledger::mend).await {
        Ok(()) => Json(serde_json::json!({ "role": "database" })).into_response(),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

async fn row(State(database): State<Database>) -> Response {
    let row = |ledger: &mut Ledger| ledger.mend().map(|()| ledger.row());
    database
        .with(row)
        .await
        .map_or_else(|no| no, |row| Json(row).into_response())
}

async fn log(
    State(database): State<Database>,
    asked: Result<Query<From>, QueryRejection>,
) -> Response {
    let Ok(Query(From { from })) = asked else {
        return invalid("`from` is a sequence number");
    };
    let page = move |ledger: &mut Ledger| Ok(ledger.page(from));
    database
        .with(page)
        .await
        .map_or_else(|no| no, |page| Json(page).into_response())
}

async fn claim(
    State(database): State<Database>,
    token: Result<Json<Token>, JsonRejection>,
) -> Response {
    let Ok(Json(token)) = token else {
        return invalid("no such claim");
    };
    if !named(&token) {
        return invalid("a holder's name has 1 to 63 bytes, terms begin with 1");
    }
    database
        .with(move |ledger| ledger.claim(token))
        .await
        .map_or_else(|no| no, |row| Json(row).into_response())
}

async fn append(
    State(database): State<Database>,
    append: Result<Json<Append>, JsonRejection>,
) -> Response {
    let Ok(Json(append)) = append else {
        return invalid("no such append");
    };
    let count = append.entries.len();
    if !(1..=ENTRIES_MAX).contains(&count) || !append.entries.iter().all(|entry| entry.fits()) {
        return invalid("1 to 128 entries, ids of 1 to 64 bytes, texts of at most 1024");
    }
    database
        .with(move |ledger| ledger.append(&append.token, append.entries))
        .await
        .map_or_else(
            |no| no,
            |sequences| Json(Appended { sequences }).into_response(),
        )
}

fn named(token: &Token) -> bool {
    token.term > 0 && (1..=HOLDER_MAX).contains(&token.holder.len())
}

fn invalid(why: &'static str) -> Response {
    (StatusCode::BAD_REQUEST, why).into_response()
}
