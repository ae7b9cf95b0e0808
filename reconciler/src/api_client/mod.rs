//! How commands reach a reconciler: its local socket, or mutual TLS with an operator certificate.
//!
//! Every call has a deadline and every answer a cap. Nobody answering is exit code 3 with the hint
//! where to look next (task 12); a refusal is a failure in the reconciler's own words. No retries:
//! a person or a script decides about those.

mod address;
mod socket;

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use stead_schemas::api::ApiError;
use stead_wire::peer::{CallError, Peer};

use crate::commands::{CommandError, ErrorKind};

pub use address::ApiArgs;
use socket::{SocketCaller, SocketError, SocketLines};

/// How long a question may take; the reconciler answers from memory.
const ASK: Duration = Duration::from_secs(10);
/// How long a command may take: it is journalled, synced, before it is answered.
const COMMAND: Duration = Duration::from_secs(30);
/// Longest silence of a followed log; the reconciler sends an empty line more often.
const LOG_SILENCE: Duration = Duration::from_secs(60);
const HINT_NOBODY: &str =
    "on any server, `site-agent status` tells what its agent knows without a reconciler";

/// A reconciler to talk to.
#[derive(Debug)]
pub struct ApiClient {
    way: Way,
}

#[derive(Debug)]
enum Way {
    Remote(Peer),
    Socket(SocketCaller),
}

/// Lines of an answer that goes on.
#[derive(Debug)]
pub struct ApiLines(LinesOf);

#[derive(Debug)]
enum LinesOf {
    Remote(stead_wire::lines::Lines),
    Socket(SocketLines),
}

impl ApiClient {
    /// GET; `path` begins with `/v1/`.
    ///
    /// # Errors
    /// Unobserved when nobody answers, failed on a refusal.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CommandError> {
        match &self.way {
            Way::Remote(peer) => peer.get_json(path, ASK).await.map_err(from_call),
            Way::Socket(caller) => caller.get(path, ASK).await.map_err(from_socket),
        }
    }

    /// POST of a command.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn post<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, CommandError> {
        match &self.way {
            Way::Remote(peer) => peer.post_json(path, body, COMMAND).await.map_err(from_call),
            Way::Socket(caller) => caller.post(path, body, COMMAND).await.map_err(from_socket),
        }
    }

    /// GET of an answer in lines.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn lines(&self, path: &str) -> Result<ApiLines, CommandError> {
        match &self.way {
            Way::Remote(peer) => peer
                .stream_lines(path, ASK, LOG_SILENCE)
                .await
                .map(|lines| ApiLines(LinesOf::Remote(lines)))
                .map_err(from_call),
            Way::Socket(caller) => caller
                .lines(path, ASK, LOG_SILENCE)
                .await
                .map(|lines| ApiLines(LinesOf::Socket(lines)))
                .map_err(from_socket),
        }
    }
}

impl ApiLines {
    /// The next line without its end; none when the answer is over.
    ///
    /// # Errors
    /// Unobserved when the reconciler went away.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, CommandError> {
        match &mut self.0 {
            LinesOf::Remote(lines) => lines
                .next()
                .await
                .map(|line| line.map(|bytes| bytes.to_vec()))
                .map_err(from_call),
            LinesOf::Socket(lines) => lines.next().await.map_err(from_socket),
        }
    }
}

/// A value of a query: what could end or split it is escaped (RFC 3986 section 3.4).
#[must_use]
pub fn query_value(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z'
            | b'a'..=b'z'
            | b'0'..=b'9'
            | b'-'
            | b'.'
            | b'_'
            | b'~'
            | b':'
            | b'/'
            | b'@' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

fn from_call(error: CallError) -> CommandError {
    match error {
        CallError::Status { code, text, .. } => refusal(code, text.as_bytes()),
        error => nobody(error),
    }
}

fn from_socket(error: SocketError) -> CommandError {
    match error {
        SocketError::Status { code, body } => refusal(code, &body),
        error => nobody(error),
    }
}

fn nobody(error: impl std::error::Error + Send + Sync + 'static) -> CommandError {
    CommandError::unobserved(error).hinted(HINT_NOBODY)
}

/// A refusal in the reconciler's words. 503 means that it could not find out itself, 429 that it
/// has too much to do to.
fn refusal(code: u16, body: &[u8]) -> CommandError {
    let said: ApiError = serde_json::from_slice(body).unwrap_or_else(|_| ApiError {
        error: format!(
            "the reconciler answered {code}: {}",
            String::from_utf8_lossy(body).trim()
        ),
        hint: None,
    });
    let kind = if matches!(code, 429 | 503) {
        ErrorKind::Unobserved
    } else {
        ErrorKind::Failed
    };
    let error = CommandError::new(kind, said.error);
    match said.hint {
        Some(hint) => error.hinted(hint),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_value_cannot_add_a_parameter() {
        assert_eq!(
            query_value("dns:_mssms_mp_P01._tcp.cm.example/SRV"),
            "dns:_mssms_mp_P01._tcp.cm.example/SRV"
        );
        assert_eq!(query_value("a&site=X #?%+"), "a%26site%3DX%20%23%3F%25%2B");
    }

    #[test]
    fn a_refusal_is_told_in_the_reconcilers_words() {
        let body = br#"{"error":"no server p09-a","hint":"stead list servers"}"#;
        assert_eq!(refusal(404, body).kind, ErrorKind::Failed);
        assert_eq!(refusal(503, b"starting").kind, ErrorKind::Unobserved);
        assert_eq!(refusal(429, b"busy").kind, ErrorKind::Unobserved);
    }
}
