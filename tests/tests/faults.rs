//! What breaks around a running hierarchy, on real parts: networks cut, servers lost, a second
//! writer, a vanished branch. What must not happen matters more than what must.

use std::time::Duration;

use system_tests::harness::{DOMAIN, Harness};
use system_tests::processes::wait_until;
use system_tests::sampler::{Sample, Sampler, addresses, answers};
use system_tests::topology::{CONTENT_PORT, SERVERS, Shape, commit, running};

const PATIENCE: Duration = Duration::from_secs(90);

fn status(harness: &Harness) -> serde_json::Value {
    let (_, out, _) = harness.stead(&["status", "-o", "json"]);
    serde_json::from_str(&out).unwrap_or_default()
}

/// A server's contact: the key of its JSON form, `heard`, `cutOff`, `silent`.
fn contact(harness: &Harness, name: &str) -> String {
    let status = status(harness);
    let sites = status["sites"].as_array().cloned().unwrap_or_default();
    let servers = sites
        .iter()
        .flat_map(|site| site["servers"].as_array().into_iter().flatten());
    let found = servers
        .filter(|server| server["name"] == name)
        .find_map(|server| {
            let contact = &server["contact"];
            contact
                .as_str()
                .map(str::to_owned)
                .or_else(|| contact.as_object()?.keys().next().cloned())
        });
    found.unwrap_or_default()
}

fn wait_contact(harness: &Harness, name: &str, wanted: &str) {
    wait_until(
        &format!("{name} is {wanted}"),
        PATIENCE,
        || contact(harness, name) == wanted,
        || harness.describe(),
    );
}

fn content_of_p01() -> String {
    format!("distributionpoint.p01.{DOMAIN}")
}

fn watch_p01(harness: &Harness) -> Sampler {
    Sampler::start(harness.dns_server(), &content_of_p01(), CONTENT_PORT)
}

fn assert_both_served(samples: &[Sample]) {
    assert!(!samples.is_empty());
    let less = samples
        .iter()
        .find(|s| s.served.as_ref().is_none_or(|served| served.len() != 2));
    assert!(less.is_none(), "something was withdrawn: {less:?}");
}

#[test]
fn h8_a_server_cut_off_from_the_reconciler_alone_is_shown_and_not_withdrawn() {
    let (harness, revision) = running(PATIENCE);
    let sampler = watch_p01(&harness);
    let cut = harness.cut_reconciler(&[harness.address(21)]);
    wait_contact(&harness, "p01-f1", "cutOff");
    drop(cut);
    harness.wait_converged(&revision, PATIENCE);
    assert_both_served(&sampler.stop());
}

#[test]
fn h8_a_reconciler_cut_off_from_every_agent_doubts_itself() {
    let (harness, revision) = running(PATIENCE);
    let sampler = watch_p01(&harness);
    let all: Vec<_> = SERVERS
        .iter()
        .map(|(_, last)| harness.address(*last))
        .collect();
    let cut = harness.cut_reconciler(&all);
    wait_until(
        "it says that it doubts itself",
        PATIENCE,
        || {
            harness
                .stead(&["list", "holds", "-o", "json"])
                .1
                .contains("reconcilerSuspect")
        },
        || harness.describe(),
    );
    drop(cut);
    harness.wait_converged(&revision, PATIENCE);
    assert_both_served(&sampler.stop());
}

#[test]
fn h8_a_lost_zone_leaves_dns_and_comes_back() {
    let (mut harness, revision) = running(PATIENCE);
    harness.kill_server("p01-f1");
    wait_contact(&harness, "p01-f1", "silent");
    wait_until(
        "its record is withdrawn",
        PATIENCE,
        || addresses(harness.dns_server(), &content_of_p01()) == Some(vec![harness.address(22)]),
        || harness.describe(),
    );
    harness.start_agent("p01-f1", 21);
    harness.wait_converged(&revision, PATIENCE);
    assert!(answers((harness.address(21), CONTENT_PORT).into()));
    let back = addresses(harness.dns_server(), &content_of_p01()).unwrap_or_default();
    assert_eq!(back.len(), 2, "published again");
}

#[test]
fn h7_of_two_writers_exactly_one_goes_on() {
    let (mut harness, revision) = running(PATIENCE);
    let sampler = watch_p01(&harness);
    let socket = harness.start_twin();
    let socket = socket.display().to_string();
    let writers = |harness: &Harness| -> Vec<String> {
        let twin = harness.stead(&["status", "--api", &socket, "-o", "json"]).1;
        let twin: serde_json::Value = serde_json::from_str(&twin).unwrap_or_default();
        [status(harness), twin]
            .map(|view| view["reconciler"]["writer"].to_string())
            .to_vec()
    };
    wait_until(
        "one writes and one is fenced",
        PATIENCE,
        || {
            let writers = writers(&harness);
            writers.iter().any(|w| w == "\"writing\"")
                && writers.iter().any(|w| w.contains("fenced"))
        },
        || format!("{:?}\n{}", writers(&harness), harness.describe()),
    );
    assert_both_served(&sampler.stop());
    let wait = [
        "wait",
        "--api",
        &socket,
        "--converged",
        "--revision",
        &revision,
    ];
    let (code, _, err) = harness.stead(&wait);
    assert_eq!(
        code, 0,
        "the newer one, with the higher epoch, is the one that acts: {err}"
    );
}

#[test]
fn a_vanished_branch_is_reported_and_nothing_is_torn_down() {
    let (harness, revision) = running(PATIENCE);
    let sampler = watch_p01(&harness);
    let git = |args: &[&str]| {
        let done = std::process::Command::new("git")
            .arg("-C")
            .arg(harness.path("topology"))
            .args(args)
            .output()
            .expect("git runs");
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
    };
    git(&["branch", "-m", "main", "elsewhere"]);
    wait_until(
        "the source says so",
        PATIENCE,
        || !status(&harness)["source"]["problem"].is_null(),
        || harness.describe(),
    );
    git(&["branch", "-m", "elsewhere", "main"]);
    wait_until(
        "and recovers",
        PATIENCE,
        || status(&harness)["source"]["problem"].is_null(),
        || harness.describe(),
    );
    harness.wait_converged(&revision, PATIENCE);
    assert_both_served(&sampler.stop());
}

#[test]
fn a_suspended_site_waits_with_the_reason_and_goes_on_when_resumed() {
    let (harness, _) = running(PATIENCE);
    let (code, _, err) = harness.stead(&["suspend", "P01", "--reason", "CHG-1"]);
    assert_eq!(code, 0, "{err}");
    let shape = Shape {
        content_on: vec!["p01-f2", "p01-f3"],
        ..Shape::default()
    };
    let revision = commit(&harness, "move content", &shape);
    wait_until(
        "the move is held",
        PATIENCE,
        || {
            harness
                .stead(&["list", "holds", "-o", "json"])
                .1
                .contains("CHG-1")
        },
        || harness.describe(),
    );
    assert!(
        !answers((harness.address(23), CONTENT_PORT).into()),
        "nothing was installed"
    );
    let (code, _, err) = harness.stead(&["resume", "P01"]);
    assert_eq!(code, 0, "{err}");
    harness.wait_converged(&revision, PATIENCE);
    assert!(answers((harness.address(23), CONTENT_PORT).into()));
}

#[test]
fn a_dead_dns_server_delays_no_instance() {
    let (mut harness, _) = running(PATIENCE);
    harness.kill_dns();
    let shape = Shape {
        counted: 2,
        ..Shape::default()
    };
    let revision = commit(&harness, "one more in S01", &shape);
    wait_until(
        "the new instance runs without DNS",
        PATIENCE,
        || {
            [32, 33]
                .iter()
                .all(|last| answers((harness.address(*last), CONTENT_PORT).into()))
        },
        || harness.describe(),
    );
    harness.start_dns();
    harness.wait_converged(&revision, PATIENCE);
    let name = format!("distributionpoint.s01.{DOMAIN}");
    let served = addresses(harness.dns_server(), &name).unwrap_or_default();
    assert_eq!(served.len(), 2, "and is published once DNS is back");
}
