//! The site server: where it runs, where it stands by, and what a pair needs.
//!
//! Gaps win over rules (H29): several passives (G-3 over SR-1), roles on a passive (SP-9, SR-4) and
//! a passive on a database member (SP-15) are allowed.

use std::collections::BTreeSet;

use super::super::problem::Findings;
use super::super::resolve::{active_of, service_desired};
use super::super::typed::ReadSite;
use super::super::types::{
    ContentLibrarySpec, DatabaseSpec, Engine, LeaseSpec, Mode, SiteServerSpec,
};
use super::{Notices, Topology, has_server, no_such_server, pair, votes};
use crate::names::ServerName;
use crate::role::{Role, SiteType};
use crate::time::DurationMs;
use crate::wire::Program;

pub(super) fn check(
    topology: &Topology<'_>,
    site: &ReadSite<'_>,
    findings: &mut Findings,
    notices: &mut Notices,
) {
    if !site.damage.intact(&["siteServer"]) {
        return;
    }
    let Some(site_server) = &site.spec().site_server else {
        if site.spec().r#type != SiteType::Secondary {
            let message = "the site has no `siteServer`: nothing does its own work";
            let spot = site.key_spot(&["type"]);
            notices.add(
                "site-server",
                "",
                site.warning("no-site-server", spot, message),
            );
        }
        return;
    };
    check_servers(site, site_server, findings);
    check_lease(site, site_server, findings);
    if site_server.passive.is_empty() {
        return;
    }
    if site.spec().r#type == SiteType::Secondary {
        let message = "a secondary site has no passive site server";
        let finding = site.error(
            "passive",
            site.key_spot(&["siteServer", "passive"]),
            message,
        );
        findings.add(finding.tag("SR-2"));
        return;
    }
    check_database(site, findings);
    check_content_library(site, findings);
    check_fencing(site, site_server, findings);
    votes::check(topology, site, site_server, findings);
}

fn check_servers(site: &ReadSite<'_>, site_server: &SiteServerSpec, findings: &mut Findings) {
    match &site_server.active {
        Some(active) if !has_server(site, active) => {
            findings.add(no_such_server(site, active, &["siteServer", "active"]));
        }
        None if active_of(site).is_none() && site.damage.intact(&["servers", "roles"]) => {
            let message = "`siteServer` doesn't say which server is `active`";
            let finding = site.error("missing", site.key_spot(&["siteServer"]), message);
            findings.add(finding.hint("write `active:` with the name of a server of the site"));
        }
        Some(_) | None => {}
    }
    let active = active_of(site);
    let mut seen = BTreeSet::new();
    for (at, passive) in site_server.passive.iter().enumerate() {
        let index = at.to_string();
        let path = ["siteServer", "passive", index.as_str()];
        if Some(passive) == active.as_ref() {
            let message = format!("`{passive}` is the active site server: it can't be passive too");
            findings.add(site.error("passive", site.spot(&path), message));
        } else if !seen.insert(passive) {
            let message = format!("`{passive}` stands here twice");
            findings.add(site.error("duplicate", site.spot(&path), message));
        } else if !has_server(site, passive) {
            findings.add(no_such_server(site, passive, &path));
        }
    }
}

/// SS-2: active and passive use one database.
fn check_database(site: &ReadSite<'_>, findings: &mut Findings) {
    if !site.damage.intact(&["database"]) {
        return;
    }
    let spot = site.key_spot(&["siteServer", "passive"]);
    match &site.spec().database {
        None => {
            let message = "a site with a passive server needs a `database` that both can reach";
            let finding = site.error("shared-database", spot, message).tag("SS-2");
            findings.add(finding.hint("for labs: `database: {engine: embedded}`"));
        }
        Some(DatabaseSpec {
            engine: Engine::Postgresql,
            host: Some(host),
            ..
        }) if host == "localhost" => {
            let message = "`localhost` is another machine on the passive server: name the host";
            let spot = site.spot(&["database", "host"]);
            findings.add(site.error("shared-database", spot, message).tag("SS-2"));
        }
        Some(_) => {}
    }
}

/// H9: a frozen site server that wakes after a failover is stopped by the token, which a foreign
/// program does not check, or by its database login, which an embedded database does not have.
fn check_fencing(site: &ReadSite<'_>, site_server: &SiteServerSpec, findings: &mut Findings) {
    let embedded = site
        .spec()
        .database
        .as_ref()
        .is_some_and(|database| database.engine == Engine::Embedded);
    let service = site_server.service.as_ref();
    let program = service.and_then(|service| service_desired(service, Role::SiteServer));
    let foreign = program.is_some_and(|service| service.program != Program::BuiltIn);
    if site_server.failover == Some(Mode::Manual)
        || !(embedded && foreign)
        || !site.damage.intact(&["database"])
    {
        return;
    }
    let spot = match site_server.failover {
        Some(_) => site.spot(&["siteServer", "failover"]),
        None => site.key_spot(&["siteServer", "passive"]),
    };
    let message = "`failover: automatic`, the default, can't fence this site server: a program of \
                   your own checks no token, and an embedded database has no logins to lock";
    let finding = site.error("fencing", spot, message).tag("H9");
    findings.add(finding.hint("write `failover: manual`, or declare a postgresql `database`"));
}

/// SS-2, SP-12: active and passive use one content library.
fn check_content_library(site: &ReadSite<'_>, findings: &mut Findings) {
    if !site.damage.intact(&["contentLibrary"]) {
        return;
    }
    match &site.spec().content_library {
        None => {
            let message =
                "a site with a passive server needs a `contentLibrary` that both can reach";
            let spot = site.key_spot(&["siteServer", "passive"]);
            let finding = site.error("shared-library", spot, message).tag("SP-12");
            findings.add(finding.hint("write `contentLibrary: {url: \"s3://bucket/P01\"}`"));
        }
        Some(ContentLibrarySpec { url, shared: false }) if url.starts_with("file://") => {
            let message = format!("`{url}` is another folder on the passive server");
            let spot = site.spot(&["contentLibrary", "url"]);
            let finding = site.error("shared-library", spot, message).tag("SP-12");
            findings
                .add(finding.hint("say `shared: true` where all servers mount the same folder"));
        }
        Some(_) => {}
    }
}

/// Within a lease there is time to renew twice and to stop: with less, one lost answer is a
/// failover (H12).
fn check_lease(site: &ReadSite<'_>, site_server: &SiteServerSpec, findings: &mut Findings) {
    let Some(lease) = &site_server.lease else {
        return;
    };
    let LeaseSpec {
        duration,
        renew,
        stop_before,
        drift: _,
    } = lease;
    let duration = duration.unwrap_or(DurationMs::seconds(3));
    let renew = renew.unwrap_or(DurationMs(500));
    let stop_before = stop_before.unwrap_or(DurationMs(500));
    let needed = DurationMs(2 * renew.0 + stop_before.0);
    if renew.0 == 0 || stop_before.0 == 0 || needed >= duration {
        let message = format!(
            "a lease of {duration} is too short: renewed every {renew} and stopped {stop_before} \
             before its end, it has to be longer than 2 x {renew} + {stop_before} = {needed}"
        );
        let spot = site.key_spot(&["siteServer", "lease"]);
        findings.add(site.error("lease", spot, message).tag("H12"));
    }
}

/// Whether a server is the active or a passive one of a pair.
pub(super) fn is_of_pair(site: &ReadSite<'_>, server: &ServerName) -> bool {
    pair(site).contains(server)
}
