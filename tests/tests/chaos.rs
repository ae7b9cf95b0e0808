//! A reconciler that is killed at random while commits keep coming (must-show 4): every state
//! converges, nothing is done twice with harm, no foreign record changes, the journal stays whole.
//!
//! A few kills here; `tests/long chaos` runs fifty. The seed is printed; `STEAD_SEED` repeats it.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use system_tests::harness::{DOMAIN, Harness};
use system_tests::sampler::{Sampler, addresses};
use system_tests::topology::{CONTENT_PORT, Shape, commit, running};

const PATIENCE: Duration = Duration::from_secs(90);

/// A small generator; what it draws is only where to strike.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn shape(&mut self) -> Shape {
        let fronts = ["p01-f1", "p01-f2", "p01-f3"];
        let mask = 1 + self.below(7);
        let content_on = (0..3)
            .filter(|bit| mask & (1 << bit) != 0)
            .map(|bit| fronts[bit])
            .collect();
        let counted = u16::try_from(1 + self.below(2)).expect("one or two");
        Shape {
            content_on,
            counted,
            second: self.below(4) != 0,
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn a_reconciler_killed_at_random_during_random_commits_harms_nothing() {
    let seed =
        number("STEAD_SEED").unwrap_or_else(|| u64::from(std::process::id()) * 2_654_435_761);
    let kills = number("STEAD_KILLS").unwrap_or(6);
    println!("seed {seed}, {kills} kills");
    let mut draw = Draw(seed | 1);
    let (mut harness, _) = running(PATIENCE);
    add_foreign_record(&harness);
    let untouched = pids(&harness, "managementPoint@s01-srv");
    let name = format!("distributionpoint.p01.{DOMAIN}");
    let sampler = Sampler::start(harness.dns_server(), &name, CONTENT_PORT);

    for kill in 0..kills {
        let shape = draw.shape();
        let mut revision = commit(&harness, &format!("kill {kill}: {shape:?}"), &shape);
        std::thread::sleep(Duration::from_millis(draw.below(1_500)));
        harness.kill_reconciler();
        if draw.below(2) == 0 {
            revision = commit(&harness, "while nobody looks", &draw.shape());
        }
        harness.start_reconciler();
        harness.wait_converged(&revision, PATIENCE);
    }

    let samples = sampler.stop();
    let gaps: Vec<_> = samples.iter().filter(|sample| !sample.serves()).collect();
    assert!(
        gaps.is_empty(),
        "seed {seed}: the name had no healthy instance: {gaps:?}"
    );
    assert_eq!(
        pids(&harness, "managementPoint@s01-srv"),
        untouched,
        "seed {seed}: restarted"
    );
    let foreign = addresses(harness.dns_server(), &format!("printer.{DOMAIN}"));
    assert_eq!(
        foreign,
        Some(vec![[192, 0, 2, 7].into()]),
        "seed {seed}: foreign record"
    );
    assert_journal_is_whole(&harness);
    println!("{kills} kills, {} samples, 0 gaps", samples.len());
}

fn pids(harness: &Harness, name: &str) -> Vec<u64> {
    let (code, out, err) = harness.stead(&["status", "-o", "json"]);
    assert_eq!(code, 0, "{err}");
    let status: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    status["sites"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|site| site["instances"].as_array().into_iter().flatten())
        .filter(|instance| instance["name"].as_str().is_some_and(|n| n.ends_with(name)))
        .filter_map(|instance| instance["pid"].as_u64())
        .collect()
}

fn add_foreign_record(harness: &Harness) {
    let secret = std::fs::read_to_string(harness.path("secrets/tsig")).expect("the key");
    let dns = harness.dns_server();
    let script = format!(
        "server {} {}\nzone {DOMAIN}\nkey hmac-sha256:stead {secret}\nupdate add printer.{DOMAIN} 60 A 192.0.2.7\nsend\n",
        dns.ip(),
        dns.port()
    );
    let mut nsupdate = Command::new("nsupdate")
        .arg("-v")
        .stdin(Stdio::piped())
        .spawn()
        .expect("nsupdate is there: apt-get install bind9-dnsutils (tests/run does)");
    let mut input = nsupdate.stdin.take().expect("a pipe");
    input.write_all(script.as_bytes()).expect("nsupdate reads");
    drop(input);
    assert!(nsupdate.wait().expect("nsupdate ends").success());
}

fn assert_journal_is_whole(harness: &Harness) {
    let (code, out, err) = harness.stead(&["history", "--limit", "10000", "-o", "json"]);
    assert_eq!(code, 0, "{err}");
    let entries: Vec<serde_json::Value> = serde_json::from_str(&out).expect("JSON");
    assert!(
        entries.len() > 20,
        "it tells what happened: {}",
        entries.len()
    );
    let mut ids: Vec<i64> = entries
        .iter()
        .filter_map(|entry| entry["id"].as_i64())
        .collect();
    ids.sort_unstable();
    let gap = ids.windows(2).find(|pair| pair[1] != pair[0] + 1);
    assert_eq!(gap, None, "no entry is missing");
}
