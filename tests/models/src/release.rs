//! The model *release*: work, guards, an agent that hangs, one that dies, guards that start again
//! (H1). The work looks at no deadline itself; the guard is on time.

use stateright::Property;

use super::lease::{ONE_HOLDS, OVER, at_most_one, one_holds, properties};
use super::rules::{Faults, Rules, Variant, Wrong, variants};
use super::site::Site;
use super::world::World;

const ONE_WORKS: &str = "one works, I1b";

/// At most one works, and at most one holds.
#[must_use]
pub fn release(rules: Rules) -> World {
    let mut properties = properties();
    properties.push(one_holds());
    properties.push(Property::always(ONE_WORKS, |_, site: &Site| {
        at_most_one(site, |machine| machine.work.is_some())
    }));
    World { rules, properties }
}

/// The bounds that are exhausted.
#[must_use]
pub fn release_bounds() -> Rules {
    Rules {
        works: true,
        elected: true,
        faults: Faults {
            hangs: 1,
            deaths: 1,
            guard_restarts: 1,
            ..Faults::default()
        },
        ..Rules::plain()
    }
}

/// Each way to go wrong that this model must find.
#[must_use]
pub fn release_variants() -> Vec<Variant> {
    let with = |hangs, deaths, guard_restarts| Rules {
        elected: true,
        faults: Faults {
            hangs,
            deaths,
            guard_restarts,
            ..Faults::default()
        },
        ..release_bounds()
    };
    let all = [
        (Wrong::NoGuard, ONE_WORKS, with(0, 1, 0)),
        (Wrong::GuardSparesAgent, ONE_HOLDS, with(1, 0, 0)),
        (Wrong::ReleaseLeavesOpen, OVER, with(0, 0, 0)),
        (Wrong::GuardForgets, ONE_WORKS, with(0, 1, 1)),
    ];
    variants(release, all)
}
