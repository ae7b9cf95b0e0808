//! The programs that `site-agent` brings for roles; one file a role.
//!
//! `site-agent role NAME` runs one. They are ordinary instances: a keeper starts them, health checks
//! ask them, SIGTERM ends them. Which role runs where is not decided here.

pub mod clock;
mod confined;
pub mod control;
pub mod database;
pub mod distribution_point;
pub mod placeholder;
mod serve;
pub mod settings;
pub mod site_server;
pub mod store;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use stead_schemas::role::Role;
use thiserror::Error;

use crate::clock::Clock;
use crate::settings::PairSettings;
use crate::site_server::SiteServer;

/// A program that runs with `site-agent role NAME`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuiltIn {
    /// The embedded store of a site, for labs and tests (H13).
    Database,
    /// Serves a content folder.
    DistributionPoint,
    /// Answers for a role that has no program yet, and does nothing else (H28).
    Placeholder,
    /// The site's own work; of a pair, on the agent's order.
    SiteServer,
}

impl BuiltIn {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Database,
        Self::DistributionPoint,
        Self::Placeholder,
        Self::SiteServer,
    ];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Database => "database",
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

/// What a program is told on its command line and by its environment.
#[derive(Debug, Clone)]
pub struct RoleSettings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The folder that a distribution point serves.
    pub content: Option<PathBuf>,
    /// The folder that a database keeps its file in.
    pub data: Option<PathBuf>,
    /// How a site server of a pair runs; none: the site has no lease.
    pub pair: Option<PairSettings>,
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
    /// A database needs a folder.
    #[error("a database needs STEAD_DATA, the folder for its file")]
    NoData,
    /// The store's file can't be opened.
    #[error("can't open the store in {path}")]
    Store {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The site server of a pair can't take orders or keep its record.
    #[error("can't listen for orders at {path}")]
    Control {
        /// The socket.
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
        BuiltIn::Database => database::router(&settings.data.ok_or(RoleError::NoData)?)?,
        BuiltIn::DistributionPoint => {
            distribution_point::router(&settings.content.ok_or(RoleError::NoContent)?)?
        }
        BuiltIn::Placeholder => placeholder::router(),
        BuiltIn::SiteServer => match settings.pair {
            Some(pair) => return stand_by(settings.listen, pair).await,
            None => site_server::router(),
        },
    };
    serve::until_told(settings.listen, router).await
}

async fn stand_by(listen: SocketAddr, pair: PairSettings) -> Result<(), RoleError> {
    let path = pair.control.clone();
    let server = SiteServer::start(pair, Clock::system())
        .map_err(|source| RoleError::Control { path, source })?;
    let served = serve::until_told(listen, server.router()).await;
    server.stop().await;
    served
}

/// The program for a role, where there is one.
#[must_use]
pub const fn program_of(role: Role) -> Option<BuiltIn> {
    match role {
        Role::Database => Some(BuiltIn::Database),
        Role::DistributionPoint => Some(BuiltIn::DistributionPoint),
        Role::SiteServer => Some(BuiltIn::SiteServer),
        Role::AssetIntelligencePoint
        | Role::Custom
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
