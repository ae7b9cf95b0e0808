//! `stead run`: the daemon as a process: its settings, its log, its signals, its end.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use stead_schemas::declared::SourceFile;
use stead_schemas::declared::config::reconciler_config;
use stead_schemas::declared::settings::ReconcilerConfig;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::{CommandError, CommandResult, Outcome, chain};
use crate::daemon::Daemon;
use crate::output::Ui;

/// Larger files are no settings.
const CONFIG_MAX: u64 = 1024 * 1024;
/// Descriptors for everything but agents: store, git, listeners, DNS.
const OWN_DESCRIPTORS: u64 = 256;
/// Asked for where the system allows it: 10,000 agents, and calls beside their streams.
const DESCRIPTORS: u64 = 65_536;

/// Run the reconciler until it is told to stop
///
/// SIGTERM and SIGINT end it in order; SIGHUP reads its certificate again.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Its settings: a YAML document of kind ReconcilerConfig
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// How it writes its log to stderr; RUST_LOG says how much
    #[arg(long, value_enum, default_value_t = LogFormat::Human)]
    log: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people
    Human,
    /// A JSON object a line
    Json,
}

pub(super) fn run(ui: &Ui, args: &RunArgs) -> CommandResult {
    let config = read_config(&args.config)?;
    start_log(args.log);
    raise_descriptors();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(serve(ui, config))
}

async fn serve(ui: &Ui, config: ReconcilerConfig) -> CommandResult {
    let mut signals = Signals::new()?;
    let daemon = Daemon::start(config).await?;
    let addresses = daemon.addresses();
    tracing::info!(
        socket = %addresses.socket.display(),
        api = ?addresses.operators,
        metrics = ?addresses.metrics,
        webhook = ?addresses.webhook,
        "the reconciler runs"
    );
    while signals.next().await == Told::Reload {
        match daemon.reload() {
            Ok(()) => tracing::info!("certificate read again"),
            Err(error) => {
                tracing::error!(error = chain(&error), "the old certificate stays");
            }
        }
    }
    tracing::info!("told to stop");
    daemon.stop().await;
    ui.note("stopped");
    Ok(Outcome::Done)
}

fn read_config(path: &PathBuf) -> Result<ReconcilerConfig, CommandError> {
    let unreadable = |error: std::io::Error| {
        CommandError::failed(format!("can't read {}: {error}", path.display()))
    };
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > CONFIG_MAX {
        let text = format!("{} has {size} bytes: these are no settings", path.display());
        return Err(CommandError::failed(text));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let file = SourceFile::new(path.display().to_string(), bytes);
    let mut config = reconciler_config(&file).map_err(|problems| {
        let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
        CommandError::failed(texts.join("\n"))
            .hinted("`stead explain ReconcilerConfig` lists every setting")
    })?;
    let folder = path.parent().unwrap_or_else(|| path.as_ref());
    settle_paths(&mut config, folder);
    Ok(config)
}

/// Relative paths are meant from the settings' own folder, wherever the daemon was started.
fn settle_paths(config: &mut ReconcilerConfig, folder: &std::path::Path) {
    let spec = &mut config.spec;
    let paths = [
        Some(&mut spec.state_dir),
        spec.secrets_dir.as_mut(),
        Some(&mut spec.tls.ca),
        Some(&mut spec.tls.cert),
        Some(&mut spec.tls.key),
        spec.pki.as_mut().map(|pki| &mut pki.dir),
        spec.api.socket.as_mut(),
        spec.webhook.as_mut().map(|hook| &mut hook.secret_file),
        spec.git.token_file.as_mut(),
        spec.git.ca_file.as_mut(),
        spec.git.ssh_key_file.as_mut(),
        spec.git.known_hosts_file.as_mut(),
    ];
    for path in paths.into_iter().flatten() {
        if path.is_relative() {
            *path = folder.join(&*path);
        }
    }
}

fn start_log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // A log that is set up already (tests in one process) serves as well.
    let set = match format {
        LogFormat::Human => log.try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    drop(set);
}

/// Each agent takes one descriptor for its stream and at times one for a call (H25).
fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(DESCRIPTORS).min(DESCRIPTORS);
    let now = limit.current.unwrap_or(DESCRIPTORS);
    let wanted = Rlimit {
        current: Some(most),
        maximum: limit.maximum,
    };
    let have = if now < most && setrlimit(Resource::Nofile, wanted).is_ok() {
        most
    } else {
        now
    };
    let agents = have.saturating_sub(OWN_DESCRIPTORS) / 2;
    tracing::info!(
        descriptors = have,
        agents,
        "descriptors allow so many agents"
    );
}

/// What a signal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Reload,
    Stop,
}

struct Signals {
    hang_up: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Self, std::io::Error> {
        Ok(Self {
            hang_up: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.hang_up.recv() => Told::Reload,
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.terminate.recv() => Told::Stop,
        }
    }
}
