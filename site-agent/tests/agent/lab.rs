//! One agent with its CA, its folder and its reconciler; nothing of it is left when it is dropped.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use site_agent::processes::{self, procfs};
use stead_schemas::generation::{Epoch, Generation};
use stead_schemas::names::{GroupName, Identity, IdentityKind, SecretName};
use stead_schemas::role::Role;
use stead_schemas::time::{DurationMs, WallMs};
use stead_schemas::wire::{
    AgentReport, AssignRequest, Assignment, Health, HealthCheck, InstanceReport, InstanceSpec,
    Probe, Program, SecretMaterial, StopRule, StopSignal,
};
use stead_wire::clock::wall_now;
use stead_wire::material::Material;
use stead_wire::peer::{CallError, Peer};
use stead_wire::pki::{self, Ca, Request};
use stead_wire::tls::ClientTls;

pub(crate) const EXE: &str = env!("CARGO_BIN_EXE_site-agent");
/// Nothing here takes a tenth of it, unless it hangs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
const CALL: Duration = Duration::from_secs(10);
pub(crate) const YEAR: u64 = 365 * 86_400_000;

static NEXT: AtomicU8 = AtomicU8::new(1);

pub(crate) type Instances = BTreeMap<GroupName, Box<InstanceSpec>>;
pub(crate) type Secrets = BTreeMap<SecretName, SecretMaterial>;

pub(crate) struct Lab {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) server: String,
    pub(crate) listen: SocketAddr,
    pub(crate) ca: Ca,
    pub(crate) reconciler: Peer,
    /// For the agent's environment.
    pub(crate) env: Vec<(&'static str, PathBuf)>,
    agent: Option<Child>,
    number: u64,
    in_force: Option<Generation>,
}

impl Lab {
    /// An agent's folder, not started yet.
    pub(crate) fn new() -> Self {
        Self::with(json!({}))
    }

    /// The same with these settings on top.
    pub(crate) fn with(settings: serde_json::Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Made long ago, so that there are certificates of last year.
        let then = WallMs(wall_now().0 - 2 * YEAR);
        let made = pki::create_ca(&"contoso".parse().unwrap(), then).unwrap();
        let ca = Ca::from_pem(&made.certificate_pem, &made.key_pem).unwrap();
        let listen = free_address();
        let server = "p01-a".to_owned();
        let issued = issue(&ca, IdentityKind::Server, &server);
        fs::write(dir.path().join("ca.crt"), &made.certificate_pem).unwrap();
        fs::write(dir.path().join("server.crt"), issued.certificate_pem).unwrap();
        fs::write(dir.path().join("server.key"), issued.key_pem).unwrap();
        let reconciler = peer(&ca, IdentityKind::Reconciler, "stead-1", listen, &server);
        let lab = Self {
            dir,
            server,
            listen,
            ca,
            reconciler,
            env: Vec::new(),
            agent: None,
            number: 0,
            in_force: None,
        };
        lab.write_config(settings);
        lab
    }

    /// An agent that runs.
    pub(crate) async fn running() -> Self {
        let mut lab = Self::new();
        lab.start().await;
        lab
    }

    pub(crate) fn write_config(&self, settings: serde_json::Value) {
        let mut spec = json!({
            "hierarchy": "contoso",
            "site": "P01",
            "listen": self.listen.to_string(),
            "stateDir": "state",
            "tls": {"ca": "ca.crt", "cert": "server.crt", "key": "server.key"},
        });
        for (key, value) in settings.as_object().unwrap() {
            spec[key] = value.clone();
        }
        let document = json!({
            "apiVersion": "stead/v1",
            "kind": "AgentConfig",
            "metadata": {"name": self.server},
            "spec": spec,
        });
        fs::write(self.config(), document.to_string()).unwrap();
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("agent.yaml")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("agent.log")).unwrap_or_default()
    }

    /// Starts the agent and waits until it answers.
    pub(crate) async fn start(&mut self) {
        self.spawn();
        self.answering().await;
    }

    pub(crate) fn spawn(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("agent.log"))
            .unwrap();
        let child = Command::new(EXE)
            .args(["run", "--config"])
            .arg(self.config())
            .envs(self.env.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.agent = Some(child);
    }

    pub(crate) async fn answering(&mut self) {
        let end = Instant::now() + DEADLINE;
        while self.report().await.is_err() {
            if let Some(status) = self.agent.as_mut().and_then(|a| a.try_wait().unwrap()) {
                panic!("the agent ended with {status}:\n{}", self.log());
            }
            assert!(Instant::now() < end, "no answer:\n{}", self.log());
            pause().await;
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.agent.as_ref().unwrap().id()
    }

    /// Sends the agent a signal, and waits for its end where it ends by it.
    pub(crate) fn signal(&self, signal: Signal) {
        processes::signal(self.pid(), signal).unwrap();
    }

    pub(crate) fn kill_agent(&mut self) {
        let mut agent = self.agent.take().unwrap();
        agent.kill().unwrap();
        agent.wait().unwrap();
    }

    /// Waits for the agent to end by itself.
    pub(crate) async fn agent_ended(&mut self) -> std::process::ExitStatus {
        let mut agent = self.agent.take().unwrap();
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = agent.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "the agent does not end");
            pause().await;
        }
    }

    pub(crate) async fn report(&self) -> Result<AgentReport, CallError> {
        self.reconciler.get_json("/v1/state", CALL).await
    }

    /// Waits until the report is as wanted.
    pub(crate) async fn until(
        &self,
        what: &str,
        wanted: impl Fn(&AgentReport) -> bool,
    ) -> AgentReport {
        let end = Instant::now() + DEADLINE;
        loop {
            let report = self.report().await;
            if let Ok(report) = &report
                && wanted(report)
            {
                return report.clone();
            }
            assert!(
                Instant::now() < end,
                "not {what}: {report:#?}\n{}",
                self.log()
            );
            pause().await;
        }
    }

    /// Waits until an instance is as wanted.
    pub(crate) async fn until_instance(
        &self,
        group: &str,
        what: &str,
        wanted: impl Fn(&InstanceReport) -> bool,
    ) -> InstanceReport {
        let name: GroupName = group.parse().unwrap();
        let report = self
            .until(&format!("{group} {what}"), |report| {
                report.instances.get(&name).is_some_and(|one| wanted(one))
            })
            .await;
        (*report.instances[&name]).clone()
    }

    pub(crate) async fn until_healthy(&self, group: &str) -> InstanceReport {
        self.until_instance(group, "healthy", |one| {
            one.health == Health::Healthy && one.pid.is_some()
        })
        .await
    }

    pub(crate) async fn until_instance_gone(&self, group: &str) {
        let name: GroupName = group.parse().unwrap();
        self.until(&format!("{group} gone"), |report| {
            !report.instances.contains_key(&name)
        })
        .await;
    }

    /// As after the loss of the agent's ledger: nothing is in force.
    pub(crate) fn forget(&mut self) {
        self.in_force = None;
    }

    pub(crate) fn request(&mut self, instances: Instances, secrets: Secrets) -> AssignRequest {
        self.number += 1;
        AssignRequest {
            assignment: Assignment {
                lease: None,
                hierarchy: "contoso".parse().unwrap(),
                site: "P01".parse().unwrap(),
                server: self.server.parse().unwrap(),
                generation: generation(1, self.number),
                revision: format!("rev-{}", self.number),
                instances,
            },
            based_on: self.in_force.clone(),
            secrets,
        }
    }

    pub(crate) async fn put(&self, request: &AssignRequest) -> Result<AgentReport, CallError> {
        self.reconciler
            .put_json("/v1/assignment", request, CALL)
            .await
    }

    /// Assigns these instances, which is taken.
    pub(crate) async fn assign(&mut self, instances: Instances) {
        self.assign_with(instances, Secrets::new()).await;
    }

    pub(crate) async fn assign_with(&mut self, instances: Instances, secrets: Secrets) {
        let request = self.request(instances, secrets);
        self.put(&request).await.unwrap_or_else(|error| {
            panic!("refused: {}\n{}", site_agent::chain(&error), self.log())
        });
        self.in_force = Some(request.assignment.generation);
    }

    /// Every living process of this agent's instances.
    pub(crate) fn marked(&self) -> Vec<u32> {
        let state = self.state().canonicalize().unwrap();
        procfs::marked(&state)
            .into_iter()
            .map(|one| one.pid)
            .collect()
    }

    /// The cgroups of this agent that there are.
    pub(crate) fn cgroups(&self) -> Vec<String> {
        let root = self.state().canonicalize().unwrap();
        let digest = Sha256::digest(root.as_os_str().as_encoded_bytes());
        let end: String = digest.iter().take(4).map(|b| format!("{b:02x}")).collect();
        ["/sys/fs/cgroup/stead", "/sys/fs/cgroup/unified/stead"]
            .iter()
            .filter_map(|dir| fs::read_dir(dir).ok())
            .flat_map(|entries| entries.flatten())
            .map(|entry| entry.path().display().to_string())
            .filter(|path| path.ends_with(&format!(".{end}")))
            .collect()
    }

    pub(crate) fn run(&self, args: &[&str]) -> std::process::Output {
        Command::new(EXE).args(args).output().unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            drop(agent.kill());
            drop(agent.wait());
        }
        if !self.state().is_dir() {
            return;
        }
        // Its own way of cleaning up; what that leaves is killed.
        drop(
            Command::new(EXE)
                .args(["stop-all", "--state"])
                .arg(self.state())
                .stderr(Stdio::null())
                .status(),
        );
        for pid in self.marked() {
            drop(processes::signal(pid, Signal::KILL));
        }
    }
}

pub(crate) fn free_address() -> SocketAddr {
    let pid = std::process::id().to_be_bytes();
    let ip = Ipv4Addr::new(
        127,
        pid[2].max(1),
        pid[3],
        NEXT.fetch_add(1, Ordering::Relaxed),
    );
    // The address is this test's own, so the port stays free until the agent takes it.
    TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap()
}

pub(crate) fn issue(ca: &Ca, kind: IdentityKind, name: &str) -> pki::Issued {
    issue_at(ca, kind, name, wall_now())
}

pub(crate) fn issue_at(ca: &Ca, kind: IdentityKind, name: &str, at: WallMs) -> pki::Issued {
    let request = Request {
        identity: identity(kind, name),
        addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        dns_names: Vec::new(),
        days: 2,
    };
    pki::issue(ca, &request, at).unwrap()
}

pub(crate) fn identity(kind: IdentityKind, name: &str) -> Identity {
    Identity {
        hierarchy: "contoso".parse().unwrap(),
        kind,
        name: name.to_owned(),
    }
}

/// Somebody with a certificate of this CA, who calls the server's agent.
pub(crate) fn peer(ca: &Ca, kind: IdentityKind, name: &str, at: SocketAddr, server: &str) -> Peer {
    peer_at(ca, kind, name, wall_now(), at, server)
}

/// The same with a certificate for two days from `issued` on.
pub(crate) fn peer_at(
    ca: &Ca,
    kind: IdentityKind,
    name: &str,
    issued: WallMs,
    at: SocketAddr,
    server: &str,
) -> Peer {
    let issued = issue_at(ca, kind, name, issued);
    let material = Material::from_pem(
        ca.certificate_pem(),
        &issued.certificate_pem,
        &issued.key_pem,
    )
    .unwrap();
    let tls: Arc<ClientTls> = ClientTls::new(&material).unwrap();
    Peer::new(at, identity(IdentityKind::Server, server), tls)
}

pub(crate) fn generation(counter: u64, number: u64) -> Generation {
    Generation {
        epoch: Epoch {
            counter,
            reconciler: "stead-1".to_owned(),
            start: "abc".to_owned(),
        },
        number,
    }
}

pub(crate) fn one(group: &str, spec: InstanceSpec) -> Instances {
    Instances::from([(group.parse().unwrap(), Box::new(spec))])
}

/// An instance without a check.
pub(crate) fn command(words: &[&str]) -> InstanceSpec {
    let address = free_address();
    InstanceSpec {
        role: Role::Custom,
        program: Program::Command(words.iter().map(|word| (*word).to_owned()).collect()),
        env: BTreeMap::new(),
        health: None,
        stop: StopRule {
            signal: StopSignal::SigTerm,
            grace: DurationMs::seconds(5),
        },
        address: address.ip(),
        port: address.port(),
        settings: serde_json::Value::Null,
    }
}

pub(crate) fn shell(script: &str) -> InstanceSpec {
    command(&["sh", "-c", script])
}

/// A placeholder that is asked for its health.
pub(crate) fn web() -> InstanceSpec {
    let mut spec = command(&["site-agent", "role", "placeholder"]);
    spec.health = Some(check(Probe::Http {
        path: "/health".to_owned(),
        port: None,
    }));
    spec
}

pub(crate) fn check(probe: Probe) -> HealthCheck {
    HealthCheck {
        probe,
        interval: DurationMs(200),
        timeout: DurationMs(1_000),
        failures: 2,
    }
}

pub(crate) async fn pause() {
    tokio::time::sleep(Duration::from_millis(10)).await;
}

/// Waits until something outside of reports is so.
pub(crate) async fn until(what: &str, wanted: impl Fn() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !wanted() {
        assert!(Instant::now() < end, "not {what}");
        pause().await;
    }
}

pub(crate) fn lives(pid: u32) -> bool {
    procfs::stat(pid).is_some_and(|stat| !stat.ended())
}

/// A number that an instance wrote into a file.
pub(crate) async fn number_in(file: &Path) -> u32 {
    until(&format!("a number in {}", file.display()), || {
        fs::read_to_string(file).is_ok_and(|text| text.trim().parse::<u32>().is_ok())
    })
    .await;
    fs::read_to_string(file).unwrap().trim().parse().unwrap()
}
