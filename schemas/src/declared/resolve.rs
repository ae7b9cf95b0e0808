//! From checked documents to [`HierarchyDesired`]: every optional spelling gone, defaults in.
//!
//! Runs only on what has no error, and therefore doesn't complain. Which server a counted instance
//! runs on is the planner's business.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::leased::{self, database, database_group};
use super::tree::{Node, Sources, Spot};
use super::typed::ReadSite;
use super::types::{
    DnsSpec, GroupSpec, GuardsSpec, HealthSpec, Hierarchy, HierarchySpec, Management, ServerSpec,
    ServiceSpec, SiteServerSpec, SiteSpec,
};
use crate::desired::{
    DatabaseDesired, DnsDesired, GroupDesired, Guards, HierarchyDesired, Place, Placement,
    ReconcilerDesired, ServerDesired, ServiceDesired, SiteDesired, SiteServerDesired,
    TsigKeyDesired,
};
use crate::names::{GroupName, ServerName};
use crate::role::{BUILT_IN_HEALTH_PATH, Role, SiteType};
use crate::time::{DurationMs, DurationOrNever};
use crate::wire::{AGENT_PORT, HealthCheck, Probe, Program, RECONCILER_PORT};

/// Port of DNS servers that name none.
const DNS_PORT: u16 = 53;

/// All sites of a topology as declared.
pub(super) fn resolve(
    hierarchy: &Hierarchy,
    sites: &[ReadSite<'_>],
    sources: &Sources,
) -> HierarchyDesired {
    let spec = &hierarchy.spec;
    let dns = spec.publishing.as_ref().and_then(|p| p.dns.as_ref());
    HierarchyDesired {
        name: hierarchy.metadata.name.clone(),
        reconcilers: spec
            .reconcilers
            .iter()
            .map(|(name, reconciler)| {
                let desired = ReconcilerDesired {
                    address: reconciler.address,
                    port: reconciler.port.unwrap_or(RECONCILER_PORT),
                    zone: reconciler.zone.clone(),
                };
                (name.clone(), desired)
            })
            .collect(),
        dns: dns.map(|dns| Arc::new(dns_desired(dns))),
        guards: guards(&spec.guards),
        sites: sites
            .iter()
            .map(|site| {
                let code = site.site.code.clone();
                (code, Arc::new(site_desired(site, sites, spec, sources)))
            })
            .collect(),
    }
}

fn dns_desired(dns: &DnsSpec) -> DnsDesired {
    DnsDesired {
        domain: dns.domain.clone(),
        servers: dns
            .servers
            .iter()
            .filter_map(|s| dns_server(&s.0))
            .collect(),
        tsig: dns
            .tsig
            .iter()
            .map(|key| TsigKeyDesired {
                name: key.name.clone(),
                algorithm: key.algorithm,
                secret: key.secret.clone(),
            })
            .collect(),
        ttl: dns.ttl.unwrap_or(DurationMs::seconds(30)),
        // H27: the alias of the active has a TTL of its own.
        alias_ttl: dns.alias_ttl.unwrap_or(DurationMs::seconds(5)),
    }
}

/// An address with or without a port.
pub(super) fn dns_server(text: &str) -> Option<SocketAddr> {
    let bare = text
        .parse::<IpAddr>()
        .map(|address| SocketAddr::new(address, DNS_PORT));
    bare.or_else(|_| text.parse()).ok()
}

fn guards(guards: &GuardsSpec) -> Guards {
    Guards {
        max_sites_at_once: guards.max_sites_at_once.unwrap_or(5),
        max_removals: guards.max_removals.unwrap_or(3),
        max_failed_sites: guards.max_failed_sites.unwrap_or(1),
    }
}

fn site_desired(
    site: &ReadSite<'_>,
    sites: &[ReadSite<'_>],
    hierarchy: &HierarchySpec,
    sources: &Sources,
) -> SiteDesired {
    let spec = site.spec();
    let maps = Maps::of(site, sources);
    let database = database(site);
    let store = database_group(database.as_ref(), || {
        sources.place(site.key_spot(&["database"]))
    });
    SiteDesired {
        code: site.site.code.clone(),
        site_type: spec.r#type,
        parent: spec.parent.clone(),
        protect: spec.protect,
        only_observed: is_only_observed(spec),
        labels: site.document.metadata.labels.clone(),
        servers: spec
            .servers
            .iter()
            .map(|(name, server)| {
                let desired = server_desired(server, maps.server(name));
                (name.clone(), Box::new(desired))
            })
            .collect(),
        site_server: site_server(site, sites, hierarchy, database.as_ref(), sources),
        database,
        content_library: spec
            .content_library
            .as_ref()
            .map(|library| library.url.clone()),
        groups: spec
            .roles
            .iter()
            .filter_map(|(name, group)| {
                let desired = group_desired(name, group, maps.group(name))?;
                Some((name.clone(), Box::new(desired)))
            })
            .chain(store.map(|store| (store.name.clone(), Box::new(store))))
            .collect(),
        place: sources.place(site.site.item.unwrap_or(site.site.spot)),
    }
}

fn is_only_observed(spec: &SiteSpec) -> bool {
    let watched = Some(Management::Observe);
    spec.management == watched
        || spec.prune == Some(false)
        || spec
            .site_server
            .as_ref()
            .is_some_and(|s| s.management == watched)
        || spec.roles.values().any(|group| group.management == watched)
}

/// Places of servers and groups by name.
struct Maps<'a> {
    servers: BTreeMap<&'a str, Spot>,
    groups: BTreeMap<&'a str, Spot>,
    sources: &'a Sources,
}

impl<'a> Maps<'a> {
    fn of(site: &'a ReadSite<'_>, sources: &'a Sources) -> Self {
        let keys = |part: &str| {
            let map = site.site.tree.at(&["spec", part]);
            map.map(Node::entries)
                .unwrap_or_default()
                .iter()
                .map(|(key, _)| (&*key.text, key.spot))
                .collect()
        };
        Self {
            servers: keys("servers"),
            groups: keys("roles"),
            sources,
        }
    }

    fn server(&self, name: &ServerName) -> Place {
        self.place(self.servers.get(name.as_str()))
    }

    fn group(&self, name: &GroupName) -> Place {
        self.place(self.groups.get(name.as_str()))
    }

    fn place(&self, spot: Option<&Spot>) -> Place {
        self.sources.place(spot.copied().unwrap_or_default())
    }
}

fn server_desired(server: &ServerSpec, place: Place) -> ServerDesired {
    ServerDesired {
        address: server.address,
        agent_port: server.agent_port.unwrap_or(AGENT_PORT),
        zone: server.zone.clone(),
        labels: server.labels.clone(),
        was: server.was.clone(),
        protect: server.protect,
        place,
    }
}

fn site_server(
    site: &ReadSite<'_>,
    sites: &[ReadSite<'_>],
    hierarchy: &HierarchySpec,
    database: Option<&DatabaseDesired>,
    sources: &Sources,
) -> Option<SiteServerDesired> {
    let spec = site.spec();
    let nothing = SiteServerSpec::default();
    let declared = spec.site_server.as_ref().unwrap_or(&nothing);
    let active = active_of(site)?;
    let spot = if declared.active.is_some() {
        site.spot(&["siteServer", "active"])
    } else {
        site.key_spot(&["servers", active.as_str()])
    };
    let service = declared.service.as_ref();
    let mut site_server = SiteServerDesired {
        witnesses: witnesses(spec, &active, declared, hierarchy),
        active,
        passive: declared.passive.clone(),
        service: service.and_then(|service| service_desired(service, Role::SiteServer)),
        settings: serde_json::Value::Null,
        lease: None,
        port: declared
            .port
            .unwrap_or_else(|| Role::SiteServer.rules().default_port),
        place: sources.place(spot),
    };
    leased::lease(site, sites, hierarchy, database, &mut site_server);
    Some(site_server)
}

/// The active site server: the declared one. A secondary has one implied: its only server, else
/// the one its management point is on, else the first written.
pub(super) fn active_of(site: &ReadSite<'_>) -> Option<ServerName> {
    let spec = site.spec();
    let declared = spec.site_server.as_ref().and_then(|s| s.active.clone());
    if declared.is_some() || spec.r#type != SiteType::Secondary {
        return declared;
    }
    let mut servers = spec.servers.keys();
    if let (Some(only), None) = (servers.next(), servers.next()) {
        return Some(only.clone());
    }
    let with_management_point = spec
        .roles
        .iter()
        .filter(|(name, group)| role_of(name, group) == Some(Role::ManagementPoint))
        .filter_map(|(_, group)| group.servers.as_ref()?.first())
        .next();
    let first_written = || {
        let servers = site.site.tree.at(&["spec", "servers"])?;
        servers.entries().first()?.0.text.parse().ok()
    };
    with_management_point.cloned().or_else(first_written)
}

/// The role of a group: what it says, else its name.
pub(super) fn role_of(name: &GroupName, group: &GroupSpec) -> Option<Role> {
    group.role.or_else(|| name.as_str().parse().ok())
}

/// The declared witnesses, or the default one where it makes the number of voters odd: the first
/// reconciler, by name, in a zone that holds no other voter (H4, H36).
pub(super) fn witnesses(
    spec: &SiteSpec,
    active: &ServerName,
    declared: &SiteServerSpec,
    hierarchy: &HierarchySpec,
) -> Vec<ServerName> {
    if let Some(witnesses) = &declared.witnesses {
        return witnesses.clone();
    }
    if declared.passive.is_empty() || declared.passive.len().is_multiple_of(2) {
        return Vec::new();
    }
    let zones: Vec<_> = std::iter::once(active)
        .chain(&declared.passive)
        .filter_map(|name| spec.servers.get(name)?.zone.as_ref())
        .collect();
    let apart = |zone: Option<&crate::names::ZonePath>| {
        zone.is_none_or(|zone| !zones.iter().any(|z| z.is_within(zone) || zone.is_within(z)))
    };
    hierarchy
        .reconcilers
        .iter()
        .find(|(_, reconciler)| apart(reconciler.zone.as_ref()))
        .map(|(name, _)| name.clone())
        .into_iter()
        .collect()
}

fn group_desired(name: &GroupName, group: &GroupSpec, place: Place) -> Option<GroupDesired> {
    let role = role_of(name, group)?;
    let rules = role.rules();
    let drain = group.drain.as_ref().or_else(|| {
        let service = group.service.as_ref()?;
        service.drain.as_ref()
    });
    Some(GroupDesired {
        name: name.clone(),
        role,
        placement: placement(group)?,
        move_after: group.move_after.unwrap_or(DurationOrNever::Never),
        publish: group.publish.unwrap_or(rules.publishes),
        port: group.port.unwrap_or(rules.default_port),
        service: program_of(group, role),
        settings: settings(group),
        drain_wait: drain.map(|drain| drain.wait).unwrap_or_default(),
        protect: group.protect,
        place,
    })
}

fn placement(group: &GroupSpec) -> Option<Placement> {
    if let Some(servers) = &group.servers {
        return Some(Placement::ByHand(servers.clone()));
    }
    Some(Placement::ByCount {
        instances: group.instances?,
        among: group.among.clone().unwrap_or_default(),
        spread_zones: group.spread.is_some(),
    })
}

fn settings(group: &GroupSpec) -> serde_json::Value {
    match &group.settings {
        None => serde_json::Value::Null,
        Some(settings) => serde_json::Value::Object(settings.clone().into_iter().collect()),
    }
}

/// How a group's instances run: as declared, else the role's built-in program, else not at all.
pub(super) fn program_of(group: &GroupSpec, role: Role) -> Option<ServiceDesired> {
    match &group.service {
        Some(service) => service_desired(service, role),
        None => service_desired(&ServiceSpec::default(), role),
    }
}

/// A service; none where it names no program and the role has no built-in one (H28).
pub(super) fn service_desired(service: &ServiceSpec, role: Role) -> Option<ServiceDesired> {
    let program = program(service, role)?;
    let health = match &service.health {
        Some(health) => health_check(health),
        None if program == Program::BuiltIn => Some(built_in_health()),
        None => None,
    };
    Some(ServiceDesired {
        program,
        env: service.env.clone(),
        health,
        stop: service.stop.clone().unwrap_or_default(),
    })
}

fn program(service: &ServiceSpec, role: Role) -> Option<Program> {
    if let Some(command) = &service.command {
        return Some(Program::Command(command.clone()));
    }
    if let Some(archive) = &service.archive {
        return Some(Program::Archive {
            url: archive.url.clone(),
            sha256: archive.sha256.clone(),
            command: archive.command.clone(),
        });
    }
    if let Some(systemd) = &service.systemd {
        return Some(Program::Systemd {
            unit: systemd.unit.clone(),
            adopt: systemd.adopt,
        });
    }
    (role.rules().built_in && service.built_in != Some(false)).then_some(Program::BuiltIn)
}

fn health_check(health: &HealthSpec) -> Option<HealthCheck> {
    let probe = if let Some(http) = &health.http {
        Probe::Http {
            path: http.path.clone(),
            port: http.port,
        }
    } else if let Some(https) = &health.https {
        Probe::Https {
            path: https.path.clone(),
            port: https.port,
        }
    } else if let Some(tcp) = &health.tcp {
        Probe::Tcp { port: tcp.port }
    } else {
        Probe::Command(health.command.clone()?)
    };
    Some(HealthCheck {
        probe,
        interval: health.interval.unwrap_or(DurationMs::seconds(5)),
        timeout: health.timeout.unwrap_or(DurationMs::seconds(2)),
        failures: health.failures.unwrap_or(3),
    })
}

pub(super) fn built_in_health() -> HealthCheck {
    HealthCheck {
        probe: Probe::Http {
            path: BUILT_IN_HEALTH_PATH.to_owned(),
            port: None,
        },
        interval: DurationMs::seconds(5),
        timeout: DurationMs::seconds(2),
        failures: 3,
    }
}
