//! H5, the decisive case: a holder was frozen, the database failed over to a replica that lacks the
//! newer term, the holder thaws. Its term equals the row there, and still it may not write.

use serde_json::Value;
use site_roles::settings::{PostgresSettings, StoreSettings};
use site_roles::store::{Store, Token};
use stead_schemas::desired::DatabaseTls;

use crate::cluster::{self, NAME, USER, until};
use crate::stage::{Road, Server, ask, settings};

fn store(hosts: &[std::net::SocketAddr]) -> StoreSettings {
    StoreSettings::Postgresql(PostgresSettings {
        hosts: hosts.iter().map(ToString::to_string).collect(),
        name: NAME.to_owned(),
        user: USER.to_owned(),
        tls: DatabaseTls::Disable,
        ca: None,
    })
}

async fn row(client: &tokio_postgres::Client) -> (i64, i64) {
    let asked = "SELECT term, (SELECT count(*) FROM stead_entries) FROM stead_term";
    let row = client.query_one(asked, &[]).await.unwrap();
    (row.get(0), row.get(1))
}

#[tokio::test]
async fn a_thawed_holder_does_not_write_to_a_stale_replica_on_an_old_proof() {
    let mut primary = cluster::Server::primary().await;
    let mut replica = primary.replica().await;
    // The standby comes first: the writable one is found.
    let road = Road::to(primary.addr()).await;
    let mut a = Server::new("p01-a", store(&[replica.addr(), road.addr])).await;
    a.until("ready", |state| state.ready).await;
    a.work(7, 1_001, 1_000_000).await;
    a.until_working(7).await;
    assert_eq!(a.write("before").await.0, 200);
    let there = replica.admin().await;
    until(
        &there,
        "SELECT count(*) > 0 FROM stead_entries WHERE id = 'before'",
    )
    .await;
    drop(there);

    // Frozen: nothing of it moves. Meanwhile the replica is away, and another is the holder.
    replica.stop();
    road.lead(None);
    a.until("cut off", |state| !state.ready && state.working.is_none())
        .await;
    let dir = tempfile::tempdir().unwrap();
    let others = settings(&dir, "p01-b", store(&[primary.addr()]));
    let mut b = Store::connect(&others).await.unwrap();
    let eight = Token {
        term: 8,
        holder: "p01-b".to_owned(),
    };
    b.claim(&eight, &|| true).await.unwrap();
    drop(b);
    primary.crash();
    a.at(5_000);
    replica.start().await;
    let admin = replica.admin().await;
    admin.batch_execute("SELECT pg_promote()").await.unwrap();
    until(&admin, "SELECT NOT pg_is_in_recovery()").await;
    let before = row(&admin).await;
    assert_eq!(before.0, 7, "the replica knows nothing of term 8");

    // Thawed: connected, its deadline not over by its own clock, and equal to the row.
    a.until_reason("newer than the store connection").await;
    assert_eq!(a.write("stale").await.0, 503, "H5");
    let (_, shown) = ask(a.http.addr, "GET", "/v1/state", &Value::Null).await;
    assert_eq!(
        (&shown["term"], &shown["until"]),
        (&7.into(), &1_000_000.into())
    );
    a.work(7, 5_000, 1_000_000).await;
    a.until_reason("newer than the store connection").await;
    assert_eq!(row(&admin).await, before, "nothing was written");

    // The true holder, on a newer proof; then the thawed one learns of it, and works above it.
    let others = settings(&dir, "p01-b", store(&[replica.addr()]));
    let mut b = Store::connect(&others).await.unwrap();
    b.claim(&eight, &|| true).await.unwrap();
    a.work(7, 5_001, 1_000_000).await;
    let told = a
        .until("outranked", |state| state.outranked.is_some())
        .await;
    assert_eq!(told.outranked, Some(8));
    assert_eq!(row(&admin).await, (8, before.1));
    a.at(6_000);
    a.work(9, 5_900, 1_000_000).await;
    a.until_working(9).await;
    assert_eq!(a.write("above").await.1["term"], 9);
}
