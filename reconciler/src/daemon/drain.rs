//! `drain` and `undrain`: a server out of service for a while, and back.
//!
//! The active is changed first, as by `switchover`; where that is refused nothing is begun. Then the
//! drain is made durable, and the planner does the rest; how far it is stands in the site's status.
//! What may be asked is found by `api::drain`.

use std::sync::Arc;

use stead_plan::Drain;
use stead_schemas::api::{
    ApiError, CommandAnswer, DrainPlanView, DrainRequest, JournalKind, SwitchoverRequest,
    SwitchoverView, UndrainRequest, WriterState,
};
use stead_schemas::names::{ServerName, SiteCode};
use stead_schemas::observed::Contact;
use stead_wire::clock::wall_now;

use super::backend::of_store;
use super::core::{Core, InForce};
use super::switchover::{Kind, switch_over};
use crate::api::{DrainRefusal, SiteSnapshot, needs_successor, outlook};
use crate::output::when;
use crate::site::Site;
use crate::site::changes::Happened;
use crate::store::{DrainMemory, Write};

/// Takes a server out of service, or says what that would do.
pub(super) async fn drain(
    core: &Core,
    request: DrainRequest,
    by: String,
) -> Result<DrainPlanView, DrainRefusal> {
    let (site, force) = site_of(core, &request.server)?;
    // One at a time, to the end: two at once could take both members of a pair.
    let Ok(_turn) = site.drain_turn.try_acquire() else {
        return Err(DrainRefusal::Busy {
            site: site.code.clone(),
        });
    };
    let memory = memory(&site.code, &request, by.clone())?;
    let snapshot = site.fresh(core, &force);
    refuse(core, &site.code, &snapshot, &request)?;
    let (server, until) = (request.server.clone(), memory.until);
    let now = core.clock.now();
    let drain = memory.as_of(memory.at);
    let planned = DrainRequest {
        dry_run: true,
        ..request.clone()
    };
    let successor = successor_of(core, &site.code, &snapshot, &planned, by.clone()).await?;
    let mut view = outlook(&site.code, &snapshot, &server, drain, now)?;
    view.switch_over = successor;
    if request.dry_run {
        return Ok(view);
    }
    view.switch_over = successor_of(core, &site.code, &snapshot, &request, by.clone()).await?;
    let write = Write::Drain(server.clone(), Some(memory.clone()));
    let kept = core.store.commit(write).await;
    kept.map_err(|error| DrainRefusal::Store(of_store(error)))?;
    core.set_drain(&server, Some(memory));
    let end = when::until(until, wall_now());
    let text = format!("{by} drained it {end}: {}", request.reason);
    journal(core, &site.code, &server, text);
    site.wake();
    Ok(view)
}

/// The site of a server that git declares.
fn site_of(core: &Core, server: &ServerName) -> Result<(Arc<Site>, Arc<InForce>), DrainRefusal> {
    let no_server = || DrainRefusal::NoServer {
        server: server.clone(),
    };
    let force = core.in_force().ok_or_else(no_server)?;
    if force.desired.reconcilers.contains_key(server) {
        return Err(DrainRefusal::Reconciler {
            name: server.clone(),
        });
    }
    let declares = |site: &&Arc<Site>| {
        let desired = force.desired.sites.get(&site.code);
        desired.is_some_and(|desired| desired.servers.contains_key(server))
    };
    let site = core.sites().iter().find(declares).cloned();
    Ok((site.ok_or_else(no_server)?, force))
}

fn memory(
    site: &SiteCode,
    request: &DrainRequest,
    by: String,
) -> Result<DrainMemory, DrainRefusal> {
    if request.lasts.0 == 0 {
        return Err(DrainRefusal::NoTime);
    }
    let at = wall_now();
    Ok(DrainMemory {
        site: site.clone(),
        by,
        why: request.reason.clone(),
        at,
        until: at.plus(request.lasts),
    })
}

/// What speaks against any drain of the server, whatever runs there.
fn refuse(
    core: &Core,
    site: &SiteCode,
    snapshot: &SiteSnapshot,
    request: &DrainRequest,
) -> Result<(), DrainRefusal> {
    let server = &request.server;
    if core.authority.state() != WriterState::Writing && !request.dry_run {
        return Err(DrainRefusal::NotWriting);
    }
    let before: Option<&Drain> = snapshot.context.drained.get(server);
    if let Some(drain) = before.filter(|drain| !drain.ended) {
        return Err(DrainRefusal::Already {
            server: server.clone(),
            by: drain.by.clone(),
            why: drain.why.clone(),
        });
    }
    let scopes = ["".to_owned(), site.to_string(), format!("{site}/{server}")];
    let suspension = core.suspensions().into_iter();
    let mut suspension = suspension.filter(|one| scopes.contains(&one.scope));
    if let Some(one) = suspension.next() {
        let scope = if one.scope.is_empty() {
            "every site".to_owned()
        } else {
            one.scope
        };
        return Err(DrainRefusal::Suspended {
            scope,
            by: one.by,
            why: one.why,
        });
    }
    let seen = snapshot.observed.servers.get(server);
    // One that was drained is off, most likely: its drain may be made longer.
    let heard = seen.is_some_and(|seen| seen.contact == Contact::Heard);
    if !heard && before.is_none() {
        return Err(DrainRefusal::NotHeard {
            site: site.clone(),
            server: server.clone(),
        });
    }
    Ok(())
}

/// Who takes over from an active that is drained, asked for and waited for; none: it is not active.
async fn successor_of(
    core: &Core,
    site: &SiteCode,
    snapshot: &SiteSnapshot,
    request: &DrainRequest,
    by: String,
) -> Result<Option<SwitchoverView>, DrainRefusal> {
    if !needs_successor(snapshot, &request.server) {
        return Ok(None);
    }
    let order = SwitchoverRequest {
        site: site.clone(),
        to: request.to.clone(),
        reason: Some(request.reason.clone()),
        dry_run: request.dry_run,
    };
    let switched = switch_over(core, order, Kind::Switchover, by).await;
    let refused = |refusal| DrainRefusal::Switchover(refusal, request.server.clone());
    switched.map(Some).map_err(refused)
}

/// Puts a server back into service.
pub(super) async fn undrain(
    core: &Core,
    request: UndrainRequest,
    by: &str,
) -> Result<CommandAnswer, ApiError> {
    let server = request.server;
    let Some(memory) = core.drain(&server) else {
        return Err(ApiError {
            error: format!("{server} is not drained"),
            hint: Some("stead list servers shows those that are".to_owned()),
        });
    };
    let write = Write::Drain(server.clone(), None);
    core.store.commit(write).await.map_err(of_store)?;
    core.set_drain(&server, None);
    let text = format!(
        "{by} undrained it; {} had drained it: {}",
        memory.by, memory.why
    );
    journal(core, &memory.site, &server, text);
    let site = core.site(&memory.site);
    if let Some(site) = &site {
        site.wake();
    }
    let mut consequences = vec![
        "what is placed there by hand is published again once it is healthy; what moved away stays where it is"
            .to_owned(),
        "a site server stands by there; the active does not come back by itself unless failback says so"
            .to_owned(),
    ];
    let heard = site.is_some_and(|site| {
        let world = site.world();
        let seen = world.observed.servers.get(&server);
        seen.is_some_and(|seen| seen.contact == Contact::Heard)
    });
    if !heard {
        consequences.insert(
            0,
            format!("{server} does not answer yet: from now on that counts as a fault"),
        );
    }
    Ok(CommandAnswer {
        text: format!("{server} is in service again"),
        consequences,
    })
}

fn journal(core: &Core, site: &SiteCode, server: &ServerName, text: String) {
    let about = format!("{site}/{server}");
    let happened = Happened::new(JournalKind::Command, about, text);
    core.journal(Some(site), vec![happened]);
}
