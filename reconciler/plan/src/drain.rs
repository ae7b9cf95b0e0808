//! Servers that a person took out of service for a while (`stead drain`), to patch and reboot them.
//!
//! Counted instances go to other servers, and don't come back by themselves: placement is stable. What
//! stays leaves DNS where another of its group serves (never the last healthy one), and comes back with
//! the server. Nothing is placed or changed there meanwhile. The site server is handed over by its
//! holder, on request; a drained one only votes (`lease`). What is asked of whom, and when, is the
//! daemon's business.

use std::fmt;

use stead_schemas::desired::{GroupDesired, Placement, SiteDesired};
use stead_schemas::names::{GroupName, ServerName};
use stead_schemas::observed::SiteObserved;
use stead_schemas::plan::Move;
use stead_schemas::time::WallMs;

use crate::agents::server_about;
use crate::context::{Context, Policy};
use crate::leave;
use crate::members::{Group, Listing, Member, Now};
use crate::plan_site;
use crate::road::Draft;
use crate::site::View;
use crate::spec::Source;
use crate::world::{Seen, Server, Well, World};

/// Whether a counted instance there is to go. One that may not run twice could only go by an
/// interruption, which a reboot is as well.
pub(crate) fn yields(group: &GroupDesired, server: &Server<'_>) -> bool {
    server.drained.is_some() && group.role.rules().may_overlap
}

/// A hold for each: nothing is placed there.
pub(crate) fn note(world: &World<'_>, draft: &mut Draft) {
    for server in world.servers.values() {
        if let Some(drain) = server.drained {
            let place = server.declared.map(|declared| &declared.place);
            let about = server_about(world, server.name);
            draft.hold(about, drain.reason(server.name), place);
        }
    }
}

/// An instance that stays on a drained server. Of site servers the voters decide.
pub(crate) fn is_out(group: &Group<'_>, member: &Member<'_>) -> bool {
    member.server.drained.is_some() && !group.is_site_server()
}

/// It is served no more once another one of the record is, and then no resolver is to know it (H27).
pub(crate) fn listing(
    world: &World<'_>,
    group: &Group<'_>,
    member: &Member<'_>,
    draft: &mut Draft,
) -> Listing {
    if member.seen == Seen::Present && is_covered(group, member) {
        leave::drain(world, group, member, &[], draft);
    }
    Listing {
        now: match member.well {
            Well::Healthy => Now::Away,
            Well::Sick => Now::Sick,
            Well::Unclear => Now::AsServed,
        },
        ..Listing::default()
    }
}

/// Whether another one of the group that is in service is well.
fn is_covered(group: &Group<'_>, member: &Member<'_>) -> bool {
    group.wanted().any(|other| {
        other.server.name != member.server.name
            && !is_out(group, other)
            && other.well == Well::Healthy
    })
}

/// What becomes of an instance while its server is drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It goes, to another server or for good.
    Goes,
    /// Lost while the server is off: it is the last healthy one of its group.
    Last,
    /// Lost while the server is off: it may not run twice, and is not moved for a reboot.
    MayNotOverlap,
    /// Lost while the server is off: no other server can take it.
    NowhereElse,
    /// It stops with the server, others of its group go on; it is in no DNS to be withdrawn from.
    Unpublished,
    /// It leaves DNS, others of its group serve.
    Withdrawn,
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Goes => "it goes",
            Self::Last => "no other one of its group is healthy",
            Self::MayNotOverlap => "it may not run twice, so it is not moved",
            Self::NowhereElse => "no other server can take it",
            Self::Unpublished => "it is in no DNS to be withdrawn from; others of its group go on",
            Self::Withdrawn => "it is withdrawn",
        })
    }
}

/// A drained server as it is now, and as the road leaves it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Drained {
    /// Every instance there, that of a leased site server left out.
    pub fates: Vec<(GroupName, Fate)>,
    /// Where those go that move, as far as the road says.
    pub moves: Vec<Move>,
    /// Instances that are to leave DNS and are still served somewhere.
    pub served: Vec<GroupName>,
}

/// What becomes of the instances of a server that `context` says is drained.
#[must_use]
pub fn drained(
    desired: &SiteDesired,
    observed: &SiteObserved,
    context: &Context,
    now: WallMs,
    server: &ServerName,
) -> Drained {
    let policy = Policy::default();
    let world = World::new(Some(desired), observed, context, now, &policy);
    let mut found = Drained::default();
    for group in &View::new(&world).groups {
        let there = |member: &&Member<'_>| {
            matches!(member.seen, Seen::Held | Seen::Present | Seen::Stopping)
        };
        let member = group.member(server).filter(there);
        let Some(member) = member.filter(|_| !(group.leased && group.is_site_server())) else {
            continue;
        };
        let fate = fate(group, member);
        if fate == Fate::Withdrawn && member.is_served() {
            found.served.push(group.name.clone());
        }
        found.fates.push((group.name.clone(), fate));
    }
    let plan = plan_site(Some(desired), observed, context, now, &policy);
    for pair in plan.steps.into_iter().filter_map(|step| step.part_of) {
        if pair.from == *server && !found.moves.contains(&pair) {
            found.moves.push(pair);
        }
    }
    found
}

fn fate(group: &Group<'_>, member: &Member<'_>) -> Fate {
    let covered = is_covered(group, member);
    let counted = match group.source {
        Source::Declared(group) => matches!(group.placement, Placement::ByCount { .. }),
        Source::Gone | Source::SiteServer(_) => false,
    };
    if !member.wanted {
        Fate::Goes
    } else if covered && member.entries.is_empty() {
        Fate::Unpublished
    } else if covered {
        Fate::Withdrawn
    } else if counted && !group.may_overlap() {
        Fate::MayNotOverlap
    } else if counted {
        Fate::NowhereElse
    } else {
        Fate::Last
    }
}
