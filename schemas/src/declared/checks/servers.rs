//! Servers across the hierarchy: names, addresses and earlier names are unique.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::super::problem::Findings;
use super::super::tree::Spot;
use super::super::typed::ReadSite;
use super::Topology;
use crate::names::{ServerName, SiteCode};
use crate::wire::AGENT_PORT;

/// Where a server is declared.
#[derive(Clone, Copy)]
struct Declared<'a> {
    site: &'a ReadSite<'a>,
    name: &'a ServerName,
}

impl Declared<'_> {
    fn spot(self) -> Spot {
        self.site.key_spot(&["servers", self.name.as_str()])
    }

    fn code(&self) -> &SiteCode {
        &self.site.site.code
    }
}

pub(super) fn check(topology: &Topology<'_>, findings: &mut Findings) {
    let mut names: BTreeMap<&ServerName, Declared<'_>> = BTreeMap::new();
    let mut addresses: BTreeMap<(IpAddr, u16), Declared<'_>> = BTreeMap::new();
    for site in topology.sites.values() {
        for (name, server) in &site.spec().servers {
            let this = Declared { site, name };
            if let Some(first) = names.insert(name, this) {
                let message = format!(
                    "there is a server `{name}` in site {} already",
                    first.code()
                );
                findings.add(
                    site.error("duplicate-server", this.spot(), message)
                        .related(first.spot(), "the first one")
                        .hint("server names are published: each is unique in the hierarchy"),
                );
            }
            let port = server.agent_port.unwrap_or(AGENT_PORT);
            if let Some(first) = addresses.insert((server.address, port), this) {
                let message = format!(
                    "`{}` of site {} has the address {} already",
                    first.name,
                    first.code(),
                    server.address
                );
                let spot = site.spot(&["servers", name.as_str(), "address"]);
                findings.add(
                    site.error("duplicate-address", spot, message)
                        .related(first.spot(), "the first one")
                        .hint("agents on one address differ by `agentPort`"),
                );
            }
        }
    }
    check_reconcilers(topology, &names, findings);
    check_earlier_names(topology, &names, findings);
}

/// A reconciler votes under its own name: it can't be a server's as well (H4).
fn check_reconcilers(
    topology: &Topology<'_>,
    names: &BTreeMap<&ServerName, Declared<'_>>,
    findings: &mut Findings,
) {
    let reconcilers = topology.spec().map(|spec| &spec.reconcilers);
    for name in reconcilers.into_iter().flatten().map(|(name, _)| name) {
        if let Some(server) = names.get(name) {
            let message = format!("`{name}` is the name of a reconciler as well");
            let finding = server
                .site
                .error("duplicate-server", server.spot(), message);
            findings.add(finding.tag("H4"));
        }
    }
}

fn check_earlier_names(
    topology: &Topology<'_>,
    names: &BTreeMap<&ServerName, Declared<'_>>,
    findings: &mut Findings,
) {
    let mut earlier: BTreeMap<&ServerName, Declared<'_>> = BTreeMap::new();
    for site in topology.sites.values() {
        let servers = site.spec().servers.iter();
        for (name, was) in servers.filter_map(|(name, s)| Some((name, s.was.as_ref()?))) {
            let this = Declared { site, name };
            let spot = site.spot(&["servers", name.as_str(), "was"]);
            if let Some(still) = names.get(was) {
                let message = format!(
                    "`{name}` can't have been `{was}`: a server of that name is still declared"
                );
                let finding = site.error("was", spot, message);
                findings.add(finding.related(still.spot(), "here"));
            }
            if let Some(first) = earlier.insert(was, this) {
                let message = format!("`{}` says already that it was `{was}`", first.name);
                let finding = site.error("was", spot, message);
                findings.add(finding.related(first.spot(), "the first one"));
            }
        }
    }
}
