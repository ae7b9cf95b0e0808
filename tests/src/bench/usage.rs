//! What processes use, as the kernel counts it: memory from smaps, processor time from schedstat.

use std::fs;
use std::time::{Duration, Instant};

/// Resident memory of a process, KiB.
pub(super) fn rss_kib(pid: u32) -> f64 {
    smaps_kib(pid, "Rss")
}

/// Proportional memory of a process, KiB: shared pages count by their share.
pub(super) fn pss_kib(pid: u32) -> f64 {
    smaps_kib(pid, "Pss")
}

fn smaps_kib(pid: u32, key: &str) -> f64 {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| *name == key)
        .and_then(|(_, value)| value.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or_else(|| panic!("{path} has no {key}"))
}

/// Processor time of all threads of a process since they started. A thread that ended takes its
/// time with it; the programs measured keep theirs.
pub(super) fn cpu_time(pid: u32) -> Duration {
    let folder = format!("/proc/{pid}/task");
    let tasks = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let nanos = tasks.map(|task| {
        let path = task.expect("a thread").path().join("schedstat");
        match fs::read_to_string(&path) {
            Ok(text) => text
                .split(' ')
                .next()
                .and_then(|ran| ran.parse().ok())
                .unwrap_or_else(|| panic!("{}: {text:?}", path.display())),
            Err(error) if is_gone(&error) => 0,
            Err(error) => panic!("{}: {error}", path.display()),
        }
    });
    Duration::from_nanos(nanos.sum())
}

/// A thread that ended between the listing and the look.
fn is_gone(error: &std::io::Error) -> bool {
    let gone = [rustix::io::Errno::NOENT, rustix::io::Errno::SRCH];
    gone.iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Processor time of some processes over a window, in percent of one core.
pub(super) fn cpu_percent(pids: &[u32], window: Duration) -> f64 {
    let start = Instant::now();
    let before: Vec<Duration> = pids.iter().map(|pid| cpu_time(*pid)).collect();
    std::thread::sleep(window);
    let used: Duration = pids
        .iter()
        .zip(before)
        .map(|(pid, before)| cpu_time(*pid).saturating_sub(before))
        .sum();
    100.0 * used.as_secs_f64() / start.elapsed().as_secs_f64()
}

/// Milliseconds since.
pub(super) fn ms_since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1_000.0
}
