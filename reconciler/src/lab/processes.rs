//! Processes of the lab: started by it, found again by what they are, never by name.
//!
//! A process is its id and its start time together, so that an id used again is never mistaken for
//! it. What a server runs carries the agent's state folder in its environment; whatever else there
//! is, is a descendant of the lab, which is the reaper of orphans.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// The variable that agents set for keepers and instances.
const STATE_VAR: &str = "STEAD_STATE=";
/// Time between two looks at what is left.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// One process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Process {
    /// Its id.
    pub(super) pid: u32,
    /// When it started, in clock ticks since boot.
    pub(super) start: u64,
}

impl Process {
    /// The running process with this id.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let stat = Stat::of(pid)?;
        (!stat.ended).then_some(Self {
            pid,
            start: stat.start,
        })
    }

    /// This process.
    pub(super) fn own() -> Option<Self> {
        Self::of(std::process::id())
    }

    /// Whether it still runs.
    pub(super) fn runs(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Sends a signal to it and to nobody else; one that is gone needs none.
    pub(super) fn signal(self, signal: Signal) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let Some(Ok(fd)) = pid.map(|pid| pidfd_open(pid, PidfdFlags::empty())) else {
            return;
        };
        // Looked at once the descriptor is held: from here on it can't become another process.
        if self.runs() {
            // Not ours to signal any more, or gone: both are fine.
            let _ = pidfd_send_signal(fd, signal);
        }
    }
}

/// All processes below the one with this id.
pub(super) fn descendants(of: u32) -> BTreeSet<Process> {
    let mut children: BTreeMap<u32, Vec<Process>> = BTreeMap::new();
    for pid in all() {
        if let Some(stat) = Stat::of(pid).filter(|stat| !stat.ended) {
            let process = Process {
                pid,
                start: stat.start,
            };
            children.entry(stat.parent).or_default().push(process);
        }
    }
    let mut found = BTreeSet::new();
    let mut next = vec![of];
    while let Some(pid) = next.pop() {
        for child in children.get(&pid).into_iter().flatten() {
            if found.insert(*child) {
                next.push(child.pid);
            }
        }
    }
    found
}

/// All keepers and instances of agents whose state folder is `below` or lies below it.
pub(super) fn marked(below: &Path) -> BTreeSet<Process> {
    all()
        .filter(|pid| state_of(*pid).is_some_and(|state| state.starts_with(below)))
        .filter_map(Process::of)
        .collect()
}

/// The version 2 cgroup a process is in, as a path from the mount, without the first `/`.
pub(super) fn cgroup_of(process: Process) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{}/cgroup", process.pid)).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(path.to_owned()).filter(|path| !path.is_empty())
}

/// Kills what `find` finds until it finds nothing, within the time given; what is left then.
pub(super) fn kill_all(
    find: impl Fn() -> BTreeSet<Process>,
    reap: impl Fn(),
    within: Duration,
) -> BTreeSet<Process> {
    let end = Instant::now() + within;
    loop {
        let found = find();
        if found.is_empty() || Instant::now() >= end {
            return found;
        }
        for process in &found {
            process.signal(Signal::KILL);
        }
        std::thread::sleep(LOOK_EVERY);
        reap();
    }
}

/// Waits until none of these runs, or the time is over; whether none does.
pub(super) fn wait_gone(processes: &BTreeSet<Process>, reap: impl Fn(), within: Duration) -> bool {
    let end = Instant::now() + within;
    loop {
        reap();
        if processes.iter().all(|process| !process.runs()) {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

struct Stat {
    parent: u32,
    start: u64,
    ended: bool,
}

impl Stat {
    /// `/proc/PID/stat`; the name in it may hold anything, so it is read from the last `)` on.
    fn of(pid: u32) -> Option<Self> {
        let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
        let text = String::from_utf8_lossy(&text);
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            start: fields.get(19)?.parse().ok()?,
            ended: matches!(*fields.first()?, "Z" | "X"),
        })
    }
}

fn all() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn state_of(pid: u32) -> Option<PathBuf> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    environment
        .split(|byte| *byte == 0)
        .find_map(|variable| variable.strip_prefix(STATE_VAR.as_bytes()))
        .map(|path| PathBuf::from(String::from_utf8_lossy(path).into_owned()))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn sleeper(state: &str) -> std::process::Child {
        Command::new("sleep")
            .arg("1000")
            .env("STEAD_STATE", state)
            .stdin(Stdio::null())
            .spawn()
            .unwrap()
    }

    #[test]
    fn only_what_carries_the_folder_is_found_and_killed() {
        let mut ours = sleeper("/lab-test/one/servers/p01-a/state");
        let mut other = sleeper("/lab-test/one-more/servers/p01-a/state");
        let find = || marked(Path::new("/lab-test/one"));
        let end = Instant::now() + Duration::from_secs(10);
        while find().is_empty() && Instant::now() < end {
            std::thread::sleep(LOOK_EVERY);
        }
        assert_eq!(find().len(), 1);
        assert!(
            descendants(std::process::id())
                .iter()
                .any(|p| p.pid == ours.id())
        );
        assert!(kill_all(find, || (), Duration::from_secs(10)).is_empty());
        assert!(!ours.wait().unwrap().success());
        assert!(
            other.try_wait().unwrap().is_none(),
            "the other one was killed"
        );
        other.kill().unwrap();
        other.wait().unwrap();
    }

    #[test]
    fn an_id_used_again_is_another_process() {
        let mut child = sleeper("/lab-test/two/state");
        let process = Process::of(child.id()).unwrap();
        let imposter = Process {
            start: process.start + 1,
            ..process
        };
        imposter.signal(Signal::KILL);
        assert!(process.runs() && !imposter.runs());
        process.signal(Signal::KILL);
        child.wait().unwrap();
        assert!(!process.runs());
    }
}
