//! `watch`: one process that watches 10,000 emulated agents (H25): memory an agent, processor time,
//! and how soon all are back after a restart.
//!
//! The watcher is a process of its own, started anew for each run, so that each run is a restart
//! and its memory is nothing but the watching.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use stead_schemas::names::{ServerName, SiteCode};
use stead_schemas::wire::{AgentReport, WatchEvent};
use stead_wire::peer::Peer;
use stead_wire::tls::ClientTls;
use tokio::sync::Semaphore;

use super::figure::Report;
use super::fleet::{Fleet, Issuer, Place, raise_nofile};
use super::usage::{cpu_percent, ms_since, rss_kib};
use crate::harness::HIERARCHY;

/// The hidden subcommand: `FOLDER COUNT PORT`.
pub(super) const OBSERVER: &str = "watch-agents";

const AGENTS: usize = 10_000;
const RUNS: usize = 3;
const WINDOW: Duration = Duration::from_secs(20);
/// Handshakes under way at a time.
const OPENING: usize = 64;
/// A server that says nothing for this long is looked at (H8).
const SILENCE: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(60);

/// What one run of the watcher found.
#[derive(Debug, Serialize, Deserialize)]
struct Run {
    connected_s: f64,
    lost: usize,
    kib_an_agent: f64,
    cpu_percent: f64,
    lines: usize,
}

pub(super) fn run() -> Report {
    let mut report = Report::new("watch");
    let fleet = Fleet::start(AGENTS);
    if fleet.agents < AGENTS {
        report.note(format!(
            "nofile allows {} agents in one process, not {AGENTS}",
            fleet.agents
        ));
    }
    let runs: Vec<Run> = (0..RUNS).map(|_| observer(&fleet)).collect();
    let all = |pick: fn(&Run) -> f64| runs.iter().map(pick).collect::<Vec<f64>>();
    report.plain("agents", "", vec![count(fleet.agents)]);
    report.budgeted("memory an agent", "KiB", 48.0, all(|r| r.kib_an_agent));
    report.budgeted("CPU", "% core", 30.0, all(|r| r.cpu_percent));
    report.budgeted(
        "all back after a restart",
        "s",
        10.0,
        all(|r| r.connected_s),
    );
    report.budgeted("agents lost meanwhile", "", 0.0, all(|r| count(r.lost)));
    report.plain("lines read in the CPU window", "", all(|r| count(r.lines)));
    report
}

fn observer(fleet: &Fleet) -> Run {
    let output = Command::new(std::env::current_exe().expect("a program has a path"))
        .arg(OBSERVER)
        .arg(fleet.ca())
        .args([fleet.agents.to_string(), fleet.port.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .expect("the watcher starts");
    assert!(output.status.success(), "the watcher failed");
    serde_json::from_slice(&output.stdout).expect("the watcher's figures")
}

/// The watcher's own process.
pub(super) fn observe(args: &[&str]) -> ExitCode {
    let start = Instant::now();
    let [folder, count, port] = args else {
        eprintln!("{OBSERVER} FOLDER COUNT PORT: started by the benches only");
        return ExitCode::FAILURE;
    };
    raise_nofile();
    let count: usize = count.parse().expect("a number");
    let port: u16 = port.parse().expect("a port");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let world = Arc::new(World::default());
    let identity = format!("stead://{HIERARCHY}/reconciler/stead-1");
    let identity = identity.parse().expect("an identity");
    let tls = ClientTls::new(&Issuer::of(Path::new(folder)).material(&identity))
        .expect("good certificates");
    let before = rss_kib(std::process::id());
    runtime.block_on(async {
        let opening = Arc::new(Semaphore::new(OPENING));
        for number in 0..count {
            let place = Place::new(number, port);
            let peer = Peer::new(place.address(), place.identity(), Arc::clone(&tls));
            let (world, opening) = (Arc::clone(&world), Arc::clone(&opening));
            tokio::spawn(async move { watch(place, &peer, &world, &opening).await });
        }
        while world.known.load(Ordering::Relaxed) < count && start.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let connected_s = ms_since(start) / 1_000.0;
    std::thread::sleep(Duration::from_secs(2));
    let lines = world.lines.load(Ordering::Relaxed);
    let me = std::process::id();
    let run = Run {
        connected_s,
        cpu_percent: cpu_percent(&[me], WINDOW),
        lines: world.lines.load(Ordering::Relaxed) - lines,
        kib_an_agent: (rss_kib(me) - before) / count_f(count),
        lost: world.lost.load(Ordering::Relaxed),
    };
    let text = serde_json::to_vec(&run).expect("figures are JSON");
    std::io::stdout().write_all(&text).expect("stdout");
    runtime.shutdown_background();
    ExitCode::SUCCESS
}

/// What is known of all sites.
#[derive(Debug, Default)]
struct World {
    sites: Mutex<BTreeMap<SiteCode, BTreeMap<ServerName, Box<AgentReport>>>>,
    known: AtomicUsize,
    lost: AtomicUsize,
    lines: AtomicUsize,
}

async fn watch(place: Place, peer: &Peer, world: &World, opening: &Semaphore) {
    loop {
        let slot = opening.acquire().await.expect("never closed");
        let opened = peer.stream_lines("/v1/watch", SILENCE * 3, SILENCE).await;
        if let Ok(mut lines) = opened {
            let mut slot = Some(slot);
            while let Ok(Some(event)) = lines.next_json::<WatchEvent>().await {
                slot.take();
                world.lines.fetch_add(1, Ordering::Relaxed);
                if let WatchEvent::Report(report) = event {
                    let mut sites = world.sites.lock().expect("nobody panics");
                    let site = sites.entry(place.site()).or_default();
                    if site.insert(place.server(), report).is_none() {
                        world.known.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        }
        world.lost.fetch_add(1, Ordering::Relaxed);
    }
}

fn count(n: usize) -> f64 {
    count_f(n)
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn count_f(n: usize) -> f64 {
    n as f64
}
