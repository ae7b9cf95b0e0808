//! Real processes of a test: started in its own process tree, all gone when it ends.
//!
//! The test process makes itself the subreaper, so that keepers and instances whose agent was
//! killed are found by descent and by nothing else: no process is ever chosen by name.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Makes this process inherit every orphan below it.
///
/// # Panics
/// When the kernel refuses; the test could not clean up after itself then.
pub fn become_subreaper() {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .expect("the kernel lets a process adopt its orphans");
}

/// A program of this workspace, built by the same cargo run.
///
/// # Panics
/// When it has not been built.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let mut folder = std::env::current_exe().expect("a test has a path");
    folder.pop();
    if folder.ends_with("deps") {
        folder.pop();
    }
    let path = folder.join(name);
    assert!(
        path.exists(),
        "{} is missing: cargo build --workspace --bins",
        path.display()
    );
    path
}

/// Starts a program with its output in a file.
///
/// # Panics
/// When it does not start.
#[must_use]
pub fn start(command: &mut Command, log: &PathBuf) -> Child {
    let out = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .expect("a log file");
    let err = out.try_clone().expect("a log file");
    command
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"))
}

/// Sends a signal; a process that is gone is no error.
pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        kill_process(pid, signal).ok();
    }
}

/// Every process below this one, nearest first.
#[must_use]
pub fn descendants() -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        if let Some(parent) = parent_of(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut next = vec![std::process::id()];
    while let Some(pid) = next.pop() {
        for child in children.get(&pid).into_iter().flatten() {
            found.push(*child);
            next.push(*child);
        }
    }
    found
}

/// Whether a process has ended and only its status is left, for its parent to take.
#[must_use]
pub fn has_ended(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
    state.is_none_or(|rest| rest.starts_with(['Z', 'X']))
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// The command line of a process.
#[must_use]
pub fn command_line(pid: u32) -> String {
    fs::read(format!("/proc/{pid}/cmdline"))
        .map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "))
        .unwrap_or_default()
}

/// Kills everything below this process until nothing is left, its cgroups included.
pub fn kill_descendants() {
    let groups = cgroups(&descendants());
    kill_all();
    for group in groups {
        // Only empty ones go; one that is shared with somebody else stays.
        fs::remove_dir(&group).ok();
        group.parent().map(fs::remove_dir);
    }
}

/// The version 2 cgroups that agents made for these processes.
#[must_use]
pub fn cgroups(pids: &[u32]) -> std::collections::BTreeSet<PathBuf> {
    let mount = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
        .map(PathBuf::from)
        .into_iter()
        .find(|path| path.join("cgroup.procs").exists());
    let Some(mount) = mount else {
        return std::collections::BTreeSet::new();
    };
    let own = |pid: &u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let path = text
            .lines()
            .find_map(|line| line.strip_prefix("0::/"))?
            .to_owned();
        path.starts_with("stead/").then(|| mount.join(path))
    };
    pids.iter().filter_map(own).collect()
}

fn kill_all() {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        let below = descendants();
        if below.is_empty() {
            return;
        }
        for pid in below {
            signal(pid, Signal::KILL);
        }
        while let Ok(Some(_)) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {}
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until `condition` holds.
///
/// # Panics
/// When it does not within the deadline; says what was waited for and what `state` tells then.
pub fn wait_until<S: std::fmt::Display>(
    what: &str,
    deadline: Duration,
    mut condition: impl FnMut() -> bool,
    state: impl FnOnce() -> S,
) {
    let end = Instant::now() + deadline;
    while !condition() {
        assert!(
            Instant::now() < end,
            "not within {deadline:?}: {what}\n{}",
            state()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}
