//! `replace`: a person lets a voter in whose vote ledger is new (H4).
//!
//! Recorded until another ledger of that voter votes; the planner tells the holder, and the holder
//! changes the voters. Nothing is decided here, and no certificate is touched.

use std::collections::BTreeMap;

use stead_plan::Known;
use stead_schemas::api::{ApiError, CommandAnswer, JournalKind, ReplaceRequest};
use stead_schemas::names::{ServerName, SiteCode};
use stead_schemas::observed::Contact;

use super::backend::of_store;
use super::core::Core;
use crate::site::changes::Happened;
use crate::store::{ReplacedMemory, Write};

/// The lives of a voter's ledger that vote now, by site, and whether it answers with one of them.
fn votes_of(core: &Core, server: &ServerName) -> (BTreeMap<SiteCode, u64>, bool) {
    let mut before = BTreeMap::new();
    let mut answers = false;
    for site in core.sites() {
        let world = site.world();
        let known = Known::of_site(&world.observed);
        let in_force = known.voters.and_then(|v| v.in_force.get(server).copied());
        let Some(in_force) = in_force else { continue };
        before.insert(site.code.clone(), in_force);
        let seen = world.observed.servers.get(server);
        let own = seen.and_then(|seen| {
            let report = seen.report.as_deref()?.lease.as_deref()?;
            (seen.contact == Contact::Heard).then_some(report.incarnation)
        });
        answers |= own == Some(in_force);
    }
    (before, answers)
}

/// Records that a voter is replaced.
///
/// # Errors
/// [`ApiError`] where there is nothing to replace, or it can't be kept.
pub(super) async fn replace(
    core: &Core,
    request: ReplaceRequest,
    by: String,
) -> Result<CommandAnswer, ApiError> {
    let ReplaceRequest { server, reason } = request;
    let (before, answers) = votes_of(core, &server);
    if before.is_empty() {
        return Err(ApiError {
            error: format!("{server} votes in no lease: there is nothing to replace"),
            hint: Some(
                "a server without a vote takes its assignment when its agent answers; stead list servers"
                    .to_owned(),
            ),
        });
    }
    if answers {
        return Err(ApiError {
            error: format!("{server} answers, and its ledger is the one that votes"),
            hint: Some(format!(
                "stop its agent and clear its state folder, or install the new machine, then: stead replace {server} --reason WHY"
            )),
        });
    }
    let sites: Vec<SiteCode> = before.keys().cloned().collect();
    let memory = ReplacedMemory {
        by: by.clone(),
        why: reason.clone(),
        at: core.clock.now(),
        before,
    };
    let write = Write::Replaced(server.clone(), Some(memory.clone()));
    core.store.commit(write).await.map_err(of_store)?;
    core.set_replaced(&server, Some(memory));
    for code in &sites {
        let text = format!("{by} replaced it: {reason}");
        let about = format!("{code}/{server}");
        let happened = Happened::new(JournalKind::Command, about, text);
        core.journal(Some(code), vec![happened]);
        if let Some(site) = core.site(code) {
            site.wake();
        }
    }
    Ok(CommandAnswer {
        text: format!("{server} may vote again with a new ledger"),
        consequences: vec![
            format!(
                "next: issue its certificate (stead pki issue --dir pki server {server}), start its agent with an empty state folder"
            ),
            "its new ledger votes once the holder has changed the voters; until then it neither votes nor holds"
                .to_owned(),
            "the old certificate is not revoked: revocation comes with a later version; keep the old machine off"
                .to_owned(),
        ],
    })
}
