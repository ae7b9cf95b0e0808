//! What people ask of the daemon: journalled, durable, and refused with a way out.

use std::os::unix::fs::PermissionsExt as _;

use stead::api::Backend as _;
use stead::daemon::Daemon;
use stead_schemas::api::{ConfirmLostRequest, JournalKind, ResumeRequest, SuspendRequest};
use stead_schemas::observed::Contact;
use stead_schemas::plan::HoldReason;

use super::agents::{Agent, topology};
use super::scene::{Scene, contact};
use super::writers::settled;

fn suspend(scope: Option<&str>) -> SuspendRequest {
    SuspendRequest {
        scope: scope.map(str::to_owned),
        reason: "CHG-1".into(),
        until: None,
        failover: false,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_site_is_left_alone_also_after_a_restart_until_it_is_resumed() {
    let scene = Scene::new();
    let agent = Agent::good(&scene, "p01-a").await;
    scene.commit(&topology(&[("p01-a", agent.addr)], &[]));
    let daemon = scene.daemon("state").await;
    settled(&daemon, &agent).await;
    let before = agent.book.assignments();
    let desk = daemon.desk();
    let unknown = desk.suspend(suspend(Some("P09")), "bob".into()).await;
    assert!(unknown.unwrap_err().hint.is_some());
    desk.suspend(suspend(Some("P01")), "bob".into())
        .await
        .unwrap();
    daemon.0.stop().await;
    let wanted = scene.commit(&topology(&[("p01-a", agent.addr)], &[("proxy", "p01-a")]));
    let daemon = scene.daemon("state").await;
    daemon.until_in_force(&wanted).await;
    daemon
        .until("held", |s| {
            s.sites.values().flat_map(|site| &site.plan).any(|plan| {
                plan.holds.iter().any(
                    |hold| matches!(&hold.reason, HoldReason::Suspended { by, .. } if by == "bob"),
                )
            })
        })
        .await;
    assert_eq!(agent.book.assignments(), before);
    let desk = daemon.desk();
    let resume = ResumeRequest {
        scope: Some("P01".into()),
    };
    desk.resume(resume.clone(), "bob".into()).await.unwrap();
    daemon
        .until("it goes on", |_| agent.book.assignments() == before + 1)
        .await;
    let twice = desk.resume(resume, "bob".into()).await.unwrap_err();
    assert!(twice.error.contains("not suspended"), "{twice:?}");
    let history = desk.history_of("P01".into(), 100).await.unwrap();
    let commands = history
        .iter()
        .filter(|entry| entry.kind == JournalKind::Command);
    assert_eq!(commands.count(), 2, "{history:#?}");
    daemon.0.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_answers_cannot_be_confirmed_lost() {
    let scene = Scene::new();
    let agent = Agent::good(&scene, "p01-a").await;
    scene.commit(&topology(&[("p01-a", agent.addr)], &[]));
    let daemon = scene.daemon("state").await;
    daemon
        .until("heard", |s| contact(s, "p01-a") == Some(Contact::Heard))
        .await;
    let request = |server: &str| ConfirmLostRequest {
        server: server.parse().unwrap(),
        reason: "burnt".into(),
    };
    let desk = daemon.desk();
    let heard = desk.confirm_lost(request("p01-a"), "bob".into()).await;
    assert!(heard.unwrap_err().error.contains("answers"));
    let unknown = desk.confirm_lost(request("p09-z"), "bob".into()).await;
    assert!(unknown.unwrap_err().hint.is_some());
    daemon.0.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_socket_is_for_its_owner_alone_and_goes_with_the_daemon() {
    let scene = Scene::new();
    let daemon = scene.daemon("state").await;
    let socket = daemon.0.addresses().socket.clone();
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    daemon.0.stop().await;
    assert!(!socket.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_somebody_answers_at_is_not_taken_from_them() {
    let scene = Scene::new();
    let first = scene.daemon("state").await;
    let socket = first.0.addresses().socket.clone();
    let mut config = scene.config("stead-2", "other");
    config.spec.api.socket = Some(socket.clone());
    let refused = Daemon::start(config.clone()).await.unwrap_err();
    let said = std::error::Error::source(&refused).map(ToString::to_string);
    assert!(
        format!("{refused} {said:?}").contains("api.socket"),
        "{refused} {said:?}"
    );
    assert!(std::os::unix::net::UnixStream::connect(&socket).is_ok());
    first.0.stop().await;
    // What a killed one leaves is nobody's.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert!(socket.exists());
    let second = Daemon::start(config).await.unwrap();
    assert!(std::os::unix::net::UnixStream::connect(&socket).is_ok());
    second.stop().await;
}

#[test]
fn daemon_and_commands_have_one_default() {
    let scene = Scene::new();
    let mut config = scene.config("stead-1", "state");
    config.spec.api.socket = None;
    let help = include_str!("../../../docs/reference/cli.md");
    let socket = config.spec.api.socket();
    assert!(
        help.contains(&format!("Default: {},", socket.display())),
        "commands look elsewhere than {}",
        socket.display()
    );
}
