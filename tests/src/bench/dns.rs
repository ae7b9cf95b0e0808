//! `dns`: the publishing client against real servers: `stead dns`, and BIND where it is installed.
//!
//! One changed record is one update message and the reading back that proves it; 10,000 records in
//! sync are read from the server and compared with what is wanted.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use stead_dns::TsigKey;
use stead_dns::client::{Client, Expected, RecordChange, ZoneState};
use stead_schemas::desired::TsigAlgorithm;
use stead_schemas::generation::{Epoch, Generation};
use stead_schemas::record::{Mark, RecordData, RecordKey, RecordSet, RecordType};

use super::build;
use super::figure::Report;
use super::named::Named;
use super::usage::ms_since;
use crate::harness::{DOMAIN, Harness};

const RECORDS: u64 = 10_000;
const CHANGES: u64 = 200;
const READS: usize = 7;
const LIMIT: Duration = Duration::from_secs(10);
/// What `Harness` writes as the key's secret.
pub(super) const SECRET: &str = "c3RlYWQtdGVzdC10c2lnLWtleS0zMi1ieXRlcy1sb25n";
const UNDER_WAY: usize = 16;

pub(super) fn run() -> Report {
    build::programs();
    let mut report = Report::new("dns");
    let harness = Harness::new();
    let names = [
        "one changed record, verified (stead dns)",
        "10,000 in sync, nothing to do (stead dns)",
        "first publish of 10,000 (stead dns)",
    ];
    measure(&mut report, harness.dns_server(), names);
    match Named::start(DOMAIN, SECRET) {
        Ok(named) => {
            let names = [
                "one changed record, verified (BIND)",
                "10,000 in sync, nothing to do (BIND)",
                "first publish of 10,000 (BIND)",
            ];
            measure(&mut report, named.address(), names);
        }
        Err(why) => report.note(format!("BIND was not measured: {why}")),
    }
    report
}

fn measure(report: &mut Report, server: SocketAddr, names: [&'static str; 3]) {
    let key = TsigKey::from_base64("stead", TsigAlgorithm::HmacSha256, SECRET);
    let client = Client::new(vec![server], vec![key.expect("a key")], LIMIT);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let start = Instant::now();
        fill(&client).await;
        let filled = ms_since(start) / 1_000.0;
        let mut changed = Vec::new();
        for number in 0..CHANGES {
            changed.push(change_one(&client, number).await);
        }
        let mut in_sync = Vec::new();
        for _ in 0..READS {
            in_sync.push(read_all(&client, server).await);
        }
        report.budgeted(names[0], "ms", 50.0, changed);
        report.budgeted(names[1], "s", 1.0, in_sync);
        report.plain(names[2], "s", vec![filled]);
    });
}

/// Publishes all records, some at a time.
async fn fill(client: &Client) {
    use futures_util::StreamExt as _;
    let first = futures_util::stream::iter(0..RECORDS).map(|number| async move {
        let change = change(number, 1, None);
        client.change(&change).await.expect("a first publish");
    });
    first.buffer_unordered(UNDER_WAY).collect::<Vec<()>>().await;
}

/// Changes one record and waits until the server proves that it serves it; milliseconds.
async fn change_one(client: &Client, number: u64) -> f64 {
    let change = change(number, 2, Some(mark(1).to_string()));
    let expected = Expected {
        key: change.key.clone(),
        set: change.want.clone(),
        mark: Some(change.mark.to_string()),
    };
    let start = Instant::now();
    client.change(&change).await.expect("a change");
    let verified = client.verify(&expected, LIMIT).await;
    let took = ms_since(start);
    let all = verified
        .iter()
        .all(|v| matches!(v.state, ZoneState::InStep));
    assert!(all, "the change is served: {verified:?}");
    took
}

/// Reads everything and finds nothing to do; seconds.
async fn read_all(client: &Client, server: SocketAddr) -> f64 {
    let keys: Vec<RecordKey> = (0..RECORDS).map(record_key).collect();
    let wanted: Vec<(RecordSet, String)> = (0..RECORDS)
        .map(|number| {
            let version = if number < CHANGES { 2 } else { 1 };
            (record_set(number, version), mark(version).to_string())
        })
        .collect();
    let start = Instant::now();
    let served = client.read_many(server, &keys).await;
    let differ = served
        .iter()
        .zip(&wanted)
        .filter(|(served, (set, mark))| match served {
            Ok(served) => served.set.as_ref() != Some(set) || served.mark.as_ref() != Some(mark),
            Err(_) => true,
        })
        .count();
    let took = ms_since(start) / 1_000.0;
    assert_eq!(differ, 0, "all records are in sync");
    took
}

fn change(number: u64, version: u8, expect: Option<String>) -> RecordChange {
    RecordChange {
        key: record_key(number),
        want: Some(record_set(number, version)),
        mark: mark(version),
        expect,
    }
}

fn record_key(number: u64) -> RecordKey {
    RecordKey {
        name: format!("srv-{number}.{DOMAIN}"),
        rtype: RecordType::A,
    }
}

fn record_set(number: u64, version: u8) -> RecordSet {
    let [.., b, c] = number.to_be_bytes();
    let address = Ipv4Addr::new(10, version, b, c);
    RecordSet {
        ttl_s: 30,
        values: BTreeSet::from([RecordData::A(address)]),
    }
}

fn mark(version: u8) -> Mark {
    Mark {
        hierarchy: "harness".parse().expect("a name"),
        site: "P01".to_owned(),
        term: 0,
        generation: Generation {
            epoch: Epoch {
                counter: 7,
                reconciler: "stead-1".to_owned(),
                start: "a81f3c".to_owned(),
            },
            number: version.into(),
        },
    }
}
