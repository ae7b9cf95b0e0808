//! What a reconciler would assign to the pair: the store on the witness, a site server on both
//! candidates, and the lease; then the founding.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use stead_schemas::generation::{Epoch, Generation};
use stead_schemas::lease::{DeclaredActive, LeaseSpec, LeaseTiming, VoterSpec};
use stead_schemas::names::{GroupName, IdentityKind};
use stead_schemas::role::Role;
use stead_schemas::time::DurationMs;
use stead_schemas::wire::{
    AgentReport, AssignRequest, Assignment, Health, HealthCheck, InstanceSpec, Probe, Program,
    StopRule,
};

use super::{CALL, HIERARCHY, PATIENCE, PORT, Pair, SERVERS};
use crate::hosts::Hosts;
use crate::processes::program;

const STORE_PORT: u16 = 7450;
/// The first of the instances beside a site server.
const BESIDE_PORT: u16 = 8080;

/// The lease with its default lengths; the hourly limit is off (H19).
pub(super) fn lease(hosts: &Hosts) -> LeaseSpec {
    let ranks = [Some(0), Some(1), None];
    let voters = SERVERS.iter().zip(ranks).map(|(server, rank)| {
        let voter = VoterSpec {
            kind: IdentityKind::Server,
            address: (hosts.address(server), 7443).into(),
            rank,
            incarnation: None,
        };
        (server.parse().expect("a name"), voter)
    });
    LeaseSpec {
        voters: voters.collect(),
        founders: None,
        declared: DeclaredActive {
            active: SERVERS[0].parse().expect("a name"),
            above: 0,
        },
        automatic: true,
        failback_after: None,
        failovers_per_hour: None,
        timing: LeaseTiming::default(),
        alias: None,
    }
}

impl Pair {
    /// Assigns to every server what it should run, and the lease as it is now.
    pub(super) fn assign_all(&mut self) {
        for server in SERVERS {
            self.assign(server);
        }
    }

    fn assign(&mut self, server: &str) {
        self.number += 1;
        let generation = Generation {
            epoch: Epoch {
                counter: 1,
                reconciler: "stead-1".to_owned(),
                start: "pair".to_owned(),
            },
            number: self.number,
        };
        let request = AssignRequest {
            assignment: Assignment {
                hierarchy: HIERARCHY.parse().expect("a name"),
                site: "P01".parse().expect("a site code"),
                server: server.parse().expect("a name"),
                generation: generation.clone(),
                revision: "0".repeat(40),
                instances: self.instances(server),
                lease: Some(Box::new(LeaseSpec {
                    alias: self.alias_job(server),
                    ..self.spec.clone()
                })),
            },
            based_on: self.generations.get(server).cloned(),
            secrets: self.alias_secrets(server),
        };
        let peer = self.peer(server);
        let end = Instant::now() + PATIENCE;
        loop {
            let call = peer.put_json::<_, AgentReport>("/v1/assignment", &request, CALL);
            match self.runtime.block_on(call) {
                Ok(_) => break,
                Err(error) => assert!(Instant::now() < end, "{error}\n{}", self.describe()),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.generations.insert(server.to_owned(), generation);
    }

    fn instances(&self, server: &str) -> BTreeMap<GroupName, Box<InstanceSpec>> {
        let store = format!("{}:{STORE_PORT}", self.hosts.address(SERVERS[2]));
        let settings = serde_json::json!({
            "site": "P01",
            "store": {"embedded": {"address": store}},
        });
        let (name, role, port, settings) = if server == SERVERS[2] {
            (
                "database",
                Role::Database,
                STORE_PORT,
                serde_json::Value::Null,
            )
        } else {
            ("siteServer", Role::SiteServer, PORT, settings)
        };
        let own = self.spec_of(server, role, Program::BuiltIn, port, settings);
        let mut instances = BTreeMap::from([(group(name), own)]);
        if server == SERVERS[0] {
            // Nothing that is measured shares memory with them.
            let command = vec![
                program("site-agent").display().to_string(),
                "role".to_owned(),
                "placeholder".to_owned(),
            ];
            for number in 0..self.with.instances {
                let command = Program::Command(command.clone());
                let port = BESIDE_PORT + number;
                let nothing = serde_json::Value::Null;
                let spec = self.spec_of(server, Role::Custom, command, port, nothing);
                instances.insert(group(&format!("beside-{number}")), spec);
            }
        }
        instances
    }

    fn spec_of(
        &self,
        server: &str,
        role: Role,
        program: Program,
        port: u16,
        settings: serde_json::Value,
    ) -> Box<InstanceSpec> {
        Box::new(InstanceSpec {
            role,
            program,
            env: BTreeMap::new(),
            health: Some(HealthCheck {
                probe: Probe::Http {
                    path: "/health".to_owned(),
                    port: None,
                },
                interval: DurationMs::seconds(5),
                timeout: DurationMs::seconds(2),
                failures: 3,
            }),
            stop: StopRule::default(),
            address: self.hosts.address(server).into(),
            port,
            settings,
        })
    }

    /// Waits for every voter's ledger and the store, and makes them founders.
    pub(super) fn found(&mut self) {
        let end = Instant::now() + PATIENCE;
        let mut founders = BTreeMap::new();
        while founders.len() < SERVERS.len() {
            assert!(Instant::now() < end, "{founders:?}\n{}", self.describe());
            for server in SERVERS {
                if let Some(lease) = self.lease(server).filter(|lease| lease.incarnation != 0) {
                    founders.insert(server.parse().expect("a name"), lease.incarnation);
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let store_is_well = |report: &AgentReport| {
            let mut instances = report.instances.values();
            instances.any(|instance| instance.health == Health::Healthy)
        };
        while !self.report(SERVERS[2]).as_ref().is_some_and(store_is_well) {
            assert!(Instant::now() < end, "no store\n{}", self.describe());
            std::thread::sleep(Duration::from_millis(20));
        }
        for (name, voter) in &mut self.spec.voters {
            voter.incarnation = founders.get(name).copied();
        }
        self.spec.founders = Some(founders);
        self.assign_all();
    }
}

fn group(name: &str) -> GroupName {
    GroupName::new(name).expect("a name")
}
