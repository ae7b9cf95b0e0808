//! Role groups against the role catalogue: which roles, in which sites, how many, beside whom.

use std::collections::{BTreeMap, BTreeSet};

use super::super::problem::Findings;
use super::super::resolve::{active_of, role_of};
use super::super::typed::ReadSite;
use super::super::types::{GroupSpec, PullFrom, RoleSettings};
use super::super::words::nearest;
use super::site_server::is_of_pair;
use super::{Notices, candidates, count, groups, pair};
use crate::names::{GroupName, ServerName};
use crate::role::{CATALOGUE, Role, SiteType};
use crate::time::DurationOrNever;

/// DP-1: pull distribution points of a site, beyond the 250 others.
const PULL_POINTS_MAX: usize = 2_000;

pub(super) fn check(site: &ReadSite<'_>, findings: &mut Findings, notices: &mut Notices) {
    for (name, group) in &site.spec().roles {
        match role_of(name, group) {
            None => findings.add(unknown_role(site, name)),
            Some(role @ (Role::SiteServer | Role::Database)) => {
                let message =
                    format!("`{role}` isn't placed among `roles`: it has a key of its own");
                let finding = site.error("role", site.key_spot(&["roles", name.as_str()]), message);
                findings.add(finding.hint(format!("write `{role}:` beside `roles:`")));
            }
            Some(role) => check_group(site, name, group, role, findings, notices),
        }
    }
    check_numbers(site, findings);
    check_secondary(site, findings);
    check_neighbours(site, findings, notices);
    check_wanted(site, notices);
}

fn unknown_role(site: &ReadSite<'_>, name: &GroupName) -> super::Finding {
    let message = format!("`{name}` is no role: say which one it is");
    let finding = site.error("role", site.key_spot(&["roles", name.as_str()]), message);
    let near = nearest(name.as_str(), CATALOGUE.iter().map(|entry| entry.name));
    finding.hint(match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => "write `role: custom` for a program of your own".to_owned(),
    })
}

fn check_group(
    site: &ReadSite<'_>,
    name: &GroupName,
    group: &GroupSpec,
    role: Role,
    findings: &mut Findings,
    notices: &mut Notices,
) {
    let rules = role.rules();
    let site_type = site.spec().r#type;
    let spot = site.key_spot(&["roles", name.as_str()]);
    if !rules.site_types.contains(&site_type) {
        let message = if site_type == SiteType::Central && !rules.site_types.contains(&site_type) {
            format!("a central site has no clients, and so no {role}")
        } else {
            format!("a {site_type} site has no {role}")
        };
        let tag = match site_type {
            SiteType::Central => "HI-8",
            SiteType::Primary | SiteType::Secondary => rules.tag,
        };
        let finding = site.error("role-site-type", spot, message).tag(tag);
        let types = rules.site_types.iter().map(ToString::to_string);
        let types: Vec<String> = types.collect();
        findings.add(finding.hint(format!("{role} stands at {} sites", types.join(" and "))));
    }
    if rules.deprecated {
        let message = format!("{role} is deprecated: plan without it");
        let notice = site.warning("deprecated", spot, message).tag(rules.tag);
        notices.add("deprecated", rules.name, notice);
    }
    // H8: an instance that may still run elsewhere isn't started twice.
    if !rules.may_overlap && matches!(group.move_after, Some(DurationOrNever::After(_))) {
        let message = format!(
            "{role} may not run twice: when its server stays lost it isn't moved, but held for \
             `stead confirm-lost`"
        );
        let spot = site.spot(&["roles", name.as_str(), "moveAfter"]);
        let notice = site.warning("move-held", spot, message).tag("H8");
        notices.add("move-held", rules.name, notice);
    }
    if role == Role::ServiceConnectionPoint {
        check_connection_point(site, name, group, findings);
    }
    check_settings(site, name, group, role, findings);
}

/// SP-4, NH-7, G-50: not on either server of a pair.
fn check_connection_point(
    site: &ReadSite<'_>,
    name: &GroupName,
    group: &GroupSpec,
    findings: &mut Findings,
) {
    if !site.damage.intact(&["servers", "siteServer"]) {
        return;
    }
    let on: Vec<&ServerName> = match &group.servers {
        Some(servers) => servers.iter().collect(),
        None => candidates(site, group).collect(),
    };
    let Some(server) = on.into_iter().find(|server| is_of_pair(site, server)) else {
        return;
    };
    let path: &[&str] = if group.servers.is_some() {
        &["servers"]
    } else {
        &["among"]
    };
    let path: Vec<&str> = ["roles", name.as_str()]
        .into_iter()
        .chain(path.iter().copied())
        .collect();
    let message = format!(
        "the service connection point may not be on a server of the site server pair, and \
         `{server}` is one"
    );
    let finding = site
        .error("connection-point", site.key_spot(&path), message)
        .tag("SP-4");
    findings.add(finding.hint("name or label other servers (NH-7, G-50)"));
}

/// Settings of roles that have some of their own.
fn check_settings(
    site: &ReadSite<'_>,
    name: &GroupName,
    group: &GroupSpec,
    role: Role,
    findings: &mut Findings,
) {
    let Some(settings) = &group.settings else {
        return;
    };
    let settings = serde_json::Value::Object(settings.clone().into_iter().collect());
    let path = ["roles", name.as_str(), "settings"];
    match RoleSettings::read(role, settings) {
        Err((key, why)) => {
            let path: Vec<&str> = path.into_iter().chain(key.as_deref()).collect();
            let message = format!("settings of {role}: {why}");
            findings.add(site.error("settings", site.spot(&path), message));
        }
        Ok(RoleSettings::DistributionPoint(settings)) => {
            for (at, from) in settings.pull_from.iter().enumerate() {
                check_source(site, name, at, from, findings);
            }
        }
        Ok(RoleSettings::SoftwareUpdatePoint(_) | RoleSettings::Free) => {}
    }
}

/// A pull distribution point pulls from distribution points of the site.
fn check_source(
    site: &ReadSite<'_>,
    name: &GroupName,
    at: usize,
    from: &PullFrom,
    findings: &mut Findings,
) {
    let PullFrom(group) = from;
    let index = at.to_string();
    let path = [
        "roles",
        name.as_str(),
        "settings",
        "pullFrom",
        index.as_str(),
    ];
    let known = site.spec().roles.get(group);
    if site.damage.groups.contains(group.as_str()) || group == name {
        if group == name {
            let message = format!("`{name}` can't pull from itself");
            findings.add(site.error("settings", site.spot(&path), message));
        }
        return;
    }
    if known.and_then(|spec| role_of(group, spec)) != Some(Role::DistributionPoint) {
        let message = format!("`{group}` is no group of distribution points of this site");
        findings.add(site.error("settings", site.spot(&path), message));
    }
}

/// The catalogue's limits on instances of a site.
fn check_numbers(site: &ReadSite<'_>, findings: &mut Findings) {
    let site_type = site.spec().r#type;
    let mut totals: BTreeMap<(&str, bool), (usize, &GroupName, Role)> = BTreeMap::new();
    for (name, group, role) in groups(site) {
        let pull = role == Role::DistributionPoint && pulls(group);
        let total = totals.entry((role.name(), pull)).or_insert((0, name, role));
        total.0 += count(group);
        total.1 = name;
    }
    for ((_, pull), (total, last, role)) in totals {
        let rules = role.rules();
        if !rules.site_types.contains(&site_type) {
            continue;
        }
        let max = if pull {
            Some(PULL_POINTS_MAX)
        } else {
            rules.max_in(site_type).map(usize::from)
        };
        let Some(max) = max.filter(|max| total > *max) else {
            continue;
        };
        let which = if pull { "pulling " } else { "" };
        let message = format!(
            "a {site_type} site takes at most {max} {which}{role} instances, and here are {total}"
        );
        let spot = site.key_spot(&["roles", last.as_str()]);
        findings.add(site.error("too-many", spot, message).tag(rules.tag));
    }
}

fn pulls(group: &GroupSpec) -> bool {
    group
        .settings
        .as_ref()
        .is_some_and(|settings| settings.contains_key("pullFrom"))
}

/// MP-1: a secondary site has exactly one management point, on its site server.
fn check_secondary(site: &ReadSite<'_>, findings: &mut Findings) {
    if site.spec().r#type != SiteType::Secondary
        || !site.damage.intact(&["servers", "siteServer", "roles"])
    {
        return;
    }
    let mut points = groups(site).filter(|(_, _, role)| *role == Role::ManagementPoint);
    let Some((name, group, _)) = points.next() else {
        let message = "a secondary site has one management point, on its site server";
        let finding = site.error("management-point", site.key_spot(&["type"]), message);
        findings.add(finding.tag("MP-1"));
        return;
    };
    let Some(active) = active_of(site) else {
        return;
    };
    let by_hand = group.servers.as_deref();
    let only_one = site.spec().servers.len() == 1;
    let fits = match by_hand {
        Some(servers) => servers.first() == Some(&active),
        None => only_one,
    };
    if !fits && count(group) == 1 {
        let message =
            format!("the management point of a secondary site is on its site server, `{active}`");
        let spot = site.key_spot(&["roles", name.as_str()]);
        let finding = site.error("management-point", spot, message).tag("MP-1");
        findings.add(finding.hint(format!("write `servers: [{active}]`")));
    }
}

/// Roles beside others on a server.
fn check_neighbours(site: &ReadSite<'_>, findings: &mut Findings, notices: &mut Notices) {
    if !site.damage.intact(&["servers"]) {
        return;
    }
    let mut providers: BTreeSet<&ServerName> = BTreeSet::new();
    let pair = pair(site);
    for (name, group, role) in groups(site) {
        for (at, server) in group.servers.iter().flatten().enumerate() {
            let index = at.to_string();
            let path = ["roles", name.as_str(), "servers", index.as_str()];
            if role == Role::SmsProvider && !providers.insert(server) {
                let message = format!("`{server}` has an SMS Provider already: one a server");
                findings.add(
                    site.error("provider", site.spot(&path), message)
                        .tag("PR-1"),
                );
            }
            if role == Role::SmsProvider && pair.contains(server) {
                let message = format!("`{server}` has an SMS Provider anyway, as a site server");
                let notice = site.warning("provider", site.spot(&path), message);
                notices.add("provider", "", notice.tag("SS-6"));
            }
            if role == Role::ReportingPoint && pair.contains(server) {
                let message = format!(
                    "the reporting point's database has to be on neither site server, and \
                     `{server}` is one"
                );
                let notice = site.warning("reporting-point", site.spot(&path), message);
                notices.add("reporting-point", "", notice.tag("SR-5"));
            }
        }
        if role == Role::FallbackStatusPoint && !has_server_alone(site, name, group) {
            let message = "a fallback status point takes unauthenticated messages: give it a \
                           server of its own";
            let spot = site.key_spot(&["roles", name.as_str()]);
            let notice = site
                .warning("fallback-status-point", spot, message)
                .tag("FS-6");
            notices.add("fallback-status-point", "", notice);
        }
    }
}

/// Whether a group can be on servers that no other group names or matches.
fn has_server_alone(site: &ReadSite<'_>, name: &GroupName, group: &GroupSpec) -> bool {
    let mut taken: BTreeSet<&ServerName> = BTreeSet::new();
    for (other, spec, _) in groups(site).filter(|(other, ..)| *other != name) {
        debug_assert_ne!(other, name);
        match &spec.servers {
            Some(servers) => taken.extend(servers),
            None => taken.extend(candidates(site, spec)),
        }
    }
    match &group.servers {
        Some(servers) => servers.iter().all(|server| !taken.contains(server)),
        None => {
            let free = candidates(site, group).filter(|server| !taken.contains(server));
            free.count() >= count(group)
        }
    }
}

/// Roles a site should have.
fn check_wanted(site: &ReadSite<'_>, notices: &mut Notices) {
    if site.spec().r#type == SiteType::Secondary || !site.damage.intact(&["roles", "siteServer"]) {
        return;
    }
    let has = |wanted: Role| groups(site).any(|(_, _, role)| role == wanted);
    let spot = site.key_spot(&["type"]);
    if !has(Role::SoftwareUpdatePoint) {
        let message = "central and primary sites should have a software update point";
        let notice = site.warning("update-point", spot, message).tag("SU-1");
        notices.add("update-point", "", notice);
    }
    if active_of(site).is_none() && !has(Role::SmsProvider) {
        let message = "the site has no SMS Provider: nobody can administer it";
        let notice = site.warning("provider", spot, message).tag("PR-1");
        notices.add("no-provider", "", notice);
    }
}
