//! What the tasks of a site server share: the lease, how the store is, and the queue of writes.
//!
//! Everything is behind one short lock; nothing waits while holding it. The lease is asked, never
//! copied: each unit of work looks at the order and the clock as they are.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot, watch};

use super::lease::{Idle, Lease};
use crate::clock::Clock;
use crate::control::{Order, State, Work};
use crate::store::Entry;

/// Writes of clients that wait or are under way; more are told to come again.
pub(super) const WRITES: usize = 64;
/// A store that answered this long ago is still there.
const FRESH_MS: u64 = 2_000;

/// A client's write and where its answer goes.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) entry: Entry,
    pub(super) answer: oneshot::Sender<Result<Written, String>>,
}

/// What the store gave a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) sequence: u64,
    pub(super) term: u64,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) clock: Clock,
    inner: Mutex<Inner>,
    changed: watch::Sender<u64>,
    jobs: mpsc::Sender<Job>,
}

#[derive(Debug, Default)]
struct Inner {
    lease: Lease,
    /// When the store last answered over the connection that is open.
    answered: Option<u64>,
    /// What it said instead.
    trouble: Option<String>,
    working: Option<u64>,
    sequence: Option<u64>,
    closed: bool,
}

impl Shared {
    pub(super) fn new(clock: Clock) -> (Arc<Self>, mpsc::Receiver<Job>) {
        let (jobs, queue) = mpsc::channel(WRITES);
        let shared = Self {
            clock,
            inner: Mutex::default(),
            changed: watch::channel(0).0,
            jobs,
        };
        (Arc::new(shared), queue)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.changed
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Counts up with each change.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(super) fn obey(&self, order: Order) {
        self.lock().lease.obey(order, self.clock.read());
        self.tell();
    }

    /// No work any more, whatever is ordered.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.tell();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// The term under which a unit of work may start now.
    pub(super) fn permit(&self) -> Result<u64, Idle> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(Idle::NoOrder);
        }
        inner.lease.permit(self.clock.read())
    }

    /// Whether this very term may go on now.
    pub(super) fn permits(&self, term: u64) -> bool {
        self.permit() == Ok(term)
    }

    /// The term to claim over a connection opened at `opened`.
    pub(super) fn may_claim(&self, opened: u64) -> Result<u64, Idle> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(Idle::NoOrder);
        }
        inner.lease.claim(self.clock.read(), opened)
    }

    pub(super) fn order(&self) -> Option<Work> {
        self.lock().lease.order()
    }

    /// The store answered: since now it is known to be there.
    pub(super) fn answered(&self) {
        let now = self.clock.read().boot;
        let mut inner = self.lock();
        let news = inner.trouble.take().is_some() || inner.answered.is_none();
        inner.answered = Some(now);
        drop(inner);
        if news {
            self.tell();
        }
    }

    /// The store refused, or its connection is gone.
    pub(super) fn troubled(&self, why: String, connected: bool) {
        let mut inner = self.lock();
        let news = inner.trouble.as_ref() != Some(&why) || (!connected && inner.answered.is_some());
        if news {
            eprintln!("store: {why}");
        }
        inner.trouble = Some(why);
        if !connected {
            inner.answered = None;
        }
        drop(inner);
        if news {
            self.tell();
        }
    }

    pub(super) fn outranked(&self, ours: u64, theirs: u64) {
        self.lock().lease.outrank(ours, theirs);
        self.tell();
    }

    pub(super) fn claimed(&self, term: u64) {
        self.lock().lease.accepted(term);
        self.tell();
    }

    pub(super) fn wrote(&self, sequence: u64) {
        let mut inner = self.lock();
        inner.sequence = inner.sequence.max(Some(sequence));
    }

    pub(super) fn working(&self, term: Option<u64>) {
        self.lock().working = term;
        self.tell();
    }

    /// Puts a write into the queue; refused at once when there is no work or no room.
    pub(super) fn submit(
        &self,
        entry: Entry,
    ) -> Result<oneshot::Receiver<Result<Written, String>>, String> {
        let term = self.permit().map_err(Idle::reason)?;
        if self.lock().working != Some(term) {
            let state = self.state();
            return Err(state
                .reason
                .unwrap_or_else(|| "work has not begun".to_owned()));
        }
        let (answer, answered) = oneshot::channel();
        self.jobs
            .try_send(Job { entry, answer })
            .map_err(|_| "too many writes at a time".to_owned())?;
        Ok(answered)
    }

    pub(super) fn state(&self) -> State {
        let now = self.clock.read();
        let mut inner = self.lock();
        let fresh = |at: u64| now.boot.saturating_sub(at) < FRESH_MS;
        let answers = inner.answered.is_some_and(fresh) && !inner.closed;
        let trouble = || {
            let unsaid = "the store does not answer".to_owned();
            inner.trouble.clone().unwrap_or(unsaid)
        };
        let mut reason = (!answers || inner.trouble.is_some()).then(trouble);
        if reason.is_none() && inner.working.is_none() && inner.lease.order().is_some() {
            let idle = inner.lease.permit(now).err();
            reason = Some(idle.unwrap_or(Idle::OldProof).reason());
        }
        State {
            ready: answers,
            reason,
            working: inner.working,
            stopped: inner.lease.stopped(),
            outranked: inner.lease.outranked(),
            sequence: inner.sequence,
        }
    }
}
