//! What the documents mean together: references, limits, rules of roles and of availability.
//!
//! Every rule names the requirement it comes from. A check whose input couldn't be read is left
//! out: nothing is told that only follows from another error (H37). Nothing is decided here about
//! where counted instances go.

mod backup;
mod database;
mod hierarchy;
mod later;
mod placement;
mod publishing;
mod roles;
mod servers;
mod service;
mod site_server;
mod votes;

use std::collections::{BTreeMap, BTreeSet};

use super::problem::{Finding, Findings};
use super::resolve::{active_of, role_of};
use super::tree::{Node, Spot, Step};
use super::typed::{ReadSite, label};
use super::types::{GroupSpec, Hierarchy, HierarchySpec};
use crate::names::{GroupName, ServerName, SiteCode};
use crate::role::Role;

/// Everything checks look at.
pub(super) struct Topology<'a> {
    /// The hierarchy document, where it could be read, and its tree.
    pub(super) hierarchy: Option<(&'a Hierarchy, &'a Node)>,
    /// Sites that could be read, by code.
    pub(super) sites: BTreeMap<&'a SiteCode, &'a ReadSite<'a>>,
    /// All site codes, also of sites that couldn't be read.
    pub(super) codes: BTreeSet<&'a SiteCode>,
    /// Whether a document couldn't be understood at all.
    pub(super) lost: bool,
}

impl Topology<'_> {
    /// Whether there may be a site or server that isn't known for being unreadable.
    fn incomplete(&self) -> bool {
        self.lost || self.codes.len() > self.sites.len()
    }

    fn spec(&self) -> Option<&HierarchySpec> {
        self.hierarchy.map(|(hierarchy, _)| &hierarchy.spec)
    }

    /// A spot in the hierarchy document.
    fn spot(&self, path: &[Step<'_>]) -> Spot {
        match self.hierarchy {
            Some((_, tree)) => {
                let (key, node) = tree.walk(path);
                label(key.map(|key| key.spot), node)
            }
            None => Spot::default(),
        }
    }
}

/// Runs every check.
pub(super) fn run(topology: &Topology<'_>, findings: &mut Findings) {
    let mut notices = Notices::default();
    hierarchy::check(topology, findings, &mut notices);
    servers::check(topology, findings);
    publishing::check(topology, findings);
    database::check_libraries(topology, findings);
    later::check_hierarchy(topology, &mut notices);
    for site in topology.sites.values() {
        site_server::check(topology, site, findings, &mut notices);
        database::check(site, findings, &mut notices);
        backup::check(site, findings);
        roles::check(site, findings, &mut notices);
        placement::check(site, findings, &mut notices);
        service::check(site, findings, &mut notices);
        later::check_site(topology, site, &mut notices);
    }
    notices.tell(findings);
}

/// Warnings that hold for many sites alike: told once, at the first place, with a count.
#[derive(Default)]
pub(super) struct Notices {
    list: BTreeMap<(&'static str, String), (Finding, u32)>,
}

impl Notices {
    /// Adds a warning under a key; what the key stands for is counted.
    fn add(&mut self, code: &'static str, key: impl Into<String>, finding: Finding) {
        let entry = self.list.entry((code, key.into()));
        entry
            .and_modify(|(_, count)| *count += 1)
            .or_insert((finding, 1));
    }

    fn tell(self, findings: &mut Findings) {
        for (finding, count) in self.list.into_values() {
            findings.add_unless_told(finding.counted(count));
        }
    }
}

/// The groups of a site with a role, and their roles.
fn groups<'a>(
    site: &'a ReadSite<'_>,
) -> impl Iterator<Item = (&'a GroupName, &'a GroupSpec, Role)> {
    site.spec()
        .roles
        .iter()
        .filter_map(|(name, group)| Some((name, group, role_of(name, group)?)))
}

/// The active and passive servers, where the site has a passive one.
fn pair(site: &ReadSite<'_>) -> Vec<ServerName> {
    let Some(site_server) = &site.spec().site_server else {
        return Vec::new();
    };
    if site_server.passive.is_empty() {
        return Vec::new();
    }
    active_of(site)
        .into_iter()
        .chain(site_server.passive.iter().cloned())
        .collect()
}

/// How many instances a group declares.
fn count(group: &GroupSpec) -> usize {
    match (&group.servers, group.instances) {
        (Some(servers), _) => servers.len(),
        (None, Some(instances)) => usize::from(instances),
        (None, None) => 0,
    }
}

/// The servers a counted group may use: those with all labels.
fn candidates<'a>(
    site: &'a ReadSite<'_>,
    group: &'a GroupSpec,
) -> impl Iterator<Item = &'a ServerName> {
    let servers = site.spec().servers.iter();
    servers
        .filter(|(_, server)| {
            let mut wanted = group.among.iter().flatten();
            wanted.all(|(label, value)| server.labels.get(label) == Some(value))
        })
        .map(|(name, _)| name)
}

/// Whether a site declares a server; true also where that can't be known.
fn has_server(site: &ReadSite<'_>, name: &ServerName) -> bool {
    site.spec().servers.contains_key(name)
        || site.damage.servers.contains(name.as_str())
        || !site.damage.part_intact("servers")
}

/// An error for a name that is no server of the site.
fn no_such_server(site: &ReadSite<'_>, name: &ServerName, path: &[&str]) -> Finding {
    let finding = site.error(
        "unknown-server",
        site.spot(path),
        format!("site {} has no server `{name}`", site.site.code),
    );
    let known = site.spec().servers.keys().map(ServerName::as_str);
    match super::words::nearest(name.as_str(), known) {
        Some(near) => finding.hint(format!("did you mean `{near}`?")),
        None => finding,
    }
}
