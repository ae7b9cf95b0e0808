//! Running a lab from its first process to its last.
//!
//! One loop, one thread: signals, ended processes, requests of `stead lab kill` and its sisters, and
//! a look at the status now and then, of which only changes are told.

use std::collections::BTreeSet;
use std::io;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use stead_schemas::api::StatusView;
use stead_schemas::names::ServerName;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::control::{Answer, Command, REQUEST_MAX, Request};
use super::cut::Cuts;
use super::ending;
use super::folder::{Folder, LabState};
use super::processes::{Process, kill_all, marked};
use super::programs::{Cast, Programs};
use super::scene::Scene;
use super::watch::Story;
use crate::api_client::ApiArgs;
use crate::commands::{CommandError, CommandResult, Outcome};
use crate::output::{Style, Ui};

/// Time between looks at the status.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Time between looks at what is due.
const TICK: Duration = Duration::from_millis(100);
/// After this the user is told that it takes long.
const LONG: Duration = Duration::from_secs(60);
/// How long one request may take to arrive.
const REQUEST: Duration = Duration::from_secs(2);
/// How long killing a server may take.
const KILLING: Duration = Duration::from_secs(5);

/// Runs the lab in the folder until SIGINT, SIGTERM or SIGHUP.
///
/// # Errors
/// When the scene can't be set; what was started is ended then as well.
pub async fn run(ui: &Ui, folder: Folder) -> CommandResult {
    let again = folder.is_made()?;
    let _lock = folder.lock()?;
    let cleared = ending::clear_leftovers(&folder);
    if cleared > 0 {
        ui.note(&format!(
            "ended {cleared} processes of an earlier lab that were left"
        ));
    }
    // Marks the folder as a lab's before anything else is in it.
    folder.write_state(&LabState::default())?;
    let doing = if again {
        "starting again from"
    } else {
        "making"
    };
    tell(ui, &format!("{doing} {}", folder.root().display()));
    let scene = Scene::set(&folder)?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(io::Error::from)?;
    let mut stage = Stage {
        ui: *ui,
        folder,
        scene,
        programs: Programs::default(),
        cuts: Cuts::new(),
        story: Story::default(),
        cgroups: BTreeSet::new(),
        started: Instant::now(),
        told_long: false,
        told_try: false,
    };
    let result = stage.play().await;
    stage.end();
    result
}

struct Stage {
    ui: Ui,
    folder: Folder,
    scene: Scene,
    programs: Programs,
    cuts: Cuts,
    story: Story,
    /// Cgroups of servers that were killed.
    cgroups: BTreeSet<String>,
    started: Instant,
    told_long: bool,
    told_try: bool,
}

impl Stage {
    async fn play(&mut self) -> CommandResult {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let mut child = signal(SignalKind::child())?;
        let control = UnixListener::bind(self.folder.control_socket())?;
        self.start_all()?;
        let mut looks = self.look();
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                _ = interrupt.recv() => return Ok(Outcome::Done),
                _ = terminate.recv() => return Ok(Outcome::Done),
                _ = hang_up.recv() => return Ok(Outcome::Done),
                _ = child.recv() => self.reap()?,
                _ = tick.tick() => self.tick()?,
                Some(view) = looks.recv() => self.saw(&view),
                accepted = control.accept() => {
                    if let Ok((stream, _)) = accepted {
                        self.attend(stream).await;
                    }
                }
            }
        }
    }

    fn start_all(&mut self) -> Result<(), CommandError> {
        let agents: Vec<Cast> = self.scene.servers().map(Cast::Agent).collect();
        let sites = self.scene.desired.sites.len();
        let text = format!(
            "starting stead run, stead dns and {} site agents of {sites} sites",
            agents.len()
        );
        tell(&self.ui, &text);
        for role in [Cast::Dns]
            .into_iter()
            .chain(agents)
            .chain([Cast::Reconciler])
        {
            self.programs.start(role, &self.scene, &self.folder)?;
        }
        self.write_state()
    }

    /// Asks for the status again and again, beside the loop.
    fn look(&self) -> mpsc::Receiver<StatusView> {
        let (send, receive) = mpsc::channel(1);
        let api = ApiArgs {
            api: Some(self.folder.api_socket().display().to_string()),
            ca: None,
            cert: None,
            key: None,
        };
        tokio::spawn(async move {
            let Ok(client) = api.client() else { return };
            loop {
                if let Ok(view) = client.get::<StatusView>("/v1/status").await
                    && send.send(view).await.is_err()
                {
                    return;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
        receive
    }

    fn saw(&mut self, view: &StatusView) {
        for line in self.story.lines(view) {
            self.say(&line);
        }
        if self.story.is_converged() && !self.told_try {
            self.told_try = true;
            let text = format!("converged in {:.1} s", self.started.elapsed().as_secs_f64());
            tell(&self.ui, &self.ui.out.paint(Style::Good, &text));
            tell(
                &self.ui,
                &super::watch::what_to_try(&self.folder, &self.scene),
            );
        }
    }

    fn tick(&mut self) -> Result<(), CommandError> {
        self.reap()?;
        if self.programs.start_due(&self.scene, &self.folder)? {
            self.write_state()?;
        }
        if !self.told_try && !self.told_long && self.started.elapsed() > LONG {
            self.told_long = true;
            let logs = self.folder.root().join("logs");
            self.say(&format!(
                "this takes long: `stead status`, and {}",
                logs.display()
            ));
        }
        Ok(())
    }

    fn reap(&mut self) -> Result<(), CommandError> {
        let lines = self.programs.reap();
        for line in &lines {
            self.say(line);
        }
        if lines.is_empty() {
            Ok(())
        } else {
            self.write_state()
        }
    }

    /// One request and its answer; who asks wrongly or slowly is told, or left.
    async fn attend(&mut self, stream: UnixStream) {
        let (read, mut write) = stream.into_split();
        let mut line = String::new();
        let mut read = BufReader::new(read.take(REQUEST_MAX));
        let arrived = tokio::time::timeout(REQUEST, read.read_line(&mut line)).await;
        if !matches!(arrived, Ok(Ok(_))) {
            return;
        }
        let answer: Answer = match serde_json::from_str::<Request>(&line) {
            Ok(request) => self.carry_out(&request),
            Err(error) => Err(format!("that is no request of a lab: {error}")),
        };
        if let Ok(text) = &answer {
            self.say(text);
        }
        if let Ok(mut text) = serde_json::to_vec(&answer) {
            text.push(b'\n');
            drop(tokio::time::timeout(REQUEST, write.write_all(&text)).await);
        }
    }

    fn carry_out(&mut self, request: &Request) -> Answer {
        let server = &request.server;
        if self.programs.agent(server.as_str()).is_none() {
            return self.plug_in(request);
        }
        let answer = match request.command {
            Command::Cut => self.cut(server),
            Command::Freeze => self.freeze(server),
            Command::Heal => self.heal(server),
            Command::Kill => self.kill(server),
        };
        self.write_state()
            .map_err(|_| "can't write lab.json".to_owned())?;
        answer
    }

    /// A server that git names by now and that has no machine yet.
    fn plug_in(&mut self, request: &Request) -> Answer {
        let server = &request.server;
        let failed = |error: CommandError| error.text();
        if request.command == Command::Heal {
            self.scene.refresh(&self.folder).map_err(failed)?;
            let found = self.scene.servers().find(|found| found.name == *server);
            if let Some(found) = found {
                self.programs
                    .start(Cast::Agent(found), &self.scene, &self.folder)
                    .map_err(|error| error.to_string())?;
                self.write_state().map_err(failed)?;
                return Ok(format!("{server}: a new machine with its agent"));
            }
        }
        let names: Vec<String> = self.scene.servers().map(|s| s.name.to_string()).collect();
        Err(format!(
            "there is no server {server} in this lab: {}",
            names.join(", ")
        ))
    }

    fn cut(&mut self, server: &ServerName) -> Answer {
        let agent = self.address(server)?;
        self.cuts.cut(agent)?;
        Ok(format!(
            "{server}: nothing reaches {agent} any more; what it runs goes on"
        ))
    }

    fn freeze(&mut self, server: &ServerName) -> Answer {
        let processes = self.of_server(server);
        for process in &processes {
            process.signal(Signal::STOP);
        }
        Ok(format!("{server}: {} processes frozen", processes.len()))
    }

    fn kill(&mut self, server: &ServerName) -> Answer {
        let processes = self.of_server(server);
        self.cgroups.extend(ending::cgroups_of(&processes));
        if let Some(program) = self.programs.agent(server.as_str()) {
            program.down = true;
        }
        let state = self.folder.agent_state(server.as_str());
        let agent = self
            .programs
            .agent(server.as_str())
            .and_then(|program| program.process);
        let find = || {
            let mut found = marked(&state);
            found.extend(agent.filter(|agent| agent.runs()));
            found
        };
        // The agent's own end is reaped later: its status must not be lost to another program.
        let left = kill_all(find, || (), KILLING);
        if left.is_empty() {
            Ok(format!("{server}: {} processes killed", processes.len()))
        } else {
            Err(format!("{server}: {} processes would not die", left.len()))
        }
    }

    fn heal(&mut self, server: &ServerName) -> Answer {
        let agent = self.address(server)?;
        let mut done = Vec::new();
        if self.cuts.is_cut(agent) {
            self.cuts.join(agent)?;
            done.push("joined again");
        }
        for process in self.of_server(server) {
            process.signal(Signal::CONT);
        }
        self.programs.reap();
        let down = self
            .programs
            .agent(server.as_str())
            .filter(|program| program.process.is_none())
            .map(|program| program.role.clone());
        if let Some(role) = down {
            self.programs
                .start(role, &self.scene, &self.folder)
                .map_err(|error| error.to_string())?;
            done.push("its agent started");
        }
        if done.is_empty() {
            done.push("goes on");
        }
        Ok(format!("{server}: {}", done.join(", ")))
    }

    fn address(&mut self, server: &ServerName) -> Result<std::net::SocketAddr, String> {
        match self
            .programs
            .agent(server.as_str())
            .map(|program| &program.role)
        {
            Some(Cast::Agent(found)) => Ok(found.agent),
            _ => Err(format!("there is no server {server}")),
        }
    }

    /// The agent, its keepers and its instances.
    fn of_server(&mut self, server: &ServerName) -> BTreeSet<Process> {
        let mut found = marked(&self.folder.agent_state(server.as_str()));
        let agent = self.programs.agent(server.as_str());
        found.extend(agent.and_then(|program| program.process));
        found
    }

    fn write_state(&self) -> Result<(), CommandError> {
        let state = LabState {
            lab: Process::own(),
            network: format!("127.{}", self.scene.network.number()),
            dns: self.scene.network.dns().to_string(),
            domain: self
                .scene
                .dns()
                .map_or_else(String::new, |(domain, _)| domain.to_owned()),
            api: self.folder.api_socket(),
            processes: self.programs.running(),
        };
        Ok(self.folder.write_state(&state)?)
    }

    fn end(&mut self) {
        tell(&self.ui, "\nending");
        let (count, left) =
            ending::end_all(&mut self.programs, &self.scene.site_agent, &self.folder);
        ending::remove_cgroups(&self.cgroups);
        drop(std::fs::remove_file(self.folder.control_socket()));
        drop(std::fs::remove_file(self.folder.api_socket()));
        let root = self.folder.root().display();
        if left.is_empty() {
            tell(
                &self.ui,
                &format!("{count} processes ended, nothing is left running"),
            );
        } else {
            let pids: Vec<String> = left.iter().map(|process| process.pid.to_string()).collect();
            self.ui
                .warning(&format!("these would not end: {}", pids.join(", ")));
        }
        tell(
            &self.ui,
            &format!(
                "{root} is kept: `stead lab --dir {root}` starts again from it, `rm -r {root}` removes it"
            ),
        );
    }

    /// A line with the time since the start.
    fn say(&self, text: &str) {
        let since = format!("{:7.1} s", self.started.elapsed().as_secs_f64());
        tell(
            &self.ui,
            &format!("{}  {text}", self.ui.out.paint(Style::Faint, &since)),
        );
    }
}

/// A reader that went away does not end a lab.
fn tell(ui: &Ui, text: &str) {
    drop(ui.line(text));
}
