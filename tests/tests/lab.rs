//! The README's first command as a new user runs it: `stead lab` converges from nothing, heals, and
//! leaves nothing behind (must-show 1).

use std::fs;

use rustix::process::Signal;
use site_agent::guard::timer::boot_ms;
use system_tests::lab::{Lab, P01};
use system_tests::pair::{Client, PATIENCE};
use system_tests::processes::{cgroups, descendants, has_ended, kill_descendants, signal};

/// An instance as the status has it; null: it is not there.
fn instance_of(lab: &Lab, name: &str) -> serde_json::Value {
    let status = lab.status().unwrap_or_default();
    let sites = status["sites"].as_array().cloned().unwrap_or_default();
    let mut instances = sites
        .iter()
        .flat_map(|site| site["instances"].as_array().into_iter().flatten());
    let found = instances.find(|instance| instance["name"] == name);
    found.cloned().unwrap_or_default()
}

/// The state of a site's first passive, in the words of the status.
fn passive_of(lab: &Lab, site: &str) -> serde_json::Value {
    let status = lab.status().unwrap_or_default();
    let sites = status["sites"].as_array().cloned().unwrap_or_default();
    let found = sites.iter().find(|one| one["code"] == site);
    found.map_or_else(Default::default, |one| one["passive"][0]["state"].clone())
}

fn pid_of(lab: &Lab, name: &str) -> Option<u64> {
    instance_of(lab, name)["pid"].as_u64()
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

/// A patch day: the active is drained, switched off and put back, then a front end (task 4, H3).
#[test]
fn h3_a_drained_active_is_switched_off_and_stands_by_again() {
    let lab = Lab::start();
    let client = Client::start_at(&lab.candidates(P01));
    assert_eq!(next_writer(&client), "p01-a");
    lab.until("the holder knows that p01-b may take over", || {
        passive_of(&lab, "P01") == "ready"
    });
    let drain = |server: &str, more: &[&str]| {
        let args = ["drain", server, "--for", "1h", "--reason", "kernel"];
        lab.stead(&[&args, more].concat())
    };
    let (code, out) = drain("p01-a", &["--dry-run"]);
    assert_eq!(code, 0, "{out}");
    assert!(
        out.contains("P01 siteServer p01-a -> p01-b (ready)"),
        "{out}"
    );
    assert!(
        out.contains(
            "p01-b, p01-w remain (2 of 3): P01 does not survive another loss until undrain"
        ),
        "{out}"
    );
    assert_eq!(drain("p01-a", &[]).0, 1, "nobody is there to say yes");
    assert_eq!(next_writer(&client), "p01-a", "nothing was begun");

    let (code, out) = drain("p01-a", &["--yes"]);
    assert_eq!(code, 0, "{out}\n{}", lab.log());
    assert!(out.contains("safe to power off p01-a until "), "{out}");
    assert_eq!(next_writer(&client), "p01-b");
    assert_eq!(drain("p01-b", &["--yes"]).0, 1, "the other one of the pair");
    let report = lab.report("p01-a");
    assert_eq!(report["lease"]["ready"], false, "it takes over from nobody");
    lab.lab(&["kill", "p01-a"]);
    lab.until("its silence is seen", || !lab.is_converged());
    let needs = lab.status().expect("it answers")["needsPerson"].clone();
    assert_eq!(needs, serde_json::json!([]), "it is expected");
    assert_eq!(next_writer(&client), "p01-b");

    lab.lab(&["heal", "p01-a"]);
    lab.until("it is back, and votes only", || {
        let report = lab.report("p01-a");
        report["lease"]["part"] == "following" && report["lease"]["ready"] == false
    });
    let (code, out) = lab.stead(&["undrain", "p01-a"]);
    assert_eq!(code, 0, "{out}");
    lab.until_passive("p01-a");
    lab.wait_converged("it is in service again");
    assert_eq!(next_writer(&client), "p01-b", "it is active no more");
    lab.lab(&["kill", "p01-b"]);
    assert_eq!(next_writer(&client), "p01-a", "and takes over again");
    lab.lab(&["heal", "p01-b"]);
    lab.until_passive("p01-b");
    lab.wait_converged("the pair is whole");

    // A front end: what is counted moves, what is placed by hand leaves DNS.
    let (code, out) = drain("p01-f1", &["--yes"]);
    assert_eq!(code, 0, "{out}\n{}", lab.log());
    let at_f1 = |name: &str| instance_of(&lab, &format!("P01/{name}@p01-f1"));
    assert_eq!(at_f1("distributionPoint"), serde_json::Value::Null);
    let kept = at_f1("managementPoint");
    assert_eq!(kept["published"], false, "{kept}");
    lab.lab(&["kill", "p01-f1"]);
    lab.until("its silence is seen", || !lab.is_converged());
    lab.lab(&["heal", "p01-f1"]);
    assert_eq!(lab.stead(&["undrain", "p01-f1"]).0, 0);
    lab.until("it is published again", || {
        at_f1("managementPoint")["published"] == true
    });
    lab.wait_converged("as declared");
    assert_eq!(
        at_f1("distributionPoint"),
        serde_json::Value::Null,
        "it stays"
    );
    let writes = client.writes();
    drop(client);
    lab.records(P01, Vec::new()).judge(&writes);
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
