//! Faults 12, 33 and 34 with real processes: a site server that does not start again, and disks of active,
//! passive and witness that are full or stall. Judged from records (H26); no time is asserted.

use std::time::Duration;

use rustix::process::Signal;
use site_agent::guard::timer::boot_ms;
use stead_schemas::lease::LeasePart;
use system_tests::pair::{Client, Machines, PATIENCE, Pair};
use system_tests::processes::signal;

/// Longer than a lease and an election; what must not happen has no event to wait for.
const NOBODY: Duration = Duration::from_secs(8);

fn on_disks() -> Machines {
    Machines {
        disks: true,
        ..Machines::default()
    }
}

fn is_not_ready(pair: &Pair, server: &str, because: &str) {
    pair.until(server, because, |lease| {
        let why = lease.not_ready.as_deref().unwrap_or_default();
        !lease.ready && why.contains(because)
    });
}

/// A renewal proves progress (design section 6): a disk that takes no vote takes no lease either.
#[test]
fn fault_33_34_an_active_whose_disk_is_full_or_stalls_is_followed_by_the_passive() {
    let mut pair = Pair::start_on(on_disks());
    let client = Client::start(&pair);
    assert_eq!(client.next_after(boot_ms(), PATIENCE).by, "p01-a");

    pair.disk("p01-a").fill();
    pair.until("p01-b", "takes over", |lease| {
        lease.part == LeasePart::Holding
    });
    assert_eq!(client.next_after(boot_ms(), PATIENCE).by, "p01-b");
    is_not_ready(&pair, "p01-a", "takes no writes");
    pair.disk("p01-a").clear();
    pair.until_works("p01-b");

    pair.disk("p01-b").freeze();
    pair.until("p01-a", "takes over", |lease| {
        lease.part == LeasePart::Holding
    });
    assert_eq!(client.next_after(boot_ms(), PATIENCE).by, "p01-a");
    pair.disk("p01-b").thaw();
    assert_eq!(pair.until_whole(), "p01-a");

    let writes = client.writes();
    drop(client);
    pair.judge(&writes);
}

/// H11: whose vote can't be kept is no successor, and the active goes on in its term.
#[test]
fn fault_33_34_a_passive_whose_disk_is_full_or_stalls_is_not_ready() {
    let mut pair = Pair::start_on(on_disks());
    let client = Client::start(&pair);
    let before = client.next_after(boot_ms(), PATIENCE);

    pair.disk("p01-b").fill();
    is_not_ready(&pair, "p01-b", "takes no writes");
    pair.until("p01-a", "knows of nobody ready", |lease| {
        lease.ready_voters.is_empty()
    });
    pair.disk("p01-b").clear();
    pair.until_works("p01-a");

    pair.disk("p01-b").freeze();
    is_not_ready(&pair, "p01-b", "does not answer");
    pair.until("p01-a", "knows of nobody ready", |lease| {
        lease.ready_voters.is_empty()
    });
    pair.disk("p01-b").thaw();
    assert_eq!(pair.until_whole(), "p01-a");

    let after = client.next_after(boot_ms(), PATIENCE);
    assert_eq!((after.by, after.term), (before.by, before.term));
    let writes = client.writes();
    drop(client);
    pair.judge(&writes);
}

/// I4: no grant without a durable vote. The active goes on without one, a successor can't.
#[test]
fn fault_33_34_a_witness_whose_disk_is_full_or_stalls_has_no_vote() {
    let mut pair = Pair::start_on(on_disks());
    let client = Client::start(&pair);
    let mut before = client.next_after(boot_ms(), PATIENCE);
    for stalls in [false, true] {
        if stalls {
            pair.disk("p01-w").freeze();
        } else {
            pair.disk("p01-w").fill();
        }
        pair.until_report("p01-w", "says so", |report| {
            report
                .problems
                .iter()
                .any(|one| one.starts_with("progress"))
        });
        let now = client.next_after(boot_ms(), PATIENCE);
        assert_eq!((now.by, now.term), (before.by, before.term));
        let other = if now.by == "p01-a" { "p01-b" } else { "p01-a" };
        pair.kill_server(now.by);
        std::thread::sleep(NOBODY);
        assert_eq!(pair.holder(), None, "{other} has one vote of three");
        if stalls {
            pair.disk("p01-w").thaw();
        } else {
            pair.disk("p01-w").clear();
        }
        before = client.next_after(boot_ms(), PATIENCE);
        assert_eq!(before.by, other);
        pair.start_agent(now.by);
        pair.until_works(other);
        before = client.next_after(boot_ms(), PATIENCE);
    }
    let writes = client.writes();
    drop(client);
    pair.judge(&writes);
}

/// H26: restarted in place once; one that does not come back is handed over, and is not ready.
#[test]
fn fault_12_a_site_server_that_does_not_start_again_is_handed_over() {
    let pair = Pair::start();
    let client = Client::start(&pair);
    assert_eq!(client.next_after(boot_ms(), PATIENCE).by, "p01-a");
    pair.prevent_start("p01-a");
    signal(pair.site_server("p01-a").expect("it runs"), Signal::KILL);
    pair.until("p01-b", "takes over", |lease| {
        lease.part == LeasePart::Holding
    });
    assert_eq!(client.next_after(boot_ms(), PATIENCE).by, "p01-b");
    is_not_ready(&pair, "p01-a", "does not answer");
    pair.permit_start("p01-a");
    pair.until_works("p01-b");
    let writes = client.writes();
    drop(client);
    pair.judge(&writes);
}
