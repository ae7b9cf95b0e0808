//! The reconciler's own observation over emulated agents, in a process of its own: the daemon as
//! `stead run` starts it, asked what it knows instead of being looked at from outside.
//!
//! The process ends without saying goodbye, as a killed one would: the next run is the restart.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use stead::daemon::Daemon;
use stead_schemas::declared::SourceFile;
use stead_schemas::declared::config::reconciler_config;
use stead_schemas::declared::settings::ReconcilerConfig;
use stead_schemas::observed::Contact;

use super::fleet::raise_nofile;
use super::usage::{cpu_percent, ms_since, rss_kib};

/// The hidden subcommand: `CONFIG AGENTS`.
pub(super) const COMMAND: &str = "watch-agents";

const WINDOW: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(400);
/// After the last step, before the quiet is measured: reports are being saved.
const SETTLE: Duration = Duration::from_secs(8);

/// What one life of the reconciler found.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Life {
    /// From its start until every agent was heard, seconds.
    pub(super) all_heard_s: f64,
    /// From its start until nothing was left to do, seconds.
    pub(super) converged_s: f64,
    /// Most servers that were declared silent or cut off at one time.
    pub(super) declared_silent: usize,
    /// Growth of resident memory since before it started, over the agents, KiB.
    pub(super) kib_an_agent: f64,
    /// While nothing happens but heartbeats, percent of a core.
    pub(super) cpu_percent: f64,
}

/// Starts a reconciler over `agents` agents in a process of its own.
pub(super) fn life(config: &Path, agents: usize) -> Life {
    let output = Command::new(std::env::current_exe().expect("a program has a path"))
        .arg(COMMAND)
        .arg(config)
        .arg(agents.to_string())
        .stderr(Stdio::inherit())
        .output()
        .expect("the reconciler starts");
    assert!(output.status.success(), "the reconciler failed");
    serde_json::from_slice(&output.stdout).expect("the reconciler's figures")
}

/// The reconciler's process.
pub(super) fn run(args: &[&str]) -> ExitCode {
    let [config, agents] = args else {
        eprintln!("{COMMAND} CONFIG AGENTS: started by the benches only");
        return ExitCode::FAILURE;
    };
    raise_nofile();
    let agents: usize = agents.parse().expect("a number");
    let config = settings(Path::new(config));
    let me = std::process::id();
    let before = rss_kib(me);
    let start = Instant::now();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let daemon = runtime
        .block_on(Daemon::start(config))
        .expect("the reconciler starts");
    let mut silent = 0;
    let all_heard_s = until(&daemon, start, &mut silent, |seen| seen.heard == agents);
    let converged_s = until(&daemon, start, &mut silent, |seen| {
        seen.heard == agents && seen.busy == 0
    });
    std::thread::sleep(SETTLE);
    let cpu_percent = cpu_percent(&[me], WINDOW);
    let life = Life {
        all_heard_s,
        converged_s,
        declared_silent: silent.max(look(&daemon).silent),
        kib_an_agent: (rss_kib(me) - before) / f64::from(u32::try_from(agents).expect("few")),
        cpu_percent,
    };
    let text = serde_json::to_vec(&life).expect("figures are JSON");
    std::io::stdout().write_all(&text).expect("stdout");
    std::process::exit(0)
}

fn settings(path: &Path) -> ReconcilerConfig {
    let bytes = std::fs::read(path).expect("the settings");
    let file = SourceFile::new(path.display().to_string(), bytes);
    reconciler_config(&file).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

/// What the daemon knows at one moment.
#[derive(Debug, Default)]
struct Seen {
    heard: usize,
    silent: usize,
    /// Sites with steps left, or not planned yet.
    busy: usize,
}

fn look(daemon: &Daemon) -> Seen {
    let mut seen = Seen::default();
    for site in daemon.core().sites() {
        let world = site.world();
        for server in world.observed.servers.values() {
            match server.contact {
                Contact::Heard => seen.heard += 1,
                Contact::Silent { .. } | Contact::CutOff { .. } | Contact::Refused { .. } => {
                    seen.silent += 1;
                }
                Contact::Connecting | Contact::Unsure { .. } => {}
            }
        }
        seen.busy += usize::from(world.plan.as_ref().is_none_or(|plan| !plan.is_empty()));
    }
    seen
}

fn until(
    daemon: &Daemon,
    start: Instant,
    silent: &mut usize,
    reached: impl Fn(&Seen) -> bool,
) -> f64 {
    loop {
        let seen = look(daemon);
        *silent = seen.silent.max(*silent);
        if reached(&seen) {
            return ms_since(start) / 1_000.0;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "not within {PATIENCE:?}: {seen:?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}
