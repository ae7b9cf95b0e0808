//! What left DNS, since when, and how long resolvers may still hand it out (H27).
//!
//! Pure. An instance that was served and is not served by any server any more counts as withdrawn
//! from the moment that was first seen. After a start without memory nothing is known of before:
//! instances that run unserved are treated as if they had been withdrawn at that moment.

use std::collections::BTreeMap;

use stead_schemas::names::{GroupName, ServerName};
use stead_schemas::observed::{SiteObserved, Withdrawn};
use stead_schemas::time::WallMs;

type Served = BTreeMap<(GroupName, ServerName), u32>;

/// Takes in what is served now. `before` is none at the first look of this process; `ttl_s` stands
/// in for a TTL that is not known.
pub fn update(
    observed: &mut SiteObserved,
    before: Option<&Served>,
    now: WallMs,
    served: &Served,
    ttl_s: u32,
) {
    observed
        .withdrawn
        .retain(|key, _| !served.contains_key(key));
    let gone: Vec<_> = match before {
        Some(before) => before
            .iter()
            .filter(|(key, _)| !served.contains_key(*key))
            .map(|(key, ttl)| (key.clone(), *ttl))
            .collect(),
        None => running(observed)
            .filter(|key| !served.contains_key(key))
            .map(|key| (key, ttl_s))
            .collect(),
    };
    for (key, ttl_s) in gone {
        observed
            .withdrawn
            .entry(key)
            .or_insert(Withdrawn { since: now, ttl_s });
    }
    let here: Vec<_> = running(observed).collect();
    observed.withdrawn.retain(|key, _| {
        let known = observed
            .servers
            .get(&key.1)
            .is_some_and(|server| server.report.is_some());
        !known || here.contains(key)
    });
}

fn running(observed: &SiteObserved) -> impl Iterator<Item = (GroupName, ServerName)> {
    observed.servers.iter().flat_map(|(name, server)| {
        server
            .report
            .iter()
            .flat_map(|report| report.instances.keys())
            .map(|group| (group.clone(), name.clone()))
    })
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use stead_schemas::observed::{Contact, ServerObserved};
    use stead_schemas::role::Role;
    use stead_schemas::wire::{AgentReport, Health, InstanceReport, Phase, SpecId};

    use super::*;

    fn site(groups: &[&str]) -> SiteObserved {
        let endpoint = SocketAddr::from(([127, 0, 0, 1], 80));
        let instance = InstanceReport {
            role: Role::DistributionPoint,
            spec: SpecId("1".into()),
            phase: Phase::Running,
            health: Health::Healthy,
            since: WallMs(1),
            pid: None,
            restarts: 0,
            endpoint,
            message: None,
        };
        let report = AgentReport {
            sequence: 1,
            instances: groups
                .iter()
                .map(|group| (group.parse().unwrap(), Box::new(instance.clone())))
                .collect(),
            ..AgentReport::new("p01-a".parse().unwrap(), WallMs(1))
        };
        let server = ServerObserved {
            contact: Contact::Heard,
            report: Some(Box::new(report)),
            heard_at: Some(WallMs(1)),
            confirmed_lost: None,
            agent: endpoint,
            checked: None,
        };
        SiteObserved {
            servers: BTreeMap::from([("p01-a".parse().unwrap(), server)]),
            ..SiteObserved::default()
        }
    }

    fn served(groups: &[(&str, u32)]) -> Served {
        groups
            .iter()
            .map(|(group, ttl)| ((group.parse().unwrap(), "p01-a".parse().unwrap()), *ttl))
            .collect()
    }

    #[test]
    fn h27_counted_from_the_first_look_without_it_with_the_ttl_last_served() {
        let mut observed = site(&["dp"]);
        let (with, without) = (served(&[("dp", 14_400)]), served(&[]));
        update(&mut observed, Some(&with), WallMs(5), &without, 30);
        let gone = Withdrawn {
            since: WallMs(5),
            ttl_s: 14_400,
        };
        assert_eq!(observed.withdrawn.values().collect::<Vec<_>>(), [&gone]);
        update(&mut observed, Some(&without), WallMs(9), &without, 30);
        assert_eq!(observed.withdrawn.values().next(), Some(&gone), "kept");
        update(&mut observed, Some(&without), WallMs(11), &with, 30);
        assert!(observed.withdrawn.is_empty(), "served again");
    }

    #[test]
    fn h27_without_memory_an_unserved_instance_may_have_left_this_moment() {
        let mut observed = site(&["dp", "up"]);
        update(&mut observed, None, WallMs(5), &served(&[("up", 30)]), 60);
        let keys: Vec<_> = observed.withdrawn.keys().map(|k| k.0.as_str()).collect();
        assert_eq!(keys, ["dp"]);
        assert_eq!(
            observed.withdrawn.values().next().map(|w| w.ttl_s),
            Some(60)
        );
    }

    #[test]
    fn what_is_gone_for_good_is_forgotten() {
        let mut observed = site(&[]);
        let with = served(&[("dp", 30)]);
        update(&mut observed, Some(&with), WallMs(5), &served(&[]), 30);
        assert!(observed.withdrawn.is_empty());
    }
}
