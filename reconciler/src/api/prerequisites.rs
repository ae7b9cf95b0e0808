//! What servers lack to be site servers, and how far a new passive has come. Pure, from one moment.
//!
//! What is held for it is a hold of the plan; here is what is told beside that: warnings, and what was
//! found where the site server runs already (G-15).

use stead_schemas::names::ServerName;
use stead_schemas::observed::{Contact, ServerObserved};
use stead_schemas::plan::{Action, HoldReason};
use stead_schemas::wire::{Health, InstanceReport, Phase};

use super::snapshot::SiteSnapshot;

const SITE_SERVER: &str = "siteServer";

/// What was found at a server and is not held, a line each.
pub(super) fn notes<'a>(
    site: &'a SiteSnapshot,
    server: &ServerName,
) -> impl Iterator<Item = String> + use<'a> {
    let seen = site.observed.servers.get(server);
    let checked = seen.and_then(|seen| seen.checked.as_deref());
    let held = is_held(site, server);
    let findings = checked.into_iter().flat_map(|checked| checked.findings());
    let told = findings.filter(move |(_, finding)| !(finding.fatal && held));
    told.map(|(prerequisite, finding)| {
        format!("{prerequisite}: {}; {}", finding.text, finding.remedy)
    })
}

fn is_held(site: &SiteSnapshot, server: &ServerName) -> bool {
    let mut holds = site.plan.iter().flat_map(|plan| &plan.holds);
    holds.any(|hold| match &hold.reason {
        HoldReason::Prerequisite { server: held, .. } => held == server,
        _ => false,
    })
}

/// Whether a site server is on its way to a server.
pub(super) fn is_coming(site: &SiteSnapshot, server: &ServerName) -> bool {
    let mut steps = site.plan.iter().flat_map(|plan| &plan.steps);
    let planned = steps.any(|step| match &step.action {
        Action::Check { server: to } => to == server,
        Action::Install { group, server: to } => group.as_str() == SITE_SERVER && to == server,
        _ => false,
    });
    let starting = instance(site, server).is_some_and(|report| match report.phase {
        Phase::Fetching | Phase::Starting => true,
        Phase::Running => report.health == Health::Unknown,
        Phase::BackOff | Phase::CrashLoop | Phase::Failed | Phase::Stopping => false,
    });
    planned || is_held(site, server) || starting
}

/// `installing 2/4  [x] checks  [x] assigned  [>] running  [ ] ready`: what is done, what is under way.
pub(super) fn progress(site: &SiteSnapshot, server: &ServerName) -> String {
    let there = instance(site, server);
    let runs = there
        .is_some_and(|report| report.phase == Phase::Running && report.health == Health::Healthy);
    let checked = seen(site, server).and_then(|seen| seen.checked.as_deref());
    let fit = checked.is_some_and(|checked| checked.is_passed()) && !is_held(site, server);
    let stages = [
        ("checks", there.is_some() || fit),
        ("assigned", there.is_some()),
        ("running", runs),
        ("ready", false),
    ];
    let done = stages.iter().take_while(|(_, done)| *done).count();
    let stages = stages.iter().enumerate().map(|(index, (stage, _))| {
        let mark = match index.cmp(&done) {
            std::cmp::Ordering::Less => 'x',
            std::cmp::Ordering::Equal if is_held(site, server) => '!',
            std::cmp::Ordering::Equal => '>',
            std::cmp::Ordering::Greater => ' ',
        };
        format!("  [{mark}] {stage}")
    });
    format!("installing {done}/4{}", stages.collect::<String>())
}

fn seen<'a>(site: &'a SiteSnapshot, server: &ServerName) -> Option<&'a ServerObserved> {
    let seen = site.observed.servers.get(server)?;
    (seen.contact == Contact::Heard).then_some(seen)
}

/// The site server's instance as it is reported by a server that is heard.
fn instance<'a>(site: &'a SiteSnapshot, server: &ServerName) -> Option<&'a InstanceReport> {
    let report = seen(site, server)?.report.as_deref()?;
    let mut instances = report.instances.iter();
    let found = instances.find(|(group, _)| group.as_str() == SITE_SERVER)?;
    Some(found.1)
}
