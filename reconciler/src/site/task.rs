//! The loop of one site: wake, plan, ask for admission, act, journal, sleep.

use std::sync::Arc;
use std::time::Duration;

use stead_plan::{Known, Policy, plan_site};
use stead_schemas::api::JournalKind;
use stead_schemas::names::{ServerName, SiteCode};
use stead_schemas::observed::{Contact, RecordObserved};
use stead_schemas::time::{DurationMs, WallMs};
use tokio::time::{sleep, sleep_until};

use super::changes::Happened;
use super::{Site, SiteWorld, pass};
use crate::act;
use crate::daemon::core::{Core, InForce, Retire};
use crate::publish;
use crate::store::Write;
use crate::witness;

/// Wakes that come within this time are one.
const TOGETHER: Duration = Duration::from_millis(5);
/// A site is looked at this often whatever happens: suspensions end, secrets change.
const AT_LEAST: DurationMs = DurationMs::seconds(30);
/// Timers alone never make passes come closer together than this.
const AT_MOST: Duration = Duration::from_millis(50);
/// While a write waits to be seen at every DNS server, they are asked this often.
const LAGGING: DurationMs = DurationMs(500);

/// Runs until the task is ended.
pub async fn run(core: Arc<Core>, site: Arc<Site>) {
    loop {
        let started = tokio::time::Instant::now();
        let next = pass(&core, &site).await;
        core.metrics.pass(started.elapsed().as_secs_f64());
        let wake = core.clock.instant(next).max(started + AT_MOST);
        tokio::select! {
            // Both are cancel safe; a wake during the pass is kept.
            () = site.woken() => sleep(TOGETHER).await,
            () = sleep_until(wake) => {}
        }
    }
}

/// One pass; answers when the next one is due.
async fn pass(core: &Arc<Core>, site: &Arc<Site>) -> WallMs {
    let now = core.clock.now();
    let latest = now.plus(AT_LEAST);
    let Some(force) = core.in_force() else {
        return latest;
    };
    let policy = Policy::default();
    let (plan, told, context, version) = {
        let mut world = site.world();
        settle_replaced(core, &site.code, &mut world);
        let context = pass::context(core, &site.code, &world, &force);
        publish::want_records(core, &mut world, &context);
        mark_contested(&mut world, now);
        let (plan, told, new_memory) = pass::survey(&mut world, &context, now, &policy);
        witness::tell(core, &world, &context, now);
        if new_memory {
            let memory = world.memory();
            core.store
                .write(Write::Site(site.code.clone(), Some(memory)));
        }
        (plan, told, context, world.version)
    };
    let summary = told.summary.clone();
    let admission = core.admissions.submit(told).await;
    let orders = {
        let mut world = site.world();
        let restricted = admission.restricts(&summary);
        let context = stead_plan::Context {
            permits: admission.permits(&site.code),
            ..context
        };
        let plan = if restricted || world.version != version {
            let desired = world.desired.clone();
            plan_site(desired.as_deref(), &world.observed, &context, now, &policy)
        } else {
            plan
        };
        pass::adopt(&mut world, &context, plan, core);
        pass::orders(core, &site.code, &mut world, now)
    };
    let wanted = !orders.assignments.is_empty() || !orders.records.is_empty();
    for order in orders.assignments {
        act::send(core, site, order);
    }
    for order in orders.records {
        publish::write(core, site, order);
    }
    for (check, secrets) in orders.checks {
        act::check::ask(core, site, check, secrets);
    }
    let ends = core.next_end().map_or(latest, |left| now.plus(left));
    finish(core, site, &force, now, wanted)
        .min(latest)
        .min(ends)
}

/// Journals, asks for things to be forgotten, and answers when to look again.
fn finish(core: &Core, site: &Site, force: &InForce, now: WallMs, acted: bool) -> WallMs {
    let mut world = site.world();
    core.journal(Some(&site.code), world.take_happened());
    core.keep_takeovers(&site.code, world.takeovers.take_fresh());
    let next = pass::wake_at(&world, now).unwrap_or_else(|| now.plus(AT_LEAST));
    if world.plan.as_ref().is_some_and(|plan| waits_for_dns(plan)) {
        core.publisher.need(&site.code);
        return next.min(now.plus(LAGGING));
    }
    if !acted {
        retire(core, site, &world, force);
    }
    next
}

/// A replacement is done once another ledger of that voter votes, or it votes no more (H4).
fn settle_replaced(core: &Core, code: &SiteCode, world: &mut SiteWorld) {
    for (server, mut memory) in core.replaced() {
        let Some(before) = memory.before.get(code).copied() else {
            continue;
        };
        let known = Known::of_site(&world.observed);
        let Some(voters) = known.voters.filter(|voters| voters.pending.is_none()) else {
            continue;
        };
        let now = voters.in_force.get(&server).copied();
        if now == Some(before) {
            continue;
        }
        memory.before.remove(code);
        let left = (!memory.before.is_empty()).then_some(memory);
        core.store
            .write(Write::Replaced(server.clone(), left.clone()));
        core.set_replaced(&server, left);
        let text = match now {
            Some(_) => "replaced: its new ledger votes",
            None => "it votes no more; nothing is left to replace",
        };
        let about = format!("{code}/{server}");
        world.tell([Happened::new(JournalKind::Taken, about, text)]);
    }
}

fn mark_contested(world: &mut SiteWorld, now: WallMs) {
    let SiteWorld {
        observed, contests, ..
    } = world;
    for (key, record) in &mut observed.records {
        record.contested = contests.is_contested(key, now);
    }
}

fn waits_for_dns(plan: &stead_schemas::plan::SitePlan) -> bool {
    plan.steps
        .iter()
        .flat_map(|step| &step.waits)
        .any(|wait| matches!(wait, stead_schemas::plan::Wait::Served(_)))
}

/// What is not declared and of which nothing is left need not be looked at any longer.
fn retire(core: &Core, site: &Site, world: &SiteWorld, force: &InForce) {
    let declared = force.desired.sites.get(&site.code);
    for (name, server) in &world.observed.servers {
        let wanted = declared.is_some_and(|site| site.servers.contains_key(name));
        if !wanted && is_spent(world, name, server) {
            core.retire(Retire::Server(site.code.clone(), name.clone()));
        }
    }
    let done = world.plan.as_ref().is_some_and(|plan| plan.is_empty());
    if declared.is_none() && done && world.observed.servers.is_empty() {
        let clear = |record: &RecordObserved| {
            record
                .servers
                .iter()
                .all(|s| s.served.as_ref().is_none_or(|served| served.mark.is_none()))
        };
        if world.observed.records.values().all(clear) {
            core.retire(Retire::Site(site.code.clone()));
        }
    }
}

/// Nothing of ours can be left on an undeclared server.
fn is_spent(
    world: &SiteWorld,
    name: &ServerName,
    server: &stead_schemas::observed::ServerObserved,
) -> bool {
    let renamed = world.desired.as_ref().is_some_and(|site| {
        site.servers
            .values()
            .any(|other| other.was.as_ref() == Some(name))
    });
    match (&server.report, server.contact) {
        (Some(report), Contact::Heard) => {
            report.assigned.is_empty()
                && report.instances.is_empty()
                && !world.sending.contains_key(name)
        }
        (_, Contact::Refused { .. }) if renamed => true,
        (None, Contact::Connecting) => false,
        (None, _) => server.heard_at.is_none(),
        _ => server.confirmed_lost.is_some(),
    }
}
