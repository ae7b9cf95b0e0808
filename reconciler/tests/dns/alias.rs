//! The alias of a site with a lease, written by two holders of two terms: the server decides.
//!
//! Writers are stopped between reading and writing by a relay that keeps their update back, so what
//! refuses a stale one is the server's own answer, which the relay notes.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::CNAME;
use hickory_proto::rr::{RData, Record};
use stead_dns::alias::{AliasError, AliasLimits, AliasTerm, publish_alias};
use stead_dns::client::PublishError;
use stead_schemas::alias::{AliasJob, AliasPublished};
use stead_schemas::generation::Epoch;
use stead_schemas::observed::Served;
use stead_schemas::record::{RecordData, RecordKey};
use stead_schemas::time::{DurationMs, WallMs};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::contract::{change, contract, mark, record, served, set};
use crate::raw;
use crate::servers::{DOMAIN, KEY, Kind, LIMIT, SITE_KEYS, Server, ZONE, free_address, key};

contract!(
    h22_a_paused_writer_of_an_older_term_is_refused_by_the_server,
    h22_a_paused_first_publish_is_refused_though_the_newer_term_has_another_family,
    h22_of_two_terms_racing_the_newer_one_stays,
    h22_a_term_takes_over_from_the_reconciler_and_not_back,
    h22_a_site_key_publishes_no_other_alias,
    h22_foreign_aliases_stay_untouched,
    the_alias_is_never_seen_empty,
    a_lost_answer_is_found_out_by_reading,
    what_is_in_step_is_left_alone_and_keys_rotate,
);

fn job(server: SocketAddr, address: &str) -> AliasJob {
    AliasJob {
        hierarchy: "contoso".parse().unwrap(),
        site: SITE_KEYS[0].1.parse().unwrap(),
        domain: DOMAIN.parse().unwrap(),
        servers: vec![server],
        keys: Vec::new(),
        address: address.parse().unwrap(),
        ttl: DurationMs::seconds(5),
    }
}

fn under(term: u64) -> AliasTerm {
    let epoch = Epoch {
        counter: 3,
        reconciler: "stead-1".to_owned(),
        start: "abc".to_owned(),
    };
    AliasTerm { term, epoch }
}

/// Generous, because the machine is shared.
fn limits() -> AliasLimits {
    AliasLimits {
        exchange: LIMIT,
        change: LIMIT * 3,
        seen: LIMIT,
    }
}

async fn publish(job: &AliasJob, term: u64) -> Result<AliasPublished, AliasError> {
    let keys = vec![key(SITE_KEYS[0].0)];
    publish_alias(job, &under(term), keys, limits(), || WallMs(42)).await
}

/// What the server holds of both families: the addresses, and the terms of the marks.
async fn held(server: &Server) -> (Vec<String>, Vec<u64>) {
    let client = server.client();
    let (mut addresses, mut terms) = (Vec::new(), Vec::new());
    for rtype in ["A", "AAAA"] {
        let key: RecordKey = format!("p01.{DOMAIN}/{rtype}").parse().unwrap();
        let Served { set, mark } = served(&client, &key).await;
        addresses.extend(set.iter().flat_map(|s| &s.values).map(ToString::to_string));
        terms.extend(mark.map(|m| m.parse::<stead_schemas::record::Mark>().unwrap().term));
    }
    (addresses, terms)
}

fn is(address: &str, term: u64) -> (Vec<String>, Vec<u64>) {
    (vec![address.to_owned()], vec![term])
}

/// A relay that keeps updates back until they are let go, and notes what the server says to them.
struct Relay {
    addr: SocketAddr,
    arrived: Arc<Semaphore>,
    let_go: Arc<Semaphore>,
    said: Arc<Mutex<Vec<ResponseCode>>>,
}

impl Relay {
    /// `lose_answers`: the connection ends without the answer to an update.
    async fn start(server: SocketAddr, lose_answers: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = Self {
            addr: listener.local_addr().unwrap(),
            arrived: Arc::new(Semaphore::new(0)),
            let_go: Arc::new(Semaphore::new(0)),
            said: Arc::default(),
        };
        let (arrived, let_go) = (Arc::clone(&relay.arrived), Arc::clone(&relay.let_go));
        let said = Arc::clone(&relay.said);
        tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let (arrived, let_go) = (Arc::clone(&arrived), Arc::clone(&let_go));
                let said = Arc::clone(&said);
                tokio::spawn(async move {
                    while let Ok(raw) = read(&mut client).await {
                        let is_update = Message::from_vec(&raw).unwrap().op_code == OpCode::Update;
                        if is_update {
                            arrived.add_permits(1);
                            let_go.acquire().await.unwrap().forget();
                        }
                        let mut real = TcpStream::connect(server).await.unwrap();
                        write(&mut real, &raw).await;
                        let answer = read(&mut real).await.unwrap();
                        if is_update {
                            let code = Message::from_vec(&answer).unwrap().response_code;
                            said.lock().unwrap().push(code);
                            if lose_answers {
                                return;
                            }
                        }
                        write(&mut client, &answer).await;
                    }
                });
            }
        });
        relay
    }

    async fn until_an_update_is_kept(&self) {
        self.arrived.acquire().await.unwrap().forget();
    }

    fn let_all_go(&self) {
        self.let_go.add_permits(100);
    }

    fn said(&self) -> Vec<ResponseCode> {
        self.said.lock().unwrap().clone()
    }
}

async fn read(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn write(stream: &mut TcpStream, message: &[u8]) {
    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
    stream
        .write_all(&[&length, message].concat())
        .await
        .unwrap();
}

mod check {
    use super::*;

    pub(crate) async fn h22_a_paused_writer_of_an_older_term_is_refused_by_the_server(
        server: Server,
        _: Kind,
    ) {
        publish(&job(server.addr, "127.0.0.6"), 6).await.unwrap();
        let relay = Relay::start(server.addr, false).await;
        let stale = job(relay.addr, "127.0.0.7");
        let paused = tokio::spawn(async move { publish(&stale, 7).await });
        relay.until_an_update_is_kept().await;
        publish(&job(server.addr, "127.0.0.8"), 8).await.unwrap();
        relay.let_all_go();
        let error = paused.await.unwrap().unwrap_err();
        assert!(
            matches!(
                error,
                AliasError::Outranked {
                    term: 8,
                    own: 7,
                    ..
                }
            ),
            "{error:?}"
        );
        assert_eq!(relay.said(), [ResponseCode::NXRRSet]);
        assert_eq!(held(&server).await, is("127.0.0.8", 8));
    }

    pub(crate) async fn h22_a_paused_first_publish_is_refused_though_the_newer_term_has_another_family(
        server: Server,
        _: Kind,
    ) {
        let relay = Relay::start(server.addr, false).await;
        let stale = job(relay.addr, "127.0.0.7");
        let paused = tokio::spawn(async move { publish(&stale, 7).await });
        relay.until_an_update_is_kept().await;
        publish(&job(server.addr, "fd00::8"), 8).await.unwrap();
        relay.let_all_go();
        let error = paused.await.unwrap().unwrap_err();
        assert!(
            matches!(error, AliasError::Outranked { term: 8, .. }),
            "{error:?}"
        );
        assert_eq!(relay.said(), [ResponseCode::YXRRSet]);
        assert_eq!(held(&server).await, is("fd00::8", 8));
    }

    pub(crate) async fn h22_of_two_terms_racing_the_newer_one_stays(server: Server, _: Kind) {
        let mut lost = 0;
        for round in 0..50_u64 {
            let (older, newer) = (round * 2 + 1, round * 2 + 2);
            // Every third time the newer holder has an address of the other family.
            let address = if round % 3 == 0 {
                "fd00::8"
            } else {
                "127.0.0.8"
            };
            let (a, b) = (job(server.addr, "127.0.0.7"), job(server.addr, address));
            let first = tokio::spawn(async move { publish(&a, older).await });
            let second = tokio::spawn(async move { publish(&b, newer).await });
            match first.await.unwrap() {
                Ok(_) => {}
                Err(AliasError::Outranked { term, .. }) if term == newer => lost += 1,
                Err(other) => panic!("round {round}: {other:?}"),
            }
            let published = second.await.unwrap().unwrap();
            assert!(published.everywhere(), "round {round}: {published:?}");
            assert_eq!(held(&server).await, is(address, newer), "round {round}");
        }
        eprintln!("the older term was told so in {lost} of 50 rounds");
    }

    pub(crate) async fn h22_a_term_takes_over_from_the_reconciler_and_not_back(
        server: Server,
        _: Kind,
    ) {
        let reconciler = server.client();
        let alias = record("p01");
        let planned = change(&alias, &[5], mark(0, 41), None);
        reconciler.change(&planned).await.unwrap();
        let published = publish(&job(server.addr, "127.0.0.8"), 1).await.unwrap();
        assert_eq!(
            published.mark, "v=1 h=contoso s=P01 t=1 g=3:stead-1:abc.42",
            "one above what was read"
        );
        assert_eq!(
            published.signed_by.as_deref(),
            Some(SITE_KEYS[0].0),
            "the site's own key"
        );
        let again = change(&alias, &[5], mark(0, 99), Some(&mark(0, 41)));
        let error = reconciler.change(&again).await.unwrap_err();
        assert!(matches!(error, PublishError::NotOurs(_)), "{error:?}");
        assert_eq!(held(&server).await, is("127.0.0.8", 1));
    }

    pub(crate) async fn h22_a_site_key_publishes_no_other_alias(server: Server, kind: Kind) {
        let mut theirs = job(server.addr, "127.0.0.8");
        theirs.site = SITE_KEYS[1].1.parse().unwrap();
        let error = publish(&theirs, 9).await.unwrap_err();
        let refused = match kind {
            Kind::Knot => matches!(error, AliasError::Update(PublishError::KeysRefused { .. })),
            Kind::Bind | Kind::Ours => {
                matches!(error, AliasError::Update(PublishError::Refused { .. }))
            }
        };
        assert!(refused, "{error:?}");
        let nothing = served(&server.client(), &record("p02")).await;
        assert_eq!(nothing, Served::default());
        let alias = format!("p01.{DOMAIN}");
        let elsewhere = RData::CNAME(CNAME(raw::name(&format!("p02.{DOMAIN}"))));
        for theirs in [
            raw::txt(&format!("_stead-a.p02.{DOMAIN}"), "x"),
            raw::txt(&format!("_stead-srv.p01.{DOMAIN}"), "x"),
            raw::a(&format!("dp.{alias}"), 1),
            raw::a(&format!("p01-a.{DOMAIN}"), 1),
            raw::a(ZONE, 1),
            Record::from_rdata(raw::name(&alias), 30, elsewhere),
        ] {
            let what = theirs.to_string();
            let message = raw::update(vec![], vec![theirs]);
            // Knot's refusal is unsigned, which hickory's own client takes for a fault (0006).
            let signed = raw::signed_late(SITE_KEYS[0].0, message, 0);
            let answer = Message::from_vec(&raw::exchange(server.addr, &signed)).unwrap();
            let code = answer.response_code;
            let refused = matches!(code, ResponseCode::Refused | ResponseCode::NotAuth);
            assert!(refused, "{what}: {code}");
        }
        publish(&job(server.addr, "127.0.0.8"), 9).await.unwrap();
    }

    pub(crate) async fn h22_foreign_aliases_stay_untouched(server: Server, _: Kind) {
        let alias = record("p01");
        let ours = job(server.addr, "127.0.0.8");
        raw::plant(server.addr, KEY, vec![raw::a(&alias.name, 99)]).await;
        for foreign in [None, Some("v=1 h=fabrikam s=P01 t=1 g=1:stead-9:z.1")] {
            if let Some(text) = foreign {
                let theirs = raw::txt(&alias.mark_name(), text);
                raw::plant(server.addr, KEY, vec![theirs]).await;
            }
            let error = publish(&ours, 9).await.unwrap_err();
            assert!(matches!(error, AliasError::Foreign { .. }), "{error:?}");
            let there = served(&server.client(), &alias).await;
            assert_eq!(there.set, Some(set(&[99])));
            assert_eq!(there.mark.as_deref(), foreign);
        }
        // A foreign record of the other family stays as well, and stops nobody.
        let other = job(server.addr, "fd00::8");
        publish(&other, 9).await.unwrap();
        let there = served(&server.client(), &alias).await;
        assert_eq!(there.set, Some(set(&[99])));
        let v6 = served(&server.client(), &other.record()).await;
        assert_eq!(v6.set, Some(other.set()));
    }

    pub(crate) async fn the_alias_is_never_seen_empty(server: Server, _: Kind) {
        publish(&job(server.addr, "127.0.0.1"), 1).await.unwrap();
        let client = Arc::new(server.client());
        let stop = Arc::new(AtomicBool::new(false));
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let (client, stop) = (Arc::clone(&client), Arc::clone(&stop));
                tokio::spawn(async move {
                    let mut reads = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let set = served(&client, &record("p01")).await.set;
                        assert_eq!(set.map(|set| set.values.len()), Some(1));
                        reads += 1;
                    }
                    reads
                })
            })
            .collect();
        for term in 2..=60 {
            let address = format!("127.0.0.{term}");
            publish(&job(server.addr, &address), term).await.unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        for reader in readers {
            assert!(reader.await.unwrap() > 20, "the reader really read");
        }
    }

    pub(crate) async fn a_lost_answer_is_found_out_by_reading(server: Server, _: Kind) {
        let relay = Relay::start(server.addr, true).await;
        relay.let_all_go();
        let published = publish(&job(relay.addr, "127.0.0.8"), 8).await.unwrap();
        assert!(published.changed && published.everywhere());
        assert_eq!(published.signed_by, None);
        assert_eq!(relay.said(), [ResponseCode::NoError], "sent once");
        assert_eq!(held(&server).await, is("127.0.0.8", 8));
    }

    pub(crate) async fn what_is_in_step_is_left_alone_and_keys_rotate(server: Server, _: Kind) {
        let ours = job(server.addr, "127.0.0.8");
        let rotating = vec![key("stead-2028-p01"), key(SITE_KEYS[0].0)];
        let first = publish_alias(&ours, &under(8), rotating, limits(), || WallMs(42)).await;
        let first = first.unwrap();
        assert!(first.changed);
        assert_eq!(first.signed_by.as_deref(), Some(SITE_KEYS[0].0));
        assert_eq!(first.servers[0].since, Some(WallMs(42)));
        let again = publish(&ours, 8).await.unwrap();
        assert!(!again.changed && again.signed_by.is_none());
        assert_eq!(again.mark, first.mark);
        let moved = publish(&job(server.addr, "127.0.0.9"), 8).await.unwrap();
        assert!(moved.changed && moved.mark != first.mark, "same term");
        let raised = publish(&job(server.addr, "127.0.0.9"), 9).await.unwrap();
        assert!(raised.changed, "a newer term raises the mark of what is so");
        let values = served(&server.client(), &record("p01")).await.set.unwrap();
        let expected = RecordData::A([127, 0, 0, 9].into());
        assert_eq!(values.values, BTreeSet::from([expected]));
        assert_eq!(values.ttl_s, 5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn noerror_is_not_proof_each_server_is_asked() {
    let server = Server::start(Kind::Ours).await;
    let lagging = Server::start(Kind::Ours).await;
    let mut ours = job(server.addr, "127.0.0.8");
    ours.servers.extend([lagging.addr, free_address()]);
    let short = AliasLimits {
        seen: Duration::from_millis(300),
        ..limits()
    };
    let keys = vec![key(SITE_KEYS[0].0)];
    let published = publish_alias(&ours, &under(8), keys, short, || WallMs(42)).await;
    let published = published.unwrap();
    let since: Vec<_> = published.servers.iter().map(|s| s.since).collect();
    assert_eq!(since, [Some(WallMs(42)), None, None]);
    assert!(!published.everywhere());
    let instead = |index: usize| published.servers[index].instead.clone().unwrap();
    assert!(instead(1).ends_with("not there"), "{}", instead(1));
    assert!(instead(2).contains("no TCP connection"), "{}", instead(2));
}

#[tokio::test]
async fn without_a_server_or_a_key_nothing_is_tried() {
    let mut ours = job(free_address(), "127.0.0.8");
    let error = publish(&ours, 8).await.unwrap_err();
    assert!(
        matches!(error, AliasError::Update(PublishError::Unreached { .. })),
        "{error:?}"
    );
    ours.servers.clear();
    let error = publish(&ours, 8).await.unwrap_err();
    assert!(
        matches!(error, AliasError::Update(PublishError::NotSetUp { .. })),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_server_that_says_nothing_holds_no_writer_up() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ours = job(silent.local_addr().unwrap(), "127.0.0.8");
    let short = AliasLimits {
        exchange: LIMIT,
        change: Duration::from_millis(200),
        seen: LIMIT,
    };
    let keys = vec![key(SITE_KEYS[0].0)];
    let error = publish_alias(&ours, &under(8), keys, short, || WallMs(42)).await;
    let error = error.unwrap_err();
    assert!(matches!(error, AliasError::Late { .. }), "{error:?}");
}
