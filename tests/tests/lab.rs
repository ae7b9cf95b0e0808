//! The README's first command as a new user runs it: `stead lab` converges from nothing, heals, and
//! leaves nothing behind (must-show 1).

use std::fs;

use rustix::process::Signal;
use site_agent::guard::timer::boot_ms;
use system_tests::lab::{Lab, P01};
use system_tests::pair::{Client, PATIENCE};
use system_tests::processes::{cgroups, descendants, has_ended, kill_descendants, signal};

fn pid_of(lab: &Lab, name: &str) -> Option<u64> {
    let status = lab.status()?;
    let sites = status["sites"].as_array()?.clone();
    let instances = sites
        .iter()
        .flat_map(|site| site["instances"].as_array().into_iter().flatten());
    instances
        .filter(|i| i["name"] == name)
        .find_map(|instance| instance["pid"].as_u64())
}

/// The names directly below the folders where a program could leave something behind.
fn surroundings() -> Vec<String> {
    let places = ["/tmp", "/var/tmp", "/run", "/dev/shm"];
    let mut names = Vec::new();
    for place in places {
        for entry in fs::read_dir(place).into_iter().flatten().flatten() {
            let name = entry.path().display().to_string();
            if name.contains("stead") && !name.contains("stead-test-") {
                names.push(name);
            }
        }
    }
    names.sort();
    names
}

/// What happens next moves the work: who takes the first write sent after it.
fn next_writer(client: &Client) -> &'static str {
    client.next_after(boot_ms(), PATIENCE).by
}

/// The new user's story: whatever is done to the active, the passive goes on, no write is lost and none
/// is stale; with the reconciler gone, too (I5, I6, H22).
#[test]
fn i6_the_labs_pair_fails_over_whatever_breaks_it() {
    let lab = Lab::start();
    let candidates = lab.candidates(P01);
    let [a, b] = candidates.map(|(_, address)| address.ip().to_string());
    let client = Client::start_at(&candidates);
    assert_eq!(next_writer(&client), "p01-a");
    lab.until("the alias leads to p01-a", || lab.alias(P01) == a);

    lab.lab(&["kill", "p01-a"]);
    assert_eq!(next_writer(&client), "p01-b");
    lab.until("the alias follows", || lab.alias(P01) == b);
    lab.until("it is told", || {
        lab.log().contains("P01  failed over p01-a -> p01-b, term ")
    });
    lab.lab(&["heal", "p01-a"]);
    lab.until_passive("p01-a");
    lab.wait_converged("the server is back");
    assert_eq!(next_writer(&client), "p01-b", "it is active no more");

    // Cut off with all it runs, it stops by itself; its letters and writes get nowhere.
    if rustix::process::geteuid().is_root() {
        lab.lab(&["cut", "p01-b"]);
        assert_eq!(next_writer(&client), "p01-a");
        lab.until("p01-b stops; its own agent reaches it, it no store", || {
            let report = lab.report("p01-b");
            let message = report["instances"]["siteServer"]["message"].as_str();
            report["lease"]["part"] == "following"
                && report["lease"]["ready"] == false
                && message.is_some_and(|text| text.contains("503"))
        });
        lab.lab(&["heal", "p01-b"]);
    } else {
        lab.lab(&["kill", "p01-b"]);
        assert_eq!(next_writer(&client), "p01-a");
        lab.lab(&["heal", "p01-b"]);
    }
    lab.until_passive("p01-b");

    // Frozen past its lease and thawed: the old term writes nothing any more.
    let frozen = boot_ms();
    lab.lab(&["freeze", "p01-a"]);
    assert_eq!(next_writer(&client), "p01-b");
    lab.lab(&["heal", "p01-a"]);
    lab.until_passive("p01-a");
    lab.wait_converged("all are well again");

    // Nobody governs: the site does without, alias included.
    lab.lab(&["kill", "--reconciler"]);
    assert_ne!(lab.stead(&["status"]).0, 0, "it is down");
    lab.lab(&["kill", "p01-b"]);
    assert_eq!(next_writer(&client), "p01-a");
    lab.until("the alias follows", || lab.alias(P01) == a);
    lab.lab(&["heal", "p01-b"]);
    lab.until_passive("p01-b");
    lab.lab(&["heal", "stead-1"]);
    lab.wait_converged("the reconciler finds it in order");
    assert_eq!(next_writer(&client), "p01-a", "it moves nothing");

    let writes = client.writes();
    drop(client);
    let records = lab.records(P01, vec![("p01-a", frozen)]);
    records.judge(&writes);
}

#[test]
fn the_lab_converges_heals_and_leaves_nothing_behind() {
    let before = surroundings();
    let mut lab = Lab::start();

    let agents = descendants().len();
    assert!(agents >= 12, "a dozen agents and more: {agents}");
    let name = "P01/managementPoint@p01-f1";
    let pid = pid_of(&lab, name).expect("it runs");
    signal(u32::try_from(pid).expect("a pid"), Signal::KILL);
    lab.until("the instance heals", || {
        pid_of(&lab, name).is_some_and(|now| now != pid)
    });

    lab.lab(&["kill", "p01-f2"]);
    lab.until("the power cut is seen", || !lab.is_converged());
    lab.lab(&["heal", "p01-f2"]);
    lab.wait_converged("the server comes back");

    let groups = cgroups(&descendants());
    lab.interrupt();
    let left: Vec<_> = groups.iter().filter(|group| group.exists()).collect();
    assert!(left.is_empty(), "cgroups left behind: {left:?}");
    // One that ended while the lab did is this process's to reap: nothing runs there.
    let left: Vec<String> = descendants()
        .iter()
        .filter(|pid| !has_ended(**pid))
        .map(|pid| system_tests::processes::command_line(*pid))
        .collect();
    kill_descendants();
    assert!(left.is_empty(), "processes left behind: {left:?}");
    assert_eq!(surroundings(), before, "nothing is left outside its folder");
}
