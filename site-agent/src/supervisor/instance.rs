//! One instance, from wanted to running to gone.
//!
//! A task knows one thing at a time: what is wanted, and the link to the keeper if there is one.
//! It compares the two and takes one step; every step can be interrupted by a new want. Nothing is
//! started before what ran is proven gone (H10).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use stead_schemas::names::GroupName;
use stead_schemas::wire::{Health, InstanceReport, Phase, StopRule};
use stead_wire::clock::wall_now;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::backoff::Backoff;
use super::health::{Target, Verdict, Watched};
use super::{Context, Run, Tasks, Want, prepare, read_spec};
use crate::chain;
use crate::keeper::link::{KeeperLink, LinkError};
use crate::keeper::spec::KeeperSpec;
use crate::keeper::state::{Exit, KeeperCommand, KeeperPhase, KeeperState};
use crate::keeper::{EXIT, SPEC};
use crate::processes::{self, cgroup::Cgroup};
use site_voting::durable;

/// Over the grace, before a keeper that does not end its instance is taken for hung.
const PATIENCE: Duration = Duration::from_secs(5);
/// One attempt at what a dead keeper left.
const CLEAN: Duration = Duration::from_secs(10);
/// Between attempts to clean what won't go.
const CLEAN_AGAIN: Duration = Duration::from_secs(5);

/// The task of one instance.
#[derive(Debug)]
pub(super) struct InstanceTask {
    context: Arc<Context>,
    group: GroupName,
    folder: PathBuf,
    want: watch::Receiver<Want>,
    tasks: Tasks,
    backoff: Backoff,
    epoch: Instant,
    /// What the last run was, for counting restarts and knowing when a want is new.
    last: Option<Run>,
    /// Starts so far, of this run.
    starts: u32,
    /// How long to wait before the next start.
    pause: Duration,
    healthy_since: Option<Instant>,
}

/// Why there is no running instance after a start.
enum Fault {
    /// It ran, and is over.
    Over,
    /// It could not be started; why.
    Start(String),
}

impl InstanceTask {
    pub(super) fn new(
        context: Arc<Context>,
        group: GroupName,
        want: watch::Receiver<Want>,
        tasks: Tasks,
    ) -> Self {
        Self {
            folder: context.layout.instance(&group),
            context,
            group,
            want,
            tasks,
            backoff: Backoff::default(),
            epoch: Instant::now(),
            last: None,
            starts: 0,
            pause: Duration::ZERO,
            healthy_since: None,
        }
    }

    /// Converges until nothing is wanted and nothing is left.
    pub(super) async fn run(mut self) {
        let mut link = self.adopt().await;
        loop {
            let want = self.want.borrow_and_update().clone();
            match (want, link.take()) {
                (Want::Run(run), Some(kept)) if kept.state().run == run.key => {
                    link = self.attend(kept, &run).await;
                }
                (Want::Run(run), None) => link = self.start(&run).await,
                (Want::Run(_) | Want::Gone, Some(kept)) => self.end(kept).await,
                (Want::Leave, Some(kept)) => link = self.leave(kept).await,
                (Want::Leave, None) => self.wait_for_want().await,
                (Want::Gone, None) => {
                    if self.clean_up().await && self.retire() {
                        return;
                    }
                }
            }
        }
    }

    /// Finds the keeper an earlier agent left; it goes on without noticing.
    async fn adopt(&mut self) -> Option<KeeperLink> {
        let spec = read_spec(&self.context.layout, &self.group)?;
        self.starts = spec.report.restarts + 1;
        match KeeperLink::connect(&self.folder).await {
            Ok(Some(link)) => {
                let mut report = spec.report;
                report.phase = phase_of(link.state());
                report.health = Health::Unknown;
                report.pid = Some(link.state().pid);
                report.since = link.state().started;
                report.message = None;
                self.show(report);
                tracing::info!(instance = %self.group, pid = link.state().pid, "adopted");
                Some(link)
            }
            Ok(None) => None,
            Err(error) => {
                tracing::warn!(instance = %self.group, "{}", chain(&error));
                self.clean_orphans().await;
                None
            }
        }
    }

    /// Starts the instance, after the pause that is due. `None` when that failed, or something
    /// else is wanted now.
    async fn start(&mut self, run: &Run) -> Option<KeeperLink> {
        self.note_run(run);
        if !self.rest().await {
            return None;
        }
        // A keeper may have been on its way when the agent before us ended.
        if let Ok(Some(link)) = KeeperLink::connect(&self.folder).await {
            return Some(link);
        }
        self.change(|report| {
            report.phase = match run.spec.program {
                stead_schemas::wire::Program::Archive { .. } => Phase::Fetching,
                _ => Phase::Starting,
            };
        });
        let report = self.fresh_report(run, self.starts);
        let prepared = tokio::select! {
            prepared = prepare::prepare(&self.context, &self.group, run, report) => prepared,
            () = self.wait_for_other(run) => return None,
        };
        let started = match prepared {
            Ok(spec) => self.start_keeper(&spec).await,
            Err(error) => Err(Fault::Start(chain(&error))),
        };
        match started {
            Ok(link) => {
                self.started(link.state().pid);
                Some(link)
            }
            Err(Fault::Over) => {
                self.starts += 1;
                self.note_run(run);
                self.keeper_died().await;
                None
            }
            Err(Fault::Start(reason)) => {
                tracing::warn!(instance = %self.group, "can't start: {reason}");
                self.fell(Phase::Failed, reason);
                None
            }
        }
    }

    fn started(&mut self, pid: u32) {
        tracing::info!(instance = %self.group, pid, "started");
        self.starts += 1;
        self.change(|report| {
            report.phase = Phase::Running;
            report.pid = Some(pid);
            report.health = Health::Unknown;
        });
    }

    async fn start_keeper(&self, spec: &KeeperSpec) -> Result<KeeperLink, Fault> {
        let text = serde_json::to_vec_pretty(spec).map_err(|error| Fault::Start(chain(&error)))?;
        // Not synced: after a crash of the machine there is no keeper to adopt, and it is written anew.
        durable::replace(&self.folder, SPEC, &text, 0o600)
            .map_err(|error| Fault::Start(format!("can't write {SPEC}: {error}")))?;
        let context = &self.context;
        let started = KeeperLink::start(&context.exe, context.layout.root(), &self.folder).await;
        match started {
            Ok(link) => Ok(link),
            Err(LinkError::Over) => Err(Fault::Over),
            Err(error) => {
                self.clean_orphans().await;
                Err(Fault::Start(chain(&error)))
            }
        }
    }

    /// Watches a running instance until it ends (`None`), or something else is wanted.
    async fn attend(&mut self, mut link: KeeperLink, run: &Run) -> Option<KeeperLink> {
        self.note_run(run);
        let target = Target {
            endpoint: SocketAddr::new(run.spec.address, run.spec.port),
            env: prepare::plain_environment(&self.context, &self.group, run),
            client: self.context.client.clone(),
            from: self.context.own,
        };
        let mut checks = Watched::start(run.spec.health.clone(), target);
        self.hear(checks.verdict());
        loop {
            tokio::select! {
                said = link.next() => match said {
                    Some(state) if state.exit.is_none() => {}
                    Some(state) => {
                        let state = state.clone();
                        drop(checks);
                        self.ended(&state);
                        self.see_off(link).await;
                        return None;
                    }
                    None => {
                        drop(checks);
                        self.keeper_died().await;
                        return None;
                    }
                },
                verdict = checks.changed() => self.hear(verdict),
                () = self.wait_for_other(run) => return Some(link),
            }
        }
    }

    /// Without instructions: what runs goes on, unjudged.
    async fn leave(&mut self, mut link: KeeperLink) -> Option<KeeperLink> {
        tokio::select! {
            said = link.next() => match said {
                Some(state) if state.exit.is_none() => Some(link),
                Some(state) => {
                    let state = state.clone();
                    self.ended(&state);
                    self.see_off(link).await;
                    None
                }
                None => {
                    self.keeper_died().await;
                    None
                }
            },
            () = self.wait_for_want() => Some(link),
        }
    }

    /// Stops a running instance by its stop rule and waits until its tree is gone.
    async fn end(&mut self, mut link: KeeperLink) {
        self.change(|report| report.phase = Phase::Stopping);
        let stop = read_spec(&self.context.layout, &self.group)
            .map_or_else(StopRule::default, |spec| spec.stop);
        let command = KeeperCommand::Stop {
            signal: stop.signal,
            grace_ms: stop.grace.0,
        };
        link.ask(&command).await;
        if timeout(stop.grace.std() + PATIENCE, self.follow(&mut link))
            .await
            .is_err()
            && link.state().phase != KeeperPhase::Killing
        {
            link.kill_keeper();
            self.keeper_died().await;
            self.starts = 0;
            self.pause = Duration::ZERO;
            return;
        }
        self.see_off(link).await;
        self.starts = 0;
        self.change(|report| report.pid = None);
    }

    /// After the main process ended: until the rest of its tree is gone.
    async fn see_off(&mut self, mut link: KeeperLink) {
        self.follow(&mut link).await;
        if link.state().phase != KeeperPhase::Ended {
            self.clean_orphans().await;
        }
    }

    async fn follow(&self, link: &mut KeeperLink) {
        while let Some(state) = link.next().await {
            if !state.survivors.is_empty() {
                let text = format!("fence incomplete: {:?} don't end", state.survivors);
                self.change(|report| report.message = Some(text));
            }
        }
    }

    /// The keeper is gone without a word: nobody reaps, nobody kills but us.
    async fn keeper_died(&mut self) {
        let exit = self.last_exit();
        self.clean_orphans().await;
        match exit {
            Some(exit) => self.fell(Phase::BackOff, exit.to_string()),
            None => self.fell(Phase::BackOff, "its keeper is gone".to_owned()),
        }
    }

    fn last_exit(&self) -> Option<Exit> {
        let text = std::fs::read(self.folder.join(EXIT)).ok()?;
        let exit: Exit = serde_json::from_slice(&text).ok()?;
        self.last
            .as_ref()
            .is_none_or(|last| last.key == exit.run)
            .then_some(exit)
    }

    /// Kills everything marked as ours; goes on for as long as something is there (H10).
    async fn clean_orphans(&self) {
        loop {
            let mark = self.context.mark(&self.group);
            let cgroup = self.context.cgroup(&self.group).map(Cgroup::at);
            let killed = tokio::task::spawn_blocking(move || {
                processes::kill_orphans(cgroup.as_ref(), &mark, CLEAN)
            });
            match killed.await {
                Ok(Ok(())) => return,
                Ok(Err(left)) => {
                    let text = format!("fence incomplete: {left:?} don't end");
                    self.change(|report| report.message = Some(text));
                }
                Err(error) => tracing::error!(instance = %self.group, "{error}"),
            }
            sleep(CLEAN_AGAIN).await;
        }
    }

    /// Removes the instance's folder; false when that must be tried again.
    async fn clean_up(&mut self) -> bool {
        self.clean_orphans().await;
        match std::fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                let text = format!("can't remove {}: {error}", self.folder.display());
                self.change(|report| report.message = Some(text));
                sleep(CLEAN_AGAIN).await;
                false
            }
            Ok(()) | Err(_) => true,
        }
    }

    /// Takes this task off the list, unless something is wanted of it again.
    fn retire(&mut self) -> bool {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if *self.want.borrow() != Want::Gone {
            return false;
        }
        tasks.remove(&self.group);
        drop(tasks);
        let group = &self.group;
        self.context.board.change(|report| {
            report.instances.remove(group);
        });
        tracing::info!(instance = %self.group, "removed");
        true
    }

    /// The main process ended: said at once, before the rest is cleaned up.
    fn ended(&mut self, state: &KeeperState) {
        let text = state
            .exit
            .as_ref()
            .map_or_else(|| "ended".to_owned(), ToString::to_string);
        tracing::warn!(instance = %self.group, pid = state.pid, "{text}");
        self.fell(Phase::BackOff, text);
    }

    /// It is down; what the back-off says goes into the report.
    fn fell(&mut self, phase: Phase, message: String) {
        let now = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
        let healthy = self.healthy_since.take().map_or(0, |since| {
            u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
        });
        let pause = self.backoff.ended(now, healthy, chance());
        self.pause = pause.wait;
        self.change(|report| {
            report.phase = match (phase, pause.crash_loop) {
                (Phase::BackOff, true) => Phase::CrashLoop,
                (phase, _) => phase,
            };
            report.health = Health::Unhealthy;
            report.pid = None;
            report.message = Some(message);
        });
    }

    fn hear(&mut self, verdict: Verdict) {
        self.healthy_since = match verdict.health {
            Health::Healthy => self.healthy_since.or_else(|| Some(Instant::now())),
            Health::Unhealthy | Health::Unknown => None,
        };
        self.change(|report| {
            report.phase = Phase::Running;
            report.health = verdict.health;
            report.message = verdict.failure;
        });
    }

    /// Waits out the pause that is due; false when something else is wanted meanwhile.
    async fn rest(&mut self) -> bool {
        let pause = std::mem::take(&mut self.pause);
        if pause.is_zero() {
            return true;
        }
        let Some(run) = self.last.clone() else {
            return true;
        };
        tokio::select! {
            () = sleep(pause) => true,
            () = self.wait_for_other(&run) => false,
        }
    }

    /// A run that is not the last one begins with a clean slate.
    fn note_run(&mut self, run: &Run) {
        let same = self.last.as_ref().is_some_and(|last| last.key == run.key);
        if !same {
            if self.last.is_some() {
                self.starts = 0;
            }
            self.backoff = Backoff::default();
            self.pause = Duration::ZERO;
            self.last = Some(run.clone());
        }
        let report = self.fresh_report(run, self.starts.saturating_sub(1));
        self.context.board.change(|board| {
            board
                .instances
                .entry(self.group.clone())
                .and_modify(|shown| {
                    shown.role = report.role;
                    shown.endpoint = report.endpoint;
                    shown.spec = report.spec.clone();
                    shown.restarts = report.restarts;
                })
                .or_insert_with(|| Box::new(report));
        });
    }

    fn fresh_report(&self, run: &Run, restarts: u32) -> InstanceReport {
        InstanceReport {
            role: run.spec.role,
            spec: run.spec.id(),
            phase: Phase::Starting,
            health: Health::Unknown,
            since: wall_now(),
            pid: None,
            restarts,
            endpoint: SocketAddr::new(run.spec.address, run.spec.port),
            message: None,
        }
    }

    async fn wait_for_want(&mut self) {
        if self.want.changed().await.is_err() {
            // The supervisor is gone, so the program ends.
            std::future::pending::<()>().await;
        }
    }

    /// Until something other than this run is wanted. Cancel safe: it only looks.
    async fn wait_for_other(&self, run: &Run) {
        let mut want = self.want.clone();
        let other = want.wait_for(|want| !matches!(want, Want::Run(now) if now.key == run.key));
        if other.await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    fn show(&self, shown: InstanceReport) {
        self.context.board.change(|report| {
            let shown = Box::new(shown);
            report.instances.insert(self.group.clone(), shown);
        });
    }

    fn change(&self, change: impl FnOnce(&mut InstanceReport)) {
        self.context.board.change_instance(&self.group, change);
    }
}

const fn phase_of(state: &KeeperState) -> Phase {
    match state.phase {
        KeeperPhase::Running => Phase::Running,
        KeeperPhase::Stopping | KeeperPhase::Killing | KeeperPhase::Ended => Phase::Stopping,
    }
}

/// Spreads restarts; nothing secret depends on it.
fn chance() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}
