//! Every wait ends, everything that comes in has a largest size.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::{get, post};
use futures_util::stream;
use serde_json::{Value, json};
use stead_schemas::wire::MESSAGE_BYTES_MAX;
use stead_wire::peer::{CallError, MAX_ANSWER, Peer};
use stead_wire::serve::Limits;
use stead_wire::tls::ClientTls;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::hierarchy::{Hierarchy, PATIENCE, id, now, short};
use crate::{raw, whoami};

/// A body of these pieces that then says nothing for ever.
fn unending(pieces: &'static [&'static str]) -> Body {
    let sent = stream::iter(
        pieces
            .iter()
            .map(|p| Ok::<_, std::io::Error>(Bytes::from(*p))),
    );
    Body::from_stream(futures_util::StreamExt::chain(sent, stream::pending()))
}

fn streams() -> Router {
    whoami()
        .route(
            "/watch",
            get(|| async { unending(&["1\n2", "2\n", "\n333\n{\"a\":1}\n4"]) }),
        )
        .route("/ended", get(|| async { "a\nb\n" }))
        .route("/cut", get(|| async { "a\nb" }))
        .route("/long", get(|| async { vec![b'x'; MESSAGE_BYTES_MAX + 1] }))
        .route(
            "/longest",
            get(|| async { [vec![b'x'; MESSAGE_BYTES_MAX], vec![b'\n']].concat() }),
        )
        .route("/huge", get(|| async { vec![b' '; MAX_ANSWER + 1] }))
        .route("/never", get(std::future::pending::<()>))
        .route("/take", post(|_: Bytes| async {}))
}

#[tokio::test]
async fn lines_come_whole_however_they_are_cut_and_silence_ends() {
    let hierarchy = Hierarchy::new();
    let server = hierarchy.server(streams()).await;
    let peer = hierarchy.peer(server.addr);
    let mut lines = peer
        .stream_lines("/watch", PATIENCE, short())
        .await
        .unwrap();
    for want in ["1", "22", "", "333"] {
        assert_eq!(lines.next().await.unwrap().unwrap(), want);
    }
    let json: Value = lines.next_json().await.unwrap().unwrap();
    assert_eq!(json, json!({"a": 1}));
    assert!(matches!(lines.next().await, Err(CallError::Timeout { .. })));
    assert!(lines.next().await.unwrap().is_none());
}

#[tokio::test]
async fn an_ended_stream_is_told_from_one_cut_short() {
    let hierarchy = Hierarchy::new();
    let server = hierarchy.server(streams()).await;
    let peer = hierarchy.peer(server.addr);
    let mut lines = peer
        .stream_lines("/ended", PATIENCE, PATIENCE)
        .await
        .unwrap();
    assert_eq!(lines.next().await.unwrap().unwrap(), "a");
    assert_eq!(lines.next().await.unwrap().unwrap(), "b");
    assert!(lines.next().await.unwrap().is_none());
    let mut lines = peer.stream_lines("/cut", PATIENCE, PATIENCE).await.unwrap();
    assert_eq!(lines.next().await.unwrap().unwrap(), "a");
    assert!(matches!(lines.next().await, Err(CallError::BadBody { .. })));
    let mut lines = peer
        .stream_lines("/watch", PATIENCE, PATIENCE)
        .await
        .unwrap();
    assert_eq!(lines.next().await.unwrap().unwrap(), "1");
    server.stop().await;
    let lost = async {
        loop {
            match lines.next().await {
                Ok(Some(_)) => {}
                other => return other,
            }
        }
    };
    assert!(matches!(lost.await, Err(CallError::Lost { .. })));
}

#[tokio::test]
async fn bodies_and_lines_have_a_largest_size() {
    let hierarchy = Hierarchy::new();
    let server = hierarchy.server(streams()).await;
    let peer = hierarchy.peer(server.addr);
    let huge = peer.get_json::<Value>("/huge", PATIENCE).await;
    assert!(matches!(huge, Err(CallError::BadBody { .. })), "{huge:?}");
    let mut lines = peer
        .stream_lines("/longest", PATIENCE, PATIENCE)
        .await
        .unwrap();
    assert_eq!(
        lines.next().await.unwrap().unwrap().len(),
        MESSAGE_BYTES_MAX
    );
    let mut lines = peer
        .stream_lines("/long", PATIENCE, PATIENCE)
        .await
        .unwrap();
    assert!(matches!(lines.next().await, Err(CallError::BadBody { .. })));
    assert!(lines.next().await.unwrap().is_none());
    let body = "x".repeat(MESSAGE_BYTES_MAX + 1);
    let sent = peer.post_json::<_, ()>("/take", &body, PATIENCE).await;
    let refused = matches!(
        sent,
        Err(CallError::Status { code: 413, .. } | CallError::Lost { .. })
    );
    assert!(refused, "{sent:?}");
}

#[tokio::test]
async fn a_stalled_server_ends_at_the_deadline_wherever_it_stalls() {
    let hierarchy = Hierarchy::new();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    // Takes the connection (in the kernel) and never answers the handshake.
    let deaf = hierarchy.peer(listener.local_addr().unwrap());
    let answer = deaf.get_json::<Value>("/", short()).await;
    assert!(
        matches!(answer, Err(CallError::Timeout { .. })),
        "{answer:?}"
    );
    let server = hierarchy.server(streams()).await;
    let peer = hierarchy.peer(server.addr);
    // No head; and a head whose body never ends.
    for path in ["/never", "/watch"] {
        let answer = peer.get_json::<Value>(path, short()).await;
        assert!(
            matches!(answer, Err(CallError::Timeout { .. })),
            "{answer:?}"
        );
    }
    let stream = peer.stream_lines("/never", short(), PATIENCE).await;
    assert!(matches!(stream, Err(CallError::Timeout { .. })));
    // What was cut off is not answered to the next call.
    let caller: String = peer.get_json("/whoami", PATIENCE).await.unwrap();
    assert_eq!(caller, "stead://contoso/reconciler/stead-1");
}

#[tokio::test]
async fn a_handler_that_takes_too_long_is_answered_for() {
    let hierarchy = Hierarchy::new();
    let limits = Limits {
        answer: short(),
        ..Limits::default()
    };
    let server = hierarchy.server_with(streams(), limits).await;
    let peer = hierarchy.peer(server.addr);
    let answer = peer.get_json::<Value>("/never", PATIENCE).await;
    assert!(
        matches!(answer, Err(CallError::Status { code: 504, .. })),
        "{answer:?}"
    );
}

#[tokio::test]
async fn silent_clients_are_closed_before_and_after_the_handshake() {
    let hierarchy = Hierarchy::new();
    let limits = Limits {
        handshake: short(),
        headers: short(),
        ..Limits::default()
    };
    let server = hierarchy.server_with(whoami(), limits).await;
    let ended = async |mut stream: Box<dyn tokio::io::AsyncRead + Unpin>| {
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 512])).await;
        // Closed, properly or not, or told that it was too slow: all but waiting.
        drop(read.expect("the server ends the connection"));
    };
    ended(Box::new(TcpStream::connect(server.addr).await.unwrap())).await;
    let own = hierarchy.issued(&id("operator/ann"), now());
    let quiet = raw::connect(server.addr, &hierarchy, Some(&own))
        .await
        .unwrap();
    ended(Box::new(quiet)).await;
    let mut half = raw::connect(server.addr, &hierarchy, Some(&own))
        .await
        .unwrap();
    half.write_all(b"GET /whoami HTTP/1.1\r\nHo").await.unwrap();
    ended(Box::new(half)).await;
}

#[tokio::test]
async fn connections_over_the_cap_wait_until_one_ends() {
    let hierarchy = Hierarchy::new();
    let limits = Limits {
        connections: 2,
        ..Limits::default()
    };
    let server = hierarchy.server_with(streams(), limits).await;
    let peer = hierarchy.peer(server.addr);
    let first = peer
        .stream_lines("/watch", PATIENCE, PATIENCE)
        .await
        .unwrap();
    let _second = peer
        .stream_lines("/watch", PATIENCE, PATIENCE)
        .await
        .unwrap();
    let third = peer.get_json::<Value>("/whoami", short()).await;
    assert!(matches!(third, Err(CallError::Timeout { .. })), "{third:?}");
    drop(first);
    peer.get_json::<Value>("/whoami", PATIENCE).await.unwrap();
}

#[tokio::test]
async fn shutdown_cuts_endless_answers_after_the_drain() {
    let hierarchy = Hierarchy::new();
    let limits = Limits {
        drain: Duration::from_millis(50),
        ..Limits::default()
    };
    let server = hierarchy.server_with(streams(), limits).await;
    let peer = hierarchy.peer(server.addr);
    let mut lines = peer
        .stream_lines("/watch", PATIENCE, PATIENCE)
        .await
        .unwrap();
    assert!(lines.next().await.unwrap().is_some());
    server.stop().await;
}

#[tokio::test]
async fn calls_in_a_row_share_a_connection_and_a_lost_one_is_replaced() {
    let hierarchy = Hierarchy::new();
    let limits = Limits {
        headers: short(),
        ..Limits::default()
    };
    let server = hierarchy.server_with(streams(), limits).await;
    let raw::Relay {
        addr: relay,
        seen: count,
        ..
    } = raw::relay(server.addr).await;
    let tls = ClientTls::new(&hierarchy.material(&id("reconciler/stead-1"))).unwrap();
    let peer = Peer::new(relay, id("server/p01-a"), Arc::clone(&tls));
    for _ in 0..3 {
        peer.get_json::<String>("/whoami", PATIENCE).await.unwrap();
    }
    assert_eq!(count.load(Ordering::SeqCst), 1);
    // A call that ran into its deadline takes its connection with it (H12).
    drop(peer.get_json::<Value>("/never", short()).await);
    peer.get_json::<String>("/whoami", PATIENCE).await.unwrap();
    assert_eq!(count.load(Ordering::SeqCst), 2);
    // The server ends idle connections; a call after that must not notice.
    tokio::time::sleep(short() * 3).await;
    peer.get_json::<String>("/whoami", PATIENCE).await.unwrap();
    assert_eq!(count.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn h34_a_connection_opened_ahead_is_the_one_that_the_next_call_uses() {
    let hierarchy = Hierarchy::new();
    let limits = Limits {
        headers: short(),
        ..Limits::default()
    };
    let server = hierarchy.server_with(streams(), limits).await;
    let raw::Relay {
        addr: relay,
        seen: count,
        ..
    } = raw::relay(server.addr).await;
    let tls = ClientTls::new(&hierarchy.material(&id("reconciler/stead-1"))).unwrap();
    let peer = Peer::new(relay, id("server/p01-a"), tls);
    peer.connect_ahead(PATIENCE).await.unwrap();
    peer.connect_ahead(PATIENCE).await.unwrap();
    peer.get_json::<String>("/whoami", PATIENCE).await.unwrap();
    assert_eq!(count.load(Ordering::SeqCst), 1);
    // One that the server has ended is replaced.
    tokio::time::sleep(short() * 3).await;
    peer.connect_ahead(PATIENCE).await.unwrap();
    assert_eq!(count.load(Ordering::SeqCst), 2);
    drop(server);
}

/// An idle connection ends by itself: 10,000 agents called once would otherwise hold one each (H25).
#[tokio::test]
async fn a_connection_that_is_not_used_again_is_closed_by_the_caller() {
    let hierarchy = Hierarchy::new();
    let server = hierarchy.server(streams()).await;
    let raw::Relay {
        addr: relay, open, ..
    } = raw::relay(server.addr).await;
    let tls = ClientTls::new(&hierarchy.material(&id("reconciler/stead-1"))).unwrap();
    let peer = Peer::new(relay, id("server/p01-a"), tls);
    peer.get_json::<String>("/whoami", PATIENCE).await.unwrap();
    assert_eq!(open.load(Ordering::SeqCst), 1);
    let closed = async {
        while open.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // The server would keep it for 10 s, the peer itself is still there.
    tokio::time::timeout(Duration::from_secs(8), closed)
        .await
        .expect("the idle connection is closed");
    peer.get_json::<String>("/whoami", PATIENCE).await.unwrap();
}
