//! A site's lease as people see it: who is active, who stands by, what only a person can settle.
//!
//! Pure, from one moment. Who is active is decided by the voters; nothing here is.

use stead_plan::{Known, parked};
use stead_schemas::api::{LeaseView, Need, ParkedView, PassiveView, TakeoverView, VoterView};
use stead_schemas::desired::SiteServerDesired;
use stead_schemas::lease::{LeasePart, LeaseReport, TakeoverCause};
use stead_schemas::names::{IdentityKind, ServerName, SiteCode};
use stead_schemas::observed::{Contact, ServerObserved, SiteObserved};
use stead_schemas::time::{DurationMs, WallMs};

use super::prerequisites;
use super::snapshot::SiteSnapshot;
use crate::output::when::length;

/// A voter that is silent for less may be restarting.
const LOST_AFTER: DurationMs = DurationMs::seconds(60);

/// The site server of a site whose lease says who is active.
pub(super) fn leased(site: &SiteSnapshot) -> Option<&SiteServerDesired> {
    let site_server = site.desired.as_deref()?.site_server.as_ref()?;
    site_server.has_lease().then_some(site_server)
}

/// What a server that is heard says of the lease.
pub(super) fn heard<'a>(
    observed: &'a SiteObserved,
    server: &ServerName,
) -> Option<&'a LeaseReport> {
    let seen = observed.servers.get(server)?;
    let report = seen.report.as_deref()?.lease.as_deref()?;
    (seen.contact == Contact::Heard).then_some(report)
}

/// The highest term that anybody who is heard granted.
pub(super) fn term(observed: &SiteObserved) -> u64 {
    let reports = observed.servers.keys().filter_map(|s| heard(observed, s));
    reports.map(|report| report.term).max().unwrap_or(0)
}

/// The lease of a site that has one.
pub(crate) fn lease(site: &SiteSnapshot) -> Option<Box<LeaseView>> {
    let site_server = leased(site)?;
    let declared = site_server.lease.as_ref()?;
    let known = Known::of_site(&site.observed);
    let holds = known.holder.and_then(|name| heard(&site.observed, name));
    let holder_report = holds.filter(|report| report.part == LeasePart::Holding);
    let mut takeovers = site.takeovers.values().rev();
    let last = takeovers.clone().next().cloned();
    let failed_over = |view: &&TakeoverView| view.takeover.cause == TakeoverCause::Failover;
    let last_failover = takeovers.find(failed_over).cloned();
    Some(Box::new(LeaseView {
        holder: known.holder.cloned(),
        holder_heard: holder_report.is_some(),
        term: term(&site.observed),
        automatic: declared.automatic && !site.context.manual,
        voters: voters(site, site_server, &known, holder_report),
        request: known.memory.and_then(|memory| memory.request.clone()),
        parked: parked_view(site),
        last,
        last_failover,
    }))
}

fn parked_view(site: &SiteSnapshot) -> Option<ParkedView> {
    let parked = parked(site.desired.as_deref()?, &site.observed)?;
    // The first term of the holder's present reign.
    let reign = site.takeovers.values().rev();
    let reign = reign.take_while(|view| view.server == parked.holder);
    let since = reign.last().map(|view| &view.takeover);
    Some(ParkedView {
        since: since.map(|takeover| takeover.won_at),
        cause: since.map(|takeover| takeover.cause),
        declared: parked.declared,
        holder: parked.holder,
    })
}

fn voters(
    site: &SiteSnapshot,
    site_server: &SiteServerDesired,
    known: &Known<'_>,
    holder: Option<&LeaseReport>,
) -> Vec<VoterView> {
    let Some(voters) = known.voters else {
        return Vec::new();
    };
    let pending = voters.pending.iter().flat_map(|pending| pending.keys());
    let coming = pending.filter(|name| !voters.in_force.contains_key(*name));
    let declared = site_server.lease.as_ref();
    let view = |name: &ServerName| {
        let spec = declared.and_then(|lease| lease.voters.get(name));
        let is_reconciler = spec.is_some_and(|spec| spec.kind == IdentityKind::Reconciler);
        VoterView {
            name: name.clone(),
            votes: voters.in_force.contains_key(name),
            may_hold: spec.is_some_and(|spec| spec.rank.is_some()),
            heard: heard(&site.observed, name).is_some()
                || is_reconciler && site.context.witness.contains_key(name),
            silent: holder.is_some_and(|report| report.silent_voters.contains(name)),
        }
    };
    voters.in_force.keys().chain(coming).map(view).collect()
}

/// Servers that may hold and don't, in order of preference, each with its state in words.
pub(crate) fn passive(site: &SiteSnapshot) -> Vec<PassiveView> {
    let Some(site_server) = site.desired.as_deref().and_then(|d| d.site_server.as_ref()) else {
        return Vec::new();
    };
    let Some(lease) = &site_server.lease else {
        let state = "declared; does not take over: its program has no lease (H9)";
        let view = |server: &ServerName| PassiveView {
            server: server.clone(),
            state: state.to_owned(),
        };
        return site_server.passive.iter().map(view).collect();
    };
    let holder = Known::of_site(&site.observed).holder;
    let mut ranked: Vec<_> = lease
        .voters
        .iter()
        .filter_map(|(name, voter)| Some((voter.rank?, name)))
        .filter(|(_, name)| holder.unwrap_or(&site_server.active) != *name)
        .collect();
    ranked.sort();
    let view = |(_, server): (u32, &ServerName)| PassiveView {
        server: server.clone(),
        state: standby(site, server),
    };
    ranked.into_iter().map(view).collect()
}

/// `ready`, `installing 2/4 …`, `not ready: …` or `lost`.
fn standby(site: &SiteSnapshot, server: &ServerName) -> String {
    match unready(site, server) {
        None => "ready".to_owned(),
        Some(_) if is_lost(&site.observed, server) => "lost".to_owned(),
        Some(_) if prerequisites::is_coming(site, server) => prerequisites::progress(site, server),
        Some(why) => format!("not ready: {why}"),
    }
}

fn is_lost(observed: &SiteObserved, server: &ServerName) -> bool {
    observed.servers.get(server).is_some_and(|seen| {
        seen.confirmed_lost.is_some() || matches!(seen.contact, Contact::Silent { .. })
    })
}

/// Why a server can't take over now, or should not; none: it can.
pub(super) fn unready(site: &SiteSnapshot, server: &ServerName) -> Option<String> {
    let Some(report) = heard(&site.observed, server) else {
        return Some(silence(site.observed.servers.get(server)).to_owned());
    };
    if let Some(problem) = &report.problem {
        return Some(format!("it does not vote: {problem}"));
    }
    if let Some(drain) = site.context.drained.get(server) {
        return Some(format!("drained by {}: {}", drain.by, drain.why));
    }
    let known = Known::of_site(&site.observed);
    let votes = known
        .voters
        .is_some_and(|voters| voters.in_force.get(server) == Some(&report.incarnation));
    if !votes {
        return Some("it does not vote yet".to_owned());
    }
    if !report.ready {
        let why = report.not_ready.clone();
        return Some(why.unwrap_or_else(|| "it does not say that it is ready".to_owned()));
    }
    let holder = known.holder.and_then(|name| heard(&site.observed, name));
    let told = holder.is_none_or(|holder| holder.ready_voters.contains(server));
    (!told).then(|| "the holder has not heard that it is ready".to_owned())
}

fn silence(seen: Option<&ServerObserved>) -> &'static str {
    match seen.map(|seen| seen.contact) {
        Some(Contact::Heard) => "its vote ledger is not open",
        Some(Contact::Connecting) => "not heard yet",
        Some(Contact::CutOff { .. }) => "cut off from this reconciler",
        Some(Contact::Refused { .. }) => "what answers in its place is refused",
        Some(Contact::Silent { .. }) => "silent",
        Some(Contact::Unsure { .. }) => "no answer",
        None => "no such server is seen",
    }
}

/// What of a lease only a person can settle and no hold says: lost voters, one that is alone.
pub(super) fn needs(code: &SiteCode, site: &SiteSnapshot, now: WallMs) -> Vec<Need> {
    let Some(view) = lease(site) else {
        return Vec::new();
    };
    let mut needs = Vec::new();
    let losses = survives(&view);
    for voter in view.voters.iter().filter(|voter| !voter.heard) {
        let Some(since) = lost_since(site, &view, &voter.name, now) else {
            continue;
        };
        let name = &voter.name;
        let mut text = format!("{name} lost for {}", length(now.since(since)));
        if let Some(failover) = of_loss(&view, name) {
            text += &format!("; failed over to {}", failover.server);
            if let Some(length) = failover.interrupted() {
                text += &format!(", {:.1} s without writes", length.std().as_secs_f64());
            }
        }
        text += &format!(". {code} {losses}");
        needs.push(Need {
            about: code.to_string(),
            text,
            remedy: Some(format!(
                "new or repaired machine: stead replace {name} --reason WHY; power is certainly off: stead confirm-lost {name} --reason WHY"
            )),
        });
    }
    needs.extend(alone(code, site, &view));
    needs
}

/// When the lease was last taken from a server because it was silent, while nobody held it since.
fn of_loss<'a>(view: &'a LeaseView, server: &ServerName) -> Option<&'a TakeoverView> {
    let failover = view.last_failover.as_ref()?;
    (failover.takeover.from.as_ref() == Some(server)).then_some(failover)
}

fn lost_since(
    site: &SiteSnapshot,
    view: &LeaseView,
    server: &ServerName,
    now: WallMs,
) -> Option<WallMs> {
    let seen = site.observed.servers.get(server)?;
    let drain = site.context.drained.get(server);
    if drain.is_some_and(|drain| !drain.ended) {
        return None;
    }
    let since = match seen.contact {
        Contact::Silent { since, .. } => since,
        Contact::Unsure { since } if seen.confirmed_lost.is_some() => since,
        _ => return None,
    };
    let long = now.since(since) >= LOST_AFTER || seen.confirmed_lost.is_some();
    (long || of_loss(view, server).is_some()).then_some(since)
}

/// How many more losses leave a majority.
fn survives(view: &LeaseView) -> String {
    let all = view.in_force().count();
    let left = view.in_force().filter(|v| v.heard && !v.silent).count();
    let majority = all / 2 + 1;
    match left.checked_sub(majority) {
        None => "has no majority of its voters".to_owned(),
        Some(0) => "survives no further loss".to_owned(),
        Some(1) => "survives one more loss".to_owned(),
        Some(more) => format!("survives {more} more losses"),
    }
}

fn alone(code: &SiteCode, site: &SiteSnapshot, view: &LeaseView) -> Option<Need> {
    let declared = leased(site)?.lease.as_ref()?.voters.len();
    let mut in_force = view.in_force();
    let (only, None) = (in_force.next()?, in_force.next()) else {
        return None;
    };
    (declared > 1).then(|| Need {
        about: code.to_string(),
        text: format!(
            "{} votes alone (solo): nobody takes over from it until others vote again",
            only.name
        ),
        remedy: Some(format!(
            "start the agents of the other voters; one with a new machine: stead replace SERVER --reason WHY; see stead status {code}"
        )),
    })
}
