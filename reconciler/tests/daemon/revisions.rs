//! Revisions that don't check are reported and never applied.

use stead::api::Backend as _;
use stead_schemas::api::RevisionState;

use super::agents::{Agent, topology};
use super::scene::Scene;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revision_that_does_not_check_is_refused_and_the_last_good_one_stays_over_a_restart() {
    let scene = Scene::new();
    let agent = Agent::good(&scene, "p01-a").await;
    let good = scene.commit(&topology(&[("p01-a", agent.addr)], &[]));
    let daemon = scene.daemon("state").await;
    daemon.until_in_force(&good).await;
    let bad = scene.commit("apiVersion: stead/v1\nkind: Sitee\n");
    let head_is_bad = |s: &stead::api::Snapshot| s.source.head.as_deref() == Some(&bad);
    daemon.until("the bad one is seen", head_is_bad).await;
    daemon
        .until("a person is told", |s| {
            s.needs
                .iter()
                .any(|need| need.text.contains("not in force"))
        })
        .await;
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let view = loop {
        let views = daemon.desk().revisions().await.unwrap();
        if let Some(view) = views.into_iter().find(|view| view.revision == bad) {
            break view;
        }
        assert!(std::time::Instant::now() < end, "the bad one is not listed");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!(view.state, RevisionState::Refused);
    assert!(view.note.contains("topology.yaml:"), "{}", view.note);
    daemon.0.stop().await;
    let daemon = scene.daemon("state").await;
    daemon.until_in_force(&good).await;
    daemon.until("still", head_is_bad).await;
    assert_eq!(daemon.snapshot().source.in_force, Some(good));
    let better = scene.commit(&topology(&[("p01-a", agent.addr)], &[("proxy", "p01-a")]));
    daemon.until_in_force(&better).await;
    daemon.0.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_of_another_hierarchy_is_refused() {
    let scene = Scene::new();
    let agent = Agent::good(&scene, "p01-a").await;
    let text = topology(&[("p01-a", agent.addr)], &[]);
    scene.commit(&text.replace("{name: lab}", "{name: other}"));
    let daemon = scene.daemon("state").await;
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let views = daemon.desk().revisions().await.unwrap();
        if let [view] = views.as_slice() {
            assert_eq!(view.state, RevisionState::Refused);
            assert!(view.note.contains("hierarchy other"), "{}", view.note);
            break;
        }
        assert!(std::time::Instant::now() < end);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(daemon.snapshot().source.in_force, None);
    daemon.0.stop().await;
}
