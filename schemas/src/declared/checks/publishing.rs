//! Names that would be published: they fit the DNS and don't meet.

use std::collections::BTreeMap;

use super::super::leased::is_leased;
use super::super::problem::{Finding, Findings};
use super::super::resolve::dns_server;
use super::super::tree::Step;
use super::super::typed::ReadSite;
use super::super::types::DnsSpec;
use super::Topology;
use crate::alias::site_key_name;
use crate::names::{SecretName, ServerName};
use crate::time::DurationMs;

/// Longest name in the DNS, RFC 1035, without the last dot.
const NAME_MAX: usize = 253;
/// Longest part of a name, and longest name of a secret.
const LABEL_MAX: usize = 63;
/// The longest mark before a name (H22).
const MARK: &str = "_stead-aaaa.";
/// Longest time a client may keep an answer.
const TTL_MAX: DurationMs = DurationMs::seconds(86_400);

pub(super) fn check(topology: &Topology<'_>, findings: &mut Findings) {
    let dns = topology
        .spec()
        .and_then(|spec| spec.publishing.as_ref()?.dns.as_ref());
    if let Some(dns) = dns {
        check_dns(topology, dns, findings);
        check_site_keys(topology, dns, findings);
    }
    let codes: BTreeMap<String, _> = topology
        .sites
        .values()
        .map(|site| (site.site.code.dns_label(), *site))
        .collect();
    for site in topology.sites.values() {
        check_groups(site, dns, findings);
        for name in site.spec().servers.keys() {
            if let Some(other) = codes.get(name.as_str()) {
                let message = format!(
                    "`{name}` is the published name of site {} as well",
                    other.site.code
                );
                let spot = site.key_spot(&["servers", name.as_str()]);
                let finding = site.error("name-clash", spot, message);
                findings.add(finding.related(other.site.spot, "the site"));
            }
            check_length(site, name, dns, findings);
        }
    }
}

fn check_dns(topology: &Topology<'_>, dns: &DnsSpec, findings: &mut Findings) {
    let at = |steps: &[Step<'_>]| {
        let path = [Step::Key("spec"), Step::Key("publishing"), Step::Key("dns")];
        let path: Vec<Step<'_>> = path.into_iter().chain(steps.iter().copied()).collect();
        topology.spot(&path)
    };
    let mut seen = BTreeMap::new();
    for (index, server) in dns.servers.iter().enumerate() {
        let spot = at(&[Step::Key("servers"), Step::Index(index)]);
        match dns_server(&server.0) {
            None => {
                let message = format!("`{}` is no address of a DNS server", server.0);
                findings.add(Finding::error("dns-server", spot, message).hint(
                    "write an address, with a port where it isn't 53: 192.0.2.53, 127.0.0.53:5300",
                ));
            }
            Some(address) => {
                if let Some(first) = seen.insert(address, spot) {
                    let message = format!("`{}` stands here twice", server.0);
                    let finding = Finding::error("duplicate", spot, message);
                    findings.add(finding.related(first, "the first one"));
                }
            }
        }
    }
    let mut names = BTreeMap::new();
    for (index, key) in dns.tsig.iter().enumerate() {
        let spot = at(&[Step::Key("tsig"), Step::Index(index), Step::Key("name")]);
        let name = key.name.trim_end_matches('.').to_ascii_lowercase();
        if let Some(first) = names.insert(name, spot) {
            let message = format!("there is a key `{}` already", key.name);
            let finding = Finding::error("duplicate", spot, message);
            findings.add(finding.related(first, "the first one"));
        }
    }
    if dns.tsig.len() > 2 {
        let message = format!(
            "{} keys: a second one is for rotating, a third for nothing",
            dns.tsig.len()
        );
        findings.add(Finding::warning("tsig", at(&[Step::Key("tsig")]), message));
    }
    for (key, ttl) in [("ttl", dns.ttl), ("aliasTtl", dns.alias_ttl)] {
        if ttl.is_some_and(|ttl| ttl < DurationMs::seconds(1) || ttl > TTL_MAX) {
            let message = format!("`{key}` is from 1s to 1d");
            findings.add(Finding::error("ttl", at(&[Step::Key(key)]), message));
        }
    }
}

/// A site with a lease has keys of its own, named after these (H22): they have to fit as well.
fn check_site_keys(topology: &Topology<'_>, dns: &DnsSpec, findings: &mut Findings) {
    let leased = |site: &&ReadSite<'_>| site.spec().site_server.as_ref().is_some_and(is_leased);
    let mut sites = topology.sites.values().copied();
    let Some(site) = sites.find(leased) else {
        return;
    };
    let room = format!(
        "at most {} characters, so that the site's code fits behind it",
        LABEL_MAX - site_key_name("", &site.site.code).len()
    );
    for (index, key) in dns.tsig.iter().enumerate() {
        let spot = |word| {
            let path = ["spec", "publishing", "dns", "tsig"].map(Step::Key);
            let path = path
                .into_iter()
                .chain([Step::Index(index), Step::Key(word)]);
            topology.spot(&path.collect::<Vec<_>>())
        };
        let name = site_key_name(&key.name, &site.site.code);
        let label = name.split('.').map(str::len).max().unwrap_or(0);
        if label > LABEL_MAX || name.len() > NAME_MAX {
            let message = format!(
                "the key of {} is named `{name}`, longer than a name in the DNS may be",
                site.site.code
            );
            let finding = Finding::error("tsig", spot("name"), message).tag("H22");
            findings.add(finding.hint(room.clone()));
        }
        let secret = site_key_name(key.secret.as_str(), &site.site.code);
        if SecretName::new(&secret).is_err() {
            let message = format!(
                "the secret of {}'s key is `{secret}`, longer than a secret's name may be",
                site.site.code
            );
            let finding = Finding::error("tsig", spot("secret"), message).tag("H22");
            findings.add(finding.hint(room.clone()));
        }
    }
}

/// Groups of a site differ in the DNS, where upper and lower case are alike.
fn check_groups(site: &ReadSite<'_>, dns: Option<&DnsSpec>, findings: &mut Findings) {
    let mut labels = BTreeMap::new();
    for name in site.spec().roles.keys() {
        let spot = site.key_spot(&["roles", name.as_str()]);
        if let Some(first) = labels.insert(name.dns_label(), name) {
            let message = format!("`{name}` and `{first}` are the same name in the DNS");
            let finding = site.error("name-clash", spot, message);
            findings
                .add(finding.related(site.key_spot(&["roles", first.as_str()]), "the first one"));
        }
        let Some(dns) = dns else {
            continue;
        };
        let full = format!("{MARK}{name}.{}.{}", site.site.code, dns.domain);
        if full.len() > NAME_MAX {
            let message = format!(
                "`{name}` is published as a name of {} characters",
                full.len()
            );
            let finding = site.error("name-length", spot, message);
            findings.add(finding.hint(format!("at most {NAME_MAX}: shorten it or the domain")));
        }
    }
}

fn check_length(
    site: &ReadSite<'_>,
    name: &ServerName,
    dns: Option<&DnsSpec>,
    findings: &mut Findings,
) {
    let Some(dns) = dns else {
        return;
    };
    let length = MARK.len() + name.as_str().len() + 1 + dns.domain.as_str().len();
    if length > NAME_MAX {
        let message = format!("`{name}` is published as a name of {length} characters");
        let spot = site.key_spot(&["servers", name.as_str()]);
        let finding = site.error("name-length", spot, message);
        findings.add(finding.hint(format!("at most {NAME_MAX}: shorten it or the domain")));
    }
}
