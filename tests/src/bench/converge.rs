//! `converge`: from a commit in a local repository until 20 new instances run, are healthy and are
//! in DNS, looked at from outside, with real agents, a real reconciler and the real DNS server.
//!
//! The clock starts before `git commit` is started; the reconciler is woken by file notification.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use super::build;
use super::figure::Report;
use super::usage::ms_since;
use crate::harness::{DOMAIN, Harness};
use crate::processes::wait_until;
use crate::sampler::{addresses, answers};

const SERVERS: u8 = 10;
const RUNS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(90);
/// Two groups on each of ten servers are the 20 instances.
const GROUPS: [(&str, u16); 2] = [("distributionPoint", 8_080), ("distributionPoint-b", 8_081)];

pub(super) fn run() -> Report {
    build::programs();
    let mut report = Report::new("converge");
    let mut harness = Harness::new();
    for number in 0..SERVERS {
        harness.start_agent(&server(number), last_octet(number));
    }
    commit(&harness, false);
    harness.start_reconciler();
    wait_until(
        "the site server's name is in DNS",
        PATIENCE,
        || addresses(harness.dns_server(), &format!("p01.{DOMAIN}")).is_some_and(|a| !a.is_empty()),
        || harness.describe(),
    );
    let (mut there, mut gone) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let start = Instant::now();
        commit(&harness, true);
        wait_for(&harness, true);
        there.push(ms_since(start) / 1_000.0);
        let start = Instant::now();
        commit(&harness, false);
        wait_for(&harness, false);
        gone.push(ms_since(start) / 1_000.0);
    }
    report.budgeted("push to 20 healthy and in DNS", "s", 3.0, there);
    report.plain("push to all 20 withdrawn and stopped", "s", gone);
    report
        .note("one primary, ten agents, two distribution points each; woken by file notification");
    report
}

/// All of them healthy and in DNS, or none of either.
fn wait_for(harness: &Harness, wanted: bool) {
    wait_until(
        if wanted {
            "20 instances are served"
        } else {
            "20 instances are gone"
        },
        PATIENCE,
        || {
            GROUPS
                .iter()
                .all(|(group, port)| is(harness, group, *port, wanted))
        },
        || harness.describe(),
    );
}

fn is(harness: &Harness, group: &str, port: u16, wanted: bool) -> bool {
    let name = format!("{}.p01.{DOMAIN}", group.to_ascii_lowercase());
    let Some(mut served) = addresses(harness.dns_server(), &name) else {
        return false;
    };
    served.sort_unstable();
    let all: Vec<Ipv4Addr> = (0..SERVERS)
        .map(|n| harness.address(last_octet(n)))
        .collect();
    if wanted {
        served == all && all.iter().all(|a| answers((*a, port).into()))
    } else {
        served.is_empty() && !all.iter().any(|a| answers((*a, port).into()))
    }
}

fn server(number: u8) -> String {
    format!("p01-{number}")
}

const fn last_octet(number: u8) -> u8 {
    100 + number
}

fn commit(harness: &Harness, with_groups: bool) {
    let mut site = String::from(
        "apiVersion: stead/v1\nkind: Site\nmetadata: {name: P01}\nspec:\n  type: primary\n  servers:\n",
    );
    for number in 0..SERVERS {
        let address = harness.address(last_octet(number));
        let _ = writeln!(
            site,
            "    {}: {{address: {address}, zone: hq/room-{}}}",
            server(number),
            number % 3
        );
    }
    site.push_str("  siteServer: {active: p01-0}\n");
    if with_groups {
        let all: Vec<String> = (0..SERVERS).map(server).collect();
        site.push_str("  roles:\n");
        for (group, port) in GROUPS {
            let _ = writeln!(
                site,
                "    {group}: {{role: distributionPoint, port: {port}, servers: [{}]}}",
                all.join(", ")
            );
        }
    }
    let hierarchy =
        harness.hierarchy_yaml("{maxSitesAtOnce: 5, maxRemovals: 100, maxFailedSites: 1}");
    harness.commit(
        "bench",
        &[("hierarchy.yaml", &hierarchy), ("P01.yaml", &site)],
    );
}
