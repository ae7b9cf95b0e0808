//! A running `stead lab`, started, asked and broken as its user does it: by commands.
//!
//! It judges nothing; what its records show is `pair::Records`' to say.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::pair::{Clocks, Records, STORE_PORT};
use crate::processes::{become_subreaper, kill_descendants, program, signal, start, wait_until};

const PATIENCE: Duration = Duration::from_secs(90);
/// How long a lab may take to end, whatever of it is frozen.
const ENDING: Duration = Duration::from_secs(30);

/// A site of the lab whose active server has a lease.
#[derive(Debug, Clone, Copy)]
pub struct LeasedSite {
    /// Its code.
    pub code: &'static str,
    /// Those that may hold, and the last two numbers of their addresses.
    pub candidates: [(&'static str, &'static str); 2],
    /// The third voter, which has the store.
    pub witness: (&'static str, &'static str),
}

/// The top site.
pub const CAS: LeasedSite = LeasedSite {
    code: "CAS",
    candidates: [("cas-a", "1.11"), ("cas-b", "1.12")],
    witness: ("cas-w", "1.13"),
};
/// The primary below it.
pub const P01: LeasedSite = LeasedSite {
    code: "P01",
    candidates: [("p01-a", "2.11"), ("p01-b", "2.12")],
    witness: ("p01-w", "2.13"),
};
const SITE_SERVER_PORT: u16 = 8440;

/// A lab that converged, ended with the test.
#[derive(Debug)]
pub struct Lab {
    folder: tempfile::TempDir,
    process: Child,
}

impl Lab {
    /// A new one, once it has converged from nothing.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn start() -> Self {
        become_subreaper();
        let folder = tempfile::Builder::new()
            .prefix("stead-test-lab-")
            .tempdir()
            .expect("a folder");
        let mut command = Command::new(program("stead"));
        command
            .args(["lab", "--dir", "lab"])
            .current_dir(folder.path());
        let process = start(&mut command, &folder.path().join("lab.log"));
        let lab = Self { folder, process };
        lab.wait_converged("the lab converges from nothing");
        lab
    }

    /// The folder it was started in; its own is `lab` there.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a `stead` command against its reconciler: exit code and stdout.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn stead(&self, args: &[&str]) -> (i32, String) {
        let output = Command::new(program("stead"))
            .args(args)
            .env("STEAD_API", self.path().join("lab/stead.sock"))
            .current_dir(self.path())
            .output()
            .expect("stead starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code().unwrap_or(-1), text)
    }

    /// `stead lab kill p01-a` and the like.
    ///
    /// # Panics
    /// When the lab refuses.
    pub fn lab(&self, args: &[&str]) {
        let args = [&["lab"], args, &["--dir", "lab"]].concat();
        let (code, out) = self.stead(&args);
        assert_eq!(code, 0, "{args:?}: {out}\n{}", self.log());
    }

    /// `stead status`, where the reconciler answers.
    #[must_use]
    pub fn status(&self) -> Option<Value> {
        let (_, out) = self.stead(&["status", "-o", "json"]);
        serde_json::from_str(&out).ok()
    }

    /// Whether all three sites are as declared.
    #[must_use]
    pub fn is_converged(&self) -> bool {
        let Some(status) = self.status() else {
            return false;
        };
        let sites = status["sites"].as_array().cloned().unwrap_or_default();
        sites.len() == 3 && sites.iter().all(|site| site["state"] == "converged")
    }

    /// Waits for that.
    ///
    /// # Panics
    /// When it does not come to that.
    pub fn wait_converged(&self, what: &str) {
        wait_until(what, PATIENCE, || self.is_converged(), || self.log());
    }

    /// Waits for something else.
    ///
    /// # Panics
    /// When it does not come.
    pub fn until(&self, what: &str, done: impl FnMut() -> bool) {
        wait_until(what, PATIENCE, done, || self.log());
    }

    /// What it told its user so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.path().join("lab.log")).unwrap_or_default()
    }

    fn state(&self) -> Value {
        let text = fs::read_to_string(self.path().join("lab/lab.json")).expect("lab.json");
        serde_json::from_str(&text).expect("JSON")
    }

    fn address(&self, last: &str) -> String {
        let state = self.state();
        let network = state["network"].as_str().expect("a network");
        format!("{network}.{last}")
    }

    /// What a server's agent says of itself; null: it does not answer.
    ///
    /// # Panics
    /// When there is no curl.
    #[must_use]
    pub fn report(&self, server: &str) -> Value {
        let socket = self
            .path()
            .join(format!("lab/servers/{server}/state/agent.sock"));
        let done = Command::new("curl")
            .args(["-s", "-m", "2", "--unix-socket"])
            .arg(socket)
            .arg("http://agent/v1/state")
            .output()
            .expect("curl runs");
        serde_json::from_slice(&done.stdout).unwrap_or_default()
    }

    /// Waits until the server came back, follows and could take over.
    ///
    /// # Panics
    /// When it does not.
    pub fn until_passive(&self, server: &str) {
        self.until(&format!("{server} is a ready passive"), || {
            let report = self.report(server);
            report["lease"]["part"] == "following" && report["lease"]["ready"] == true
        });
    }

    /// Where a site's alias leads, asked at the DNS server.
    ///
    /// # Panics
    /// When there is no dig.
    #[must_use]
    pub fn alias(&self, site: LeasedSite) -> String {
        let state = self.state();
        let dns = state["dns"].as_str().expect("an address");
        let (ip, port) = dns.rsplit_once(':').expect("a port");
        let domain = state["domain"].as_str().expect("a domain");
        let name = format!("{}.{domain}", site.code.to_lowercase());
        let done = Command::new("dig")
            .args([&format!("@{ip}"), "-p", port, "+short", "+time=2", &name])
            .output()
            .expect("dig runs");
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    }

    /// Where the candidates of a site take writes.
    ///
    /// # Panics
    /// When the lab has no addresses.
    #[must_use]
    pub fn candidates(&self, site: LeasedSite) -> [(&'static str, SocketAddr); 2] {
        site.candidates.map(|(name, last)| {
            let address = self.address(last).parse().expect("an address");
            (name, SocketAddr::new(address, SITE_SERVER_PORT))
        })
    }

    /// Where the records of a site are, to judge it by; `pauses` as in [`Records`].
    ///
    /// # Panics
    /// When the lab has no addresses.
    #[must_use]
    pub fn records(&self, site: LeasedSite, pauses: Vec<(&'static str, u64)>) -> Records {
        let servers = self.path().join("lab/servers");
        let store = format!("{}:{STORE_PORT}", self.address(site.witness.1));
        Records {
            store: store.parse().expect("an address"),
            folders: site
                .candidates
                .map(|(name, _)| (name, servers.join(name).join("state/data/siteServer")))
                .into(),
            clocks: Clocks::new(),
            pauses,
        }
    }

    /// Ctrl-C, and waits until it has ended.
    ///
    /// # Panics
    /// When it does not end.
    pub fn interrupt(&mut self) {
        signal(self.process.id(), Signal::INT);
        let log = self.log();
        wait_until(
            "the lab ends",
            ENDING,
            || matches!(self.process.try_wait(), Ok(Some(_))),
            || log,
        );
    }
}

impl Drop for Lab {
    /// Whatever came of the test: no lab is left, and no packets dropped.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        signal(self.process.id(), Signal::INT);
        let end = Instant::now() + ENDING;
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        kill_descendants();
    }
}
