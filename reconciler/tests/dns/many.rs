//! Many records at once: by transfer where the key may, else question by question. How long ten
//! thousand take is measured by the bench, not here.

use stead_dns::client::Unreadable;
use stead_schemas::observed::Served;
use stead_schemas::record::RecordKey;

use crate::contract::{mark, record, set};
use crate::raw;
use crate::servers::{KEY, Kind, NEXT_KEY, SITE_KEYS, Server, ZONE, key};

async fn fill(server: &Server, count: usize) -> Vec<RecordKey> {
    let keys: Vec<RecordKey> = (0..count).map(|i| record(&format!("host-{i}"))).collect();
    for part in keys.chunks(200) {
        let records = part.iter().flat_map(|key| {
            let text = mark(0, 1).to_string();
            [raw::a(&key.name, 5), raw::txt(&key.mark_name(), &text)]
        });
        raw::plant(server.addr, KEY, records.collect()).await;
    }
    keys
}

fn wanted() -> Served {
    Served {
        set: Some(set(&[5])),
        mark: Some(mark(0, 1).to_string()),
    }
}

async fn both_ways_agree(kind: Kind) {
    let server = Server::start(kind).await;
    let mut keys = fill(&server, 700).await;
    keys.insert(0, record("absent"));
    let transferring = server.client();
    let transfer = transferring.transfer(server.addr, ZONE).await.unwrap();
    assert!(transfer.records() >= 1400, "{}", transfer.records());
    // Pitfall: many deployments sign updates and allow no transfer; then it is asked one by one.
    let asking = server.client_with(vec![key(SITE_KEYS[0].0)]);
    assert!(asking.transfer(server.addr, ZONE).await.is_err());
    for client in [transferring, asking] {
        let found = client.read_many(server.addr, &keys).await;
        assert_eq!(found.len(), keys.len());
        for (index, served) in found.into_iter().enumerate() {
            let expected = if index == 0 {
                Served::default()
            } else {
                wanted()
            };
            assert_eq!(served.unwrap(), expected, "{}", keys[index]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ways_agree_bind() {
    both_ways_agree(Kind::Bind).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ways_agree_knot() {
    both_ways_agree(Kind::Knot).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ways_agree_ours() {
    both_ways_agree(Kind::Ours).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_dead_server_everything_is_unknown() {
    let dead = crate::servers::free_address();
    let client =
        stead_dns::client::Client::new(vec![dead], vec![key(NEXT_KEY)], crate::servers::LIMIT);
    let keys: Vec<RecordKey> = (0..600).map(|i| record(&format!("h{i}"))).collect();
    for served in client.read_many(dead, &keys).await {
        assert!(matches!(served, Err(Unreadable::Exchange { .. })));
    }
}
