//! The programs that `site-agent` brings for roles; one file a role.
//!
//! `site-agent role NAME` runs one. They are ordinary instances: a keeper starts them, health checks
//! ask them, SIGTERM ends them. Which role runs where is not decided here.

mod confined;
pub mod distribution_point;
pub mod placeholder;
mod serve;
pub mod site_server;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use stead_schemas::role::Role;
use thiserror::Error;

/// A program that runs with `site-agent role NAME`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuiltIn {
    /// Serves a content folder.
    DistributionPoint,
    /// Answers for a role that has no program yet, and does nothing else (H28).
    Placeholder,
    /// Answers for the site server, and does nothing else: its work comes with the failover lease.
    SiteServer,
}

impl BuiltIn {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::DistributionPoint, Self::Placeholder, Self::SiteServer];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DistributionPoint => "distributionPoint",
            Self::Placeholder => "placeholder",
            Self::SiteServer => "siteServer",
        }
    }
}

impl FromStr for BuiltIn {
    type Err = RoleError;
    fn from_str(name: &str) -> Result<Self, RoleError> {
        Self::ALL
            .into_iter()
            .find(|one| one.name() == name)
            .ok_or_else(|| RoleError::Unknown(name.to_owned()))
    }
}

/// What a program is told on its command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleSettings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The folder that a distribution point serves.
    pub content: Option<PathBuf>,
}

/// Why a program does not run.
#[derive(Debug, Error)]
pub enum RoleError {
    /// There is no such program.
    #[error("there is no built-in role {0:?}")]
    Unknown(String),
    /// It can't listen.
    #[error("can't listen on {listen}")]
    Listen {
        /// Where.
        listen: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A distribution point needs a folder.
    #[error("a distribution point needs `--content DIR`")]
    NoContent,
    /// The folder can't be served.
    #[error("can't open the content folder {path}")]
    Content {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The system refuses signals.
    #[error("can't wait for signals")]
    Signals(#[source] io::Error),
}

/// Runs a program until SIGTERM or SIGINT, then lets answers under way finish.
///
/// # Errors
/// [`RoleError`].
pub async fn run(program: BuiltIn, settings: RoleSettings) -> Result<(), RoleError> {
    let router = match program {
        BuiltIn::DistributionPoint => {
            distribution_point::router(&settings.content.ok_or(RoleError::NoContent)?)?
        }
        BuiltIn::Placeholder => placeholder::router(),
        BuiltIn::SiteServer => site_server::router(),
    };
    serve::until_told(settings.listen, router).await
}

/// The program for a role, where there is one.
#[must_use]
pub const fn program_of(role: Role) -> Option<BuiltIn> {
    match role {
        Role::DistributionPoint => Some(BuiltIn::DistributionPoint),
        Role::SiteServer => Some(BuiltIn::SiteServer),
        Role::AssetIntelligencePoint
        | Role::Custom
        | Role::Database
        | Role::EndpointProtectionPoint
        | Role::EnrollmentPoint
        | Role::EnrollmentProxyPoint
        | Role::FallbackStatusPoint
        | Role::ManagementPoint
        | Role::ReportingPoint
        | Role::ServiceConnectionPoint
        | Role::SmsProvider
        | Role::SoftwareUpdatePoint
        | Role::StateMigrationPoint => None,
    }
}
