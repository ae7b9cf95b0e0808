//! The role catalogue: one table with each role's rules.
//!
//! Checks, planner, agent and publisher all read this table, so a rule is stated once. Sources are
//! the requirement tags in the comments. It does not hold how an instance runs (`desired`), nor
//! limits of other people's software (warnings in `declared::check`).

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::NameError;

/// Where built-in roles answer for their health.
pub const BUILT_IN_HEALTH_PATH: &str = "/health";
/// Port of an embedded database that names none; the catalogue's is PostgreSQL's.
pub const EMBEDDED_DATABASE_PORT: u16 = 7450;

/// What kind of site it is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum SiteType {
    /// The top site of a hierarchy with several primaries; has no clients (HI-8).
    Central,
    /// A site with clients of its own.
    Primary,
    /// A child of a primary.
    Secondary,
}

impl fmt::Display for SiteType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Central => "central",
            Self::Primary => "primary",
            Self::Secondary => "secondary",
        })
    }
}

/// A kind of service.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the catalogue table describes each")]
pub enum Role {
    AssetIntelligencePoint,
    Custom,
    Database,
    DistributionPoint,
    EndpointProtectionPoint,
    EnrollmentPoint,
    EnrollmentProxyPoint,
    FallbackStatusPoint,
    ManagementPoint,
    ReportingPoint,
    ServiceConnectionPoint,
    SiteServer,
    SmsProvider,
    SoftwareUpdatePoint,
    StateMigrationPoint,
}

/// How widely a role is unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// One for the whole hierarchy, at the top site.
    Hierarchy,
    /// As many as the site type allows.
    Site,
}

/// The rules of one role.
#[derive(Debug, Clone, Copy)]
pub struct CatalogueEntry {
    /// The role.
    pub role: Role,
    /// Its name in YAML.
    pub name: &'static str,
    /// What it does, in a line; shown by `stead explain`.
    pub summary: &'static str,
    /// How widely it is unique.
    pub scope: Scope,
    /// Where it may stand.
    pub site_types: &'static [SiteType],
    /// At most this many instances in a site of the type given; none where unlimited.
    pub max_per_site: &'static [(SiteType, u16)],
    /// The requirement that sets site types and number.
    pub tag: &'static str,
    /// Whether a new instance may run while an old one may still be running (H8).
    pub may_overlap: bool,
    /// Its TCP port where none is declared; all differ, so that roles can share a server.
    pub default_port: u16,
    /// Whether its instances get `<group>.<code>` addresses unless `publish: false`.
    pub publishes: bool,
    /// Whether `site-agent` brings a program for it (H28).
    pub built_in: bool,
    /// Kept for old hierarchies only.
    pub deprecated: bool,
}

use SiteType::{Central, Primary, Secondary};

const ALL: &[SiteType] = &[Central, Primary, Secondary];
const TOP: &[SiteType] = &[Central, Primary];

/// Every role, in the order of their YAML names.
pub const CATALOGUE: &[CatalogueEntry] = &[
    CatalogueEntry {
        deprecated: true,
        scope: Scope::Hierarchy,
        site_types: TOP,
        max_per_site: &[(Central, 1), (Primary, 1)],
        tag: "NH-1",
        may_overlap: false,
        default_port: 8441,
        ..entry(
            Role::AssetIntelligencePoint,
            "assetIntelligencePoint",
            "Synchronises the asset catalogue; one in a hierarchy, at the top site",
        )
    },
    entry(Role::Custom, "custom", "Any program of the operator's own"),
    CatalogueEntry {
        site_types: TOP,
        tag: "SS-2",
        may_overlap: false,
        default_port: 5432,
        publishes: false,
        built_in: true,
        ..entry(Role::Database, "database", "The site database")
    },
    CatalogueEntry {
        site_types: &[Primary, Secondary],
        max_per_site: &[(Primary, 250), (Secondary, 250)],
        tag: "DP-1",
        default_port: 80,
        built_in: true,
        ..entry(
            Role::DistributionPoint,
            "distributionPoint",
            "Serves content to clients over HTTP",
        )
    },
    CatalogueEntry {
        scope: Scope::Hierarchy,
        site_types: TOP,
        max_per_site: &[(Central, 1), (Primary, 1)],
        tag: "NH-2",
        may_overlap: false,
        default_port: 8442,
        ..entry(
            Role::EndpointProtectionPoint,
            "endpointProtectionPoint",
            "Endpoint protection policies; one in a hierarchy, at the top site",
        )
    },
    CatalogueEntry {
        site_types: &[Primary],
        tag: "NH-3",
        default_port: 8446,
        ..entry(Role::EnrollmentPoint, "enrollmentPoint", "Enrols devices")
    },
    CatalogueEntry {
        site_types: &[Primary],
        tag: "NH-4",
        default_port: 8447,
        ..entry(
            Role::EnrollmentProxyPoint,
            "enrollmentProxyPoint",
            "Takes enrolment requests at the edge; several are balanced by DNS",
        )
    },
    CatalogueEntry {
        site_types: &[Primary],
        tag: "FS-2",
        default_port: 8008,
        ..entry(
            Role::FallbackStatusPoint,
            "fallbackStatusPoint",
            "Where clients report when they reach no management point",
        )
    },
    CatalogueEntry {
        site_types: &[Primary, Secondary],
        max_per_site: &[(Primary, 15), (Secondary, 1)],
        tag: "MP-1",
        ..entry(
            Role::ManagementPoint,
            "managementPoint",
            "Gives clients policy and takes their data",
        )
    },
    CatalogueEntry {
        site_types: TOP,
        tag: "RS-1",
        may_overlap: false,
        default_port: 8445,
        ..entry(Role::ReportingPoint, "reportingPoint", "Serves reports")
    },
    CatalogueEntry {
        scope: Scope::Hierarchy,
        site_types: TOP,
        max_per_site: &[(Central, 1), (Primary, 1)],
        tag: "NH-6",
        may_overlap: false,
        publishes: false,
        default_port: 8448,
        ..entry(
            Role::ServiceConnectionPoint,
            "serviceConnectionPoint",
            "Talks to cloud services; one in a hierarchy, at the top site",
        )
    },
    CatalogueEntry {
        site_types: ALL,
        tag: "SS-1",
        may_overlap: false,
        publishes: false,
        default_port: 8443,
        built_in: true,
        ..entry(
            Role::SiteServer,
            "siteServer",
            "Does the site's own work; active on one server",
        )
    },
    CatalogueEntry {
        site_types: TOP,
        tag: "PR-1",
        publishes: true,
        default_port: 8444,
        ..entry(
            Role::SmsProvider,
            "smsProvider",
            "Through which administrators reach the site; one a server",
        )
    },
    CatalogueEntry {
        max_per_site: &[(Secondary, 1)],
        tag: "SU-1",
        default_port: 8531,
        ..entry(
            Role::SoftwareUpdatePoint,
            "softwareUpdatePoint",
            "Serves the update catalogue",
        )
    },
    CatalogueEntry {
        site_types: &[Primary, Secondary],
        tag: "SMP-1",
        may_overlap: false,
        default_port: 8449,
        ..entry(
            Role::StateMigrationPoint,
            "stateMigrationPoint",
            "Keeps user state while machines are replaced",
        )
    },
];

const fn entry(role: Role, name: &'static str, summary: &'static str) -> CatalogueEntry {
    CatalogueEntry {
        role,
        name,
        summary,
        scope: Scope::Site,
        site_types: ALL,
        max_per_site: &[],
        tag: "ROLES",
        may_overlap: true,
        default_port: 443,
        publishes: true,
        built_in: false,
        deprecated: false,
    }
}

impl Role {
    /// The role's rules.
    #[must_use]
    pub fn rules(self) -> &'static CatalogueEntry {
        CATALOGUE
            .iter()
            .find(|entry| entry.role == self)
            .expect("a test asserts every role is in")
    }

    /// The role's name in YAML.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.rules().name
    }
}

impl CatalogueEntry {
    /// The most instances a site of this type may have.
    #[must_use]
    pub fn max_in(&self, site_type: SiteType) -> Option<u16> {
        self.max_per_site
            .iter()
            .find(|(t, _)| *t == site_type)
            .map(|(_, max)| *max)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Role {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        CATALOGUE
            .iter()
            .find(|entry| entry.name == text)
            .map(|entry| entry.role)
            .ok_or_else(|| NameError {
                text: text.to_owned(),
                kind: "role",
                want: "one of the catalogue (stead explain Site.spec.roles), or `custom`",
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_is_in_the_catalogue_once_under_its_yaml_name() {
        for entry in CATALOGUE {
            let written = serde_json::to_value(entry.role).unwrap();
            assert_eq!(written, entry.name);
            assert_eq!(entry.role.rules().name, entry.name);
            assert_eq!(entry.name.parse::<Role>().unwrap(), entry.role);
        }
        assert_eq!(
            CATALOGUE.len(),
            15,
            "the 14 roles of design section 3 and `custom`"
        );
    }

    #[test]
    fn default_ports_differ_so_that_roles_can_share_a_server() {
        let mut ports: Vec<u16> = CATALOGUE
            .iter()
            .filter(|entry| entry.role != Role::Custom)
            .map(|entry| entry.default_port)
            .collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), CATALOGUE.len() - 1);
    }
}
