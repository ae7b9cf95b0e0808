//! The contract that publishing rests on, each clause at all three servers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::CNAME;
use hickory_proto::rr::rdata::tsig::TsigError;
use hickory_proto::rr::{DNSClass, RData, Record, RecordType as Wire};
use stead_dns::client::{
    Client, Expected, KeyFault, NotOurs, PublishError, RecordChange, Unreadable, ZoneState,
};
use stead_schemas::observed::Served;
use stead_schemas::record::{Mark, RecordData, RecordKey, RecordSet};

use crate::raw;
use crate::servers::{DOMAIN, KEY, Kind, LIMIT, NEXT_KEY, SITE_KEYS, Server, ZONE};
use crate::servers::{key, key_with_secret};

/// One module a clause, one test a server.
macro_rules! contract {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            use crate::servers::{Kind, Server};

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn bind() {
                super::check::$name(Server::start(Kind::Bind).await, Kind::Bind).await;
            }
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn knot() {
                super::check::$name(Server::start(Kind::Knot).await, Kind::Knot).await;
            }
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn ours() {
                super::check::$name(Server::start(Kind::Ours).await, Kind::Ours).await;
            }
        }
    )*};
}

pub(crate) use contract;

contract!(
    h2_of_ten_writers_one_wins,
    h2_no_reader_sees_the_name_empty,
    h2_six_and_eight_is_not_six,
    unsigned_updates_are_refused,
    a_refused_key_is_named_with_its_fault,
    a_wrong_clock_is_named,
    h22_a_first_publish_yields_to_what_is_there,
    h22_foreign_records_stay_untouched,
    h22_a_deletion_takes_set_and_mark,
    h22_an_overtaken_writer_is_refused_by_the_server,
    keys_rotate,
    h22_a_site_key_writes_its_alias_and_nothing_else,
    what_was_published_is_verified_with_its_serial,
    noerror_is_not_proof_beside_a_cname,
    zones_are_found_on_label_boundaries,
);

pub(crate) fn record(name: &str) -> RecordKey {
    format!("{name}.{DOMAIN}/A").parse().unwrap()
}

pub(crate) fn set(values: &[u8]) -> RecordSet {
    let address = |last: &u8| RecordData::A([127, 0, 0, *last].into());
    RecordSet {
        ttl_s: 30,
        values: values.iter().map(address).collect::<BTreeSet<_>>(),
    }
}

pub(crate) fn mark(term: u64, number: u64) -> Mark {
    format!("v=1 h=contoso s=P01 t={term} g=3:stead-1:abc.{number}")
        .parse()
        .unwrap()
}

pub(crate) fn change(
    key: &RecordKey,
    values: &[u8],
    own: Mark,
    expect: Option<&Mark>,
) -> RecordChange {
    RecordChange {
        key: key.clone(),
        want: (!values.is_empty()).then(|| set(values)),
        mark: own,
        expect: expect.map(ToString::to_string),
    }
}

pub(crate) async fn served(client: &Client, key: &RecordKey) -> Served {
    client.read_from(client.servers()[0], key).await.unwrap()
}

mod check {
    use super::*;

    pub(crate) async fn h2_of_ten_writers_one_wins(server: Server, _: Kind) {
        let key = record("p01");
        let client = Arc::new(server.client());
        let first = mark(1, 0);
        client
            .change(&change(&key, &[1], first.clone(), None))
            .await
            .unwrap();
        let mut last = first;
        for round in 1..=25 {
            let tasks: Vec<_> = (0..10)
                .map(|writer| {
                    let client = Arc::clone(&client);
                    let own = mark(1, round * 10 + writer);
                    let last = change(&key, &[10 + writer as u8], own.clone(), Some(&last));
                    tokio::spawn(async move { (own, client.change(&last).await) })
                })
                .collect();
            let mut winners = Vec::new();
            for task in tasks {
                match task.await.unwrap() {
                    (own, Ok(_)) => winners.push(own),
                    (_, Err(PublishError::LostRace { .. } | PublishError::NotOurs(_))) => {}
                    (_, Err(other)) => panic!("round {round}: {other:?}"),
                }
            }
            assert_eq!(winners.len(), 1, "round {round}: {winners:?}");
            last = winners.remove(0);
            let read = served(&client, &key).await.mark;
            assert_eq!(read, Some(last.to_string()), "the winner's mark is served");
        }
    }

    pub(crate) async fn h2_no_reader_sees_the_name_empty(server: Server, _: Kind) {
        let key = record("p01");
        let client = Arc::new(server.client());
        let mut last = mark(1, 0);
        let first = change(&key, &[1, 2, 3], last.clone(), None);
        client.change(&first).await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let (client, key, stop) = (Arc::clone(&client), key.clone(), Arc::clone(&stop));
                tokio::spawn(async move {
                    let mut reads = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let set = served(&client, &key).await.set;
                        let values = set.map_or(0, |set| set.values.len());
                        assert_eq!(values, 3, "a reader saw half a message");
                        reads += 1;
                    }
                    reads
                })
            })
            .collect();
        for number in 1..=80 {
            let n = number as u8;
            let own = mark(1, number);
            let next = change(&key, &[n, n + 80, n + 160], own.clone(), Some(&last));
            client.change(&next).await.unwrap();
            last = own;
        }
        stop.store(true, Ordering::Relaxed);
        for reader in readers {
            assert!(reader.await.unwrap() > 20, "the reader really read");
        }
    }

    pub(crate) async fn h2_six_and_eight_is_not_six(server: Server, _: Kind) {
        let name = format!("_stead-a.p01.{DOMAIN}");
        let both = [raw::txt(&name, "6"), raw::txt(&name, "8")];
        raw::plant(server.addr, KEY, both.to_vec()).await;
        let is = |values: &'static [&'static str]| {
            let set = values.iter().map(|value| raw::txt(&name, value)).collect();
            raw::send(server.addr, Some(KEY), raw::update(set, vec![]))
        };
        assert_eq!(is(&["6"]).await, ResponseCode::NXRRSet);
        assert_eq!(is(&["6", "8", "9"]).await, ResponseCode::NXRRSet);
        assert_eq!(is(&["8", "6"]).await, ResponseCode::NoError);
    }

    pub(crate) async fn unsigned_updates_are_refused(server: Server, _: Kind) {
        let name = format!("x.{DOMAIN}");
        let message = raw::update(vec![], vec![raw::a(&name, 1)]);
        let code = raw::send(server.addr, None, message).await;
        assert!(
            matches!(code, ResponseCode::Refused | ResponseCode::NotAuth),
            "{code}"
        );
        let read = served(&server.client(), &record("x")).await;
        assert_eq!(read, Served::default());
    }

    pub(crate) async fn a_refused_key_is_named_with_its_fault(server: Server, _: Kind) {
        let attempt = change(&record("p01"), &[1], mark(1, 1), None);
        for (key, wanted) in [
            (key("nobody"), KeyFault::BadKey),
            (key_with_secret(KEY, "another"), KeyFault::BadSig),
        ] {
            let name = key.name().to_owned();
            let error = server.client_with(vec![key]).change(&attempt).await;
            let error = error.unwrap_err();
            let PublishError::KeysRefused { faults, .. } = &error else {
                panic!("{error:?}")
            };
            assert_eq!(*faults, [(name.clone(), wanted)]);
            let text = error.to_string();
            assert!(
                text.contains(&name) && !text.contains("file an issue"),
                "{text}"
            );
        }
        let read = served(&server.client(), &record("p01")).await;
        assert_eq!(read, Served::default());
    }

    pub(crate) async fn a_wrong_clock_is_named(server: Server, _: Kind) {
        let name = format!("x.{DOMAIN}");
        let message = raw::update(vec![], vec![raw::a(&name, 1)]);
        let late = raw::signed_late(KEY, message, 4000);
        let answer = Message::from_vec(&raw::exchange(server.addr, &late)).unwrap();
        assert_eq!(answer.response_code, ResponseCode::NotAuth);
        let tsig = &answer.signature().unwrap().data;
        assert_eq!(tsig.error, Some(TsigError::BadTime));
        assert_eq!(tsig.other.len(), 6, "the server's clock is said");
    }

    pub(crate) async fn h22_a_first_publish_yields_to_what_is_there(server: Server, _: Kind) {
        let client = server.client();
        let key = record("p01");
        raw::plant(server.addr, KEY, vec![raw::a(&key.name, 99)]).await;
        let error = client.change(&change(&key, &[1], mark(1, 1), None)).await;
        let error = error.unwrap_err();
        assert!(
            matches!(&error, PublishError::NotOurs(NotOurs::Foreign { .. })),
            "{error:?}"
        );
        assert_eq!(served(&client, &key).await.set, Some(set(&[99])));

        let key = record("p02");
        let first = change(&key, &[1], mark(1, 1), None);
        client.change(&first).await.unwrap();
        let again = change(&key, &[2], mark(1, 2), None);
        let error = client.change(&again).await.unwrap_err();
        assert!(matches!(error, PublishError::LostRace { .. }), "{error:?}");
        assert_eq!(served(&client, &key).await.set, Some(set(&[1])));
        let repeated = client.change(&first).await.unwrap();
        assert_eq!(repeated.signed_by, None, "what is already so is no error");
    }

    pub(crate) async fn h22_foreign_records_stay_untouched(server: Server, _: Kind) {
        let client = server.client();
        let key = record("shared");
        let foreign = "v=1 h=fabrikam s=P01 t=1 g=1:stead-9:z.1";
        let theirs = vec![raw::a(&key.name, 7), raw::txt(&key.mark_name(), foreign)];
        raw::plant(server.addr, KEY, theirs).await;
        let before = served(&client, &key).await;
        for expect in [None, Some(foreign.to_owned())] {
            for values in [&[1][..], &[]] {
                let mut attempt = change(&key, values, mark(9, 9), None);
                attempt.expect.clone_from(&expect);
                let error = client.change(&attempt).await.unwrap_err();
                assert!(
                    matches!(&error, PublishError::NotOurs(NotOurs::Foreign { .. })),
                    "{error:?}"
                );
            }
        }
        assert_eq!(served(&client, &key).await, before);
        assert_eq!(before.mark.as_deref(), Some(foreign));
    }

    pub(crate) async fn h22_a_deletion_takes_set_and_mark(server: Server, _: Kind) {
        let client = server.client();
        let key = record("p01");
        let first = change(&key, &[1, 2], mark(1, 1), None);
        client.change(&first).await.unwrap();
        let gone = change(&key, &[], mark(1, 2), Some(&mark(1, 1)));
        client.change(&gone).await.unwrap();
        assert_eq!(served(&client, &key).await, Served::default());
        let again = change(&key, &[3], mark(1, 3), None);
        client.change(&again).await.unwrap();
        assert_eq!(served(&client, &key).await.set, Some(set(&[3])));
    }

    pub(crate) async fn h22_an_overtaken_writer_is_refused_by_the_server(server: Server, _: Kind) {
        let (old, new) = (server.client(), server.client());
        let key = record("p01");
        old.change(&change(&key, &[1], mark(7, 1), None))
            .await
            .unwrap();
        let taken = change(&key, &[2], mark(8, 1), Some(&mark(7, 1)));
        new.change(&taken).await.unwrap();
        // It still believes in the mark it read, so its own check lets it try.
        let stale = change(&key, &[1], mark(7, 2), Some(&mark(7, 1)));
        let error = old.change(&stale).await.unwrap_err();
        assert!(
            matches!(&error, PublishError::NotOurs(NotOurs::Superseded { .. })),
            "{error:?}"
        );
        // Having read the newer mark, it does not even ask.
        let read = change(&key, &[1], mark(7, 3), Some(&mark(8, 1)));
        let error = old.change(&read).await.unwrap_err();
        assert!(
            matches!(&error, PublishError::NotOurs(NotOurs::Superseded { .. })),
            "{error:?}"
        );
        assert_eq!(served(&new, &key).await.set, Some(set(&[2])));
    }

    // Pitfall: the second attempt is a new message, signed once; a re-signed one is FORMERR.
    pub(crate) async fn keys_rotate(server: Server, _: Kind) {
        let key_name = record("p01");
        let before = vec![
            key("stead-2028"),
            key_with_secret(KEY, "old"),
            key(NEXT_KEY),
        ];
        let client = server.client_with(before);
        let first = change(&key_name, &[1], mark(1, 1), None);
        let applied = client.change(&first).await.unwrap();
        assert_eq!(applied.signed_by.as_deref(), Some(NEXT_KEY));
        let client = server.client_with(vec![key(KEY), key(NEXT_KEY)]);
        let second = change(&key_name, &[2], mark(1, 2), Some(&mark(1, 1)));
        let applied = client.change(&second).await.unwrap();
        assert_eq!(applied.signed_by.as_deref(), Some(KEY));
        let client = server.client_with(vec![key("x"), key_with_secret(KEY, "old")]);
        let third = change(&key_name, &[3], mark(1, 3), Some(&mark(1, 2)));
        let error = client.change(&third).await.unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("x: BADKEY") && text.contains("stead-2026: BADSIG"),
            "{text}"
        );
    }

    pub(crate) async fn h22_a_site_key_writes_its_alias_and_nothing_else(
        server: Server,
        kind: Kind,
    ) {
        let client = server.client_with(vec![key(SITE_KEYS[0].0)]);
        let own = record("p01");
        let first = change(&own, &[1], mark(7, 1), None);
        client.change(&first).await.unwrap();
        let moved = change(&own, &[2], mark(8, 1), Some(&mark(7, 1)));
        client.change(&moved).await.unwrap();
        let v6: RecordKey = format!("p01.{DOMAIN}/AAAA").parse().unwrap();
        let second = RecordChange {
            want: Some(RecordSet {
                ttl_s: 5,
                values: BTreeSet::from([RecordData::Aaaa("fd00::1".parse().unwrap())]),
            }),
            key: v6,
            mark: mark(8, 2),
            expect: None,
        };
        client.change(&second).await.unwrap();
        for other in ["p02", "dp.p01", "p01-a"] {
            let attempt = change(&record(other), &[1], mark(9, 1), None);
            let error = client.change(&attempt).await.unwrap_err();
            // Knot has the same BADKEY for a key its rules do not allow as for one it does not know.
            let refused = match kind {
                Kind::Knot => matches!(error, PublishError::KeysRefused { .. }),
                Kind::Bind | Kind::Ours => matches!(error, PublishError::Refused { .. }),
            };
            assert!(refused, "{other}: {error:?}");
            assert_eq!(served(&client, &record(other)).await, Served::default());
        }
    }

    pub(crate) async fn what_was_published_is_verified_with_its_serial(server: Server, _: Kind) {
        let client = server.client();
        let srv: RecordKey = format!("_mssms_mp_p01._tcp.{DOMAIN}/SRV").parse().unwrap();
        let target = |priority, weight, target: &str| RecordData::Srv {
            priority,
            weight,
            port: 443,
            target: format!("{target}.{DOMAIN}"),
        };
        let want = RecordSet {
            ttl_s: 14_400,
            values: BTreeSet::from([target(0, 10, "p01-f1"), target(5, 0, "p01-f2")]),
        };
        let own = mark(0, 1);
        let publish = RecordChange {
            key: srv.clone(),
            want: Some(want.clone()),
            mark: own.clone(),
            expect: None,
        };
        let before = serial(&client, &srv).await;
        client.change(&publish).await.unwrap();
        let expected = Expected {
            key: srv.clone(),
            set: Some(want),
            mark: Some(own.to_string()),
        };
        let verified = client.verify(&expected, LIMIT).await;
        assert!(
            matches!(verified[0].state, ZoneState::InStep),
            "{verified:?}"
        );
        assert!(verified[0].serial.unwrap() > before, "the serial rises");
        let gone = change(&srv, &[], mark(0, 2), Some(&own));
        client.change(&gone).await.unwrap();
        let verified = client.verify(&expected, Duration::ZERO).await;
        assert!(
            matches!(verified[0].state, ZoneState::Differs(_)),
            "{verified:?}"
        );
    }

    async fn serial(client: &Client, key: &RecordKey) -> u32 {
        let nothing = Expected {
            key: key.clone(),
            set: None,
            mark: None,
        };
        let verified = client.verify(&nothing, LIMIT).await;
        verified[0].serial.unwrap()
    }

    // Pitfall: what the rules forbid is left out without a word.
    pub(crate) async fn noerror_is_not_proof_beside_a_cname(server: Server, _: Kind) {
        let client = server.client();
        let key = record("p01");
        let target = raw::name(&format!("elsewhere.{DOMAIN}"));
        let cname = RData::CNAME(CNAME(target));
        let cname = Record::from_rdata(raw::name(&key.name), 30, cname);
        raw::plant(server.addr, KEY, vec![cname]).await;
        let attempt = change(&key, &[1], mark(1, 1), None);
        let taken = client.change(&attempt).await;
        let expected = Expected {
            key: key.clone(),
            set: attempt.want.clone(),
            mark: Some(attempt.mark.to_string()),
        };
        let verified = client.verify(&expected, Duration::ZERO).await;
        let ZoneState::Unknown(Unreadable::Alias { .. }) = verified[0].state else {
            panic!("{taken:?} {verified:?}")
        };
        // The last NS of the apex stays as well, and that is NOERROR too.
        let ns = raw::bare(ZONE, Wire::NS, DNSClass::ANY);
        let code = raw::send(server.addr, Some(NEXT_KEY), raw::update(vec![], vec![ns])).await;
        assert_eq!(code, ResponseCode::NoError);
        assert_eq!(client.zone_of(server.addr, DOMAIN).await.unwrap(), ZONE);
    }

    // Pitfall: a plain suffix finds `example.com` for `badexample.com`; and an update makes no zone.
    pub(crate) async fn zones_are_found_on_label_boundaries(server: Server, kind: Kind) {
        let client = server.client();
        let zone = |name: &'static str| client.zone_of(server.addr, name);
        assert_eq!(zone("a.b.c.cm.lab.example").await.unwrap(), ZONE);
        assert_eq!(zone("LAB.example").await.unwrap(), ZONE);
        for outside in ["badlab.example", "x.badlab.example", "example"] {
            let error = zone(outside).await.unwrap_err();
            assert!(
                matches!(error, PublishError::NoZone { .. }),
                "{outside}: {error:?}"
            );
        }
        if kind != Kind::Ours {
            let longest = zone("x.deep.lab.example").await.unwrap();
            assert_eq!(longest, "deep.lab.example");
        }
        let mut outside = change(&record("x"), &[1], mark(1, 1), None);
        outside.key.name = "x.badlab.example".to_owned();
        let error = client.change(&outside).await.unwrap_err();
        assert!(matches!(error, PublishError::NoZone { .. }), "{error:?}");
    }
}
