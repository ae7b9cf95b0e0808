//! A site as the API shows it: made when somebody looks, shared while nothing changes.

use std::sync::Arc;

use stead_schemas::role::SiteType;
use stead_schemas::time::{DurationMs, WallMs};

use super::{Site, SiteWorld, context};
use crate::api::SiteSnapshot;
use crate::daemon::core::{Core, InForce};

/// Heartbeats change nothing but when a server was heard; that is shown as old as this.
const FRESH: DurationMs = DurationMs(500);

/// The last snapshot, and what it was made from.
#[derive(Debug)]
pub(super) struct Shown {
    at: WallMs,
    revision: Arc<str>,
    snapshot: Arc<SiteSnapshot>,
}

impl Site {
    /// What the API shows of the site.
    #[must_use]
    pub fn snapshot(&self, core: &Core, force: &InForce) -> Arc<SiteSnapshot> {
        let now = core.clock.now();
        let mut world = self.world();
        if let Some(shown) = &world.shown
            && now.since(shown.at) < FRESH
            && shown.revision == force.revision
            // Who drained a server is told at once whether it may go off.
            && shown.snapshot.context.drained == core.drained(&self.code)
        {
            return Arc::clone(&shown.snapshot);
        }
        let snapshot = Arc::new(self.make(core, force, &world));
        world.shown = Some(Shown {
            at: now,
            revision: Arc::clone(&force.revision),
            snapshot: Arc::clone(&snapshot),
        });
        snapshot
    }

    /// The same as it is now.
    #[must_use]
    pub fn fresh(&self, core: &Core, force: &InForce) -> SiteSnapshot {
        self.make(core, force, &self.world())
    }

    fn make(&self, core: &Core, force: &InForce, world: &SiteWorld) -> SiteSnapshot {
        let declared = force.desired.sites.get(&self.code);
        let current = match (&world.desired, declared) {
            (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
            (ours, theirs) => ours.is_none() && theirs.is_none(),
        };
        let planned = world.plan.as_ref().map(|plan| plan.revision.clone());
        SiteSnapshot {
            desired: world.desired.clone(),
            site_type: world.site_type.unwrap_or(SiteType::Primary),
            observed: Arc::new(world.observed.clone()),
            context: context(core, &self.code, world, force),
            revision: if current && planned.is_some() {
                Some(force.revision.to_string())
            } else {
                planned
            },
            plan: world.plan.clone(),
            troubles: world.troubles.clone(),
            takeovers: world.takeovers.known().clone(),
            failovers: world.takeovers.failovers(),
            failure: failure(world),
        }
    }
}

fn failure(world: &SiteWorld) -> Option<String> {
    let late = world
        .taken
        .has_late()
        .then(|| "a step is not done within its deadline".to_owned());
    world
        .bug
        .clone()
        .or_else(|| world.retries.text().map(str::to_owned))
        .or(late)
}
