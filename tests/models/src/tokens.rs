//! The model *tokens*: the database's row and the name's record, each a register that is claimed, a
//! holder whose machine stands still, clocks too, and a database that falls back to a replica
//! without the last claim (H5, H6).
//!
//! Under a pause two may count a lease as theirs (I1a is checked without); what must hold is I5.

use stateright::Property;

use super::lease::properties;
use super::rules::{Faults, Invariant, Rules, Variant, Wrong, variants};
use super::site::Site;
use super::world::World;

const FENCED: &str = "fenced, I5";

/// No write of an older term is accepted once a newer one was claimed.
#[must_use]
pub fn tokens(rules: Rules) -> World {
    let mut properties = properties();
    properties.push(Property::always(FENCED, |_, site: &Site| {
        site.broken != Some(Invariant::Fenced)
    }));
    if rules.wrong.is_none() && rules.faults.pauses > 0 {
        properties.push(Property::sometimes(
            "two hold, one was paused",
            |_, site: &Site| site.at(0).holds() && site.at(1).holds(),
        ));
    }
    World { rules, properties }
}

/// The bounds that are exhausted for the database: a pause and a stale replica.
#[must_use]
pub fn database_bounds() -> Rules {
    Rules {
        database: true,
        elected: true,
        faults: Faults {
            pauses: 1,
            database_failovers: 1,
            ..Faults::default()
        },
        ..Rules::plain()
    }
}

/// The bounds that are exhausted for the name: a pause. The two registers have nothing to do with each
/// other, so neither is followed under each state of the other.
#[must_use]
pub fn dns_bounds() -> Rules {
    Rules {
        dns: true,
        elected: true,
        faults: Faults {
            pauses: 1,
            ..Faults::default()
        },
        ..Rules::plain()
    }
}

/// Each way to go wrong that this model must find.
#[must_use]
pub fn tokens_variants() -> Vec<Variant> {
    let still = Rules {
        faults: Faults::default(),
        ..dns_bounds()
    };
    let all = [
        (Wrong::NoTokenAtDns, FENCED, still),
        (Wrong::StaleClaim, FENCED, database_bounds()),
    ];
    variants(tokens, all)
}
