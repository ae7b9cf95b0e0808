//! Records read once, for a look at what is not in force: nothing of the answers is kept or judged.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use stead_schemas::observed::{RecordObserved, Served, ServedBy};
use stead_schemas::record::RecordKey;
use tokio::time::timeout;

use super::Live;
use crate::commands::chain;
use crate::daemon::core::Core;

/// Longest wait for all of it; a server that takes longer has not answered.
const WITHIN: Duration = Duration::from_secs(5);
/// Most records; more than that is a new zone, and stays unread.
const KEYS_MAX: usize = 2_000;

/// What the DNS servers in force serve for these keys, all at the same time.
pub(crate) async fn read_once(
    core: &Core,
    keys: BTreeSet<RecordKey>,
) -> BTreeMap<RecordKey, RecordObserved> {
    let Some(live) = core.publisher.live() else {
        return BTreeMap::new();
    };
    let keys: Vec<RecordKey> = keys.into_iter().take(KEYS_MAX).collect();
    if keys.is_empty() {
        return BTreeMap::new();
    }
    let servers = &live.dns.servers;
    let columns = join_all(servers.iter().map(|server| ask(&live, *server, &keys))).await;
    let at = core.clock.now();
    let mut columns: Vec<_> = columns.into_iter().map(Vec::into_iter).collect();
    let rows = keys.into_iter().map(|key| {
        let answers = servers.iter().zip(&mut columns).map(|(server, column)| {
            let (served, cause) = column.next().unwrap_or_default();
            ServedBy {
                server: *server,
                at,
                served,
                cause,
            }
        });
        let servers = answers.collect();
        let contested = false;
        (key, RecordObserved { servers, contested })
    });
    rows.collect()
}

/// One server's answers in the order of the keys; none where it does not answer in time.
async fn ask(
    live: &Live,
    server: SocketAddr,
    keys: &[RecordKey],
) -> Vec<(Option<Served>, Option<String>)> {
    let Ok(answers) = timeout(WITHIN, live.client.read_many(server, keys)).await else {
        return Vec::new();
    };
    let in_words = |answer| match answer {
        Ok(served) => (Some(served), None),
        Err(error) => (None, Some(chain(&error))),
    };
    answers.into_iter().map(in_words).collect()
}
