//! The active site server before there is a lease: H14.
//!
//! A changed `active` is carried out only after the old one is observed stopped. Silence is a
//! hold, `confirm-lost` included: two actives on one database are worse than none for a while.

use std::net::IpAddr;

use stead_schemas::plan::HoldReason;
use stead_schemas::record::RecordData;

use crate::publish::{Board, Standing, alias_keys};
use crate::world::{Hearing, SITE_SERVER, Server, World};

/// Why the site server may not be started on `new` yet: another server may still run it.
pub(crate) fn old_active(world: &World<'_>, new: &Server<'_>) -> Option<HoldReason> {
    let board = Board::new(world);
    world
        .servers
        .values()
        .filter(|server| server.name != new.name && !server.is_heard())
        .find(|server| may_be_active(world, &board, new, server))
        .map(hold)
}

/// A server that nobody has judged yet, as at the reconciler's start, needs no person.
fn hold(old: &Server<'_>) -> HoldReason {
    match (old.report, old.hearing) {
        (None, Hearing::Unclear { since }) => HoldReason::UnknownObservation {
            server: old.name.clone(),
            since,
        },
        _ => HoldReason::OldActiveUnknown {
            server: old.name.clone(),
        },
    }
}

/// Whether a server that does not answer may run the site server, by all that is known of it.
fn may_be_active(world: &World<'_>, board: &Board<'_>, new: &Server<'_>, old: &Server<'_>) -> bool {
    let had_it = old.assigned(&SITE_SERVER).is_some() || old.reported(&SITE_SERVER).is_some();
    match (old.report, old.hearing) {
        (Some(_), _) => had_it,
        (None, Hearing::Unclear { .. }) => true,
        (None, _) => match last_active(world, board) {
            LastActive::Never => false,
            LastActive::At(addresses) => {
                let is = |server: &Server<'_>| {
                    server
                        .declared
                        .is_some_and(|d| addresses.contains(&d.address))
                };
                is(old) || !is(new) && old.declared.is_none()
            }
            LastActive::Unknown => is_candidate(world, old),
        },
    }
}

/// What the alias, which outlives every reconciler's store, says of the last active.
enum LastActive {
    /// It was published at these addresses.
    At(Vec<IpAddr>),
    /// None was ever published.
    Never,
    /// There is no DNS, or it does not answer.
    Unknown,
}

fn last_active(world: &World<'_>, board: &Board<'_>) -> LastActive {
    let Some(dns) = board.dns else {
        return LastActive::Unknown;
    };
    let keys = alias_keys(&world.code.dns_label(), dns);
    let read = keys.iter().filter(|key| board.observed(key).is_some());
    let mut addresses = Vec::new();
    let mut known = false;
    for key in read {
        if board.standing(key) == Standing::Unknown {
            return LastActive::Unknown;
        }
        known = true;
        let values = board.first_set(key).into_iter().flat_map(|set| &set.values);
        addresses.extend(values.filter_map(|data| match data {
            RecordData::A(address) => Some(IpAddr::from(*address)),
            RecordData::Aaaa(address) => Some(IpAddr::from(*address)),
            RecordData::Srv { .. } => None,
        }));
    }
    match (known, addresses.is_empty()) {
        (false, _) => LastActive::Unknown,
        (true, true) => LastActive::Never,
        (true, false) => LastActive::At(addresses),
    }
}

/// Declared to be active or passive.
fn is_candidate(world: &World<'_>, server: &Server<'_>) -> bool {
    world
        .desired
        .and_then(|site| site.site_server.as_ref())
        .is_some_and(|site_server| {
            site_server.active == *server.name || site_server.passive.contains(server.name)
        })
}
