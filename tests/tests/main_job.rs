//! The main job on real parts: a commit in git becomes healthy, published role instances, and
//! stays so whatever is killed. Real processes, real TLS, real DNS; one hierarchy a test.

use std::time::Duration;

use rustix::process::Signal;
use stead_schemas::declared::settings::TlsFiles;
use stead_schemas::time::WallMs;
use stead_wire::clock::wall_now;
use stead_wire::material::Material;
use stead_wire::{pki, pki_files};
use system_tests::harness::{DOMAIN, HIERARCHY, Harness};
use system_tests::processes::{signal, wait_until};
use system_tests::remote::Remote;
use system_tests::sampler::{Sampler, addresses, answers};
use system_tests::topology::{CONTENT_PORT, SERVERS, Shape, commit, files, running};

const PATIENCE: Duration = Duration::from_secs(60);

fn instances(harness: &Harness) -> serde_json::Value {
    let (code, out, err) = harness.stead(&["status", "-o", "json"]);
    assert_eq!(code, 0, "{err}");
    serde_json::from_str(&out).expect("status is JSON")
}

fn pid_of(harness: &Harness, name: &str) -> Option<u32> {
    let status = instances(harness);
    let sites = status["sites"].as_array()?;
    let found = sites
        .iter()
        .flat_map(|site| site["instances"].as_array().into_iter().flatten())
        .find(|instance| instance["name"] == name)?;
    found["pid"]
        .as_u64()
        .and_then(|pid| u32::try_from(pid).ok())
}

fn content_name(site: &str) -> String {
    format!("distributionpoint.{site}.{DOMAIN}")
}

#[test]
fn a_commit_becomes_healthy_instances_published_in_dns() {
    let (harness, _) = running(PATIENCE);
    let mut served = addresses(harness.dns_server(), &content_name("p01")).expect("DNS answers");
    served.sort_unstable();
    assert_eq!(served, [harness.address(21), harness.address(22)]);
    for address in served {
        assert!(
            answers((address, CONTENT_PORT).into()),
            "{address} is published and answers"
        );
    }
    let (_, taken, _) = harness.stead(&["history", "-o", "json"]);
    assert!(
        taken.contains("\"taken\""),
        "the journal tells what was done: {taken}"
    );
}

#[test]
fn a_killed_instance_heals_and_leaves_dns_meanwhile_unless_it_is_the_last() {
    let (harness, _) = running(PATIENCE);
    let name = "P01/distributionPoint@p01-f1";
    let pid = pid_of(&harness, name).expect("it runs");
    let sampler = Sampler::start(harness.dns_server(), &content_name("p01"), CONTENT_PORT);
    signal(pid, Signal::KILL);
    wait_until(
        "the instance runs again",
        PATIENCE,
        || pid_of(&harness, name).is_some_and(|now| now != pid),
        || harness.describe(),
    );
    let samples = sampler.stop();
    assert!(
        samples.iter().all(|sample| sample.serves()),
        "the other one served all the while"
    );
}

#[test]
fn h18_instances_outlive_their_agent_and_are_adopted() {
    let (mut harness, revision) = running(PATIENCE);
    let name = "P01/distributionPoint@p01-f1";
    let pid = pid_of(&harness, name).expect("it runs");
    let endpoint = (harness.address(21), CONTENT_PORT).into();
    harness.kill_agent("p01-f1");
    assert!(answers(endpoint), "the instance serves without its agent");
    harness.start_agent("p01-f1", 21);
    harness.wait_converged(&revision, PATIENCE);
    assert_eq!(pid_of(&harness, name), Some(pid), "adopted, not restarted");
    assert!(answers(endpoint));
}

#[test]
fn a_move_never_leaves_the_name_without_a_healthy_instance() {
    let (harness, _) = running(PATIENCE);
    let sampler = Sampler::start(harness.dns_server(), &content_name("p01"), CONTENT_PORT);
    let shape = Shape {
        content_on: vec!["p01-f2", "p01-f3"],
        ..Shape::default()
    };
    let revision = commit(&harness, "move content from f1 to f3", &shape);
    harness.wait_converged(&revision, PATIENCE);
    let samples = sampler.stop();
    assert!(samples.len() > 50, "sampled all along: {}", samples.len());
    for sample in &samples {
        let served = sample.served.as_ref().expect("DNS answers at every moment");
        assert_eq!(
            served.len(),
            sample.healthy.len(),
            "every published one answers: {sample:?}"
        );
        assert!(sample.serves(), "{sample:?}");
    }
    let mut served = addresses(harness.dns_server(), &content_name("p01")).expect("DNS answers");
    served.sort_unstable();
    assert_eq!(served, [harness.address(22), harness.address(23)]);
    assert!(
        !answers((harness.address(21), CONTENT_PORT).into()),
        "the old one is gone"
    );
}

#[test]
fn a_topology_that_is_not_committed_is_planned_against_what_runs() {
    let (harness, revision) = running(PATIENCE);
    let folder = tempfile::tempdir().expect("a folder");
    let write = |shape: &Shape| {
        for (path, text) in files(&harness, shape) {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a file has one")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        }
    };
    let path = folder.path().display().to_string();
    let plan = || harness.stead(&["plan", &path, "--live", "--detailed-exitcode", "-o", "json"]);
    let own = || harness.stead(&["plan", "--live", "-o", "json"]);
    let before = own();
    write(&Shape::default());
    let (code, out, err) = plan();
    assert_eq!(code, 0, "as it is: {out}{err}");
    write(&Shape {
        content_on: vec!["p01-f2", "p01-f3"],
        second: false,
        ..Shape::default()
    });
    let (code, out, err) = plan();
    assert_eq!(code, 2, "{out}{err}");
    let view: serde_json::Value = serde_json::from_str(&out).expect("a plan is JSON");
    let sites: Vec<&String> = view["sites"].as_object().expect("sites").keys().collect();
    assert_eq!(sites, ["P01", "S02"], "{out}");
    assert_eq!(view["counts"]["toMove"], 1, "{out}");
    assert_eq!(view["counts"]["toInstall"], 0, "{out}");
    assert_eq!(own(), before, "the reconciler's own road is as it was");
    harness.wait_converged(&revision, PATIENCE);
}

#[test]
fn h7_a_lost_store_changes_nothing() {
    let (mut harness, revision) = running(PATIENCE);
    let names = [
        "P01/distributionPoint@p01-f1",
        "S01/managementPoint@s01-srv",
    ];
    let before: Vec<_> = names.iter().map(|name| pid_of(&harness, name)).collect();
    harness.kill_reconciler();
    std::fs::remove_dir_all(harness.path("state")).expect("the store is there");
    let sampler = Sampler::start(harness.dns_server(), &content_name("p01"), CONTENT_PORT);
    harness.start_reconciler();
    harness.wait_converged(&revision, PATIENCE);
    let after: Vec<_> = names.iter().map(|name| pid_of(&harness, name)).collect();
    assert_eq!(before, after, "nothing was restarted");
    let (_, taken, _) = harness.stead(&["history", "-o", "json"]);
    assert!(!taken.contains("\"taken\""), "nothing was done: {taken}");
    assert!(sampler.stop().iter().all(|sample| {
        sample
            .served
            .as_ref()
            .is_some_and(|served| served.len() == 2)
    }));
}

#[test]
fn a_revision_that_does_not_check_is_refused_and_the_last_good_one_stays() {
    let (harness, good) = running(PATIENCE);
    let bad = harness.commit(
        "a typo",
        &[("sites/P01.yaml", "apiVersion: stead/v1\nkind: Sitte\n")],
    );
    wait_until(
        "the bad revision is reported",
        PATIENCE,
        || {
            let (_, out, _) = harness.stead(&["list", "revisions", "-o", "json"]);
            out.contains(&bad) && out.contains("refused")
        },
        || harness.describe(),
    );
    let status = instances(&harness);
    assert_eq!(status["source"]["inForce"].as_str(), Some(good.as_str()));
    assert!(
        answers((harness.address(21), CONTENT_PORT).into()),
        "and it keeps serving"
    );
}

#[test]
fn removing_a_site_takes_its_instances_and_names_and_nothing_else() {
    let (harness, _) = running(PATIENCE);
    let revision = commit(
        &harness,
        "S02 goes",
        &Shape {
            second: false,
            ..Shape::default()
        },
    );
    harness.wait_converged(&revision, PATIENCE);
    wait_until(
        "S02's name is gone",
        PATIENCE,
        || addresses(harness.dns_server(), &content_name("s02")).is_some_and(|a| a.is_empty()),
        || harness.describe(),
    );
    assert!(!answers((harness.address(42), CONTENT_PORT).into()));
    assert!(answers((harness.address(21), CONTENT_PORT).into()));
}

/// The sites of the status, their suspensions among them, as JSON text.
fn sites(harness: &Harness) -> String {
    let (code, out, err) = harness.stead(&["status", "-o", "json"]);
    assert_eq!(code, 0, "{err}");
    let status: serde_json::Value = serde_json::from_str(&out).expect("status is JSON");
    status["sites"].to_string()
}

#[test]
fn an_operator_elsewhere_sees_and_commands_by_certificate() {
    let (harness, good) = running(PATIENCE);
    harness.issue("pki", "operator", "alice", &[]);
    let alice = Remote::new(&harness, "operator-alice");
    for seen in [
        vec!["status"],
        vec!["list", "servers"],
        vec!["list", "roles"],
        vec!["list", "records"],
        vec!["list", "revisions"],
        vec!["why", "P01/distributionPoint@p01-f1"],
        vec!["history", "P01"],
    ] {
        let json = [seen.as_slice(), &["-o", "json"]].concat();
        let (code, far, err) = alice.stead(&json);
        assert_eq!(code, 0, "{seen:?}: {err}");
        let far: serde_json::Value = serde_json::from_str(&far).expect("JSON");
        assert!(
            !far.is_null() && far != serde_json::json!([]),
            "{seen:?}: {far}"
        );
    }
    let (code, out, err) = alice.stead(&["status", "-o", "json"]);
    assert!(code == 0 && out.contains(&good), "{out} {err}");
    let (code, out, err) = alice.stead(&["logs", "P01/distributionPoint@p01-f1"]);
    assert_eq!(code, 0, "{out} {err}");
    let topology = harness.path("topology").display().to_string();
    let (code, out, err) = alice.stead(&["plan", &topology, "--live"]);
    assert!(code == 0 && out.contains("0 to install"), "{out} {err}");

    let (code, _, err) = alice.stead(&["suspend", "P01", "--reason", "CHG-7"]);
    assert_eq!(code, 0, "{err}");
    assert!(sites(&harness).contains("alice"), "{}", sites(&harness));
    let shape = Shape {
        content_on: vec!["p01-f2", "p01-f3"],
        ..Shape::default()
    };
    let revision = commit(&harness, "move content while suspended", &shape);
    wait_until(
        "the move is held by alice's suspension",
        PATIENCE,
        || {
            let (_, out, _) = alice.stead(&["list", "holds", "-o", "json"]);
            out.contains("CHG-7")
                && harness
                    .stead(&["status", "-o", "json"])
                    .1
                    .contains(&revision)
        },
        || harness.describe(),
    );
    assert!(answers((harness.address(21), CONTENT_PORT).into()));
    let (code, _, err) = alice.stead(&["resume", "P01"]);
    assert_eq!(code, 0, "{err}");
    let (code, out, err) = alice.stead(&[
        "wait",
        "--converged",
        "--revision",
        &revision,
        "--timeout",
        "60s",
    ]);
    assert_eq!(code, 0, "{out} {err}");
    assert!(!answers((harness.address(21), CONTENT_PORT).into()));
    let (_, journal, _) = harness.stead(&["history", "P01", "-o", "json"]);
    let entries: serde_json::Value = serde_json::from_str(&journal).expect("JSON");
    let commands = entries
        .as_array()
        .into_iter()
        .flatten()
        .filter(|entry| entry["kind"] == "command" && entry.to_string().contains("alice"));
    assert_eq!(
        commands.count(),
        2,
        "both are journalled as hers: {journal}"
    );
}

#[test]
fn only_an_operator_of_this_hierarchy_gets_an_answer() {
    let mut harness = Harness::new();
    harness.issue("pki", "server", "p01-a", &[]);
    harness.issue("pki", "operator", "alice", &[]);
    harness.make_ca("other");
    harness.issue("other", "operator", "mallory", &[]);
    commit(&harness, "three sites", &Shape::default());
    harness.start_reconciler();
    let alice = || Remote::new(&harness, "operator-alice");
    wait_until(
        "the operator is answered",
        PATIENCE,
        || alice().stead(&["status"]).0 == 0 && harness.stead(&["status"]).1.contains("P01"),
        || harness.describe(),
    );
    // Read or command: who is no operator gets neither.
    for peer in ["server-p01-a", "reconciler-stead-1"] {
        for args in [
            vec!["status"],
            vec!["suspend", "P01", "--reason", "not-hers-to-say"],
        ] {
            let (code, out, err) = Remote::new(&harness, peer).stead(&args);
            assert_eq!(code, 1, "{peer} {args:?}: {out} {err}");
            assert!(err.contains("an operator's certificate is needed"), "{err}");
            assert_eq!(out, "", "{peer} {args:?}");
        }
    }
    let stranger =
        || Remote::new(&harness, "operator-mallory").with_files_of(harness.path("other/out"));
    std::fs::copy(
        harness.path("pki/out/ca.crt"),
        harness.path("other/out/theirs.crt"),
    )
    .expect("a copy");
    let (code, _, err) = stranger().stead(&["status"]);
    assert_eq!(
        code, 3,
        "of another CA, which does not know this reconciler: {err}"
    );
    // She trusts this CA now; it still does not trust hers.
    std::fs::copy(
        harness.path("pki/out/ca.crt"),
        harness.path("other/out/ca.crt"),
    )
    .expect("a copy");
    let (code, out, err) = stranger().stead(&["suspend", "P01", "--reason", "not-hers-to-say"]);
    assert!(code != 0 && out.is_empty(), "{code} {out} {err}");
    let (code, _, err) = alice().expecting("stead-2").stead(&["status"]);
    assert_eq!(code, 3, "it is another reconciler than asked for: {err}");
    assert!(
        !sites(&harness).contains("not-hers-to-say"),
        "{}",
        sites(&harness)
    );
}

/// The words after `site-agent` of the line that lets this server in.
fn join_line(harness: &Harness, server: &str) -> Vec<String> {
    let (code, out, err) = harness.stead(&["pki", "token", server]);
    assert_eq!(code, 0, "{out} {err}");
    let line = out
        .lines()
        .find(|line| line.starts_with(server))
        .unwrap_or_default();
    line.split_whitespace().skip(2).map(str::to_owned).collect()
}

fn join(harness: &Harness, line: &[String], dir: &str) -> (i32, String, String) {
    let state = harness.path(&format!("agents/{dir}"));
    let (dir, state) = (harness.path(dir), state);
    let (dir, state) = (dir.display().to_string(), state.display().to_string());
    let mut args: Vec<&str> = line.iter().map(String::as_str).collect();
    args.extend(["--dir", &dir, "--state", &state]);
    harness.site_agent(&args)
}

#[test]
fn a_server_joins_with_the_line_that_a_token_prints_and_is_converged() {
    let mut harness = Harness::new();
    harness.start_reconciler();
    let revision = commit(&harness, "three sites", &Shape::default());
    wait_until(
        "the revision is known",
        PATIENCE,
        || harness.stead(&["status"]).1.contains("P01"),
        || harness.describe(),
    );
    for (server, last) in SERVERS {
        if server != "p01-a" {
            harness.start_agent(server, last);
        }
    }
    // Nobody is let in by a name alone, nor a name that git does not have.
    let (code, _, err) = harness.stead(&["pki", "token", "p01-z"]);
    assert!(
        code == 1 && err.contains("p01-z is not declared"),
        "{code} {err}"
    );
    let line = join_line(&harness, "p01-a");
    let mut guessed = line.clone();
    let at = guessed
        .iter()
        .position(|word| word == "--token")
        .expect("a token")
        + 1;
    guessed[at] = "st-00000000000000000000000000000000".to_owned();
    let (code, out, err) = join(&harness, &guessed, "joined");
    assert!(
        code == 1 && out.is_empty() && err.contains("token is not known"),
        "{err}"
    );
    assert!(err.contains("stead pki token p01-a"), "{err}");
    // Another CA's digest: nothing is sent there.
    let mut astray = line.clone();
    let digest = astray.last_mut().expect("a digest");
    *digest = format!("sha256:{}", "0".repeat(64));
    let (code, _, err) = join(&harness, &astray, "joined");
    assert!(code == 1 && err.contains("nothing was sent"), "{err}");
    assert!(
        !harness.path("joined/agent.yaml").exists(),
        "nothing half done"
    );
    // The line itself, after two that failed: the key they left is taken up.
    let key = std::fs::read(harness.path("joined/server-p01-a.key")).expect("a key");
    let (code, out, err) = join(&harness, &line, "joined");
    assert_eq!(code, 0, "{out} {err}");
    assert!(out.contains("joined   p01-a of P01"), "{out}");
    let after = std::fs::read(harness.path("joined/server-p01-a.key")).expect("a key");
    assert_eq!(key, after, "made once");
    // Once: not for another machine, and not over what is there.
    let (code, _, err) = join(&harness, &line, "thief");
    assert!(code == 1 && err.contains("was used already"), "{err}");
    let (code, _, err) = join(&harness, &line, "joined");
    assert!(code == 1 && err.contains("joined already"), "{err}");
    let config = harness.path("joined/agent.yaml");
    harness.start_agent_of("p01-a", &config);
    harness.wait_converged(&revision, PATIENCE);
    let (_, journal, _) = harness.stead(&["history", "P01"]);
    for told in ["made a join token", "joined with", "was not let in"] {
        assert!(journal.contains(told), "{told}: {journal}");
    }
    let secret = &line[at];
    let log = std::fs::read_to_string(harness.path("logs/reconciler.log")).expect("a log");
    assert!(
        !journal.contains(secret) && !log.contains(secret),
        "tokens are told once"
    );
}

/// A certificate as `stead pki issue` would have made it so many days ago, in the place of today's.
fn issued_days_ago(harness: &Harness, kind: &str, name: &str, days: u64) {
    let ca = pki_files::load_ca(&harness.path("pki")).expect("a CA");
    let request = pki::Request {
        identity: format!("stead://{HIERARCHY}/{kind}/{name}")
            .parse()
            .expect("an identity"),
        addresses: Vec::new(),
        dns_names: Vec::new(),
        days: pki::LEAF_DAYS,
    };
    let then = WallMs(wall_now().0 - days * 86_400_000);
    let made = pki::issue(&ca, &request, then).expect("a certificate");
    let at = |end: &str| harness.path(&format!("pki/out/{kind}-{name}.{end}"));
    std::fs::write(at("crt"), made.certificate_pem).expect("written");
    std::fs::write(at("key"), made.key_pem).expect("written");
}

fn days_left(harness: &Harness, name: &str) -> u64 {
    let at = |end: &str| harness.path(&format!("pki/out/{name}.{end}"));
    let files = TlsFiles {
        ca: harness.path("pki/out/ca.crt"),
        cert: at("crt"),
        key: at("key"),
    };
    // Between the two files' changes they are no pair.
    let validity = Material::load(&files).map(|material| material.validity());
    validity.map_or(0, |validity| validity.ends.since(wall_now()).0 / 86_400_000)
}

#[test]
fn h20_certificates_renew_themselves_also_after_their_end() {
    let mut harness = Harness::new();
    // The CA was made a minute ago; certificates may be older than it.
    issued_days_ago(&harness, "reconciler", "stead-1", 70);
    for (server, last) in SERVERS {
        harness.issue("pki", "server", server, &[]);
        match server {
            "p01-f1" => issued_days_ago(&harness, "server", server, 70),
            "p01-f2" => issued_days_ago(&harness, "server", server, 100),
            _ => {}
        }
        harness.start_agent(server, last);
    }
    harness.start_reconciler();
    let revision = commit(&harness, "three sites", &Shape::default());
    for name in ["reconciler-stead-1", "server-p01-f1", "server-p01-f2"] {
        wait_until(
            "its certificate is new",
            PATIENCE,
            || days_left(&harness, name) >= 89,
            || harness.describe(),
        );
    }
    // An assignment goes to nobody outside its dates, so this needs the new ones in use.
    harness.wait_converged(&revision, PATIENCE);
    let (_, journal, _) = harness.stead(&["history", "--limit", "1000"]);
    let renewed = journal.matches("certificate renewed, until").count();
    assert_eq!(renewed, 3, "each once, and nobody who had time: {journal}");
}
