//! A hierarchy of real programs for one test: git repository, CA, agents, DNS server, reconciler.
//!
//! Everything listens on 127.N.M.x addresses drawn for the test, so that tests run side by side.
//! It starts and kills; it asserts nothing about Stead.

mod lease;

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

pub use lease::holds;

use crate::cut::{Cut, Room};
use crate::processes::{
    become_subreaper, command_line, descendants, kill_descendants, program, signal, start,
    wait_until,
};
use crate::remote::API_PORT;

/// The hierarchy's name in every test.
pub const HIERARCHY: &str = "harness";
/// The reconciler's name in every test.
pub const RECONCILER: &str = "stead-1";
/// Where names live in every test.
pub const DOMAIN: &str = "cm.harness.example";
const DNS_PORT: u16 = 5300;

/// One server of the hierarchy and the last octet of its address.
#[derive(Debug, Clone)]
pub struct Server {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
}

/// A running hierarchy.
#[derive(Debug)]
pub struct Harness {
    folder: TempDir,
    net: [u8; 3],
    agents: BTreeMap<String, Child>,
    dns: Option<Child>,
    reconciler: Option<Child>,
    twin: Option<Child>,
    room: Option<Room>,
}

impl Harness {
    /// Makes folder, certificates and repository; starts the DNS server and nothing else.
    ///
    /// # Panics
    /// When any of it can't be made.
    #[must_use]
    pub fn new() -> Self {
        become_subreaper();
        let folder = tempfile::Builder::new()
            .prefix("stead-test-")
            .tempdir()
            .expect("a folder");
        let pid = std::process::id();
        let [.., b, c] = pid.to_be_bytes();
        let net = [127, 64 + (b & 0x3f), c];
        let mut harness = Self {
            folder,
            net,
            agents: BTreeMap::new(),
            dns: None,
            reconciler: None,
            twin: None,
            room: None,
        };
        for name in ["topology", "secrets", "logs", "agents", "pki"] {
            fs::create_dir_all(harness.path(name)).expect("a folder");
        }
        harness.run("git", &["init", "-q", "-b", "main", "topology"]);
        harness.make_ca("pki");
        harness.issue("pki", "reconciler", RECONCILER, &[]);
        fs::write(
            harness.path("secrets/tsig"),
            "c3RlYWQtdGVzdC10c2lnLWtleS0zMi1ieXRlcy1sb25n",
        )
        .expect("a secret");
        harness.start_dns();
        harness
    }

    /// A path in the test's folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The address with this last octet.
    #[must_use]
    pub fn address(&self, last: u8) -> Ipv4Addr {
        let [a, b, c] = self.net;
        Ipv4Addr::new(a, b, c, last)
    }

    /// Where the DNS server answers.
    #[must_use]
    pub fn dns_server(&self) -> SocketAddr {
        SocketAddr::from((self.address(53), DNS_PORT))
    }

    /// The hierarchy document every test starts from.
    #[must_use]
    pub fn hierarchy_yaml(&self, guards: &str) -> String {
        format!(
            "apiVersion: stead/v1
kind: Hierarchy
metadata: {{name: {HIERARCHY}}}
spec:
  reconcilers:
    stead-1: {{address: {}, zone: hq}}
  publishing:
    dns:
      domain: {DOMAIN}
      servers: [\"{}\"]
      tsig: [{{name: stead, algorithm: hmac-sha256, secret: tsig}}]
      ttl: 1s
      aliasTtl: 1s
  guards: {guards}
",
            self.address(2),
            self.dns_server()
        )
    }

    /// Writes files (an empty text deletes one) and commits; answers the commit's id.
    ///
    /// # Panics
    /// When git refuses.
    pub fn commit(&self, message: &str, files: &[(&str, &str)]) -> String {
        for (name, content) in files {
            let path = self.path("topology").join(name);
            fs::create_dir_all(path.parent().expect("inside the repository")).expect("a folder");
            if content.is_empty() {
                fs::remove_file(&path).ok();
            } else {
                fs::write(path, content).expect("a file");
            }
        }
        self.run("git", &["-C", "topology", "add", "-A"]);
        self.run(
            "git",
            &[
                "-C",
                "topology",
                "-c",
                "user.name=Test",
                "-c",
                "user.email=test@example.com",
                "commit",
                "-q",
                "--allow-empty",
                "-m",
                message,
            ],
        );
        self.run("git", &["-C", "topology", "rev-parse", "HEAD"])
            .trim()
            .to_owned()
    }

    /// Issues certificates for a server and starts its agent.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn start_agent(&mut self, name: &str, last: u8) {
        let address = self.address(last);
        if !self.path(&format!("pki/out/server-{name}.crt")).exists() {
            self.issue("pki", "server", name, &["--address", &address.to_string()]);
        }
        let config = self.path(&format!("agents/{name}.yaml"));
        fs::write(&config, self.agent_yaml(name, address)).expect("a config");
        self.start_agent_of(name, &config);
    }

    /// Starts an agent with settings that somebody else wrote.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn start_agent_of(&mut self, name: &str, config: &Path) {
        let mut command = Command::new(program("site-agent"));
        command.args(["run", "--config"]).arg(config);
        let child = start(&mut command, &self.path(&format!("logs/{name}.log")));
        self.agents.insert(name.to_owned(), child);
    }

    fn agent_yaml(&self, name: &str, address: Ipv4Addr) -> String {
        format!(
            "apiVersion: stead/v1
kind: AgentConfig
metadata: {{name: {name}}}
spec:
  hierarchy: {HIERARCHY}
  listen: \"{address}:7443\"
  stateDir: {}
  tls: {}
",
            text(&self.path(&format!("agents/{name}"))),
            self.tls_yaml(&format!("server-{name}"))
        )
    }

    /// Writes the reconciler's settings; answers where.
    ///
    /// # Panics
    /// When they can't be written.
    #[must_use]
    pub fn reconciler_config(&self) -> PathBuf {
        let config = self.path("reconciler.yaml");
        let yaml = format!(
            "apiVersion: stead/v1
kind: ReconcilerConfig
metadata: {{name: stead-1}}
spec:
  hierarchy: {HIERARCHY}
  stateDir: {}
  secretsDir: {}
  git: {{url: {}, poll: 5s}}
  tls: {}
  pki: {{dir: {}}}
  api: {{socket: {}, listen: \"{}:{API_PORT}\"}}
  metrics: {{listen: \"{}:9443\"}}
",
            text(&self.path("state")),
            text(&self.path("secrets")),
            text(&self.path("topology")),
            self.tls_yaml("reconciler-stead-1"),
            text(&self.path("pki")),
            text(&self.path("stead.sock")),
            self.address(2),
            self.address(2),
        );
        fs::write(&config, yaml).expect("a config");
        config
    }

    /// Starts the reconciler with its state folder as it is.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn start_reconciler(&mut self) {
        let config = self.reconciler_config();
        let room = self.room.get_or_insert_default();
        let mut command = room.command(&program("stead"));
        command.args(["run", "--config"]).arg(&config);
        self.reconciler = Some(start(&mut command, &self.path("logs/reconciler.log")));
    }

    /// Kills the reconciler with SIGKILL, if it runs.
    pub fn kill_reconciler(&mut self) {
        if let Some(mut child) = self.reconciler.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// Starts a second reconciler of the same name with a state folder of its own; answers its
    /// socket.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn start_twin(&mut self) -> PathBuf {
        let yaml = fs::read_to_string(self.path("reconciler.yaml")).expect("the first one runs");
        let own = |name: &str| {
            (
                text(&self.path(name)),
                text(&self.path(&format!("twin-{name}"))),
            )
        };
        let mut yaml = yaml
            .replace(":9443", ":9444")
            .replace(&format!(":{API_PORT}"), ":7445");
        for (first, twin) in [own("state"), own("stead.sock")] {
            yaml = yaml.replace(&first, &twin);
        }
        let config = self.path("twin.yaml");
        fs::write(&config, yaml).expect("a config");
        let mut command = Command::new(program("stead"));
        command.args(["run", "--config"]).arg(&config);
        self.twin = Some(start(&mut command, &self.path("logs/twin.log")));
        self.path("twin-stead.sock")
    }

    /// Kills everything that runs for a server at once, as a power cut does.
    pub fn kill_server(&mut self, name: &str) {
        let state = text(&self.path(&format!("agents/{name}")));
        let ours: Vec<u32> = descendants()
            .into_iter()
            .filter(|pid| belongs_to(*pid, &state))
            .collect();
        self.kill_agent(name);
        for pid in ours {
            signal(pid, Signal::KILL);
        }
    }

    /// Cuts the reconciler off from these addresses, until the cut is dropped.
    ///
    /// # Panics
    /// When it was never started.
    #[must_use]
    pub fn cut_reconciler(&self, addresses: &[Ipv4Addr]) -> Cut {
        self.room
            .as_ref()
            .expect("the reconciler was started")
            .cut(addresses)
    }

    /// Kills an agent's own process with SIGKILL; its instances stay.
    pub fn kill_agent(&mut self, name: &str) {
        if let Some(mut child) = self.agents.remove(name) {
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// The agent's process.
    #[must_use]
    pub fn agent_pid(&self, name: &str) -> Option<u32> {
        self.agents.get(name).map(Child::id)
    }

    /// The reconciler's process.
    #[must_use]
    pub fn reconciler_pid(&self) -> Option<u32> {
        self.reconciler.as_ref().map(Child::id)
    }

    /// Runs a `stead` command against this hierarchy's reconciler: exit code, stdout, stderr.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn stead(&self, args: &[&str]) -> (i32, String, String) {
        let output = Command::new(program("stead"))
            .args(args)
            .env("STEAD_API", self.path("stead.sock"))
            .current_dir(self.folder.path())
            .output()
            .expect("stead starts");
        (
            output.status.code().unwrap_or(-1),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    /// Runs a `site-agent` command: exit code, stdout, stderr.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn site_agent(&self, args: &[&str]) -> (i32, String, String) {
        let output = Command::new(program("site-agent"))
            .args(args)
            .current_dir(self.folder.path())
            .output()
            .expect("site-agent starts");
        (
            output.status.code().unwrap_or(-1),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    /// Waits until the revision is in force everywhere.
    ///
    /// # Panics
    /// When it is not within the deadline; prints the status and the ends of the logs.
    pub fn wait_converged(&self, revision: &str, deadline: Duration) {
        let seconds = format!("{}s", deadline.as_secs());
        let (code, out, err) = self.stead(&[
            "wait",
            "--converged",
            "--revision",
            revision,
            "--timeout",
            &seconds,
        ]);
        assert!(
            code == 0,
            "not converged: {code}\n{out}\n{err}\n{}",
            self.describe()
        );
    }

    /// Status and the ends of all logs, for a failing test.
    #[must_use]
    pub fn describe(&self) -> String {
        let (_, status, _) = self.stead(&["status"]);
        let mut said = format!("--- status\n{status}");
        for entry in fs::read_dir(self.path("logs"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let log = fs::read_to_string(entry.path()).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(15).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            said.push_str(&format!(
                "--- {}\n{}\n",
                entry.path().display(),
                tail.join("\n")
            ));
        }
        said
    }

    /// Makes a CA of this hierarchy's name in a folder.
    ///
    /// # Panics
    /// When it can't be made.
    pub fn make_ca(&self, dir: &str) {
        let args = ["pki", "init", "--dir", dir, "--hierarchy", HIERARCHY];
        self.run(&text(&program("stead")), &args);
    }

    /// Issues a certificate of a folder's CA into its `out`.
    ///
    /// # Panics
    /// When it is not issued.
    pub fn issue(&self, dir: &str, kind: &str, name: &str, more: &[&str]) {
        let out = format!("{dir}/out");
        let mut args = vec!["pki", "issue", "--dir", dir, "--out", &out, kind, name];
        args.extend(more);
        self.run(&text(&program("stead")), &args);
    }

    /// Kills the DNS server; its zone stays on disk.
    pub fn kill_dns(&mut self) {
        if let Some(mut child) = self.dns.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// Starts the DNS server with its zone as it is, and waits until it listens.
    ///
    /// # Panics
    /// When it does not listen within 10 s.
    pub fn start_dns(&mut self) {
        let key = format!("stead:hmac-sha256:{}", text(&self.path("secrets/tsig")));
        let listen = self.dns_server().to_string();
        let state = self.path("dns");
        let mut command = Command::new(program("stead"));
        command
            .args([
                "dns", "--listen", &listen, "--zone", DOMAIN, "--key", &key, "--dir",
            ])
            .arg(&state);
        self.dns = Some(start(&mut command, &self.path("logs/dns.log")));
        let address = self.dns_server();
        wait_until(
            "the DNS server listens",
            Duration::from_secs(10),
            || std::net::TcpStream::connect(address).is_ok(),
            || fs::read_to_string(self.path("logs/dns.log")).unwrap_or_default(),
        );
    }

    fn tls_yaml(&self, name: &str) -> String {
        let out = text(&self.path("pki/out"));
        format!("{{ca: {out}/ca.crt, cert: {out}/{name}.crt, key: {out}/{name}.key}}")
    }

    fn run(&self, program: &str, args: &[&str]) -> String {
        let output = Command::new(program)
            .args(args)
            .current_dir(self.folder.path())
            .output()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        assert!(
            output.status.success(),
            "{program} {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Default for Harness {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        for child in self
            .agents
            .values()
            .chain(&self.dns)
            .chain(&self.reconciler)
            .chain(&self.twin)
        {
            signal(child.id(), Signal::TERM);
        }
        kill_descendants();
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Whether a process runs for the agent with this state folder: by its arguments, or by the
/// environment its keeper gave it.
fn belongs_to(pid: u32, state: &str) -> bool {
    let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    command_line(pid).contains(state) || String::from_utf8_lossy(&environ).contains(state)
}
