//! Instances heal, and outlive agents and keepers (H10, H18).

use rustix::process::Signal;
use serde_json::json;
use site_agent::keeper::link::KeeperLink;
use site_agent::processes;
use stead_schemas::wire::{Health, Phase, Probe};

use crate::lab::{Lab, check, command, lives, one, shell, until, web};

async fn keeper_of(lab: &Lab, group: &str) -> u32 {
    let folder = lab.state().join("instances").join(group);
    let link = KeeperLink::connect(&folder).await.unwrap().unwrap();
    link.state().keeper
}

#[tokio::test]
async fn an_assigned_instance_becomes_healthy() {
    let mut lab = Lab::running().await;
    lab.assign(one("web", web())).await;
    let report = lab.until_healthy("web").await;
    assert_eq!(report.phase, Phase::Running);
    assert_eq!(report.restarts, 0);
    let state = lab.report().await.unwrap();
    assert!(state.assigned.contains_key(&"web".parse().unwrap()));
    assert_eq!(state.generation.unwrap().number, 1);
}

#[tokio::test]
async fn a_killed_instance_is_started_again() {
    let mut lab = Lab::running().await;
    lab.assign(one("web", web())).await;
    let first = lab.until_healthy("web").await;
    processes::signal(first.pid.unwrap(), Signal::KILL).unwrap();
    let second = lab
        .until_instance("web", "back", |one| {
            one.health == Health::Healthy && one.pid != first.pid && one.pid.is_some()
        })
        .await;
    assert_eq!(second.restarts, 1);
}

#[tokio::test]
async fn h18_a_killed_agent_leaves_its_instances_and_the_next_adopts_them() {
    let mut lab = Lab::running().await;
    lab.assign(one("web", web())).await;
    let before = lab.until_healthy("web").await;
    lab.kill_agent();
    assert!(lives(before.pid.unwrap()));
    lab.start().await;
    let report = lab.report().await.unwrap();
    let after = &report.instances[&"web".parse().unwrap()];
    assert_eq!(after.pid, before.pid, "adopted, not restarted");
    assert_eq!(
        after.health,
        Health::Healthy,
        "known from the first answer on"
    );
    assert_eq!(after.restarts, 0);
    assert!(lives(before.pid.unwrap()));
}

#[tokio::test]
async fn h18_what_died_while_no_agent_was_there_is_started() {
    let mut lab = Lab::running().await;
    lab.assign(one("web", web())).await;
    let before = lab.until_healthy("web").await;
    lab.kill_agent();
    processes::signal(before.pid.unwrap(), Signal::KILL).unwrap();
    until("gone", || !lives(before.pid.unwrap())).await;
    lab.start().await;
    let after = lab.until_healthy("web").await;
    assert_ne!(after.pid, before.pid);
}

async fn a_killed_keeper(cgroup: &str) {
    let mut lab = Lab::with(json!({ "cgroup": cgroup }));
    lab.start().await;
    lab.assign(one("web", web())).await;
    let before = lab.until_healthy("web").await;
    let keeper = keeper_of(&lab, "web").await;
    processes::signal(keeper, Signal::KILL).unwrap();
    let after = lab
        .until_instance("web", "back", |one| {
            one.health == Health::Healthy && one.pid != before.pid && one.pid.is_some()
        })
        .await;
    assert!(!lives(before.pid.unwrap()), "the orphan is gone");
    assert_eq!(lab.marked(), [after.pid.unwrap()], "one process, not two");
}

#[tokio::test]
async fn h10_a_killed_keepers_orphans_are_killed_by_cgroup() {
    a_killed_keeper("auto").await;
}

#[tokio::test]
async fn h10_a_killed_keepers_orphans_are_killed_by_their_mark() {
    a_killed_keeper("off").await;
}

#[tokio::test]
async fn h18_agent_and_keeper_killed_together_leave_one_instance() {
    let mut lab = Lab::running().await;
    lab.assign(one("web", web())).await;
    let before = lab.until_healthy("web").await;
    let keeper = keeper_of(&lab, "web").await;
    lab.kill_agent();
    processes::signal(keeper, Signal::KILL).unwrap();
    until("gone", || !lives(keeper)).await;
    assert!(lives(before.pid.unwrap()));
    lab.start().await;
    let after = lab.until_healthy("web").await;
    assert_eq!(lab.marked(), [after.pid.unwrap()]);
}

#[tokio::test]
async fn h18_reload_keeps_pid_and_instances() {
    let mut lab = Lab::running().await;
    lab.assign(one("web", web())).await;
    let before = lab.until_healthy("web").await;
    let started = lab.report().await.unwrap().started_at;
    let reloaded = lab.run(&["reload", "--config", lab.config().to_str().unwrap()]);
    assert!(reloaded.status.success(), "{reloaded:?}");
    let report = lab
        .until("a new start", |report| report.started_at > started)
        .await;
    assert!(lives(lab.pid()), "same process");
    let after = &report.instances[&"web".parse().unwrap()];
    assert_eq!((after.pid, after.health), (before.pid, Health::Healthy));
}

#[tokio::test]
async fn h18_an_instance_that_ends_after_a_reload_is_reaped_and_started() {
    let mut lab = Lab::running().await;
    lab.assign(one("web", web())).await;
    let before = lab.until_healthy("web").await;
    let keeper = keeper_of(&lab, "web").await;
    let started = lab.report().await.unwrap().started_at;
    lab.signal(Signal::HUP);
    lab.until("a new start", |report| report.started_at > started)
        .await;
    processes::signal(before.pid.unwrap(), Signal::KILL).unwrap();
    lab.until_instance("web", "back", |one| {
        one.health == Health::Healthy && one.pid != before.pid
    })
    .await;
    until("no zombie", || processes::procfs::stat(keeper).is_none()).await;
}

#[tokio::test]
async fn a_crash_loop_is_said_with_status_and_last_line() {
    let mut lab = Lab::running().await;
    lab.assign(one("bad", shell("echo no such database >&2; exit 7")))
        .await;
    let report = lab
        .until_instance("bad", "in a crash loop", |one| {
            one.phase == Phase::CrashLoop
        })
        .await;
    let message = report.message.unwrap();
    assert!(
        message.contains("exit status 7") && message.contains("no such database"),
        "{message}"
    );
    assert_eq!(report.health, Health::Unhealthy);
    assert_eq!(report.restarts, 4);
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let mut lab = Lab::running().await;
    lab.assign(one("none", command(&["/does/not/exist"]))).await;
    let report = lab
        .until_instance("none", "failed", |one| one.phase == Phase::Failed)
        .await;
    let message = report.message.unwrap();
    assert!(message.contains("/does/not/exist"), "{message}");
}

#[tokio::test]
async fn checks_tell_sick_from_well() {
    let mut lab = Lab::running().await;
    let flag = lab.dir.path().join("well");
    std::fs::write(&flag, "").unwrap();
    let mut spec = shell("sleep 1000");
    let words = ["test", "-e", flag.to_str().unwrap()].map(str::to_owned);
    spec.health = Some(check(Probe::Command(words.to_vec())));
    let mut tcp = spec.clone();
    tcp.health = Some(check(Probe::Tcp { port: None }));
    let listener = std::net::TcpListener::bind((tcp.address, tcp.port)).unwrap();
    let mut both = one("cmd", spec);
    both.insert("tcp".parse().unwrap(), Box::new(tcp));
    lab.assign(both).await;
    let first = lab.until_healthy("cmd").await;
    lab.until_healthy("tcp").await;
    std::fs::remove_file(&flag).unwrap();
    drop(listener);
    for group in ["cmd", "tcp"] {
        let sick = lab
            .until_instance(group, "sick", |one| one.health == Health::Unhealthy)
            .await;
        assert!(sick.message.is_some());
    }
    std::fs::write(&flag, "").unwrap();
    let again = lab.until_healthy("cmd").await;
    assert_eq!(first.pid, again.pid, "sick is not restarted");
}

#[tokio::test]
async fn a_check_that_hangs_leaves_nothing_behind() {
    let mut lab = Lab::running().await;
    let mut spec = shell("sleep 1000");
    let script = "sleep 1001 & echo $! > $STEAD_DATA/child; wait";
    let mut hangs = check(Probe::Command(
        ["sh", "-c", script].map(str::to_owned).to_vec(),
    ));
    hangs.timeout = stead_schemas::time::DurationMs(200);
    spec.health = Some(hangs);
    lab.assign(one("app", spec)).await;
    let child = crate::lab::number_in(&lab.state().join("data/app/child")).await;
    until("killed", || !lives(child)).await;
    let sick = lab
        .until_instance("app", "sick", |one| one.health == Health::Unhealthy)
        .await;
    assert!(sick.message.unwrap().contains("no answer within"));
}

#[tokio::test]
async fn a_reload_with_wrong_settings_changes_nothing() {
    let mut lab = Lab::running().await;
    lab.assign(one("web", web())).await;
    let before = lab.until_healthy("web").await;
    let started = lab.report().await.unwrap().started_at;
    for wrong in [json!({"listen": "nowhere"}), json!({"stateDir": "."})] {
        let said = lab.log().matches("not reloaded").count();
        lab.write_config(wrong);
        lab.signal(Signal::HUP);
        until("said so", || {
            lab.log().matches("not reloaded").count() > said
        })
        .await;
    }
    let report = lab.report().await.unwrap();
    assert_eq!(report.started_at, started);
    assert_eq!(report.instances[&"web".parse().unwrap()].pid, before.pid);
}

#[tokio::test]
async fn h18_all_killed_at_once_is_healed() {
    let mut lab = Lab::running().await;
    let mut both = one("web", web());
    both.insert("other".parse().unwrap(), Box::new(web()));
    lab.assign(both).await;
    for _ in 0..3 {
        let victim = lab.until_healthy("web").await.pid.unwrap();
        let bystander = lab.until_healthy("other").await.pid;
        let keeper = keeper_of(&lab, "web").await;
        lab.kill_agent();
        processes::signal(keeper, Signal::KILL).unwrap();
        processes::signal(victim, Signal::KILL).unwrap();
        lab.start().await;
        let healed = lab.until_healthy("web").await.pid;
        assert_eq!(lab.until_healthy("other").await.pid, bystander);
        let mut expected = vec![healed.unwrap(), bystander.unwrap()];
        expected.sort_unstable();
        let mut marked = lab.marked();
        marked.sort_unstable();
        assert_eq!(marked, expected);
    }
}

#[tokio::test]
async fn a_changed_spec_replaces_the_instance() {
    let mut lab = Lab::running().await;
    let mut spec = web();
    lab.assign(one("web", spec.clone())).await;
    let before = lab.until_healthy("web").await;
    spec.env.insert(
        "MODE".to_owned(),
        stead_schemas::wire::EnvValue::Plain("new".to_owned()),
    );
    let id = spec.id();
    lab.assign(one("web", spec)).await;
    let after = lab
        .until_instance("web", "replaced", |one| {
            one.spec == id && one.health == Health::Healthy
        })
        .await;
    assert_ne!(after.pid, before.pid);
    assert!(!lives(before.pid.unwrap()));
    assert_eq!(after.restarts, 0);
}
