//! Nothing of an instance survives its removal but its data (H10).

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use stead_schemas::time::DurationMs;
use stead_schemas::wire::Phase;

use crate::lab::{Instances, Lab, command, lives, number_in, one, shell, until, web};

/// A tree with a daemon that left session, process group and parent behind.
const ESCAPE: &str = "setsid sh -c 'sleep 1001 & echo $! > $STEAD_DATA/escaped; exec sleep 1002' & \
                      trap '' TERM; exec sleep 1003";

async fn escapees_die(cgroup: &str) {
    let mut lab = Lab::with(json!({ "cgroup": cgroup }));
    lab.start().await;
    let mut spec = shell(ESCAPE);
    spec.stop.grace = DurationMs(100);
    lab.assign(one("tree", spec)).await;
    let escaped = number_in(&lab.state().join("data/tree/escaped")).await;
    assert!(lives(escaped));
    // One that is being exec'd has no readable environment for a moment.
    until("a tree of three", || lab.marked().len() >= 3).await;
    assert_eq!(
        lab.cgroups().len(),
        usize::from(cgroup == "auto"),
        "a writable version 2 cgroup is needed here: run as root"
    );
    lab.assign(Instances::new()).await;
    lab.until("gone", |report| report.instances.is_empty())
        .await;
    assert!(!lives(escaped));
    assert_eq!(lab.marked(), [0; 0]);
    assert!(!lab.state().join("instances/tree").exists());
    assert!(lab.state().join("data/tree/escaped").exists(), "data stays");
    assert_eq!(lab.cgroups(), [""; 0]);
}

#[tokio::test]
async fn h10_setsid_escapees_die_with_a_cgroup() {
    escapees_die("auto").await;
}

#[tokio::test]
async fn h10_setsid_escapees_die_without_a_cgroup() {
    escapees_die("off").await;
}

#[tokio::test]
async fn a_stop_gives_the_time_that_was_promised() {
    let mut lab = Lab::running().await;
    let bye = "trap 'sleep 0.3; echo bye > $STEAD_DATA/bye; exit 0' TERM; echo up; \
               while :; do sleep 0.01; done";
    lab.assign(one("polite", shell(bye))).await;
    let pid = lab.until_healthy("polite").await.pid.unwrap();
    let log = lab
        .state()
        .join("instances/polite/output/output.00000000.log");
    until("up", || {
        std::fs::read_to_string(&log).is_ok_and(|text| text.contains("out up"))
    })
    .await;
    lab.assign(Instances::new()).await;
    lab.until_instance_gone("polite").await;
    assert!(!lives(pid));
    assert!(
        lab.state().join("data/polite/bye").exists(),
        "it had its time"
    );
}

#[tokio::test]
async fn a_stop_ends_by_force_after_the_grace() {
    let mut lab = Lab::running().await;
    let mut spec = shell("trap '' TERM; echo up; while :; do sleep 0.01; done");
    spec.stop.grace = DurationMs(500);
    lab.assign(one("deaf", spec)).await;
    let pid = lab.until_healthy("deaf").await.pid.unwrap();
    let begun = Instant::now();
    lab.assign(Instances::new()).await;
    lab.until_instance_gone("deaf").await;
    assert!(!lives(pid));
    assert!(begun.elapsed() >= Duration::from_millis(400), "not before");
}

#[tokio::test]
async fn h10_a_hung_keeper_does_not_save_its_instance() {
    let mut lab = Lab::running().await;
    let mut spec = command(&["sleep", "1000"]);
    spec.stop.grace = DurationMs(10);
    lab.assign(one("stuck", spec)).await;
    let pid = lab.until_healthy("stuck").await.pid.unwrap();
    let keeper = site_agent::processes::procfs::stat(pid).unwrap().parent;
    site_agent::processes::signal(keeper, Signal::STOP).unwrap();
    lab.assign(Instances::new()).await;
    lab.until_instance_gone("stuck").await;
    assert!(!lives(pid) && !lives(keeper));
}

#[tokio::test]
async fn h10_a_stopped_instance_is_killed() {
    let mut lab = Lab::running().await;
    let mut spec = command(&["sleep", "1000"]);
    spec.stop.grace = DurationMs(50);
    lab.assign(one("asleep", spec)).await;
    let pid = lab.until_healthy("asleep").await.pid.unwrap();
    site_agent::processes::signal(pid, Signal::STOP).unwrap();
    lab.assign(Instances::new()).await;
    lab.until_instance_gone("asleep").await;
    assert!(!lives(pid));
}

#[tokio::test]
async fn ctrl_c_leaves_nothing() {
    let mut lab = Lab::running().await;
    let mut both = one("web", web());
    both.insert(
        "sleep".parse().unwrap(),
        Box::new(command(&["sleep", "1000"])),
    );
    lab.assign(both).await;
    lab.until_healthy("web").await;
    lab.until_healthy("sleep").await;
    lab.signal(Signal::INT);
    assert!(lab.agent_ended().await.success());
    assert_eq!(lab.marked(), [0; 0]);
    assert!(!lab.state().join("agent.sock").exists());
    // The assignment is not forgotten.
    lab.start().await;
    lab.until_healthy("web").await;
}

#[tokio::test]
async fn terminating_the_agent_leaves_its_instances() {
    let mut lab = Lab::running().await;
    lab.assign(one("web", web())).await;
    let pid = lab.until_healthy("web").await.pid.unwrap();
    lab.signal(Signal::TERM);
    assert!(lab.agent_ended().await.success());
    assert!(lives(pid));
    let state = lab.state();
    let stopped = lab.run(&["stop-all", "--state", state.to_str().unwrap()]);
    assert!(stopped.status.success(), "{stopped:?}");
    assert!(!lives(pid));
    assert_eq!(lab.marked(), [0; 0]);
}

#[tokio::test]
async fn a_lost_ledger_stops_nothing_until_the_first_assignment() {
    let mut lab = Lab::running().await;
    let mut both = one("web", web());
    both.insert(
        "old".parse().unwrap(),
        Box::new(command(&["sleep", "1000"])),
    );
    lab.assign(both).await;
    let web_pid = lab.until_healthy("web").await.pid.unwrap();
    let old_pid = lab.until_healthy("old").await.pid.unwrap();
    let spec = lab.report().await.unwrap().assigned[&"web".parse().unwrap()].clone();
    lab.kill_agent();
    std::fs::remove_file(lab.state().join("ledger.json")).unwrap();
    lab.start().await;
    let report = lab.report().await.unwrap();
    assert_eq!((report.instances.len(), report.generation), (2, None));
    assert!(lives(web_pid) && lives(old_pid));
    lab.forget();
    lab.assign(one("web", *spec)).await;
    lab.until_instance_gone("old").await;
    assert_eq!(lab.until_healthy("web").await.pid, Some(web_pid), "kept");
    assert!(
        !lives(old_pid),
        "H8: leftovers go with the first assignment"
    );
}

#[tokio::test]
async fn an_instance_removed_while_no_agent_was_there_goes() {
    let mut lab = Lab::running().await;
    lab.assign(one("web", web())).await;
    let pid = lab.until_healthy("web").await.pid.unwrap();
    lab.kill_agent();
    std::fs::remove_dir_all(lab.state().join("instances/web")).unwrap();
    lab.start().await;
    let after = lab.until_healthy("web").await;
    assert!(!lives(pid), "its folder is gone, so nobody could stop it");
    assert_eq!(lab.marked(), [after.pid.unwrap()]);
    assert_eq!(after.phase, Phase::Running);
}
