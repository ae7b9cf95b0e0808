//! Ending a lab: every process gone, every cgroup removed, in an order that lets programs say goodbye.
//!
//! Also clears up after a lab that could not end itself (killed, power cut): what it left is found by
//! the marks of its folder.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Signal, WaitOptions};

use super::folder::Folder;
use super::processes::{Process, cgroup_of, descendants, kill_all, marked, wait_gone};
use super::programs::{Cast, Programs};

/// How long the reconciler and the DNS server may take to end.
const QUICK: Duration = Duration::from_secs(3);
/// How long agents may take to stop their instances: a grace of 2 s in the example, and then some.
const AGENTS: Duration = Duration::from_secs(10);
/// How long killing may take.
const KILLING: Duration = Duration::from_secs(5);
/// Where version 2 cgroups are.
const CGROUPS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// The cgroup all agents keep theirs in.
const CGROUP_TOP: &str = "stead";

/// Ends all programs and whatever they started; how many processes there were, and what would not go.
pub(super) fn end_all(
    programs: &mut Programs,
    site_agent: &Path,
    folder: &Folder,
) -> (usize, BTreeSet<Process>) {
    let below = || descendants(std::process::id());
    let all = below();
    let killed = programs.killed_servers();
    let cgroups = cgroups_of(&all);
    for process in &all {
        process.signal(Signal::CONT);
    }
    end(programs, Signal::TERM, QUICK, |role| {
        matches!(role, Cast::Reconciler)
    });
    // Agents stop their instances on SIGINT, as on Ctrl-C in their own terminal.
    end(programs, Signal::INT, AGENTS, |role| {
        matches!(role, Cast::Agent(_))
    });
    end(programs, Signal::TERM, QUICK, |role| {
        matches!(role, Cast::Dns)
    });
    tidy_killed(&killed, site_agent, folder);
    let left = kill_all(below, reap, KILLING);
    remove_cgroups(&cgroups);
    (all.len(), left)
}

/// Clears up after an earlier lab in this folder that did not end itself.
pub(super) fn clear_leftovers(folder: &Folder) -> usize {
    let programs: BTreeSet<Process> = folder
        .read_state()
        .map(|state| state.processes.into_values().collect())
        .unwrap_or_default();
    let find = || {
        let mut found = marked(&folder.servers());
        found.extend(programs.iter().filter(|process| process.runs()));
        found
    };
    let found = find();
    let cgroups = cgroups_of(&found);
    drop(kill_all(find, || (), KILLING));
    remove_cgroups(&cgroups);
    drop(fs::remove_file(folder.control_socket()));
    drop(fs::remove_file(folder.api_socket()));
    found.len()
}

/// Reaps what ended, of all descendants; their statuses are of no interest any more.
pub(super) fn reap() {
    while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
}

/// The cgroups these processes are in.
pub(super) fn cgroups_of(processes: &BTreeSet<Process>) -> BTreeSet<String> {
    processes.iter().copied().filter_map(cgroup_of).collect()
}

/// Removes empty cgroups of agents and their folders; others are left alone.
pub(super) fn remove_cgroups(cgroups: &BTreeSet<String>) {
    let top = Path::new(CGROUP_TOP);
    let mut dirs: BTreeSet<PathBuf> = BTreeSet::new();
    for path in cgroups
        .iter()
        .map(Path::new)
        .filter(|path| path.starts_with(top))
    {
        dirs.extend(
            path.ancestors()
                .filter(|dir| dir.starts_with(top))
                .map(Path::to_owned),
        );
    }
    for mount in CGROUPS.map(Path::new) {
        // The deepest first; the kernel removes none that is in use.
        for dir in dirs.iter().rev() {
            drop(fs::remove_dir(mount.join(dir)));
        }
    }
}

/// Servers killed through the lab have no agent to clear up after itself: one is asked to do so now.
fn tidy_killed(servers: &[String], site_agent: &Path, folder: &Folder) {
    let mut ending = BTreeSet::new();
    for server in servers {
        let child = Command::new(site_agent)
            .arg("stop-all")
            .arg("--state")
            .arg(folder.agent_state(server))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        ending.extend(child.ok().and_then(|child| Process::of(child.id())));
    }
    wait_gone(&ending, reap, AGENTS);
}

fn end(programs: &mut Programs, signal: Signal, within: Duration, which: impl Fn(&Cast) -> bool) {
    let mut ending = BTreeSet::new();
    for program in programs
        .all
        .values_mut()
        .filter(|program| which(&program.role))
    {
        program.down = true;
        if let Some(process) = program.process {
            process.signal(signal);
            ending.insert(process);
        }
    }
    wait_gone(&ending, reap, within);
}
