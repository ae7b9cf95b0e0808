//! The site server of this server, seen from the lease: its control line, and the proof that no work is
//! left.
//!
//! The line is kept up for as long as the seat is taken; the latest order is repeated on each new
//! connection. A dead site server works no more once nothing of it is left in its cgroup.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use site_roles::control::{ControlError, ControlLink, Order, State};
use stead_schemas::names::GroupName;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::processes;
use crate::processes::cgroup::Cgroup;
use crate::supervisor::Context;

/// The group whose instance is the site server.
pub(super) static SITE_SERVER: LazyLock<GroupName> =
    LazyLock::new(|| GroupName::new("siteServer").expect("a group's name"));
/// Between two attempts to reach it.
const AGAIN: Duration = Duration::from_millis(20);
/// The same, once it has not been there for a while.
const AGAIN_LATER: Duration = Duration::from_millis(500);
const A_WHILE: Duration = Duration::from_secs(3);
const CONNECT: Duration = Duration::from_millis(500);
const SEND: Duration = Duration::from_millis(100);
/// Four times what a well one takes between two states.
pub(super) const SILENCE: Duration = Duration::from_secs(1);
/// How long killing may take before it is tried again.
const KILL: Duration = Duration::from_secs(2);

/// What the site server said last; none while there is no connection.
pub(super) type Said = Option<Arc<State>>;

/// The control line.
#[derive(Debug)]
pub(super) struct Workload {
    context: Arc<Context>,
    orders: watch::Sender<Option<Order>>,
    said: watch::Receiver<Said>,
    line: JoinHandle<()>,
}

impl Workload {
    pub(super) fn new(context: Arc<Context>) -> Self {
        let (orders, taken) = watch::channel(None);
        let (say, said) = watch::channel(None);
        let path = context.control_socket();
        let line = tokio::spawn(keep_up(path, taken, say));
        Self {
            context,
            orders,
            said,
            line,
        }
    }

    /// Gives an order; it is repeated to each new process until there is a newer one.
    pub(super) fn order(&self, order: Order) {
        self.orders.send_replace(Some(order));
    }

    /// What it says, as it changes.
    pub(super) const fn said(&mut self) -> &mut watch::Receiver<Said> {
        &mut self.said
    }

    /// What it said last.
    pub(super) fn last(&self) -> Said {
        self.said.borrow().clone()
    }

    /// Whether a process of it may be there.
    pub(super) fn may_run(&self) -> bool {
        match self.context.cgroup(&SITE_SERVER) {
            Some(dir) => Cgroup::at(dir).populated(),
            None => !processes::orphans(None, &self.context.mark(&SITE_SERVER)).is_empty(),
        }
    }

    /// Whether that nothing runs is proven by the kernel, not by looking around (H10).
    pub(super) fn has_cgroup(&self) -> bool {
        self.context.cgroup(&SITE_SERVER).is_some()
    }

    /// Kills it, and says whether nothing is left. Its keeper starts it again.
    pub(super) async fn kill(&self) -> bool {
        let (mark, dir) = (
            self.context.mark(&SITE_SERVER),
            self.context.cgroup(&SITE_SERVER),
        );
        let killed = tokio::task::spawn_blocking(move || match dir {
            Some(dir) => kill_cgroup(&Cgroup::at(dir)),
            None => processes::kill_orphans(None, &mark, KILL).is_ok(),
        });
        killed.await.unwrap_or(false)
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        self.line.abort();
    }
}

fn kill_cgroup(cgroup: &Cgroup) -> bool {
    let end = std::time::Instant::now() + KILL;
    loop {
        cgroup.kill();
        if !cgroup.populated() {
            return true;
        }
        if std::time::Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

async fn keep_up(
    path: PathBuf,
    mut orders: watch::Receiver<Option<Order>>,
    said: watch::Sender<Said>,
) {
    let mut lost = Instant::now();
    loop {
        match ControlLink::connect(&path, CONNECT).await {
            Ok(link) => {
                let ended = talk(link, &mut orders, &said).await;
                said.send_replace(None);
                tracing::debug!("the site server's line: {ended}");
                lost = Instant::now();
            }
            Err(_) if lost.elapsed() > A_WHILE => sleep(AGAIN_LATER).await,
            Err(_) => {}
        }
        sleep(AGAIN).await;
    }
}

async fn talk(
    mut link: ControlLink,
    orders: &mut watch::Receiver<Option<Order>>,
    said: &watch::Sender<Said>,
) -> ControlError {
    orders.mark_changed();
    loop {
        tokio::select! {
            biased;
            _ = orders.changed() => {
                let order = *orders.borrow_and_update();
                if let Some(order) = order
                    && let Err(error) = link.send(&order, SEND).await
                {
                    return error;
                }
            }
            state = link.receive(SILENCE) => match state {
                Ok(state) => drop(said.send_replace(Some(Arc::new(state)))),
                Err(error) => return error,
            },
        }
    }
}
