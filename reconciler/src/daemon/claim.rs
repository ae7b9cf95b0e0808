//! Claiming an epoch at the start: hear everybody for a moment, then take one above all (H7).

use std::sync::Arc;
use std::time::Duration;

use stead_schemas::api::{JournalKind, WriterState};
use stead_schemas::names::ObjectName;
use stead_schemas::observed::Contact;
use stead_schemas::record::Mark;
use tokio::time::{Instant, sleep};

use super::core::Core;
use crate::act;
use crate::epoch::{next_epoch, start_id};
use crate::site::SiteWorld;
use crate::site::changes::Happened;
use crate::store::Write;

/// Nobody is waited for longer than this; who is heard later and knows a higher epoch fences us.
const HEAR: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(20);

/// Claims once a revision is in force, unless this reconciler stands by.
pub async fn run(core: Arc<Core>) {
    if core.authority.state() == WriterState::Standby {
        return;
    }
    let mut force = core.watch_in_force();
    if force.wait_for(Option::is_some).await.is_err() {
        return;
    }
    let deadline = Instant::now() + HEAR;
    while Instant::now() < deadline && !all_heard(&core) {
        sleep(LOOK).await;
    }
    let Ok(start) = start_id() else {
        tracing::error!("the system has no randomness: no epoch can be claimed");
        return;
    };
    let stored = core.remember(|_| {}).epoch_counter;
    let epoch = next_epoch(known(&core).into_iter(), stored, &core.config.name, &start);
    let own = core.remember(|own| own.epoch_counter = epoch.counter);
    if let Err(error) = core.store.commit(Write::Own(own)).await {
        // Agents and marks remember it as well; the trouble itself is shown by the store.
        tracing::warn!(%error, "the epoch is not kept in the store");
    }
    if core.authority.claim(epoch.clone()) {
        let text = format!("writes under epoch {epoch}");
        core.journal(None, vec![Happened::new(JournalKind::Reconciler, "", text)]);
        for site in core.sites() {
            let servers: Vec<_> = site.world().observed.servers.keys().cloned().collect();
            for server in servers {
                act::claim(&core, &site, &server);
            }
        }
        core.wake_all();
    }
}

/// Every agent has answered or failed once, every record was asked for.
fn all_heard(core: &Core) -> bool {
    let Some(force) = core.in_force() else {
        return false;
    };
    let sites = core.sites();
    let dns = force
        .desired
        .dns
        .as_ref()
        .map_or(0, |dns| dns.servers.len());
    sites.len() >= force.desired.sites.len()
        && sites.iter().all(|site| {
            let world = site.world();
            let heard = world.observed.servers.iter().all(|(name, seen)| {
                seen.contact != Contact::Connecting || world.troubles.contains_key(name)
            });
            heard && (dns == 0 || records_read(&world, dns))
        })
}

fn records_read(world: &SiteWorld, servers: usize) -> bool {
    !world.observed.records.is_empty()
        && world.observed.records.values().all(|record| {
            record.servers.len() == servers
                && record
                    .servers
                    .iter()
                    .all(|one| one.served.is_some() || one.cause.is_some())
        })
}

/// Every epoch counter that agents and marks tell.
fn known(core: &Core) -> Vec<u64> {
    let ours = &core.config.spec.hierarchy;
    let mut counters = Vec::new();
    for site in core.sites() {
        let world = site.world();
        for report in world
            .observed
            .servers
            .values()
            .filter_map(|server| server.report.as_ref())
        {
            counters.extend(report.highest_epoch.as_ref().map(|epoch| epoch.counter));
            counters.extend(report.generation.as_ref().map(|g| g.epoch.counter));
        }
        counters.extend(of_marks(&world, ours));
    }
    counters
}

fn of_marks<'a>(world: &'a SiteWorld, ours: &'a ObjectName) -> impl Iterator<Item = u64> + 'a {
    world
        .observed
        .records
        .values()
        .flat_map(|record| &record.servers)
        .filter_map(|server| server.served.as_ref()?.mark.as_ref()?.parse::<Mark>().ok())
        .filter(move |mark| mark.hierarchy == *ours)
        .map(|mark| mark.generation.epoch.counter)
}
