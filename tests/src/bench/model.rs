//! A world of one site that does as it is told, to bring a plan to where nothing is left to do.
//!
//! Agents take assignments and are healthy at once; DNS serves what is written. For benches of the
//! planner only; the planner's own tests have a model that also fails.

use std::sync::Arc;

use stead_plan::{Context, Permits, Policy, plan_site, record_keys, recorded_after};
use stead_schemas::desired::{HierarchyDesired, SiteDesired};
use stead_schemas::generation::{Epoch, Generation};
use stead_schemas::lease::{LeasePart, LeaseReport, LeaseSpec, MemoryReport, VotersReport};
use stead_schemas::names::ServerName;
use stead_schemas::observed::{
    Contact, RecordObserved, Served, ServedBy, ServerObserved, SiteObserved, SiteRecorded,
};
use stead_schemas::plan::SitePlan;
use stead_schemas::record::Mark;
use stead_schemas::time::WallMs;
use stead_schemas::wire::{AgentReport, Health, InstanceReport, InstanceSpec, Phase};

/// More rounds than any road of a site that begins with nothing.
const ROUNDS: u64 = 30;

/// One site with everything that planning it takes.
#[derive(Debug)]
pub(super) struct SiteModel {
    pub(super) desired: Arc<SiteDesired>,
    pub(super) observed: SiteObserved,
    pub(super) context: Context,
    pub(super) now: WallMs,
}

impl SiteModel {
    /// The site as declared, converged.
    pub(super) fn converged(hierarchy: &HierarchyDesired, desired: &Arc<SiteDesired>) -> Self {
        let mut model = Self::empty(hierarchy, desired);
        for round in 1..=ROUNDS {
            let plan = model.plan();
            let recorded = recorded_after(
                Some(desired),
                &model.observed,
                &model.context,
                model.now,
                &plan,
            );
            model.context.recorded = Arc::new(recorded);
            if plan.is_empty() {
                return model;
            }
            model.carry_out(plan, round);
            model.now = WallMs(model.now.0 + 60_000);
        }
        panic!(
            "{} does not converge: {:#?}",
            desired.code,
            model.plan().steps
        );
    }

    pub(super) fn plan(&self) -> SitePlan {
        let policy = Policy::default();
        plan_site(
            Some(&self.desired),
            &self.observed,
            &self.context,
            self.now,
            &policy,
        )
    }

    fn empty(hierarchy: &HierarchyDesired, desired: &Arc<SiteDesired>) -> Self {
        let now = WallMs(1_000_000);
        let mut observed = SiteObserved::default();
        for (name, server) in &desired.servers {
            let seen = ServerObserved {
                contact: Contact::Heard,
                report: Some(Box::new(nothing_runs(name))),
                heard_at: Some(now),
                confirmed_lost: None,
                agent: (server.address, server.agent_port).into(),
                checked: None,
            };
            observed.servers.insert(name.clone(), seen);
        }
        let context = Context {
            site: desired.code.clone(),
            hierarchy: hierarchy.name.clone(),
            revision: "0".repeat(40).into(),
            dns: hierarchy.dns.clone(),
            recorded: Arc::new(SiteRecorded::default()),
            suspended: Vec::new(),
            drained: std::collections::BTreeMap::new(),
            manual: false,
            permits: Permits::all(),
            replaced: Default::default(),
            witness: Default::default(),
        };
        if let Some(dns) = &hierarchy.dns {
            for key in record_keys(Some(desired), &observed, &context) {
                let by = dns.servers.iter().map(|server| ServedBy {
                    server: *server,
                    at: now,
                    served: Some(Served::default()),
                    cause: None,
                });
                let record = RecordObserved {
                    servers: by.collect(),
                    contested: false,
                };
                observed.records.insert(key, record);
            }
        }
        Self {
            desired: Arc::clone(desired),
            observed,
            context,
            now,
        }
    }

    fn carry_out(&mut self, plan: SitePlan, round: u64) {
        let generation = Generation {
            epoch: epoch(),
            number: round,
        };
        for (server, assignment) in plan.assignments {
            let seen = self.observed.servers.get_mut(&server).expect("a server");
            let report = seen.report.as_mut().expect("every server reports");
            report.generation = Some(generation.clone());
            report.instances = assignment
                .instances
                .iter()
                .map(|(name, spec)| (name.clone(), Box::new(healthy(spec, self.now))))
                .collect();
            report.assigned = assignment.instances;
            let known = report.lease.take().and_then(|ledger| ledger.voters);
            let told = assignment.lease.as_deref();
            report.lease = told.map(|told| Box::new(ledger(&server, told, known)));
            report.assigned_lease = assignment.lease;
        }
        let mark = Mark {
            hierarchy: self.context.hierarchy.clone(),
            site: self.context.site.to_string(),
            term: 0,
            generation,
        };
        for (key, record) in plan.records {
            let seen = self.observed.records.get_mut(&key).expect("a read key");
            for by in &mut seen.servers {
                by.served = Some(Served {
                    mark: record.want.as_ref().map(|_| mark.to_string()),
                    set: record.want.clone(),
                });
            }
        }
    }
}

fn epoch() -> Epoch {
    Epoch {
        counter: 1,
        reconciler: "stead-1".to_owned(),
        start: "bench".to_owned(),
    }
}

fn nothing_runs(server: &ServerName) -> AgentReport {
    AgentReport {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        boot_id: "b".to_owned(),
        sequence: 1,
        highest_epoch: Some(epoch()),
        ..AgentReport::new(server.clone(), WallMs(1))
    }
}

/// What a voter says once it was told the lease: all that it was told has come to pass.
fn ledger(server: &ServerName, told: &LeaseSpec, known: Option<VotersReport>) -> LeaseReport {
    let founders = told.founders.clone().map(|in_force| VotersReport {
        number: 1,
        term: 0,
        in_force,
        pending: None,
    });
    let active = &told.declared.active;
    let voters = known.or(founders);
    LeaseReport {
        part: match &voters {
            None => LeasePart::Out,
            Some(_) if server == active => LeasePart::Holding,
            Some(_) => LeasePart::Following,
        },
        term: u64::from(voters.is_some()),
        holder: voters.is_some().then(|| active.clone()),
        ready: voters.is_some(),
        memory: MemoryReport {
            number: u64::from(voters.is_some()),
            declared: voters.is_some().then(|| active.clone()),
            ..MemoryReport::default()
        },
        voters,
        ..LeaseReport::new(1)
    }
}

fn healthy(spec: &InstanceSpec, since: WallMs) -> InstanceReport {
    InstanceReport {
        role: spec.role,
        spec: spec.id(),
        phase: Phase::Running,
        health: Health::Healthy,
        since,
        pid: Some(1),
        restarts: 0,
        endpoint: (spec.address, spec.port).into(),
        message: None,
    }
}
