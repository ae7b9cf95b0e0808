//! Ports: which group has which port of which server, so that placement puts no two on one.
//!
//! Two programs on one port of a server can't both run. What is placed by hand has its ports
//! first (two by hand on one are refused by `check`), then counted instances that are there
//! already. Where an instance goes instead is decided in `place`; groups without a program take
//! no port.

use std::collections::{BTreeMap, BTreeSet};

use stead_schemas::desired::{GroupDesired, SiteServerDesired};
use stead_schemas::names::{GroupName, ServerName};
use stead_schemas::role::Role;

use crate::spec::Source;
use crate::world::{SITE_SERVER, Server, World};

/// Who has which port of which server.
#[derive(Debug, Default, Clone)]
pub(crate) struct Ports<'a> {
    taken: BTreeMap<(&'a ServerName, u16), &'a GroupName>,
}

impl<'a> Ports<'a> {
    /// A group's port is its own on these servers; who had one first keeps it.
    pub(crate) fn claim(&mut self, group: &'a GroupDesired, servers: &[&'a ServerName]) {
        if runs(group) {
            for server in servers {
                let taken = self.taken.entry((server, group.port));
                taken.or_insert(&group.name);
            }
        }
    }

    /// The site server's port, also where it only stands by.
    pub(crate) fn claim_site_server(&mut self, site_server: &'a SiteServerDesired) {
        let runs = Source::SiteServer(site_server).unrunnable(Role::SiteServer);
        if runs.is_none() {
            for server in site_server.passive.iter().chain([&site_server.active]) {
                let key = (server, site_server.port);
                self.taken.insert(key, &*SITE_SERVER);
            }
        }
    }

    /// The other group that has the port which an instance of `group` would need on a server.
    pub(crate) fn in_the_way(
        &self,
        group: &GroupDesired,
        server: &ServerName,
    ) -> Option<&'a GroupName> {
        let taken = self.taken.get(&(server, group.port)).copied();
        taken.filter(|other| **other != group.name && runs(group))
    }

    /// Which of the counted instances that are there stand on a port that is another's.
    ///
    /// Of two counted ones the port is that one's which was given it first, as far as is seen,
    /// else the first by name. On a server that is not heard nothing is known to be in the way.
    pub(crate) fn clashes(
        &self,
        world: &World<'a>,
        there: &[(&'a GroupDesired, &[&'a ServerName])],
    ) -> BTreeSet<(&'a GroupName, &'a ServerName)> {
        let mut order: Vec<(bool, &GroupDesired, &Server<'a>)> = there
            .iter()
            .flat_map(|(group, servers)| servers.iter().map(move |server| (*group, *server)))
            .map(|(group, server)| (group, &world.servers[server]))
            .map(|(group, server)| (is_new(group, server), group, server))
            .collect();
        order.sort_by_key(|(new, group, _)| (*new, &group.name));
        let mut ports = self.clone();
        let mut clashes = BTreeSet::new();
        for (_, group, server) in order {
            if server.is_heard() && ports.in_the_way(group, server.name).is_some() {
                clashes.insert((&group.name, server.name));
            } else {
                ports.claim(group, &[server.name]);
            }
        }
        clashes
    }
}

fn runs(group: &GroupDesired) -> bool {
    Source::Declared(group).unrunnable(group.role).is_none()
}

/// Its instance there was assigned another port than is declared now.
fn is_new(group: &GroupDesired, server: &Server<'_>) -> bool {
    let assigned = server.assigned(&group.name);
    assigned.is_none_or(|spec| spec.port != group.port)
}
