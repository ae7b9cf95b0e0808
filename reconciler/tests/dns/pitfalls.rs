//! What other publishers fell into (gitops-anchors 5c), against servers that misbehave on purpose.
//!
//! The servers here are scripts around real bytes: they fail in ways that BIND and Knot only fail in
//! now and then. Pitfalls that real servers show are clauses of `contract.rs`: keys that rotate,
//! NOERROR that proves nothing, zones found on label boundaries, records beside a CNAME.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::SOA;
use hickory_proto::rr::{RData, Record, RecordType};
use stead_dns::client::{
    Client, ExchangeError, Expected, PublishError, TransferError, Unreadable, ZoneState,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::contract::{change, mark, record, served, set};
use crate::raw;
use crate::servers::{KEY, Kind, LIMIT, NEXT_KEY, Server, ZONE, key};

const SHORT: Duration = Duration::from_millis(400);

async fn read_message(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn write_message(stream: &mut TcpStream, message: &[u8]) -> std::io::Result<()> {
    stream
        .write_u16(u16::try_from(message.len()).unwrap())
        .await?;
    stream.write_all(message).await
}

/// A server that answers each request with what the script says.
async fn scripted<F>(script: F) -> SocketAddr
where
    F: Fn(Message) -> Vec<Vec<u8>> + Send + Sync + 'static,
{
    scripted_until(usize::MAX, script).await
}

/// The same, closing each connection after so many requests.
async fn scripted_until<F>(requests: usize, script: F) -> SocketAddr
where
    F: Fn(Message) -> Vec<Vec<u8>> + Send + Sync + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let script = Arc::new(script);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let script = Arc::clone(&script);
            tokio::spawn(async move {
                for _ in 0..requests {
                    let Ok(raw) = read_message(&mut stream).await else {
                        return;
                    };
                    for answer in script(Message::from_vec(&raw).unwrap()) {
                        if write_message(&mut stream, &answer).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    addr
}

/// A relay to a real server that handles updates as told.
async fn relay(server: SocketAddr, on_update: OnUpdate) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                while let Ok(raw) = read_message(&mut client).await {
                    let is_update = Message::from_vec(&raw).unwrap().op_code == OpCode::Update;
                    if is_update && on_update == OnUpdate::LoseBoth {
                        return;
                    }
                    let mut real = TcpStream::connect(server).await.unwrap();
                    write_message(&mut real, &raw).await.unwrap();
                    let answer = read_message(&mut real).await.unwrap();
                    if is_update {
                        return;
                    }
                    write_message(&mut client, &answer).await.unwrap();
                }
            });
        }
    });
    addr
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnUpdate {
    LoseAnswer,
    LoseBoth,
}

fn soa(serial: u32) -> Record {
    let name = raw::name(ZONE);
    let data = SOA::new(name.clone(), name.clone(), serial, 1, 1, 1, 1);
    Record::from_rdata(name, 60, RData::SOA(data))
}

fn answer(request: &Message, code: ResponseCode, records: Vec<Record>) -> Message {
    let mut answer = Message::new(request.id, MessageType::Response, request.op_code);
    answer.metadata.authoritative = true;
    answer.metadata.response_code = code;
    answer.add_queries(request.queries.iter().cloned());
    answer.add_answers(records);
    answer
}

fn bytes(message: Message) -> Vec<u8> {
    message.to_vec().unwrap()
}

/// Answers SOA questions as the primary of the zone would.
fn as_primary(request: &Message) -> Option<Vec<Vec<u8>>> {
    let query = request.queries.first()?;
    let is_soa = request.op_code == OpCode::Query && query.query_type() == RecordType::SOA;
    let mut answer = answer(request, ResponseCode::NoError, vec![]);
    answer.add_authority(soa(7));
    is_soa.then(|| vec![bytes(answer)])
}

fn client(servers: Vec<SocketAddr>, limit: Duration) -> Client {
    Client::new(servers, vec![key(KEY)], limit)
}

// external-dns#2071: an error in the middle of a transfer left a partial zone, taken for the whole.
#[tokio::test]
async fn an_error_inside_a_transfer_loses_all_of_it() {
    for ending in ["servfail", "closed", "other soa"] {
        let server = scripted_until(1, move |request| {
            let code = ResponseCode::NoError;
            let half = answer(&request, code, vec![soa(7), raw::a("h0.cm.lab.example", 1)]);
            let mut answers = vec![bytes(half)];
            match ending {
                "servfail" => answers.push(bytes(answer(&request, ResponseCode::ServFail, vec![]))),
                "other soa" => answers.push(bytes(answer(&request, code, vec![soa(8)]))),
                _ => {}
            }
            answers
        })
        .await;
        // Without a key, so that no missing signature stops it earlier.
        let client = Client::new(vec![server], vec![], SHORT);
        match (ending, client.transfer(server, ZONE).await.unwrap_err()) {
            ("servfail", TransferError::Code { .. })
            | ("closed", TransferError::Exchange { .. })
            | ("other soa", TransferError::Broken { .. }) => {}
            (_, other) => panic!("{ending}: {other:?}"),
        }
    }
}

// The same code reported an error of the first server although the second was fine.
#[tokio::test(flavor = "multi_thread")]
async fn each_server_is_reported_for_itself() {
    let (first, second) = (
        Server::start(Kind::Ours).await,
        Server::start(Kind::Ours).await,
    );
    let dead = crate::servers::free_address();
    let client = client(vec![first.addr, dead, second.addr], SHORT * 5);
    let publish = change(&record("p01"), &[1], mark(1, 1), None);
    client.change(&publish).await.unwrap();
    let expected = Expected {
        key: publish.key.clone(),
        set: publish.want.clone(),
        mark: Some(publish.mark.to_string()),
    };
    let verified = client.verify(&expected, SHORT).await;
    assert!(
        matches!(verified[0].state, ZoneState::InStep),
        "{verified:?}"
    );
    assert!(
        matches!(verified[1].state, ZoneState::Unknown(_)),
        "{verified:?}"
    );
    assert!(
        matches!(verified[2].state, ZoneState::Differs(_)),
        "a secondary behind"
    );
    assert!(
        verified[0].serial > verified[2].serial,
        "and its serial says so"
    );
    let read = client.read(&publish.key).await;
    let known: Vec<bool> = read.iter().map(|reading| reading.served.is_ok()).collect();
    assert_eq!(known, [true, false, true]);
}

// external-dns#6733: a retry signed the signed message again, which is FORMERR by RFC 8945.
#[tokio::test]
async fn every_attempt_is_a_new_message_signed_once() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let server = scripted(move |request| {
        if let Some(answers) = as_primary(&request) {
            return answers;
        }
        // Parsing already insists on one TSIG, last of all.
        let signer = request.signature().map(|tsig| tsig.name.to_ascii());
        log.lock()
            .unwrap()
            .push((request.id, signer, request.additionals.len()));
        let mut refusal = answer(&request, ResponseCode::NotAuth, vec![]);
        let mut tsig = request.signature().unwrap().clone();
        tsig.data.error = Some(hickory_proto::rr::rdata::tsig::TsigError::BadKey);
        tsig.data.mac.clear();
        refusal.set_signature(Box::new(tsig));
        vec![bytes(refusal)]
    })
    .await;
    let client = Client::new(vec![server], vec![key(KEY), key(NEXT_KEY)], LIMIT);
    let publish = change(&record("p01"), &[1], mark(1, 1), None);
    let error = client.change(&publish).await.unwrap_err();
    assert!(
        matches!(error, PublishError::KeysRefused { .. }),
        "{error:?}"
    );
    let seen = seen.lock().unwrap();
    let signers: Vec<_> = seen
        .iter()
        .map(|(_, signer, _)| signer.as_deref())
        .collect();
    assert_eq!(signers, [Some("stead-2026."), Some("stead-2027.")]);
    assert!(seen.iter().all(|(_, _, additionals)| *additionals == 0));
    assert_ne!(seen[0].0, seen[1].0, "a fresh identifier");
}

// NOTAUTH has two readings; both are said where the server gives no TSIG error.
#[tokio::test]
async fn notauth_is_reported_with_both_readings() {
    let server = scripted(|request| {
        as_primary(&request)
            .unwrap_or_else(|| vec![bytes(answer(&request, ResponseCode::NotAuth, vec![]))])
    })
    .await;
    let publish = change(&record("p01"), &[1], mark(1, 1), None);
    let error = client(vec![server], LIMIT).change(&publish).await;
    let text = error.unwrap_err().to_string();
    assert!(text.contains("not the zone's primary"), "{text}");
    assert!(text.contains("did not accept the key"), "{text}");
}

// A success that nobody signed could come from anyone.
#[tokio::test]
async fn an_unsigned_success_is_not_believed() {
    let server = scripted(|request| {
        as_primary(&request)
            .unwrap_or_else(|| vec![bytes(answer(&request, ResponseCode::NoError, vec![]))])
    })
    .await;
    let publish = change(&record("p01"), &[1], mark(1, 1), None);
    let error = client(vec![server], LIMIT).change(&publish).await;
    assert!(
        matches!(error, Err(PublishError::Unproven { .. })),
        "{error:?}"
    );
}

// A lost answer turns "done" into a lost race unless the record is read back first.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_settled_by_reading_back() {
    let server = Server::start(Kind::Ours).await;
    let lossy = relay(server.addr, OnUpdate::LoseAnswer).await;
    let publish = change(&record("p01"), &[1], mark(1, 1), None);
    let applied = client(vec![lossy], LIMIT).change(&publish).await.unwrap();
    assert_eq!(
        applied.signed_by, None,
        "known from reading, not from an answer"
    );
    let direct = server.client();
    assert_eq!(served(&direct, &publish.key).await.set, Some(set(&[1])));

    let deaf = relay(server.addr, OnUpdate::LoseBoth).await;
    let next = change(&record("p01"), &[2], mark(1, 2), Some(&mark(1, 1)));
    let error = client(vec![deaf], LIMIT).change(&next).await.unwrap_err();
    assert!(
        matches!(error, PublishError::Unanswered { .. }),
        "{error:?}"
    );
    assert_eq!(served(&direct, &publish.key).await.set, Some(set(&[1])));
}

// Every wait has an end, and silence is never absence.
#[tokio::test]
async fn a_server_that_says_nothing_is_unknown_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    let client = client(vec![server], SHORT);
    let name = record("p01");
    let read = tokio::time::timeout(LIMIT, client.read_from(server, &name));
    let error = read.await.expect("ends by itself").unwrap_err();
    let Unreadable::Exchange { source, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(
        matches!(**source, ExchangeError::Timeout { .. }),
        "{source:?}"
    );
}

#[tokio::test]
async fn answers_that_are_none_are_unknown() {
    type Script = fn(Message) -> Vec<Vec<u8>>;
    let scripts: [(&str, Script); 6] = [
        ("garbage", |_| vec![vec![0xff; 40]]),
        ("empty", |_| vec![vec![]]),
        ("another id", |mut request| {
            request.metadata.id ^= 0x5555;
            vec![bytes(answer(&request, ResponseCode::NXDomain, vec![]))]
        }),
        ("another question", |mut request| {
            let other = raw::name("other.lab.example");
            request.queries[0].set_name(other);
            vec![bytes(answer(&request, ResponseCode::NXDomain, vec![]))]
        }),
        ("the question back", |request| vec![bytes(request)]),
        ("a failure", |request| {
            vec![bytes(answer(&request, ResponseCode::ServFail, vec![]))]
        }),
    ];
    for (what, script) in scripts {
        let server = scripted(script).await;
        let client = client(vec![server], SHORT);
        let read = client.read_from(server, &record("p01")).await;
        assert!(read.is_err(), "{what} was taken for an answer");
    }
}

// A resolver's answer comes from its cache: it says nothing about the zone now.
#[tokio::test]
async fn a_resolver_is_not_believed() {
    let server = scripted(|request| {
        let mut cached = answer(&request, ResponseCode::NXDomain, vec![]);
        cached.metadata.authoritative = false;
        vec![bytes(cached)]
    })
    .await;
    let error = client(vec![server], LIMIT)
        .read_from(server, &record("p01"))
        .await
        .unwrap_err();
    assert!(
        matches!(error, Unreadable::NotAuthoritative { .. }),
        "{error:?}"
    );
}
