//! Clocks with real processes: boot times that differ by years from server to server change nothing, and
//! neither do wall clocks that are set while the site works (faults 29, 30). Judged from records (H26).

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use site_agent::guard::timer::boot_ms;
use stead_wire::clock::wall_now;
use system_tests::pair::{Client, Clocks, Machines, PATIENCE, Pair, SERVERS};
use system_tests::processes::signal;

const YEAR: u64 = 365 * 24 * 3_600;
const YEAR_MS: u64 = YEAR * 1_000;

fn time_namespace(pid: u32) -> String {
    let link = fs::read_link(format!("/proc/{pid}/ns/time")).expect("it runs");
    link.display().to_string()
}

/// Nobody's time is compared with another's: deadlines are lengths on the wire, and each counts them
/// on its own clock.
#[test]
fn clocks_that_differ_by_years_from_server_to_server_change_nothing() {
    let clocks = Clocks::from([("p01-a", 10 * YEAR), ("p01-b", 3 * YEAR)]);
    let mut pair = Pair::start_on(Machines {
        clocks,
        ..Machines::default()
    });
    let seen = SERVERS.map(|server| time_namespace(pair.agent(server).expect("it runs")));
    assert!(seen[0] != seen[1] && seen[1] != seen[2], "{seen:?}");
    let guard = time_namespace(pair.guard("p01-a").expect("it runs"));
    assert_eq!(guard, seen[0], "one clock a server");
    let client = Client::start(&pair);
    assert_eq!(client.next_after(boot_ms(), PATIENCE).by, "p01-a");

    pair.hand_over("p01-a", "p01-b");
    pair.until_works("p01-b");
    pair.hand_over("p01-b", "p01-a");
    pair.until_works("p01-a");

    // Inside its lease, which is noted by that clock (H18).
    let before = client.next_after(boot_ms(), PATIENCE);
    let started = pair.report("p01-a").expect("it answers").started_at;
    signal(pair.agent("p01-a").expect("it runs"), Signal::HUP);
    pair.until_report("p01-a", "runs anew", |report| report.started_at != started);
    pair.until_works("p01-a");
    let after = client.next_after(boot_ms(), PATIENCE);
    assert_eq!((after.by, after.term), (before.by, before.term), "H18");

    // The guard's deadline is one of that clock, too.
    let agent = pair.agent("p01-a").expect("it runs");
    signal(agent, Signal::STOP);
    assert_eq!(client.next_after(boot_ms() + 4_000, PATIENCE).by, "p01-b");
    signal(agent, Signal::CONT);
    assert_eq!(pair.until_whole(), "p01-b");

    pair.kill_server("p01-b");
    assert_eq!(client.next_after(boot_ms(), PATIENCE).by, "p01-a");
    pair.start_agent("p01-b");
    pair.until_works("p01-a");

    let writes = client.writes();
    drop(client);
    pair.judge(&writes);
}

/// H20, H6: dates stop no lease, and no deadline is a date. What is set is the agents' time; the
/// site server's, whose jump costs the wait for one renewal, is `site-roles`' own test.
#[test]
fn fault_29_30_wall_clocks_that_are_set_back_and_forth_cause_no_failover() {
    let mut pair = Pair::start_on(Machines {
        walls: true,
        ..Machines::default()
    });
    let client = Client::start(&pair);
    let before = client.next_after(boot_ms(), PATIENCE);
    for years in [[2, -2, 0], [-2, 0, 2], [0, 2, -2]] {
        for (server, years) in SERVERS.into_iter().zip(years) {
            pair.set_wall(server, years * i64::try_from(YEAR).expect("a small number"));
        }
        for (server, years) in SERVERS.into_iter().zip(years) {
            pair.until_report(server, "has its time", |report| {
                let (now, there) = (wall_now().0, report.wall.0);
                match years {
                    0 => now.abs_diff(there) < YEAR_MS,
                    2 => there > now + YEAR_MS,
                    _ => there + YEAR_MS < now,
                }
            });
        }
        // Nobody rests on connections that were made before.
        pair.kill_agent("p01-b");
        pair.start_agent("p01-b");
        // Longer than any lease; what must not happen has no event to wait for.
        std::thread::sleep(Duration::from_secs(5));
        pair.until_works("p01-a");
    }
    for strobe in 0..40 {
        for (at, server) in (0..).zip(SERVERS) {
            pair.set_wall(
                server,
                if (strobe + at) % 2 == 0 {
                    3_600
                } else {
                    -3_600
                },
            );
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let after = client.next_after(boot_ms(), PATIENCE);
    assert_eq!((after.by, after.term), (before.by, before.term));
    let writes = client.writes();
    drop(client);
    pair.judge(&writes);
}
