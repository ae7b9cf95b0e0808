//! What people type on a server.

use rustix::process::Signal;
use serde_json::Value;
use site_agent::processes;
use stead_schemas::role::Role;
use stead_schemas::wire::{Phase, Program};

use crate::lab::{Instances, Lab, command, one, until, web};

fn text(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn status_shows_what_runs_with_and_without_an_agent() {
    let mut lab = Lab::running().await;
    lab.assign(one("web", web())).await;
    let pid = lab.until_healthy("web").await.pid.unwrap();
    let state = lab.state().display().to_string();
    let shown = text(&lab.run(&["status", "--state", &state]));
    for word in [
        "p01-a of P01 (contoso)",
        "rev-1",
        "web",
        "healthy",
        &pid.to_string(),
    ] {
        assert!(shown.contains(word), "no {word} in\n{shown}");
    }
    lab.kill_agent();
    let shown = text(&lab.run(&["status", "--state", &state]));
    for word in ["does not run", "rev-1", "running", &pid.to_string()] {
        assert!(shown.contains(word), "no {word} in\n{shown}");
    }
    let json: Value =
        serde_json::from_slice(&lab.run(&["status", "--state", &state, "-o", "json"]).stdout)
            .unwrap();
    assert_eq!(json["report"]["instances"]["web"]["pid"], pid);
    assert_eq!(json["agent"], Value::Null);
}

#[tokio::test]
async fn without_anything_the_error_says_so() {
    let lab = Lab::new();
    let nothing = lab.run(&["status", "--state", "/does/not/exist"]);
    assert!(!nothing.status.success());
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("/does/not/exist"));
    let wrong = lab.run(&["run", "--config", "/does/not/exist.yaml"]);
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("exist.yaml"));
}

/// A fence that was asked for and can't be had is no detail (H34).
#[tokio::test]
async fn an_agent_that_cant_have_its_fence_in_the_kernel_does_not_start() {
    let fenced = serde_json::json!({ "cgroup": "off", "networkFence": "nftables" });
    let lab = Lab::with(fenced);
    let config = lab.config().display().to_string();
    let ended = lab.run(&["run", "--config", &config]);
    assert!(!ended.status.success());
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(
        said.contains("networkFence") && said.contains("cgroups"),
        "{said}"
    );
}

#[tokio::test]
async fn purge_removes_the_data_of_what_is_gone_only() {
    let mut lab = Lab::running().await;
    let mut both = one("web", web());
    both.insert(
        "old".parse().unwrap(),
        Box::new(command(&["sleep", "1000"])),
    );
    lab.assign(both).await;
    lab.until_healthy("web").await;
    lab.until_healthy("old").await;
    let spec = lab.report().await.unwrap().assigned[&"web".parse().unwrap()].clone();
    lab.assign(one("web", *spec)).await;
    lab.until_instance_gone("old").await;
    let state = lab.state().display().to_string();
    let listed = text(&lab.run(&["purge", "--state", &state]));
    assert!(listed.contains("data/old") && !listed.contains("data/web"));
    assert!(lab.state().join("data/old").exists(), "only listed");
    assert!(
        !lab.run(&["purge", "--state", &state, "--group", "web", "--yes"])
            .status
            .success()
    );
    assert!(
        lab.run(&["purge", "--state", &state, "--yes"])
            .status
            .success()
    );
    assert!(!lab.state().join("data/old").exists());
    assert!(lab.state().join("data/web").exists());
}

#[tokio::test]
async fn built_in_roles_run_and_those_without_a_program_say_so() {
    let mut lab = Lab::running().await;
    let mut assigned = Instances::new();
    for (group, role) in [
        ("distributionPoint", Role::DistributionPoint),
        ("siteServer", Role::SiteServer),
        ("managementPoint", Role::ManagementPoint),
    ] {
        let mut spec = web();
        spec.role = role;
        spec.program = Program::BuiltIn;
        assigned.insert(group.parse().unwrap(), Box::new(spec));
    }
    lab.assign(assigned).await;
    lab.until_healthy("distributionPoint").await;
    let server = lab.until_healthy("siteServer").await;
    let none = lab
        .until_instance("managementPoint", "failed", |one| {
            one.phase == Phase::Failed
        })
        .await;
    assert!(
        none.message
            .unwrap()
            .contains("no program for managementPoint"),
        "H28"
    );
    // Asked nicely, it ends by itself.
    processes::signal(server.pid.unwrap(), Signal::TERM).unwrap();
    lab.until_instance("siteServer", "restarted", |one| one.restarts == 1)
        .await;
}

#[tokio::test]
async fn a_state_folder_with_a_very_long_name_works() {
    let long = format!("{}/{}", "a".repeat(80), "b".repeat(80));
    let mut lab = Lab::with(serde_json::json!({ "stateDir": format!("{long}/state") }));
    lab.start().await;
    lab.assign(one("web", web())).await;
    let pid = lab.until_healthy("web").await.pid.unwrap();
    let config = lab.config().display().to_string();
    let shown = text(&lab.run(&["status", "--config", &config]));
    assert!(
        shown.contains("healthy"),
        "sockets are longer than 107 bytes: {shown}"
    );
    assert!(lab.run(&["stop-all", "--config", &config]).status.success());
    until("stopped", || !crate::lab::lives(pid)).await;
}
