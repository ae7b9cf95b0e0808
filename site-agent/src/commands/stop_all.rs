//! `site-agent stop-all`: every instance of this server stops, and so does its agent.
//!
//! The ledger stays: the next `site-agent run` starts them again.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::Place;
use super::local::{Local, LocalError};
use crate::layout::Layout;
use crate::ledger::Ledger;
use crate::secrets::Versions;
use crate::supervisor::Supervisor;
use crate::{processes, service};

/// How long an agent may take to stop its instances and itself.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

pub(super) fn run(place: &Place) -> Result<(), Box<dyn Error>> {
    let layout = place.layout()?;
    super::runtime()?.block_on(async {
        match Local::of(&layout)?.status().await {
            Ok(status) => stop_agent(status.agent).await,
            Err(LocalError::NotRunning(_)) => stop_kept(layout).await,
            Err(error) => Err(error.into()),
        }
    })
}

/// The agent does it, as on Ctrl-C.
async fn stop_agent(pid: Option<u32>) -> Result<(), Box<dyn Error>> {
    let pid = pid.ok_or("the agent does not say its pid")?;
    processes::signal(pid, Signal::INT)?;
    let end = Instant::now() + PATIENCE;
    while processes::procfs::stat(pid).is_some_and(|stat| !stat.ended()) {
        if Instant::now() >= end {
            return Err(format!("the agent (pid {pid}) does not end").into());
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Without an agent: the keepers are asked directly, under the agent's lock.
async fn stop_kept(layout: Layout) -> Result<(), Box<dyn Error>> {
    let _lock = layout.lock()?;
    let Some(ledger) = Ledger::read(layout.root())? else {
        return Err("there is no ledger in this state folder".into());
    };
    let context = service::bare_context(layout, &ledger)?;
    let supervisor = Supervisor::start(Arc::new(context), None, &Versions::new()).await;
    supervisor.stop_all().await;
    Ok(())
}
