//! Health checks: one task an instance, a fresh connection or process a check.
//!
//! Until the first success it asks every 100 ms, so that a new instance is known to be well as
//! soon as it is; from then on every interval. `failures` in a row are unhealthy, one success is
//! healthy. An unhealthy instance is reported, not restarted: the reconciler decides.

use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use stead_schemas::wire::{Health, HealthCheck, Probe};
use stead_wire::local;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// Between checks before the first success.
const EAGER: Duration = Duration::from_millis(100);
/// No check is done more often, or allowed less time, whatever is declared.
const FLOOR: Duration = Duration::from_millis(20);

/// What the checks say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Healthy or not, or not known yet.
    pub(super) health: Health,
    /// The last failure, while there is one.
    pub(super) failure: Option<String>,
}

/// What a check asks.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// Where the instance serves.
    pub(super) endpoint: SocketAddr,
    /// Variables for commands.
    pub(super) env: Vec<(String, String)>,
    /// For http and https.
    pub(super) client: reqwest::Client,
    /// Where connections leave from.
    pub(super) from: Option<IpAddr>,
}

/// A running check; ends when it is dropped.
#[derive(Debug)]
pub(super) struct Watched {
    verdict: watch::Receiver<Verdict>,
    task: JoinHandle<()>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watched {
    /// Starts checking. Without a check, running is healthy.
    #[must_use]
    pub(super) fn start(check: Option<HealthCheck>, target: Target) -> Self {
        let health = match check {
            Some(_) => Health::Unknown,
            None => Health::Healthy,
        };
        let (sender, verdict) = watch::channel(Verdict {
            health,
            failure: None,
        });
        let task = tokio::spawn(async move {
            match check {
                Some(check) => go_on(&check, &target, &sender).await,
                // The channel stays open: no verdict is not a dead check.
                None => std::future::pending().await,
            }
        });
        Self { verdict, task }
    }

    /// The verdict now.
    #[must_use]
    pub(super) fn verdict(&self) -> Verdict {
        self.verdict.borrow().clone()
    }

    /// Waits for another verdict. Cancel safe.
    pub(super) async fn changed(&mut self) -> Verdict {
        if self.verdict.changed().await.is_err() {
            // Only when the task panicked; then nobody knows.
            std::future::pending::<()>().await;
        }
        self.verdict.borrow_and_update().clone()
    }
}

async fn go_on(check: &HealthCheck, target: &Target, sender: &watch::Sender<Verdict>) {
    let interval = check.interval.std().max(FLOOR);
    let started = Instant::now();
    // A new instance has as long to become well as a sick one to be called so.
    let patience = interval * u32::from(check.failures.max(1));
    let (mut ever, mut misses) = (false, 0_u16);
    loop {
        let begun = Instant::now();
        match probe(check, target).await {
            Ok(()) => {
                (ever, misses) = (true, 0);
                show(sender, Health::Healthy, None);
            }
            Err(failure) => {
                misses = misses.saturating_add(1);
                let over = if ever {
                    misses >= check.failures.max(1)
                } else {
                    started.elapsed() >= patience
                };
                let health = if over {
                    Health::Unhealthy
                } else {
                    sender.borrow().health
                };
                show(sender, health, Some(failure));
            }
        }
        let pause = if ever { interval } else { EAGER.min(interval) };
        sleep(pause.saturating_sub(begun.elapsed()).max(FLOOR)).await;
    }
}

fn show(sender: &watch::Sender<Verdict>, health: Health, failure: Option<String>) {
    sender.send_if_modified(|shown| {
        let next = Verdict { health, failure };
        let differs = *shown != next;
        *shown = next;
        differs
    });
}

/// Asks once.
async fn probe(check: &HealthCheck, target: &Target) -> Result<(), String> {
    let limit = check.timeout.std().max(FLOOR);
    let asked = async {
        match &check.probe {
            Probe::Command(command) => run(command, target).await,
            Probe::Http { path, port } => get("http", path, *port, target).await,
            Probe::Https { path, port } => get("https", path, *port, target).await,
            Probe::Tcp { port } => connect(at(*port, target), target.from).await,
        }
    };
    timeout(limit, asked)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {}", check.timeout)))
}

fn at(port: Option<u16>, target: &Target) -> SocketAddr {
    SocketAddr::new(
        target.endpoint.ip(),
        port.unwrap_or_else(|| target.endpoint.port()),
    )
}

async fn connect(addr: SocketAddr, from: Option<IpAddr>) -> Result<(), String> {
    local::connect(addr, from)
        .await
        .map(drop)
        .map_err(|error| format!("can't connect to {addr}: {error}"))
}

async fn get(scheme: &str, path: &str, port: Option<u16>, target: &Target) -> Result<(), String> {
    let slash = if path.starts_with('/') { "" } else { "/" };
    let url = format!("{scheme}://{}{slash}{path}", at(port, target));
    let answer = target
        .client
        .get(&url)
        .send()
        .await
        .map_err(|error| format!("{url}: {}", root_cause(&error)))?;
    let status = answer.status();
    if status.is_success() || status.is_redirection() {
        Ok(())
    } else {
        Err(format!("{url} answered {status}"))
    }
}

/// reqwest's own sentences repeat the URL; what is at the bottom says what happened.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}

async fn run(command: &[String], target: &Target) -> Result<(), String> {
    let Some((program, args)) = command.split_first() else {
        return Err("the check has no command".to_owned());
    };
    let mut child = Command::new(program)
        .args(args)
        .env_clear()
        .envs(target.env.iter().cloned())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("can't start {program}: {error}"))?;
    let mut group = Group(child.id());
    let status = child
        .wait()
        .await
        .map_err(|error| format!("can't wait for {program}: {error}"))?;
    group.0 = None;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{program} ended with {status}"))
    }
}

/// A running check's process group; killed with the check, before its leader is reaped.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        let pid = self.0.and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            // Gone already is fine.
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        }
    }
}
