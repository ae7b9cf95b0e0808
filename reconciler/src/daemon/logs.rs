//! An instance's log, from its agent to whoever asked, line by line.
//!
//! Nothing is kept here; how much there is, is the keeper's business at the agent.

use std::time::Duration;

use axum::body::Bytes;
use stead_schemas::api::ApiError;
use stead_wire::lines::Lines;

use super::core::Core;
use crate::api::{LogRequest, LogStream};
use crate::commands::chain;

/// How long an agent may take to begin a log, and to say that it goes on.
const LOG_BEGINS: Duration = Duration::from_secs(5);
const LOG_SILENCE: Duration = Duration::from_secs(10);

/// Asks the agent.
pub(super) async fn logs(core: &Core, request: LogRequest) -> Result<LogStream, ApiError> {
    let name = &request.instance;
    let peer = core
        .site(&name.site)
        .and_then(|site| site.world().peers.get(&name.server).cloned());
    let Some(peer) = peer else {
        return Err(ApiError {
            error: format!("there is no server {}/{}", name.site, name.server),
            hint: Some("stead list servers".to_owned()),
        });
    };
    let follow = u8::from(request.follow);
    let path = format!(
        "/v1/logs/{}?lines={}&follow={follow}",
        name.group, request.lines
    );
    let lines = peer
        .stream_lines(&path, LOG_BEGINS, LOG_SILENCE)
        .await
        .map_err(|error| ApiError {
            error: format!(
                "the agent of {} gives no log of {name}: {}",
                name.server,
                chain(&error)
            ),
            hint: Some(format!("stead status {}", name.site)),
        })?;
    Ok(Box::pin(futures_util::stream::unfold(
        Some(lines),
        |lines| async move { next_line(lines?).await },
    )))
}

type Next = Option<(Result<Bytes, std::io::Error>, Option<Lines>)>;

async fn next_line(mut lines: Lines) -> Next {
    match lines.next().await {
        Ok(Some(line)) => {
            let mut whole = Vec::with_capacity(line.len() + 1);
            whole.extend_from_slice(&line);
            whole.push(b'\n');
            Some((Ok(whole.into()), Some(lines)))
        }
        Ok(None) => None,
        Err(error) => Some((Err(std::io::Error::other(error)), None)),
    }
}
