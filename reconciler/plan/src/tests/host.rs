//! A machine of the model world, with its agent: what runs there, and what the reconciler hears of it.
//!
//! It does as it is told, unless a test says what breaks. It plans nothing.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use stead_schemas::generation::Generation;
use stead_schemas::names::{GroupName, ServerName};
use stead_schemas::observed::{Contact, ServerObserved};
use stead_schemas::plan::PlannedAssignment;
use stead_schemas::prerequisite::{Check, Checked};
use stead_schemas::time::{DurationMs, WallMs};
use stead_schemas::wire::{AgentReport, Health, InstanceReport, Phase, Program};

/// A machine with its agent.
#[derive(Clone)]
pub(super) struct Host {
    pub(super) contact: Contact,
    pub(super) report: Option<AgentReport>,
    pub(super) heard_at: Option<WallMs>,
    pub(super) confirmed_lost: bool,
    /// What the agent really runs, whether or not it is heard.
    pub(super) real: AgentReport,
    /// Groups whose instances never get healthy here.
    pub(super) broken: BTreeSet<GroupName>,
    /// A program that never gets healthy here.
    pub(super) will_break: Option<Program>,
    /// What its agent finds missing when asked.
    pub(super) lacks: Vec<Check>,
    pub(super) checked: Option<Box<Checked>>,
}

impl Host {
    pub(super) fn new(server: &ServerName) -> Self {
        Self {
            contact: Contact::Heard,
            report: None,
            heard_at: Some(WallMs(1)),
            confirmed_lost: false,
            real: AgentReport {
                version: "0.1.0".into(),
                boot_id: "b1".into(),
                sequence: 1,
                ..AgentReport::new(server.clone(), WallMs(1))
            },
            broken: BTreeSet::new(),
            will_break: None,
            lacks: Vec::new(),
            checked: None,
        }
    }

    /// A server that is declared and whose agent never joined.
    pub(super) fn never(server: &ServerName) -> Self {
        let since = WallMs(1);
        Self {
            contact: Contact::Silent {
                since,
                confirmed_for: DurationMs(0),
            },
            heard_at: None,
            ..Self::new(server)
        }
    }

    pub(super) fn observe(&self, now: WallMs) -> ServerObserved {
        let heard = self.contact == Contact::Heard;
        let last = self.heard_at.is_some().then(|| self.real.clone());
        ServerObserved {
            contact: self.contact,
            report: if heard {
                Some(Box::new(self.real.clone()))
            } else {
                self.report.clone().or(last).map(Box::new)
            },
            heard_at: if heard { Some(now) } else { self.heard_at },
            confirmed_lost: self.confirmed_lost.then_some(now),
            agent: "127.0.0.1:7443".parse().unwrap(),
            checked: self.checked.clone(),
        }
    }

    pub(super) fn assign(&mut self, assignment: PlannedAssignment, generation: Generation) {
        let instances = assignment.instances;
        assert_eq!(
            self.contact,
            Contact::Heard,
            "only who is heard can be told"
        );
        self.real
            .instances
            .retain(|group, _| instances.contains_key(group));
        for (group, spec) in &instances {
            if self.real.assigned.get(group) == Some(spec) {
                continue;
            }
            let report = InstanceReport {
                role: spec.role,
                spec: spec.id(),
                phase: Phase::Starting,
                health: Health::Unknown,
                since: WallMs(1),
                pid: Some(1),
                restarts: 0,
                endpoint: SocketAddr::new(spec.address, spec.port),
                message: None,
            };
            self.real.instances.insert(group.clone(), Box::new(report));
        }
        self.real.assigned = instances;
        self.real.assigned_lease = assignment.lease;
        self.real.generation = Some(generation);
        self.report = None;
    }

    pub(super) fn settle(&mut self) {
        for (group, instance) in &mut self.real.instances {
            let program = self.real.assigned.get(group).map(|spec| &spec.program);
            let bad = self.will_break.is_some() && program == self.will_break.as_ref();
            if bad || self.broken.contains(group) {
                instance.phase = Phase::BackOff;
                instance.health = Health::Unhealthy;
                instance.message = Some("exit status 1".into());
            } else {
                instance.phase = Phase::Running;
                instance.health = Health::Healthy;
                instance.message = None;
            }
        }
    }
}
