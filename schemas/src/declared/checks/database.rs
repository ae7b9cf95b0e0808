//! The site database: where it is, who holds it.

use std::collections::BTreeMap;

use super::super::leased::{DATABASE_GROUP, embedded_server};
use super::super::problem::Findings;
use super::super::typed::ReadSite;
use super::super::types::{DatabaseSpec, Engine, GroupSpec, MemberMode};
use super::site_server::is_of_pair;
use super::{Notices, Topology, has_server, no_such_server, pair};
use crate::names::GroupName;
use crate::role::{Role, SiteType};

pub(super) fn check(site: &ReadSite<'_>, findings: &mut Findings, notices: &mut Notices) {
    let Some(database) = &site.spec().database else {
        return;
    };
    match database.engine {
        Engine::Embedded => check_embedded(site, findings, notices),
        Engine::Postgresql => check_postgresql(site, database, findings),
    }
    check_members(site, database, findings);
}

/// CL-4: no two sites keep their content in one place; a local folder is another one on each server.
pub(super) fn check_libraries(topology: &Topology<'_>, findings: &mut Findings) {
    let mut first: BTreeMap<&str, &ReadSite<'_>> = BTreeMap::new();
    for site in topology.sites.values() {
        let Some(library) = &site.spec().content_library else {
            continue;
        };
        let url = library.url.trim_end_matches('/');
        if url.starts_with("file://") && !library.shared {
            continue;
        }
        let Some(other) = first.insert(url, site) else {
            continue;
        };
        let message = format!(
            "site {} keeps its content at `{url}` already",
            other.site.code
        );
        let finding = site.error("library", site.spot(&["contentLibrary", "url"]), message);
        findings.add(
            finding
                .tag("CL-4")
                .related(other.spot(&["contentLibrary", "url"]), "the first one")
                .hint("give each site a folder of its own: `.../$(code)`"),
        );
    }
}

/// H13: the embedded store is the only one that opens its file, on a server that isn't of the pair.
fn check_embedded(site: &ReadSite<'_>, findings: &mut Findings, notices: &mut Notices) {
    let spot = site.spot(&["database", "engine"]);
    let message = "the embedded database is for labs and tests";
    let notice = site.warning("embedded-database", spot, message).tag("H13");
    notices.add("embedded-database", "", notice);
    for key in ["host", "members", "listener", "user", "password"] {
        if site.site.tree.at(&["spec", "database", key]).is_some() {
            let message = format!("`{key}` belongs to postgresql, not to an embedded database");
            findings.add(site.error("database", site.key_spot(&["database", key]), message));
        }
    }
    check_name(site, findings);
    let path = ["database", "server"];
    match embedded_server(site.spec()) {
        Some(server) if is_of_pair(site, server) => {
            let message = format!(
                "`{server}` is the active or a passive site server: the store has to be on a third"
            );
            findings.add(site.error("database", site.spot(&path), message).tag("H13"));
        }
        Some(server) if !has_server(site, server) => {
            findings.add(no_such_server(site, server, &path));
        }
        None if !pair(site).is_empty() && site.damage.intact(&["siteServer"]) => {
            let message = "`server` is missing in `database`: the store needs a third server";
            let finding = site.error("missing", site.key_spot(&["database"]), message);
            findings.add(finding.tag("H13"));
        }
        Some(_) | None => {}
    }
}

/// It is planned as a group of its own, under this name.
fn check_name(site: &ReadSite<'_>, findings: &mut Findings) {
    let mut groups = site.spec().roles.iter();
    let taken = |(name, group): (&GroupName, &GroupSpec)| {
        name.as_str() == DATABASE_GROUP && group.role.is_some_and(|role| role != Role::Database)
    };
    if groups.any(taken) {
        let spot = site.key_spot(&["roles", DATABASE_GROUP]);
        let message =
            "`database` is the group of the embedded database: give this one another name";
        findings.add(site.error("database", spot, message));
    }
}

fn check_postgresql(site: &ReadSite<'_>, database: &DatabaseSpec, findings: &mut Findings) {
    let DatabaseSpec {
        host,
        members,
        listener,
        server,
        ..
    } = database;
    if host.is_none() && members.is_empty() && listener.is_none() {
        let message = "`database` doesn't say where it is: `host`, `members` or `listener`";
        findings.add(site.error("missing", site.key_spot(&["database"]), message));
    }
    if server.is_some() {
        let message = "`server` belongs to an embedded database: write `host`";
        let spot = site.key_spot(&["database", "server"]);
        findings.add(site.error("database", spot, message));
    }
    if host.is_some() && listener.is_some() {
        let message = "`host` and `listener` exclude each other: clients use one name";
        let spot = site.key_spot(&["database", "listener"]);
        findings.add(site.error("exclusive", spot, message).tag("AG-15"));
    }
}

fn check_members(site: &ReadSite<'_>, database: &DatabaseSpec, findings: &mut Findings) {
    if !database.members.is_empty() && site.spec().r#type == SiteType::Secondary {
        let message = "a secondary site's database has no members";
        let spot = site.key_spot(&["database", "members"]);
        findings.add(site.warning("database", spot, message).tag("AG-1"));
    }
    for (name, member) in &database.members {
        let path = ["database", "members", name.as_str()];
        if !has_server(site, name) {
            findings.add(no_such_server(site, name, &path));
        }
        if member.mode == MemberMode::Async && member.failover_target != Some(false) {
            let message = format!("`{name}` may lag: taking over there loses writes");
            let finding = site.warning("database", site.key_spot(&path), message);
            findings.add(finding.tag("AG-21").hint("say `failoverTarget: false`"));
        }
    }
}
