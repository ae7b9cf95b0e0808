//! The thread that owns the database: batches writes, keeps what can't be written, answers reads.
//!
//! A batch is one transaction. One that fails whole is tried again every second; a change that
//! somebody waits for is refused instead, so that nobody is told of something that was not kept.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use stead_schemas::api::{JournalEntry, JournalKind, RevisionView};
use stead_schemas::time::{DurationMs, WallMs};
use stead_wire::clock::wall_now;
use tokio::sync::{mpsc, oneshot, watch};

use super::rows::{self, HistoryQuery, NewEntry, Write};
use super::schema::StoreError;

/// Changes kept in memory while the disk takes none.
const BACKLOG_MAX: usize = 20_000;
/// Answers owed at a time.
const WAITING_MAX: usize = 512;
const RETRY: Duration = Duration::from_secs(1);
const RETAIN_EVERY: Duration = Duration::from_secs(600);

type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the thread is asked.
pub(super) enum Job {
    History(HistoryQuery, Answer<Vec<JournalEntry>>),
    Revision(String, Answer<Option<RevisionView>>),
    Revisions(u32, Answer<Vec<RevisionView>>),
    Settle(oneshot::Sender<()>),
    Write(Write, Option<Answer<()>>),
}

pub(super) struct Writer {
    connection: Connection,
    inbox: mpsc::Receiver<Job>,
    tell: watch::Sender<Option<String>>,
    lost: Arc<AtomicU64>,
    keep: DurationMs,
    backlog: VecDeque<Write>,
    retry_at: Option<Instant>,
    retained_at: Option<Instant>,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        inbox: mpsc::Receiver<Job>,
        tell: watch::Sender<Option<String>>,
        lost: Arc<AtomicU64>,
        keep: DurationMs,
    ) -> Self {
        Self {
            connection,
            inbox,
            tell,
            lost,
            keep,
            backlog: VecDeque::new(),
            retry_at: None,
            retained_at: None,
        }
    }

    /// Until every handle is gone; then one last try for what waits.
    pub(super) fn run(mut self) {
        while let Some(job) = self.next() {
            let mut waiting = Vec::new();
            let mut settled = Vec::new();
            if let Some(job) = job {
                self.take(job, &mut waiting, &mut settled);
            }
            while waiting.len() < WAITING_MAX && self.backlog.len() < BACKLOG_MAX {
                let Ok(job) = self.inbox.try_recv() else {
                    break;
                };
                self.take(job, &mut waiting, &mut settled);
            }
            self.flush(waiting);
            for answer in settled {
                // Who asked may have gone.
                answer.send(()).ok();
            }
            self.retain();
        }
        self.retry_at = None;
        self.flush(Vec::new());
    }

    /// The next job; `Some(None)` when it is time to try again; none when all handles are gone.
    fn next(&mut self) -> Option<Option<Job>> {
        let Some(at) = self.retry_at else {
            return self.inbox.blocking_recv().map(Some);
        };
        loop {
            match self.inbox.try_recv() {
                Ok(job) => return Some(Some(job)),
                Err(mpsc::error::TryRecvError::Disconnected) => return None,
                Err(mpsc::error::TryRecvError::Empty) if Instant::now() >= at => return Some(None),
                Err(mpsc::error::TryRecvError::Empty) => {
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        }
    }

    fn take(
        &mut self,
        job: Job,
        waiting: &mut Vec<(Write, Answer<()>)>,
        settled: &mut Vec<oneshot::Sender<()>>,
    ) {
        match job {
            Job::History(query, answer) => {
                self.flush(std::mem::take(waiting));
                drop(answer.send(rows::history(&self.connection, &query)));
            }
            Job::Revision(revision, answer) => {
                self.flush(std::mem::take(waiting));
                drop(answer.send(rows::one_revision(&self.connection, &revision)));
            }
            Job::Revisions(limit, answer) => {
                self.flush(std::mem::take(waiting));
                drop(answer.send(rows::revisions(&self.connection, limit)));
            }
            Job::Settle(answer) => settled.push(answer),
            Job::Write(write, Some(answer)) => waiting.push((write, answer)),
            Job::Write(write, None) => self.keep(write),
        }
    }

    fn keep(&mut self, write: Write) {
        if self.backlog.len() >= BACKLOG_MAX {
            self.backlog.pop_front();
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        self.backlog.push_back(write);
    }

    /// Writes what waits. The backlog goes first: order is kept. Without one that fails, what is
    /// waited for is tried even while the backlog may not be.
    fn flush(&mut self, waiting: Vec<(Write, Answer<()>)>) {
        let backlog_due = self.retry_at.is_none_or(|at| Instant::now() >= at);
        if backlog_due {
            self.note_lost();
            let outcome = self.transact(self.backlog.iter());
            match outcome {
                Ok(()) => {
                    self.backlog.clear();
                    self.retry_at = None;
                    self.tell
                        .send_if_modified(|problem| problem.take().is_some());
                }
                Err(error) => {
                    self.retry_at = Some(Instant::now() + RETRY);
                    self.complain(&error);
                }
            }
        }
        for (write, answer) in waiting {
            let outcome = self.transact(std::iter::once(&write));
            drop(answer.send(outcome.map_err(StoreError::from)));
        }
    }

    fn transact<'a>(&self, writes: impl Iterator<Item = &'a Write>) -> Result<(), rusqlite::Error> {
        let mut writes = writes.peekable();
        if writes.peek().is_none() {
            return Ok(());
        }
        let transaction = self.connection.unchecked_transaction()?;
        for write in writes {
            rows::apply(&transaction, write)?;
        }
        transaction.commit()
    }

    /// What had to be dropped is told once the journal can be written again.
    fn note_lost(&mut self) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            self.backlog.push_back(Write::Journal(vec![NewEntry {
                at: wall_now(),
                site: None,
                revision: None,
                kind: JournalKind::Reconciler,
                about: String::new(),
                text: format!("{lost} changes could not be kept while the journal was in trouble"),
                hold: None,
            }]));
        }
    }

    fn complain(&self, error: &rusqlite::Error) {
        let text = format!(
            "the journal can't be written ({error}); {} changes wait in memory",
            self.backlog.len()
        );
        if self.tell.borrow().is_none() {
            tracing::error!(%error, waiting = self.backlog.len(), "the journal can't be written");
        }
        self.tell.send_replace(Some(text));
    }

    fn retain(&mut self) {
        let due = self
            .retained_at
            .is_none_or(|at| at.elapsed() >= RETAIN_EVERY);
        if !due || self.retry_at.is_some() {
            return;
        }
        self.retained_at = Some(Instant::now());
        let cutoff = WallMs(wall_now().0.saturating_sub(self.keep.0));
        if let Err(error) = rows::retain(&self.connection, cutoff) {
            tracing::warn!(%error, "old journal entries could not be removed");
        }
    }
}
