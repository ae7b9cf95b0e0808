//! Who votes for the active site server: at least three, and no zone with a majority.

use std::collections::{BTreeMap, BTreeSet};

use super::super::problem::Findings;
use super::super::resolve::{active_of, witnesses};
use super::super::typed::ReadSite;
use super::super::types::SiteServerSpec;
use super::super::words::list;
use super::{Topology, pair};
use crate::names::{ServerName, ZonePath};

/// Fewest voters of a site with a passive server (H36).
const VOTERS_MIN: usize = 3;

pub(super) fn check(
    topology: &Topology<'_>,
    site: &ReadSite<'_>,
    site_server: &SiteServerSpec,
    findings: &mut Findings,
) {
    check_witnesses(topology, site, site_server, findings);
    let (Some(spec), Some(active)) = (topology.spec(), active_of(site)) else {
        return;
    };
    let witnesses = witnesses(site.spec(), &active, site_server, spec);
    let voters: BTreeSet<&ServerName> = std::iter::once(&active)
        .chain(&site_server.passive)
        .chain(&witnesses)
        .collect();
    let spot = site.key_spot(&["siteServer", "passive"]);
    if voters.len() < VOTERS_MIN {
        let message = format!(
            "{} vote for the active site server: a passive one needs {VOTERS_MIN} voters",
            list(&voters)
        );
        findings.add(
            site.error("voters", spot, message)
                .tag("H36")
                .hint("name a witness: a third server, or a reconciler in a zone of its own"),
        );
        return;
    }
    if voters.len().is_multiple_of(2) {
        let last = witnesses.last().or_else(|| site_server.passive.last());
        let drop = last
            .map(|name| format!(", or drop `{name}`"))
            .unwrap_or_default();
        let message = format!(
            "{} voters survive no more losses than {} do: add a witness{drop}",
            voters.len(),
            voters.len() - 1
        );
        findings.add(site.warning("even-voters", spot, message).tag("H36"));
    }
    check_zones(topology, site, &voters, findings);
}

fn check_witnesses(
    topology: &Topology<'_>,
    site: &ReadSite<'_>,
    site_server: &SiteServerSpec,
    findings: &mut Findings,
) {
    let mut seen = BTreeSet::new();
    for (at, witness) in site_server.witnesses.iter().flatten().enumerate() {
        let index = at.to_string();
        let path = ["siteServer", "witnesses", index.as_str()];
        if Some(witness) == active_of(site).as_ref() || site_server.passive.contains(witness) {
            let message = format!("`{witness}` votes already: a witness is someone else");
            findings.add(site.error("witness", site.spot(&path), message));
        } else if !seen.insert(witness) {
            let message = format!("`{witness}` stands here twice");
            findings.add(site.error("duplicate", site.spot(&path), message));
        } else if !voter_exists(topology, site, witness) {
            let message = format!("`{witness}` is no server and no reconciler of the hierarchy");
            findings.add(site.error("witness", site.spot(&path), message));
        }
    }
}

fn voter_exists(topology: &Topology<'_>, site: &ReadSite<'_>, name: &ServerName) -> bool {
    let reconciler = topology
        .spec()
        .is_none_or(|spec| spec.reconcilers.contains_key(name));
    reconciler
        || super::has_server(site, name)
        || topology.incomplete()
        || topology
            .sites
            .values()
            .any(|other| super::has_server(other, name))
}

/// A zone with a majority of the votes takes the others' chance with it. It says nothing where
/// active and passives all are in rooms of it: then losing it loses the site server anyway.
fn check_zones(
    topology: &Topology<'_>,
    site: &ReadSite<'_>,
    voters: &BTreeSet<&ServerName>,
    findings: &mut Findings,
) {
    let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
    let zones = voters
        .iter()
        .filter_map(|voter| zone_of(topology, site, voter));
    for zone in zones {
        for prefix in prefixes(zone.as_str()) {
            *votes.entry(prefix).or_default() += 1;
        }
    }
    let majority = voters.len() / 2 + 1;
    let deepest = votes
        .iter()
        .filter(|(_, count)| **count >= majority)
        .max_by_key(|(zone, _)| zone.len());
    let Some((zone, count)) = deepest else {
        return;
    };
    let pair = pair(site);
    let mut holders = pair.iter().filter_map(|name| zone_of(topology, site, name));
    let inside = |holder: &ZonePath| prefixes(holder.as_str()).any(|prefix| prefix == *zone);
    let all_in_rooms = holders.all(|holder| inside(holder) && holder.as_str() != *zone);
    if all_in_rooms {
        return;
    }
    let message = format!(
        "zone `{zone}` holds {count} of {} votes: losing it stops the site server",
        voters.len()
    );
    let spot = site.key_spot(&["siteServer", "passive"]);
    findings.add(
        site.warning("zone-majority", spot, message)
            .hint("put active, passive and witness into three zones"),
    );
}

fn zone_of<'a>(
    topology: &'a Topology<'_>,
    site: &'a ReadSite<'_>,
    voter: &ServerName,
) -> Option<&'a ZonePath> {
    if let Some(server) = site.spec().servers.get(voter) {
        return server.zone.as_ref();
    }
    if let Some(reconciler) = topology.spec()?.reconcilers.get(voter) {
        return reconciler.zone.as_ref();
    }
    let mut others = topology.sites.values();
    others.find_map(|other| other.spec().servers.get(voter)?.zone.as_ref())
}

/// `a/b/c`: `a`, `a/b` and `a/b/c`.
fn prefixes(zone: &str) -> impl Iterator<Item = &str> {
    zone.match_indices('/')
        .map(|(at, _)| &zone[..at])
        .chain([zone])
}
