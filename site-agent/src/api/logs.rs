//! `GET /v1/logs/GROUP?lines=N&follow=1`: what an instance wrote, as kept by its keeper's ring.
//!
//! Following looks at the files four times a second; an empty line a second says that the
//! stream lives.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use stead_schemas::names::GroupName;
use stead_schemas::wire::HEARTBEAT;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep};

use super::{Api, busy};
use crate::keeper::output::{self, Follow};

/// Lines given where nobody says how many, and at most.
const LINES: usize = 100;
const LINES_MAX: usize = 20_000;
const LOOK: Duration = Duration::from_millis(250);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    lines: Option<usize>,
    #[serde(default)]
    follow: u8,
}

pub(super) async fn logs(
    State(api): State<Api>,
    Path(group): Path<String>,
    Query(asked): Query<Asked>,
) -> Response {
    let Ok(group) = group.parse::<GroupName>() else {
        return (StatusCode::BAD_REQUEST, "that is no role group").into_response();
    };
    let dir = api.agent.layout.output(&group);
    if !api.agent.board.report().instances.contains_key(&group) && !dir.is_dir() {
        return (StatusCode::NOT_FOUND, "there is no such instance here").into_response();
    }
    let Ok(slot) = Arc::clone(&api.streams).try_acquire_owned() else {
        return busy();
    };
    let count = asked.lines.unwrap_or(LINES).min(LINES_MAX);
    let follow = Follow::from_end(dir.clone());
    let read = tokio::task::spawn_blocking(move || output::last_lines(&dir, count)).await;
    let Ok(Ok(lines)) = read else {
        return (StatusCode::INTERNAL_SERVER_ERROR, "the log can't be read").into_response();
    };
    let mut text = lines.join("\n");
    if !text.is_empty() {
        text.push('\n');
    }
    let first = stream::once(async move { Ok::<_, Infallible>(Bytes::from(text)) });
    let head = [(CONTENT_TYPE, "text/plain; charset=utf-8")];
    if asked.follow == 0 {
        return (head, Body::from_stream(first)).into_response();
    }
    (
        head,
        Body::from_stream(first.chain(following(follow, slot))),
    )
        .into_response()
}

fn following(
    follow: Follow,
    slot: OwnedSemaphorePermit,
) -> impl futures_util::Stream<Item = Result<Bytes, Infallible>> {
    stream::unfold((follow, slot), |(mut follow, slot)| async move {
        let due = Instant::now() + HEARTBEAT.std();
        loop {
            sleep(LOOK).await;
            // A quarter of a megabyte at most, from the page cache.
            let more = follow.more().ok()?;
            if !more.is_empty() {
                return Some((Ok(Bytes::from(more)), (follow, slot)));
            }
            if Instant::now() >= due {
                return Some((Ok(Bytes::from_static(b"\n")), (follow, slot)));
            }
        }
    })
}
