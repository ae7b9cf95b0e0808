//! A guard as a real process, with an agent that is only a mouth, a workload, and voters that note
//! what was left when a release reached them.
//!
//! The agent is this test binary again (`guard::fake_agent`): it passes lines between its standard
//! input and output and the guard's socket, and can be killed, stopped and re-executed.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::Router;
use axum::extract::{Json, State};
use axum::routing::post;
use rustix::process::Signal;
use serde_json::{Value, json};
use site_agent::guard::timer::boot_ms;
use site_agent::layout::Layout;
use site_agent::processes::cgroup::Cgroup;
use site_agent::{config, processes, service};
use stead_schemas::names::IdentityKind;
use stead_wire::material::Material;
use stead_wire::serve::{Limits, serve};
use stead_wire::tls::ServerTls;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::lab::{DEADLINE, EXE, Lab, free_address, issue, lives, number_in, pause, until};

/// Tells `guard::fake_agent` that it is one, and where.
pub(crate) const FAKE: &str = "STEAD_FAKE_AGENT";

pub(crate) struct GuardLab {
    pub(crate) lab: Lab,
    pub(crate) layout: Layout,
    pub(crate) cgroup: Option<Cgroup>,
    pub(crate) scene: Arc<Scene>,
    guard: Option<Child>,
    voters: Vec<Value>,
    /// What lets connections in to the voters.
    doors: Vec<JoinHandle<()>>,
    work: Vec<Child>,
}

/// What a voter looks at when a release comes.
#[derive(Debug, Default)]
pub(crate) struct Scene {
    cgroup: Option<PathBuf>,
    agent: Mutex<Option<u32>>,
    releases: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
}

/// A release that came.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    pub(crate) body: Value,
    pub(crate) populated: bool,
    pub(crate) agent_lives: bool,
}

impl Scene {
    pub(crate) fn releases(&self) -> Vec<Seen> {
        self.releases.lock().unwrap().clone()
    }

    /// How many there were to the voters.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl GuardLab {
    /// Two voters and a guard that runs.
    pub(crate) async fn new() -> Self {
        Self::with(json!({})).await
    }

    pub(crate) async fn with(settings: Value) -> Self {
        let lab = Lab::with(settings);
        let settings = config::load(&lab.config()).unwrap();
        let layout = Layout::make(&settings.spec.state_dir).unwrap();
        let cgroups = service::cgroups(&settings, &layout);
        let cgroup = cgroups.map(|dir| Cgroup::at(dir.join(site_agent::guard::GROUP)));
        let scene = Arc::new(Scene {
            cgroup: cgroup.as_ref().map(|one| one.dir().to_owned()),
            ..Scene::default()
        });
        let mut made = Self {
            lab,
            layout,
            cgroup,
            scene,
            guard: None,
            voters: Vec::new(),
            doors: Vec::new(),
            work: Vec::new(),
        };
        for name in ["p01-b", "p01-w"] {
            made.voter(name).await;
        }
        made.start().await;
        made
    }

    /// These tests are about cgroups: where there is none they fail, and don't pass unseen.
    pub(crate) fn cgroup(&self) -> &Cgroup {
        let there = self.cgroup.as_ref();
        there.expect("a writable version 2 cgroup; most of these tests need one")
    }

    async fn voter(&mut self, name: &str) {
        let at = free_address();
        let issued = issue(&self.lab.ca, IdentityKind::Server, name);
        let ca = self.lab.ca.certificate_pem();
        let material = Material::from_pem(ca, &issued.certificate_pem, &issued.key_pem).unwrap();
        let listener = TcpListener::bind(at).await.unwrap();
        let router = Router::new()
            .route("/v1/lease", post(note))
            .with_state(Arc::clone(&self.scene));
        tokio::spawn(serve(
            listener,
            ServerTls::new(&material).unwrap(),
            router,
            Limits::default(),
            std::future::pending(),
        ));
        let door = TcpListener::bind(free_address()).await.unwrap();
        let (inner, at) = (at, door.local_addr().unwrap());
        self.doors
            .push(tokio::spawn(let_in(door, inner, Arc::clone(&self.scene))));
        let identity = format!("stead://contoso/server/{name}");
        self.voters
            .push(json!({"address": at.to_string(), "identity": identity}));
    }

    /// Starts a guard and waits until it listens.
    pub(crate) async fn start(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.lab.dir.path().join("guard.log"));
        let child = Command::new(EXE)
            .args(["guard", "--config"])
            .arg(self.lab.config())
            .env("STEAD_LOG", "info,site_agent=debug")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.unwrap())
            .spawn();
        self.guard = Some(child.unwrap());
        let socket = self.layout.root().join(site_agent::guard::SOCKET);
        until("a guard that listens", || {
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
        })
        .await;
    }

    /// From now on no new connection reaches a voter; those that are open stay.
    pub(crate) async fn close_doors(&mut self) {
        for door in self.doors.drain(..) {
            door.abort();
            drop(door.await);
        }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.lab.dir.path().join("guard.log")).unwrap_or_default()
    }

    pub(crate) async fn until_logged(&self, what: &str) {
        until(&format!("logged: {what}"), || self.log().contains(what)).await;
    }

    pub(crate) fn kill_guard(&mut self) {
        let mut guard = self.guard.take().unwrap();
        guard.kill().unwrap();
        guard.wait().unwrap();
    }

    /// Tells the guard to end, and waits for it: after that nothing comes from it any more.
    pub(crate) async fn end_guard(&mut self) -> ExitStatus {
        let mut guard = self.guard.take().unwrap();
        processes::signal(guard.id(), Signal::TERM).unwrap();
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = guard.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "it does not end:\n{}", self.log());
            pause().await;
        }
    }

    /// Runs this in the site server's cgroup, without any mark, as one that nothing but the cgroup
    /// finds; where there is none, with the mark.
    pub(crate) async fn work(&mut self, script: &str) -> u32 {
        let up = self.lab.dir.path().join(format!("up{}", self.work.len()));
        let mut command = Command::new("sh");
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap());
        let enter = if let Some(cgroup) = &self.cgroup {
            cgroup.create().unwrap();
            format!("echo 0 > {}/cgroup.procs\n", cgroup.dir().display())
        } else {
            let instance = format!("{}@{}", site_agent::guard::GROUP, self.lab.server);
            command
                .env("STEAD_STATE", self.layout.root())
                .env("STEAD_INSTANCE", instance);
            String::new()
        };
        let script = format!("set -e\n{enter}echo $$ > {}\n{script}", up.display());
        let child = command.args(["-c", &script]).spawn().unwrap();
        self.work.push(child);
        number_in(&up).await
    }

    pub(crate) async fn sleeper(&mut self) -> u32 {
        self.work("exec sleep 1000").await
    }

    /// A message that allows a term for that long from now.
    pub(crate) fn allow(&self, term: u64, ms: u64) -> Value {
        let mut peers = self.voters.clone();
        for peer in &mut peers {
            peer["body"] = json!({ "release": term });
        }
        json!({"allow": {
            "term": term,
            "until": boot_ms() + ms,
            "release": {"path": "/v1/lease", "peers": peers},
        }})
    }

    /// An agent that said hello.
    pub(crate) async fn agent(&self) -> FakeAgent {
        let mut agent = FakeAgent::start(self.layout.root()).await;
        *self.scene.agent.lock().unwrap() = Some(agent.pid());
        let welcome = agent.ask(&json!({"hello": {}})).await;
        assert!(welcome.get("welcome").is_some(), "{welcome}");
        agent
    }

    /// Both voters heard of this term, each once, and nothing was left when they did.
    pub(crate) async fn released(&mut self, term: u64) {
        until("two releases", || self.scene.releases().len() >= 2).await;
        self.ends_with_releases(term).await;
    }

    /// The same of a guard that is told to end, and ends.
    pub(crate) async fn ends_with_releases(&mut self, term: u64) {
        assert!(self.end_guard().await.success(), "{}", self.log());
        let seen = Seen {
            body: json!({ "release": term }),
            populated: false,
            agent_lives: false,
        };
        assert_eq!(self.scene.releases(), [seen.clone(), seen], "H1, R12");
    }

    /// No voter ever heard anything: the guard is gone, and nothing can come any more.
    pub(crate) async fn never_released(&mut self) {
        assert!(self.end_guard().await.success(), "{}", self.log());
        assert_eq!(self.scene.releases(), []);
    }
}

async fn let_in(door: TcpListener, to: SocketAddr, scene: Arc<Scene>) {
    while let Ok((mut outer, _)) = door.accept().await {
        scene.connections.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(async move {
            let mut inner = TcpStream::connect(to).await.unwrap();
            drop(tokio::io::copy_bidirectional(&mut outer, &mut inner).await);
        });
    }
}

async fn note(State(scene): State<Arc<Scene>>, Json(body): Json<Value>) {
    let cgroup = scene.cgroup.clone().map(Cgroup::at);
    let agent = *scene.agent.lock().unwrap();
    let seen = Seen {
        body,
        populated: cgroup.is_some_and(|cgroup| cgroup.populated()),
        agent_lives: agent.is_some_and(lives),
    };
    scene.releases.lock().unwrap().push(seen);
}

impl Drop for GuardLab {
    fn drop(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            drop(guard.kill());
            drop(guard.wait());
        }
        if let Some(cgroup) = &self.cgroup {
            cgroup.kill();
        }
        for work in &mut self.work {
            drop(work.kill());
            drop(work.wait());
        }
        if let Some(cgroup) = &self.cgroup {
            cgroup.remove();
        }
    }
}

/// An agent of which only the mouth is there.
pub(crate) struct FakeAgent {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<Value>,
}

impl FakeAgent {
    /// One that is connected, and said nothing yet.
    pub(crate) async fn start(state: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "guard::fake_agent",
                "--exact",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(FAKE, state)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // The test harness begins lines of its own.
                let said = line
                    .find('{')
                    .and_then(|at| serde_json::from_str(&line[at..]).ok());
                if let Some(said) = said
                    && sender.send(said).is_err()
                {
                    return;
                }
            }
        });
        let stdin = child.stdin.take().unwrap();
        let mut agent = Self {
            child,
            stdin,
            lines,
        };
        assert_eq!(agent.hear().await, json!({"connected": true}));
        agent
    }

    /// Replaces its program, as `reload` does.
    pub(crate) async fn reexec(&mut self) {
        self.say("reexec");
        assert_eq!(self.hear().await, json!({"connected": true}));
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn say(&mut self, text: &str) {
        writeln!(self.stdin, "{text}").unwrap();
    }

    /// What the guard says next; `null` once the connection is closed.
    pub(crate) async fn hear(&mut self) -> Value {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Ok(said) = self.lines.try_recv() {
                let closed = said.get("closed").is_some();
                return if closed { Value::Null } else { said };
            }
            assert!(Instant::now() < end, "the guard says nothing");
            pause().await;
        }
    }

    pub(crate) async fn ask(&mut self, message: &Value) -> Value {
        self.say(&message.to_string());
        self.hear().await
    }

    /// Asks for something that is done.
    pub(crate) async fn must(&mut self, message: &Value) -> Value {
        let answer = self.ask(message).await;
        assert!(
            answer.get("allowed").is_some() || answer.get("ended").is_some(),
            "{message}: {answer}"
        );
        answer
    }

    pub(crate) async fn refused(&mut self, message: &Value) -> String {
        let answer = self.ask(message).await;
        let reason = answer["refused"]["reason"].as_str();
        reason.unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        processes::signal(self.pid(), signal).unwrap();
    }

    pub(crate) async fn dead(&mut self) {
        let end = Instant::now() + DEADLINE;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < end, "the agent lives");
            pause().await;
        }
    }
}

impl Drop for FakeAgent {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The other side of [`FakeAgent`]: ends with its standard input.
pub(crate) fn be_agent(state: &Path) {
    std::env::set_current_dir(state).unwrap();
    let mut socket = std::os::unix::net::UnixStream::connect(site_agent::guard::SOCKET).unwrap();
    let reader = BufReader::new(socket.try_clone().unwrap());
    println!("{{\"connected\":true}}");
    std::thread::spawn(move || {
        for line in reader.lines().map_while(Result::ok) {
            println!("{line}");
        }
        println!("{{\"closed\":true}}");
    });
    for line in std::io::stdin().lines().map_while(Result::ok) {
        if line == "reexec" {
            let error = Command::new(std::env::current_exe().unwrap())
                .args(std::env::args_os().skip(1))
                .exec();
            panic!("{error}");
        }
        // A guard that hung up is heard of by the reader.
        drop(socket.write_all(format!("{line}\n").as_bytes()));
    }
}
