//! What the figures were measured on: a figure without its machine says nothing.

use std::fmt;
use std::fs;
use std::process::Command;

/// The machine, the build and the source.
#[derive(Debug)]
pub(super) struct Machine {
    cores: usize,
    model: String,
    memory_gib: u64,
    kernel: String,
    load: String,
    /// `release` or `debug`.
    pub(super) profile: &'static str,
    /// Short commit id, with `+` where the work tree differs.
    pub(super) commit: String,
}

impl Machine {
    pub(super) fn read() -> Self {
        let memory_kib: u64 = field("/proc/meminfo", "MemTotal")
            .split(' ')
            .next()
            .and_then(|kib| kib.parse().ok())
            .unwrap_or(0);
        Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            model: field("/proc/cpuinfo", "model name"),
            memory_gib: memory_kib.div_ceil(1 << 20),
            kernel: text("/proc/sys/kernel/osrelease"),
            load: text("/proc/loadavg").split(' ').take(1).collect(),
            profile: if cfg!(debug_assertions) {
                "debug"
            } else {
                "release"
            },
            commit: commit(),
        }
    }

    /// Says where this runs, and that a debug build proves nothing.
    pub(super) fn introduce(&self) {
        eprintln!("{self}");
        eprintln!(
            "commit {}, {} build, load average at start {}",
            self.commit, self.profile, self.load
        );
        if self.profile == "debug" {
            eprintln!(
                "WARNING: a debug build. Its figures say nothing about the budgets: \
                 cargo run --release -p system-tests --bin bench"
            );
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} cores, {}, {} GiB, Linux {}",
            self.cores, self.model, self.memory_gib, self.kernel
        )
    }
}

fn text(path: &str) -> String {
    fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// The value of the first `key : value` line.
fn field(path: &str, key: &str) -> String {
    text(path)
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.trim() == key)
        .map_or_else(|| "unknown".to_owned(), |(_, v)| v.trim().to_owned())
}

fn commit() -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git")
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(args)
            .output()
            .ok()
            .filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(id) = git(&["rev-parse", "--short=10", "HEAD"]) else {
        return "unknown".to_owned();
    };
    match git(&["status", "--porcelain", "--untracked-files=no"]) {
        Some(changes) if changes.is_empty() => id,
        _ => id + "+",
    }
}
