//! Planning without agents: a revision against another as if that one were in place.
//!
//! `stead plan --from REV` shows what a commit would do on a machine that reaches no agent. The
//! base revision is taken as converged, every server as joined; counted instances stand where the
//! planner would have placed them at first, which live ones need not (`--live` asks them).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use stead_schemas::desired::{DnsDesired, HierarchyDesired, ServerDesired, SiteDesired};
use stead_schemas::lease::{LeasePart, LeaseReport, MemoryReport, VoterSpec, VotersReport};
use stead_schemas::names::{GroupName, IdentityKind, ObjectName, ServerName, SiteCode};
use stead_schemas::observed::{
    Contact, RecordObserved, Served, ServedBy, ServerObserved, SiteObserved, SiteRecorded,
};
use stead_schemas::plan::SitePlan;
use stead_schemas::record::{RecordKey, RecordSet};
use stead_schemas::time::WallMs;
use stead_schemas::wire::{AgentReport, Health, InstanceReport, InstanceSpec, Phase};

use crate::spec::Source;
use crate::world::SITE_SERVER;
use crate::{
    Context, InFlight, Permits, Policy, admit, objects, placement, plan_site, record_keys,
    recorded_after, summarise,
};

const AT: WallMs = WallMs(0);
/// The life of a ledger that was never lost.
const FIRST_LEDGER: u64 = 1;

/// One site as a revision would have left it.
#[derive(Debug, Clone)]
pub struct Offline {
    /// What would be seen.
    pub observed: SiteObserved,
    /// What would be remembered.
    pub recorded: SiteRecorded,
}

/// The plans that lead from `base` to `target`, budgets applied; sites that differ in nothing have
/// none. Without a base: from nothing.
#[must_use]
pub fn offline_plans(
    base: Option<&HierarchyDesired>,
    target: &HierarchyDesired,
    revision: &str,
) -> Vec<SitePlan> {
    let no_sites = BTreeMap::new();
    let before = base.map_or(&no_sites, |base| &base.sites);
    let same_dns = base.is_some_and(|base| base.dns == target.dns);
    let codes: BTreeSet<&SiteCode> = before.keys().chain(target.sites.keys()).collect();
    let mut drafts = Vec::new();
    let mut summaries = Vec::new();
    for code in codes {
        let (old, new) = (before.get(code), target.sites.get(code));
        if same_dns && old == new {
            continue;
        }
        let dns = target.dns.clone();
        let offline = offline_site(
            code,
            old.map(|s| &**s),
            new.map(|s| &**s),
            &target.name,
            dns.clone(),
        );
        let mut context = mk_context(code, &target.name, revision, dns, offline.recorded.clone());
        let sites = [old, new].into_iter().flatten();
        context.witness = sites.flat_map(|site| witnesses(site)).collect();
        let draft = (new.map(|site| &**site), offline.observed, context);
        let plan = plan_site(draft.0, &draft.1, &draft.2, AT, &Policy::default());
        summaries.push(summarise(&plan, draft.0, &draft.2.recorded));
        drafts.push((draft, plan));
    }
    let mut guards = target.guards.clone();
    // What waits for its turn is still part of the plan that people read.
    guards.max_sites_at_once = u32::MAX;
    let admission = admit(&summaries, &InFlight::default(), &guards);
    let restricted = drafts
        .into_iter()
        .zip(&summaries)
        .map(|((draft, plan), summary)| {
            if !admission.restricts(summary) {
                return plan;
            }
            let (desired, observed, mut context) = draft;
            context.permits = admission.permits(&summary.site);
            plan_site(desired, &observed, &context, AT, &Policy::default())
        });
    restricted
        .filter(|plan| !plan.is_empty() || !plan.holds.is_empty())
        .collect()
}

/// What would be observed of a site if `base` were in place and all servers of `target` had joined.
#[must_use]
pub fn offline_site(
    code: &SiteCode,
    base: Option<&SiteDesired>,
    target: Option<&SiteDesired>,
    hierarchy: &ObjectName,
    dns: Option<Arc<DnsDesired>>,
) -> Offline {
    let mut observed = SiteObserved::default();
    for site in target.into_iter().chain(base) {
        for (name, server) in &site.servers {
            observed.servers.insert(name.clone(), joined(name, server));
        }
    }
    for old in target.into_iter().flat_map(|site| site.servers.values()) {
        if let Some(was) = &old.was {
            observed.servers.remove(was);
        }
    }
    let mut context = mk_context(code, hierarchy, "", dns, SiteRecorded::default());
    let Some(base) = base else {
        see_absent(target, &mut observed, &context);
        return Offline {
            observed,
            recorded: SiteRecorded::default(),
        };
    };
    install(base, &mut observed, &context, target);
    context.witness = witnesses(base);
    found(base, &mut observed, &context);
    publish(base, &mut observed, &context);
    see_absent(target, &mut observed, &context);
    let plan = plan_site(Some(base), &observed, &context, AT, &Policy::default());
    let mut recorded = recorded_after(Some(base), &observed, &context, AT, &plan);
    recorded.objects = objects(base);
    context.recorded = Arc::new(recorded.clone());
    Offline { observed, recorded }
}

fn mk_context(
    code: &SiteCode,
    hierarchy: &ObjectName,
    revision: &str,
    dns: Option<Arc<DnsDesired>>,
    recorded: SiteRecorded,
) -> Context {
    Context {
        site: code.clone(),
        hierarchy: hierarchy.clone(),
        revision: revision.into(),
        dns,
        recorded: Arc::new(recorded),
        suspended: Vec::new(),
        drained: BTreeMap::new(),
        permits: Permits::all(),
        replaced: BTreeSet::new(),
        manual: false,
        witness: BTreeMap::new(),
    }
}

fn joined(name: &ServerName, server: &ServerDesired) -> ServerObserved {
    let report = AgentReport::new(name.clone(), AT);
    ServerObserved {
        contact: Contact::Heard,
        report: Some(Box::new(report)),
        heard_at: Some(AT),
        confirmed_lost: None,
        agent: SocketAddr::new(server.address, server.agent_port),
        checked: None,
    }
}

/// Puts every instance of `base` where it would be; under its new name where a server has one.
fn install(
    base: &SiteDesired,
    observed: &mut SiteObserved,
    context: &Context,
    target: Option<&SiteDesired>,
) {
    let empty = SiteObserved {
        servers: base
            .servers
            .iter()
            .map(|(name, s)| (name.clone(), joined(name, s)))
            .collect(),
        ..SiteObserved::default()
    };
    for (group, servers) in placement(base, &empty, context, AT) {
        for name in servers {
            let Some(server) = base.servers.get(&name) else {
                continue;
            };
            let renamed = target.into_iter().flat_map(|site| &site.servers);
            let now = renamed
                .filter(|(_, server)| server.was.as_ref() == Some(&name))
                .map(|(new, _)| new)
                .next()
                .unwrap_or(&name);
            let Some(spec) = spec(base, &group, server) else {
                continue;
            };
            let report = observed
                .servers
                .get_mut(now)
                .and_then(|s| s.report.as_mut());
            if let Some(report) = report {
                let healthy = Box::new(healthy(&spec));
                report.instances.insert(group.clone(), healthy);
                report.assigned.insert(group.clone(), Box::new(spec));
            }
        }
    }
}

fn spec(base: &SiteDesired, group: &GroupName, server: &ServerDesired) -> Option<InstanceSpec> {
    let (source, role) = match (base.groups.get(group), &base.site_server) {
        (Some(declared), _) => (Source::Declared(declared), declared.role),
        (None, Some(site_server)) if *group == *SITE_SERVER => (
            Source::SiteServer(site_server),
            stead_schemas::role::Role::SiteServer,
        ),
        (None, _) => return None,
    };
    let runs = source.unrunnable(role).is_none();
    runs.then(|| source.spec(role, server.address))
}

fn healthy(spec: &InstanceSpec) -> InstanceReport {
    InstanceReport {
        role: spec.role,
        spec: spec.id(),
        phase: Phase::Running,
        health: Health::Healthy,
        since: AT,
        pid: None,
        restarts: 0,
        endpoint: SocketAddr::new(spec.address, spec.port),
        message: None,
    }
}

/// Reconcilers that vote, each with the first ledger it ever had.
fn witnesses(site: &SiteDesired) -> BTreeMap<ServerName, u64> {
    voters(site)
        .filter(|(_, voter)| voter.kind == IdentityKind::Reconciler)
        .map(|(name, _)| (name.clone(), FIRST_LEDGER))
        .collect()
}

fn voters(site: &SiteDesired) -> impl Iterator<Item = (&ServerName, &VoterSpec)> {
    let lease = site.site_server.iter().filter_map(|s| s.lease.as_ref());
    lease.flat_map(|lease| &lease.voters)
}

/// The lease of `base` as its founders would have it: told to all, held by the declared active.
fn found(base: &SiteDesired, observed: &mut SiteObserved, context: &Context) {
    let Some(site_server) = base.site_server.as_ref().filter(|s| s.has_lease()) else {
        return;
    };
    let all: BTreeMap<ServerName, u64> = voters(base)
        .map(|(name, _)| (name.clone(), FIRST_LEDGER))
        .collect();
    for name in all.keys() {
        let server = observed.servers.get_mut(name);
        if let Some(report) = server.and_then(|server| server.report.as_mut()) {
            let holds = *name == site_server.active;
            report.lease = Some(Box::new(founded(&all, &site_server.active, holds)));
        }
    }
    let plan = plan_site(Some(base), observed, context, AT, &Policy::default());
    for (name, planned) in plan.assignments {
        let server = observed.servers.get_mut(&name);
        if let Some(report) = server.and_then(|server| server.report.as_mut()) {
            report.assigned_lease = planned.lease;
        }
    }
}

fn founded(all: &BTreeMap<ServerName, u64>, active: &ServerName, holds: bool) -> LeaseReport {
    LeaseReport {
        voters: Some(VotersReport {
            number: 1,
            term: 0,
            in_force: all.clone(),
            pending: None,
        }),
        part: if holds {
            LeasePart::Holding
        } else {
            LeasePart::Following
        },
        term: 1,
        holder: Some(active.clone()),
        ready: true,
        memory: MemoryReport {
            number: 1,
            declared: Some(active.clone()),
            ..MemoryReport::default()
        },
        ..LeaseReport::new(FIRST_LEDGER)
    }
}

/// Serves what the planner would have published: servers' names first, then what refers to them.
fn publish(base: &SiteDesired, observed: &mut SiteObserved, context: &Context) {
    const ROUNDS: usize = 3;
    for key in record_keys(Some(base), observed, context) {
        observed.records.insert(key, served(None, context));
    }
    for _ in 0..ROUNDS {
        let plan = plan_site(Some(base), observed, context, AT, &Policy::default());
        if plan.records.is_empty() {
            return;
        }
        let writes: Vec<(RecordKey, Option<RecordSet>)> = plan
            .records
            .into_iter()
            .map(|(key, record)| (key, record.want))
            .collect();
        for (key, want) in writes {
            observed.records.insert(key, served(want, context));
        }
    }
}

/// Records that only the target wants are seen and not there: nothing of them is unknown.
fn see_absent(target: Option<&SiteDesired>, observed: &mut SiteObserved, context: &Context) {
    for key in record_keys(target, observed, context) {
        let absent = || served(None, context);
        observed.records.entry(key).or_insert_with(absent);
    }
}

fn served(set: Option<RecordSet>, context: &Context) -> RecordObserved {
    let mark = format!(
        "v=1 h={} s={} t=0 g=0:offline:0.0",
        context.hierarchy, context.site
    );
    let served = Served {
        mark: set.as_ref().map(|_| mark),
        set,
    };
    let servers = context.dns.iter().flat_map(|dns| &dns.servers);
    let by = |server: &SocketAddr| ServedBy {
        server: *server,
        at: AT,
        served: Some(served.clone()),
        cause: None,
    };
    RecordObserved {
        servers: servers.map(by).collect(),
        contested: false,
    }
}
