//! What is declared, checked, and not acted on yet: said once, so that nobody relies on it.
//!
//! Each line here goes when its issue lands.

use super::super::leased::{embedded_server, is_leased};
use super::super::problem::Finding;
use super::super::tree::Step;
use super::super::typed::ReadSite;
use super::super::types::{Engine, Management, SiteSpec};
use super::{Notices, Topology};
use crate::names::ServerName;

pub(super) fn check_hierarchy(topology: &Topology<'_>, notices: &mut Notices) {
    let Some(spec) = topology.spec() else {
        return;
    };
    let guards = &spec.guards;
    let given = [
        (&["agents"][..], spec.agents.is_some()),
        (&["changeWindows"], !spec.change_windows.is_empty()),
        (&["guards", "canary"], guards.canary.is_some()),
        (&["guards", "approval"], guards.approval.is_some()),
        (&["guards", "survive"], guards.survive.is_some()),
    ];
    for (path, _) in given.into_iter().filter(|(_, is)| *is) {
        let steps: Vec<Step<'_>> = ["spec"]
            .iter()
            .chain(path)
            .map(|key| Step::Key(key))
            .collect();
        let name = path.join(".");
        let finding = Finding::warning("not-yet", topology.spot(&steps), not_yet(&name));
        notices.add("not-yet", name, finding);
    }
}

pub(super) fn check_site(topology: &Topology<'_>, site: &ReadSite<'_>, notices: &mut Notices) {
    let SiteSpec {
        site_server,
        database,
        content_library: _,
        backup,
        boundary_groups,
        management,
        prune,
        publishing,
        roles,
        servers,
        parent: _,
        protect: _,
        r#type: _,
    } = site.spec();
    let pair = site_server.as_ref();
    let leased = pair.is_some_and(is_leased);
    let passive = pair.is_some_and(|site_server| !site_server.passive.is_empty());
    let limits = pair.is_some_and(|s| s.limits.is_some() || s.lease.is_some());
    let planned = database.as_ref().is_some_and(|database| {
        leased || database.engine == Engine::Embedded && embedded_server(site.spec()).is_some()
    });
    let given = [
        (&["siteServer", "passive"][..], passive && !leased),
        (&["siteServer", "limits"], limits && !leased),
        (&["database"], database.is_some() && !planned),
        (&["backup"], backup.is_some()),
        (&["boundaryGroups"], !boundary_groups.is_empty()),
        (&["prune"], *prune == Some(false)),
        (&["publishing"], publishing.is_some()),
    ];
    for (path, _) in given.into_iter().filter(|(_, is)| *is) {
        tell(site, path, &path.join("."), notices);
    }
    if leased {
        tell_of_far_witnesses(topology, site, notices);
    }
    let watched = Some(Management::Observe);
    if *management == watched {
        tell(site, &["management"], "management", notices);
    }
    if pair.is_some_and(|s| s.management == watched) {
        tell(site, &["siteServer", "management"], "management", notices);
    }
    for (name, group) in roles {
        if group.management == watched {
            let path = ["roles", name.as_str(), "management"];
            tell(site, &path, "management", notices);
        }
    }
    for (name, server) in servers {
        if server.hostname.is_some() {
            let path = ["servers", name.as_str(), "hostname"];
            tell(site, &path, "servers.*.hostname", notices);
        }
    }
}

/// A witness in another site is not told of the lease, so it does not vote.
fn tell_of_far_witnesses(topology: &Topology<'_>, site: &ReadSite<'_>, notices: &mut Notices) {
    let witnesses = site.spec().site_server.iter().flat_map(|s| &s.witnesses);
    let reconcilers = topology.spec().map(|spec| &spec.reconcilers);
    for (at, name) in witnesses.flatten().enumerate() {
        let near = site.spec().servers.contains_key(name)
            || reconcilers.is_none_or(|known| known.contains_key(name));
        if !near && has_server_elsewhere(topology, name) {
            let index = at.to_string();
            let path = ["siteServer", "witnesses", index.as_str()];
            let finding = site.warning("not-yet", site.spot(&path), not_yet("witness"));
            notices.add("not-yet", "witness", finding);
        }
    }
}

fn has_server_elsewhere(topology: &Topology<'_>, name: &ServerName) -> bool {
    let mut sites = topology.sites.values();
    sites.any(|other| other.spec().servers.contains_key(name))
}

fn tell(site: &ReadSite<'_>, path: &[&str], name: &str, notices: &mut Notices) {
    let finding = site.warning("not-yet", site.key_spot(path), not_yet(name));
    notices.add("not-yet", name, finding);
}

fn not_yet(name: &str) -> String {
    match name {
        "siteServer.passive" => {
            "passive site servers take over with the built-in site server; with a program of your own \
             they are checked and shown, and don't take over yet"
                .to_owned()
        }
        "witness" => {
            "a witness in another site does not vote yet: name a server of the site or a reconciler"
                .to_owned()
        }
        "management" => {
            "`management: observe` isn't obeyed part by part yet: nothing of this site is changed"
                .to_owned()
        }
        "prune" => "`prune: false` isn't obeyed yet: nothing of this site is changed".to_owned(),
        _ => format!("`{name}` is checked, and not acted on yet"),
    }
}
