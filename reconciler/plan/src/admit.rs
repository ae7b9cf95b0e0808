//! Which sites may start, and whether removals may go on: budgets over the whole hierarchy (H16).
//!
//! Budgets are absolute numbers from `guards`. They never stand in the way of publishing: records
//! follow health whatever is spent. A site that has begun goes on.

use std::collections::{BTreeMap, BTreeSet};

use stead_schemas::desired::{Guards, SiteDesired};
use stead_schemas::names::SiteCode;
use stead_schemas::observed::SiteRecorded;
use stead_schemas::plan::{Action, HoldReason, SitePlan, Step, Wait};

use crate::context::Permits;
use crate::recorded::objects;

/// What a site's plan, with nothing restricted, asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteSummary {
    /// The site.
    pub site: SiteCode,
    /// It has steps beyond records that follow health.
    pub changes: bool,
    /// Instances that go for good; moves don't count.
    pub removals: u32,
    /// Objects recorded that are declared no more (H39).
    pub dropped: u32,
    /// Objects recorded.
    pub recorded: u32,
}

/// What has begun under the revision in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InFlight {
    /// Sites with steps taken and not finished.
    pub sites: BTreeSet<SiteCode>,
    /// Sites in which a step failed under this revision.
    pub failed: BTreeSet<SiteCode>,
    /// Removals carried out under this revision.
    pub removals: u32,
}

/// What may be done now.
#[must_use]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admission {
    /// Sites that may not change, and why.
    pub waiting: BTreeMap<SiteCode, HoldReason>,
    /// Why nothing may be removed for good.
    pub removals: Option<HoldReason>,
}

impl Admission {
    /// What one site may do.
    #[must_use]
    pub fn permits(&self, site: &SiteCode) -> Permits {
        Permits {
            changes: self.waiting.get(site).cloned(),
            removals: self.removals.clone(),
        }
    }

    /// Whether a site's plan has to be made again with [`Self::permits`].
    #[must_use]
    pub fn restricts(&self, summary: &SiteSummary) -> bool {
        self.waiting.contains_key(&summary.site) || self.removals.is_some() && summary.removals > 0
    }
}

/// What `plan`, made with [`Permits::all`], asks for.
#[must_use]
pub fn summarise(
    plan: &SitePlan,
    desired: Option<&SiteDesired>,
    recorded: &SiteRecorded,
) -> SiteSummary {
    let removals = plan
        .steps
        .iter()
        .filter(|step| step.part_of.is_none() && matches!(step.action, Action::Remove { .. }));
    let changes = plan.steps.iter().any(|step| {
        let none = matches!(
            step.action,
            Action::Check { .. } | Action::Publish { .. } | Action::Withdraw { .. }
        );
        !none && !is_watched(step)
    });
    SiteSummary {
        site: plan.site.clone(),
        changes,
        removals: u32::try_from(removals.count()).unwrap_or(u32::MAX),
        dropped: recorded.objects.saturating_sub(desired.map_or(0, objects)),
        recorded: recorded.objects,
    }
}

/// Steps of the lease that its voters take by themselves.
fn is_watched(step: &Step) -> bool {
    let theirs = |wait: &Wait| matches!(wait, Wait::Holds(_) | Wait::Ledger(_) | Wait::Voters(_));
    matches!(step.action, Action::SwitchOver { .. } | Action::Vote { .. })
        && step.waits.iter().any(theirs)
}

/// Decides over all sites, those without a plan included (their objects count for H39).
pub fn admit(sites: &[SiteSummary], in_flight: &InFlight, guards: &Guards) -> Admission {
    Admission {
        waiting: waiting(sites, in_flight, guards),
        removals: removals(sites, in_flight, guards),
    }
}

fn waiting(
    sites: &[SiteSummary],
    in_flight: &InFlight,
    guards: &Guards,
) -> BTreeMap<SiteCode, HoldReason> {
    let stopped = in_flight.failed.len() >= guards.max_failed_sites.max(1) as usize;
    let changing: BTreeSet<&SiteCode> = sites
        .iter()
        .filter(|site| site.changes)
        .map(|site| &site.site)
        .collect();
    let mut started = changing
        .iter()
        .filter(|site| in_flight.sites.contains(**site))
        .count();
    let mut waiting = BTreeMap::new();
    for site in changing {
        if in_flight.sites.contains(site) {
            continue;
        }
        if stopped {
            let failed = in_flight.failed.iter().cloned().collect();
            waiting.insert(site.clone(), HoldReason::FailedSites { failed });
        } else if started >= guards.max_sites_at_once as usize {
            let limit = guards.max_sites_at_once;
            waiting.insert(site.clone(), HoldReason::SitesAtOnce { limit });
        } else {
            started += 1;
        }
    }
    waiting
}

fn removals(sites: &[SiteSummary], in_flight: &InFlight, guards: &Guards) -> Option<HoldReason> {
    let sum = |of: fn(&SiteSummary) -> u32| sites.iter().map(of).fold(0, u32::saturating_add);
    let removed = sum(|site| site.dropped);
    let of = sum(|site| site.recorded);
    let limit = guards.max_removals;
    if removed > limit && u64::from(removed) * 2 > u64::from(of) {
        return Some(HoldReason::MostlyEmpty { removed, of });
    }
    let pending = sum(|site| site.removals);
    let wanted = pending.saturating_add(in_flight.removals);
    (pending > 0 && wanted > limit).then(|| HoldReason::BudgetSpent {
        budget: "maxRemovals".to_owned(),
        wanted,
        limit,
    })
}
