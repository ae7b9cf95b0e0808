//! Other reconcilers that are witnesses: which life their ledgers are in, asked of themselves.
//!
//! The writer needs it for the founding of a site whose witness is a standby (H4, H7).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use stead_schemas::lease::LeaseReport;
use stead_schemas::names::{Identity, IdentityKind, ServerName, SiteCode};
use stead_wire::peer::Peer;

use super::letters::REPORTS;
use crate::daemon::core::Core;

/// They are asked this often.
const ASK: Duration = Duration::from_secs(5);
/// How long one may take to answer.
const ANSWER: Duration = Duration::from_secs(3);

/// Asks until the task is ended.
pub async fn ask_others(core: Arc<Core>) {
    loop {
        for (name, address) in others(&core) {
            ask(&core, &name, address).await;
        }
        tokio::time::sleep(ASK).await;
    }
}

/// Reconcilers that the revision in force names as witnesses, this one left out.
fn others(core: &Core) -> BTreeMap<ServerName, SocketAddr> {
    let Some(force) = core.in_force() else {
        return BTreeMap::new();
    };
    let servers = force.desired.sites.values();
    let leases = servers.filter_map(|site| site.site_server.as_ref()?.lease.as_ref());
    leases
        .flat_map(|lease| &lease.voters)
        .filter(|(name, voter)| {
            voter.kind == IdentityKind::Reconciler && **name != core.config.name
        })
        .map(|(name, voter)| (name.clone(), voter.address))
        .collect()
}

async fn ask(core: &Core, name: &ServerName, address: SocketAddr) {
    let identity = Identity {
        hierarchy: core.config.spec.hierarchy.clone(),
        kind: IdentityKind::Reconciler,
        name: name.to_string(),
    };
    let peer = Peer::new(address, identity, Arc::clone(&core.tls));
    let answer: Result<BTreeMap<SiteCode, LeaseReport>, _> = peer.get_json(REPORTS, ANSWER).await;
    let reports = match answer {
        Ok(reports) => reports,
        Err(error) => {
            tracing::debug!(%name, %error, "a witness without a word");
            return;
        }
    };
    for (site, report) in reports {
        let new = core
            .witness
            .note_other(site.clone(), name.clone(), report.incarnation);
        if new && let Some(site) = core.site(&site) {
            site.wake();
        }
    }
}
