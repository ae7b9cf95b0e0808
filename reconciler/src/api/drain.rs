//! What draining a server does, whether it may be done, and how far it is. Pure, from one moment.
//!
//! What moves and what is lost is `stead-plan`'s to say, who may become active `switchover`'s.

use stead_plan::{Drain, Fate, Known, drained};
use stead_schemas::api::{ApiError, DrainPlanView, DrainView, LeftView, VotesView, instance_of};
use stead_schemas::names::{GroupName, ServerName, SiteCode};
use stead_schemas::plan::{Action, HoldReason, SitePlan, Wait};
use stead_schemas::time::WallMs;
use thiserror::Error;

use super::lease::{lease, leased};
use super::snapshot::SiteSnapshot;
use super::switchover::{SwitchoverRefusal, may_hold};
use crate::output::when;

/// Why a server is not drained.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DrainRefusal {
    /// It is drained.
    #[error("{server} is drained already by {by}: {why}")]
    Already {
        /// The server.
        server: ServerName,
        /// Who drained it.
        by: String,
        /// Why.
        why: String,
    },
    /// Another drain of the site is being begun.
    #[error("another server of {site} is being drained at this moment")]
    Busy {
        /// The site.
        site: SiteCode,
    },
    /// The rest of the voters would be no majority.
    #[error(
        "without {server} {site} would have no majority of its votes: {} of {} would remain{}",
        .votes.remain.len(), .votes.of, names(&.votes.remain)
    )]
    NoMajority {
        /// The site.
        site: SiteCode,
        /// The server.
        server: ServerName,
        /// What would remain.
        votes: VotesView,
    },
    /// No such server.
    #[error("there is no server {server}")]
    NoServer {
        /// Its name.
        server: ServerName,
    },
    /// What runs there can't be seen.
    #[error("{server} does not answer: what runs there is not known")]
    NotHeard {
        /// The site.
        site: SiteCode,
        /// The server.
        server: ServerName,
    },
    /// This reconciler commands nobody.
    #[error("this reconciler only looks: it commands no agent")]
    NotWriting,
    /// It has no end.
    #[error("a drain lasts longer than no time")]
    NoTime,
    /// It is no server.
    #[error("{name} is a reconciler: nothing runs there that could be moved")]
    Reconciler {
        /// Its name.
        name: ServerName,
    },
    /// Nothing would be moved.
    #[error("{scope} is suspended by {by}: {why}")]
    Suspended {
        /// What is suspended.
        scope: String,
        /// Who.
        by: String,
        /// Why.
        why: String,
    },
    /// The active can't be changed.
    #[error("{server} is the active site server, and {0}", server = .1)]
    Switchover(SwitchoverRefusal, ServerName),
    /// Something is wrong with the store.
    #[error("{}", .0.error)]
    Store(ApiError),
}

fn names(remain: &[ServerName]) -> String {
    let names: Vec<&str> = remain.iter().map(ServerName::as_str).collect();
    if names.is_empty() {
        String::new()
    } else {
        format!(" ({})", names.join(", "))
    }
}

impl DrainRefusal {
    /// Whether it could not be found out, rather than refused.
    #[must_use]
    pub const fn is_unobserved(&self) -> bool {
        match self {
            Self::NotHeard { .. } => true,
            Self::Switchover(refusal, _) => refusal.is_unobserved(),
            _ => false,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Already { server, .. } => Some(format!(
                "stead undrain {server} puts it back; then it can be drained anew"
            )),
            Self::Busy { .. } => Some("ask again".to_owned()),
            Self::NoMajority { site, .. } => Some(format!(
                "stead status {site} names the voters that are missed; bring them back, or undrain another server, first"
            )),
            Self::NoServer { .. } => Some("stead list servers".to_owned()),
            Self::NotHeard { site, server } => Some(format!(
                "stead why {site}/{server}; gone for good: stead confirm-lost {server} --reason WHY"
            )),
            Self::NotWriting => {
                Some("ask the reconciler that writes; stead status names it".to_owned())
            }
            Self::NoTime => Some("give a --for of 30m or 2h".to_owned()),
            Self::Reconciler { .. } => Some(
                "stop it as it is: no site stops for it; where it votes, see with stead status that all other voters are heard"
                    .to_owned(),
            ),
            Self::Suspended { scope, .. } => {
                let scope = if scope == "every site" { "--all" } else { scope };
                Some(format!("stead resume {scope}"))
            }
            Self::Switchover(refusal, _) => ApiError::from(refusal.clone()).hint,
            Self::Store(error) => error.hint.clone(),
        }
    }
}

impl From<DrainRefusal> for ApiError {
    fn from(refusal: DrainRefusal) -> Self {
        Self {
            error: refusal.to_string(),
            hint: refusal.hint(),
        }
    }
}

/// Whether a server may be the active one now, so that its site needs another first.
#[must_use]
pub fn needs_successor(site: &SiteSnapshot, server: &ServerName) -> bool {
    let Some(site_server) = leased(site) else {
        return false;
    };
    match Known::of_site(&site.observed).holder {
        Some(holder) => holder == server,
        None => may_hold(site_server).contains(&server),
    }
}

/// What a drain of the server would do as things are.
///
/// # Errors
/// [`DrainRefusal`], where the site would be left without a majority.
pub fn outlook(
    code: &SiteCode,
    site: &SiteSnapshot,
    server: &ServerName,
    drain: Drain,
    now: WallMs,
) -> Result<DrainPlanView, DrainRefusal> {
    let desired = site.desired.as_deref();
    let desired = desired.filter(|desired| desired.servers.contains_key(server));
    let Some(desired) = desired else {
        return Err(DrainRefusal::NoServer {
            server: server.clone(),
        });
    };
    let votes = votes(site, server);
    if let Some(votes) = votes.as_ref().filter(|votes| votes.spare().is_none()) {
        return Err(DrainRefusal::NoMajority {
            site: code.clone(),
            server: server.clone(),
            votes: votes.clone(),
        });
    }
    let until = drain.until;
    let mut context = site.context.clone();
    context.drained.insert(server.clone(), drain);
    let found = drained(desired, &site.observed, &context, now, server);
    let mut withdraws = Vec::new();
    let mut left = Vec::new();
    for (group, fate) in &found.fates {
        let instance = instance_of(code, group, server);
        match fate {
            Fate::Goes => {}
            Fate::Withdrawn => withdraws.push(instance),
            Fate::Last | Fate::MayNotOverlap | Fate::NowhereElse | Fate::Unpublished => {
                let why = why_left(group, *fate);
                left.push(LeftView { instance, why });
            }
        }
    }
    Ok(DrainPlanView {
        site: code.clone(),
        server: server.clone(),
        until,
        switch_over: None,
        moves: found.moves,
        withdraws,
        left,
        votes,
    })
}

fn why_left(group: &GroupName, fate: Fate) -> String {
    if group.as_str() == "siteServer" {
        "no passive is declared that could take over".to_owned()
    } else {
        fate.to_string()
    }
}

/// The votes that remain without a server; none: it has none.
fn votes(site: &SiteSnapshot, server: &ServerName) -> Option<VotesView> {
    let view = lease(site)?;
    view.in_force().find(|voter| voter.name == *server)?;
    let is_away = |name: &ServerName| {
        let drain = site.context.drained.get(name);
        name == server || drain.is_some_and(|drain| !drain.ended)
    };
    let remain = view
        .in_force()
        .filter(|voter| voter.heard && !voter.silent && !is_away(&voter.name));
    Some(VotesView {
        remain: remain.map(|voter| voter.name.clone()).collect(),
        of: view.in_force().count(),
    })
}

/// The drain of a server, and how far it is; none: it is in service.
pub(super) fn view(
    code: &SiteCode,
    site: &SiteSnapshot,
    server: &ServerName,
    now: WallMs,
) -> Option<DrainView> {
    let drain = site.context.drained.get(server)?;
    let Drain {
        by,
        why,
        at,
        until,
        ended,
    } = drain.clone();
    Some(DrainView {
        by,
        why,
        at,
        until,
        ended,
        waits: waits(code, site, server, drain, now),
    })
}

/// What has to happen before the server's power may go off.
fn waits(
    code: &SiteCode,
    site: &SiteSnapshot,
    server: &ServerName,
    drain: &Drain,
    now: WallMs,
) -> Vec<String> {
    let (Some(desired), Some(plan)) = (site.desired.as_deref(), site.plan.as_deref()) else {
        return vec![format!("{code} is not planned yet")];
    };
    if !is_planned(plan, code, server) {
        return vec!["it is not planned yet".to_owned()];
    }
    let mut waits: Vec<String> = of_lease(code, site, server, drain).into_iter().collect();
    let found = drained(desired, &site.observed, &site.context, now, server);
    for (group, _) in found.fates.iter().filter(|(_, fate)| *fate == Fate::Goes) {
        let to = found.moves.iter().find(|pair| pair.group == *group);
        let to = to.map_or_else(String::new, |pair| format!(" (to {})", pair.to));
        waits.push(format!("{group}@{server} still runs{to}"));
    }
    for group in &found.served {
        waits.push(format!("{group}@{server} is still in DNS"));
    }
    waits.extend(of_resolvers(plan, server, &found.served, now));
    if !waits.is_empty() {
        let of_site = plan.holds.iter().filter(|hold| hold.about == code.as_str());
        waits.extend(of_site.map(|hold| format!("{code} is held: {}", hold.reason)));
    }
    waits
}

/// Whether the road was planned since it was drained.
fn is_planned(plan: &SitePlan, code: &SiteCode, server: &ServerName) -> bool {
    let about = format!("{code}/{server}");
    plan.holds.iter().any(|hold| {
        let reason = &hold.reason;
        let drained = matches!(
            reason,
            HoldReason::Drained { .. } | HoldReason::DrainEnded { .. }
        );
        drained && hold.about == about
    })
}

/// It holds the lease, or could still take it up.
fn of_lease(
    code: &SiteCode,
    site: &SiteSnapshot,
    server: &ServerName,
    drain: &Drain,
) -> Option<String> {
    use stead_schemas::lease::LeasePart;
    leased(site)?;
    let report = site.observed.servers.get(server)?.report.as_deref()?;
    let part = report.lease.as_ref().map(|lease| lease.part);
    let works = matches!(part, Some(LeasePart::Holding | LeasePart::Stopping));
    if works || Known::of_site(&site.observed).holder == Some(server) {
        return Some(format!(
            "{server} is the active site server: stead switchover {code}"
        ));
    }
    let told = report.assigned_lease.as_deref()?;
    (told.is_candidate(server) && !drain.ended)
        .then(|| format!("{server} is not told yet that it does not take over"))
}

/// Instances that left DNS and that resolvers may still hand out (H27).
fn of_resolvers(
    plan: &SitePlan,
    server: &ServerName,
    served: &[GroupName],
    now: WallMs,
) -> Vec<String> {
    let steps = plan.steps.iter().filter(|step| step.part_of.is_none());
    let known = steps.filter_map(|step| match &step.action {
        Action::Drain { group, server: at } if at == server && !served.contains(group) => {
            let until = step.waits.iter().find_map(|wait| match wait {
                Wait::Until(at) => Some(format!(" until {}", when::clock(*at, now))),
                _ => None,
            });
            let until = until.unwrap_or_default();
            Some(format!("resolvers may still know {group}@{server}{until}"))
        }
        _ => None,
    });
    known.collect()
}
