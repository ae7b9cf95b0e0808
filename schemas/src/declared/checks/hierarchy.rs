//! How sites stand to each other: one top, parents, numbers, roles that exist once.

use std::collections::BTreeMap;

use super::super::problem::{Finding, Findings};
use super::super::typed::ReadSite;
use super::super::words::nearest;
use super::{Notices, Topology, count, groups};
use crate::names::SiteCode;
use crate::role::{Role, Scope, SiteType};

/// SZ-1: primary sites below a central one.
const PRIMARIES_MAX: usize = 25;
/// SZ-1: secondary sites below a primary one.
const SECONDARIES_MAX: usize = 250;
/// DP-1: distribution points of a primary site and its secondaries.
const DISTRIBUTION_POINTS_MAX: usize = 5_000;

pub(super) fn check(topology: &Topology<'_>, findings: &mut Findings, notices: &mut Notices) {
    let top = check_top(topology, findings);
    for site in topology.sites.values() {
        check_parent(topology, site, findings);
        check_hierarchy_roles(site, top, findings);
    }
    check_numbers(topology, findings);
    if topology.codes.is_empty() && topology.hierarchy.is_some() && !topology.lost {
        let spot = topology.spot(&[]);
        let message = "the topology declares no site";
        notices.add("no-site", "", Finding::warning("no-site", spot, message));
    }
}

/// The one site without a parent; told where there is none, or another.
fn check_top<'a>(topology: &'a Topology<'_>, findings: &mut Findings) -> Option<&'a SiteCode> {
    let mut tops = topology.sites.values().filter(|site| {
        let spec = site.spec();
        let top = spec.parent.is_none() && spec.r#type == SiteType::Primary;
        spec.r#type == SiteType::Central || (top && site.damage.intact(&["parent"]))
    });
    // A central site is the top, whatever the order of codes says.
    let first = tops
        .clone()
        .find(|site| site.spec().r#type == SiteType::Central);
    let Some(first) = first.or_else(|| tops.clone().next()) else {
        let all_read = topology
            .sites
            .values()
            .all(|site| site.damage.intact(&["parent"]));
        if !topology.incomplete()
            && all_read
            && let Some(site) = topology.sites.values().next()
        {
            let message = "the hierarchy has no top site: each site has a parent";
            findings
                .add(site.error("top-site", site.site.spot, message).hint(
                    "the top is the central site, or the one primary site, without `parent`",
                ));
        }
        return None;
    };
    let code = &first.site.code;
    for other in tops.by_ref().filter(|site| site.site.code != *code) {
        let message = format!(
            "site {} is a top site, but {code} is the one already",
            other.site.code
        );
        findings.add(
            other
                .error("top-site", other.site.spot, message)
                .related(first.site.spot, "the top site")
                .hint("a primary site's parent is the central site"),
        );
    }
    topology.sites.get_key_value(code).map(|(code, _)| *code)
}

fn check_parent(topology: &Topology<'_>, site: &ReadSite<'_>, findings: &mut Findings) {
    if !site.damage.intact(&["parent"]) {
        return;
    }
    let site_type = site.spec().r#type;
    let spot = site.spot(&["parent"]);
    let Some(parent) = &site.spec().parent else {
        if site_type == SiteType::Secondary {
            let message = format!("secondary site {} has no parent", site.site.code);
            let finding = site
                .error("parent", site.key_spot(&["type"]), message)
                .tag("SZ-1");
            findings.add(finding.hint("write `parent:` with the code of a primary site"));
        }
        return;
    };
    let wanted = match site_type {
        SiteType::Central => {
            let message = "a central site is the top of the hierarchy: it has no parent";
            findings.add(site.error("parent", spot, message).tag("SZ-1"));
            return;
        }
        SiteType::Primary => SiteType::Central,
        SiteType::Secondary => SiteType::Primary,
    };
    let Some(above) = topology.sites.get(parent) else {
        if !topology.lost && !topology.codes.contains(parent) {
            let message = format!("there is no site {parent}");
            let codes = topology.codes.iter().map(|code| code.as_str());
            let finding = site.error("parent", spot, message);
            findings.add(match nearest(parent.as_str(), codes) {
                Some(near) => finding.hint(format!("did you mean `{near}`?")),
                None => finding,
            });
        }
        return;
    };
    let actual = above.spec().r#type;
    if actual != wanted {
        let message = format!(
            "the parent of a {site_type} site is a {wanted} site, and {parent} is a {actual} one"
        );
        let finding = site.error("parent", spot, message).tag("SZ-1");
        findings.add(finding.related(above.site.spot, format!("site {parent}")));
    }
}

/// NH-1, NH-2, NH-6: roles that exist once stand at the top site.
fn check_hierarchy_roles(site: &ReadSite<'_>, top: Option<&SiteCode>, findings: &mut Findings) {
    let Some(top) = top.filter(|top| **top != site.site.code) else {
        return;
    };
    for (name, _, role) in groups(site) {
        let rules = role.rules();
        let allowed = rules.site_types.contains(&site.spec().r#type);
        if rules.scope == Scope::Hierarchy && allowed {
            let message = format!("a hierarchy has one {role}, at its top site {top}");
            let spot = site.key_spot(&["roles", name.as_str()]);
            findings.add(site.error("hierarchy-role", spot, message).tag(rules.tag));
        }
    }
}

fn check_numbers(topology: &Topology<'_>, findings: &mut Findings) {
    let mut children: BTreeMap<&SiteCode, Vec<&ReadSite<'_>>> = BTreeMap::new();
    for site in topology.sites.values() {
        if let Some(parent) = &site.spec().parent {
            children.entry(parent).or_default().push(site);
        }
    }
    for site in topology.sites.values() {
        let below = children.get(&site.site.code).map_or(&[][..], Vec::as_slice);
        let (max, what) = match site.spec().r#type {
            SiteType::Central => (PRIMARIES_MAX, "primary sites below a central one"),
            SiteType::Primary => (SECONDARIES_MAX, "secondary sites below a primary one"),
            SiteType::Secondary => continue,
        };
        if below.len() > max {
            let message = format!(
                "{} has {} {what}: at most {max}",
                site.site.code,
                below.len()
            );
            findings.add(
                site.error("too-many-sites", site.site.spot, message)
                    .tag("SZ-1"),
            );
        }
        let points: usize = below
            .iter()
            .copied()
            .chain([*site])
            .map(distribution_points)
            .sum();
        if site.spec().r#type == SiteType::Primary && points > DISTRIBUTION_POINTS_MAX {
            let message = format!(
                "{} and its secondary sites have {points} distribution points: at most \
                 {DISTRIBUTION_POINTS_MAX}",
                site.site.code
            );
            findings.add(site.error("too-many", site.site.spot, message).tag("DP-1"));
        }
    }
}

fn distribution_points(site: &ReadSite<'_>) -> usize {
    groups(site)
        .filter(|(_, _, role)| *role == Role::DistributionPoint)
        .map(|(_, group, _)| count(group))
        .sum()
}
