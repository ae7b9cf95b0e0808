//! The pair's alias: a `stead dns` on the observer's host, and the job that each candidate is told.
//!
//! The new active's own agent publishes it, under its term (H22); nobody else here writes to the zone.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use stead_schemas::alias::{AliasJob, AliasKey};
use stead_schemas::desired::TsigAlgorithm;
use stead_schemas::names::SecretName;
use stead_schemas::time::DurationMs;
use stead_schemas::wire::SecretMaterial;

use super::{CANDIDATES, HIERARCHY, OBSERVER, PATIENCE, Pair};
use crate::processes::{program, start};
use crate::sampler::addresses;

/// The alias's name.
pub const ALIAS: &str = "p01.cm.pair.example";
/// How long its answers may be kept: the default (H27).
pub const ALIAS_TTL: Duration = Duration::from_secs(5);
const DOMAIN: &str = "cm.pair.example";
const KEY: &str = "pair-p01";
/// Any key will do.
const SECRET: &str = "c3RlYWQtcGFpci10c2lnLWtleS0zMi1ieXRlcy1sb25n";

impl Pair {
    /// Where its DNS server answers.
    #[must_use]
    pub fn dns_server(&self) -> SocketAddr {
        (self.hosts.address(OBSERVER), 53).into()
    }

    pub(super) fn start_dns(&mut self) {
        let secret = self.folder.path().join("tsig");
        fs::write(&secret, SECRET).expect("a secret");
        let key = |name: &str| format!("{name}:hmac-sha256:{}", secret.display());
        let mut command = self.hosts.command(OBSERVER, &program("stead"));
        command
            .args(["dns", "--zone", DOMAIN, "--key", &key("pair")])
            .args(["--site-key", &format!("{}:{ALIAS}", key(KEY))])
            .args(["--listen", &self.dns_server().to_string(), "--dir"])
            .arg(self.folder.path().join("dns"));
        let log = self.folder.path().join("dns.log");
        self.dns = Some(start(&mut command, &log));
    }

    /// What a server is told about the alias; none: it is not published, or never by this one.
    pub(super) fn alias_job(&self, server: &str) -> Option<Box<AliasJob>> {
        if self.dns.is_none() || !CANDIDATES.contains(&server) {
            return None;
        }
        Some(Box::new(AliasJob {
            hierarchy: HIERARCHY.parse().expect("a name"),
            site: "P01".parse().expect("a site code"),
            domain: DOMAIN.parse().expect("a domain"),
            servers: vec![self.dns_server()],
            keys: vec![AliasKey {
                name: KEY.to_owned(),
                algorithm: TsigAlgorithm::HmacSha256,
                secret: SecretName::new(KEY).expect("a name"),
            }],
            address: self.hosts.address(server).into(),
            ttl: DurationMs::seconds(ALIAS_TTL.as_secs()),
        }))
    }

    /// The secrets that the job names.
    pub(super) fn alias_secrets(&self, server: &str) -> BTreeMap<SecretName, SecretMaterial> {
        let job = self.alias_job(server);
        let material = |name: &SecretName| {
            let material = SecretMaterial {
                version: "1".to_owned(),
                value: SECRET.to_owned(),
            };
            (name.clone(), material)
        };
        job.iter()
            .flat_map(|job| job.secrets())
            .map(material)
            .collect()
    }

    /// Waits until the alias leads to this server.
    ///
    /// # Panics
    /// When it does not come to that.
    pub fn until_published(&self, server: &str) {
        let end = Instant::now() + PATIENCE;
        let wanted = Some(vec![self.hosts.address(server)]);
        while addresses(self.dns_server(), ALIAS) != wanted {
            assert!(
                Instant::now() < end,
                "{ALIAS} does not lead to {server}\n{}",
                self.describe()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
