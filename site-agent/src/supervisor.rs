//! The supervisor: one task an instance, and the set of them that the assignment asks for.
//!
//! Tasks converge by themselves (`instance`); this file starts them, tells them what is wanted,
//! and finds what earlier agents left behind. It knows no reconciler and no network.

pub mod archive;
pub mod backoff;
mod health;
mod instance;
mod prepare;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use stead_schemas::names::{GroupName, ServerName};
use stead_schemas::wire::{Assignment, Health, InstanceReport, InstanceSpec, Phase, Program};
use stead_wire::clock::wall_now;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::board::Board;
use crate::keeper;
use crate::keeper::link::KeeperLink;
use crate::keeper::spec::{KeeperSpec, RunKey};
use crate::layout::Layout;
use crate::processes::{self, cgroup::Cgroup, procfs};
use crate::secrets::Versions;

/// How long leftovers of an earlier agent may take to die.
const LEFTOVERS: Duration = Duration::from_secs(10);

/// What every instance task needs to know.
#[derive(Debug)]
pub struct Context {
    /// This program, for keepers and built-in roles.
    pub exe: PathBuf,
    /// The state folder.
    pub layout: Layout,
    /// The server.
    pub server: ServerName,
    /// The folder of this agent's cgroups; none: instances run without (H10).
    pub cgroups: Option<PathBuf>,
    /// What the built-in distribution point serves; default: a folder of its own.
    pub content_dir: Option<PathBuf>,
    /// Where tasks say how their instances are.
    pub board: Board,
    /// For health checks.
    pub client: reqwest::Client,
    /// Where calls to this server's own instances leave from.
    pub own: Option<IpAddr>,
}

impl Context {
    /// An instance as processes are marked with it: `web@p01-a`.
    #[must_use]
    pub fn instance(&self, group: &GroupName) -> String {
        format!("{group}@{}", self.server)
    }

    /// Its control line, for the site server (STEAD_CONTROL).
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.layout.root().join("control.sock")
    }

    pub(crate) fn cgroup(&self, group: &GroupName) -> Option<PathBuf> {
        Some(self.cgroups.as_ref()?.join(group.as_str()))
    }

    pub(crate) fn mark(&self, group: &GroupName) -> procfs::Mark {
        procfs::Mark {
            state: self.layout.root().to_owned(),
            instance: self.instance(group),
        }
    }
}

/// What one instance should run.
#[derive(Debug, Clone, PartialEq)]
struct Run {
    spec: Arc<InstanceSpec>,
    versions: Versions,
    key: RunKey,
}

/// What is wanted of an instance task.
#[derive(Debug, Clone, PartialEq)]
enum Want {
    /// Nothing of it should be left but its data.
    Gone,
    /// Nobody said yet: what runs goes on, what ended is not started.
    Leave,
    /// This should run.
    Run(Run),
}

#[derive(Debug)]
struct Task {
    want: watch::Sender<Want>,
    handle: JoinHandle<()>,
}

type Tasks = Arc<Mutex<BTreeMap<GroupName, Task>>>;

/// All instance tasks.
#[derive(Debug)]
pub struct Supervisor {
    context: Arc<Context>,
    tasks: Tasks,
    adopted: BTreeSet<GroupName>,
}

impl Supervisor {
    /// Takes over what earlier agents left running, and starts what the assignment asks for.
    /// Without an assignment nothing is started and nothing stopped: an agent that lost its ledger
    /// leaves a working server alone until it is told.
    pub async fn start(
        context: Arc<Context>,
        assignment: Option<&Assignment>,
        versions: &Versions,
    ) -> Self {
        let found = Layout::groups_in(&context.layout.instances());
        let supervisor = Self {
            adopted: clear_leftovers(&context, &found).await,
            context,
            tasks: Tasks::default(),
        };
        for group in found {
            supervisor.tell(&group, Want::Leave);
        }
        if let Some(assignment) = assignment {
            supervisor.apply(assignment, versions);
        }
        supervisor
    }

    /// Tells every task what the assignment wants of it.
    pub fn apply(&self, assignment: &Assignment, versions: &Versions) {
        self.prune_archives(assignment);
        let known: Vec<GroupName> = self.lock().keys().cloned().collect();
        for group in known {
            if !assignment.instances.contains_key(&group) {
                self.tell(&group, Want::Gone);
            }
        }
        for (group, spec) in &assignment.instances {
            let run = Run {
                key: RunKey::of(spec, versions),
                versions: spec
                    .secrets()
                    .filter_map(|name| Some((name.clone(), versions.get(name)?.clone())))
                    .collect(),
                spec: Arc::from(spec.clone()),
            };
            self.announce(group, spec);
            self.tell(group, Want::Run(run));
        }
    }

    /// A new instance is in the report from the moment its assignment is.
    fn announce(&self, group: &GroupName, spec: &InstanceSpec) {
        self.context.board.change(|report| {
            report.instances.entry(group.clone()).or_insert_with(|| {
                Box::new(InstanceReport {
                    role: spec.role,
                    spec: spec.id(),
                    phase: Phase::Starting,
                    health: Health::Unknown,
                    since: wall_now(),
                    pid: None,
                    restarts: 0,
                    endpoint: SocketAddr::new(spec.address, spec.port),
                    message: None,
                })
            });
        });
    }

    /// Stops every instance, by its own stop rule, and waits until nothing of them is left.
    /// Instance folders go too; the ledger stays, so the next agent starts them again.
    pub async fn stop_all(&self) {
        let groups: Vec<GroupName> = self.lock().keys().cloned().collect();
        for group in groups {
            self.tell(&group, Want::Gone);
        }
        loop {
            let next = self.lock().pop_first();
            let Some((_, task)) = next else { break };
            // A task that panicked has nothing left to say.
            drop(task.handle.await);
        }
    }

    /// Waits until every instance that was taken over is known to be well or not, at most this
    /// long: a restarted agent should not make healthy instances look unknown.
    pub async fn settled(&self, within: Duration) {
        let mut board = self.context.board.watch();
        let known = board.wait_for(|report| {
            self.adopted.iter().all(|group| {
                let shown = report.instances.get(group);
                shown.is_some_and(|one| one.health != Health::Unknown)
            })
        });
        // Past the deadline unknown is the truth.
        drop(timeout(within, known).await);
    }

    fn tell(&self, group: &GroupName, want: Want) {
        let mut tasks = self.lock();
        if let Some(task) = tasks.get(group)
            && !task.handle.is_finished()
        {
            task.want.send_if_modified(|current| {
                let differs = *current != want;
                *current = want;
                differs
            });
            return;
        }
        let (sender, receiver) = watch::channel(want);
        let task = instance::InstanceTask::new(
            Arc::clone(&self.context),
            group.clone(),
            receiver,
            Arc::clone(&self.tasks),
        );
        let handle = tokio::spawn(task.run());
        tasks.insert(
            group.clone(),
            Task {
                want: sender,
                handle,
            },
        );
    }

    /// Archives that neither the assignment nor a folder of an instance names.
    fn prune_archives(&self, assignment: &Assignment) {
        let layout = &self.context.layout;
        let mut keep: BTreeSet<String> = Layout::groups_in(&layout.instances())
            .iter()
            .filter_map(|group| read_spec(layout, group)?.archive)
            .collect();
        keep.extend(
            assignment
                .instances
                .values()
                .filter_map(|spec| match &spec.program {
                    Program::Archive { sha256, .. } => Some(sha256.to_ascii_lowercase()),
                    Program::BuiltIn | Program::Command(_) | Program::Systemd { .. } => None,
                }),
        );
        archive::retain(&layout.archives(), &keep);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<GroupName, Task>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the instance in this folder was started from, if that can be read.
#[must_use]
pub fn read_spec(layout: &Layout, group: &GroupName) -> Option<KeeperSpec> {
    let text = std::fs::read(layout.instance(group).join(keeper::SPEC)).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Kills what carries our mark and has no living keeper in one of the known folders: instances
/// whose keeper was killed by hand, keepers whose folder was removed. The groups that are well kept.
async fn clear_leftovers(context: &Context, known: &[GroupName]) -> BTreeSet<GroupName> {
    let mut adopted = BTreeSet::new();
    for group in known {
        let found = KeeperLink::connect(&context.layout.instance(group)).await;
        if matches!(found, Ok(Some(_))) {
            adopted.insert(group.clone());
        }
    }
    let kept: BTreeSet<String> = adopted.iter().map(|one| context.instance(one)).collect();
    let state = context.layout.root().to_owned();
    let cgroups = context.cgroups.clone();
    let server = context.server.clone();
    let cleared = tokio::task::spawn_blocking(move || {
        let mut instances: BTreeSet<String> = procfs::marked(&state)
            .into_iter()
            .map(|one| one.mark.instance)
            .collect();
        let grouped = cgroups.iter().flat_map(|dir| Layout::groups_in(dir));
        instances.extend(grouped.map(|group| format!("{group}@{server}")));
        instances
            .difference(&kept)
            .filter_map(|instance| clear(&state, cgroups.as_deref(), instance))
            .collect::<Vec<String>>()
    });
    let stubborn = cleared.await.unwrap_or_default();
    if !stubborn.is_empty() {
        context.board.problem(
            "leftover processes",
            Some(format!("can't be killed: {}", stubborn.join("; "))),
        );
    }
    adopted
}

/// Kills what is left of one instance; what could not be killed, in words.
fn clear(state: &Path, cgroups: Option<&Path>, instance: &str) -> Option<String> {
    let group = instance.split('@').next().unwrap_or_default();
    let cgroup = cgroups.map(|dir| Cgroup::at(dir.join(group)));
    let mark = procfs::Mark {
        state: state.to_owned(),
        instance: instance.to_owned(),
    };
    processes::kill_orphans(cgroup.as_ref(), &mark, LEFTOVERS)
        .err()
        .map(|left| format!("{instance}: {left:?}"))
}
