//! `GET /v1/watch`: the whole report, then each change at once, and a heartbeat a second.
//!
//! Nothing is queued: a reader that falls behind gets the newest report when it reads again, and
//! one that does not read at all loses its connection to the kernel's deadline (`stead-wire`).

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use stead_schemas::wire::{AgentReport, HEARTBEAT, WatchEvent};
use stead_wire::clock::wall_now;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep_until};

use super::{Api, busy};

pub(super) async fn watch(State(api): State<Api>) -> Response {
    let Ok(slot) = Arc::clone(&api.streams).try_acquire_owned() else {
        return busy();
    };
    let mut reports = api.agent.board.watch();
    reports.mark_changed();
    let watcher = Watcher {
        reports,
        due: Instant::now() + HEARTBEAT.std(),
        _slot: slot,
    };
    let lines = stream::unfold(watcher, |mut watcher| async move {
        let line = watcher.next().await?;
        Some((Ok::<_, Infallible>(line), watcher))
    });
    let head = [(CONTENT_TYPE, "application/x-ndjson")];
    (head, Body::from_stream(lines)).into_response()
}

struct Watcher {
    reports: watch::Receiver<Arc<AgentReport>>,
    due: Instant,
    _slot: OwnedSemaphorePermit,
}

impl Watcher {
    /// The next line; `None` when the agent ends.
    async fn next(&mut self) -> Option<Bytes> {
        // Both arms are cancel safe.
        let changed = tokio::select! {
            changed = self.reports.changed() => {
                changed.ok()?;
                true
            }
            () = sleep_until(self.due) => false,
        };
        self.due = Instant::now() + HEARTBEAT.std();
        let report = Arc::clone(&self.reports.borrow_and_update());
        let event = if changed {
            let mut report = AgentReport::clone(&report);
            report.wall = wall_now();
            WatchEvent::Report(Box::new(report))
        } else {
            WatchEvent::Heartbeat {
                sequence: report.sequence,
                wall: wall_now(),
            }
        };
        let mut line = serde_json::to_vec(&event).ok()?;
        line.push(b'\n');
        Some(line.into())
    }
}
