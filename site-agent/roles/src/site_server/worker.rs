//! The one task that speaks to the store: stands by, claims, writes, and stops in time.
//!
//! One operation at a time, so that "nothing is in flight" can be said with certainty. Before each unit
//! of work, and again at its commit, the lease is asked (I1b). An operation that outlives the lease
//! by the grace, or the store's deadline, is given up with its connection; a new connection claims
//! anew, on a newer proof (H5).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::intervals::{Intervals, Line};
use super::shared::{Job, Shared, WRITES, Written};
use crate::settings::PairSettings;
use crate::store::{Entry, Store, StoreError, Token};

/// The active shows by its own entries that it works.
const BEAT: Duration = Duration::from_millis(250);
/// How often an idle connection is asked whether it would do.
const CHECK: Duration = Duration::from_millis(500);
/// Before another try to connect, or after a refusal.
const PAUSE: Duration = Duration::from_millis(100);
/// What is in flight when the lease ends may go on this long; with a glance, within
/// [`crate::control::DRAIN`].
const GRACE: Duration = Duration::from_millis(100);
/// How often the lease is looked at while something is in flight.
const GLANCE: Duration = Duration::from_millis(20);
/// Longest wait for a line of the record.
const RECORD: Duration = Duration::from_millis(100);

pub(super) struct Worker {
    settings: PairSettings,
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Job>,
    changes: watch::Receiver<u64>,
    intervals: Arc<Mutex<Intervals>>,
    open: Option<Open>,
    begun: Option<Begun>,
    beat: Instant,
}

/// An open connection.
struct Open {
    store: Store,
    /// CLOCK_BOOTTIME once it was open: proofs must be newer (H5).
    opened: u64,
    /// The term claimed over it.
    claimed: Option<u64>,
    check: Instant,
}

/// The interval of work under way.
#[derive(Clone, Copy)]
struct Begun {
    term: u64,
    from: u64,
    last_write: Option<u64>,
}

impl Worker {
    pub(super) fn new(
        settings: PairSettings,
        shared: Arc<Shared>,
        queue: mpsc::Receiver<Job>,
        intervals: Intervals,
    ) -> Self {
        Self {
            settings,
            changes: shared.changes(),
            shared,
            queue,
            intervals: Arc::new(Mutex::new(intervals)),
            open: None,
            begun: None,
            beat: Instant::now(),
        }
    }

    /// Until the site server is told to end.
    pub(super) async fn run(mut self) {
        while !self.shared.is_closed() {
            self.step().await;
        }
        self.rest("the site server ends").await;
    }

    async fn step(&mut self) {
        let Some(open) = &self.open else {
            self.rest("the store connection is lost").await;
            return self.connect().await;
        };
        match (self.shared.permit(), self.shared.may_claim(open.opened)) {
            (Ok(term), _) if open.claimed == Some(term) => self.work(term).await,
            (Ok(_), Ok(term)) => self.claim(term).await,
            (Ok(_), Err(idle)) | (Err(idle), _) => {
                self.rest(&idle.reason()).await;
                self.stand_by().await;
            }
        }
    }

    async fn connect(&mut self) {
        let shared = Arc::clone(&self.shared);
        let mut changes = shared.changes();
        let ended = async { while !shared.is_closed() && changes.changed().await.is_ok() {} };
        let connected = tokio::select! {
            connected = Store::connect(&self.settings) => connected,
            () = ended => return,
        };
        match connected {
            Ok(store) => {
                self.open = Some(Open {
                    store,
                    // Read once it is open: later than it was, so never too early for H5.
                    opened: self.shared.clock.read().boot,
                    claimed: None,
                    check: Instant::now() + CHECK,
                });
                self.shared.answered();
            }
            Err(error) => {
                self.shared.troubled(error.to_string(), false);
                sleep(PAUSE).await;
            }
        }
    }

    /// Waits for something to change, looking after the connection.
    async fn stand_by(&mut self) {
        let Some(open) = &mut self.open else { return };
        tokio::select! {
            biased;
            _ = self.changes.changed() => return,
            Some(job) = self.queue.recv() => {
                return refuse([job], "this server does not work");
            }
            () = sleep_until(open.check) => {}
        }
        let within = self.settings.settings.timeout();
        let checked = timeout(within, open.store.check()).await;
        open.check = Instant::now() + CHECK;
        match checked.unwrap_or(Err(StoreError::Late(within))) {
            Ok(()) => self.shared.answered(),
            Err(error) => self.failed(0, error),
        }
    }

    /// Claims the token before any work.
    async fn claim(&mut self, term: u64) {
        self.begin(term).await;
        let token = self.token(term);
        let within = self.settings.settings.timeout();
        let Some(open) = &mut self.open else { return };
        let gate = || self.shared.permits(term);
        let claim = open.store.claim(&token, &gate);
        match bounded(&self.shared, term, within, claim).await {
            Ok(()) => {
                open.claimed = Some(term);
                self.shared.claimed(term);
                self.shared.answered();
                self.beat = Instant::now();
            }
            Err(error) => {
                let refused = matches!(error, StoreError::Refused(_));
                self.failed(term, error);
                if refused {
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// One unit of work: what waits, and the server's own beat.
    async fn work(&mut self, term: u64) {
        self.begin(term).await;
        let mut jobs = Vec::new();
        let wake = self.wake();
        tokio::select! {
            biased;
            _ = self.changes.changed() => return,
            Some(job) = self.queue.recv() => jobs.push(job),
            () = sleep_until(wake) => {}
        }
        while jobs.len() < WRITES
            && let Ok(job) = self.queue.try_recv()
        {
            jobs.push(job);
        }
        let mut entries: Vec<Entry> = jobs.iter().map(|job| job.entry.clone()).collect();
        if self.beat <= Instant::now() {
            self.beat = Instant::now() + BEAT;
            entries.push(Entry {
                id: None,
                text: "beat".to_owned(),
            });
        }
        if !entries.is_empty() {
            self.write(term, jobs, &entries).await;
        }
    }

    async fn write(&mut self, term: u64, jobs: Vec<Job>, entries: &[Entry]) {
        let token = self.token(term);
        let within = self.settings.settings.timeout();
        let gate = || self.shared.permits(term);
        let Some(open) = &mut self.open else { return };
        if !gate() {
            return refuse(jobs, "the deadline has passed");
        }
        let append = open.store.append(&token, entries, &gate);
        match bounded(&self.shared, term, within, append).await {
            Ok(sequences) => {
                if let Some(begun) = &mut self.begun {
                    begun.last_write = Some(self.shared.clock.read().boot);
                }
                if let Some(newest) = sequences.iter().max() {
                    self.shared.wrote(*newest);
                }
                for (job, sequence) in jobs.into_iter().zip(sequences) {
                    // A client that went away is no event.
                    drop(job.answer.send(Ok(Written { sequence, term })));
                }
                self.shared.answered();
            }
            Err(error) => {
                let why = if error.ends_connection() {
                    format!("{error}; it may have been written: ask again with the same id")
                } else {
                    error.to_string()
                };
                refuse(jobs, &why);
                self.failed(term, error);
            }
        }
    }

    /// The next beat, or the deadline where that is sooner.
    fn wake(&self) -> Instant {
        let now = self.shared.clock.read().boot;
        let until = self.shared.order().map_or(now, |order| order.until);
        let left = Duration::from_millis(until.saturating_sub(now));
        self.beat.min(Instant::now() + left)
    }

    fn token(&self, term: u64) -> Token {
        Token {
            term,
            holder: self.settings.holder.clone(),
        }
    }

    fn failed(&mut self, term: u64, error: StoreError) {
        match error {
            StoreError::Outranked(row) => {
                if let Some(open) = &mut self.open {
                    open.claimed = None;
                }
                eprintln!(
                    "store: term {term} is refused: {} holds {}",
                    row.holder, row.term
                );
                self.shared.outranked(term, row.term);
            }
            // The lease says why.
            StoreError::Closed => {}
            StoreError::Refused(why) => self.shared.troubled(why, true),
            StoreError::Broken(_) | StoreError::Late(_) => {
                self.open = None;
                self.shared.troubled(error.to_string(), false);
            }
        }
    }

    /// Says, before anything is written, that work is in flight.
    async fn begin(&mut self, term: u64) {
        if self.begun.is_some_and(|begun| begun.term == term) {
            return;
        }
        self.end().await;
        let from = self.shared.clock.read().boot;
        self.begun = Some(Begun {
            term,
            from,
            last_write: None,
        });
        self.shared.working(Some(term));
        self.record(Line::Begin { term, from }).await;
    }

    /// Nothing is in flight: says so, and refuses what waits.
    async fn rest(&mut self, why: &str) {
        self.end().await;
        while let Ok(job) = self.queue.try_recv() {
            refuse([job], why);
        }
    }

    async fn end(&mut self) {
        let Some(begun) = self.begun.take() else {
            return;
        };
        let to = self.shared.clock.read().boot;
        self.shared.working(None);
        self.record(Line::End {
            term: begun.term,
            from: begun.from,
            to,
            last_write: begun.last_write,
        })
        .await;
    }

    /// Off this thread: a stalled disk must not keep the lease from being looked at.
    async fn record(&self, line: Line) {
        let intervals = Arc::clone(&self.intervals);
        let written = tokio::task::spawn_blocking(move || {
            let mut intervals = intervals.lock().unwrap_or_else(PoisonError::into_inner);
            intervals.write(line)
        });
        match timeout(RECORD, written).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => eprintln!("intervals.log: {error}"),
            Ok(Err(_)) | Err(_) => eprintln!("intervals.log: the disk does not answer"),
        }
    }
}

/// Waits for an operation of `term`, until the store's time is up or the lease ended a grace ago.
async fn bounded<T>(
    shared: &Shared,
    term: u64,
    within: Duration,
    operation: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let mut operation = std::pin::pin!(operation);
    let begun = Instant::now();
    let mut ended: Option<Instant> = None;
    loop {
        tokio::select! {
            biased;
            done = &mut operation => return done,
            () = sleep(GLANCE) => {}
        }
        if !shared.permits(term) {
            let since = ended.get_or_insert_with(Instant::now);
            if since.elapsed() >= GRACE {
                return Err(StoreError::Late(begun.elapsed()));
            }
        }
        if begun.elapsed() >= within {
            return Err(StoreError::Late(within));
        }
    }
}

fn refuse(jobs: impl IntoIterator<Item = Job>, why: &str) {
    for job in jobs {
        drop(job.answer.send(Err(why.to_owned())));
    }
}
