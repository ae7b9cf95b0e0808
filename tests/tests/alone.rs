//! No reconciler for a long time, and actives lost meanwhile: three sites side by side (I6, H4, H32).
//!
//! CAS has three voters of its own and loses its active; P01 and P02 have the reconciler as their third
//! voter, and P02 loses its active. Clients write to all three all the time; judged from records. How long
//! the reconciler is away: `STEAD_ALONE_S`; `tests/long alone` makes it ten minutes.

use std::time::{Duration, Instant};

use site_agent::guard::timer::boot_ms;
use stead_schemas::lease::LeasePart;
use system_tests::harness::{HIERARCHY, Harness, holds};
use system_tests::pair::{Client, LogReader, PORT, Records, Write};

const PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks while nobody governs.
const LOOK: Duration = Duration::from_secs(1);

/// A site of three servers; the last one has the store.
struct Site {
    code: &'static str,
    kind: &'static str,
    servers: [(&'static str, u8); 3],
    witness: &'static str,
}

const CAS: Site = Site {
    code: "CAS",
    kind: "central",
    servers: [("cas-a", 11), ("cas-b", 12), ("cas-w", 13)],
    witness: "cas-w",
};
const P01: Site = Site {
    code: "P01",
    kind: "primary, parent: CAS",
    servers: [("p01-a", 21), ("p01-b", 22), ("p01-d", 23)],
    witness: "stead-1",
};
const P02: Site = Site {
    code: "P02",
    kind: "primary, parent: CAS",
    servers: [("p02-a", 31), ("p02-b", 32), ("p02-d", 33)],
    witness: "stead-1",
};

impl Site {
    fn yaml(&self, harness: &Harness) -> String {
        let [(a, at_a), (b, at_b), (d, at_d)] = self.servers;
        format!(
            "apiVersion: stead/v1
kind: Site
metadata: {{name: {code}}}
spec: {{type: {kind}, servers: {{
    {a}: {{address: {}, zone: {a}}},
    {b}: {{address: {}, zone: {b}}},
    {d}: {{address: {}, zone: {d}}}}},
  siteServer: {{active: {a}, passive: [{b}], witnesses: [{witness}], port: {PORT}}},
  database: {{engine: embedded, server: {d}}},
  contentLibrary: {{url: \"file:///tmp/content-{code}\", shared: true}}}}
",
            harness.address(at_a),
            harness.address(at_b),
            harness.address(at_d),
            code = self.code,
            kind = self.kind,
            witness = self.witness,
        )
    }

    const fn candidates(&self) -> [&'static str; 2] {
        [self.servers[0].0, self.servers[1].0]
    }
}

/// A site, who writes to it, and what was read of its log.
struct Watched {
    client: Client,
    records: Records,
    log: LogReader,
}

impl Watched {
    fn start(harness: &Harness, site: &Site) -> Self {
        let [a, b, (_, store)] = site.servers;
        let at = |(name, last)| (name, (harness.address(last), PORT).into());
        let records = harness.records(store, site.candidates());
        let watched = Self {
            client: Client::start_at(&[at(a), at(b)]),
            log: records.log(),
            records,
        };
        assert_eq!(watched.next().by, site.servers[0].0);
        watched
    }

    /// The first write that is sent from now on.
    fn next(&self) -> Write {
        self.client.next_after(boot_ms(), PATIENCE)
    }

    fn judge(self) -> usize {
        let writes = self.client.writes();
        drop(self.client);
        self.records.judge_by(self.log, &writes);
        writes.len()
    }
}

/// All three sites as declared, and their reconciler.
fn founded() -> Harness {
    let mut harness = Harness::new();
    harness.issue("pki", "operator", "alice", &[]);
    let hierarchy = format!(
        "apiVersion: stead/v1
kind: Hierarchy
metadata: {{name: {HIERARCHY}}}
spec: {{reconcilers: {{stead-1: {{address: {}, zone: hq}}}}, guards: {{maxSitesAtOnce: 3, maxRemovals: 3, maxFailedSites: 1}}}}
",
        harness.address(2)
    );
    let sites = [CAS, P01, P02].map(|site| (format!("{}.yaml", site.code), site.yaml(&harness)));
    let mut files = vec![("hierarchy.yaml", hierarchy.as_str())];
    files.extend(
        sites
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str())),
    );
    let revision = harness.commit("three pairs", &files);
    for (name, last) in [CAS, P01, P02].iter().flat_map(|site| site.servers) {
        harness.start_agent(name, last);
    }
    harness.start_reconciler();
    harness.wait_converged(&revision, PATIENCE);
    for site in [CAS, P01, P02] {
        let [active, _] = site.candidates();
        harness.until_lease(active, "holds, by three voters", PATIENCE, |lease| {
            let voters = lease.voters.as_ref();
            holds(lease)
                && lease.ready_voters.len() == 1
                && lease.silent_voters.is_empty()
                && voters.is_some_and(|voters| voters.in_force.len() == 3)
        });
    }
    harness
}

/// What P02's survivor says of itself, asked on its own machine and from afar: whom it misses, what would
/// help, and the command for the worst.
fn says_what_it_needs(harness: &Harness) {
    let needs = "no majority of the voters is heard, so nobody is active";
    harness.until_lease("p02-b", "says what it needs", PATIENCE, |lease| {
        lease
            .problem
            .as_deref()
            .is_some_and(|text| text.contains(needs))
    });
    let asked = [
        harness.agent_status("p02-b", "human"),
        harness.via("p02-b", 32, &["status", "P02"]),
    ];
    for (code, said) in asked {
        assert_eq!(code, 0, "{said}");
        for word in [
            needs,
            "bring one back (p02-a, stead-1)",
            "stead promote p02-b --lost p02-a,stead-1 --reason",
        ] {
            assert!(said.contains(word), "{word}:\n{said}");
        }
    }
}

#[test]
fn i6_h32_sites_go_on_without_any_reconciler_or_say_what_they_need() {
    let seconds = std::env::var("STEAD_ALONE_S").ok();
    let away = Duration::from_secs(seconds.and_then(|text| text.parse().ok()).unwrap_or(30));
    let mut harness = founded();
    let [mut cas, mut p01, mut p02] = [CAS, P01, P02].map(|site| Watched::start(&harness, &site));
    let (cas_before, before) = (cas.next(), p01.next());

    harness.kill_reconciler();
    let end = Instant::now() + away;
    harness.kill_server("cas-a");
    harness.kill_server("p02-a");
    let lost = boot_ms();

    // Three voters of its own: it fails over, and goes on.
    let over = cas.client.next_by("cas-b", lost, PATIENCE);
    assert!(over.term > cas_before.term, "{over:?}");
    // Two of three are gone: nobody works, and the survivor says so.
    says_what_it_needs(&harness);
    let silence = boot_ms();
    while Instant::now() < end {
        let (of_cas, of_p01) = (cas.next(), p01.next());
        assert_eq!(
            (of_cas.by, of_cas.term),
            (over.by, over.term),
            "CAS goes on"
        );
        // Its active and its passive live: the third voter is not needed.
        assert_eq!(
            (of_p01.by, of_p01.term),
            (before.by, before.term),
            "P01 goes on"
        );
        assert_eq!(p02.client.first_after(silence), None, "P02 has no majority");
        for site in [&mut cas, &mut p01, &mut p02] {
            site.log.read_on().expect("every store is whole");
        }
        std::thread::sleep(LOOK);
    }
    says_what_it_needs(&harness);

    // The reconciler is back, and with it a majority of P02: nobody has to do anything.
    harness.start_reconciler();
    let by = p02.client.next_by("p02-b", silence, PATIENCE).by;
    assert_eq!(by, "p02-b");
    // Those who were lost come back as passives, and all is as declared.
    harness.start_agent("cas-a", 11);
    harness.start_agent("p02-a", 31);
    for (active, passive) in [("cas-b", "cas-a"), ("p01-a", "p01-b"), ("p02-b", "p02-a")] {
        harness.until_lease(passive, "follows and is ready", PATIENCE, |lease| {
            lease.part == LeasePart::Following && lease.ready && lease.problem.is_none()
        });
        harness.until_lease(active, "is followed by all", PATIENCE, |lease| {
            let voters = lease.voters.as_ref();
            holds(lease)
                && lease.ready_voters.len() == 1
                && lease.silent_voters.is_empty()
                && voters.is_some_and(|v| v.in_force.len() == 3 && v.pending.is_none())
        });
    }
    let (code, said, hint) = harness.stead(&["wait", "--converged", "--timeout", "90s"]);
    assert_eq!(code, 0, "{said}{hint}\n{}", harness.describe());
    let (_, status, _) = harness.stead(&["status"]);
    assert!(!status.contains("NEEDS A PERSON"), "{status}");
    let now = p01.next();
    assert_eq!((now.by, now.term), (before.by, before.term), "I6");

    let writes: Vec<usize> = [cas, p01, p02].into_iter().map(Watched::judge).collect();
    println!(
        "{} s without a reconciler: CAS failed over and went on, P01 kept its active, P02 said what it needs and came back with the reconciler; {writes:?} acknowledged writes: none lost, stale or twice, no overlap",
        away.as_secs()
    );
}
