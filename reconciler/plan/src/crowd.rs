//! Crowd: how full each zone is while instances of one group are placed (`spread: zone`).
//!
//! Counted at every level of a zone's path, so that racks of one room are told apart from rooms.
//! What to do about a full zone is decided in `place`.

use std::collections::BTreeMap;

use stead_schemas::names::{ServerName, ZonePath};

use crate::world::{Server, World};

/// How many instances there are in each zone and in all zones around it; nothing where the group
/// is not spread. Servers without a zone share one.
pub(crate) struct Crowd<'a> {
    spread: bool,
    counts: BTreeMap<&'a str, u32>,
}

impl<'a> Crowd<'a> {
    pub(crate) fn of(world: &World<'a>, spread: bool, targets: &[&'a ServerName]) -> Self {
        let mut crowd = Self {
            spread,
            counts: BTreeMap::new(),
        };
        for target in targets {
            crowd.change(world, target, |count| count + 1);
        }
        crowd
    }

    pub(crate) fn change(
        &mut self,
        world: &World<'a>,
        server: &ServerName,
        change: fn(u32) -> u32,
    ) {
        if self.spread {
            for zone in zones(&world.servers[server]) {
                let count = self.counts.entry(zone).or_default();
                *count = change(*count);
            }
        }
    }

    /// In a server's zones, the widest first.
    pub(crate) fn around(&self, server: &Server<'a>) -> Vec<u32> {
        if !self.spread {
            return Vec::new();
        }
        let count = |zone: &str| self.counts.get(zone).copied().unwrap_or(0);
        zones(server).map(count).collect()
    }
}

/// `seattle`, `seattle/room-1`, `seattle/room-1/rack-3`.
fn zones<'a>(server: &Server<'a>) -> impl Iterator<Item = &'a str> + use<'a> {
    let zone = server.declared.and_then(|declared| declared.zone.as_ref());
    let path = zone.map_or("", ZonePath::as_str);
    path.match_indices('/')
        .map(|(end, _)| end)
        .chain([path.len()])
        .map(move |end| &path[..end])
}
