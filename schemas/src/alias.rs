//! The alias of a site with a lease: what its active server's agent is told, and what it reports.
//!
//! A/AAAA at `<code>.<domain>`, written by the holder's own agent under its term, with the site's
//! own TSIG key (H22), so that a failover reaches clients with every reconciler dead. Term and epoch
//! are no part of the job: the lease gives the one, the assignment in force has the other, and a job
//! that named it would be another one after each start of a reconciler. How it is published is
//! `stead_dns::alias`.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::desired::{DnsDesired, TsigAlgorithm};
use crate::names::{DomainName, NameError, ObjectName, SecretName, SiteCode, address_type};
use crate::record::{RecordData, RecordKey, RecordSet, RecordType};
use crate::time::{DurationMs, WallMs};

/// How one server publishes its site's alias once it is the active one. Part of its assignment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AliasJob {
    /// The hierarchy: what the mark says and what it must have said.
    pub hierarchy: ObjectName,
    /// The site; its code in lower case is the alias's label.
    pub site: SiteCode,
    /// Where the names live.
    pub domain: DomainName,
    /// The zone's own servers: the first takes updates, all are verified.
    pub servers: Vec<SocketAddr>,
    /// The site's keys: the first signs, the next is tried on BADKEY or BADSIG (rotation).
    pub keys: Vec<AliasKey>,
    /// Where the active site server is reached: this server's own address.
    pub address: IpAddr,
    /// The alias's TTL (H27).
    pub ttl: DurationMs,
}

/// A site's TSIG key by name; its material is a secret of the assignment (H30).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AliasKey {
    /// The key's name at the DNS servers, `<name>-<code>`.
    pub name: String,
    /// The algorithm.
    pub algorithm: TsigAlgorithm,
    /// Where the material is looked up, `<secret>-<code>`: a name of its own, so that no look-up
    /// that falls back to the hierarchy's secrets hands the reconciler's key to a site.
    pub secret: SecretName,
}

/// The name of a site's own key beside the reconciler's (H22), without the dot that may end a name.
#[must_use]
pub fn site_key_name(key_name: &str, site: &SiteCode) -> String {
    let key_name = key_name.strip_suffix('.').unwrap_or(key_name);
    format!("{key_name}-{}", site.dns_label())
}

impl AliasJob {
    /// The job of one server of a site, keys and secrets named as H22 has it.
    ///
    /// # Errors
    /// [`NameError`] where a secret's name leaves no room for the site's code.
    pub fn new(
        dns: &DnsDesired,
        hierarchy: &ObjectName,
        site: &SiteCode,
        address: IpAddr,
    ) -> Result<Self, NameError> {
        let keys = dns.tsig.iter().map(|key| {
            Ok(AliasKey {
                name: site_key_name(&key.name, site),
                algorithm: key.algorithm,
                secret: SecretName::new(site_key_name(key.secret.as_str(), site))?,
            })
        });
        Ok(Self {
            hierarchy: hierarchy.clone(),
            site: site.clone(),
            domain: dns.domain.clone(),
            servers: dns.servers.clone(),
            keys: keys.collect::<Result<_, _>>()?,
            address,
            ttl: dns.alias_ttl,
        })
    }

    /// The alias in the family of the address.
    #[must_use]
    pub fn record(&self) -> RecordKey {
        self.record_of(address_type(self.address))
    }

    /// The alias in the other family: withdrawn where it is ours.
    #[must_use]
    pub fn other_record(&self) -> RecordKey {
        self.record_of(match self.address {
            IpAddr::V4(_) => RecordType::Aaaa,
            IpAddr::V6(_) => RecordType::A,
        })
    }

    /// What the alias should be.
    #[must_use]
    pub fn set(&self) -> RecordSet {
        let data = match self.address {
            IpAddr::V4(address) => RecordData::A(address),
            IpAddr::V6(address) => RecordData::Aaaa(address),
        };
        RecordSet {
            ttl_s: self.ttl.as_secs_ceil(),
            values: [data].into(),
        }
    }

    /// The secrets it names.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretName> {
        self.keys.iter().map(|key| &key.secret)
    }

    fn record_of(&self, rtype: RecordType) -> RecordKey {
        RecordKey {
            name: format!("{}.{}", self.site.dns_label(), self.domain),
            rtype,
        }
    }
}

/// An alias that the first server took, and who serves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AliasPublished {
    /// The record.
    pub record: RecordKey,
    /// The term it was published under.
    pub term: u64,
    /// The mark's text.
    pub mark: String,
    /// Whether an update was needed; else it was so already, under this term.
    pub changed: bool,
    /// The key that signed it; none where nothing was sent, or the answer was lost and reading back
    /// showed the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<String>,
    /// By DNS server, in declared order.
    pub servers: Vec<AliasServed>,
}

/// Whether one DNS server serves the alias as published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AliasServed {
    /// The DNS server.
    pub server: SocketAddr,
    /// When this publication first saw it served, by the writer's clock; none: it did not.
    pub since: Option<WallMs>,
    /// What it had instead when last asked, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead: Option<String>,
}

impl AliasPublished {
    /// Whether every server serves it.
    #[must_use]
    pub fn everywhere(&self) -> bool {
        self.servers.iter().all(|server| server.since.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::TsigKeyDesired;

    fn job(address: &str) -> AliasJob {
        let dns = DnsDesired {
            domain: "cm.contoso.example".parse().unwrap(),
            servers: vec!["192.0.2.53:53".parse().unwrap()],
            tsig: vec![TsigKeyDesired {
                name: "stead-2026".to_owned(),
                algorithm: TsigAlgorithm::HmacSha256,
                secret: "tsig-2026".parse().unwrap(),
            }],
            ttl: DurationMs::seconds(30),
            alias_ttl: DurationMs::seconds(5),
        };
        let (hierarchy, site) = ("contoso".parse().unwrap(), "P01".parse().unwrap());
        AliasJob::new(&dns, &hierarchy, &site, address.parse().unwrap()).unwrap()
    }

    #[test]
    fn h22_a_dot_that_ends_a_keys_name_does_not_stand_within_the_sites() {
        let site = "P01".parse().unwrap();
        assert_eq!(site_key_name("stead-2026.", &site), "stead-2026-p01");
    }

    #[test]
    fn h22_a_site_has_its_own_key_and_secret_and_no_other() {
        let job = job("10.1.0.12");
        assert_eq!(job.keys[0].name, "stead-2026-p01");
        assert_eq!(job.secrets().next().unwrap().as_str(), "tsig-2026-p01");
        assert_eq!(job.record().to_string(), "p01.cm.contoso.example/A");
        assert_eq!(job.set().ttl_s, 5);
    }

    #[test]
    fn the_family_follows_the_address() {
        let job = job("fd00::12");
        assert_eq!(job.record().to_string(), "p01.cm.contoso.example/AAAA");
        assert_eq!(job.other_record().to_string(), "p01.cm.contoso.example/A");
    }

    #[test]
    fn a_job_survives_the_wire() {
        let job = job("10.1.0.12");
        let text = serde_json::to_string(&job).unwrap();
        assert_eq!(serde_json::from_str::<AliasJob>(&text).unwrap(), job);
        assert!(serde_json::from_str::<AliasJob>(&text.replace("\"ttl\"", "\"tll\"")).is_err());
    }
}
