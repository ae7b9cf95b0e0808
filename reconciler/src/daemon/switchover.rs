//! `switchover` and `failback`: one request to the holder's agent, which does the rest (H11); waited
//! for, bounded, until the successor works.
//!
//! What may be asked is found by `api::switchover`. The takeover itself is journalled when a report
//! tells of it; here only who asked for it.

use std::sync::Arc;
use std::time::Duration;

use stead_schemas::api::{
    Asked, JournalKind, SwitchoverRequest, SwitchoverState, SwitchoverView, TakeoverView,
    WriterState,
};
use stead_schemas::lease::HandoverRequest;
use stead_schemas::names::ServerName;
use stead_schemas::time::DurationMs;
use stead_wire::peer::CallError;
use tokio::time::{Instant, sleep};

use super::core::{Core, InForce};
use super::edit;
use crate::api::{SwitchoverRefusal, Way, failback, way};
use crate::commands::chain;
use crate::site::Site;
use crate::site::changes::Happened;

/// How long the holder's agent may take to begin or refuse.
const BEGIN: Duration = Duration::from_secs(5);
/// How long the successor may take to be seen working: several leases.
const WORKS: Duration = Duration::from_secs(15);
/// Between two looks at what reports say.
const LOOK: Duration = Duration::from_millis(5);

/// Which of the two commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Failback,
    Switchover,
}

/// Changes the active of a site.
pub(super) async fn switch_over(
    core: &Core,
    request: SwitchoverRequest,
    kind: Kind,
    by: String,
) -> Result<SwitchoverView, SwitchoverRefusal> {
    let (Some(site), Some(force)) = (core.site(&request.site), core.in_force()) else {
        return Err(SwitchoverRefusal::Other(super::backend::no_site(
            &request.site,
        )));
    };
    // Not the one that is shown: that may be half a second old.
    let snapshot = site.fresh(core, &force);
    let request = match kind {
        Kind::Failback => failback(&snapshot, request)?,
        Kind::Switchover => request,
    };
    if core.authority.state() != WriterState::Writing && !request.dry_run {
        return Err(SwitchoverRefusal::NotWriting);
    }
    let way = way(&snapshot, &request)?;
    let state = if way.from == way.to {
        SwitchoverState::NothingToDo
    } else {
        SwitchoverState::Planned
    };
    let view = SwitchoverView {
        site: request.site.clone(),
        state,
        taken: None,
        parked: is_parked(&force, &request, &way.to),
        diff: edit::diff(core, &force, &request.site, &way.to).await,
        from: way.from.clone(),
        to: way.to.clone(),
    };
    if request.dry_run || state == SwitchoverState::NothingToDo {
        return Ok(view);
    }
    let begun = Instant::now();
    ask(core, &site, &request, &way, &by).await?;
    let taken = wait(&site, &way).await?;
    let at_most = u64::try_from(begun.elapsed().as_millis()).ok();
    let asked = Asked {
        by,
        reason: request.reason,
        interrupted_at_most: at_most.map(DurationMs),
    };
    Ok(finished(core, &site, view, taken, asked))
}

fn finished(
    core: &Core,
    site: &Site,
    view: SwitchoverView,
    taken: Option<TakeoverView>,
    asked: Asked,
) -> SwitchoverView {
    let Some(taken) = taken else {
        return SwitchoverView {
            state: SwitchoverState::UnderWay,
            ..view
        };
    };
    let mut world = site.world();
    let told = world.takeovers.asked(taken.takeover.term, asked);
    let fresh = world.takeovers.take_fresh();
    core.keep_takeovers(&site.code, fresh);
    drop(world);
    SwitchoverView {
        state: SwitchoverState::Done,
        taken: told.or(Some(taken)),
        ..view
    }
}

fn is_parked(force: &InForce, request: &SwitchoverRequest, to: &ServerName) -> bool {
    let site = force.desired.sites.get(&request.site);
    let declared = site.and_then(|site| site.site_server.as_ref());
    declared.is_some_and(|declared| declared.active != *to)
}

/// Asks the holder's agent, and journals that, and what came of it.
async fn ask(
    core: &Core,
    site: &Arc<Site>,
    request: &SwitchoverRequest,
    way: &Way,
    by: &str,
) -> Result<(), SwitchoverRefusal> {
    let Way { from, to, .. } = way;
    let peer = site.world().peers.get(from).cloned();
    let Some(peer) = peer else {
        return Err(SwitchoverRefusal::HolderNotHeard {
            site: site.code.clone(),
            holder: from.clone(),
        });
    };
    let why = request.reason.as_deref();
    let why = why.map_or_else(String::new, |why| format!(": {why}"));
    let about = format!("{}/siteServer", site.code);
    let journal = |kind, text: String| {
        let happened = Happened::new(kind, &about, text);
        core.journal(Some(&site.code), vec![happened]);
    };
    let text = format!("{by} asked {from} to hand over to {to}{why}");
    journal(JournalKind::Command, text);
    let body = HandoverRequest { to: to.clone() };
    // Once: a second one would be refused, naming the first.
    let answer: Result<(), CallError> = peer.post_json_once("/v1/handover", &body, BEGIN).await;
    answer.map_err(|error| {
        let (site, holder) = (site.code.clone(), from.clone());
        let (why, refusal) = match &error {
            CallError::Status { text, .. } => {
                let why = text.trim().to_owned();
                let refusal = SwitchoverRefusal::Holder {
                    holder,
                    why: why.clone(),
                    site,
                };
                (why, refusal)
            }
            error => (
                chain(error),
                SwitchoverRefusal::HolderNotHeard { site, holder },
            ),
        };
        let text = format!("{from} did not hand over: {why}");
        journal(JournalKind::Failed, text);
        refusal
    })
}

/// Until a report tells of the successor's first write; none: not in time.
async fn wait(site: &Site, way: &Way) -> Result<Option<TakeoverView>, SwitchoverRefusal> {
    let end = Instant::now() + WORKS;
    loop {
        let newer = {
            let world = site.world();
            let mut newer = world.takeovers.known().range(way.term + 1..);
            newer.next_back().map(|(_, view)| view.clone())
        };
        if let Some(view) = newer {
            if view.server != way.to {
                return Err(SwitchoverRefusal::Elsewhere {
                    holder: view.server,
                    term: view.takeover.term,
                    site: site.code.clone(),
                });
            }
            if view.takeover.first_write_at.is_some() {
                return Ok(Some(view));
            }
        }
        if Instant::now() >= end {
            return Ok(None);
        }
        sleep(LOOK).await;
    }
}
