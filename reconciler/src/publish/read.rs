//! What each DNS server serves, read now and then and when somebody needs to know.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use stead_schemas::api::JournalKind;
use stead_schemas::names::SiteCode;
use stead_schemas::observed::{Served, ServedBy};
use stead_schemas::record::{Mark, RecordKey};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::Live;
use crate::act::backoff::random;
use crate::commands::chain;
use crate::daemon::core::Core;
use crate::site::SiteWorld;
use crate::site::changes::Happened;
use stead_dns::client::Unreadable;

/// Drift is seen within this time; a little jitter is added.
const EVERY: Duration = Duration::from_secs(10);
/// Needs that come within this time are one reading.
const TOGETHER: Duration = Duration::from_millis(3);
/// Keys and servers are looked at this often: secrets change on disk.
const REFRESH: Duration = Duration::from_secs(5);

/// Keeps one reader a server running, for the servers and keys of now.
pub(crate) async fn run(core: Arc<Core>) {
    let mut force = core.watch_in_force();
    let mut readers = JoinSet::new();
    loop {
        let dns = core.in_force().and_then(|force| force.desired.dns.clone());
        if core.publisher.refresh(&core, dns.as_ref()) {
            readers.abort_all();
            readers = JoinSet::new();
            if let Some(live) = core.publisher.live() {
                for index in 0..live.dns.servers.len() {
                    readers.spawn(reader(Arc::clone(&core), Arc::clone(&live), index));
                }
            }
            core.wake_all();
        }
        // A timeout is the usual case: then the secrets are looked at.
        drop(timeout(REFRESH, force.changed()).await);
    }
}

/// Reads all records every few seconds, and those of sites in need at once.
async fn reader(core: Arc<Core>, live: Arc<Live>, index: usize) {
    let mut all_due = Instant::now();
    loop {
        let needed = core.publisher.needed.notified();
        let needs = core.publisher.take_needs(index);
        let codes: Vec<SiteCode> = if Instant::now() >= all_due {
            all_due = Instant::now() + EVERY + Duration::from_millis(u64::from(random() % 1_000));
            core.sites().iter().map(|site| site.code.clone()).collect()
        } else {
            needs.into_iter().collect()
        };
        if codes.is_empty() {
            tokio::select! {
                () = needed => sleep(TOGETHER).await,
                () = tokio::time::sleep_until(all_due) => {}
            }
            continue;
        }
        read(&core, &live, index, &codes).await;
    }
}

async fn read(core: &Core, live: &Live, index: usize, codes: &[SiteCode]) {
    let server = live.dns.servers[index];
    let mut keys: Vec<RecordKey> = Vec::new();
    let mut ends = Vec::new();
    for code in codes {
        if let Some(site) = core.site(code) {
            keys.extend(site.world().observed.records.keys().cloned());
            ends.push((site, keys.len()));
        }
    }
    if keys.is_empty() {
        // Nothing to read is no reason to spin.
        sleep(TOGETHER).await;
        return;
    }
    let mut answers = live.client.read_many(server, &keys).await.into_iter();
    let mut begin = 0;
    for (site, end) in ends {
        let part: BTreeMap<RecordKey, _> = keys[begin..end]
            .iter()
            .cloned()
            .zip(answers.by_ref())
            .collect();
        begin = end;
        let mut world = site.world();
        let changed = take_in(core, &mut world, live, index, part, false);
        drop(world);
        if changed {
            site.wake();
        }
    }
}

/// Takes answers of one server in; true where one is another than before. `ours`: it is another
/// because we wrote it, which the journal tells as the step.
pub(super) fn take_in(
    core: &Core,
    world: &mut SiteWorld,
    live: &Live,
    index: usize,
    answers: BTreeMap<RecordKey, Result<Served, Unreadable>>,
    ours: bool,
) -> bool {
    let now = core.clock.now();
    let mut changed = false;
    let mut told = Vec::new();
    for (key, answer) in answers {
        let Some(record) = world.observed.records.get_mut(&key) else {
            continue;
        };
        fit(&mut record.servers, &live.dns.servers, now);
        let (served, cause) = match answer {
            Ok(served) => (Some(served), None),
            Err(error) => (None, Some(chain(&error))),
        };
        if let Some(mark) = served.as_ref().and_then(|served| served.mark.as_deref()) {
            meet_mark(core, mark);
        }
        let Some(slot) = record.servers.get_mut(index) else {
            continue;
        };
        let was_asked = slot.served.is_some() || slot.cause.is_some();
        let differs = slot.served != served;
        if index == 0
            && !ours
            && let (Some(before), Some(after)) = (&slot.served, &served)
            && before.set != after.set
        {
            let text = format!("is {} (was {})", words(after), words(before));
            told.push(Happened::new(
                JournalKind::Record,
                format!("dns:{key}"),
                text,
            ));
        }
        changed |= differs || !was_asked;
        slot.at = now;
        slot.served = served;
        slot.cause = cause;
    }
    if changed {
        world.version += 1;
    }
    world.tell(told);
    changed
}

/// One slot a server, in declared order; a server that changed is not asked yet.
fn fit(slots: &mut Vec<ServedBy>, servers: &[SocketAddr], now: stead_schemas::time::WallMs) {
    let same = slots.len() == servers.len()
        && slots
            .iter()
            .zip(servers)
            .all(|(slot, server)| slot.server == *server);
    if !same {
        *slots = servers
            .iter()
            .map(|server| ServedBy {
                server: *server,
                at: now,
                served: None,
                cause: None,
            })
            .collect();
    }
}

/// A mark of ours with a higher epoch: another writer (H7).
fn meet_mark(core: &Core, mark: &str) {
    let Ok(mark) = mark.parse::<Mark>() else {
        return;
    };
    if mark.hierarchy == core.config.spec.hierarchy
        && let Err(lie) = core.meet(&mark.generation.epoch)
    {
        tracing::warn!(%mark, %lie, "ownership mark not believed");
    }
}

fn words(served: &Served) -> String {
    match &served.set {
        None => "not there".to_owned(),
        Some(set) => {
            let values: Vec<String> = set.values.iter().map(ToString::to_string).collect();
            values.join(", ")
        }
    }
}
