//! From a checked site with passives to its lease, and from `database` to what site servers reach.
//!
//! As `resolve`, of which it is a part, it runs only on what has no error. Which lives of ledgers
//! vote, and who is told when, is the planner's business.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::{Value, json};

use super::resolve::{built_in_health, service_desired};
use super::typed::ReadSite;
use super::types::{
    DatabaseSpec, Engine, HierarchySpec, LeaseSpec, Mode, PerHour, SiteServerSpec, SiteSpec,
};
use crate::desired::{
    DatabaseDesired, DatabaseTls, GroupDesired, LeaseDesired, Place, Placement, ServiceDesired,
    SiteServerDesired,
};
use crate::lease::{LeaseTiming, VoterSpec};
use crate::names::{GroupName, IdentityKind, SecretName, ServerName};
use crate::role::{EMBEDDED_DATABASE_PORT, Role};
use crate::time::{DurationMs, DurationOrNever};
use crate::wire::{AGENT_PORT, EnvValue, Program, RECONCILER_PORT, StopRule};

/// Name of the group that an embedded database is planned as.
pub(super) const DATABASE_GROUP: &str = "database";
/// The variable in which a site server is given the password of its database.
const PASSWORD_VARIABLE: &str = "STEAD_DATABASE_PASSWORD";
/// Unplanned failovers an hour where nothing is said.
const FAILOVERS_PER_HOUR: u32 = 3;
/// How long the declared active has to be well before it takes back by itself.
const SETTLE: DurationMs = DurationMs::seconds(300);
const POSTGRESQL_PORT: u16 = 5432;

/// The site database; none where it is not said which server runs an embedded one.
pub(super) fn database(site: &ReadSite<'_>) -> Option<DatabaseDesired> {
    let spec = site.spec().database.as_ref()?;
    Some(match spec.engine {
        Engine::Embedded => DatabaseDesired::Embedded {
            server: embedded_server(site.spec())?.clone(),
            port: spec.port.unwrap_or(EMBEDDED_DATABASE_PORT),
        },
        Engine::Postgresql => DatabaseDesired::Postgresql {
            hosts: hosts(site.spec(), spec),
            name: spec
                .name
                .clone()
                .unwrap_or_else(|| format!("cm_{}", site.site.code.dns_label())),
            user: spec.user.clone().unwrap_or_else(|| "cm".to_owned()),
            password: spec.password.as_ref().map(|named| named.secret.clone()),
            tls: spec.tls.unwrap_or(DatabaseTls::VerifyFull),
        },
    })
}

/// Where an embedded database runs: as said, else on the first witness that is a server of the site.
pub(super) fn embedded_server(spec: &SiteSpec) -> Option<&ServerName> {
    let said = spec.database.as_ref()?.server.as_ref();
    said.or_else(|| {
        let witnesses = &spec.site_server.as_ref()?.witnesses;
        let mut witnesses = witnesses.iter().flatten();
        witnesses.find(|name| spec.servers.contains_key(*name))
    })
}

fn hosts(site: &SiteSpec, spec: &DatabaseSpec) -> Vec<String> {
    let port = spec.port.unwrap_or(POSTGRESQL_PORT);
    if let Some(listener) = &spec.listener {
        let port = listener.port.unwrap_or(port);
        return vec![format!("{}:{port}", bracketed(&listener.host))];
    }
    if let Some(host) = &spec.host {
        return vec![format!("{}:{port}", bracketed(host))];
    }
    let members = spec
        .members
        .keys()
        .filter_map(|name| site.servers.get(name));
    members
        .map(|server| SocketAddr::new(server.address, port).to_string())
        .collect()
}

/// An IPv6 address as it stands before a port.
fn bracketed(host: &str) -> String {
    if host.parse::<std::net::Ipv6Addr>().is_ok() {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

/// The group that an embedded database is planned as: one built-in instance, by hand, unpublished.
pub(super) fn database_group(
    database: Option<&DatabaseDesired>,
    place: impl FnOnce() -> Place,
) -> Option<GroupDesired> {
    let DatabaseDesired::Embedded { server, port } = database? else {
        return None;
    };
    Some(GroupDesired {
        name: GroupName::new(DATABASE_GROUP).expect("letters only"),
        role: Role::Database,
        placement: Placement::ByHand(vec![server.clone()]),
        move_after: DurationOrNever::Never,
        publish: false,
        port: *port,
        service: Some(built_in()),
        settings: Value::Null,
        drain_wait: DurationMs(0),
        protect: false,
        place: place(),
    })
}

fn built_in() -> ServiceDesired {
    ServiceDesired {
        program: Program::BuiltIn,
        env: BTreeMap::new(),
        health: Some(built_in_health()),
        stop: StopRule::default(),
    }
}

/// Whether a site's site server runs under a lease: it has passives, and a program that checks the
/// term (H9).
pub(super) fn is_leased(declared: &SiteServerSpec) -> bool {
    let checks_term = match &declared.service {
        None => true,
        Some(service) => service_desired(service, Role::SiteServer)
            .is_some_and(|service| service.program == Program::BuiltIn),
    };
    !declared.passive.is_empty() && checks_term
}

/// Adds the lease to a site server that runs under one: who votes, how it runs, what it is told.
pub(super) fn lease(
    site: &ReadSite<'_>,
    sites: &[ReadSite<'_>],
    hierarchy: &HierarchySpec,
    database: Option<&DatabaseDesired>,
    site_server: &mut SiteServerDesired,
) {
    let declared = site.spec().site_server.as_ref();
    let (Some(declared), Some(database)) = (declared.filter(|s| is_leased(s)), database) else {
        return;
    };
    let candidates = std::iter::once(&site_server.active).chain(&site_server.passive);
    let ranked = (0..).zip(candidates).map(|(rank, name)| (name, Some(rank)));
    let witnesses = site_server.witnesses.iter().map(|name| (name, None));
    let voters = ranked
        .chain(witnesses)
        .filter_map(|(name, rank)| {
            let voter = voter(site, sites, hierarchy, name, rank)?;
            Some((name.clone(), voter))
        })
        .collect();
    site_server.lease = Some(Box::new(lease_desired(declared, voters)));
    site_server.settings = json!({
        "site": site.site.code,
        "store": store(site.spec(), database),
    });
    let service = site_server.service.get_or_insert_with(built_in);
    if let DatabaseDesired::Postgresql {
        password: Some(secret),
        ..
    } = database
    {
        service
            .env
            .insert(PASSWORD_VARIABLE.to_owned(), secret_value(secret));
    }
}

fn secret_value(secret: &SecretName) -> EnvValue {
    EnvValue::Secret {
        secret: secret.clone(),
    }
}

fn lease_desired(
    declared: &SiteServerSpec,
    voters: BTreeMap<ServerName, VoterSpec>,
) -> LeaseDesired {
    let limits = declared.limits.as_ref();
    let settle = limits.and_then(|limits| limits.settle).unwrap_or(SETTLE);
    LeaseDesired {
        voters,
        automatic: declared.failover != Some(Mode::Manual),
        failback_after: (declared.failback == Some(Mode::Automatic)).then_some(settle),
        failovers_per_hour: match limits.and_then(|limits| limits.failovers_per_hour) {
            None => Some(FAILOVERS_PER_HOUR),
            Some(PerHour::Count(count)) => Some(count),
            Some(PerHour::Word(_)) => None,
        },
        timing: declared
            .lease
            .as_ref()
            .map_or_else(Default::default, timing),
    }
}

fn timing(lease: &LeaseSpec) -> LeaseTiming {
    let default = LeaseTiming::default();
    let drift = lease.drift.as_deref();
    LeaseTiming {
        duration: lease.duration.unwrap_or(default.duration),
        renew: lease.renew.unwrap_or(default.renew),
        stop_before: lease.stop_before.unwrap_or(default.stop_before),
        drift_percent: drift
            .and_then(whole_percent)
            .unwrap_or(default.drift_percent),
    }
}

/// `0.5%` is 1: a bound may be looser than said, never tighter.
fn whole_percent(text: &str) -> Option<u32> {
    let (whole, part) = match text.strip_suffix('%')?.split_once('.') {
        Some((whole, part)) => (whole, part),
        None => (text.strip_suffix('%')?, ""),
    };
    let more = part.bytes().any(|digit| digit != b'0');
    Some(whole.parse::<u32>().ok()? + u32::from(more))
}

/// A server of the site, a reconciler, or a server of another site.
fn voter(
    site: &ReadSite<'_>,
    sites: &[ReadSite<'_>],
    hierarchy: &HierarchySpec,
    name: &ServerName,
    rank: Option<u32>,
) -> Option<VoterSpec> {
    let mut everywhere = std::iter::once(site).chain(sites);
    let own = || site.spec().servers.contains_key(name);
    if let Some(reconciler) = hierarchy.reconcilers.get(name).filter(|_| !own()) {
        return Some(VoterSpec {
            kind: IdentityKind::Reconciler,
            address: SocketAddr::new(
                reconciler.address,
                reconciler.port.unwrap_or(RECONCILER_PORT),
            ),
            rank,
            incarnation: None,
        });
    }
    let server = everywhere.find_map(|site| site.spec().servers.get(name))?;
    Some(VoterSpec {
        kind: IdentityKind::Server,
        address: SocketAddr::new(server.address, server.agent_port.unwrap_or(AGENT_PORT)),
        rank,
        incarnation: None,
    })
}

/// What a site server is told of its database, in the words of its settings.
fn store(site: &SiteSpec, database: &DatabaseDesired) -> Value {
    match database {
        DatabaseDesired::Embedded { server, port } => {
            let address = site.servers.get(server).map(|server| server.address);
            let address = address.map(|address| SocketAddr::new(address, *port));
            json!({ "embedded": { "address": address } })
        }
        DatabaseDesired::Postgresql {
            hosts,
            name,
            user,
            password: _,
            tls,
        } => json!({
            "postgresql": { "hosts": hosts, "name": name, "user": user, "tls": tls }
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drift_is_rounded_up_to_whole_percent() {
        let read = |text| whole_percent(text).unwrap();
        assert_eq!(["1%", "0.1%", "1.0%", "2.5%"].map(read), [1, 1, 1, 3]);
    }
}
