//! Failover with real processes on hosts of their own: what happens to the writes of a client while
//! servers are killed, frozen and cut off. Judged from records (H26); no time is asserted.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use site_agent::guard::timer::boot_ms;
use system_tests::chance::Chance;
use system_tests::pair::{Client, Fault, Machines, PATIENCE, Pair, Write};
use system_tests::processes::signal;

/// After this nothing of an old term may come any more; there is no event to wait for.
const LATE: Duration = Duration::from_secs(1);

#[test]
fn i5_h26_no_write_is_lost_or_stale_whatever_happens_to_the_active() {
    let mut pair = Pair::start();
    let client = Client::start(&pair);
    let first = client.next_after(boot_ms(), PATIENCE);
    assert_eq!(first.by, "p01-a");

    // Planned: on request, back and forth (H11).
    pair.hand_over("p01-a", "p01-b");
    pair.until_works("p01-b");
    assert_eq!(client.next_after(boot_ms(), PATIENCE).by, "p01-b");
    pair.hand_over("p01-b", "p01-a");
    pair.until_works("p01-a");

    // An instance that exits once is restarted in place, in its term (H26).
    let term = client.next_after(boot_ms(), PATIENCE).term;
    let died = boot_ms();
    signal(pair.site_server("p01-a").expect("it runs"), Signal::KILL);
    let next = client.next_after(died + 50, PATIENCE);
    if next.by == "p01-a" {
        assert_eq!(next.term, term, "restarted in place");
        pair.until_works("p01-a");
        // Twice within a minute is once too often.
        signal(pair.site_server("p01-a").expect("it runs"), Signal::KILL);
    }
    // A machine too slow to have it back in 500 ms hands over at once.
    pair.until_works("p01-b");

    // The agent is killed: the guard kills the work, and releases (H1).
    pair.kill_agent("p01-b");
    pair.until("p01-a", "takes over", |lease| {
        lease.part == stead_schemas::lease::LeasePart::Holding
    });
    pair.start_agent("p01-b");
    pair.until_works("p01-a");

    // The whole host is cut off, and comes back as a passive.
    pair.hosts.cut("p01-a");
    let cut = boot_ms();
    let next = client.next_after(cut, PATIENCE);
    assert_eq!(next.by, "p01-b");
    pair.hosts.join("p01-a");
    pair.until_works("p01-b");

    // Its program is replaced in place, inside the lease: same process, same term (H18).
    let before = client.next_after(boot_ms(), PATIENCE);
    let started = pair.report("p01-b").expect("it answers").started_at;
    signal(pair.agent("p01-b").expect("it runs"), Signal::HUP);
    pair.until_report("p01-b", "runs anew", |report| report.started_at != started);
    pair.until_works("p01-b");
    let after = client.next_after(boot_ms(), PATIENCE);
    assert_eq!((after.by, after.term), (before.by, before.term), "H18");

    // Everything of it is frozen past its lease, and thawed: the token protects (I5).
    pair.signal_server("p01-b", Signal::STOP);
    let frozen = boot_ms();
    assert_eq!(client.next_after(frozen, PATIENCE).by, "p01-a");
    pair.signal_server("p01-b", Signal::CONT);
    std::thread::sleep(LATE);
    if pair
        .agent("p01-b")
        .is_none_or(|pid| !std::path::Path::new(&format!("/proc/{pid}/exe")).exists())
    {
        pair.kill_agent("p01-b");
        pair.start_agent("p01-b");
    }
    pair.until_works("p01-a");

    // Agent, guard and processes at once.
    pair.kill_server("p01-a");
    let killed = boot_ms();
    assert_eq!(client.next_after(killed, PATIENCE).by, "p01-b");
    pair.start_agent("p01-a");
    pair.until_works("p01-b");

    let writes = client.writes();
    drop(client);
    pair.judge(&writes);
}

#[test]
fn r10_active_and_passive_that_cannot_see_each_other_are_no_reason() {
    let pair = Pair::start();
    let client = Client::start(&pair);
    let before = client.next_after(boot_ms(), PATIENCE);
    pair.hosts.cut_between("p01-a", "p01-b");
    // Longer than any lease; what must not happen has no event to wait for.
    std::thread::sleep(Duration::from_secs(8));
    let after = client.next_after(boot_ms(), PATIENCE);
    assert_eq!((after.by, after.term), (before.by, before.term));
    let writes = client.writes();
    drop(client);
    pair.judge(&writes);
}

/// The first write of a site that is whole: what a fault leads to may still come after it looks so.
fn settled(pair: &mut Pair, client: &Client) -> Write {
    let end = Instant::now() + PATIENCE;
    loop {
        let active = pair.until_whole();
        let write = client.next_after(boot_ms(), PATIENCE);
        if write.by == active {
            return write;
        }
        assert!(
            Instant::now() < end,
            "{active}: {write:?}\n{}",
            pair.describe()
        );
    }
}

/// The faults of the matrix by chance, one after the other, at either candidate; `STEAD_FAULTS` many,
/// of the seed `STEAD_SEED`. `tests/long faults` runs a hundred.
#[test]
fn i5_random_faults_in_a_row_lose_nothing_and_the_site_is_whole_at_the_end() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let count = number("STEAD_FAULTS").unwrap_or(6);
    let seed = number("STEAD_SEED").unwrap_or_else(boot_ms);
    println!("seed {seed}");
    let mut chance = Chance::new(seed);
    let mut pair = Pair::start_on(Machines {
        disks: true,
        ..Machines::default()
    });
    let client = Client::start(&pair);
    let mut failovers = 0;
    for done in 0..count {
        let fault = Fault::ALL[chance.below(Fault::ALL.len())];
        let server = ["p01-a", "p01-b"][chance.below(2)];
        let lasts = Duration::from_millis(500 + 500 * chance.below(15) as u64);
        let before = client.next_after(boot_ms(), PATIENCE);
        println!(
            "{done}: {fault:?} at {server} for {lasts:?}, active {}",
            before.by
        );
        pair.suffer(fault, server, lasts);
        let after = settled(&mut pair, &client);
        failovers += usize::from(after.by != before.by);
    }
    let writes = client.writes();
    drop(client);
    pair.judge(&writes);
    println!(
        "{count} faults, seed {seed}: {failovers} changes of the active, {} acknowledged writes: none lost, stale or twice, no overlap",
        writes.len()
    );
}
