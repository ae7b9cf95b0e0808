//! The wire alone: one process that holds a watch stream to every emulated agent and keeps the last
//! report of each, with nothing of the reconciler behind it. What `watch` costs beyond this is the
//! reconciler's.

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

use super::fleet::{Fleet, Issuer, Place, raise_nofile};
use super::usage::{cpu_percent, cpu_time, ms_since, rss_kib};
use crate::harness::HIERARCHY;

/// The hidden subcommand: `FOLDER COUNT PORT`.
pub(super) const COMMAND: &str = "watch-wire";

const WINDOW: Duration = Duration::from_secs(20);
/// Handshakes under way at a time.
const OPENING: usize = 64;
/// A server that says nothing for this long is looked at (H8).
const SILENCE: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(60);

/// What one run of the watcher found.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Run {
    /// From the process's start until all had reported, seconds.
    pub(super) connected_s: f64,
    /// Processor time spent on connecting one agent, ms.
    pub(super) connect_cpu_ms: f64,
    /// Streams that broke or fell silent.
    pub(super) lost: usize,
    /// Growth of resident memory over the agents, KiB.
    pub(super) kib_an_agent: f64,
    /// Percent of a core.
    pub(super) cpu_percent: f64,
}

/// Starts a watcher of a fleet in a process of its own.
pub(super) fn watcher(fleet: &Fleet) -> Run {
    let output = Command::new(std::env::current_exe().expect("a program has a path"))
        .arg(COMMAND)
        .arg(fleet.ca())
        .args([fleet.agents.to_string(), fleet.port.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .expect("the watcher starts");
    assert!(output.status.success(), "the watcher failed");
    serde_json::from_slice(&output.stdout).expect("the watcher's figures")
}

/// The watcher's own process.
pub(super) fn run(args: &[&str]) -> ExitCode {
    let start = Instant::now();
    let [folder, count, port] = args else {
        eprintln!("{COMMAND} FOLDER COUNT PORT: started by the benches only");
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
    let connect_cpu_ms = cpu_time(std::process::id()).as_secs_f64() * 1_000.0 / count_of(count);
    std::thread::sleep(Duration::from_secs(2));
    let me = std::process::id();
    let run = Run {
        connected_s,
        connect_cpu_ms,
        cpu_percent: cpu_percent(&[me], WINDOW),
        kib_an_agent: (rss_kib(me) - before) / count_of(count),
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
}

async fn watch(place: Place, peer: &Peer, world: &World, opening: &Semaphore) {
    loop {
        let slot = opening.acquire().await.expect("never closed");
        let opened = peer.stream_lines("/v1/watch", SILENCE * 3, SILENCE).await;
        if let Ok(mut lines) = opened {
            let mut slot = Some(slot);
            while let Ok(Some(event)) = lines.next_json::<WatchEvent>().await {
                slot.take();
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

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn count_of(n: usize) -> f64 {
    n as f64
}
