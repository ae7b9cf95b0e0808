//! The README's first command as a new user runs it: `stead lab` converges from nothing, heals, and
//! leaves nothing behind (must-show 1).

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use rustix::process::Signal;
use site_agent::guard::timer::boot_ms;
use system_tests::pair::{Client, PATIENCE, Records, STORE_PORT};
use system_tests::processes::{
    become_subreaper, cgroups, descendants, kill_descendants, program, signal, start, wait_until,
};

fn stead(folder: &Path, args: &[&str]) -> (i32, String) {
    let output = Command::new(program("stead"))
        .args(args)
        .env("STEAD_API", folder.join("lab/stead.sock"))
        .current_dir(folder)
        .output()
        .expect("stead starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() && args[0] != "status" {
        eprintln!("{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    (output.status.code().unwrap_or(-1), text)
}

fn status(folder: &Path) -> Option<serde_json::Value> {
    let (_, out) = stead(folder, &["status", "-o", "json"]);
    serde_json::from_str(&out).ok()
}

fn is_converged(folder: &Path) -> bool {
    let Some(status) = status(folder) else {
        return false;
    };
    let sites = status["sites"].as_array().cloned().unwrap_or_default();
    sites.len() == 3 && sites.iter().all(|site| site["state"] == "converged")
}

fn wait_converged(folder: &Path, what: &str) {
    wait_until(
        what,
        Duration::from_secs(90),
        || is_converged(folder),
        || fs::read_to_string(folder.join("lab.log")).unwrap_or_default(),
    );
}

/// An instance as the status has it; null: it is not there.
fn instance_of(folder: &Path, name: &str) -> serde_json::Value {
    let status = status(folder).unwrap_or_default();
    let sites = status["sites"].as_array().cloned().unwrap_or_default();
    let mut instances = sites
        .iter()
        .flat_map(|site| site["instances"].as_array().into_iter().flatten());
    let found = instances.find(|instance| instance["name"] == name);
    found.cloned().unwrap_or_default()
}

/// The state of a site's first passive, in the words of the status.
fn passive_of(folder: &Path, site: &str) -> serde_json::Value {
    let status = status(folder).unwrap_or_default();
    let sites = status["sites"].as_array().cloned().unwrap_or_default();
    let found = sites.iter().find(|one| one["code"] == site);
    found.map_or_else(Default::default, |one| one["passive"][0]["state"].clone())
}

fn pid_of(folder: &Path, name: &str) -> Option<u64> {
    instance_of(folder, name)["pid"].as_u64()
}

fn end(lab: &mut Child, folder: &Path) {
    signal(lab.id(), Signal::INT);
    wait_until(
        "the lab ends",
        Duration::from_secs(30),
        || matches!(lab.try_wait(), Ok(Some(_))),
        || fs::read_to_string(folder.join("lab.log")).unwrap_or_default(),
    );
}

/// The names directly below the folders where a program could leave something behind.
fn surroundings() -> Vec<String> {
    let places = ["/tmp", "/var/tmp", "/run", "/dev/shm"];
    let mut names = Vec::new();
    for place in places {
        for entry in fs::read_dir(place).into_iter().flatten().flatten() {
            let name = entry.path().display().to_string();
            if name.contains("stead") && !name.contains("stead-test-") {
                names.push(name);
            }
        }
    }
    names.sort();
    names
}

/// A lab that converged, ended with the test.
struct Lab {
    folder: tempfile::TempDir,
    process: Child,
}

impl Lab {
    fn start() -> Self {
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
        wait_converged(folder.path(), "the lab converges from nothing");
        Self { folder, process }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// `stead lab kill p01-a` and the like.
    fn lab(&self, args: &[&str]) {
        let args = [&["lab"], args, &["--dir", "lab"]].concat();
        let (code, out) = stead(self.path(), &args);
        assert_eq!(code, 0, "{args:?}: {out}");
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path().join("lab.log")).unwrap_or_default()
    }

    fn state(&self) -> serde_json::Value {
        let text = fs::read_to_string(self.path().join("lab/lab.json")).expect("lab.json");
        serde_json::from_str(&text).expect("JSON")
    }

    fn address(&self, last: &str) -> String {
        let state = self.state();
        let network = state["network"].as_str().expect("a network").to_owned();
        format!("{network}.{last}")
    }

    /// What a server's agent says of its site server.
    fn site_server(&self, server: &str) -> serde_json::Value {
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

    fn until(&self, what: &str, done: impl FnMut() -> bool) {
        wait_until(what, Duration::from_secs(60), done, || self.log());
    }

    /// The server came back, follows and could take over.
    fn until_passive(&self, server: &str) {
        self.until(&format!("{server} is a ready passive"), || {
            let report = self.site_server(server);
            report["lease"]["part"] == "following" && report["lease"]["ready"] == true
        });
    }

    fn alias(&self) -> String {
        let state = self.state();
        let dns = state["dns"].as_str().expect("an address").to_owned();
        let (ip, port) = dns.rsplit_once(':').expect("a port");
        let name = format!("p01.{}", state["domain"].as_str().expect("a domain"));
        let done = Command::new("dig")
            .args([&format!("@{ip}"), "-p", port, "+short", "+time=2", &name])
            .output()
            .expect("dig runs");
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    }

    fn candidates(&self) -> [(&'static str, SocketAddr); 2] {
        [("p01-a", "2.11:8440"), ("p01-b", "2.12:8440")]
            .map(|(name, last)| (name, self.address(last).parse().expect("an address")))
    }

    /// What happens next moves the work: who takes the first write sent after it.
    fn next_writer(client: &Client) -> &'static str {
        client.next_after(boot_ms(), PATIENCE).by
    }

    /// No write is lost, stale or twice, by the records.
    fn judge(&self, client: Client, pauses: Vec<(&'static str, u64)>) {
        let writes = client.writes();
        drop(client);
        let folder = |server: &str| self.path().join("lab/servers").join(server).join("state");
        let records = Records {
            store: self
                .address(&format!("2.13:{STORE_PORT}"))
                .parse()
                .expect("an address"),
            folders: ["p01-a", "p01-b"]
                .map(|server| (server, folder(server).join("data/siteServer")))
                .into(),
            pauses,
        };
        records.judge(&writes);
    }

    fn end(mut self) {
        end(&mut self.process, self.folder.path());
        kill_descendants();
    }
}

impl Drop for Lab {
    /// A failed test leaves no lab, and no packets dropped.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
            signal(self.process.id(), Signal::INT);
            let end = std::time::Instant::now() + Duration::from_secs(20);
            while matches!(self.process.try_wait(), Ok(None)) && std::time::Instant::now() < end {
                std::thread::sleep(Duration::from_millis(20));
            }
            kill_descendants();
        }
    }
}

/// The new user's story: whatever is done to the active, the passive goes on, no write is lost and none
/// is stale; with the reconciler gone, too (I5, I6, H22).
#[test]
fn i6_the_labs_pair_fails_over_whatever_breaks_it() {
    let lab = Lab::start();
    let candidates = lab.candidates();
    let [a, b] = candidates.map(|(_, address)| address.ip().to_string());
    let client = Client::start_at(&candidates);
    assert_eq!(Lab::next_writer(&client), "p01-a");
    lab.until("the alias leads to p01-a", || lab.alias() == a);

    lab.lab(&["kill", "p01-a"]);
    assert_eq!(Lab::next_writer(&client), "p01-b");
    lab.until("the alias follows", || lab.alias() == b);
    lab.until("it is told", || {
        lab.log().contains("P01  failed over p01-a -> p01-b, term ")
    });
    lab.lab(&["heal", "p01-a"]);
    lab.until_passive("p01-a");
    wait_converged(lab.path(), "the server is back");
    assert_eq!(Lab::next_writer(&client), "p01-b", "it is active no more");

    // Cut off with all it runs, it stops by itself; its letters and writes get nowhere.
    if rustix::process::geteuid().is_root() {
        lab.lab(&["cut", "p01-b"]);
        assert_eq!(Lab::next_writer(&client), "p01-a");
        lab.until("p01-b stops; its own agent reaches it, it no store", || {
            let report = lab.site_server("p01-b");
            let message = report["instances"]["siteServer"]["message"].as_str();
            report["lease"]["part"] == "following"
                && report["lease"]["ready"] == false
                && message.is_some_and(|text| text.contains("503"))
        });
        lab.lab(&["heal", "p01-b"]);
    } else {
        lab.lab(&["kill", "p01-b"]);
        assert_eq!(Lab::next_writer(&client), "p01-a");
        lab.lab(&["heal", "p01-b"]);
    }
    lab.until_passive("p01-b");

    // Frozen past its lease and thawed: the old term writes nothing any more.
    let frozen = boot_ms();
    lab.lab(&["freeze", "p01-a"]);
    assert_eq!(Lab::next_writer(&client), "p01-b");
    lab.lab(&["heal", "p01-a"]);
    lab.until_passive("p01-a");
    wait_converged(lab.path(), "all are well again");

    // Nobody governs: the site does without, alias included.
    lab.lab(&["kill", "--reconciler"]);
    assert_ne!(stead(lab.path(), &["status"]).0, 0, "it is down");
    lab.lab(&["kill", "p01-b"]);
    assert_eq!(Lab::next_writer(&client), "p01-a");
    lab.until("the alias follows", || lab.alias() == a);
    lab.lab(&["heal", "p01-b"]);
    lab.until_passive("p01-b");
    lab.lab(&["heal", "stead-1"]);
    wait_converged(lab.path(), "the reconciler finds it in order");
    assert_eq!(Lab::next_writer(&client), "p01-a", "it moves nothing");

    lab.judge(client, vec![("p01-a", frozen)]);
    lab.end();
}

/// A patch day: the active is drained, switched off and put back, then a front end (task 4, H3).
#[test]
fn h3_a_drained_active_is_switched_off_and_stands_by_again() {
    let lab = Lab::start();
    let client = Client::start_at(&lab.candidates());
    assert_eq!(Lab::next_writer(&client), "p01-a");
    lab.until("the holder knows that p01-b may take over", || {
        passive_of(lab.path(), "P01") == "ready"
    });
    let drain = |server: &str, more: &[&str]| {
        let args = ["drain", server, "--for", "1h", "--reason", "kernel"];
        stead(lab.path(), &[&args, more].concat())
    };
    let (code, out) = drain("p01-a", &["--dry-run"]);
    assert_eq!(code, 0, "{out}");
    assert!(
        out.contains("P01 siteServer p01-a -> p01-b (ready)"),
        "{out}"
    );
    assert!(
        out.contains(
            "p01-b, p01-w remain (2 of 3): P01 does not survive another loss until undrain"
        ),
        "{out}"
    );
    assert_eq!(drain("p01-a", &[]).0, 1, "nobody is there to say yes");
    assert_eq!(Lab::next_writer(&client), "p01-a", "nothing was begun");

    let (code, out) = drain("p01-a", &["--yes"]);
    assert_eq!(code, 0, "{out}\n{}", lab.log());
    assert!(out.contains("safe to power off p01-a until "), "{out}");
    assert_eq!(Lab::next_writer(&client), "p01-b");
    assert_eq!(drain("p01-b", &["--yes"]).0, 1, "the other one of the pair");
    let report = lab.site_server("p01-a");
    assert_eq!(report["lease"]["ready"], false, "it takes over from nobody");
    lab.lab(&["kill", "p01-a"]);
    lab.until("its silence is seen", || !is_converged(lab.path()));
    let needs = status(lab.path()).expect("it answers")["needsPerson"].clone();
    assert_eq!(needs, serde_json::json!([]), "it is expected");
    assert_eq!(Lab::next_writer(&client), "p01-b");

    lab.lab(&["heal", "p01-a"]);
    lab.until("it is back, and votes only", || {
        let report = lab.site_server("p01-a");
        report["lease"]["part"] == "following" && report["lease"]["ready"] == false
    });
    let (code, out) = stead(lab.path(), &["undrain", "p01-a"]);
    assert_eq!(code, 0, "{out}");
    lab.until_passive("p01-a");
    wait_converged(lab.path(), "it is in service again");
    assert_eq!(Lab::next_writer(&client), "p01-b", "it is active no more");
    lab.lab(&["kill", "p01-b"]);
    assert_eq!(Lab::next_writer(&client), "p01-a", "and takes over again");
    lab.lab(&["heal", "p01-b"]);
    lab.until_passive("p01-b");
    wait_converged(lab.path(), "the pair is whole");

    // A front end: what is counted moves, what is placed by hand leaves DNS.
    let (code, out) = drain("p01-f1", &["--yes"]);
    assert_eq!(code, 0, "{out}\n{}", lab.log());
    let at_f1 = |name: &str| instance_of(lab.path(), &format!("P01/{name}@p01-f1"));
    assert_eq!(at_f1("distributionPoint"), serde_json::Value::Null);
    let kept = at_f1("managementPoint");
    assert_eq!(kept["published"], false, "{kept}");
    lab.lab(&["kill", "p01-f1"]);
    lab.until("its silence is seen", || !is_converged(lab.path()));
    lab.lab(&["heal", "p01-f1"]);
    assert_eq!(stead(lab.path(), &["undrain", "p01-f1"]).0, 0);
    lab.until("it is published again", || {
        at_f1("managementPoint")["published"] == true
    });
    wait_converged(lab.path(), "as declared");
    assert_eq!(
        at_f1("distributionPoint"),
        serde_json::Value::Null,
        "it stays"
    );
    lab.judge(client, Vec::new());
    lab.end();
}

#[test]
fn the_lab_converges_heals_and_leaves_nothing_behind() {
    become_subreaper();
    let before = surroundings();
    let folder = tempfile::Builder::new()
        .prefix("stead-test-lab-")
        .tempdir()
        .expect("a folder");
    let folder = folder.path();
    let mut command = Command::new(program("stead"));
    command.args(["lab", "--dir", "lab"]).current_dir(folder);
    let mut lab = start(&mut command, &folder.join("lab.log"));
    wait_converged(folder, "the lab converges from nothing");

    let agents = descendants().len();
    assert!(agents >= 12, "a dozen agents and more: {agents}");
    let name = "P01/managementPoint@p01-f1";
    let pid = pid_of(folder, name).expect("it runs");
    signal(u32::try_from(pid).expect("a pid"), Signal::KILL);
    wait_until(
        "the instance heals",
        Duration::from_secs(60),
        || pid_of(folder, name).is_some_and(|now| now != pid),
        || fs::read_to_string(folder.join("lab.log")).unwrap_or_default(),
    );

    let (code, _) = stead(folder, &["lab", "kill", "p01-f2", "--dir", "lab"]);
    assert_eq!(code, 0);
    wait_until(
        "the power cut is seen",
        Duration::from_secs(60),
        || !is_converged(folder),
        || fs::read_to_string(folder.join("lab.log")).unwrap_or_default(),
    );
    let (code, _) = stead(folder, &["lab", "heal", "p01-f2", "--dir", "lab"]);
    assert_eq!(code, 0);
    wait_converged(folder, "the server comes back");

    let groups = cgroups(&descendants());
    end(&mut lab, folder);
    let left: Vec<_> = groups.iter().filter(|group| group.exists()).collect();
    assert!(left.is_empty(), "cgroups left behind: {left:?}");
    let left: Vec<String> = descendants()
        .iter()
        .map(|pid| system_tests::processes::command_line(*pid))
        .collect();
    kill_descendants();
    assert!(left.is_empty(), "processes left behind: {left:?}");
    assert_eq!(surroundings(), before, "nothing is left outside its folder");
}
