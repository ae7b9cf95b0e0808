//! The whole lab, three sites with reconciler and DNS, broken by chance again and again while clients
//! write to both leased sites: nothing acknowledged is lost, nobody writes stale, and all is as declared
//! at the end (H19, H26). `STEAD_FAULTS` many of the seed `STEAD_SEED`; `tests/long lab-faults` runs a
//! hundred.
//!
//! Broken as a person would, by `stead lab`; judged from records. No time is asserted.

use std::time::Duration;

use serde_json::Value;
use site_agent::guard::timer::boot_ms;
use system_tests::chance::Chance;
use system_tests::lab::{CAS, Lab, LeasedSite, P01};
use system_tests::pair::{Client, LogReader, PATIENCE, Write};

const HOW: [&str; 3] = ["cut", "freeze", "kill"];
const VOTERS: [&str; 6] = ["cas-a", "cas-b", "cas-w", "p01-a", "p01-b", "p01-w"];
const RECONCILER: &str = "stead-1";
const OTHERS: [&str; 8] = [
    "cas-f1", "cas-f2", "p01-f1", "p01-f2", "p01-f3", "s01-a", "s01-d1", "s01-d2",
];
/// Broken at the same time.
const AT_ONCE: usize = 2;
/// Each so many faults one is at a candidate and lasts so long that its site goes on alone (H3).
const LONG_EVERY: u64 = 25;
const LONG: Duration = Duration::from_secs(75);

/// A leased site, who writes to it, and what was read of its log.
struct Watched {
    site: LeasedSite,
    client: Client,
    log: LogReader,
    pauses: Vec<(&'static str, u64)>,
    writers: Vec<&'static str>,
}

impl Watched {
    fn start(lab: &Lab, site: LeasedSite) -> Self {
        let client = Client::start_at(&lab.candidates(site));
        let first = client.next_after(boot_ms(), PATIENCE);
        Self {
            site,
            client,
            log: lab.records(site, Vec::new()).log(),
            pauses: Vec::new(),
            writers: vec![first.by],
        }
    }

    /// One is about to be frozen: a site server that stands still works no more until it goes on.
    fn note_pause(&mut self, server: &'static str) {
        if self.site.candidates.iter().any(|(name, _)| *name == server) {
            self.pauses.push((server, boot_ms()));
        }
    }

    /// Its store is whole, and a majority of its voters.
    fn must_work(&self, broken: &[&str]) -> bool {
        let down = |name: &str| broken.contains(&name);
        let candidates = self.site.candidates.iter();
        !down(self.site.witness.0) && candidates.filter(|(name, _)| down(name)).count() < 2
    }

    fn goes_on(&mut self) {
        let write = self.client.next_after(boot_ms(), PATIENCE);
        if self.writers.last() != Some(&write.by) {
            self.writers.push(write.by);
        }
        self.log.read_on().expect("a store that nobody broke");
    }

    /// One works and the other could take over; who works.
    fn until_whole(&self, lab: &Lab) -> &'static str {
        let names = self.site.candidates.map(|(name, _)| name);
        let mut holder = None;
        lab.until(&format!("{} is whole", self.site.code), || {
            let reports = names.map(|name| lab.report(name));
            let part = |report: &Value, part: &str| {
                report["lease"]["part"] == part && report["lease"]["ready"] == true
            };
            holder = (0..2).find(|one| {
                part(&reports[*one], "holding") && part(&reports[1 - one], "following")
            });
            holder.is_some()
        });
        names[holder.expect("it is whole")]
    }

    /// Stops writing, and judges everything.
    fn judge(self, lab: &Lab) -> Vec<Write> {
        let writes = self.client.writes();
        drop(self.client);
        lab.records(self.site, self.pauses)
            .judge_by(self.log, &writes);
        writes
    }
}

/// One that is whole.
fn pick(broken: &[&'static str], mut draw: impl FnMut() -> &'static str) -> &'static str {
    loop {
        let picked = draw();
        if !broken.contains(&picked) {
            return picked;
        }
    }
}

/// Half of them are voters; each eighth time it is the reconciler.
fn anyone(chance: &mut Chance) -> &'static str {
    match chance.below(8) {
        0..4 => VOTERS[chance.below(VOTERS.len())],
        4 => RECONCILER,
        _ => OTHERS[chance.below(OTHERS.len())],
    }
}

/// H19: the lab declares the one setting that is not the default, as its user would.
fn ensure_no_hourly_limit(lab: &Lab) {
    for site in ["CAS", "P01"] {
        let (code, effective) = lab.stead(&["render", site, "lab/topology"]);
        assert_eq!(code, 0, "{effective}");
        assert!(
            effective.contains("failoversPerHour: unlimited"),
            "{site} in the lab's repository: {effective}"
        );
    }
    println!("failoversPerHour: unlimited, everything else as the lab declares it");
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn h19_i5_random_faults_at_the_lab_lose_nothing_and_it_converges() {
    let count = number("STEAD_FAULTS").unwrap_or(5);
    let seed = number("STEAD_SEED").unwrap_or_else(boot_ms);
    println!("seed {seed}");
    let mut chance = Chance::new(seed);
    let lab = Lab::start();
    ensure_no_hourly_limit(&lab);
    let mut sites = [CAS, P01].map(|site| Watched::start(&lab, site));
    let mut broken: Vec<&'static str> = Vec::new();
    for done in 0..count {
        let is_long = (done + 1) % LONG_EVERY == 0;
        let target = if is_long {
            pick(&broken, || {
                [CAS, P01][chance.below(2)].candidates[chance.below(2)].0
            })
        } else {
            pick(&broken, || anyone(&mut chance))
        };
        let how = HOW[chance.below(HOW.len())];
        let lasts = Duration::from_millis(500 + 500 * chance.below(15) as u64);
        let lasts = if is_long { LONG } else { lasts };
        let heals = chance.below(3) > 0;
        println!("{done}: {how} {target} for {lasts:?}, with {broken:?}");
        if how == "freeze" {
            sites.iter_mut().for_each(|site| site.note_pause(target));
        }
        lab.lab(&[how, target]);
        broken.push(target);
        std::thread::sleep(lasts);
        if heals || broken.len() == AT_ONCE {
            lab.lab(&["heal", broken.remove(0)]);
        }
        if is_long {
            // A site that went on alone has nobody else until it has taken the others back (H3).
            broken.drain(..).for_each(|name| lab.lab(&["heal", name]));
            for site in &sites {
                println!(
                    "{} is whole: {} holds",
                    site.site.code,
                    site.until_whole(&lab)
                );
            }
        }
        for site in &mut sites {
            if site.must_work(&broken) {
                site.goes_on();
            }
        }
    }
    for target in broken {
        lab.lab(&["heal", target]);
    }
    let active = sites.each_ref().map(|site| site.until_whole(&lab));
    is_as_declared(&lab, &sites, active);
    let mut told = Vec::new();
    for site in sites {
        let (code, changes) = (site.site.code, site.writers.len() - 1);
        let writes = site.judge(&lab).len();
        told.push(format!(
            "{code} {changes} changes of the active, {writes} acknowledged writes"
        ));
    }
    println!("{}", lab.log());
    println!(
        "{count} lab faults, seed {seed}: {}: none lost, stale or twice, no overlap; converged",
        told.join("; ")
    );
}

/// Everything is as git declares it, nobody is asked for anything, every record is in step, and the
/// aliases lead to those who hold.
fn is_as_declared(lab: &Lab, sites: &[Watched; 2], active: [&'static str; 2]) {
    let (code, _) = lab.stead(&["wait", "--converged", "--timeout", "3m"]);
    let (_, status) = lab.stead(&["status"]);
    assert_eq!(code, 0, "{status}\n{}", lab.log());
    let mut last = String::new();
    lab.until("nothing is left to say", || {
        let (_, records) = lab.stead(&["list", "records", "-o", "json"]);
        let records: Value = serde_json::from_str(&records).unwrap_or_default();
        let off = |record: &&Value| record["state"] != "in step";
        let off: Vec<&Value> = records
            .as_array()
            .into_iter()
            .flatten()
            .filter(off)
            .collect();
        let status = lab.status().unwrap_or_default();
        let sites = status["sites"].as_array().cloned().unwrap_or_default();
        let held = sites
            .iter()
            .flat_map(|site| site["holds"].as_array().cloned());
        let holds: Vec<Value> = held.flatten().collect();
        let said = format!("{off:?}\n{holds:?}\n{}", status["needsPerson"]);
        if said != last {
            println!("{said}");
            last = said;
        }
        let needs_nobody = status["needsPerson"].as_array().is_some_and(Vec::is_empty);
        off.is_empty() && holds.is_empty() && needs_nobody
    });
    for (watched, active) in sites.iter().zip(active) {
        let candidates = lab.candidates(watched.site);
        let found = candidates.iter().find(|(name, _)| *name == active);
        let address = found.expect("a candidate").1.ip().to_string();
        assert_eq!(lab.alias(watched.site), address, "{active} is active");
    }
}
