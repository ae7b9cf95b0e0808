//! Carrying out: assignments and claims to agents. Nothing is decided here, and no call waits for
//! another.

pub mod backoff;
pub(crate) mod check;

use std::sync::Arc;
use std::time::Duration;

use stead_schemas::api::{JournalKind, WriterState};
use stead_schemas::names::ServerName;
use stead_schemas::plan::PlannedAssignment;
use stead_schemas::wire::{AgentReport, AssignRequest, Assignment, ClaimRequest, Refusal};
use stead_wire::peer::{CallError, Peer};

use crate::commands::chain;
use crate::daemon::core::Core;
use crate::site::changes::Happened;
use crate::site::{Order, Sending, Site, Target};

/// An agent answers once the assignment is durable; a stalled disk takes longer than that.
const ASSIGN: Duration = Duration::from_secs(10);
const CLAIM: Duration = Duration::from_secs(5);

/// Sends an assignment, its target reserved in `sending`; the outcome wakes the site.
pub(crate) fn send(
    core: &Arc<Core>,
    site: &Arc<Site>,
    order: Order<ServerName, PlannedAssignment>,
) {
    let (core, site) = (Arc::clone(core), Arc::clone(site));
    tokio::spawn(async move {
        let peer = site.world().peers.get(&order.target).cloned();
        let outcome = match (peer, request(&core, &site, &order)) {
            (Some(peer), Some(request)) => call(&peer, &request).await,
            _ => Err(Failed::Gone),
        };
        settle(&core, &site, &order, outcome);
        site.wake();
    });
}

/// Tells an agent our epoch, unless it knows it: from then on it refuses lower ones, and a writer
/// with a lower one learns of us (H7).
pub(crate) fn claim(core: &Arc<Core>, site: &Arc<Site>, server: &ServerName) {
    let Some(epoch) = core.authority.epoch() else {
        return;
    };
    let peer = {
        let mut world = site.world();
        let seen = world.observed.servers.get(server);
        let known = seen.and_then(|seen| seen.report.as_ref()?.highest_epoch.clone());
        if let Some(known) = known.filter(|known| *known >= epoch) {
            drop(world);
            // It may have been told while we were choosing ours. A lie was noted when it was told.
            core.meet(&known).ok();
            return;
        }
        let Some(peer) = world.peers.get(server).cloned() else {
            return;
        };
        if core.authority.state() != WriterState::Writing || !world.claiming.insert(server.clone())
        {
            return;
        }
        peer
    };
    let (core, site, server) = (Arc::clone(core), Arc::clone(site), server.clone());
    tokio::spawn(async move {
        let request = ClaimRequest { epoch };
        let answer: Result<AgentReport, CallError> = {
            // The semaphore is never closed.
            let _slot = core.connects.acquire().await;
            peer.post_json_once("/v1/claim", &request, CLAIM).await
        };
        let refusal = answer.err().and_then(|error| {
            tracing::debug!(%server, error = chain(&error), "claim not taken");
            refusal_of(&error)
        });
        // The watch stream brings the report that shows it; one that failed is tried with the next.
        site.world().claiming.remove(&server);
        if let Some(Refusal::StaleEpoch { highest }) = refusal
            && let Err(lie) = core.meet(&highest)
        {
            site.world().troubles.insert(server, lie);
        }
    });
}

/// Why an assignment was not taken.
enum Failed {
    /// The server, or the revision, went away meanwhile.
    Gone,
    /// The agent has another assignment than the plan assumed: the next plan knows better.
    Stale(String),
    /// Anything else.
    Told(String, Option<Refusal>),
}

fn request(
    core: &Core,
    site: &Site,
    order: &Order<ServerName, PlannedAssignment>,
) -> Option<AssignRequest> {
    let force = core.in_force()?;
    Some(AssignRequest {
        assignment: Assignment {
            hierarchy: core.config.spec.hierarchy.clone(),
            site: site.code.clone(),
            server: order.target.clone(),
            generation: order.generation.clone(),
            revision: force.revision.to_string(),
            instances: order.planned.instances.clone(),
            lease: order.planned.lease.clone(),
        },
        based_on: order.planned.based_on.clone(),
        secrets: order.secrets.clone(),
    })
}

/// The agent answers with its report, which the watch stream brings as well, in order.
async fn call(peer: &Peer, request: &AssignRequest) -> Result<(), Failed> {
    let answer: Result<AgentReport, CallError> =
        peer.put_json("/v1/assignment", request, ASSIGN).await;
    let Err(error) = answer else {
        return Ok(());
    };
    let refusal = refusal_of(&error);
    Err(match refusal {
        Some(Refusal::StaleGeneration { .. }) => Failed::Stale(words(&refusal, &error)),
        refusal => Failed::Told(words(&refusal, &error), refusal),
    })
}

fn refusal_of(error: &CallError) -> Option<Refusal> {
    match error {
        CallError::Status { text, .. } => serde_json::from_str(text).ok(),
        _ => None,
    }
}

fn words(refusal: &Option<Refusal>, error: &CallError) -> String {
    match refusal {
        Some(Refusal::Invalid { reason }) => format!("it can't carry that out: {reason}"),
        Some(Refusal::NotDurable { reason }) => format!("it can't keep that: {reason}"),
        Some(Refusal::NotForMe { server }) => format!("it is {server}"),
        Some(Refusal::StaleEpoch { highest }) => format!("{highest} commands it"),
        Some(Refusal::StaleGeneration { .. }) => "its assignment is another by now".to_owned(),
        None => chain(error),
    }
}

fn settle(
    core: &Core,
    site: &Site,
    order: &Order<ServerName, PlannedAssignment>,
    outcome: Result<(), Failed>,
) {
    let server = &order.target;
    let target = Target::Agent(server.clone());
    let now = core.clock.now();
    let about = format!("{}/{server}", site.code);
    let mut fenced = None;
    let mut world = site.world();
    match outcome {
        Ok(()) => {
            let accepted = Sending::Accepted(order.generation.clone(), now);
            let seen = world
                .observed
                .servers
                .get(server)
                .and_then(|seen| seen.report.as_ref()?.generation.clone())
                .is_some_and(|seen| seen >= order.generation);
            if seen {
                world.sending.remove(server);
            } else {
                world.sending.insert(server.clone(), accepted);
            }
            world.retries.succeeded(&target);
            let text = order.words();
            world.tell([Happened::new(JournalKind::Taken, about, text)]);
            order
                .steps
                .iter()
                .for_each(|step| core.metrics.step(&step.action));
        }
        Err(failed) => {
            world.sending.remove(server);
            let (text, refusal) = match failed {
                Failed::Gone => return,
                Failed::Stale(text) => (text, None),
                Failed::Told(text, refusal) => (text, refusal),
            };
            if let Some(Refusal::StaleEpoch { highest }) = refusal {
                fenced = Some(highest);
            }
            if world.retries.failed(&target, &text, now, backoff::random()) {
                let text = format!("{}: {text}", order.words());
                world.tell([Happened::new(JournalKind::Failed, about, text)]);
            }
            order
                .steps
                .iter()
                .for_each(|step| core.metrics.failure(&step.action));
        }
    }
    drop(world);
    if let Some(highest) = fenced
        && let Err(lie) = core.meet(&highest)
    {
        site.world().troubles.insert(server.clone(), lie);
    }
}
