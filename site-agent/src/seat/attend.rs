//! One loop that joins voter, guard and site server for as long as the seat is taken.
//!
//! Each wait in it has a deadline, and none is longer than a guard's answer: what the voter says next
//! is a deadline that somebody rests on.

use std::sync::Arc;
use std::time::Duration;

use site_lease::{Input, Mono, Ms, Term};
use site_roles::control::{Order, Stop, Work};
use site_voting::clock::{boot_now, sleep_until};
use site_voting::{Event, Owner, Snapshot, Voting, report};
use stead_schemas::lease::{LeaseReport, LeaseSpec};
use stead_schemas::names::ServerName;
use stead_schemas::time::WallMs;
use stead_wire::clock::wall_now;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::alias::Alias;
use super::handover::Patience;
use super::progress::Disk;
use super::sickness::{Seen, Signs};
use super::workload::Workload;
use super::{Question, Resume, Surroundings, problem_of};
use crate::guard::link::GuardLink;
use crate::supervisor::Context;

/// Before a seat that could not be taken is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// What is in flight has so long once it is told to stop; then it is killed (H11).
const FINISH: Ms = Ms(250);
/// A kill that left something is repeated this often.
const KILL_AGAIN: Ms = Ms(1_000);
/// Nothing due: look again then.
const IDLE: Ms = Ms(60_000);

/// A term that is held here.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) term: Term,
    /// When the lease ends.
    pub(super) lease: Mono,
    /// When this agent kills.
    kill_at: Mono,
    pub(super) signs: Signs,
    pub(super) patience: Patience,
    /// The sequence number known when the term began, and when it first moved.
    sequence: Option<u64>,
    first_write_at: Option<WallMs>,
    alias: Option<Alias>,
}

impl Held {
    fn new(term: Term, lease: Mono, spec: &LeaseSpec, sequence: Option<u64>) -> Self {
        let mut held = Self {
            term,
            lease,
            kill_at: lease,
            signs: Signs::default(),
            patience: Patience::default(),
            sequence,
            first_write_at: None,
            alias: None,
        };
        held.rests_on(lease, spec);
        held
    }

    /// A later end of the lease: this agent kills between the site server's own end and the guard's.
    fn rests_on(&mut self, lease: Mono, spec: &LeaseSpec) {
        self.lease = lease;
        self.kill_at = lease.minus(Ms(spec.timing.stop_before.0 * 7 / 10));
    }

    /// Publishes the alias as it is declared now; what was under way for another is dropped.
    fn publish(&mut self, context: &Arc<Context>, spec: &LeaseSpec) {
        let job = spec.alias.as_deref().cloned();
        self.alias = job.map(|job| Alias::publish(Arc::clone(context), job, self.term));
    }
}

/// Work that has to end.
#[derive(Debug)]
struct Ending {
    term: Term,
    kill_at: Mono,
    /// The lease's own end: without a cgroup nothing is proven before (H10).
    lease: Mono,
    killed: bool,
}

#[derive(Debug)]
pub(super) struct Attendance {
    pub(super) around: Surroundings,
    pub(super) workload: Workload,
    pub(super) voting: Arc<Voting>,
    events: mpsc::Receiver<Event>,
    pub(super) snapshot: watch::Receiver<Arc<Snapshot>>,
    guard: Option<GuardLink>,
    disk: Disk,
    pub(super) spec: Arc<LeaseSpec>,
    pub(super) held: Option<Held>,
    ending: Option<Ending>,
    ready: Option<bool>,
    /// Who asked for the handover that is to begin.
    pub(super) asked: Option<oneshot::Sender<Result<(), String>>>,
    /// Who asked for this server to go on alone.
    pub(super) promoting: Option<oneshot::Sender<Result<(), String>>>,
    pub(super) leaving: Option<oneshot::Sender<()>>,
    began: Instant,
}

/// Takes the seat, and takes it again when it was lost to a fault.
pub(super) async fn run(
    around: Surroundings,
    owner: Owner,
    mut specs: watch::Receiver<Arc<LeaseSpec>>,
    mut questions: mpsc::Receiver<Question>,
    voter: watch::Sender<Option<Arc<Voting>>>,
) {
    loop {
        let spec = Arc::clone(&specs.borrow_and_update());
        let why = match Attendance::start(around.clone(), &owner, spec).await {
            Ok(mut attendance) => {
                voter.send_replace(Some(Arc::clone(&attendance.voting)));
                attendance.attend(&mut specs, &mut questions).await
            }
            Err(why) => why,
        };
        voter.send_replace(None);
        tracing::error!("no seat in the lease: {why}");
        around.context.board.change(|report| {
            report.lease = Some(Box::new(out_of_it(&why)));
        });
        tokio::time::sleep(AGAIN).await;
    }
}

impl Attendance {
    /// What an earlier agent left is ended before there is a voter (R13): by the guard, which a
    /// started agent finds or starts, and here where that is not proven.
    async fn start(
        around: Surroundings,
        owner: &Owner,
        spec: Arc<LeaseSpec>,
    ) -> Result<Self, String> {
        let context = Arc::clone(&around.context);
        let every = Ms(2 * spec.timing.renew.0);
        let disk = Disk::start(context.layout.root().to_owned(), every);
        let disk = disk.map_err(|error| format!("no thread for the disk's proofs: {error}"))?;
        let workload = Workload::new(Arc::clone(&context));
        let mut guard = None;
        let note = Resume::take(&context.layout);
        let mut resume = None;
        if spec.is_candidate(&owner.name) {
            let mut link = GuardLink::ensure(&context.exe, &around.config, &context.layout)
                .await
                .map_err(|error| problem_of(&error))?;
            let welcome = link.welcome().clone();
            resume = note.and_then(|note| note.vouched(&welcome));
            if let Some(term) = welcome.term.filter(|_| resume.is_none()) {
                end_earlier(&workload, term).await?;
                link.ended(term).await.map_err(|error| problem_of(&error))?;
            }
            guard = Some(link);
        }
        let folder = context.layout.root().to_owned();
        let tls = Arc::clone(&around.tls);
        let (voting, events) = Voting::start(folder, owner, tls, around.from, resume)
            .map_err(|error| problem_of(&error))?;
        voting.tell(Arc::clone(&spec)).await;
        Ok(Self {
            around,
            workload,
            snapshot: voting.snapshot(),
            voting: Arc::new(voting),
            events,
            guard,
            disk,
            held: resume.map(|(term, lease)| Held::new(term, lease, &spec, None)),
            spec,
            ending: None,
            ready: None,
            asked: None,
            promoting: None,
            leaving: None,
            began: Instant::now(),
        })
    }

    async fn attend(
        &mut self,
        specs: &mut watch::Receiver<Arc<LeaseSpec>>,
        questions: &mut mpsc::Receiver<Question>,
    ) -> String {
        loop {
            let wake = self.wake_at();
            tokio::select! {
                biased;
                event = self.events.recv() => match event {
                    Some(Event::Ended(why)) => return self.give_up(&why).await,
                    Some(event) => self.on_event(event).await,
                    None => return self.give_up("its voter is gone").await,
                },
                _ = self.workload.said().changed() => self.on_said().await,
                proven = self.disk.answer() => self.on_answer(proven).await,
                _ = self.snapshot.changed() => {}
                () = published(&mut self.held) => self.on_published().await,
                changed = specs.changed() => {
                    if changed.is_err() {
                        return "it was given up".to_owned();
                    }
                    let before = std::mem::replace(&mut self.spec, Arc::clone(&specs.borrow_and_update()));
                    if let Some(held) = &mut self.held
                        && before.alias != self.spec.alias
                    {
                        held.publish(&self.around.context, &self.spec);
                    }
                    self.ensure_guard(&before).await;
                    self.voting.tell(Arc::clone(&self.spec)).await;
                }
                Some(question) = questions.recv() => self.on_question(question).await,
                () = sleep_until(wake) => self.on_time().await,
            }
            self.show();
        }
    }

    /// From now on it may hold (it was a witness, or drained): a guard that starts only with the first
    /// term kills the standby then, which makes that failover slow.
    async fn ensure_guard(&mut self, before: &LeaseSpec) {
        let me = self.snapshot.borrow().me.name.clone();
        if self.guard.is_some() || before.is_candidate(&me) || !self.spec.is_candidate(&me) {
            return;
        }
        let context = &self.around.context;
        match GuardLink::ensure(&context.exe, &self.around.config, &context.layout).await {
            Ok(link) => self.guard = Some(link),
            // It is tried again with the first term.
            Err(error) => tracing::error!("no guard: {}", problem_of(&error)),
        }
    }

    fn wake_at(&self) -> Mono {
        let now = boot_now();
        let held = self.held.as_ref();
        let ending = self.ending.as_ref();
        let look = held.and_then(|held| held.signs.look_in()).map(|length| {
            let length = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
            now.plus(Ms(length))
        });
        let times = [
            held.map(|held| held.kill_at),
            Some(self.disk.due()),
            ending.map(|ending| ending.kill_at),
            look,
        ];
        let first = times.into_iter().flatten().min();
        first.unwrap_or_else(|| now.plus(IDLE))
    }

    async fn on_event(&mut self, event: Event) {
        match event {
            Event::Work {
                term,
                proved,
                until,
                lease,
            } => self.on_work(term, proved, until, lease).await,
            Event::Stop(term) => self.on_stop(term).await,
            Event::Note(note) => self.on_note(note),
            Event::Ended(_) => {}
        }
    }

    /// A new deadline: the guard first, then the site server (H34).
    async fn on_work(&mut self, term: Term, proved: Mono, until: Mono, lease: Mono) {
        let stop_before = until.until(lease).0;
        let guard_at = lease.minus(Ms(stop_before * 4 / 10));
        if let Err(why) = self.arm(term, guard_at).await {
            // No guard, no extension: the work stops at the deadline it has.
            tracing::error!(term = term.0, "the lease is not extended: {why}");
            return;
        }
        let sequence = self.workload.last().and_then(|state| state.sequence);
        let new = self.held.as_ref().is_none_or(|held| held.term != term);
        if new {
            self.held = Some(Held::new(term, lease, &self.spec, sequence));
            self.disk.hurry(boot_now());
        }
        if let Some(held) = &mut self.held {
            held.rests_on(lease, &self.spec);
            if held.alias.is_none() {
                held.publish(&self.around.context, &self.spec);
            }
        }
        let handing_over = self.ending.as_mut().filter(|ending| ending.term == term);
        if let Some(ending) = handing_over {
            ending.lease = lease;
            return;
        }
        self.workload.order(Order::Work(Work {
            term: term.0,
            proved: proved.0,
            until: until.0,
        }));
    }

    /// The alias is served, or a newer term has published it (H5).
    async fn on_published(&mut self) {
        let alias = self.held.as_ref().and_then(|held| held.alias.as_ref());
        if let Some(by) = alias.and_then(|alias| alias.published().outranked) {
            self.voting.input(Input::Outranked(by)).await;
        }
    }

    async fn arm(&mut self, term: Term, at: Mono) -> Result<(), String> {
        if self.guard.is_none() {
            let context = &self.around.context;
            let link = GuardLink::ensure(&context.exe, &self.around.config, &context.layout).await;
            self.guard = Some(link.map_err(|error| problem_of(&error))?);
        }
        let release = self.release(term);
        let Some(guard) = &mut self.guard else {
            return Ok(());
        };
        match guard.allow(term.0, at.0, &release).await {
            Ok(()) => Ok(()),
            Err(error) => {
                self.guard = None;
                Err(problem_of(&error))
            }
        }
    }

    async fn on_stop(&mut self, term: Term) {
        let Some(held) = self.held.as_ref().filter(|held| held.term == term) else {
            // Nothing was ever allowed under it here.
            self.voting.input(Input::Idle).await;
            return;
        };
        let now = boot_now();
        self.workload.order(Order::Stop(Stop { term: term.0 }));
        self.ending = Some(Ending {
            term,
            kill_at: held.kill_at.min(now.plus(FINISH)).max(now),
            lease: held.lease,
            killed: false,
        });
        if let Some(asked) = self.asked.take() {
            // Who asked may have gone.
            drop(asked.send(Ok(())));
        }
        self.settle_ending().await;
    }

    /// Ends the term once no work of it is left, by what the site server says or by its cgroup.
    async fn settle_ending(&mut self) {
        let Some(ending) = &self.ending else {
            return;
        };
        let said = self.workload.last();
        let idle = said
            .is_some_and(|state| state.working.is_none() && state.stopped >= Some(ending.term.0));
        let gone = || !self.workload.may_run();
        let proven = if self.workload.has_cgroup() {
            idle || gone()
        } else {
            idle || (gone() && boot_now() >= ending.lease)
        };
        if !proven {
            return;
        }
        let term = ending.term;
        self.ending = None;
        self.held = None;
        self.voting.input(Input::Idle).await;
        if let Some(guard) = &mut self.guard
            && let Err(error) = guard.ended(term.0).await
        {
            // Its deadline stays armed: it would kill an agent that does nothing wrong. A new guard
            // kills first, and there is no work.
            tracing::error!("the guard does not let go of term {}: {error}", term.0);
            self.guard = None;
        }
        tracing::info!(term = term.0, "no work of the term is left");
        self.around.context.board.problem("fence incomplete", None);
        if let Some(leaving) = self.leaving.take() {
            leaving.send(()).ok();
        }
    }

    async fn on_time(&mut self) {
        let now = boot_now();
        let renew = self.spec.timing.renew.0;
        let every = Ms(if self.held.is_some() {
            renew
        } else {
            2 * renew
        });
        self.disk.ask_when_due(now, every);
        self.tell_ready().await;
        let late = self.held.as_ref().filter(|held| now >= held.kill_at);
        if let (Some(term), None) = (late.map(|held| held.term), &self.ending) {
            // The voter should have said so: whatever it does, the work ends now.
            self.on_stop(term).await;
        }
        if self
            .ending
            .as_ref()
            .is_some_and(|ending| now >= ending.kill_at)
        {
            self.kill().await;
        }
        self.settle_ending().await;
        self.look_for_reasons().await;
    }

    async fn kill(&mut self) {
        let Some(ending) = &mut self.ending else {
            return;
        };
        ending.kill_at = boot_now().plus(KILL_AGAIN);
        let first = !std::mem::replace(&mut ending.killed, true);
        let term = ending.term.0;
        if !self.workload.kill().await {
            let text = format!("work of term {term} can't be killed; this server does not vote");
            self.around
                .context
                .board
                .problem("fence incomplete", Some(text));
        }
        if first {
            tracing::warn!(term, "killed the site server: it did not stop in time");
        }
    }

    async fn on_said(&mut self) {
        let said = self.workload.last();
        self.tell_ready().await;
        let Some(state) = said.as_deref() else {
            return self.look_for_reasons().await;
        };
        if let Some(held) = &mut self.held {
            let moved = state.sequence.is_some() && state.sequence != held.sequence;
            if moved && state.working == Some(held.term.0) && held.first_write_at.is_none() {
                held.first_write_at = Some(wall_now());
            }
            if let Some(by) = state.outranked.filter(|by| *by > held.term.0) {
                self.voting.input(Input::Outranked(Term(by))).await;
            }
        }
        self.settle_ending().await;
        self.look_for_reasons().await;
    }

    /// Tells the voter whether this server could take over, and people what its disk lacks.
    async fn tell_ready(&mut self) {
        let flaw = self.disk.flaw(boot_now());
        let well = self.workload.last().is_some_and(|state| state.ready);
        let ready = well && flaw.is_none();
        self.around.context.board.problem("progress", flaw);
        if self.ready != Some(ready) {
            self.ready = Some(ready);
            self.voting.input(Input::Ready(ready)).await;
        }
    }

    /// What the site server looks like, for its signs.
    pub(super) fn seen(&self, term: Term) -> Seen {
        let said = self.workload.last();
        let said = said.as_deref();
        Seen {
            connected: said.is_some(),
            works: said.is_some_and(|state| state.working == Some(term.0) && state.ready),
            passive_ready: !self.ready_voters().is_empty(),
        }
    }

    pub(super) const fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// A synced write is progress where the site server lives, or nobody else could do better.
    async fn on_answer(&mut self, proven: bool) {
        let alive = self.workload.last().is_some() || self.ready_voters().is_empty();
        if proven && alive && self.held.is_some() {
            self.voting.input(Input::Progress).await;
        }
        self.tell_ready().await;
    }

    pub(super) fn ready_voters(&self) -> Vec<ServerName> {
        let snapshot = self.snapshot.borrow();
        let Some(node) = &snapshot.node else {
            return Vec::new();
        };
        node.ready(boot_now())
            .map(|voter| voter.name.clone())
            .collect()
    }

    /// Ends whatever is done under a lease that nobody keeps any more.
    async fn give_up(&mut self, why: &str) -> String {
        if let Some(term) = self.held.as_ref().map(|held| held.term) {
            self.workload.order(Order::Stop(Stop { term: term.0 }));
            while !self.workload.kill().await {
                tokio::time::sleep(Duration::from_millis(KILL_AGAIN.0)).await;
            }
            if let Some(guard) = &mut self.guard {
                // If it does not hear, it kills what is gone already.
                drop(guard.ended(term.0).await);
            }
        }
        why.to_owned()
    }

    fn show(&self) {
        let snapshot = self.snapshot.borrow().clone();
        let me = &snapshot.me.name;
        let said = self.workload.last();
        let flaw = self.disk.flaw(boot_now());
        let not_ready = match said.as_deref() {
            _ if !self.spec.is_candidate(me) => Some("a witness: it never holds".to_owned()),
            _ if flaw.is_some() => flaw,
            None => Some("its site server does not answer".to_owned()),
            Some(state) if !state.ready => {
                let reason = state.reason.clone();
                Some(reason.unwrap_or_else(|| "its site server is not ready".to_owned()))
            }
            Some(_) => None,
        };
        let mut lease = report(&snapshot, not_ready);
        if let (Some(takeover), Some(held)) = (&mut lease.takeover, &self.held)
            && takeover.term == held.term.0
        {
            takeover.first_write_at = held.first_write_at;
            takeover.published_at = held.alias.as_ref().and_then(|alias| alias.published().at);
        }
        let lease = Box::new(lease);
        let board = &self.around.context.board;
        board.change(|report| report.lease = Some(lease));
    }
}

/// Until there is news of the alias of the term held.
async fn published(held: &mut Option<Held>) {
    match held.as_mut().and_then(|held| held.alias.as_mut()) {
        Some(alias) => alias.changed().await,
        None => std::future::pending().await,
    }
}

/// Ends what an earlier agent of this server left working.
async fn end_earlier(workload: &Workload, term: u64) -> Result<(), String> {
    workload.order(Order::Stop(Stop { term }));
    if workload.kill().await {
        return Ok(());
    }
    Err(format!(
        "fence incomplete: the site server of an earlier agent (term {term}) can't be killed"
    ))
}

/// The report of a server that has no voter.
fn out_of_it(why: &str) -> LeaseReport {
    LeaseReport {
        problem: Some(why.to_owned()),
        ..LeaseReport::new(0)
    }
}
