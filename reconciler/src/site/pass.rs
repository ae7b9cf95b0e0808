//! One look at a site: plan, lint, and what may be taken now. Under the site's lock, no waiting.
//!
//! Decides nothing: `stead-plan` made the road, admission gave the permits. What is left out here
//! is what is already on its way, what failed a moment ago, and what lacks a secret.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stead_plan::{Context, Permits, Policy, lint, plan_site, recorded_after, summarise};
use stead_schemas::api::WriterState;
use stead_schemas::generation::Generation;
use stead_schemas::lease::LeaseSpec;
use stead_schemas::names::{GroupName, InstanceName, SecretName, ServerName, SiteCode};
use stead_schemas::observed::Contact;
use stead_schemas::plan::{
    Hold, HoldReason, PlannedAssignment, PlannedCheck, PlannedRecord, SitePlan, Step, StepId,
};
use stead_schemas::record::RecordKey;
use stead_schemas::time::{DurationMs, WallMs};
use stead_schemas::wire::{InstanceSpec, SecretMaterial};

use super::changes::{self, Happened};
use super::{Sending, SiteWorld, Target};
use crate::admission::Told;
use crate::daemon::core::{Core, InForce};
use crate::publish::withdrawn;

/// How long an accepted assignment may stay unseen before it is planned again.
const SEEN_WITHIN: DurationMs = DurationMs::seconds(10);

/// What is to be done now, with everything it takes.
#[derive(Debug, Default)]
pub(super) struct Orders {
    pub(super) assignments: Vec<Order<ServerName, PlannedAssignment>>,
    pub(super) records: Vec<Order<RecordKey, PlannedRecord>>,
    pub(super) checks: Vec<(Box<PlannedCheck>, BTreeMap<SecretName, SecretMaterial>)>,
}

/// One command, its target reserved.
#[derive(Debug)]
pub(crate) struct Order<K, P> {
    /// Server or record.
    pub(crate) target: K,
    /// The payload.
    pub(crate) planned: P,
    /// Its place among all commands.
    pub(crate) generation: Generation,
    /// What an assignment names.
    pub(crate) secrets: BTreeMap<SecretName, SecretMaterial>,
    /// The steps it carries out; none: changed secrets.
    pub(crate) steps: Vec<Step>,
}

impl<K, P> Order<K, P> {
    /// The steps, for the journal.
    pub(crate) fn words(&self) -> String {
        if self.steps.is_empty() {
            return "send changed secrets".to_owned();
        }
        let ids: Vec<String> = self.steps.iter().map(|step| step.id.to_string()).collect();
        ids.join(", ")
    }
}

/// The surroundings of a plan.
pub(crate) fn context(core: &Core, code: &SiteCode, world: &SiteWorld, force: &InForce) -> Context {
    Context {
        site: code.clone(),
        hierarchy: force.desired.name.clone(),
        revision: Arc::clone(&force.revision),
        dns: force.desired.dns.clone(),
        recorded: Arc::clone(&world.recorded),
        suspended: core.suspended(code),
        drained: core.drained(code),
        permits: Permits::all(),
        replaced: core.replaced().into_keys().collect(),
        manual: core.is_manual(code),
        witness: core.witness.incarnations(code),
    }
}

/// The plan with nothing restricted, what it tells admission, and what is remembered of it.
pub(super) fn survey(
    world: &mut SiteWorld,
    context: &Context,
    now: WallMs,
    policy: &Policy,
) -> (SitePlan, Told, bool) {
    note_withdrawn(world, context, now);
    let desired = world.desired.clone();
    let plan = plan_site(desired.as_deref(), &world.observed, context, now, policy);
    let recorded = recorded_after(desired.as_deref(), &world.observed, context, now, &plan);
    let new_memory = recorded != *world.recorded;
    let progress = world.taken.look(&plan, &world.observed, now);
    for id in &progress.late {
        let text = format!("{id} is not done within its deadline");
        world.tell([Happened::new(
            stead_schemas::api::JournalKind::Failed,
            &context.site,
            text,
        )]);
    }
    let summary = summarise(&plan, desired.as_deref(), &world.recorded);
    let told = Told {
        busy: world.taken.is_busy() && summary.changes || world.taken.has_starting(),
        failed: world.taken.has_late(),
        removed: progress.removals,
        summary,
    };
    if new_memory {
        world.recorded = Arc::new(recorded);
    }
    (plan, told, new_memory)
}

fn note_withdrawn(world: &mut SiteWorld, context: &Context, now: WallMs) {
    let Some(dns) = &context.dns else {
        return;
    };
    let unread = |record: &stead_schemas::observed::RecordObserved| {
        record.servers.is_empty() || record.servers.iter().any(|s| s.served.is_none())
    };
    // A server that does not answer may still hand everything out.
    if world.observed.records.values().any(unread) {
        return;
    }
    let served = stead_plan::served_instances(world.desired.as_deref(), &world.observed, context);
    let before = world.served.take();
    let ttl = dns.ttl.as_secs_ceil();
    withdrawn::update(&mut world.observed, before.as_ref(), now, &served, ttl);
    world.served = Some(served);
}

/// Holds the plan against the lint and makes it the one that is shown; tells what changed.
pub(super) fn adopt(world: &mut SiteWorld, context: &Context, mut plan: SitePlan, core: &Core) {
    let notes = lint(world.desired.as_deref(), &world.observed, context, &plan);
    let bug = (!notes.is_empty()).then(|| {
        let texts: Vec<String> = notes.iter().map(ToString::to_string).collect();
        format!(
            "the plan breaks a rule and is not carried out ({}); please report this",
            texts.join("; ")
        )
    });
    if let Some(text) = &bug
        && world.bug != bug
    {
        tracing::error!(site = %context.site, "{text}");
        world.tell([Happened::new(
            stead_schemas::api::JournalKind::Failed,
            &context.site,
            text.clone(),
        )]);
    }
    world.bug = bug;
    hold_without_secrets(&mut plan, |site, name| {
        core.secrets.lookup(Some(site), name).is_some()
    });
    let before = world.plan.take();
    // What is not known in the first second is no event.
    if core.authority.state() != WriterState::Starting {
        let mut told = std::mem::take(&mut world.told);
        let holds = changes::of_holds(&mut told, &plan.holds);
        world.told = told;
        let way = changes::of_plan(before.as_deref(), &plan);
        world.tell(holds.into_iter().chain(way));
    }
    world.plan = Some(Arc::new(plan));
}

/// An assignment, or a question, that names a secret the reconciler does not have is held.
pub(crate) fn hold_without_secrets(
    plan: &mut SitePlan,
    has_secret: impl Fn(&SiteCode, &SecretName) -> bool,
) {
    let site = &plan.site;
    let mut missing = Vec::new();
    plan.assignments.retain(|server, planned| {
        let of_instances = planned.instances.iter().flat_map(|(group, spec)| {
            let instance = InstanceName {
                site: site.clone(),
                group: group.clone(),
                server: server.clone(),
            };
            spec.secrets().map(move |name| (instance.to_string(), name))
        });
        // The key of the alias.
        let of_lease = planned.lease.iter().flat_map(|lease| lease.secrets());
        let of_lease = of_lease.map(|name| (format!("{site}/{server}"), name));
        let lacks: Vec<Hold> = of_instances
            .chain(of_lease)
            .filter(|(_, name)| !has_secret(site, name))
            .map(|(about, name)| Hold {
                about,
                reason: HoldReason::SecretMissing {
                    secret: name.clone(),
                },
                place: None,
            })
            .collect();
        let complete = lacks.is_empty();
        missing.extend(lacks);
        complete
    });
    plan.checks.retain(|server, check| {
        let mut names = check.question.instance.secrets();
        let Some(lacks) = names.find(|name| !has_secret(site, name)) else {
            return true;
        };
        // What runs there, or is held already, is asked again once the secret is back.
        if check.step.is_some() {
            missing.push(Hold {
                about: format!("{site}/siteServer@{server}"),
                reason: HoldReason::SecretMissing {
                    secret: lacks.clone(),
                },
                place: None,
            });
        }
        false
    });
    plan.holds.extend(missing);
}

/// What of the adopted plan is taken now; reserves each target.
pub(super) fn orders(core: &Core, site: &SiteCode, world: &mut SiteWorld, now: WallMs) -> Orders {
    let mut orders = Orders::default();
    if world.bug.is_some() {
        return orders;
    }
    let Some(plan) = world.plan.clone() else {
        return orders;
    };
    forget_unseen(world, now);
    order_checks(core, site, world, &plan, &mut orders);
    world.retries.retain(|target| match target {
        Target::Agent(server) => plan.assignments.contains_key(server),
        Target::Record(key) => plan.records.contains_key(key),
    });
    for (server, planned) in &plan.assignments {
        let free = !world.sending.contains_key(server);
        if free && world.retries.may(&Target::Agent(server.clone()), now) {
            let secrets = secrets_of(
                core,
                site,
                &names_of(&planned.instances, planned.lease.as_deref()),
            );
            let Some(generation) = core.authority.next() else {
                return orders;
            };
            let steps = take_steps(world, &plan, &planned.steps, now);
            world.sending.insert(server.clone(), Sending::Calling);
            orders.assignments.push(Order {
                target: server.clone(),
                planned: planned.clone(),
                generation,
                secrets,
                steps,
            });
        }
    }
    order_records(core, world, &plan, now, &mut orders);
    refresh_secrets(core, site, world, now, &mut orders);
    orders
}

/// Questions change nothing and have no place among commands; only a writer asks.
fn order_checks(
    core: &Core,
    site: &SiteCode,
    world: &mut SiteWorld,
    plan: &SitePlan,
    orders: &mut Orders,
) {
    if core.authority.state() != WriterState::Writing {
        return;
    }
    for (server, check) in &plan.checks {
        if world.checking.insert(server.clone()) {
            let names = check.question.instance.secrets().collect();
            let secrets = secrets_of(core, site, &names);
            orders.checks.push((check.clone(), secrets));
        }
    }
}

fn order_records(
    core: &Core,
    world: &mut SiteWorld,
    plan: &SitePlan,
    now: WallMs,
    orders: &mut Orders,
) {
    for (key, planned) in &plan.records {
        let free = !world.writing.contains(key);
        if free && world.retries.may(&Target::Record(key.clone()), now) {
            let Some(generation) = core.authority.next() else {
                return;
            };
            let steps = take_steps(world, plan, &planned.steps, now);
            world.writing.insert(key.clone());
            if world.written.get(key) == Some(&planned.want) {
                world.contests.healed(key, now);
            }
            orders.records.push(Order {
                target: key.clone(),
                planned: planned.clone(),
                generation,
                secrets: BTreeMap::new(),
                steps,
            });
        }
    }
}

/// A secret that changed goes to the agents that hold its old version, with what they run already.
fn refresh_secrets(
    core: &Core,
    site: &SiteCode,
    world: &mut SiteWorld,
    now: WallMs,
    orders: &mut Orders,
) {
    let mut stale = Vec::new();
    for (name, server) in &world.observed.servers {
        let idle = !world.sending.contains_key(name)
            && world.retries.may(&Target::Agent(name.clone()), now);
        let (Contact::Heard, Some(report), true) = (server.contact, &server.report, idle) else {
            continue;
        };
        let names = names_of(&report.assigned, report.assigned_lease.as_deref());
        let secrets = secrets_of(core, site, &names);
        let old = |(name, material): (&SecretName, &SecretMaterial)| {
            report.secrets.get(name) != Some(&material.version)
        };
        // One that is missing here must not be taken away there.
        let complete = names.len() == secrets.len();
        if complete && secrets.iter().any(old) {
            let planned = PlannedAssignment {
                based_on: report.generation.clone(),
                instances: report.assigned.clone(),
                lease: report.assigned_lease.clone(),
                steps: Vec::new(),
            };
            stale.push((name.clone(), planned, secrets));
        }
    }
    for (target, planned, secrets) in stale {
        let Some(generation) = core.authority.next() else {
            return;
        };
        world.sending.insert(target.clone(), Sending::Calling);
        orders.assignments.push(Order {
            target,
            planned,
            generation,
            secrets,
            steps: Vec::new(),
        });
    }
}

/// The secrets that an assignment names.
fn names_of<'a>(
    instances: &'a BTreeMap<GroupName, Box<InstanceSpec>>,
    lease: Option<&'a LeaseSpec>,
) -> BTreeSet<&'a SecretName> {
    let of_instances = instances.values().flat_map(|spec| spec.secrets());
    let of_lease = lease.into_iter().flat_map(LeaseSpec::secrets);
    of_instances.chain(of_lease).collect()
}

fn secrets_of(
    core: &Core,
    site: &SiteCode,
    names: &BTreeSet<&SecretName>,
) -> BTreeMap<SecretName, SecretMaterial> {
    names
        .iter()
        .filter_map(|name| {
            let material = core.secrets.lookup(Some(site), name)?;
            Some(((*name).clone(), material))
        })
        .collect()
}

fn take_steps(world: &mut SiteWorld, plan: &SitePlan, ids: &[StepId], now: WallMs) -> Vec<Step> {
    let steps = plan.steps.iter().filter(|step| ids.contains(&step.id));
    steps
        .inspect(|step| world.taken.take(step, now))
        .cloned()
        .collect()
}

/// An accepted assignment whose effect never shows is not waited for longer.
fn forget_unseen(world: &mut SiteWorld, now: WallMs) {
    world.sending.retain(|_, sending| match sending {
        Sending::Calling => true,
        Sending::Accepted(_, at) => now.since(*at) < SEEN_WITHIN,
    });
}

/// When the site has to be looked at again though nothing changes.
pub(super) fn wake_at(world: &SiteWorld, now: WallMs) -> Option<WallMs> {
    let unseen = world.sending.values().filter_map(|sending| match sending {
        Sending::Calling => None,
        Sending::Accepted(_, at) => Some(at.plus(SEEN_WITHIN)),
    });
    world
        .plan
        .as_ref()
        .and_then(|plan| plan.wake_at)
        .into_iter()
        .chain(world.taken.next_deadline())
        .chain(world.retries.next(now))
        .chain(unseen)
        .min()
}
