//! `siteServer`: the site's own work, done under a term of the lease and nowhere else.
//!
//! Every server of a pair runs it. It stands by with an open store connection and works on the
//! agent's order, without a process start (H11). Who may be active is not decided here; nor does it
//! kill itself: agent and guard do that. A site without passives has no lease and no `STEAD_CONTROL`:
//! then it only answers for its health.

mod api;
mod intervals;
mod lease;
mod shared;
mod worker;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::routing::get;
use axum::{Json, Router};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::clock::Clock;
use crate::control::socket;
use crate::settings::PairSettings;
use intervals::Intervals;
use shared::Shared;
use worker::Worker;

/// For what is in flight, once the program is told to end.
const END: Duration = Duration::from_secs(1);

/// Its HTTP interface without a lease: it runs on the declared active server, where alone it is
/// assigned then (H14), writes nothing and fences nobody.
pub fn router() -> Router {
    let health = || async { Json(serde_json::json!({ "role": "siteServer", "active": true })) };
    Router::new().route("/health", get(health))
}

/// A site server of a pair, at work or standing by.
#[derive(Debug)]
pub struct SiteServer {
    shared: Arc<Shared>,
    control: JoinHandle<()>,
    worker: JoinHandle<()>,
}

impl SiteServer {
    /// Listens for orders and opens the store. Stands by until an order comes.
    ///
    /// # Errors
    /// When it can't listen at the control socket, or can't write to its data folder.
    pub fn start(settings: PairSettings, clock: Clock) -> io::Result<Self> {
        let listener = socket::listen(&settings.control)?;
        let intervals = Intervals::open(&settings.data)?;
        let (shared, queue) = Shared::new(clock);
        let (obeying, telling) = (Arc::clone(&shared), Arc::clone(&shared));
        let control = tokio::spawn(socket::serve(
            listener,
            move |order| obeying.obey(order),
            move || telling.state(),
            shared.changes(),
        ));
        let worker = Worker::new(settings, Arc::clone(&shared), queue, intervals);
        Ok(Self {
            control,
            worker: tokio::spawn(worker.run()),
            shared,
        })
    }

    /// Its HTTP interface.
    pub fn router(&self) -> Router {
        api::router(Arc::clone(&self.shared))
    }

    /// Ends work as a stop order would, and says in its records when.
    pub async fn stop(mut self) {
        self.shared.close();
        drop(timeout(END, &mut self.worker).await);
    }
}

impl Drop for SiteServer {
    fn drop(&mut self) {
        self.control.abort();
        self.worker.abort();
    }
}
