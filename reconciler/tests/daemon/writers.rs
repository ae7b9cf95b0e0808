//! H7: two writers, a restart, and a lost store.

use stead::daemon::Daemon;
use stead_schemas::api::WriterState;
use stead_schemas::observed::Contact;

use super::agents::{Agent, topology};
use super::scene::{Running, Scene, contact};

pub(crate) async fn settled(daemon: &Running, agent: &Agent) {
    daemon
        .until("converged", |s| {
            contact(s, "p01-a") == Some(Contact::Heard)
                && s.reconciler.writer == WriterState::Writing
                && agent.book.assignments() >= 1
                && s.sites
                    .values()
                    .all(|site| site.plan.as_ref().is_some_and(|plan| plan.is_empty()))
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h7_two_writers_started_in_the_same_second_one_stops() {
    let scene = Scene::new();
    let agent = Agent::good(&scene, "p01-a").await;
    scene.commit(&topology(&[("p01-a", agent.addr)], &[("proxy", "p01-a")]));
    let (one, two) = tokio::join!(
        Daemon::start(scene.config("stead-1", "one")),
        Daemon::start(scene.config("stead-2", "two")),
    );
    let (one, two) = (Running(one.unwrap()), Running(two.unwrap()));
    let writer = |daemon: &Running| daemon.snapshot().reconciler.writer.clone();
    one.until("one of them is fenced", |_| {
        matches!(
            (writer(&one), writer(&two)),
            (WriterState::Fenced { .. }, WriterState::Writing)
                | (WriterState::Writing, WriterState::Fenced { .. })
        )
    })
    .await;
    let fenced = if writer(&one) == WriterState::Writing {
        &two
    } else {
        &one
    };
    let needs = &fenced.snapshot().needs;
    assert!(
        needs.iter().any(|need| need.text.contains("writes now")),
        "a person is told: {needs:?}"
    );
    one.0.stop().await;
    two.0.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h7_a_lost_store_installs_moves_and_removes_nothing() {
    let scene = Scene::new();
    let agent = Agent::good(&scene, "p01-a").await;
    scene.commit(&topology(&[("p01-a", agent.addr)], &[("proxy", "p01-a")]));
    let daemon = scene.daemon("state").await;
    settled(&daemon, &agent).await;
    let before = agent.book.assignments();
    let first = daemon.snapshot().reconciler.epoch.clone().unwrap();
    daemon.0.stop().await;
    std::fs::remove_dir_all(scene.path("state")).unwrap();
    let daemon = scene.daemon("state").await;
    settled(&daemon, &agent).await;
    let second = daemon.snapshot().reconciler.epoch.clone().unwrap();
    assert!(second > first, "{second} after {first}");
    assert_eq!(agent.book.assignments(), before, "nothing was sent again");
    daemon.0.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_that_left_git_while_nobody_looked_is_dismantled_after_a_restart() {
    let scene = Scene::new();
    let agent = Agent::good(&scene, "p01-a").await;
    let other = Agent::good(&scene, "p01-b").await;
    let servers = [("p01-a", agent.addr), ("p01-b", other.addr)];
    let both = [("proxy", "p01-a"), ("extra", "p01-b")];
    scene.commit(&topology(&servers, &both));
    let daemon = scene.daemon("state").await;
    settled(&daemon, &agent).await;
    daemon
        .until("both run", |_| other.book.assignments() == 1)
        .await;
    daemon.0.stop().await;
    scene.commit(&topology(&servers[..1], &both[..1]));
    let daemon = scene.daemon("state").await;
    daemon
        .until("what ran on the server that left is removed", |_| {
            let assigned = other.book.assigned.lock().unwrap();
            assigned
                .last()
                .is_some_and(|last| last.assignment.instances.is_empty())
        })
        .await;
    daemon
        .until("and it is forgotten", |s| contact(s, "p01-b").is_none())
        .await;
    daemon.0.stop().await;
}
