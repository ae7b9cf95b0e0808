//! Whether the active can be changed now, and to whom: what is looked at before the holder is asked.
//!
//! Pure. The holder looks again for itself, with what it heard within the last two seconds (H11).

use stead_plan::Known;
use stead_schemas::api::{ApiError, SwitchoverRequest};
use stead_schemas::desired::SiteServerDesired;
use stead_schemas::lease::LeasePart;
use stead_schemas::names::{ServerName, SiteCode};
use thiserror::Error;

use super::lease::{heard, leased, term, unready};
use super::snapshot::SiteSnapshot;

/// Why the active is not changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SwitchoverRefusal {
    /// The server is none that may be active.
    #[error("{to} may not be active in {site}")]
    CannotHold {
        /// The site.
        site: SiteCode,
        /// The server.
        to: ServerName,
        /// Those that may.
        may: Vec<ServerName>,
    },
    /// Git's active is the holder.
    #[error("{holder} is active, as git declares: there is nothing to fail back from")]
    NotParked {
        /// The holder.
        holder: ServerName,
    },
    /// The holder's agent refused; another switchover may be under way.
    #[error("{holder}, the holder, refuses: {why}")]
    Holder {
        /// The holder.
        holder: ServerName,
        /// In its words.
        why: String,
        /// The site.
        site: SiteCode,
    },
    /// The lease came to somebody else meanwhile.
    #[error("{holder} took up the lease meanwhile, under term {term}")]
    Elsewhere {
        /// Who.
        holder: ServerName,
        /// The term.
        term: u64,
        /// The site.
        site: SiteCode,
    },
    /// The holder is not heard.
    #[error("{holder} holds the lease of {site} and is not heard")]
    HolderNotHeard {
        /// The site.
        site: SiteCode,
        /// The holder.
        holder: ServerName,
    },
    /// Nobody who is heard knows a holder.
    #[error("nobody who is heard knows who is active in {site}")]
    NoHolder {
        /// The site.
        site: SiteCode,
    },
    /// The site has no lease.
    #[error("{site} has no lease: its active site server is the one that git declares")]
    NoLease {
        /// The site.
        site: SiteCode,
    },
    /// Nobody can take over.
    #[error("nobody can take over in {site}: {}", each(.why))]
    NobodyReady {
        /// The site.
        site: SiteCode,
        /// Why, for each that may be active.
        why: Vec<(ServerName, String)>,
    },
    /// The server asked for can't take over.
    #[error("{to} is not ready: {why}")]
    NotReady {
        /// The site.
        site: SiteCode,
        /// The server.
        to: ServerName,
        /// Why.
        why: String,
    },
    /// This reconciler commands nobody.
    #[error("this reconciler only looks: it commands no agent")]
    NotWriting,
    /// Something is wrong with the request or the store.
    #[error("{}", .0.error)]
    Other(ApiError),
}

fn each(why: &[(ServerName, String)]) -> String {
    let one = |(name, why): &(ServerName, String)| format!("{name}: {why}");
    let all: Vec<String> = why.iter().map(one).collect();
    if all.is_empty() {
        "it has no passive".to_owned()
    } else {
        all.join("; ")
    }
}

impl SwitchoverRefusal {
    /// Whether it could not be found out, rather than refused.
    #[must_use]
    pub const fn is_unobserved(&self) -> bool {
        matches!(self, Self::HolderNotHeard { .. } | Self::NoHolder { .. })
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::CannotHold { may, .. } => {
                let may: Vec<&str> = may.iter().map(|name| name.as_str()).collect();
                Some(format!("may be active: {}", may.join(", ")))
            }
            Self::Elsewhere { site, .. } | Self::Holder { site, .. } => {
                Some(format!("stead status {site}, then ask again"))
            }
            Self::HolderNotHeard { site, .. } => Some(format!(
                "where it is down, a passive takes over by itself: stead status {site}; stead history {site} --last failover"
            )),
            Self::NoHolder { site } => Some(format!(
                "stead status {site} names the voters that are not heard; start their agents"
            )),
            Self::NoLease { .. } => {
                Some("change `siteServer.active` in git; a passive makes it a lease".to_owned())
            }
            Self::NobodyReady { site, .. } | Self::NotReady { site, .. } => {
                Some(format!("stead status {site} shows when that changes"))
            }
            Self::NotParked { .. } => None,
            Self::NotWriting => {
                Some("ask the reconciler that writes; stead status names it".to_owned())
            }
            Self::Other(error) => error.hint.clone(),
        }
    }
}

impl From<SwitchoverRefusal> for ApiError {
    fn from(refusal: SwitchoverRefusal) -> Self {
        Self {
            error: refusal.to_string(),
            hint: refusal.hint(),
        }
    }
}

/// A change of the active that can be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// The holder.
    pub from: ServerName,
    /// Its successor; the holder itself where nothing is to be done.
    pub to: ServerName,
    /// The term now.
    pub term: u64,
}

/// Finds the way from the holder to its successor.
///
/// # Errors
/// [`SwitchoverRefusal`].
pub fn way(site: &SiteSnapshot, request: &SwitchoverRequest) -> Result<Way, SwitchoverRefusal> {
    let code = || request.site.clone();
    let Some(site_server) = leased(site) else {
        return Err(SwitchoverRefusal::NoLease { site: code() });
    };
    let Some(holder) = Known::of_site(&site.observed).holder else {
        return Err(SwitchoverRefusal::NoHolder { site: code() });
    };
    let may = may_hold(site_server);
    if let Some(to) = request.to.as_ref().filter(|to| !may.contains(to)) {
        return Err(SwitchoverRefusal::CannotHold {
            site: code(),
            to: to.clone(),
            may: may.into_iter().cloned().collect(),
        });
    }
    let way = |to: &ServerName| Way {
        from: holder.clone(),
        to: to.clone(),
        term: term(&site.observed),
    };
    let holds = heard(&site.observed, holder).is_some_and(|r| r.part == LeasePart::Holding);
    match &request.to {
        _ if !holds => Err(SwitchoverRefusal::HolderNotHeard {
            site: code(),
            holder: holder.clone(),
        }),
        Some(to) if to == holder => Ok(way(to)),
        Some(to) => match unready(site, to) {
            None => Ok(way(to)),
            Some(why) => Err(SwitchoverRefusal::NotReady {
                site: code(),
                to: to.clone(),
                why,
            }),
        },
        None => {
            let others = || may.iter().filter(|name| **name != holder);
            match others().find(|name| unready(site, name).is_none()) {
                Some(to) => Ok(way(to)),
                None => Err(SwitchoverRefusal::NobodyReady {
                    site: code(),
                    why: others()
                        .filter_map(|name| Some(((*name).clone(), unready(site, name)?)))
                        .collect(),
                }),
            }
        }
    }
}

/// The request that a failback is.
///
/// # Errors
/// [`SwitchoverRefusal`], also where git's active is the holder.
pub fn failback(
    site: &SiteSnapshot,
    request: SwitchoverRequest,
) -> Result<SwitchoverRequest, SwitchoverRefusal> {
    let Some(site_server) = leased(site) else {
        return Err(SwitchoverRefusal::NoLease { site: request.site });
    };
    let holder = Known::of_site(&site.observed).holder;
    if let Some(holder) = holder.filter(|holder| **holder == site_server.active) {
        return Err(SwitchoverRefusal::NotParked {
            holder: holder.clone(),
        });
    }
    Ok(SwitchoverRequest {
        to: Some(site_server.active.clone()),
        ..request
    })
}

/// Those that may be active, in order of preference.
pub(super) fn may_hold(site_server: &SiteServerDesired) -> Vec<&ServerName> {
    let voters = site_server.lease.iter().flat_map(|lease| &lease.voters);
    let mut ranked: Vec<_> = voters
        .filter_map(|(name, voter)| Some((voter.rank?, name)))
        .collect();
    ranked.sort();
    ranked.into_iter().map(|(_, name)| name).collect()
}
