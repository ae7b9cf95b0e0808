//! What built-in roles are told: the environment that an agent gives, and `STEAD_SETTINGS` in it.
//!
//! Read once at the start. The database password comes in a variable of its own, because keepers
//! hand secrets over in the environment (H30); it is never shown.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stead_schemas::desired::DatabaseTls;
use thiserror::Error;

/// Longest `STEAD_SETTINGS`.
const SETTINGS_MAX: usize = 64 * 1024;
/// Most hosts of one database.
pub const HOSTS_MAX: usize = 8;
const TIMEOUT_MS: u64 = 2_000;

/// The settings of a site server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SiteServerSettings {
    /// The site's code.
    pub site: String,
    /// Where its work is kept.
    pub store: StoreSettings,
    /// Longest wait for one operation of the store, in milliseconds; shorter than the lease.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
}

const fn timeout_ms() -> u64 {
    TIMEOUT_MS
}

impl SiteServerSettings {
    /// Longest wait for one operation of the store.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms.clamp(100, 60_000))
    }
}

/// A store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StoreSettings {
    /// `site-agent role database`.
    Embedded(EmbeddedSettings),
    /// PostgreSQL.
    Postgresql(PostgresSettings),
}

/// Where the embedded store is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EmbeddedSettings {
    /// Its address and port.
    pub address: SocketAddr,
}

/// Where a PostgreSQL is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PostgresSettings {
    /// `host:port` each; the writable one is used.
    pub hosts: Vec<String>,
    /// The database.
    pub name: String,
    /// The user.
    pub user: String,
    /// How the connection is protected.
    pub tls: DatabaseTls,
    /// PEM file with the authorities that `verify-ca` and `verify-full` believe; default: the
    /// system's.
    #[serde(default)]
    pub ca: Option<PathBuf>,
}

/// A word that is not shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Password(Option<String>);

impl Password {
    /// This one.
    #[must_use]
    pub const fn new(word: Option<String>) -> Self {
        Self(word)
    }

    pub(crate) fn reveal(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "(set)" } else { "(none)" })
    }
}

/// What a site server of a pair runs with.
#[derive(Debug, Clone)]
pub struct PairSettings {
    /// This server's name: the holder in the token.
    pub holder: String,
    /// The settings.
    pub settings: SiteServerSettings,
    /// Where it serves, and where its calls to an embedded store leave from.
    pub address: Option<IpAddr>,
    /// For PostgreSQL.
    pub password: Password,
    /// The socket that the agent connects to.
    pub control: PathBuf,
    /// The folder for `intervals.log`.
    pub data: PathBuf,
}

/// What is wrong with the environment.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// Something is missing.
    #[error("{0} is not set, as an agent sets it")]
    Missing(&'static str),
    /// The settings can't be read. What stood there is not repeated.
    #[error("STEAD_SETTINGS can't be read: line {line}, column {column}")]
    Unreadable {
        /// Where.
        line: usize,
        /// Where.
        column: usize,
    },
    /// They break a bound.
    #[error("STEAD_SETTINGS: {0}")]
    Bound(&'static str),
}

/// The environment, by name.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// How the site server of a pair runs; none: there is no `STEAD_CONTROL`, the site has no lease.
///
/// # Errors
/// [`SettingsError`].
pub fn pair(env: Environment<'_>) -> Result<Option<PairSettings>, SettingsError> {
    let Some(control) = env("STEAD_CONTROL").filter(|path| !path.is_empty()) else {
        return Ok(None);
    };
    let text = env("STEAD_SETTINGS").ok_or(SettingsError::Missing("STEAD_SETTINGS"))?;
    if text.len() > SETTINGS_MAX {
        return Err(SettingsError::Bound("longer than 64 KiB"));
    }
    let settings: SiteServerSettings =
        serde_json::from_str(&text).map_err(|error| SettingsError::Unreadable {
            line: error.line(),
            column: error.column(),
        })?;
    if let StoreSettings::Postgresql(postgres) = &settings.store
        && !(1..=HOSTS_MAX).contains(&postgres.hosts.len())
    {
        return Err(SettingsError::Bound("a database has 1 to 8 hosts"));
    }
    Ok(Some(PairSettings {
        holder: holder(env)?,
        address: env("STEAD_ADDRESS").and_then(|text| text.parse().ok()),
        settings,
        password: Password::new(env("STEAD_DATABASE_PASSWORD")),
        control: control.into(),
        data: data(env)?,
    }))
}

/// The instance's data folder.
///
/// # Errors
/// [`SettingsError::Missing`].
pub fn data(env: Environment<'_>) -> Result<PathBuf, SettingsError> {
    env("STEAD_DATA")
        .map(PathBuf::from)
        .ok_or(SettingsError::Missing("STEAD_DATA"))
}

/// `STEAD_SERVER`, or the server of `STEAD_INSTANCE`, which is `<group>@<server>`.
fn holder(env: Environment<'_>) -> Result<String, SettingsError> {
    let of_instance = || Some(env("STEAD_INSTANCE")?.rsplit_once('@')?.1.to_owned());
    env("STEAD_SERVER")
        .or_else(of_instance)
        .filter(|name| !name.is_empty())
        .ok_or(SettingsError::Missing("STEAD_INSTANCE"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Option<PairSettings>, SettingsError> {
        let env = |name: &str| {
            let found = pairs.iter().find(|(key, _)| *key == name)?;
            Some(found.1.to_owned())
        };
        pair(&env)
    }

    const POSTGRES: &str = r#"{"site":"P01","store":{"postgresql":{"hosts":["h:5432"],
        "name":"cm_p01","user":"cm","tls":"verify-full"}}}"#;

    #[test]
    fn a_site_server_of_a_pair_is_told_by_its_environment() {
        assert!(read(&[]).unwrap().is_none(), "a site without passives");
        let told = read(&[
            ("STEAD_CONTROL", "/run/c.sock"),
            ("STEAD_INSTANCE", "siteServer@p01-a"),
            ("STEAD_DATA", "/data"),
            ("STEAD_DATABASE_PASSWORD", "hunter2"),
            ("STEAD_SETTINGS", POSTGRES),
        ])
        .unwrap()
        .unwrap();
        assert_eq!(told.holder, "p01-a");
        assert_eq!(told.settings.timeout(), Duration::from_secs(2));
        assert!(!format!("{told:?}").contains("hunter2"), "H30");
        let StoreSettings::Postgresql(store) = told.settings.store else {
            panic!("another store");
        };
        assert_eq!(store.tls, DatabaseTls::VerifyFull);
    }

    #[test]
    fn what_can_not_be_read_is_not_repeated() {
        let broken = [
            ("STEAD_CONTROL", "/run/c.sock"),
            ("STEAD_SETTINGS", r#"{"site":"P01","password":"hunter2"}"#),
        ];
        let error = read(&broken).unwrap_err();
        assert!(matches!(error, SettingsError::Unreadable { .. }));
        assert!(!error.to_string().contains("hunter2"));
        let none = [("STEAD_CONTROL", "/c"), ("STEAD_SETTINGS", POSTGRES)];
        assert!(matches!(read(&none), Err(SettingsError::Missing(_))));
    }
}
