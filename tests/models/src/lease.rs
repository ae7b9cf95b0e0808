//! The model *lease*: two candidates, clock rates, a voter that restarts as often as it likes,
//! renewals without end.

use site_lease::{Part, Term};
use stateright::Property;

use super::rules::{Faults, Invariant, Rules, TICK, Variant, Wrong, timing, variants};
use super::site::{Machine, Site};
use super::world::World;

/// A clock may run a tenth fast or slow.
const SLOW: u64 = 900;
const FAST: u64 = 1_100;
/// Duration x (1+d)/(1-d), rounded up: what H15 adds to that is margin, and not modelled.
const PROMISE: u64 = 2_445;

pub(super) const ONE_HOLDS: &str = "one holds, I1a";
pub(super) const OVER: &str = "a released term is over, R11";

/// Whether at most one machine is so.
pub(super) fn at_most_one(site: &Site, is: impl Fn(&Machine) -> bool) -> bool {
    site.machines.iter().filter(|machine| is(machine)).count() <= 1
}

/// What every model must keep, and must come by.
pub(super) fn properties() -> Vec<Property<World>> {
    vec![
        Property::always("in time, I1b", |_, site: &Site| {
            site.broken != Some(Invariant::InTime)
        }),
        Property::always("terms rise, I2", |_, site: &Site| {
            site.broken != Some(Invariant::TermsRise)
        }),
        Property::always("promises are kept, I3", |_, site: &Site| {
            site.broken != Some(Invariant::PromisesKept)
        }),
        Property::always("durable before answered, I4", |_, site: &Site| {
            site.broken != Some(Invariant::Durable)
        }),
        Property::always(OVER, |_, site: &Site| site.broken != Some(Invariant::Over)),
        Property::sometimes(
            "the second candidate holds after the first",
            |_, site: &Site| site.won > Term(1) && site.at(1).holds(),
        ),
        Property::sometimes("a lease runs out", |_, site: &Site| {
            let stops = |part: &Part<u8>| matches!(part, Part::Stopping(_));
            site.machines
                .iter()
                .any(|machine| stops(machine.node.part()))
        }),
    ]
}

pub(super) fn one_holds() -> Property<World> {
    Property::always(ONE_HOLDS, |_, site: &Site| {
        at_most_one(site, Machine::holds)
    })
}

/// At most one holds.
#[must_use]
pub fn lease(rules: Rules) -> World {
    let mut properties = properties();
    properties.push(one_holds());
    World { rules, properties }
}

/// The bounds that are exhausted: every clock a tenth slow or a tenth fast, the last voter restarting
/// as often as it likes, a stale copy of every kind.
#[must_use]
pub fn lease_bounds() -> Rules {
    Rules {
        rates: vec![vec![SLOW, FAST]; 3],
        timing: timing(PROMISE),
        restarts: Some(2),
        copies: 2,
        ..Rules::plain()
    }
}

/// Each way to go wrong that this model must find.
#[must_use]
pub fn lease_variants() -> Vec<Variant> {
    let plain = Rules::plain;
    let restarts = Some(2);
    let four = Rules {
        rates: vec![vec![TICK]; 4],
        ..plain()
    };
    let three_terms = || Rules {
        terms: 3,
        ..plain()
    };
    let steps = Faults {
        steps: 1,
        ..Faults::default()
    };
    let drifting = Rules {
        timing: timing(2 * TICK),
        rates: vec![vec![SLOW], vec![TICK], vec![FAST]],
        ..plain()
    };
    let restarting = || Rules {
        restarts,
        ..plain()
    };
    let stepping = Rules {
        faults: steps,
        ..plain()
    };
    let all = [
        (Wrong::LateTimer, ONE_HOLDS, plain()),
        (Wrong::ScalarCounting, ONE_HOLDS, four),
        (Wrong::OwnerOnlyRelease, ONE_HOLDS, three_terms()),
        (Wrong::UnqualifiedGrant, ONE_HOLDS, three_terms()),
        (Wrong::ShortQuarantine, ONE_HOLDS, restarting()),
        (Wrong::DroppedSave, ONE_HOLDS, restarting()),
        (Wrong::WallClock, ONE_HOLDS, stepping),
        (Wrong::ShortPromise, ONE_HOLDS, drifting),
    ];
    variants(lease, all)
}
