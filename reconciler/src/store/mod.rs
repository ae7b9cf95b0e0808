//! The reconciler's memory on disk: the journal, and what makes a restart uneventful.
//!
//! SQLite, one writer thread, a bounded queue in front of it. What can't be written waits in
//! memory, bounded, while reconciling goes on; the trouble shows in `status` and `/readyz`, and
//! what had to be dropped is counted and journalled. Nothing that safety rests on lives here
//! alone: a lost store costs the journal (H7).

mod rows;
mod schema;
#[cfg(test)]
mod tests;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use stead_schemas::api::{JournalEntry, RevisionView};
use stead_schemas::time::DurationMs;
use tokio::sync::{mpsc, oneshot, watch};

pub use rows::{
    DrainMemory, HistoryQuery, LostMemory, NewEntry, OwnMemory, Remembered, ReplacedMemory,
    ServerMemory, SiteMemory, TokenMemory, WithdrawnMemory, Write,
};
pub use schema::StoreError;
use writer::{Job, Writer};

/// Jobs that may wait for the writer thread.
const QUEUE: usize = 32_768;

/// A handle to the store; clones share it. The thread ends when the last one is dropped.
#[derive(Debug, Clone)]
pub struct Store {
    jobs: mpsc::Sender<Job>,
    problem: watch::Receiver<Option<String>>,
    lost: Arc<AtomicU64>,
}

impl Store {
    /// Opens the file, makes it if it is missing, and answers what it remembers.
    ///
    /// # Errors
    /// [`StoreError`]; a damaged file is refused, never replaced.
    pub fn open(path: &Path, keep: DurationMs) -> Result<(Self, Remembered), StoreError> {
        let connection = schema::open(path)?;
        Self::over(connection, path, keep)
    }

    fn over(
        connection: rusqlite::Connection,
        path: &Path,
        keep: DurationMs,
    ) -> Result<(Self, Remembered), StoreError> {
        let remembered = rows::remembered(&connection)?;
        let (jobs, inbox) = mpsc::channel(QUEUE);
        let (tell, problem) = watch::channel(None);
        let lost = Arc::new(AtomicU64::new(0));
        let writer = Writer::new(connection, inbox, tell, Arc::clone(&lost), keep);
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| StoreError::Open {
                path: path.to_owned(),
                source: rusqlite::Error::ToSqlConversionFailure(error.into()),
            })?;
        let store = Self {
            jobs,
            problem,
            lost,
        };
        Ok((store, remembered))
    }

    /// Queues a change; it is written soon, or its trouble shows in [`Self::problem`].
    pub fn write(&self, write: Write) {
        if let Write::Journal(entries) = &write
            && entries.is_empty()
        {
            return;
        }
        if self.jobs.try_send(Job::Write(write, None)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Makes a change durable before it returns: for what a person is told was done.
    ///
    /// # Errors
    /// [`StoreError`]; nothing was changed then.
    pub async fn commit(&self, write: Write) -> Result<(), StoreError> {
        self.ask(|answer| Job::Write(write, Some(answer))).await?
    }

    /// Journal entries, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn history(&self, query: HistoryQuery) -> Result<Vec<JournalEntry>, StoreError> {
        self.ask(|answer| Job::History(query, answer)).await?
    }

    /// The newest revisions.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn revisions(&self, limit: u32) -> Result<Vec<RevisionView>, StoreError> {
        self.ask(|answer| Job::Revisions(limit, answer)).await?
    }

    /// One revision by its whole id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn revision(&self, revision: &str) -> Result<Option<RevisionView>, StoreError> {
        let revision = revision.to_owned();
        self.ask(|answer| Job::Revision(revision, answer)).await?
    }

    /// What is wrong with the store now; none: all is written.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.problem.borrow().clone()
    }

    /// Waits until everything queued before is written or known to be in trouble.
    pub async fn settle(&self) {
        drop(self.ask(Job::Settle).await);
    }

    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Job) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        match self.jobs.try_send(job(answer)) {
            Ok(()) => answered.await.map_err(|_| StoreError::Closed),
            Err(mpsc::error::TrySendError::Full(_)) => Err(StoreError::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(StoreError::Closed),
        }
    }
}
