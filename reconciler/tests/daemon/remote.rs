//! The API over mutual TLS, asked by the real command: operators are served and named in the journal,
//! nobody else is.

use std::path::PathBuf;
use std::process::Output;

use stead::api::Backend as _;
use stead_schemas::api::JournalKind;
use stead_schemas::names::IdentityKind;

use super::agents::{Agent, topology};
use super::scene::{Running, Scene};
use super::writers::settled;

/// Somebody with a certificate, at a terminal elsewhere.
struct Caller {
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
    api: String,
}

impl Caller {
    fn new(scene: &Scene, daemon: &Running, kind: IdentityKind, name: &str) -> Self {
        let (ca, certificate, key) = scene.issue(kind, name);
        let pem = |what: &str, text: &str| {
            let path = scene.path(&format!("{name}-{what}.pem"));
            std::fs::write(&path, text).unwrap();
            path
        };
        let address = daemon.0.addresses().operators.unwrap();
        Self {
            ca: pem("ca", &ca),
            cert: pem("cert", &certificate),
            key: pem("key", &key),
            api: format!("https://stead-1@{address}"),
        }
    }

    async fn run(&self, args: &[&str]) -> Output {
        tokio::process::Command::new(env!("CARGO_BIN_EXE_stead"))
            .args(args)
            .args(["--api", &self.api, "--ca"])
            .arg(&self.ca)
            .arg("--cert")
            .arg(&self.cert)
            .arg("--key")
            .arg(&self.key)
            .output()
            .await
            .unwrap()
    }

    async fn good(&self, args: &[&str]) -> String {
        let output = self.run(args).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Told no; 1 by the reconciler we meant, 3 where it could not be asked.
    async fn refused(&self, code: i32, args: &[&str]) -> String {
        let output = self.run(args).await;
        assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

async fn listening(scene: &Scene) -> (Running, Agent) {
    let agent = Agent::good(scene, "p01-a").await;
    scene.commit(&topology(&[("p01-a", agent.addr)], &[("proxy", "p01-a")]));
    let mut config = scene.config("stead-1", "state");
    config.spec.api.listen = Some(([127, 0, 0, 1], 0).into());
    let daemon = Running(stead::daemon::Daemon::start(config).await.unwrap());
    settled(&daemon, &agent).await;
    (daemon, agent)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_looks_and_acts_from_elsewhere_and_the_journal_says_who() {
    let scene = Scene::new();
    let (daemon, _agent) = listening(&scene).await;
    let bob = Caller::new(&scene, &daemon, IdentityKind::Operator, "bob");
    let servers = bob.good(&["list", "servers", "-o", "json"]).await;
    assert!(servers.contains("p01-a"), "{servers}");
    assert!(bob.good(&["status", "P01"]).await.contains("P01"));
    bob.good(&["suspend", "P01", "--reason", "CHG-7"]).await;
    let snapshot = daemon.snapshot();
    let suspension = &snapshot.suspensions[0];
    assert_eq!(
        (suspension.by.as_str(), suspension.why.as_str()),
        ("bob", "CHG-7")
    );
    bob.good(&["resume", "P01"]).await;
    assert!(daemon.snapshot().suspensions.is_empty());
    let history = daemon.desk().history_of("P01".into(), 100).await.unwrap();
    let by_bob = |text: &str| text.contains("bob");
    let commands = history
        .iter()
        .filter(|entry| entry.kind == JournalKind::Command && by_bob(&entry.text));
    assert_eq!(commands.count(), 2, "{history:#?}");
    // A folder that is planned from elsewhere: the reconciler's own topology has nothing to do.
    let folder = scene.path("topology");
    let plan = bob
        .good(&["plan", folder.to_str().unwrap(), "--live"])
        .await;
    assert!(plan.contains("0 to install"), "{plan}");
    daemon.0.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_but_operators_is_served_and_no_other_reconciler_is_taken_for_ours() {
    let scene = Scene::new();
    let (daemon, _agent) = listening(&scene).await;
    let server = Caller::new(&scene, &daemon, IdentityKind::Server, "p01-a");
    for args in [&["status"][..], &["suspend", "P01", "--reason", "x"]] {
        let said = server.refused(1, args).await;
        assert!(said.contains("operator"), "{said}");
    }
    // Another hierarchy's operator: the same names, another CA.
    let elsewhere = Scene::new();
    let stranger = Caller::new(&elsewhere, &daemon, IdentityKind::Operator, "bob");
    let said = stranger.refused(3, &["status"]).await;
    assert!(said.contains("TLS"), "{said}");
    let mut other = Caller::new(&scene, &daemon, IdentityKind::Operator, "bob");
    other.api = other.api.replace("stead-1", "stead-2");
    let said = other.refused(3, &["status"]).await;
    assert!(
        said.contains("stead-1") && said.contains("stead-2"),
        "{said}"
    );
    assert!(daemon.snapshot().suspensions.is_empty());
    daemon.0.stop().await;
}
