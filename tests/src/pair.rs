//! A leased site of real programs on hosts of its own: active, passive, witness with the store, and
//! the observer's host. The observer assigns what a reconciler would; there is none, which is a fault
//! in itself (I6).
//!
//! It starts, breaks and heals; what that shows is read from records by whoever uses it.

mod alias;
mod assignments;
mod client;
mod faults;
mod records;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use site_agent::guard::timer::boot_ms;
use stead_schemas::declared::settings::TlsFiles;
use stead_schemas::lease::{LeasePart, LeaseReport, LeaseSpec};
use stead_schemas::wire::{AgentReport, Health};
use stead_wire::material::Material;
use stead_wire::peer::Peer;
use stead_wire::tls::ClientTls;
use tempfile::TempDir;

pub use alias::{ALIAS, ALIAS_TTL};
pub use client::{Client, Naming, Write};
pub use faults::Fault;
pub use records::{Entry, Interval, LogReader, Records, STORE_PORT};

use crate::disk::Disk;
use crate::hosts::Hosts;
use crate::processes::{
    become_subreaper, command_line, descendants, kill_descendants, program, signal, start,
};

/// The site's servers: two that may hold, and a witness that has the store.
pub const SERVERS: [&str; 3] = ["p01-a", "p01-b", "p01-w"];
/// The two that may hold.
pub const CANDIDATES: [&str; 2] = ["p01-a", "p01-b"];
/// Where the site server answers clients.
pub const PORT: u16 = 8440;
const OBSERVER: &str = "observer";
const HIERARCHY: &str = "pair";
/// Nothing here takes a tenth of it, unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);
const CALL: Duration = Duration::from_secs(5);

/// A running site.
pub struct Pair {
    folder: TempDir,
    /// Its hosts; cables are pulled here.
    pub hosts: Hosts,
    agents: BTreeMap<String, Child>,
    dns: Option<Child>,
    runtime: tokio::runtime::Runtime,
    tls: Option<Arc<ClientTls>>,
    spec: LeaseSpec,
    number: u64,
    generations: BTreeMap<String, stead_schemas::generation::Generation>,
    pauses: Mutex<Vec<(&'static str, u64)>>,
    with: With,
    /// By server, where they were asked for.
    disks: BTreeMap<&'static str, Disk>,
    machines: Machines,
}

/// What a pair has beside the least.
#[derive(Debug, Clone, Copy, Default)]
struct With {
    /// A DNS server, where its alias is published.
    dns: bool,
    /// So many instances beside the site server of the first candidate, whose programs are files of its
    /// own: what one machine has in memory is not shared with others.
    instances: u16,
}

/// How far ahead of the kernel's the clocks of a server are, boot time and monotonic alike; in
/// seconds.
pub type Clocks = BTreeMap<&'static str, u64>;

/// What the servers of a pair have of their own, beside network and processes.
#[derive(Debug, Default)]
pub struct Machines {
    /// A small disk each for its state, which can be broken.
    pub disks: bool,
    /// Boot time and monotonic clocks that differ.
    pub clocks: Clocks,
    /// A wall clock each, which can be set.
    pub walls: bool,
    /// The fence in the kernel.
    pub fence: bool,
}

impl Pair {
    /// A site whose declared active works. Moves the calling thread onto the observer's host for
    /// good.
    ///
    /// # Panics
    /// When it does not come to that.
    #[must_use]
    pub fn start() -> Self {
        Self::begin(With::default(), Machines::default())
    }

    /// The same with a DNS server, where its alias is published.
    ///
    /// # Panics
    /// When it does not come to that.
    #[must_use]
    pub fn start_published() -> Self {
        let with = With {
            dns: true,
            ..With::default()
        };
        let pair = Self::begin(with, Machines::default());
        pair.until_published("p01-a");
        pair
    }

    /// The same with so many instances beside the site server of `p01-a`, all healthy.
    ///
    /// # Panics
    /// When it does not come to that.
    #[must_use]
    pub fn start_beside(instances: u16) -> Self {
        let with = With {
            instances,
            ..With::default()
        };
        let pair = Self::begin(with, Machines::default());
        pair.until_report("p01-a", "every instance is healthy", |report| {
            let all = report.instances.values();
            all.filter(|one| one.health == Health::Healthy).count() == usize::from(instances) + 1
        });
        pair
    }

    /// The same on such machines.
    ///
    /// # Panics
    /// See [`Pair::start`].
    #[must_use]
    pub fn start_on(machines: Machines) -> Self {
        Self::begin(With::default(), machines)
    }

    fn begin(with: With, machines: Machines) -> Self {
        become_subreaper();
        // Clients of plain HTTP ask for one, too.
        site_agent::init_crypto();
        let folder = tempfile::Builder::new()
            .prefix("stead-pair-")
            .tempdir()
            .expect("a folder");
        let hosts = Hosts::new(&[SERVERS[0], SERVERS[1], SERVERS[2], OBSERVER]);
        hosts.enter(OBSERVER);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let spec = assignments::lease(&hosts);
        let mut pair = Self {
            folder,
            hosts,
            agents: BTreeMap::new(),
            dns: None,
            runtime,
            tls: None,
            spec,
            number: 0,
            generations: BTreeMap::new(),
            pauses: Mutex::default(),
            with,
            disks: BTreeMap::new(),
            machines,
        };
        pair.make_certificates();
        if with.dns {
            pair.start_dns();
        }
        for server in SERVERS {
            if pair.machines.disks {
                pair.make_disk(server);
            }
            if pair.machines.walls {
                pair.set_wall(server, 0);
            }
        }
        for server in SERVERS {
            pair.start_agent(server);
        }
        pair.assign_all();
        pair.found();
        pair.until_works("p01-a");
        pair
    }

    /// What a role keeps is not on it: a broken disk of the witness breaks its vote, not the store.
    fn make_disk(&mut self, server: &'static str) {
        let (state, data) = (
            self.state(server),
            self.folder.path().join(format!("{server}.data")),
        );
        let image = self.folder.path().join(format!("{server}.img"));
        let mut disk = Disk::mount(&image, &state);
        if server == SERVERS[2] {
            disk.spare("data", &data);
        }
        self.disks.insert(server, disk);
    }

    /// The disk that a server's state is on.
    ///
    /// # Panics
    /// When the pair was started without.
    pub fn disk(&mut self, server: &str) -> &mut Disk {
        self.disks.get_mut(server).expect("a pair with disks")
    }

    fn wall(&self, server: &str) -> PathBuf {
        self.folder.path().join(format!("{server}.wall"))
    }

    /// Sets the wall clock of a server's agent so many seconds ahead of the machine's, or behind it.
    ///
    /// # Panics
    /// When it can't be written.
    pub fn set_wall(&self, server: &str, seconds: i64) {
        crate::wall::set(&self.wall(server), seconds);
    }

    fn make_certificates(&mut self) {
        let dir = self.folder.path().join("pki");
        let dir_text = dir.display().to_string();
        let out = dir.join("out").display().to_string();
        self.stead(&["pki", "init", "--dir", &dir_text, "--hierarchy", HIERARCHY]);
        let issue = |kind: &str, name: &str| {
            self.stead(&[
                "pki", "issue", "--dir", &dir_text, kind, name, "--out", &out,
            ]);
        };
        issue("reconciler", "stead-1");
        for server in SERVERS {
            issue("server", server);
        }
        let material = Material::load(&self.tls_files("reconciler-stead-1"));
        let tls = ClientTls::new(&material.expect("certificates")).expect("certificates");
        self.tls = Some(tls);
    }

    fn stead(&self, args: &[&str]) {
        let done = Command::new(program("stead")).args(args).output();
        let done = done.expect("stead runs");
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{args:?}: {said}");
    }

    fn tls_files(&self, name: &str) -> TlsFiles {
        let out = self.folder.path().join("pki/out");
        TlsFiles {
            ca: out.join("ca.crt"),
            cert: out.join(format!("{name}.crt")),
            key: out.join(format!("{name}.key")),
        }
    }

    /// A server's state folder.
    #[must_use]
    pub fn state(&self, server: &str) -> PathBuf {
        self.folder.path().join(server)
    }

    /// Starts a server's agent with its folder as it is.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn start_agent(&mut self, server: &str) {
        let files = self.tls_files(&format!("server-{server}"));
        let config = self.folder.path().join(format!("{server}.yaml"));
        let yaml = format!(
            "apiVersion: stead/v1
kind: AgentConfig
metadata: {{name: {server}}}
spec:
  hierarchy: {HIERARCHY}
  listen: \"{}:7443\"
  stateDir: {}
  networkFence: {}
  tls: {{ca: {}, cert: {}, key: {}}}
",
            self.hosts.address(server),
            self.state(server).display(),
            if self.machines.fence {
                "nftables"
            } else {
                "none"
            },
            files.ca.display(),
            files.cert.display(),
            files.key.display(),
        );
        fs::write(&config, yaml).expect("a config");
        let agent = self.program_of(server);
        let mut command = match self.machines.clocks.get(server) {
            Some(ahead) => self.hosts.command_ahead(server, *ahead, &agent),
            None => self.hosts.command(server, &agent),
        };
        command.args(["run", "--config"]).arg(&config);
        if self.machines.walls {
            command.envs(crate::wall::environment(&self.wall(server)));
        }
        let log = self.folder.path().join(format!("{server}.log"));
        let child = start(&mut command, &log);
        self.agents.insert(server.to_owned(), child);
    }

    fn program_of(&self, server: &str) -> PathBuf {
        let shared = program("site-agent");
        if self.with.instances == 0 || server != SERVERS[0] {
            return shared;
        }
        let own = self.folder.path().join("site-agent");
        if !own.exists() {
            fs::copy(shared, &own).expect("a copy of the program");
        }
        own
    }

    /// The way to a server's agent, with the reconciler's certificate.
    ///
    /// # Panics
    /// When there are no certificates.
    #[must_use]
    pub fn peer(&self, server: &str) -> Peer {
        let identity = format!("stead://{HIERARCHY}/server/{server}");
        let address = (self.hosts.address(server), 7443).into();
        let tls = self.tls.clone().expect("certificates");
        Peer::new(address, identity.parse().expect("an identity"), tls)
    }

    /// A server's report, if its agent answers.
    #[must_use]
    pub fn report(&self, server: &str) -> Option<AgentReport> {
        let peer = self.peer(server);
        self.runtime.block_on(peer.get_json("/v1/state", CALL)).ok()
    }

    /// What a server knows of the lease, if its agent answers.
    #[must_use]
    pub fn lease(&self, server: &str) -> Option<LeaseReport> {
        self.report(server)?.lease.map(|lease| *lease)
    }

    /// Waits until a server's report is so.
    ///
    /// # Panics
    /// When it does not come to that.
    pub fn until_report(&self, server: &str, what: &str, is: impl Fn(&AgentReport) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !self.report(server).as_ref().is_some_and(&is) {
            assert!(
                Instant::now() < end,
                "{server}: {what}\n{}",
                self.describe()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until a server's lease is so.
    ///
    /// # Panics
    /// When it does not come to that.
    pub fn until(&self, server: &str, what: &str, is: impl Fn(&LeaseReport) -> bool) {
        let end = Instant::now() + PATIENCE;
        loop {
            let lease = self.lease(server);
            if lease.as_ref().is_some_and(&is) {
                return;
            }
            assert!(
                Instant::now() < end,
                "{server}: {what}: {lease:#?}\n{}",
                self.describe()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until this server holds, works, and the other one is ready.
    pub fn until_works(&self, server: &str) {
        self.until(
            server,
            "holds and is followed by one that is ready",
            |lease| {
                lease.part == LeasePart::Holding
                    && lease.ready
                    && lease.ready_voters.len() == CANDIDATES.len() - 1
            },
        );
    }

    /// The server that holds, if one says so.
    #[must_use]
    pub fn holder(&self) -> Option<&'static str> {
        CANDIDATES.into_iter().find(|server| {
            self.lease(server)
                .is_some_and(|lease| lease.part == LeasePart::Holding)
        })
    }

    /// Asks the holder to hand over to the other.
    ///
    /// # Panics
    /// When it refuses.
    pub fn hand_over(&self, from: &str, to: &str) {
        let request = stead_schemas::lease::HandoverRequest {
            to: to.parse().expect("a name"),
        };
        let peer = self.peer(from);
        let asked = peer.post_json::<_, Option<()>>("/v1/handover", &request, CALL);
        let answer = self.runtime.block_on(asked);
        answer.unwrap_or_else(|error| panic!("{error}\n{}", self.describe()));
    }

    /// Everything that runs for a server, its agent first.
    #[must_use]
    pub fn processes(&self, server: &str) -> Vec<u32> {
        let mut found: Vec<u32> = self.agents.get(server).map(Child::id).into_iter().collect();
        let state = format!("STEAD_STATE={}", self.state(server).display());
        let marked = |pid: &u32| {
            let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environ
                .split(|byte| *byte == 0)
                .any(|variable| variable == state.as_bytes())
        };
        found.extend(descendants().into_iter().filter(marked));
        found
    }

    fn with_words(&self, server: &str, words: &str) -> Vec<u32> {
        let mut found = self.processes(server);
        found.retain(|pid| command_line(*pid).contains(words));
        found
    }

    /// The site server's own process.
    #[must_use]
    pub fn site_server(&self, server: &str) -> Option<u32> {
        self.with_words(server, " role siteServer").first().copied()
    }

    /// The guard's process.
    #[must_use]
    pub fn guard(&self, server: &str) -> Option<u32> {
        self.with_words(server, " guard ").first().copied()
    }

    /// The keepers' processes.
    #[must_use]
    pub fn keepers(&self, server: &str) -> Vec<u32> {
        self.with_words(server, " keep ")
    }

    /// The agent's process.
    #[must_use]
    pub fn agent(&self, server: &str) -> Option<u32> {
        self.agents.get(server).map(Child::id)
    }

    /// Kills the agent's own process.
    pub fn kill_agent(&mut self, server: &str) {
        if let Some(mut child) = self.agents.remove(server) {
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// Kills everything that runs for a server at once, as a power cut does.
    pub fn kill_server(&mut self, server: &str) {
        let all = self.processes(server);
        // Stopped first: none of them sees another one die.
        for each in [Signal::STOP, Signal::KILL] {
            for pid in &all {
                signal(*pid, each);
            }
        }
        self.kill_agent(server);
    }

    /// Sends a signal to everything that runs for a server.
    pub fn signal_server(&self, server: &str, each: Signal) {
        if each == Signal::STOP {
            self.note_pause(server);
        }
        for pid in self.processes(server) {
            signal(pid, each);
        }
    }

    /// That a candidate's site server stands still from now on.
    fn note_pause(&self, server: &str) {
        if let Some(server) = CANDIDATES.into_iter().find(|one| *one == server) {
            let mut pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
            pauses.push((server, boot_ms()));
        }
    }

    fn pauses(&self) -> Vec<(&'static str, u64)> {
        let pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        pauses.clone()
    }

    /// What the programs said, for a failed test.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for server in SERVERS {
            for log in [
                self.folder.path().join(format!("{server}.log")),
                self.state(server).join("guard.log"),
            ] {
                let said = fs::read_to_string(&log).unwrap_or_default();
                let lines: Vec<&str> = said.lines().collect();
                let last = lines.len().saturating_sub(25);
                text.push_str(&format!(
                    "== {}\n{}\n",
                    log.display(),
                    lines[last..].join("\n")
                ));
            }
        }
        text
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        // Nothing that waits for a disk can be killed.
        self.disks.values_mut().for_each(Disk::thaw);
        for server in SERVERS {
            self.signal_server(server, Signal::CONT);
            self.kill_server(server);
        }
        kill_descendants();
        self.disks.clear();
        if std::thread::panicking() {
            eprintln!("{}", self.describe());
        }
    }
}
