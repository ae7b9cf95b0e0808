//! `footprint`: what an agent with five instances and a reconciler with 100 agents cost while
//! nothing happens (H24).
//!
//! The agent is a real one with its keepers, told by a real reconciler's certificate what to run,
//! and watched as a reconciler watches; its instances are not counted. The active is one of a pair, with its
//! guard; its program is a file of its own, so that no other host's processes take a share of its memory.
//! The reconciler is a real one over 100 emulated agents.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stead_schemas::declared::settings::TlsFiles;
use stead_schemas::generation::{Epoch, Generation};
use stead_schemas::lease::LeasePart;
use stead_schemas::names::GroupName;
use stead_schemas::role::Role;
use stead_schemas::time::DurationMs;
use stead_schemas::wire::{
    AGENT_PORT, AgentReport, AssignRequest, Assignment, Health, HealthCheck, InstanceSpec, Probe,
    Program, StopRule, WatchEvent,
};
use stead_wire::material::Material;
use stead_wire::peer::Peer;
use stead_wire::tls::ClientTls;

use super::build;
use super::figure::Report;
use super::fleet::{Fleet, Place};
use super::usage::{cpu_percent, pss_kib, rss_kib};
use crate::harness::{HIERARCHY, Harness};
use crate::hosts::enter;
use crate::pair::Pair;
use crate::processes::{command_line, descendants, wait_until};

const INSTANCES: u16 = 5;
const AGENTS: usize = 100;
const WINDOW: Duration = Duration::from_secs(60);
const RUNS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(60);
const SERVER: &str = "p01-a";

pub(super) fn run() -> Report {
    build::programs();
    let mut report = Report::new("footprint");
    agent(&mut report);
    // The pair moves the thread that has it onto a host of its own, for good.
    std::thread::scope(|threads| threads.spawn(|| active(&mut report)).join())
        .expect("the active was measured");
    reconciler(&mut report);
    report
}

fn agent(report: &mut Report) {
    let mut harness = Harness::new();
    harness.start_agent(SERVER, 11);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let peer = Arc::new(peer(&harness));
    runtime.block_on(assign(&peer, &harness));
    let watching = std::thread::spawn({
        let peer = Arc::clone(&peer);
        move || runtime.block_on(watch_for(&peer, WINDOW * u32::try_from(RUNS).expect("few")))
    });
    let agent = harness.agent_pid(SERVER).expect("it runs");
    let keepers: Vec<u32> = descendants()
        .into_iter()
        .filter(|pid| command_line(*pid).contains(" keep "))
        .collect();
    report.plain(
        "keepers",
        "",
        vec![u32::try_from(keepers.len()).expect("few").into()],
    );
    let mut counted = keepers.clone();
    counted.push(agent);
    let (mut memory, mut cpu) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        cpu.push(cpu_percent(&counted, WINDOW));
        let kept: f64 = keepers.iter().map(|pid| pss_kib(*pid)).sum();
        memory.push((rss_kib(agent) + kept) / 1_024.0);
    }
    report.budgeted(
        "agent + keepers, five instances: memory",
        "MiB",
        20.0,
        memory,
    );
    report.budgeted("agent + keepers, five instances: CPU", "% core", 0.2, cpu);
    report.plain("agent alone: RSS", "MiB", vec![rss_kib(agent) / 1_024.0]);
    drop(harness);
    watching.join().expect("the watch runs to its end");
}

/// The active of a site with a lease: agent, guard and keepers, five instances with the site server.
fn active(report: &mut Report) {
    let pair = Pair::start_beside(INSTANCES - 1);
    let [agent, guard] = [pair.agent(SERVER), pair.guard(SERVER)].map(|pid| pid.expect("it runs"));
    let keepers = pair.keepers(SERVER);
    assert_eq!(
        keepers.len(),
        usize::from(INSTANCES),
        "a keeper an instance"
    );
    let counted = [&[agent, guard], keepers.as_slice()].concat();
    let term = pair.lease(SERVER).expect("a report").term;
    let peer = pair.peer(SERVER);
    let namespace = pair.hosts.namespace_file("observer");
    let watching = std::thread::spawn(move || {
        enter(&namespace);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(watch_for(&peer, WINDOW * u32::try_from(RUNS).expect("few")));
    });
    let (mut memory, mut cpu) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        cpu.push(cpu_percent(&counted, WINDOW));
        memory.push(counted.iter().map(|pid| pss_kib(*pid)).sum::<f64>() / 1_024.0);
    }
    let lease = pair.lease(SERVER).expect("a report");
    assert!(
        lease.part == LeasePart::Holding && lease.term == term,
        "it held the lease all the time: {lease:#?}"
    );
    report.budgeted("active: agent, guard, keepers: memory", "MiB", 20.0, memory);
    report.budgeted("active: agent, guard, keepers: CPU", "% core", 0.4, cpu);
    report.plain(
        "active: agent alone: RSS",
        "MiB",
        vec![rss_kib(agent) / 1_024.0],
    );
    report.plain(
        "active: guard alone: RSS",
        "MiB",
        vec![rss_kib(guard) / 1_024.0],
    );
    report.note(
        "active: memory is PSS (H24); its site server shares the program's pages, other instances don't",
    );
    watching.join().expect("the watch runs to its end");
}

fn peer(harness: &Harness) -> Peer {
    let out = harness.path("pki/out");
    let files = TlsFiles {
        ca: out.join("ca.crt"),
        cert: out.join("reconciler-stead-1.crt"),
        key: out.join("reconciler-stead-1.key"),
    };
    let material = Material::load(&files).expect("the reconciler's certificate");
    let identity = format!("stead://{HIERARCHY}/server/{SERVER}");
    Peer::new(
        (harness.address(11), AGENT_PORT).into(),
        identity.parse().expect("an identity"),
        ClientTls::new(&material).expect("good certificates"),
    )
}

/// Five distribution points, checked every 5 s, and waits until they are healthy.
async fn assign(peer: &Peer, harness: &Harness) {
    let limit = Duration::from_secs(5);
    let end = Instant::now() + PATIENCE;
    let healthy = |report: &AgentReport| {
        let well = report.instances.values();
        well.filter(|i| i.health == Health::Healthy).count() == usize::from(INSTANCES)
    };
    while peer
        .get_json::<AgentReport>("/v1/state", limit)
        .await
        .is_err()
    {
        assert!(
            Instant::now() < end,
            "no agent answers\n{}",
            harness.describe()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let request = assignment(harness);
    peer.put_json::<_, serde_json::Value>("/v1/assignment", &request, limit)
        .await
        .unwrap_or_else(|error| panic!("the assignment is taken: {error:?}"));
    loop {
        let report: AgentReport = peer.get_json("/v1/state", limit).await.expect("a report");
        if healthy(&report) {
            return;
        }
        assert!(Instant::now() < end, "five healthy instances: {report:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn assignment(harness: &Harness) -> AssignRequest {
    let instances = (0..INSTANCES).map(|number| {
        let name = GroupName::new(format!("content-{number}")).expect("a name");
        (name, Box::new(spec(harness, 8_080 + number)))
    });
    AssignRequest {
        assignment: Assignment {
            lease: None,
            hierarchy: HIERARCHY.parse().expect("a name"),
            site: "P01".parse().expect("a site code"),
            server: SERVER.parse().expect("a name"),
            generation: Generation {
                epoch: Epoch {
                    counter: 1,
                    reconciler: "stead-1".to_owned(),
                    start: "bench".to_owned(),
                },
                number: 1,
            },
            revision: "0".repeat(40),
            instances: instances.collect(),
        },
        based_on: None,
        secrets: BTreeMap::new(),
    }
}

fn spec(harness: &Harness, port: u16) -> InstanceSpec {
    InstanceSpec {
        role: Role::DistributionPoint,
        program: Program::BuiltIn,
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
        address: harness.address(11).into(),
        port,
        settings: serde_json::Value::Null,
    }
}

async fn watch_for(peer: &Peer, time: Duration) {
    let end = Instant::now() + time;
    let limit = Duration::from_secs(5);
    let Ok(mut lines) = peer.stream_lines("/v1/watch", limit, limit).await else {
        return;
    };
    while Instant::now() < end {
        if !matches!(lines.next_json::<WatchEvent>().await, Ok(Some(_))) {
            return;
        }
    }
}

fn reconciler(report: &mut Report) {
    let mut harness = Harness::new();
    let fleet = Fleet::of_ca(AGENTS, &harness.path("pki"));
    harness.commit(
        "a hundred servers",
        &[
            (
                "hierarchy.yaml",
                &harness.hierarchy_yaml("{maxSitesAtOnce: 5, maxRemovals: 10, maxFailedSites: 1}"),
            ),
            ("P01.yaml", &hundred_servers(&fleet)),
        ],
    );
    harness.start_reconciler();
    wait_until(
        "all distribution points are known to be healthy",
        PATIENCE,
        || healthy_in_status(&harness) >= AGENTS,
        || harness.describe(),
    );
    std::thread::sleep(Duration::from_secs(5));
    let pid = harness.reconciler_pid().expect("it runs");
    let (mut memory, mut cpu) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        cpu.push(cpu_percent(&[pid], WINDOW));
        memory.push(rss_kib(pid) / 1_024.0);
    }
    report.budgeted("reconciler, 100 agents: memory", "MiB", 60.0, memory);
    report.budgeted("reconciler, 100 agents: CPU", "% core", 1.0, cpu);
}

fn healthy_in_status(harness: &Harness) -> usize {
    let (_, out, _) = harness.stead(&["list", "roles", "-o", "json"]);
    out.matches("\"healthy\"").count()
}

fn hundred_servers(fleet: &Fleet) -> String {
    let mut site = String::from(
        "apiVersion: stead/v1\nkind: Site\nmetadata: {name: P01}\nspec:\n  type: primary\n  servers:\n",
    );
    let mut names = Vec::new();
    for number in 0..fleet.agents {
        let place = Place::new(number, fleet.port);
        names.push(place.server().to_string());
        let _ = writeln!(
            site,
            "    {}: {{address: {}, agentPort: {}, zone: hq/room-{}}}",
            place.server(),
            place.address().ip(),
            fleet.port,
            number % 3
        );
    }
    let _ = write!(
        site,
        "  siteServer: {{active: {}}}\n  roles:\n    distributionPoint: {{servers: [{}], port: 8080}}\n",
        names[0],
        names.join(", ")
    );
    site
}
