//! The one writer of the zone: a thread that carries out update messages, one after the other.
//!
//! An update is judged against the zone as it is, saved, and only then put in force and answered.
//! If saving fails the zone stays as it was and the sender gets SERVFAIL. That there is only one
//! writer is what makes compare-and-swap hold (H2).

use std::sync::{Arc, PoisonError, RwLock};
use std::thread::{self, JoinHandle};

use hickory_proto::op::{Message, ResponseCode};
use tokio::sync::{mpsc, oneshot};

use super::scope::Scope;
use super::store::Store;
use super::update::judge;
use super::zone::Zone;

/// Updates waiting for the disk; more are told SERVFAIL, and their senders read back and retry.
const QUEUE: usize = 256;

struct Job {
    message: Message,
    scope: Scope,
    answer: oneshot::Sender<ResponseCode>,
}

/// Hands updates to the thread.
pub(super) struct Writer {
    queue: mpsc::Sender<Job>,
    thread: JoinHandle<()>,
}

impl Writer {
    /// Starts the thread; it ends when the writer is dropped and its queue is empty.
    pub(super) fn start(
        mut store: Store,
        zone: Arc<RwLock<Zone>>,
        max_records: usize,
    ) -> std::io::Result<Self> {
        let (queue, mut jobs) = mpsc::channel::<Job>(QUEUE);
        let thread = thread::Builder::new()
            .name("zone-writer".to_owned())
            .spawn(move || {
                while let Some(job) = jobs.blocking_recv() {
                    let code = carry_out(&mut store, &zone, &job, max_records);
                    // The asker may have gone; the update stands all the same.
                    let _gone = job.answer.send(code);
                }
            })?;
        Ok(Self { queue, thread })
    }

    /// Carries out one message and says how it went.
    pub(super) async fn update(&self, message: Message, scope: Scope) -> ResponseCode {
        let (answer, outcome) = oneshot::channel();
        let job = Job {
            message,
            scope,
            answer,
        };
        if self.queue.try_send(job).is_err() {
            tracing::warn!("too many updates are waiting for the disk");
            return ResponseCode::ServFail;
        }
        outcome.await.unwrap_or(ResponseCode::ServFail)
    }

    /// Finishes the queue and closes the store; blocks.
    pub(super) fn finish(self) {
        drop(self.queue);
        if self.thread.join().is_err() {
            tracing::error!("the zone writer panicked");
        }
    }
}

fn carry_out(
    store: &mut Store,
    zone: &RwLock<Zone>,
    job: &Job,
    max_records: usize,
) -> ResponseCode {
    let judged = {
        let zone = zone.read().unwrap_or_else(PoisonError::into_inner);
        judge(&zone, &job.message, &job.scope, max_records)
    };
    let delta = match judged {
        Ok(delta) if delta.is_empty() => return ResponseCode::NoError,
        Ok(delta) => delta,
        Err(code) => return code,
    };
    if let Err(error) = store.save(&delta) {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        tracing::error!(%error, cause, "an update was not saved and is refused");
        return ResponseCode::ServFail;
    }
    zone.write()
        .unwrap_or_else(PoisonError::into_inner)
        .apply(delta);
    ResponseCode::NoError
}
