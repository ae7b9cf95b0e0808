//! `failover` and `switchover`: how long a client goes without an accepted write (H26).
//!
//! Real agents, guards, site servers and a store on hosts made of network namespaces; a client writes
//! to both candidates without pause. From the fault to the next write that the store accepted and that
//! was sent after it. There is no reconciler: none is needed. The only setting that is not the default
//! is the hourly limit of failovers, which is off (H19). Every run is judged from records at the end.
//!
//! The rows through DNS have a `stead dns` beside the site, where each new active publishes the alias; two
//! clients go where it leads, one that asks for each write and one that keeps answers for their TTL.

use std::time::Duration;

use site_agent::guard::timer::boot_ms;

use super::build;
use super::figure::Report;
use crate::pair::{ALIAS_TTL, Client, Naming, PATIENCE, Pair};
use crate::processes::signal;

const RUNS: usize = 20;
/// Cuts that are tried, shortest first, in milliseconds; each so often.
const CUTS_MS: [u64; 8] = [1_000, 1_500, 1_750, 2_000, 2_250, 2_500, 2_750, 3_000];
const CUT_RUNS: usize = 5;

/// A fault at the active server, and what makes the site whole again.
type Fault = fn(&mut Pair, &Client, &'static str) -> u64;

pub(super) fn failover() -> Report {
    build::programs();
    let mut report = Report::new("failover");
    report.note("the hourly limit of failovers is off (H19); everything else is the default");
    let rows: [(&'static str, f64, Fault); 4] = [
        ("process killed twice", 1_000.0, kill_twice),
        ("agent killed, guard alive", 2_000.0, kill_agent),
        ("agent, guard and processes killed", 4_000.0, kill_all),
        ("host cut off", 4_000.0, cut_host),
    ];
    for (name, budget, fault) in rows {
        let runs = measure(fault);
        report.budgeted(name, "ms", budget, runs);
    }
    let rows: [([&'static str; 2], Fault); 2] = [
        (
            [
                "all killed, through DNS, asked each time",
                "all killed, through DNS, kept for its TTL",
            ],
            kill_all,
        ),
        (
            [
                "cut off, through DNS, asked each time",
                "cut off, through DNS, kept for its TTL",
            ],
            cut_host,
        ),
    ];
    for ([asked, kept], fault) in rows {
        let (by_asking, by_keeping) = measure_through_dns(fault);
        report.plain(asked, "ms", by_asking);
        report.plain(kept, "ms", by_keeping);
    }
    report.note(format!(
        "the alias's TTL is {} s; the fault comes at {RUNS} moments spread evenly over it",
        ALIAS_TTL.as_secs()
    ));
    report.at_least(
        "longest cut without a failover",
        "ms",
        1_500.0,
        vec![longest_cut()],
    );
    report
}

/// A planned change on request: the longest time between two accepted writes.
pub(super) fn switchover() -> Report {
    build::programs();
    let mut report = Report::new("switchover");
    let mut pair = Pair::start();
    let client = Client::start(&pair);
    let mut active = "p01-a";
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        let before = client.next_after(boot_ms(), PATIENCE);
        pair.hand_over(active, other(active));
        active = other(active);
        pair.until_works(active);
        drop(client.next_after(boot_ms(), PATIENCE));
        let writes = client.writes();
        let last = writes.iter().filter(|write| write.term == before.term);
        let first = writes.iter().filter(|write| write.term > before.term);
        let last = last.map(|write| write.answered).max().unwrap_or_default();
        let first = first.map(|write| write.answered).min().unwrap_or_default();
        runs.push(ms(first.saturating_sub(last)));
    }
    finish(&mut pair, client);
    report.budgeted("time without an accepted write", "ms", 300.0, runs);
    report
}

/// A new site each time: an instance that was killed often is started again ever later, and the store
/// keeps only so much to judge by.
fn measure(fault: Fault) -> Vec<f64> {
    let active = "p01-a";
    let once = |_| {
        let mut pair = Pair::start();
        let client = Client::start(&pair);
        drop(client.next_after(boot_ms(), PATIENCE));
        let began = fault(&mut pair, &client, active);
        // What the old active still took while it was being broken is before the fault.
        let next = client.next_by(other(active), began, PATIENCE);
        pair.hosts.join(active);
        finish(&mut pair, client);
        ms(next.answered - began)
    };
    (0..RUNS).map(once).collect()
}

/// From the fault to the next write where the alias led: of a client that asks for each write, and of one
/// that keeps the answer.
fn measure_through_dns(fault: Fault) -> (Vec<f64>, Vec<f64>) {
    let active = "p01-a";
    let once = |run: usize| {
        let mut pair = Pair::start_published();
        let [asking, keeping] = [Naming::AsksEachTime, Naming::KeepsForTtl]
            .map(|naming| Client::start_by_name(&pair, naming));
        for client in [&asking, &keeping] {
            drop(client.next_after(boot_ms(), PATIENCE));
        }
        // The answer that is kept is as old as chance has it.
        let (run, runs) = (u32::try_from(run), u32::try_from(RUNS));
        std::thread::sleep(ALIAS_TTL * run.expect("few") / runs.expect("few"));
        let began = fault(&mut pair, &asking, active);
        let next = [&asking, &keeping].map(|client| {
            let next = client.next_by(other(active), began, PATIENCE);
            ms(next.answered - began)
        });
        pair.hosts.join(active);
        let writes = [asking.writes(), keeping.writes()].concat();
        drop((asking, keeping));
        pair.judge(&writes);
        (next[0], next[1])
    };
    (0..RUNS).map(once).unzip()
}

fn finish(pair: &mut Pair, client: Client) {
    let writes = client.writes();
    drop(client);
    pair.judge(&writes);
}

/// The first exit is restarted in place, and works again; the second is one too many.
fn kill_twice(pair: &mut Pair, client: &Client, active: &'static str) -> u64 {
    let kill = |pair: &Pair| {
        signal(
            pair.site_server(active).expect("it runs"),
            rustix::process::Signal::KILL,
        );
        boot_ms()
    };
    let first = kill(pair);
    let again = client.next_after(first + 1, PATIENCE);
    if again.by != active {
        // It was not well again within 500 ms, and was handed over: that is the fault, then.
        return first;
    }
    pair.until_works(active);
    kill(pair)
}

fn kill_agent(pair: &mut Pair, _: &Client, active: &'static str) -> u64 {
    let began = boot_ms();
    pair.kill_agent(active);
    began
}

fn kill_all(pair: &mut Pair, _: &Client, active: &'static str) -> u64 {
    let began = boot_ms();
    pair.kill_server(active);
    began
}

fn cut_host(pair: &mut Pair, _: &Client, active: &'static str) -> u64 {
    let began = boot_ms();
    pair.hosts.cut(active);
    began
}

/// The longest of the cuts that never once made the site fail over.
fn longest_cut() -> f64 {
    let mut pair = Pair::start();
    let client = Client::start(&pair);
    let mut longest = 0;
    'lengths: for length in CUTS_MS {
        for _ in 0..CUT_RUNS {
            let before = client.next_after(boot_ms(), PATIENCE);
            pair.hosts.cut(before.by);
            std::thread::sleep(Duration::from_millis(length));
            pair.hosts.join(before.by);
            let after = client.next_after(boot_ms(), PATIENCE);
            if after.term != before.term {
                break 'lengths;
            }
            pair.until_works(before.by);
        }
        longest = length;
    }
    finish(&mut pair, client);
    ms(longest)
}

fn other(server: &str) -> &'static str {
    if server == "p01-a" { "p01-b" } else { "p01-a" }
}

fn ms(length: u64) -> f64 {
    f64::from(u32::try_from(length).expect("less than a month"))
}
