//! The moment all these tests look at: one site from YAML, planned and carried out by hand.
//!
//! `p01-f1` and `p01-f2` run what was planned for them and are in DNS; `p01-n` never joined; a
//! foreign record stands where the site's alias belongs. Plans are the planner's own.

use std::collections::BTreeMap;
use std::sync::Arc;

use stead_plan::{Context, Drain, Permits, Policy, plan_site, record_keys};
use stead_schemas::api::{Need, ReconcilerView, SourceView, WriterState};
use stead_schemas::declared::{SourceFile, check};
use stead_schemas::desired::{HierarchyDesired, SiteDesired};
use stead_schemas::lease::{LeasePart, LeaseReport, MemoryReport, VotersReport};
use stead_schemas::names::ServerName;
use stead_schemas::observed::{
    Contact, RecordObserved, Served, ServedBy, ServerObserved, SiteObserved, SiteRecorded,
};
use stead_schemas::plan::SitePlan;
use stead_schemas::record::{RecordKey, RecordSet};
use stead_schemas::role::Role;
use stead_schemas::time::{DurationMs, WallMs};
use stead_schemas::wire::{AgentReport, Health, InstanceReport, InstanceSpec, Phase};

use crate::api::{SiteSnapshot, Snapshot};

pub(crate) const COMMIT: &str = "77d0e1b alice 2026-11-23: two management points";
pub(crate) const REVISION: &str = "77d0e1b0000000000000000000000000000000aa";
pub(crate) const MESSAGE: &str = "exit status 17";
pub(crate) const MARK: &str = "v=1 h=contoso s=P01 t=0 g=1:stead-1:x.4";

pub(crate) const HIERARCHY: &str = "apiVersion: stead/v1
kind: Hierarchy
metadata: {name: contoso}
spec:
  reconcilers:
    stead-1: {address: 10.0.0.5, zone: hq}
  publishing:
    dns:
      domain: cm.example
      servers: [192.0.2.53]
      tsig: [{name: stead, algorithm: hmac-sha256, secret: tsig}]
      ttl: 30s
";

pub(crate) const SITE: &str = "apiVersion: stead/v1
kind: Site
metadata: {name: P01}
spec:
  type: primary
  servers:
    p01-a: {address: 10.1.0.11}
    p01-f1: {address: 10.1.0.21}
    p01-f2: {address: 10.1.0.22}
    p01-n: {address: 10.1.0.31}
  siteServer:
    active: p01-a
    service: &any {command: [/opt/any]}
  roles:
    smsProvider: {servers: [p01-a], port: 8441, service: *any}
    managementPoint: {servers: [p01-f1, p01-f2], service: *any}
    distributionPoint: {servers: [p01-n], service: *any}
";

pub(crate) const LEASED: &str = "apiVersion: stead/v1
kind: Site
metadata: {name: P01}
spec:
  type: primary
  servers:
    p01-a: {address: 10.1.0.11}
    p01-b: {address: 10.1.0.12}
    p01-w: {address: 10.1.0.13}
  siteServer:
    active: p01-a
    passive: [p01-b]
    witnesses: [p01-w]
  database: {engine: embedded, server: p01-w, port: 7450}
  contentLibrary: {url: \"s3://content/P01\"}
";

/// Where a text of the site's document begins, as a cause names it.
pub(crate) fn place_of(text: &str) -> String {
    let at = SITE.find(text).expect("it is in the document");
    let line = SITE[..at].matches('\n').count() + 1;
    let column = SITE[..at].rsplit('\n').next().unwrap_or_default().len() + 1;
    format!("sites/P01.yaml:{line}:{column}")
}

/// The moment, all agents but `p01-n` heard and healthy.
pub(crate) fn snapshot() -> Snapshot {
    let desired = declared(SITE);
    let site = Arc::clone(desired.sites.values().next().expect("one site"));
    let context = context(&desired);
    let mut observed = SiteObserved::default();
    for (name, server) in &site.servers {
        let agent = (server.address, server.agent_port).into();
        let seen = match name.as_str() {
            "p01-n" => unheard(agent),
            _ => heard(name, agent),
        };
        observed.servers.insert(name.clone(), seen);
    }
    let foreign: RecordKey = "p01.cm.example/A".parse().expect("a record");
    for key in record_keys(Some(&site), &observed, &context) {
        let set = (key == foreign).then(foreign_set);
        observed.records.insert(key, served(set, None));
    }
    for _ in 0..8 {
        let plan = planned(&site, &observed, &context);
        carry_out(&plan, &mut observed);
    }
    of(observed, site, context)
}

/// The same moment with something else observed, planned again.
pub(crate) fn changed(snapshot: &Snapshot, change: impl FnOnce(&mut SiteObserved)) -> Snapshot {
    let site = snapshot.sites.values().next().expect("one site");
    let mut observed = (*site.observed).clone();
    change(&mut observed);
    let desired = site.desired.clone().expect("declared");
    of(observed, desired, site.context.clone())
}

/// A drain that was asked for, and not planned with yet.
pub(crate) fn drain_asked(moment: &Snapshot, server: &str, ended: bool) -> Snapshot {
    let mut moment = moment.clone();
    let site = Arc::make_mut(moment.sites.values_mut().next().expect("one site"));
    let drain = Drain {
        by: "bob".to_owned(),
        why: "CHG-4711".to_owned(),
        at: WallMs(1_000),
        until: WallMs(4_500),
        ended,
    };
    site.context
        .drained
        .insert(server.parse().expect("a server"), drain);
    moment
}

/// The same, planned with.
pub(crate) fn drained(moment: &Snapshot, server: &str, ended: bool) -> Snapshot {
    changed(&drain_asked(moment, server, ended), |_| {})
}

/// An instance's report, to change it.
pub(crate) fn instance<'a>(
    observed: &'a mut SiteObserved,
    group: &str,
    server: &str,
) -> &'a mut InstanceReport {
    let server: ServerName = server.parse().expect("a server");
    let group = group.parse().expect("a group");
    let report = observed
        .servers
        .get_mut(&server)
        .and_then(|s| s.report.as_mut());
    report
        .and_then(|r| r.instances.get_mut(&group))
        .expect("it runs there")
}

/// A site whose lease p01-a holds under term 7, nothing of it planned yet; p01-b stands by, p01-w votes.
pub(crate) fn leased() -> Snapshot {
    let desired = declared(LEASED);
    let site = Arc::clone(desired.sites.values().next().expect("one site"));
    let mut observed = SiteObserved::default();
    for (name, server) in &site.servers {
        let agent = (server.address, server.agent_port).into();
        let mut seen = heard(name, agent);
        let report = seen.report.as_mut().expect("it is heard");
        report.lease = Some(Box::new(voter(name)));
        observed.servers.insert(name.clone(), seen);
    }
    of(observed, site, context(&desired))
}

/// What a voter of that site says.
fn voter(server: &ServerName) -> LeaseReport {
    let lives = ["p01-a", "p01-b", "p01-w"].into_iter().zip(1..);
    let lives: BTreeMap<ServerName, u64> = lives
        .map(|(name, life)| (name.parse().expect("a server"), life))
        .collect();
    let holds = server.as_str() == "p01-a";
    let holder: ServerName = "p01-a".parse().expect("a server");
    let life = lives[server];
    LeaseReport {
        part: if holds {
            LeasePart::Holding
        } else {
            LeasePart::Following
        },
        term: 7,
        ready: server.as_str() == "p01-b",
        memory: MemoryReport {
            lost: Default::default(),
            number: 1,
            declared: Some(holder.clone()),
            request: None,
            failovers: Vec::new(),
        },
        ready_voters: vec!["p01-b".parse().expect("a server")],
        holder: Some(holder),
        voters: Some(VotersReport {
            number: 1,
            term: 0,
            in_force: lives,
            pending: None,
        }),
        ..LeaseReport::new(life)
    }
}

fn declared(site: &str) -> HierarchyDesired {
    let files = [
        SourceFile::new("hierarchy.yaml", HIERARCHY),
        SourceFile::new("sites/P01.yaml", site),
    ];
    let checked = check(&files);
    let errors: Vec<String> = checked.errors().map(ToString::to_string).collect();
    checked.desired.unwrap_or_else(|| panic!("{errors:#?}"))
}

fn context(desired: &HierarchyDesired) -> Context {
    Context {
        site: "P01".parse().expect("a site code"),
        hierarchy: desired.name.clone(),
        revision: REVISION.into(),
        dns: desired.dns.clone(),
        recorded: Arc::new(SiteRecorded::default()),
        suspended: Vec::new(),
        drained: BTreeMap::default(),
        permits: Permits::all(),
        replaced: std::collections::BTreeSet::default(),
        manual: false,
        witness: BTreeMap::default(),
    }
}

fn planned(site: &SiteDesired, observed: &SiteObserved, context: &Context) -> SitePlan {
    plan_site(
        Some(site),
        observed,
        context,
        WallMs(5_000),
        &Policy::default(),
    )
}

fn of(observed: SiteObserved, desired: Arc<SiteDesired>, context: Context) -> Snapshot {
    let plan = planned(&desired, &observed, &context);
    let site = SiteSnapshot {
        site_type: desired.site_type,
        desired: Some(desired),
        observed: Arc::new(observed),
        context,
        plan: Some(Arc::new(plan)),
        revision: Some(REVISION.to_owned()),
        troubles: BTreeMap::new(),
        takeovers: BTreeMap::new(),
        failovers: 0,
        failure: None,
    };
    Snapshot {
        now: WallMs(5_000),
        reconciler: ReconcilerView {
            name: "stead-1".to_owned(),
            hierarchy: Some("contoso".to_owned()),
            version: "0.1.0".to_owned(),
            started_at: WallMs(1),
            writer: WriterState::Writing,
            epoch: None,
        },
        source: SourceView {
            url: "/srv/topology".to_owned(),
            reference: "main".to_owned(),
            head: Some(REVISION.to_owned()),
            in_force: Some(REVISION.to_owned()),
            fetched_at: Some(WallMs(2_500)),
            problem: None,
        },
        commit: Some(COMMIT.to_owned()),
        needs: vec![Need {
            about: String::new(),
            text: "the journal's disk is full".to_owned(),
            remedy: Some("make room below /var/lib/stead".to_owned()),
        }],
        suspensions: Vec::new(),
        ready: true,
        sites: BTreeMap::from([("P01".parse().expect("a site code"), Arc::new(site))]),
    }
}

fn unheard(agent: std::net::SocketAddr) -> ServerObserved {
    ServerObserved {
        contact: Contact::Silent {
            since: WallMs(1_000),
            confirmed_for: DurationMs(3_000),
        },
        report: None,
        heard_at: None,
        confirmed_lost: None,
        agent,
        checked: None,
    }
}

fn heard(server: &ServerName, agent: std::net::SocketAddr) -> ServerObserved {
    let report = AgentReport {
        version: "0.1.0".to_owned(),
        boot_id: "boot".to_owned(),
        wall: WallMs(4_000),
        sequence: 1,
        ..AgentReport::new(server.clone(), WallMs(1))
    };
    ServerObserved {
        contact: Contact::Heard,
        report: Some(Box::new(report)),
        heard_at: Some(WallMs(4_000)),
        confirmed_lost: None,
        agent,
        checked: None,
    }
}

pub(crate) fn served(set: Option<RecordSet>, mark: Option<&str>) -> RecordObserved {
    let by = ServedBy {
        server: "192.0.2.53:53".parse().expect("an address"),
        at: WallMs(4_000),
        served: Some(Served {
            set,
            mark: mark.map(str::to_owned),
        }),
        cause: None,
    };
    RecordObserved {
        servers: vec![by],
        contested: false,
    }
}

fn foreign_set() -> RecordSet {
    let text = r#"{"ttl_s":60,"values":[{"a":"203.0.113.9"}]}"#;
    serde_json::from_str(text).expect("a record set")
}

/// Agents do as they are told and are healthy at once; the DNS server serves what is written.
fn carry_out(plan: &SitePlan, observed: &mut SiteObserved) {
    for (server, assignment) in &plan.assignments {
        let seen = observed
            .servers
            .get_mut(server)
            .and_then(|seen| seen.report.as_mut());
        let report = seen.expect("only heard servers are sent anything");
        report.assigned.clone_from(&assignment.instances);
        report.instances = assignment
            .instances
            .iter()
            .map(|(group, spec)| (group.clone(), Box::new(running(spec))))
            .collect();
    }
    for (key, record) in &plan.records {
        let mark = record.want.as_ref().map(|_| MARK);
        observed
            .records
            .insert(key.clone(), served(record.want.clone(), mark));
    }
}

fn running(spec: &InstanceSpec) -> InstanceReport {
    InstanceReport {
        role: spec.role,
        spec: spec.id(),
        phase: Phase::Running,
        health: Health::Healthy,
        since: WallMs(3_000),
        pid: Some(4_711),
        restarts: 0,
        endpoint: (spec.address, spec.port).into(),
        message: None,
    }
}

#[test]
fn the_moment_is_as_described() {
    let snapshot = snapshot();
    let site = snapshot.sites.values().next().unwrap();
    let plan = site.plan.as_ref().unwrap();
    assert!(plan.steps.is_empty(), "{:#?}", plan.steps);
    let roles: Vec<Role> = site
        .observed
        .servers
        .values()
        .flat_map(|s| s.report.iter().flat_map(|r| r.instances.values()))
        .map(|i| i.role)
        .collect();
    use Role::{ManagementPoint, SiteServer, SmsProvider};
    assert_eq!(
        roles,
        [SiteServer, SmsProvider, ManagementPoint, ManagementPoint]
    );
}
