//! The endpoint that a push wakes: a signed poke, and nothing more.
//!
//! The body is read only because the signature covers it; what it says is never parsed, so a
//! forged or replayed hook costs one fetch at most. Size, time, number and rate of requests are
//! bounded, and whatever a bound turns away the poll finds later. Listening and TLS are the
//! caller's.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use ring::hmac;
use thiserror::Error;
use tokio::sync::Semaphore;

use super::fetch::blocking;
use super::source::Waker;

/// Largest body; forges send up to 25 MiB, but a push hook is a few KiB.
pub const MOST_BODY_BYTES: usize = 1024 * 1024;
/// Shortest secret that is taken; a shorter one can be guessed.
const LEAST_SECRET_BYTES: usize = 16;
const MOST_SECRET_BYTES: u64 = 4 * 1024;
/// Bodies in memory at a time.
const MOST_AT_ONCE: usize = 8;
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// `sha256=HEX` over the body: GitHub, Gitea and Forgejo, and anything of one's own.
const SIGNATURE_HEADERS: [&str; 2] = ["x-hub-signature-256", "x-stead-signature"];
/// The secret itself: GitLab.
const TOKEN_HEADER: &str = "x-gitlab-token";

/// How many requests are answered: `burst` at once, then `per_second`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Requests at once.
    pub burst: u32,
    /// Requests a second after that.
    pub per_second: f64,
}

impl Default for Rate {
    fn default() -> Self {
        Self {
            burst: 40,
            per_second: 20.0,
        }
    }
}

/// What the endpoint needs; cloned, it is the same endpoint.
#[derive(Debug, Clone)]
pub struct WebhookState {
    secret_file: PathBuf,
    waker: Waker,
    bucket: Arc<Mutex<Bucket>>,
    at_once: Arc<Semaphore>,
}

impl WebhookState {
    /// An endpoint that wakes `waker` on hooks signed with the content of `secret_file`, which is
    /// read at each hook, so that a changed secret counts at once.
    #[must_use]
    pub fn new(secret_file: impl Into<PathBuf>, rate: Rate, waker: Waker) -> Self {
        Self {
            secret_file: secret_file.into(),
            waker,
            bucket: Arc::new(Mutex::new(Bucket::full(rate, Instant::now()))),
            at_once: Arc::new(Semaphore::new(MOST_AT_ONCE)),
        }
    }
}

/// Why a hook wakes nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    /// No signature, or one of no known form.
    #[error("no signature: X-Hub-Signature-256, X-Stead-Signature or X-Gitlab-Token is needed")]
    Unsigned,
    /// Signed with something else, or about another body.
    #[error("the signature does not fit")]
    WrongSignature,
}

/// Serves `POST /hook`: 202 woken, 401 unsigned, 403 wrong signature, 408 too slow, 413 too large,
/// 429 too often, 503 no secret or too many at once.
pub fn router(state: WebhookState) -> Router {
    Router::new().route("/hook", post(hook)).with_state(state)
}

/// Checks the signature of a hook, in constant time. The body is not looked at otherwise.
///
/// # Errors
/// [`Refusal`].
pub fn verify(headers: &HeaderMap, body: &[u8], secret: &[u8]) -> Result<(), Refusal> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    for name in SIGNATURE_HEADERS {
        if let Some(value) = only(headers, name)? {
            let hex = value.strip_prefix(b"sha256=").ok_or(Refusal::Unsigned)?;
            let tag = unhex(hex).ok_or(Refusal::Unsigned)?;
            return hmac::verify(&key, body, &tag).map_err(|_| Refusal::WrongSignature);
        }
    }
    let token = only(headers, TOKEN_HEADER)?.ok_or(Refusal::Unsigned)?;
    // Compared as tags: neither length nor content shows in the time it takes.
    let given = hmac::sign(&key, token);
    hmac::verify(&key, secret, given.as_ref()).map_err(|_| Refusal::WrongSignature)
}

/// The header's value; given twice it is as good as none.
fn only<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h [u8]>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let first = values.next().map(|value| value.as_bytes());
    match values.next() {
        None => Ok(first),
        Some(_) => Err(Refusal::Unsigned),
    }
}

fn unhex(text: &[u8]) -> Option<[u8; 32]> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    if text.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
    }
    Some(bytes)
}

async fn hook(State(state): State<WebhookState>, headers: HeaderMap, body: Body) -> Response {
    if !lock(&state.bucket).take(Instant::now()) {
        let retry = [(header::RETRY_AFTER, "1")];
        return (StatusCode::TOO_MANY_REQUESTS, retry, "too many hooks\n").into_response();
    }
    let Ok(_place) = state.at_once.try_acquire() else {
        return answer(StatusCode::SERVICE_UNAVAILABLE, "too many hooks at once");
    };
    let body = match tokio::time::timeout(BODY_DEADLINE, to_bytes(body, MOST_BODY_BYTES)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => return answer(StatusCode::PAYLOAD_TOO_LARGE, "the body is over 1 MiB"),
        Err(_) => return answer(StatusCode::REQUEST_TIMEOUT, "the body took too long"),
    };
    let file = state.secret_file.clone();
    let secret = match blocking(move || read_secret(&file)).await {
        Ok(secret) => secret,
        Err(problem) => {
            let file = state.secret_file.display();
            tracing::error!(%file, problem, "webhook secret cannot be used");
            return answer(StatusCode::SERVICE_UNAVAILABLE, "no webhook secret here");
        }
    };
    match verify(&headers, &body, &secret) {
        Ok(()) => {
            state.waker.wake();
            answer(StatusCode::ACCEPTED, "looking")
        }
        Err(refusal @ Refusal::Unsigned) => answer(StatusCode::UNAUTHORIZED, refusal),
        Err(refusal @ Refusal::WrongSignature) => answer(StatusCode::FORBIDDEN, refusal),
    }
}

fn answer(status: StatusCode, text: impl std::fmt::Display) -> Response {
    (status, format!("{text}\n")).into_response()
}

fn read_secret(path: &Path) -> Result<Vec<u8>, String> {
    use std::io::Read;
    let mut secret = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MOST_SECRET_BYTES + 1).read_to_end(&mut secret))
        .map_err(|error| error.to_string())?;
    secret.truncate(secret.trim_ascii_end().len());
    match secret.len() {
        length if length < LEAST_SECRET_BYTES => Err("is shorter than 16 bytes".to_owned()),
        length if length as u64 > MOST_SECRET_BYTES => Err("is longer than 4 KiB".to_owned()),
        _ => Ok(secret),
    }
}

fn lock(bucket: &Mutex<Bucket>) -> std::sync::MutexGuard<'_, Bucket> {
    bucket.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A token bucket.
#[derive(Debug)]
struct Bucket {
    rate: Rate,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn full(rate: Rate, now: Instant) -> Self {
        Self {
            rate,
            tokens: f64::from(rate.burst),
            at: now,
        }
    }

    fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        let refilled = self.tokens + passed * self.rate.per_second;
        self.tokens = refilled.min(f64::from(self.rate.burst));
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"0123456789abcdef";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    /// From `printf '{"a":1}' | openssl dgst -sha256 -hmac 0123456789abcdef`.
    const SIGNED: &str = "sha256=1c76fbb930d3aa8b1633728fae212c68ca68a6752bb319b98be6fe17e86cf5b8";

    #[test]
    fn a_signature_of_another_program_is_taken() {
        for name in SIGNATURE_HEADERS {
            assert_eq!(
                verify(&headers(&[(name, SIGNED)]), b"{\"a\":1}", SECRET),
                Ok(())
            );
        }
        let token = headers(&[("x-gitlab-token", "0123456789abcdef")]);
        assert_eq!(verify(&token, b"anything", SECRET), Ok(()));
    }

    #[test]
    fn another_body_secret_or_form_is_refused() {
        let signed = headers(&[("x-hub-signature-256", SIGNED)]);
        assert_eq!(
            verify(&signed, b"{\"a\":2}", SECRET),
            Err(Refusal::WrongSignature)
        );
        assert_eq!(
            verify(&signed, b"{\"a\":1}", b"another secret !"),
            Err(Refusal::WrongSignature)
        );
        for pairs in [
            &[][..],
            &[("x-hub-signature-256", "")],
            &[("x-hub-signature-256", "sha256=00")],
            &[
                ("x-hub-signature-256", SIGNED),
                ("x-hub-signature-256", SIGNED),
            ],
            &[("x-hub-signature", "sha1=00")],
        ] {
            let refused = verify(&headers(pairs), b"{\"a\":1}", SECRET);
            assert_eq!(refused, Err(Refusal::Unsigned), "{pairs:?}");
        }
        for token in ["", "0123456789abcde", "0123456789abcdef0"] {
            let refused = verify(&headers(&[("x-gitlab-token", token)]), b"", SECRET);
            assert_eq!(refused, Err(Refusal::WrongSignature), "{token}");
        }
    }

    #[test]
    fn a_right_token_does_not_make_a_wrong_signature_good() {
        let wrong = format!("sha256={}", "0".repeat(64));
        let both = headers(&[
            ("x-hub-signature-256", &wrong),
            ("x-gitlab-token", "0123456789abcdef"),
        ]);
        assert_eq!(verify(&both, b"", SECRET), Err(Refusal::WrongSignature));
    }

    #[test]
    fn the_bucket_refills_to_its_burst_and_no_further() {
        let start = Instant::now();
        let rate = Rate {
            burst: 2,
            per_second: 1.0,
        };
        let mut bucket = Bucket::full(rate, start);
        let mut at = |s: u64| bucket.take(start + Duration::from_secs(s));
        assert_eq!([at(0), at(0), at(0)], [true, true, false]);
        assert_eq!([at(1), at(1)], [true, false]);
        assert_eq!([at(99), at(99), at(99)], [true, true, false]);
    }
}
