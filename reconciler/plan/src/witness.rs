//! A reconciler as a voter: what it is to be told of a site's lease, by itself.
//!
//! The same lease as the servers are told, never an assignment. It never begins a lease: the founders
//! reach it once a server has taken them, and what a majority stored outlives it (H4).

use stead_schemas::desired::SiteDesired;
use stead_schemas::lease::LeaseSpec;
use stead_schemas::names::ServerName;
use stead_schemas::observed::SiteObserved;
use stead_schemas::time::WallMs;

use crate::context::{Context, Policy};
use crate::lease::{Rule, complete, declared_spec};
use crate::world::World;

/// What the reconciler of this name is to be told; none: it has no part in the site's lease.
#[must_use]
pub fn witness_spec(
    desired: Option<&SiteDesired>,
    observed: &SiteObserved,
    context: &Context,
    now: WallMs,
    me: &ServerName,
) -> Option<LeaseSpec> {
    let policy = Policy::default();
    let world = World::new(desired, observed, context, now, &policy);
    let Some(mut spec) = declared_spec(&world) else {
        return over(&world, me);
    };
    if !spec.voters.contains_key(me) && !world.lease.known.has_vote(me) {
        return None;
    }
    complete(&world, &mut spec);
    let own = context.witness.get(me);
    let founders = world.lease.known.founding();
    spec.founders = founders
        .filter(|founders| own.is_some() && founders.get(me) == own)
        .cloned();
    Some(spec)
}

/// A site without a site server: its lease as it was, until no server is told of it any more.
fn over(world: &World<'_>, me: &ServerName) -> Option<LeaseSpec> {
    let Rule::Over = world.lease.rule else {
        return None;
    };
    let mut told = world
        .servers
        .values()
        .filter_map(|server| server.report?.assigned_lease.as_deref());
    let spec = told.find(|spec| spec.voters.contains_key(me))?;
    Some(LeaseSpec {
        alias: None,
        founders: None,
        ..spec.clone()
    })
}
