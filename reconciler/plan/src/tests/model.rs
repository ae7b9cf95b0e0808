//! A small world for tests: agents that do as they are told, DNS servers that serve, and time.
//!
//! [`Model::round`] is one pass: observe, plan, lint, carry out what is ready, let a moment pass.
//! Nothing here knows why a plan is as it is.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use stead_schemas::desired::{
    DnsDesired, GroupDesired, Place, Placement, ServerDesired, ServiceDesired, SiteDesired,
    SiteServerDesired,
};
use stead_schemas::generation::{Epoch, Generation};
use stead_schemas::names::{GroupName, ServerName, SiteCode};
use stead_schemas::observed::{
    Contact, RecordObserved, Served, ServedBy, SiteObserved, SiteRecorded, Withdrawn,
};
use stead_schemas::plan::{SitePlan, Step};
use stead_schemas::record::{Mark, RecordKey, RecordSet};
use stead_schemas::role::{Role, SiteType};
use stead_schemas::time::{DurationMs, DurationOrNever, WallMs};
use stead_schemas::wire::{Health, Program, StopRule};

use super::host::Host;
use super::voters::Voting;
use crate::{
    Context, Drain, Permits, Policy, Suspension, plan_site, recorded_after, served_instances,
};

/// The world of one site.
#[derive(Clone)]
pub(super) struct Model {
    pub(super) desired: Option<SiteDesired>,
    pub(super) code: SiteCode,
    pub(super) dns: Option<Arc<DnsDesired>>,
    pub(super) now: WallMs,
    pub(super) hosts: BTreeMap<ServerName, Host>,
    pub(super) records: BTreeMap<RecordKey, Served>,
    pub(super) recorded: SiteRecorded,
    pub(super) withdrawn: BTreeMap<(GroupName, ServerName), Withdrawn>,
    served: BTreeMap<(GroupName, ServerName), u32>,
    pub(super) suspended: Vec<Suspension>,
    pub(super) drained: BTreeMap<ServerName, Drain>,
    pub(super) permits: Permits,
    pub(super) suspect: bool,
    /// What the second DNS server serves, where it does not follow the first.
    pub(super) secondary_stuck: Option<BTreeMap<RecordKey, Served>>,
    generation: u64,
    pub(super) voting: Voting,
}

pub(super) fn name<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().unwrap()
}

pub(super) fn mk_place(line: u32) -> Place {
    Place {
        file: "sites/P01.yaml".into(),
        line,
        column: 5,
    }
}

/// A site without anything.
pub(super) fn mk_site(code: &str) -> SiteDesired {
    SiteDesired {
        code: name(code),
        site_type: SiteType::Secondary,
        parent: None,
        protect: false,
        only_observed: false,
        labels: BTreeMap::new(),
        servers: BTreeMap::new(),
        site_server: None,
        database: None,
        content_library: None,
        groups: BTreeMap::new(),
        place: mk_place(1),
    }
}

pub(super) trait SiteExt: Sized {
    /// Adds servers in a zone; the address comes from the order.
    fn servers(self, zone: &str, names: &[&str]) -> Self;
    fn by_hand(self, group: &str, role: Role, servers: &[&str]) -> Self;
    fn by_count(self, group: &str, role: Role, instances: u16) -> Self;
    fn site_server(self, active: &str, passive: &[&str]) -> Self;
    fn with(self, change: impl FnOnce(&mut Self)) -> Self {
        let mut site = self;
        change(&mut site);
        site
    }
}

impl SiteExt for SiteDesired {
    fn servers(mut self, zone: &str, names: &[&str]) -> Self {
        for server in names {
            let number = self.servers.len() + 11;
            let line = 10 + u32::try_from(number).unwrap();
            let desired = ServerDesired {
                address: format!("10.1.0.{number}").parse().unwrap(),
                agent_port: 7443,
                zone: Some(name(zone)),
                labels: BTreeMap::new(),
                was: None,
                protect: false,
                place: mk_place(line),
            };
            self.servers.insert(name(server), Box::new(desired));
        }
        self
    }

    fn by_hand(self, group: &str, role: Role, servers: &[&str]) -> Self {
        let servers = servers.iter().map(|server| name(server)).collect();
        with_group(self, group, role, Placement::ByHand(servers))
    }

    fn by_count(self, group: &str, role: Role, instances: u16) -> Self {
        let placement = Placement::ByCount {
            instances,
            among: BTreeMap::new(),
            spread_zones: true,
        };
        with_group(self, group, role, placement)
    }

    fn site_server(mut self, active: &str, passive: &[&str]) -> Self {
        self.site_server = Some(SiteServerDesired {
            active: name(active),
            passive: passive.iter().map(|server| name(server)).collect(),
            witnesses: Vec::new(),
            service: None,
            port: Role::SiteServer.rules().default_port,
            settings: serde_json::Value::Null,
            lease: None,
            place: mk_place(20),
        });
        self
    }
}

fn with_group(mut site: SiteDesired, group: &str, role: Role, placement: Placement) -> SiteDesired {
    let line = 29 + u32::try_from(site.groups.len()).unwrap();
    let desired = GroupDesired {
        name: name(group),
        role,
        placement,
        move_after: DurationOrNever::After(DurationMs::seconds(600)),
        publish: role.rules().publishes,
        port: role.rules().default_port,
        service: Some(mk_service("1")),
        settings: serde_json::Value::Null,
        drain_wait: DurationMs::seconds(30),
        protect: false,
        place: mk_place(line),
    };
    site.groups.insert(name(group), Box::new(desired));
    site
}

pub(super) fn mk_service(version: &str) -> ServiceDesired {
    ServiceDesired {
        program: Program::Command(vec!["/opt/role".into(), version.into()]),
        env: BTreeMap::new(),
        health: None,
        stop: StopRule::default(),
    }
}

pub(super) fn mk_dns() -> DnsDesired {
    DnsDesired {
        domain: name("cm.example"),
        servers: vec![
            "192.0.2.53:53".parse().unwrap(),
            "192.0.2.54:53".parse().unwrap(),
        ],
        tsig: Vec::new(),
        ttl: DurationMs::seconds(30),
        alias_ttl: DurationMs::seconds(5),
    }
}

impl Model {
    /// Every declared server has joined and runs nothing; DNS is empty.
    pub(super) fn new(desired: SiteDesired) -> Self {
        let mut model = Self {
            code: desired.code.clone(),
            desired: None,
            dns: Some(Arc::new(mk_dns())),
            now: WallMs(1_000_000),
            hosts: BTreeMap::new(),
            records: BTreeMap::new(),
            recorded: SiteRecorded::default(),
            withdrawn: BTreeMap::new(),
            served: BTreeMap::new(),
            suspended: Vec::new(),
            drained: BTreeMap::new(),
            permits: Permits::all(),
            suspect: false,
            secondary_stuck: None,
            generation: 0,
            voting: Voting::default(),
        };
        model.commit(desired);
        model
    }

    /// A new revision; its new servers join at once.
    pub(super) fn commit(&mut self, desired: SiteDesired) {
        for server in desired.servers.keys() {
            self.hosts
                .entry(server.clone())
                .or_insert_with(|| Host::new(server));
        }
        self.desired = Some(desired);
    }

    pub(super) fn change(&mut self, change: impl FnOnce(&mut SiteDesired)) {
        let mut desired = self.desired.clone().unwrap();
        change(&mut desired);
        self.commit(desired);
    }

    pub(super) fn host(&mut self, server: &str) -> &mut Host {
        self.hosts.get_mut(&name::<ServerName>(server)).unwrap()
    }

    /// The server stops answering, confirmed by others (H8).
    pub(super) fn silence(&mut self, server: &str) {
        let since = self.now;
        self.host(server).contact = Contact::Silent {
            since,
            confirmed_for: DurationMs(0),
        };
    }

    /// It is back, with all it ran.
    pub(super) fn heal(&mut self, server: &str) {
        self.host(server).contact = Contact::Heard;
    }

    pub(super) fn observe(&self) -> SiteObserved {
        let servers = self
            .hosts
            .iter()
            .map(|(name, host)| (name.clone(), host.observe(self.now)));
        let mut observed = SiteObserved {
            servers: servers.collect(),
            records: BTreeMap::new(),
            withdrawn: self.withdrawn.clone(),
            reconciler_suspect: self.suspect,
        };
        let keys = crate::record_keys(self.desired.as_ref(), &observed, &self.context());
        for key in keys.into_iter().chain(self.records.keys().cloned()) {
            let record = self.observe_record(&key);
            observed.records.insert(key, record);
        }
        observed
    }

    fn observe_record(&self, key: &RecordKey) -> RecordObserved {
        let served = self.records.get(key).cloned().unwrap_or_default();
        let dns = self.dns.as_ref().unwrap();
        let second = match &self.secondary_stuck {
            Some(stuck) => stuck.get(key).cloned().unwrap_or_default(),
            None => served.clone(),
        };
        let by = |(index, server): (usize, &SocketAddr)| ServedBy {
            server: *server,
            at: self.now,
            served: Some(if index == 0 {
                served.clone()
            } else {
                second.clone()
            }),
            cause: None,
        };
        RecordObserved {
            servers: dns.servers.iter().enumerate().map(by).collect(),
            contested: false,
        }
    }

    pub(super) fn context(&self) -> Context {
        Context {
            site: self.code.clone(),
            hierarchy: name("contoso"),
            revision: "77d0e1b".into(),
            dns: self.dns.clone(),
            recorded: Arc::new(self.recorded.clone()),
            suspended: self.suspended.clone(),
            drained: self.drained.clone(),
            permits: self.permits.clone(),
            replaced: self.voting.replaced.clone(),
            manual: self.voting.manual,
            witness: self.voting.witness.clone(),
        }
    }

    pub(super) fn plan(&self) -> SitePlan {
        self.plan_with(&self.context())
    }

    /// Plans and lints: no test plans otherwise.
    pub(super) fn plan_with(&self, context: &Context) -> SitePlan {
        let observed = self.observe();
        let policy = Policy::default();
        let plan = plan_site(self.desired.as_ref(), &observed, context, self.now, &policy);
        let notes = crate::lint(self.desired.as_ref(), &observed, context, &plan);
        assert!(
            notes.is_empty(),
            "{notes:#?}\n{}",
            crate::render::road(&plan)
        );
        plan
    }

    /// One pass; answers the plan it carried out.
    pub(super) fn round(&mut self) -> SitePlan {
        let plan = self.plan();
        self.remember(&plan);
        self.carry_out(&plan);
        let idle = plan.ready().next().is_none();
        let moment = self.now.plus(DurationMs::seconds(1));
        self.now = match plan.wake_at {
            Some(wake) if idle => wake.max(moment),
            _ => moment,
        };
        self.settle();
        plan
    }

    /// One pass whose plan is of no interest.
    pub(super) fn pass(&mut self) {
        drop(self.round());
    }

    /// Rounds until the plan is empty; panics where that takes longer than `limit`.
    pub(super) fn converge(&mut self, limit: usize) -> Vec<SitePlan> {
        let mut plans = Vec::new();
        loop {
            let plan = self.plan();
            if plan.is_empty() {
                self.remember(&plan);
                return plans;
            }
            assert!(
                plans.len() < limit,
                "no end in {limit}:\n{}",
                crate::render::road(&plan)
            );
            plans.push(self.round());
        }
    }

    /// The steps taken until nothing is left to do.
    pub(super) fn taken(&mut self, limit: usize) -> Vec<Step> {
        let plans = self.converge(limit);
        let ready = |plan: &SitePlan| plan.ready().cloned().collect::<Vec<_>>();
        plans.iter().flat_map(ready).collect()
    }

    pub(super) fn remember(&mut self, plan: &SitePlan) {
        let observed = self.observe();
        let desired = self.desired.as_ref();
        self.recorded = recorded_after(desired, &observed, &self.context(), self.now, plan);
    }

    pub(super) fn carry_out(&mut self, plan: &SitePlan) {
        self.generation += 1;
        let generation = mk_generation(self.generation);
        for (server, assignment) in &plan.assignments {
            let host = self.hosts.get_mut(server).unwrap();
            assert_eq!(
                assignment.based_on, host.real.generation,
                "compare and swap"
            );
            host.assign(assignment.clone(), generation.clone());
        }
        let mark = Mark {
            hierarchy: name("contoso"),
            site: self.code.to_string(),
            term: 0,
            generation,
        };
        for (key, record) in &plan.records {
            let before = self.records.get(key).cloned().unwrap_or_default();
            assert_eq!(record.expect_mark, before.mark, "compare and swap");
            self.write(key, record.want.clone(), &mark.to_string());
        }
        self.answer(plan);
        self.note_withdrawn();
    }

    pub(super) fn write(&mut self, key: &RecordKey, set: Option<RecordSet>, mark: &str) {
        match set {
            Some(set) => {
                let served = Served {
                    set: Some(set),
                    mark: Some(mark.to_owned()),
                };
                self.records.insert(key.clone(), served);
            }
            None => {
                self.records.remove(key);
            }
        }
    }

    fn note_withdrawn(&mut self) {
        let observed = self.observe();
        let served = served_instances(self.desired.as_ref(), &observed, &self.context());
        for (instance, ttl_s) in &self.served {
            if !served.contains_key(instance) {
                let left = Withdrawn {
                    since: self.now,
                    ttl_s: *ttl_s,
                };
                self.withdrawn.insert(instance.clone(), left);
            }
        }
        self.withdrawn
            .retain(|instance, _| !served.contains_key(instance));
        self.served = served;
    }

    /// A moment passes at the agents.
    fn settle(&mut self) {
        for host in self.hosts.values_mut() {
            host.settle();
            if let Contact::Silent { since, .. } = host.contact {
                host.contact = Contact::Silent {
                    since,
                    confirmed_for: self.now.since(since),
                };
            }
        }
        self.vote();
    }

    /// Whether a group has an instance that is well and that DNS hands out.
    pub(super) fn serves(&self, group: &str) -> bool {
        let group: GroupName = name(group);
        let served = served_instances(self.desired.as_ref(), &self.observe(), &self.context());
        served.keys().any(|(g, server)| {
            let instance = self.hosts[server].real.instances.get(&group);
            *g == group && instance.is_some_and(|i| i.health == Health::Healthy)
        })
    }

    /// Where instances of a group really are.
    pub(super) fn at(&self, group: &str) -> Vec<String> {
        let group: GroupName = name(group);
        self.hosts
            .iter()
            .filter(|(_, host)| host.real.instances.contains_key(&group))
            .map(|(server, _)| server.to_string())
            .collect()
    }

    /// What a key is served as, in words.
    pub(super) fn served_as(&self, key: &str) -> Vec<String> {
        let record = self.records.get(&name::<RecordKey>(key));
        let set = record.and_then(|record| record.set.as_ref());
        set.into_iter()
            .flat_map(|set| &set.values)
            .map(ToString::to_string)
            .collect()
    }
}

pub(super) fn mk_generation(number: u64) -> Generation {
    let epoch = Epoch {
        counter: 1,
        reconciler: "stead-1".into(),
        start: "s1".into(),
    };
    Generation { epoch, number }
}
