//! H1, H10, H34: the guard kills when the agent can't, and releases only what is proven gone.
//!
//! Outcomes and their order are asserted, never times. Not shown here: a workload in state D on a
//! stalled disk (this needs a FUSE file system that hangs; a version 1 freezer stands in for
//! it), a guard whose own pages are on a stalled disk, and suspend.

use std::fs;
use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};
use site_agent::guard::timer::boot_ms;

use crate::guard_lab::{FAKE, FakeAgent, GuardLab, be_agent};
use crate::lab::{lives, number_in, until};

const LONG: u64 = 10 * 60 * 1_000;

/// No test: what `FakeAgent` runs. By itself it does nothing.
#[test]
fn fake_agent() {
    if let Some(state) = std::env::var_os(FAKE) {
        be_agent(Path::new(&state));
    }
}

async fn until_dead(pid: u32) {
    until(&format!("dead: {pid}"), || !lives(pid)).await;
}

#[tokio::test]
async fn h1_a_passed_deadline_kills_work_and_agent_then_releases() {
    let mut lab = GuardLab::new().await;
    let escaped = lab.lab.dir.path().join("escaped");
    let script = format!(
        "env -i /usr/bin/setsid sleep 1000 & echo $! > {}; exec sleep 1000",
        escaped.display()
    );
    let work = lab.work(&script).await;
    let escaped = number_in(&escaped).await;
    let mut agent = lab.agent().await;
    agent.must(&lab.allow(7, 300)).await;
    agent.must(&lab.allow(7, 600)).await;
    agent.dead().await;
    until_dead(work).await;
    until_dead(escaped).await;
    lab.released(7).await;
}

#[tokio::test]
async fn h1_a_dead_agent_does_not_wait_for_the_deadline() {
    let mut lab = GuardLab::new().await;
    let work = lab.sleeper().await;
    let mut agent = lab.agent().await;
    agent.must(&lab.allow(7, LONG)).await;
    agent.signal(Signal::KILL);
    agent.dead().await;
    until_dead(work).await;
    lab.released(7).await;
}

#[tokio::test]
async fn h1_a_hung_agent_is_killed_too() {
    let mut lab = GuardLab::new().await;
    let work = lab.sleeper().await;
    let mut agent = lab.agent().await;
    agent.must(&lab.allow(7, 500)).await;
    agent.signal(Signal::STOP);
    agent.dead().await;
    until_dead(work).await;
    lab.released(7).await;
}

#[tokio::test]
async fn h34_the_release_goes_over_connections_opened_beforehand() {
    let mut lab = GuardLab::new().await;
    let mut agent = lab.agent().await;
    agent.must(&lab.allow(7, LONG)).await;
    until("two connections, handshakes and all", || {
        lab.log().matches("is open").count() >= 2
    })
    .await;
    lab.close_doors().await;
    agent.signal(Signal::KILL);
    agent.dead().await;
    lab.released(7).await;
    assert_eq!(lab.scene.connections(), 2);
}

#[tokio::test]
async fn h10_frozen_work_is_killed() {
    let mut lab = GuardLab::new().await;
    let work = lab.sleeper().await;
    fs::write(lab.cgroup().dir().join("cgroup.freeze"), "1").unwrap();
    let mut agent = lab.agent().await;
    agent.must(&lab.allow(7, 300)).await;
    until_dead(work).await;
    agent.dead().await;
    lab.released(7).await;
}

#[tokio::test]
async fn h10_stopped_work_is_killed() {
    let mut lab = GuardLab::new().await;
    let work = lab.sleeper().await;
    site_agent::processes::signal(work, Signal::STOP).unwrap();
    let mut agent = lab.agent().await;
    agent.must(&lab.allow(7, 300)).await;
    until_dead(work).await;
    agent.dead().await;
    lab.released(7).await;
}

#[tokio::test]
async fn h26_work_in_a_cgroup_that_was_made_again_is_killed() {
    let mut lab = GuardLab::new().await;
    let first = lab.sleeper().await;
    let mut agent = lab.agent().await;
    agent.must(&lab.allow(7, LONG)).await;
    lab.cgroup().kill();
    until_dead(first).await;
    until("removed", || {
        lab.cgroup().remove();
        !lab.cgroup().dir().exists()
    })
    .await;
    let second = lab.sleeper().await;
    agent.signal(Signal::KILL);
    agent.dead().await;
    until_dead(second).await;
    lab.released(7).await;
}

#[tokio::test]
async fn h10_without_a_cgroup_nothing_is_ever_released() {
    let mut lab = GuardLab::with(json!({"cgroup": "off"})).await;
    assert!(lab.cgroup.is_none());
    let work = lab.work("sleep 1000 & exec sleep 1000").await;
    let mut agent = lab.agent().await;
    agent.must(&lab.allow(7, 300)).await;
    until_dead(work).await;
    agent.dead().await;
    lab.until_logged("not proven in time").await;
    assert_eq!(lab.lab.marked(), [0; 0], "its children too");
    lab.never_released().await;
}

/// Version 1 freezer of its own; thawed and removed when dropped.
struct Ice(std::path::PathBuf);

impl Ice {
    fn around(pid: u32) -> Self {
        let dir = format!("/sys/fs/cgroup/freezer/stead-test-{pid}");
        fs::create_dir(&dir).expect("a writable version 1 freezer, which stands in for state D");
        let ice = Self(dir.into());
        fs::write(ice.0.join("cgroup.procs"), pid.to_string()).unwrap();
        fs::write(ice.0.join("freezer.state"), "FROZEN").unwrap();
        ice
    }

    fn thaw(&self) {
        fs::write(self.0.join("freezer.state"), "THAWED").unwrap();
    }
}

impl Drop for Ice {
    fn drop(&mut self) {
        drop(fs::write(self.0.join("freezer.state"), "THAWED"));
        let end = std::time::Instant::now() + crate::lab::DEADLINE;
        while fs::remove_dir(&self.0).is_err() && std::time::Instant::now() < end {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

#[tokio::test]
async fn h10_work_that_can_t_be_killed_is_never_released() {
    let mut lab = GuardLab::new().await;
    let work = lab.sleeper().await;
    let ice = Ice::around(work);
    let mut agent = lab.agent().await;
    agent.must(&lab.allow(7, 300)).await;
    agent.dead().await;
    // The agent that is started next hears how it stands, and is allowed nothing.
    let mut next = FakeAgent::start(lab.layout.root()).await;
    let welcome = next.ask(&json!({"hello": {}})).await;
    let expected =
        json!({"term": null, "until": null, "pidLived": false, "highest": 7, "killing": true});
    assert_eq!(welcome["welcome"], expected);
    assert!(next.refused(&lab.allow(8, LONG)).await.contains("proven"));
    assert_eq!(
        next.hear().await,
        json!({"killed": {"term": 7, "empty": false}})
    );
    lab.until_logged("fence incomplete").await;
    assert!(lives(work) && lab.cgroup().populated());
    ice.thaw();
    assert_eq!(
        next.hear().await,
        json!({"killed": {"term": 7, "empty": true}})
    );
    until_dead(work).await;
    next.must(&lab.allow(8, LONG)).await;
    next.must(&json!({"ended": {"term": 8}})).await;
    lab.never_released().await;
}

#[tokio::test]
async fn h1_a_guard_that_starts_kills_first_and_knows_no_term() {
    let mut lab = GuardLab::new().await;
    let work = lab.sleeper().await;
    let mut agent = lab.agent().await;
    agent.must(&lab.allow(7, LONG)).await;
    lab.kill_guard();
    assert_eq!(
        agent.hear().await,
        Value::Null,
        "the agent hears of its loss"
    );
    assert!(lives(work) && lives(agent.pid()));
    lab.start().await;
    assert!(
        !lives(work) && !lab.cgroup().populated(),
        "before it listens"
    );
    let mut next = lab.agent().await;
    let again = next.ask(&json!({"hello": {}})).await;
    let expected =
        json!({"term": null, "until": null, "pidLived": true, "highest": 0, "killing": false});
    assert_eq!(again["welcome"], expected);
    lab.never_released().await;
}

#[tokio::test]
async fn work_that_ended_by_itself_is_not_killed_for() {
    let mut lab = GuardLab::new().await;
    let work = lab.sleeper().await;
    let mut agent = lab.agent().await;
    let allow = lab.allow(7, 400);
    agent.must(&allow).await;
    agent.must(&json!({"ended": {"term": 7}})).await;
    agent.must(&json!({"ended": {"term": 7}})).await;
    let refused = agent.refused(&lab.allow(7, LONG)).await;
    assert!(refused.contains("term 7 is over"), "{refused}");
    agent.refused(&lab.allow(6, LONG)).await;
    let until_ms = allow["allow"]["until"].as_u64().unwrap();
    until("past the deadline", || boot_ms() > until_ms).await;
    // The guard has been through its loop since: it answers.
    agent.must(&lab.allow(8, LONG)).await;
    agent.refused(&lab.allow(9, LONG)).await;
    agent.must(&json!({"ended": {"term": 8}})).await;
    lab.never_released().await;
    assert!(
        lives(work) && lives(agent.pid()),
        "SIGTERM with nothing armed"
    );
}

#[tokio::test]
async fn an_agent_that_dies_without_a_term_takes_nothing_along() {
    let mut lab = GuardLab::new().await;
    let work = lab.sleeper().await;
    let mut agent = lab.agent().await;
    agent.signal(Signal::KILL);
    agent.dead().await;
    let mut next = lab.agent().await;
    next.must(&lab.allow(7, LONG)).await;
    next.must(&json!({"ended": {"term": 7}})).await;
    lab.never_released().await;
    assert!(lives(work));
}

#[tokio::test]
async fn a_second_agent_is_refused_while_the_first_lives() {
    let mut lab = GuardLab::new().await;
    let work = lab.sleeper().await;
    let mut agent = lab.agent().await;
    agent.must(&lab.allow(7, LONG)).await;
    let mut second = FakeAgent::start(lab.layout.root()).await;
    assert!(
        second
            .refused(&json!({"ended": {"term": 7}}))
            .await
            .contains("hello")
    );
    let refused = second.refused(&json!({"hello": {}})).await;
    assert!(refused.contains(&agent.pid().to_string()), "{refused}");
    assert!(
        second
            .refused(&json!({"ended": {"term": 7}}))
            .await
            .contains("hello")
    );
    second.signal(Signal::KILL);
    second.dead().await;
    agent.must(&lab.allow(7, LONG)).await;
    assert!(lives(work));
    agent.signal(Signal::KILL);
    agent.dead().await;
    lab.released(7).await;
}

#[tokio::test]
async fn nonsense_closes_the_connection_and_moves_no_deadline() {
    for nonsense in ["what?".to_owned(), "{}".to_owned(), "x".repeat(100_000)] {
        let mut lab = GuardLab::new().await;
        let work = lab.sleeper().await;
        let mut agent = lab.agent().await;
        agent.must(&lab.allow(7, 700)).await;
        agent.say(&nonsense);
        assert_eq!(agent.hear().await, Value::Null);
        agent.dead().await;
        until_dead(work).await;
        lab.released(7).await;
    }
}

#[tokio::test]
async fn a_guard_told_to_end_kills_and_releases_first() {
    let mut lab = GuardLab::new().await;
    let work = lab.sleeper().await;
    let mut agent = lab.agent().await;
    agent.must(&lab.allow(7, LONG)).await;
    lab.ends_with_releases(7).await;
    assert!(!lives(work));
    agent.dead().await;
}

#[tokio::test]
async fn h18_a_reexecuted_agent_finds_its_deadline_armed() {
    let mut lab = GuardLab::new().await;
    let work = lab.sleeper().await;
    let mut agent = lab.agent().await;
    let allowed = agent.must(&lab.allow(7, LONG)).await;
    agent.reexec().await;
    let welcome = agent.ask(&json!({"hello": {}})).await;
    let until = &allowed["allowed"]["until"];
    let expected =
        json!({"term": 7, "until": until, "pidLived": true, "highest": 7, "killing": false});
    assert_eq!(welcome["welcome"], expected);
    agent.must(&lab.allow(7, LONG)).await;
    assert!(lives(work));
    agent.reexec().await;
    agent.ask(&json!({"hello": {}})).await;
    agent.signal(Signal::KILL);
    agent.dead().await;
    until_dead(work).await;
    lab.released(7).await;
}
