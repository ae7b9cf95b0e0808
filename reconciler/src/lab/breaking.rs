//! What `stead lab kill`, `cut`, `freeze` and `heal` do, to a server or to the reconciler.
//!
//! A server is all that carries its agent's mark: agent, guard, keepers, instances. What is done to it
//! is done to its processes and packets, nothing is asked of them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use rustix::process::Signal;
use stead_schemas::names::ServerName;

use super::control::{Answer, Command, Request, Target};
use super::ending;
use super::processes::{Process, descendants, kill_all, marked};
use super::programs::Cast;
use super::scene::RECONCILER;
use super::stage::Stage;
use crate::commands::CommandError;

/// How long killing may take.
const KILLING: Duration = Duration::from_secs(5);

impl Stage {
    pub(super) fn carry_out(&mut self, request: &Request) -> Answer {
        let target = match &request.target {
            Target::Server(name) if name.as_str() == RECONCILER => &Target::Reconciler,
            target => target,
        };
        if self.programs.of(target).is_none() {
            return match target {
                Target::Server(server) => self.plug_in(request.command, server),
                Target::Reconciler => Err("the reconciler was not started yet".to_owned()),
            };
        }
        let answer = match request.command {
            Command::Cut => self.cut(target),
            Command::Freeze => Ok(self.freeze(target)),
            Command::Heal => self.heal(target),
            Command::Kill => self.kill(target),
        };
        self.write_state()
            .map_err(|_| "can't write lab.json".to_owned())?;
        answer
    }

    /// A server that git names by now and that has no machine yet.
    fn plug_in(&mut self, command: Command, server: &ServerName) -> Answer {
        let failed = |error: CommandError| error.text();
        if command == Command::Heal {
            self.scene.refresh(&self.folder).map_err(failed)?;
            let found = self.scene.servers().find(|found| found.name == *server);
            if let Some(found) = found {
                self.programs
                    .start(Cast::Agent(found), &self.scene, &self.folder)
                    .map_err(|error| error.to_string())?;
                self.write_state().map_err(failed)?;
                return Ok(format!("{server}: a new machine with its agent"));
            }
        }
        let names: Vec<String> = self.scene.servers().map(|s| s.name.to_string()).collect();
        Err(format!(
            "there is no server {server} in this lab: {}; the reconciler is {RECONCILER}",
            names.join(", ")
        ))
    }

    fn cut(&mut self, target: &Target) -> Answer {
        let address = self.address(target)?;
        self.cuts.cut(address)?;
        Ok(match target {
            Target::Server(_) => {
                format!(
                    "{target}: nothing gets to {address} or comes from it; what it runs goes on"
                )
            }
            Target::Reconciler => {
                format!("{target}: no server hears it ({address}); they go on without")
            }
        })
    }

    fn freeze(&mut self, target: &Target) -> String {
        // A second look: what was started by a process that the first one stopped.
        let mut frozen = BTreeSet::new();
        for _ in 0..2 {
            for process in self.processes(target) {
                process.signal(Signal::STOP);
                frozen.insert(process);
            }
        }
        format!("{target}: {} processes frozen", frozen.len())
    }

    fn kill(&mut self, target: &Target) -> Answer {
        let processes = self.processes(target);
        let is_server = matches!(target, Target::Server(_));
        if is_server {
            self.cgroups.extend(ending::cgroups_of(&processes));
        }
        if let Some(program) = self.programs.of(target) {
            program.down = true;
        }
        // All at once, as a power cut does: a guard that outlives its agent would release its lease.
        for process in &processes {
            process.signal(Signal::STOP);
        }
        let find = || {
            let mut found = match target {
                Target::Server(server) => marked(&self.folder.agent_state(server.as_str())),
                Target::Reconciler => BTreeSet::new(),
            };
            found.extend(processes.iter().filter(|process| process.runs()));
            found
        };
        // The program's own end is reaped later: its status must not be lost to another.
        let left = kill_all(find, || (), KILLING);
        if left.is_empty() {
            Ok(format!("{target}: {} processes killed", processes.len()))
        } else {
            Err(format!("{target}: {} processes would not die", left.len()))
        }
    }

    fn heal(&mut self, target: &Target) -> Answer {
        let mut done = Vec::new();
        if let Ok(address) = self.address(target)
            && self.cuts.is_cut(address)
        {
            self.cuts.join(address)?;
            done.push("joined again");
        }
        for process in self.processes(target) {
            process.signal(Signal::CONT);
        }
        self.programs.reap();
        let down = self
            .programs
            .of(target)
            .filter(|program| program.process.is_none())
            .map(|program| program.role.clone());
        if let Some(role) = down {
            self.programs
                .start(role, &self.scene, &self.folder)
                .map_err(|error| error.to_string())?;
            done.push(match target {
                Target::Server(_) => "its agent started",
                Target::Reconciler => "started",
            });
        }
        if done.is_empty() {
            done.push("goes on");
        }
        Ok(format!("{target}: {}", done.join(", ")))
    }

    fn address(&mut self, target: &Target) -> Result<IpAddr, String> {
        match self.programs.of(target).map(|program| &program.role) {
            Some(Cast::Agent(found)) => Ok(found.agent.ip()),
            Some(Cast::Reconciler) => self.scene.reconciler().ok_or_else(|| {
                format!("{RECONCILER} has no loopback address in hierarchy.yaml: it can't be cut")
            }),
            _ => Err(format!("there is no {target}")),
        }
    }

    /// The agent with its guard, keepers and instances; or the reconciler and what it started.
    fn processes(&mut self, target: &Target) -> BTreeSet<Process> {
        let program = self.programs.of(target).and_then(|program| program.process);
        let mut found = match target {
            Target::Server(server) => marked(&self.folder.agent_state(server.as_str())),
            Target::Reconciler => program.map_or_else(BTreeSet::new, |p| descendants(p.pid)),
        };
        found.extend(program);
        found
    }
}
