//! What is declared, checked, and not acted on yet: said once, so that nobody relies on it.
//!
//! Each line here goes when its issue lands.

use super::super::problem::Finding;
use super::super::tree::Step;
use super::super::typed::ReadSite;
use super::super::types::{Management, SiteSpec};
use super::{Notices, Topology};

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

pub(super) fn check_site(site: &ReadSite<'_>, notices: &mut Notices) {
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
    let passive = pair.is_some_and(|site_server| !site_server.passive.is_empty());
    let limits = pair.is_some_and(|s| s.limits.is_some() || s.lease.is_some());
    let given = [
        (&["siteServer", "passive"][..], passive),
        (&["siteServer", "limits"], limits),
        (&["database"], database.is_some()),
        (&["backup"], backup.is_some()),
        (&["boundaryGroups"], !boundary_groups.is_empty()),
        (&["prune"], *prune == Some(false)),
        (&["publishing"], publishing.is_some()),
    ];
    for (path, _) in given.into_iter().filter(|(_, is)| *is) {
        tell(site, path, &path.join("."), notices);
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

fn tell(site: &ReadSite<'_>, path: &[&str], name: &str, notices: &mut Notices) {
    let finding = site.warning("not-yet", site.key_spot(path), not_yet(name));
    notices.add("not-yet", name, finding);
}

fn not_yet(name: &str) -> String {
    match name {
        "siteServer.passive" => {
            "passive site servers are checked and shown; they don't take over yet".to_owned()
        }
        "management" => {
            "`management: observe` isn't obeyed part by part yet: nothing of this site is changed"
                .to_owned()
        }
        "prune" => "`prune: false` isn't obeyed yet: nothing of this site is changed".to_owned(),
        _ => format!("`{name}` is checked, and not acted on yet"),
    }
}
