//! The lab's programs: started, started again when they end, told apart by their process.
//!
//! In place of an init system: what ends by itself or by a stray `kill -9` comes back; what the user
//! killed through the lab stays down until it is healed. Statuses are reaped here for all
//! descendants, as orphans become the lab's children.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{WaitOptions, WaitStatus};

use stead_schemas::desired::TsigAlgorithm;

use super::control::Target;
use super::folder::Folder;
use super::processes::Process;
use super::scene::{LabServer, Scene};

/// A program that ends sooner than this is not started again at once.
const QUICK: Duration = Duration::from_secs(2);
/// Pause before the next start of one that ended quickly, doubled with each such end.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// One program the lab keeps.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) role: Cast,
    pub(super) process: Option<Process>,
    /// Killed on purpose: not started again.
    pub(super) down: bool,
    started: Instant,
    /// Quick ends in a row.
    quick: u32,
    start_at: Option<Instant>,
}

/// Which program it is.
#[derive(Debug, Clone)]
pub(super) enum Cast {
    Agent(LabServer),
    Dns,
    Reconciler,
}

/// All programs, by name.
#[derive(Debug, Default)]
pub(super) struct Programs {
    pub(super) all: BTreeMap<String, Program>,
}

impl Cast {
    /// Its name in `lab.json`, in messages and of its log.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Agent(server) => format!("site-agent {}", server.name),
            Self::Dns => "stead dns".to_owned(),
            Self::Reconciler => "stead run".to_owned(),
        }
    }

    fn command(&self, scene: &Scene, folder: &Folder) -> Command {
        match self {
            Self::Agent(server) => {
                let settings = folder.server(server.name.as_str()).join("agent.yaml");
                let mut command = Command::new(&scene.site_agent);
                command.arg("run").arg("--config").arg(settings);
                command
            }
            Self::Dns => dns_command(scene, folder),
            Self::Reconciler => {
                let settings = folder.reconciler().join("stead.yaml");
                let mut command = Command::new(&scene.stead);
                command.arg("run").arg("--config").arg(settings);
                command
            }
        }
    }
}

fn dns_command(scene: &Scene, folder: &Folder) -> Command {
    let zone = scene.domain().unwrap_or("lab.example");
    let mut command = Command::new(&scene.stead);
    command
        .arg("dns")
        .arg("--listen")
        .arg(scene.network.dns().to_string())
        .arg("--zone")
        .arg(zone)
        .arg("--dir")
        .arg(folder.dns());
    for key in scene.keys(folder) {
        let text = format!(
            "{}:{}:{}",
            key.name,
            algorithm(key.algorithm),
            key.file.display()
        );
        match key.alias {
            None => command.arg("--key").arg(text),
            Some(alias) => command.arg("--site-key").arg(format!("{text}:{alias}")),
        };
    }
    command
}

const fn algorithm(of: TsigAlgorithm) -> &'static str {
    match of {
        TsigAlgorithm::HmacSha256 => "hmac-sha256",
        TsigAlgorithm::HmacSha384 => "hmac-sha384",
        TsigAlgorithm::HmacSha512 => "hmac-sha512",
    }
}

impl Program {
    /// When it is started again after it ended; a line about it, unless that was told often enough.
    fn come_back(&mut self, name: &str, how: &str) -> Option<String> {
        self.quick = if self.started.elapsed() < QUICK {
            self.quick + 1
        } else {
            0
        };
        let pause = match self.quick {
            0 => Duration::ZERO,
            quick => PAUSE_MAX.min(PAUSE * 2_u32.pow(quick.min(10) - 1)),
        };
        self.start_at = Some(Instant::now() + pause);
        match self.quick {
            0..=2 => Some(format!("{name} ended ({how}); it is started again")),
            3 => Some(format!("{name} keeps ending ({how}): see its log")),
            _ => None,
        }
    }
}

impl Programs {
    /// Starts a program for the first time, or again.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn start(&mut self, role: Cast, scene: &Scene, folder: &Folder) -> io::Result<()> {
        let name = role.name();
        let log = folder.log(&name);
        if let Some(dir) = log.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        let child = role
            .command(scene, folder)
            .current_dir(folder.root())
            .env_remove("STEAD_API")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C is for the lab alone; it ends the others in their order.
            .process_group(0)
            .spawn()?;
        let quick = self.all.get(&name).map_or(0, |before| before.quick);
        let program = Program {
            role,
            quick,
            process: Process::of(child.id()),
            down: false,
            started: Instant::now(),
            start_at: None,
        };
        self.all.insert(name, program);
        Ok(())
    }

    /// Takes note of everything that ended; a line for each program that did so unasked.
    pub(super) fn reap(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let pid = pid.as_raw_nonzero().get().unsigned_abs();
            let ended = self
                .all
                .iter_mut()
                .find(|(_, program)| program.process.is_some_and(|process| process.pid == pid));
            if let Some((name, program)) = ended {
                program.process = None;
                if !program.down {
                    lines.extend(program.come_back(name, &how(status)));
                }
            }
        }
        // One that ended before its start time could be read.
        for program in self.all.values_mut() {
            if program.process.is_none() && !program.down && program.start_at.is_none() {
                program.start_at = Some(Instant::now() + PAUSE_MAX);
            }
        }
        lines
    }

    /// Starts again what is due.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn start_due(&mut self, scene: &Scene, folder: &Folder) -> io::Result<bool> {
        let now = Instant::now();
        let due: Vec<Cast> = self
            .all
            .values()
            .filter(|program| !program.down && program.start_at.is_some_and(|at| at <= now))
            .map(|program| program.role.clone())
            .collect();
        for role in &due {
            self.start(role.clone(), scene, folder)?;
        }
        Ok(!due.is_empty())
    }

    /// The program that a request is about: a server's agent, or the reconciler.
    pub(super) fn of(&mut self, target: &Target) -> Option<&mut Program> {
        match target {
            Target::Server(server) => self.all.get_mut(&format!("site-agent {server}")),
            Target::Reconciler => self.all.get_mut(&Cast::Reconciler.name()),
        }
    }

    /// Servers whose agents are down on purpose.
    pub(super) fn killed_servers(&self) -> Vec<String> {
        self.all
            .values()
            .filter(|program| program.down)
            .filter_map(|program| match &program.role {
                Cast::Agent(server) => Some(server.name.to_string()),
                Cast::Dns | Cast::Reconciler => None,
            })
            .collect()
    }

    /// The processes that run, by name.
    pub(super) fn running(&self) -> BTreeMap<String, Process> {
        self.all
            .iter()
            .filter_map(|(name, program)| Some((name.clone(), program.process?)))
            .collect()
    }
}

fn how(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no status".to_owned(),
    }
}
