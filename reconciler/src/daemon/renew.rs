//! Certificates that renew themselves: those of agents that ask, and this reconciler's own.
//!
//! An agent shows a request in its report once a third of its certificate's life is left (H20); it is
//! signed and sent back, by the writer alone, where this reconciler has the CA (`pki.dir`). One that is
//! past its end is renewed all the same: whoever shows the report has the key, and a site that was
//! without a CA for months shall come back by itself. What fails is tried again, later and later told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use stead_schemas::api::{JournalKind, WriterState};
use stead_schemas::names::{ServerName, SiteCode};
use stead_schemas::time::WallMs;
use stead_schemas::wire::{CertificateReport, NewCertificate};
use stead_wire::csr;
use stead_wire::dates::{Day, is_due};
use stead_wire::material::Material;
use stead_wire::peer::Peer;
use stead_wire::pki::{self, Ca, LEAF_DAYS};
use stead_wire::pki_files;
use stead_wire::tls::ServerTls;
use tokio::time::{Instant, interval};

use super::core::Core;
use super::own_material;
use crate::commands::chain;
use crate::site::changes::Happened;

/// How often is looked.
const EVERY: Duration = Duration::from_secs(10);
/// How long an agent may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// When a request that could not be met is looked at again.
const AGAIN: Duration = Duration::from_secs(600);
/// A certificate that would not last so much longer is no gain: the CA itself is near its end.
const GAIN_MS: u64 = 86_400_000;

/// A request and where it came from.
struct Asked {
    site: SiteCode,
    server: ServerName,
    peer: Arc<Peer>,
    until: WallMs,
    request: String,
}

/// Runs for ever.
pub(super) async fn run(core: Arc<Core>, server_tls: Arc<ServerTls>) {
    let mut tick = interval(EVERY);
    let mut tried: BTreeMap<ServerName, (String, Instant)> = BTreeMap::new();
    loop {
        tick.tick().await;
        let Some(pki) = &core.config.spec.pki else {
            continue;
        };
        if let Err(error) = renew_own(&core, &server_tls) {
            tracing::error!("this reconciler's own certificate is not renewed: {error}");
        }
        if core.authority.state() != WriterState::Writing {
            continue;
        }
        tried.retain(|_, (_, at)| at.elapsed() < AGAIN);
        let mut asked = asked(&core);
        asked.retain(|one| {
            let before = tried.get(&one.server);
            before.is_none_or(|(request, _)| *request != one.request)
        });
        if asked.is_empty() {
            continue;
        }
        let ca = match pki_files::load_ca(&pki.dir) {
            Ok(ca) => ca,
            Err(error) => {
                tracing::error!("agents ask for certificates: {}", chain(&error));
                continue;
            }
        };
        for one in asked {
            tried.insert(one.server.clone(), (one.request.clone(), Instant::now()));
            let text = match renew(&core, &ca, &one).await {
                Ok(until) => format!("certificate renewed, until {}", Day(until)),
                Err(error) => format!("certificate not renewed: {error}"),
            };
            let about = format!("{}/{}", one.site, one.server);
            let happened = Happened::new(JournalKind::Reconciler, about, text);
            core.journal(Some(&one.site), vec![happened]);
        }
    }
}

/// Who asks, as last heard.
fn asked(core: &Core) -> Vec<Asked> {
    let mut all = Vec::new();
    for site in core.sites() {
        let world = site.world();
        for (server, seen) in &world.observed.servers {
            let report = seen.report.as_deref();
            let certificate = report.and_then(|report| report.certificate.as_deref());
            let Some(CertificateReport {
                until,
                request: Some(request),
            }) = certificate
            else {
                continue;
            };
            let Some(peer) = world.peers.get(server) else {
                continue;
            };
            all.push(Asked {
                site: site.code.clone(),
                server: server.clone(),
                peer: Arc::clone(peer),
                until: *until,
                request: request.clone(),
            });
        }
    }
    all
}

async fn renew(core: &Core, ca: &Ca, one: &Asked) -> Result<WallMs, String> {
    let wanted = pki::Request {
        identity: core.agent_identity(&one.server),
        addresses: vec![one.peer.addr().ip()],
        dns_names: Vec::new(),
        days: LEAF_DAYS,
    };
    let signed = csr::sign(ca, &one.request, &wanted, core.clock.now());
    let signed = signed.map_err(in_words)?;
    if signed.not_after.0 < one.until.0.saturating_add(GAIN_MS) {
        let end = Day(signed.not_after);
        return Err(format!("the CA itself ends {end}: make a new one"));
    }
    let trusted = std::fs::read_to_string(&core.config.spec.tls.ca);
    let new = NewCertificate {
        certificate: signed.certificate_pem,
        ca: trusted.map_err(|error| format!("can't read tls.ca: {error}"))?,
    };
    // A certificate is no secret: it may go to an agent that is outside its dates.
    let peer = one.peer.again().tolerant();
    let taken: Result<(), _> = peer.put_json("/v1/certificate", &new, ANSWER).await;
    taken.map_err(in_words)?;
    Ok(signed.not_after)
}

/// The reconciler's own, in time, as an agent's.
fn renew_own(core: &Core, server_tls: &ServerTls) -> Result<(), String> {
    let Some(pki) = &core.config.spec.pki else {
        return Ok(());
    };
    let own = own_material(&core.config).map_err(in_words)?;
    let now = core.clock.now();
    if !is_due(own.validity(), now) {
        return Ok(());
    }
    let ca = pki_files::load_ca(&pki.dir).map_err(in_words)?;
    let wanted = pki::Request {
        identity: own.identity().clone(),
        addresses: Vec::new(),
        dns_names: Vec::new(),
        days: LEAF_DAYS,
    };
    let made = pki::issue(&ca, &wanted, now).map_err(in_words)?;
    if made.not_after.0 < own.validity().ends.0.saturating_add(GAIN_MS) {
        return Ok(());
    }
    let files = &core.config.spec.tls;
    let trusted = std::fs::read_to_string(&files.ca).map_err(|error| error.to_string())?;
    let checked = Material::from_pem(&trusted, &made.certificate_pem, &made.key_pem);
    let checked = checked.map_err(in_words)?;
    if !checked.is_of_a_trusted_ca() {
        return Err("the CA in `pki.dir` is not in `tls.ca`".to_owned());
    }
    pki_files::replace(files, &trusted, (&made.certificate_pem, &made.key_pem))
        .map_err(in_words)?;
    server_tls.reload(&checked).map_err(in_words)?;
    core.tls.reload(&checked).map_err(in_words)?;
    let text = format!("own certificate renewed, until {}", Day(made.not_after));
    core.journal(None, vec![Happened::new(JournalKind::Reconciler, "", text)]);
    Ok(())
}

fn in_words(error: impl std::error::Error + 'static) -> String {
    chain(&error)
}
