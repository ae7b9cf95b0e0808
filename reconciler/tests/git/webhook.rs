//! The webhook endpoint over a real socket: what wakes, what does not, and with which status.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ring::hmac;
use serde_json::json;
use stead::git::Waker;
use stead::git::webhook::{MOST_BODY_BYTES, Rate, WebhookState, router};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::following::{follow, until_at};
use super::scratch::Scratch;

const SECRET: &str = "0123456789abcdef-secret";

struct Endpoint {
    address: SocketAddr,
    secret_file: PathBuf,
    waker: Waker,
    _dir: tempfile::TempDir,
}

impl Endpoint {
    async fn start(rate: Rate, waker: Waker) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let secret_file = dir.path().join("hook-secret");
        std::fs::write(&secret_file, format!("{SECRET}\n")).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = router(WebhookState::new(&secret_file, rate, waker.clone()));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self {
            address,
            secret_file,
            waker,
            _dir: dir,
        }
    }

    async fn post(&self, header: &str, body: &[u8]) -> u16 {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let head = format!(
            "POST /hook HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n{header}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // The server may answer and close before it has read everything.
        stream.write_all(body).await.ok();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        std::str::from_utf8(&answer[9..]).unwrap().parse().unwrap()
    }

    async fn is_woken(&self) -> bool {
        let woken = tokio::time::timeout(Duration::from_millis(50), self.waker.woken());
        woken.await.is_ok()
    }
}

fn signed(secret: &str, body: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), body);
    let hex: String = tag.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    format!("x-hub-signature-256: sha256={hex}")
}

#[tokio::test]
async fn a_signed_hook_wakes_once_and_no_other_does() {
    let endpoint = Endpoint::start(Rate::default(), Waker::new()).await;
    let body = b"{\"after\": \"whatever it says\"}";
    for (header, status) in [
        (String::new(), 401),
        ("x-hub-signature-256: sha1=00".to_owned(), 401),
        (signed("another secret 0123", body), 403),
        (signed(SECRET, b"another body"), 403),
        ("x-gitlab-token: wrong".to_owned(), 403),
    ] {
        let header = if header.is_empty() {
            "x-none: 1"
        } else {
            &header
        };
        assert_eq!(endpoint.post(header, body).await, status, "{header}");
    }
    assert!(!endpoint.is_woken().await);
    assert_eq!(endpoint.post(&signed(SECRET, body), body).await, 202);
    assert!(endpoint.is_woken().await);
    assert!(!endpoint.is_woken().await);
    let token = format!("x-gitlab-token: {SECRET}");
    assert_eq!(endpoint.post(&token, body).await, 202);
    assert!(endpoint.is_woken().await);
}

#[tokio::test]
async fn a_body_over_a_mebibyte_is_refused_and_one_of_it_is_not() {
    let endpoint = Endpoint::start(Rate::default(), Waker::new()).await;
    let mut body = vec![b'x'; MOST_BODY_BYTES];
    assert_eq!(endpoint.post(&signed(SECRET, &body), &body).await, 202);
    assert!(endpoint.is_woken().await);
    body.push(b'x');
    assert_eq!(endpoint.post(&signed(SECRET, &body), &body).await, 413);
    assert!(!endpoint.is_woken().await);
}

#[tokio::test]
async fn too_many_hooks_are_refused_signed_or_not() {
    let rate = Rate {
        burst: 3,
        per_second: 0.001,
    };
    let endpoint = Endpoint::start(rate, Waker::new()).await;
    for status in [401, 401, 401, 429] {
        assert_eq!(endpoint.post("x-none: 1", b"").await, status);
    }
    assert_eq!(endpoint.post(&signed(SECRET, b""), b"").await, 429);
    assert!(!endpoint.is_woken().await);
}

#[tokio::test]
async fn a_changed_secret_counts_at_once_and_a_missing_one_opens_nothing() {
    let endpoint = Endpoint::start(Rate::default(), Waker::new()).await;
    let new = "a-new-secret-of-today";
    std::fs::write(&endpoint.secret_file, new).unwrap();
    assert_eq!(endpoint.post(&signed(SECRET, b""), b"").await, 403);
    assert_eq!(endpoint.post(&signed(new, b""), b"").await, 202);
    for short in ["", "short"] {
        std::fs::write(&endpoint.secret_file, short).unwrap();
        assert_eq!(endpoint.post(&signed(short, b""), b"").await, 503);
    }
    std::fs::remove_file(&endpoint.secret_file).unwrap();
    assert_eq!(endpoint.post(&signed("", b""), b"").await, 503);
}

#[tokio::test]
async fn a_hook_brings_the_commit_that_no_poll_would() {
    let scratch = Scratch::new();
    let first = scratch.commit(&[("a.yaml", "1")]);
    let root = scratch.path.parent().unwrap();
    let server = super::servers::Https::start(root, super::servers::Manners::default()).await;
    let state = tempfile::tempdir().unwrap();
    let url = server.url("topology.git");
    let source = follow(state.path(), json!({"url": url, "caFile": server.ca_file}));
    until_at(&source, first).await;
    let endpoint = Endpoint::start(Rate::default(), source.waker()).await;
    let next = scratch.commit(&[("a.yaml", "2")]);
    assert_eq!(endpoint.post(&signed(SECRET, b"{}"), b"{}").await, 202);
    until_at(&source, next).await;
}
