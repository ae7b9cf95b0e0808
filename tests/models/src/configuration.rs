//! The model *configuration*: solo, taking voters back, and a witness that forgets (H3, H4). Clocks
//! run at one rate.

use site_lease::Term;
use stateright::Property;

use super::lease::{ONE_HOLDS, one_holds, properties};
use super::rules::{Faults, Rules, Variant, Wrong, variants};
use super::site::Site;
use super::world::World;

/// At most one holds, whoever votes.
#[must_use]
pub fn configuration(rules: Rules) -> World {
    let mut properties = properties();
    properties.push(one_holds());
    if rules.wrong.is_none() {
        properties.push(Property::sometimes("solo is in force", |_, site: &Site| {
            let saved = site.at(0).node.saved();
            let in_force = &saved.configuration.in_force;
            in_force.members.len() == 1 && in_force.epoch.term > Term(0)
        }));
        properties.push(Property::sometimes("all are back", |_, site: &Site| {
            let in_force = &site.at(0).node.saved().configuration.in_force;
            in_force.epoch.number == 2 && in_force.members.len() == 3
        }));
    }
    World { rules, properties }
}

/// The bounds that are exhausted.
#[must_use]
pub fn configuration_bounds() -> Rules {
    Rules {
        elected: true,
        faults: Faults {
            changes: 2,
            amnesias: 1,
            ..Faults::default()
        },
        ..Rules::plain()
    }
}

/// Each way to go wrong that this model must find.
#[must_use]
pub fn configuration_variants() -> Vec<Variant> {
    let with = |changes, amnesias| Rules {
        faults: Faults {
            changes,
            amnesias,
            ..Faults::default()
        },
        ..configuration_bounds()
    };
    let all = [
        (Wrong::AloneWithoutWitness, ONE_HOLDS, with(1, 0)),
        (Wrong::OldIncarnation, ONE_HOLDS, with(0, 1)),
    ];
    variants(configuration, all)
}
