//! The planner's view of one site: desired and observed side by side, silence judged.
//!
//! Three-valued (design section 4): every question about a server's instances is answered yes, no
//! or not known. Nothing is decided here.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use stead_schemas::desired::{ServerDesired, SiteDesired};
use stead_schemas::names::{GroupName, InstanceName, ServerName, SiteCode};
use stead_schemas::observed::{Contact, ServerObserved, SiteObserved};
use stead_schemas::prerequisite::Checked;
use stead_schemas::time::{DurationMs, WallMs};
use stead_schemas::wire::{AgentReport, Health, InstanceReport, InstanceSpec, Phase};

use crate::context::{Context, Drain, Policy, Scope, Suspension};
use crate::lease::Lease;

/// The group name of the site server's instance.
pub(crate) static SITE_SERVER: LazyLock<GroupName> =
    LazyLock::new(|| GroupName::new("siteServer").expect("letters only"));

/// Everything known of a site while it is planned.
pub(crate) struct World<'a> {
    pub(crate) code: &'a SiteCode,
    pub(crate) desired: Option<&'a SiteDesired>,
    pub(crate) observed: &'a SiteObserved,
    pub(crate) context: &'a Context,
    pub(crate) now: WallMs,
    pub(crate) policy: &'a Policy,
    pub(crate) servers: BTreeMap<&'a ServerName, Server<'a>>,
    pub(crate) lease: Lease<'a>,
}

/// One server, declared or not.
pub(crate) struct Server<'a> {
    pub(crate) name: &'a ServerName,
    pub(crate) declared: Option<&'a ServerDesired>,
    pub(crate) report: Option<&'a AgentReport>,
    pub(crate) contact: Option<Contact>,
    pub(crate) hearing: Hearing,
    pub(crate) suspended: Option<&'a Suspension>,
    /// A person took it out of service.
    pub(crate) drained: Option<&'a Drain>,
    /// What it lacks to be a site server, as it was last asked.
    pub(crate) checked: Option<&'a Checked>,
}

/// What a server's contact means for planning (H8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hearing {
    /// Its report is current.
    Heard,
    /// A person said it is gone for good: nothing runs there.
    Lost,
    /// It was never heard and does not answer as it should: it has not joined.
    Never,
    /// Confirmed silent: unhealthy for publishing, unknown for everything else.
    Silent {
        since: WallMs,
        confirmed_for: DurationMs,
    },
    /// Not known, and no verdict: nothing destructive.
    Unclear { since: Option<WallMs> },
}

/// Whether an instance is on a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Known not to be there.
    Absent,
    /// The server does not answer; it was there when last heard.
    Held,
    /// It is there and assigned.
    Present,
    /// No longer assigned, and its process is still being ended.
    Stopping,
    /// The server does not answer, and what it runs was never known.
    Unknown,
}

/// How an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Well {
    /// It serves.
    Healthy,
    /// It does not serve.
    Sick,
    /// Not known: it stays published, or not, as it is.
    Unclear,
}

impl<'a> World<'a> {
    pub(crate) fn new(
        desired: Option<&'a SiteDesired>,
        observed: &'a SiteObserved,
        context: &'a Context,
        now: WallMs,
        policy: &'a Policy,
    ) -> Self {
        let mut servers = BTreeMap::new();
        let declared = desired.map(|site| &site.servers);
        for (name, server) in declared.into_iter().flatten() {
            let seen = observed.servers.get(name);
            servers.insert(name, Server::new(name, Some(server), seen, context, now));
        }
        for (name, seen) in &observed.servers {
            if !servers.contains_key(name) && !renamed_away(desired, name, seen) {
                servers.insert(name, Server::new(name, None, Some(seen), context, now));
            }
        }
        let lease = Lease::new(desired, &servers);
        Self {
            code: &context.site,
            desired,
            observed,
            context,
            now,
            policy,
            servers,
            lease,
        }
    }

    /// Which servers have, or had when last heard, an instance of each group.
    pub(crate) fn holders(&self) -> BTreeMap<&'a GroupName, Vec<&'a ServerName>> {
        let mut holders: BTreeMap<&GroupName, Vec<&ServerName>> = BTreeMap::new();
        for server in self.servers.values() {
            let Some(report) = server.report else {
                continue;
            };
            for group in report.assigned.keys() {
                holders.entry(group).or_default().push(server.name);
            }
            for group in report.instances.keys() {
                if !report.assigned.contains_key(group) {
                    holders.entry(group).or_default().push(server.name);
                }
            }
        }
        holders
    }

    pub(crate) fn instance(&self, group: &GroupName, server: &ServerName) -> InstanceName {
        InstanceName {
            site: self.code.clone(),
            group: group.clone(),
            server: server.clone(),
        }
    }

    /// A server that does not answer and of which not even the past is known.
    pub(crate) fn has_blank_server(&self) -> bool {
        self.servers
            .values()
            .any(|s| matches!(s.hearing, Hearing::Unclear { .. }) && s.report.is_none())
    }
}

/// A server that lives on under a new name is not missed under the old one.
fn renamed_away(desired: Option<&SiteDesired>, name: &ServerName, seen: &ServerObserved) -> bool {
    seen.contact != Contact::Heard
        && desired.is_some_and(|site| {
            site.servers
                .values()
                .any(|server| server.was.as_ref() == Some(name))
        })
}

impl<'a> Server<'a> {
    fn new(
        name: &'a ServerName,
        declared: Option<&'a ServerDesired>,
        seen: Option<&'a ServerObserved>,
        context: &'a Context,
        now: WallMs,
    ) -> Self {
        Self {
            name,
            declared,
            report: seen.and_then(|s| s.report.as_deref()),
            contact: seen.map(|s| s.contact),
            hearing: seen.map_or(Hearing::Unclear { since: None }, Hearing::of),
            suspended: context.suspended.iter().find(|suspension| {
                suspension.holds_at(now)
                    && matches!(&suspension.scope, Scope::Server(server) if server == name)
            }),
            drained: context.drained.get(name),
            checked: seen.and_then(|s| s.checked.as_deref()),
        }
    }

    pub(crate) fn is_heard(&self) -> bool {
        self.hearing == Hearing::Heard
    }

    /// Its drain is in force: it is expected to go away and to come back.
    pub(crate) fn is_away(&self) -> bool {
        self.drained.is_some_and(|drain| !drain.ended)
    }

    pub(crate) fn assigned(&self, group: &GroupName) -> Option<&'a InstanceSpec> {
        self.report?.assigned.get(group).map(|spec| &**spec)
    }

    pub(crate) fn reported(&self, group: &GroupName) -> Option<&'a InstanceReport> {
        self.report?.instances.get(group).map(|seen| &**seen)
    }

    /// Whether an instance of the group is there.
    pub(crate) fn seen(&self, group: &GroupName) -> Seen {
        let assigned = self.assigned(group).is_some();
        let known = assigned || self.reported(group).is_some();
        match (self.hearing, self.report) {
            (Hearing::Heard, Some(_)) if assigned => Seen::Present,
            (Hearing::Heard, Some(_)) if known => Seen::Stopping,
            (Hearing::Heard, Some(_)) | (Hearing::Lost, _) => Seen::Absent,
            (_, Some(_)) if known => Seen::Held,
            // Only a reconciler assigns, so what was not there when last heard did not come since.
            (_, Some(_)) => Seen::Absent,
            (_, None) => Seen::Unknown,
        }
    }

    /// How an instance of the group is, as far as publishing is concerned.
    pub(crate) fn well(&self, group: &GroupName) -> Well {
        match self.hearing {
            Hearing::Heard => self.reported(group).map_or(Well::Sick, Well::of),
            Hearing::Lost | Hearing::Never | Hearing::Silent { .. } => Well::Sick,
            Hearing::Unclear { .. } => Well::Unclear,
        }
    }
}

impl Hearing {
    fn of(seen: &ServerObserved) -> Self {
        let never = seen.heard_at.is_none() && seen.report.is_none();
        match seen.contact {
            Contact::Heard if seen.report.is_some() => Self::Heard,
            Contact::Heard => Self::Unclear { since: None },
            _ if seen.confirmed_lost.is_some() => Self::Lost,
            Contact::Silent { .. } | Contact::Refused { .. } if never => Self::Never,
            Contact::Silent {
                since,
                confirmed_for,
            } => Self::Silent {
                since,
                confirmed_for,
            },
            Contact::CutOff { since } | Contact::Refused { since } | Contact::Unsure { since } => {
                Self::Unclear { since: Some(since) }
            }
            Contact::Connecting => Self::Unclear { since: None },
        }
    }
}

impl Well {
    fn of(report: &InstanceReport) -> Self {
        match (report.phase, report.health) {
            (Phase::Running, Health::Healthy) => Self::Healthy,
            // Just adopted by a restarted agent, or just started: it stays published as it is.
            (Phase::Running, Health::Unknown) => Self::Unclear,
            _ => Self::Sick,
        }
    }
}
