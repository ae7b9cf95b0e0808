//! What runs on this machine, as far as instances are concerned: process trees and cgroups.
//!
//! Keeper and agent both need to know that a tree is gone, and killed means gone (H10). Nothing
//! here decides when to kill.

pub mod cgroup;
pub mod procfs;

use std::io;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use cgroup::Cgroup;

/// Sends a signal to one process; one that is gone already is fine.
///
/// # Errors
/// What the kernel says, other than that there is no such process.
pub fn signal(pid: u32, signal: Signal) -> io::Result<()> {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return Ok(());
    };
    match rustix::process::kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Takes the exit status of a child of ours, if it is one. Keepers are children of the agent that
/// started them, and of nobody who knows them after that agent's death. False while it lives.
pub fn reap(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return true;
    };
    let options = rustix::process::WaitOptions::NOHANG;
    // An error says that it is no child of ours.
    !matches!(rustix::process::waitpid(Some(pid), options), Ok(None))
}

/// Takes the exit status of every child that has ended. Only for a program's first moments after
/// it replaced itself, when all its children are keepers it does not know yet.
pub fn reap_all() {
    while let Ok(Some(_)) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {}
}

/// The processes left over from an instance whose keeper is gone: those in its cgroup, and those
/// that carry its mark.
#[must_use]
pub fn orphans(cgroup: Option<&Cgroup>, mark: &procfs::Mark) -> Vec<u32> {
    let mut found: Vec<u32> = procfs::marked(&mark.state)
        .into_iter()
        .filter(|one| one.mark.instance == mark.instance)
        .map(|one| one.pid)
        .collect();
    if let Some(cgroup) = cgroup {
        found.extend(cgroup.members());
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// Kills what [`orphans`] finds until it finds nothing, or the deadline passes.
///
/// # Errors
/// The processes that are still there.
pub fn kill_orphans(
    cgroup: Option<&Cgroup>,
    mark: &procfs::Mark,
    within: Duration,
) -> Result<(), Vec<u32>> {
    let end = Instant::now() + within;
    loop {
        let left = orphans(cgroup, mark);
        if left.is_empty() {
            if let Some(cgroup) = cgroup {
                cgroup.remove();
            }
            return Ok(());
        }
        if Instant::now() >= end {
            return Err(left);
        }
        if let Some(cgroup) = cgroup {
            cgroup.kill();
        }
        for pid in &left {
            // A process that may not be killed shows in the next round.
            drop(signal(*pid, Signal::KILL));
            reap(*pid);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
