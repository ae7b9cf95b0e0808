//! `stead dns` as others see it: dig, kdig, nsupdate, a stock resolver, a secondary; and bad input.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::RecordType;
use hickory_resolver::Resolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use stead::dns::server::{Scope, ServerConfig, ServerKey, serve};

use crate::contract::{change, mark, record, set};
use crate::raw;
use crate::servers::{DOMAIN, KEY, Kind, Server, ZONE, free_address, key, secret};

fn run(program: &str, args: &[&str], input: &str) -> String {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("{program} cannot be started ({error}): install it, as tests/run does")
        });
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

fn dig(server: SocketAddr, args: &[&str]) -> String {
    let (at, port) = (format!("@{}", server.ip()), server.port().to_string());
    let fixed = [&at, "-p", &port, "+norec", "+tries=1", "+time=5"];
    run("dig", &[&fixed, args].concat(), "")
}

fn key_arg(name: &str) -> String {
    format!("hmac-sha256:{name}:{}", secret(name))
}

#[tokio::test(flavor = "multi_thread")]
async fn dig_sees_answers_absence_and_refusals() {
    let server = Server::start(Kind::Ours).await;
    raw::plant(server.addr, KEY, vec![raw::a(&format!("p01.{DOMAIN}"), 7)]).await;
    let p01 = format!("P01.{DOMAIN}");
    let found = dig(server.addr, &[&p01, "A"]);
    assert!(
        found.contains("NOERROR") && found.contains("127.0.0.7"),
        "{found}"
    );
    assert!(
        found.contains("flags: qr aa;") && found.contains("EDNS: version: 0"),
        "{found}"
    );
    let no_type = dig(server.addr, &[&p01, "AAAA"]);
    assert!(
        no_type.contains("NOERROR") && no_type.contains("ANSWER: 0"),
        "{no_type}"
    );
    assert!(
        no_type.contains("SOA"),
        "absence comes with the SOA: {no_type}"
    );
    let no_name = dig(server.addr, &[&format!("p02.{DOMAIN}"), "A"]);
    assert!(
        no_name.contains("NXDOMAIN") && no_name.contains("SOA"),
        "{no_name}"
    );
    let outside = dig(server.addr, &["www.example.com", "A"]);
    assert!(outside.contains("REFUSED"), "{outside}");
    let ns = dig(server.addr, &[ZONE, "NS"]);
    assert!(ns.contains("ns.lab.example."), "{ns}");
    let chaos = dig(server.addr, &["version.bind", "CH", "TXT"]);
    assert!(chaos.contains("REFUSED"), "{chaos}");
    let version = dig(server.addr, &[ZONE, "SOA", "+edns=1", "+noednsneg"]);
    assert!(version.contains("BADVERS"), "{version}");
    let notify = dig(server.addr, &[ZONE, "SOA", "+opcode=notify"]);
    assert!(notify.contains("NOTIMP"), "{notify}");
    let no_edns = dig(server.addr, &[ZONE, "SOA", "+noedns"]);
    assert!(
        no_edns.contains("NOERROR") && !no_edns.contains("EDNS:"),
        "{no_edns}"
    );
    let kdig = run(
        "kdig",
        &["@127.0.0.1", "-p", &server.addr.port().to_string(), &p01],
        "",
    );
    assert!(kdig.contains("127.0.0.7"), "{kdig}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_answer_is_cut_over_udp_and_whole_over_tcp() {
    let server = Server::start(Kind::Ours).await;
    let name = format!("many.{DOMAIN}");
    let records = (1..=200).map(|last| raw::a(&name, last)).collect();
    raw::plant(server.addr, KEY, records).await;
    let cut = dig(server.addr, &[&name, "A", "+ignore"]);
    assert!(
        cut.contains("flags: qr aa tc;") && cut.contains("ANSWER: 0"),
        "{cut}"
    );
    let whole = dig(server.addr, &[&name, "A"]);
    assert!(
        whole.contains("ANSWER: 200"),
        "dig comes back over TCP: {whole}"
    );
    let signed = dig(server.addr, &[&name, "A", "+ignore", "-y", &key_arg(KEY)]);
    assert!(signed.contains(" tc;"), "{signed}");
    assert!(signed.contains("TSIG PSEUDOSECTION"), "{signed}");
    assert!(
        !signed.contains("Couldn't verify"),
        "the cut answer is signed: {signed}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nsupdate_and_a_transfer_speak_with_it() {
    let server = Server::start(Kind::Ours).await;
    let (ip, port) = (server.addr.ip(), server.addr.port());
    let name = format!("x.{DOMAIN}");
    let head = format!("server {ip} {port}\nzone {ZONE}\n");
    let put = format!("{head}prereq nxrrset {name} A\nupdate add {name} 30 A 127.0.0.9\nsend\n");
    let first = run("nsupdate", &["-v", "-y", &key_arg(KEY)], &put);
    assert_eq!(
        first, "",
        "nsupdate is content, the answer's signature included"
    );
    let again = run("nsupdate", &["-v", "-y", &key_arg(KEY)], &put);
    assert!(again.contains("YXRRSET"), "{again}");
    let udp = format!("{head}update add {name} 30 A 127.0.0.10\nsend\n");
    assert_eq!(run("nsupdate", &["-y", &key_arg(KEY)], &udp), "");
    let wrong = format!("hmac-sha256:{KEY}:{}", secret("another"));
    let refused = run("nsupdate", &["-v", "-y", &wrong], &udp);
    assert!(refused.contains("BADSIG"), "{refused}");

    let many = (1..=200).map(|last| raw::a(&format!("h{last}.{DOMAIN}"), 1));
    raw::plant(server.addr, KEY, many.collect()).await;
    let whole = dig(server.addr, &[ZONE, "AXFR", "-y", &key_arg(KEY)]);
    assert!(whole.contains("XFR size: 205 records"), "{whole}");
    assert!(
        whole.contains("messages 3"),
        "several, each signed: {whole}"
    );
    for refused in [
        dig(server.addr, &[ZONE, "AXFR"]),
        dig(
            server.addr,
            &[ZONE, "AXFR", "-y", &key_arg("stead-2026-p01")],
        ),
    ] {
        assert!(refused.contains("Transfer failed"), "{refused}");
    }
}

// A resolver that knows nothing of Stead finds what was published.
#[tokio::test(flavor = "multi_thread")]
async fn a_stock_resolver_finds_what_was_published() {
    let server = Server::start(Kind::Ours).await;
    let client = server.client();
    let publish = change(&record("p01"), &[1, 2], mark(1, 1), None);
    client.change(&publish).await.unwrap();
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
    let connections = connections.map(|mut config| {
        config.port = server.addr.port();
        config
    });
    let name_server = NameServerConfig::new(server.addr.ip(), true, connections.to_vec());
    let config = ResolverConfig::from_parts(None, vec![], vec![name_server]);
    let mut options = ResolverOpts::default();
    options.cache_size = 0;
    let resolver = Resolver::builder_with_config(config, TokioRuntimeProvider::new())
        .with_options(options)
        .build()
        .unwrap();
    let found = resolver.lookup_ip(format!("p01.{DOMAIN}.")).await.unwrap();
    assert_eq!(found.iter().count(), 2);
    assert!(resolver.lookup_ip(format!("p02.{DOMAIN}.")).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_bytes_get_formerr_or_nothing_and_the_server_lives() {
    let server = Server::start(Kind::Ours).await;
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    for bytes in hostile_messages() {
        udp.send_to(&bytes, server.addr).unwrap();
        let mut stream = TcpStream::connect(server.addr).unwrap();
        let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
        stream.write_all(&[&length, &bytes[..]].concat()).unwrap();
    }
    // A count without records, with an otherwise good header.
    let mut query = Message::new(7, MessageType::Query, OpCode::Update)
        .to_vec()
        .unwrap();
    query[5] = 9;
    let answer = Message::from_vec(&raw::exchange(server.addr, &query)).unwrap();
    assert_eq!(
        (answer.id, answer.response_code),
        (7, ResponseCode::FormErr)
    );
    let client = server.client();
    assert_eq!(client.zone_of(server.addr, DOMAIN).await.unwrap(), ZONE);
}

/// Truncated, over-counted, self-pointing and random-looking messages.
fn hostile_messages() -> Vec<Vec<u8>> {
    let good = raw::signed_late(
        KEY,
        raw::update(vec![], vec![raw::a("x.lab.example", 1)]),
        0,
    );
    let mut messages: Vec<Vec<u8>> = (0..good.len()).map(|end| good[..end].to_vec()).collect();
    for index in 0..good.len() {
        let mut changed = good.clone();
        changed[index] ^= 0xff;
        messages.push(changed);
    }
    let mut pointer = good[..12].to_vec();
    pointer.extend([0xc0, 12, 0, 6, 0, 1]);
    messages.push(pointer);
    messages.push(vec![0xff; 4096]);
    messages
}

// A TSIG time below its own fudge must not underflow; and a changed byte must not be believed.
#[tokio::test(flavor = "multi_thread")]
async fn no_changed_byte_of_a_signed_update_is_believed() {
    let server = Server::start(Kind::Ours).await;
    let name = format!("x.{DOMAIN}");
    let good = raw::signed_late(KEY, raw::update(vec![], vec![raw::a(&name, 1)]), 0);
    for index in 12..good.len() {
        let mut changed = good.clone();
        changed[index] ^= 0x01;
        let answer = Message::from_vec(&raw::exchange(server.addr, &changed)).unwrap();
        assert_ne!(answer.response_code, ResponseCode::NoError, "byte {index}");
    }
    let late = raw::signed_late(
        KEY,
        raw::update(vec![], vec![raw::a(&name, 1)]),
        now_s() - 5,
    );
    let answer = Message::from_vec(&raw::exchange(server.addr, &late)).unwrap();
    assert_eq!(answer.response_code, ResponseCode::NotAuth);
}

fn now_s() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap().as_secs()
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_and_silence_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let keys = vec![ServerKey {
        key: key(KEY),
        scope: Scope::zone(),
    }];
    let mut config = ServerConfig::new(
        free_address(),
        ZONE.to_owned(),
        dir.path().join("zone"),
        keys,
    );
    config.max_connections = 2;
    config.idle = Duration::from_millis(300);
    let running = serve(config).await.unwrap();
    let held: Vec<_> = (0..2)
        .map(|_| TcpStream::connect(running.addr()).unwrap())
        .collect();
    let question = soa_question();
    let third = refused_at_once(running.addr(), &question);
    assert!(third, "a third connection is closed");
    // The silent ones are closed, and then there is room again.
    let deadline = Instant::now() + Duration::from_secs(10);
    while refused_at_once(running.addr(), &question) {
        assert!(
            Instant::now() < deadline,
            "silent connections were not closed"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(held);
    running.shutdown().await;
}

fn soa_question() -> Vec<u8> {
    let mut message = Message::new(3, MessageType::Query, OpCode::Query);
    message.add_query(hickory_proto::op::Query::query(
        raw::name(ZONE),
        RecordType::SOA,
    ));
    message.to_vec().unwrap()
}

fn refused_at_once(server: SocketAddr, question: &[u8]) -> bool {
    use std::io::Read as _;
    let mut stream = TcpStream::connect(server).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let length = u16::try_from(question.len()).unwrap().to_be_bytes();
    let sent = stream.write_all(&[&length, question].concat());
    sent.is_err() || !matches!(stream.read(&mut [0; 2]), Ok(n) if n > 0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_server_lets_go_of_address_and_folder() {
    let dir = tempfile::tempdir().unwrap();
    let listen = free_address();
    let first = crate::servers::ours(dir.path(), listen).await;
    let client =
        stead_dns::client::Client::new(vec![listen], vec![key(KEY)], crate::servers::LIMIT);
    let publish = change(&record("p01"), &[1], mark(1, 1), None);
    client.change(&publish).await.unwrap();
    first.shutdown().await;
    assert!(
        client.read_from(listen, &record("p01")).await.is_err(),
        "unknown, not absent"
    );
    let second = crate::servers::ours(dir.path(), listen).await;
    let served = client.read_from(listen, &record("p01")).await.unwrap();
    assert_eq!(served.set, Some(set(&[1])));
    second.shutdown().await;
}
