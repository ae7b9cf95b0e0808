//! Running a lab from its first process to its last.
//!
//! One loop, one thread: signals, ended processes, requests of `stead lab kill` and its sisters, and
//! a look at the status now and then, of which only changes are told.

use std::collections::BTreeSet;
use std::io;
use std::time::{Duration, Instant};

use stead_schemas::api::StatusView;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::control::{Answer, REQUEST_MAX, Request};
use super::cut::Cuts;
use super::ending;
use super::folder::{Folder, LabState};
use super::processes::Process;
use super::programs::{Cast, Programs};
use super::scene::Scene;
use super::takeovers::{self, Seen};
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
    let cuts = Cuts::new(scene.network.number());
    let mut stage = Stage {
        ui: *ui,
        folder,
        scene,
        programs: Programs::default(),
        cuts,
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

pub(super) struct Stage {
    ui: Ui,
    pub(super) folder: Folder,
    pub(super) scene: Scene,
    pub(super) programs: Programs,
    pub(super) cuts: Cuts,
    story: Story,
    /// Cgroups of servers that were killed.
    pub(super) cgroups: BTreeSet<String>,
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
        let mut takeovers = takeovers::watch(&self.folder, self.scene.servers());
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                _ = interrupt.recv() => return Ok(Outcome::Done),
                _ = terminate.recv() => return Ok(Outcome::Done),
                _ = hang_up.recv() => return Ok(Outcome::Done),
                _ = child.recv() => self.reap()?,
                _ = tick.tick() => self.tick()?,
                Some(view) = looks.recv() => self.saw(&view),
                Some(seen) = takeovers.recv() => self.saw_holder(&seen),
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

    fn saw_holder(&mut self, seen: &Seen) {
        for line in self.story.takeover(seen) {
            self.say(&line);
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

    pub(super) fn write_state(&self) -> Result<(), CommandError> {
        let state = LabState {
            lab: Process::own(),
            network: format!("127.{}", self.scene.network.number()),
            dns: self.scene.network.dns().to_string(),
            domain: self.scene.domain().map_or_else(String::new, str::to_owned),
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
