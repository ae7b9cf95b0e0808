//! The disk that votes are kept on: how long keeping one takes, and how much room is left (SP-5).
//!
//! A file beside the ledger is written and synced as a vote would be. The middle of several counts: one
//! slow write may be somebody else's, a slow disk is slow every time.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use stead_schemas::prerequisite::{Check, Finding, Prerequisite};
use stead_schemas::time::DurationMs;

const FILE: &str = "preflight";
const WRITES: usize = 5;
/// A ledger and a vote are a few KiB; the output of an instance is kept up to 1 MiB, `intervals.log` up
/// to 512 KiB, and a server may have some of them.
const ROOM_MIN: u64 = 64 * 1024 * 1024;

pub(super) fn look(folder: &Path, within: DurationMs) -> Check {
    let shown = folder.display();
    let mut findings = Vec::new();
    let mut measured = None;
    match sync_times(folder) {
        Ok(times) => {
            let middle = times[WRITES / 2];
            measured = Some(format!(
                "a synced write takes {}, at worst {}",
                ms(middle),
                ms(times[WRITES - 1])
            ));
            if middle > within.std() {
                findings.push(Finding::fatal(
                    format!(
                        "a synced write in {shown} takes {} (limit {within})",
                        ms(middle)
                    ),
                    "put the agent's stateDir on a faster disk, or give the lease a longer \
                     `renew` and `duration`",
                ));
            }
        }
        Err(error) => findings.push(Finding::fatal(
            format!("{shown} takes no synced write: {error}"),
            "the agent's stateDir has to be on a disk that it may write to",
        )),
    }
    match rustix::fs::statvfs(folder) {
        Ok(disk) => {
            let room = disk.f_bavail.saturating_mul(disk.f_frsize);
            if room < ROOM_MIN {
                let mib = |bytes: u64| bytes / (1024 * 1024);
                findings.push(Finding::fatal(
                    format!(
                        "{} MiB are free in {shown} (limit {} MiB)",
                        mib(room),
                        mib(ROOM_MIN)
                    ),
                    "make room there",
                ));
            }
        }
        Err(error) => findings.push(Finding::fatal(
            format!("how much is free in {shown} is not known: {error}"),
            "the agent's stateDir has to be on a disk of its machine",
        )),
    }
    Check {
        prerequisite: Prerequisite::Disk,
        measured,
        findings,
    }
}

/// From the fastest to the slowest.
fn sync_times(folder: &Path) -> io::Result<[Duration; WRITES]> {
    let path = folder.join(FILE);
    let mut times = [Duration::ZERO; WRITES];
    for time in &mut times {
        let begun = Instant::now();
        let mut file = File::create(&path)?;
        file.write_all(b"preflight\n")?;
        file.sync_all()?;
        *time = begun.elapsed();
    }
    fs::remove_file(&path)?;
    times.sort();
    Ok(times)
}

fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sp_5_a_disk_that_is_too_slow_or_takes_no_write_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let check = look(dir.path(), DurationMs::seconds(60));
        assert_eq!(check.findings, []);
        assert!(!dir.path().join(FILE).exists());
        let slow = look(dir.path(), DurationMs(0));
        let text = &slow.findings[0].text;
        assert!(
            slow.findings[0].fatal && text.contains("(limit 0"),
            "{text}"
        );
        fs::create_dir(dir.path().join(FILE)).unwrap();
        let broken = look(dir.path(), DurationMs::seconds(60));
        assert!(broken.findings[0].text.contains("takes no synced write"));
        let gone = look(&dir.path().join("gone"), DurationMs::seconds(60));
        assert_eq!(gone.findings.len(), 2);
    }
}
