//! What git declares, resolved: defaults merged, site sets stamped out, every reference checked.
//!
//! This is the planner's input. Unlike `declared` it has no optional spelling left and no unknown
//! name in it; each object still knows the file and line it came from, for `why`. It does not say
//! which server a counted instance runs on: that is planning.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::lease::{LeaseTiming, VoterSpec};
use crate::names::{DomainName, GroupName, ObjectName, SecretName, ServerName, SiteCode, ZonePath};
use crate::role::{Role, SiteType};
use crate::time::{DurationMs, DurationOrNever};
use crate::wire::{EnvValue, HealthCheck, Program, StopRule};

/// A place in a file of the topology repository; line and column count from 1, 0 means unknown.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Place {
    /// Path in the repository's folder.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// Everything one revision declares.
#[derive(Debug, Clone, PartialEq)]
pub struct HierarchyDesired {
    /// The hierarchy's name.
    pub name: ObjectName,
    /// Declared reconcilers, by name.
    pub reconcilers: BTreeMap<ServerName, ReconcilerDesired>,
    /// Where and how names are published; none: nothing is published.
    pub dns: Option<Arc<DnsDesired>>,
    /// Limits on what one revision or pass may do.
    pub guards: Guards,
    /// All sites. Shared, so that an unchanged site stays the same allocation.
    pub sites: BTreeMap<SiteCode, Arc<SiteDesired>>,
}

/// A declared reconciler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReconcilerDesired {
    /// Its address.
    pub address: IpAddr,
    /// Where its API listens: letters to it as a voter go there.
    pub port: u16,
    /// Its failure zone.
    pub zone: Option<ZonePath>,
}

/// DNS publishing of the hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsDesired {
    /// Where the names live.
    pub domain: DomainName,
    /// The first takes updates, all are verified.
    pub servers: Vec<SocketAddr>,
    /// The first signs; more only while rotating.
    pub tsig: Vec<TsigKeyDesired>,
    /// TTL of published records.
    pub ttl: DurationMs,
    /// TTL of the alias to the active site server (H27).
    pub alias_ttl: DurationMs,
}

/// A TSIG key by name; its material is a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TsigKeyDesired {
    /// The key's name at the DNS servers (H22).
    pub name: String,
    /// The algorithm.
    pub algorithm: TsigAlgorithm,
    /// Where the material is looked up.
    pub secret: SecretName,
}

/// TSIG algorithms in use, RFC 8945.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum TsigAlgorithm {
    /// HMAC-SHA-256.
    #[serde(rename = "hmac-sha256")]
    HmacSha256,
    /// HMAC-SHA-384.
    #[serde(rename = "hmac-sha384")]
    HmacSha384,
    /// HMAC-SHA-512.
    #[serde(rename = "hmac-sha512")]
    HmacSha512,
}

/// Absolute budgets (design section 4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guards {
    /// Sites that may be changing at one time.
    pub max_sites_at_once: u32,
    /// Removals one revision may bring; more is held. Moves don't count.
    pub max_removals: u32,
    /// This many failed sites stop the revision.
    pub max_failed_sites: u32,
}

/// One site as declared.
#[derive(Debug, Clone, PartialEq)]
pub struct SiteDesired {
    /// The site code.
    pub code: SiteCode,
    /// Its kind.
    pub site_type: SiteType,
    /// The site above; none at the top.
    pub parent: Option<SiteCode>,
    /// Removing it takes two commits.
    pub protect: bool,
    /// Some part of it is `management: observe` or `prune: false`: until those are obeyed part by
    /// part, nothing of the site is changed.
    pub only_observed: bool,
    /// Operator's labels.
    pub labels: BTreeMap<String, String>,
    /// Its servers.
    pub servers: BTreeMap<ServerName, Box<ServerDesired>>,
    /// The site server; secondaries have one implied on their only candidate, or none.
    pub site_server: Option<SiteServerDesired>,
    /// The site database; none: not declared, or it is not said where it runs.
    pub database: Option<DatabaseDesired>,
    /// Where content is kept once for the site, as its URL.
    pub content_library: Option<String>,
    /// Role groups, the site server not among them; an embedded database is one.
    pub groups: BTreeMap<GroupName, Box<GroupDesired>>,
    /// Where the site is declared.
    pub place: Place,
}

/// A server as declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerDesired {
    /// Where clients reach it; published.
    pub address: IpAddr,
    /// TCP port of its site agent.
    pub agent_port: u16,
    /// Its failure zone.
    pub zone: Option<ZonePath>,
    /// Operator's labels, matched by `among`.
    pub labels: BTreeMap<String, String>,
    /// The name it had before (a rename, not a removal).
    pub was: Option<ServerName>,
    /// Removing it takes two commits.
    pub protect: bool,
    /// Where it is declared.
    pub place: Place,
}

/// The site server role of a site.
#[derive(Debug, Clone, PartialEq)]
pub struct SiteServerDesired {
    /// Where it runs.
    pub active: ServerName,
    /// Where it stands by, in order of preference.
    pub passive: Vec<ServerName>,
    /// Voters that never hold: servers or reconcilers.
    pub witnesses: Vec<ServerName>,
    /// How it runs; none: the built-in program, of which nothing is said.
    pub service: Option<ServiceDesired>,
    /// Its port.
    pub port: u16,
    /// What a site server under a lease is told of its site and store.
    pub settings: serde_json::Value,
    /// The lease; none: the declared active runs without one (H14).
    pub lease: Option<Box<LeaseDesired>>,
    /// Where `active` is declared.
    pub place: Place,
}

impl SiteServerDesired {
    /// Whether a lease says who is active. The holder's agent then writes the site's alias, and
    /// nobody else does (H22).
    #[must_use]
    pub const fn has_lease(&self) -> bool {
        self.lease.is_some()
    }
}

/// The lease of a site with passives whose site server checks the term. One with a program of its
/// own has none: nothing would stop that program on a server that lost the lease (H9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseDesired {
    /// Who shall vote: the active (rank 0), the passives in order of preference, the witnesses.
    /// Lives of ledgers are not known here.
    pub voters: BTreeMap<ServerName, VoterSpec>,
    /// Passives take over by themselves.
    pub automatic: bool,
    /// The declared active takes back by itself once it has been well for so long; none: by hand.
    pub failback_after: Option<DurationMs>,
    /// Unplanned failovers an hour; none: unlimited.
    pub failovers_per_hour: Option<u32>,
    /// Its lengths.
    pub timing: LeaseTiming,
}

/// The site database, as site servers reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseDesired {
    /// A small store process of the site (H13).
    Embedded {
        /// Where it runs.
        server: ServerName,
        /// Its TCP port.
        port: u16,
    },
    /// PostgreSQL, run by somebody else.
    Postgresql {
        /// Where it is reached, `host:port`.
        hosts: Vec<String>,
        /// The database's name.
        name: String,
        /// The user.
        user: String,
        /// The password, by name.
        password: Option<SecretName>,
        /// How the connection is protected.
        tls: DatabaseTls,
    },
}

/// How a database connection is protected, in PostgreSQL's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DatabaseTls {
    /// Not at all.
    Disable,
    /// Encrypted, the server not proven.
    Require,
    /// The certificate's chain is proven.
    VerifyCa,
    /// Chain and name are proven.
    VerifyFull,
}

/// A role group: one role on one or more servers.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupDesired {
    /// The group's name; the role's name where none is given.
    pub name: GroupName,
    /// The role.
    pub role: Role,
    /// On which servers.
    pub placement: Placement,
    /// When instances of a server that stays lost are placed elsewhere.
    pub move_after: DurationOrNever,
    /// Whether its healthy instances are published.
    pub publish: bool,
    /// TCP port of its instances.
    pub port: u16,
    /// How it runs; none: no program (H28).
    pub service: Option<ServiceDesired>,
    /// The role's own settings.
    pub settings: serde_json::Value,
    /// Waited after withdrawal in addition to the TTL last served (H27).
    pub drain_wait: DurationMs,
    /// Removing it takes two commits.
    pub protect: bool,
    /// Where it is declared.
    pub place: Place,
}

/// How an instance runs.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceDesired {
    /// What is started.
    pub program: Program,
    /// Its environment.
    pub env: BTreeMap<String, EnvValue>,
    /// How its health is found out; none: running is healthy.
    pub health: Option<HealthCheck>,
    /// How it is stopped.
    pub stop: StopRule,
}

/// On which servers a group's instances run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// On exactly these.
    ByHand(Vec<ServerName>),
    /// On this many of those whose labels match.
    ByCount {
        /// How many.
        instances: u16,
        /// All of these labels must match; empty: any server of the site.
        among: BTreeMap<String, String>,
        /// Place evenly over zones.
        spread_zones: bool,
    },
}
