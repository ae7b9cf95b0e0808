//! A hierarchy for one test: a CA, a repository, and daemons over it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use stead::api::{Backend, Snapshot};
use stead::daemon::Daemon;
use stead::daemon::backend::Desk;
use stead_schemas::declared::settings::{ReconcilerConfig, ReconcilerSettings};
use stead_schemas::names::{Identity, IdentityKind, ServerName};
use stead_schemas::observed::Contact;
use stead_wire::clock::wall_now;
use stead_wire::material::Material;
use stead_wire::pki::{self, Ca};
use tempfile::TempDir;

/// Everything has happened within this time, or it never will.
const DEADLINE: Duration = Duration::from_secs(40);

/// One test's folder, CA and repository.
pub(crate) struct Scene {
    dir: TempDir,
    ca: Ca,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let now = wall_now();
        let made = pki::create_ca(&"lab".parse().unwrap(), now).unwrap();
        let ca = Ca::from_pem(&made.certificate_pem, &made.key_pem).unwrap();
        let scene = Self {
            dir: TempDir::new().unwrap(),
            ca,
        };
        let mut options = git2::RepositoryInitOptions::new();
        options.initial_head("main");
        git2::Repository::init_opts(scene.repository(), &options).unwrap();
        scene
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn repository(&self) -> PathBuf {
        self.path("topology")
    }

    fn issue(&self, kind: IdentityKind, name: &str) -> (String, String, String) {
        let identity = Identity {
            hierarchy: "lab".parse().unwrap(),
            kind,
            name: name.to_owned(),
        };
        let request = pki::Request {
            identity,
            addresses: Vec::new(),
            dns_names: Vec::new(),
            days: 10,
        };
        let issued = pki::issue(&self.ca, &request, wall_now()).unwrap();
        let ca = self.ca.certificate_pem().to_owned();
        (ca, issued.certificate_pem, issued.key_pem)
    }

    /// A server's certificate, for an agent of the test.
    pub(crate) fn material(&self, server: &str) -> Material {
        let (ca, certificate, key) = self.issue(IdentityKind::Server, server);
        Material::from_pem(&ca, &certificate, &key).unwrap()
    }

    /// Commits one file as the whole topology; answers the commit.
    pub(crate) fn commit(&self, text: &str) -> String {
        let repository = git2::Repository::open(self.repository()).unwrap();
        std::fs::write(self.repository().join("topology.yaml"), text).unwrap();
        let mut index = repository.index().unwrap();
        index.add_path(Path::new("topology.yaml")).unwrap();
        index.write().unwrap();
        let tree = repository.find_tree(index.write_tree().unwrap()).unwrap();
        let who = git2::Signature::now("alice", "alice@lab.example").unwrap();
        let head = repository.head().ok().and_then(|h| h.peel_to_commit().ok());
        let parents: Vec<&git2::Commit<'_>> = head.iter().collect();
        repository
            .commit(Some("HEAD"), &who, &who, "a change", &tree, &parents)
            .unwrap()
            .to_string()
    }

    /// Settings of a reconciler with a state folder of its own.
    pub(crate) fn config(&self, name: &str, state: &str) -> ReconcilerConfig {
        let (ca, certificate, key) = self.issue(IdentityKind::Reconciler, name);
        let pem = |what: &str, text: &str| {
            let path = self.path(&format!("{state}-{what}.pem"));
            std::fs::write(&path, text).unwrap();
            path
        };
        let spec: ReconcilerSettings = serde_json::from_value(serde_json::json!({
            "hierarchy": "lab",
            "stateDir": self.path(state),
            "git": {"url": self.repository(), "poll": "1s"},
            "api": {"socket": self.path(&format!("{state}.sock"))},
            "tls": {
                "ca": pem("ca", &ca),
                "cert": pem("cert", &certificate),
                "key": pem("key", &key),
            },
            "silence": {"after": "1s", "ask": "1s"},
        }))
        .unwrap();
        ReconcilerConfig {
            name: name.parse().unwrap(),
            spec,
        }
    }

    pub(crate) async fn daemon(&self, state: &str) -> Running {
        let config = self.config("stead-1", state);
        Running(Daemon::start(config).await.unwrap())
    }
}

/// A running daemon with the questions that tests ask.
pub(crate) struct Running(pub(crate) Daemon);

impl Running {
    pub(crate) fn desk(&self) -> Desk {
        Desk(self.0.core())
    }

    pub(crate) fn snapshot(&self) -> std::sync::Arc<Snapshot> {
        self.desk().snapshot()
    }

    /// Waits until `so` holds of a snapshot.
    pub(crate) async fn until(&self, what: &str, so: impl Fn(&Snapshot) -> bool) {
        let end = Instant::now() + DEADLINE;
        loop {
            let snapshot = self.snapshot();
            if so(&snapshot) {
                return;
            }
            assert!(Instant::now() < end, "never: {what}\n{snapshot:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn until_in_force(&self, revision: &str) {
        self.until("in force", |s| {
            s.source.in_force.as_deref() == Some(revision)
        })
        .await;
    }
}

/// The contact with a server, wherever it is.
pub(crate) fn contact(snapshot: &Snapshot, server: &str) -> Option<Contact> {
    let server: ServerName = server.parse().unwrap();
    let mut sites = snapshot.sites.values();
    sites.find_map(|site| site.observed.servers.get(&server).map(|seen| seen.contact))
}
