//! Reading the agent's own settings: one `AgentConfig` document in a file on this machine.
//!
//! Relative paths in it are meant from the folder it lies in.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use stead_schemas::declared::settings::{AgentConfig, AgentSettings};
use stead_schemas::names::ServerName;
use thiserror::Error;

/// Largest settings file.
const SIZE_MAX: u64 = 1024 * 1024;

/// Why the settings can't be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("can't read the settings {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What is in it can't be used.
    #[error("{0}")]
    Wrong(String),
}

/// The settings in this file.
///
/// # Errors
/// [`ConfigError`], naming file and place.
pub fn load(path: &Path) -> Result<AgentConfig, ConfigError> {
    let failed = |source| ConfigError::Read {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    File::open(path)
        .map_err(failed)?
        .take(SIZE_MAX)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    let mut config = parse(path, &bytes)?;
    let base = path.parent().unwrap_or_else(|| Path::new(""));
    let base = base.canonicalize().unwrap_or_else(|_| base.to_owned());
    let spec = &mut config.spec;
    for path in [
        &mut spec.state_dir,
        &mut spec.tls.ca,
        &mut spec.tls.cert,
        &mut spec.tls.key,
    ] {
        *path = base.join(&*path);
    }
    spec.content_dir = spec.content_dir.as_ref().map(|path| base.join(path));
    Ok(config)
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    metadata: Metadata,
    spec: AgentSettings,
}

#[derive(serde::Deserialize)]
struct Metadata {
    name: ServerName,
}

fn parse(path: &Path, bytes: &[u8]) -> Result<AgentConfig, ConfigError> {
    let document: Document = serde_json::from_slice(bytes)
        .map_err(|error| ConfigError::Wrong(format!("{}: {error}", path.display())))?;
    Ok(AgentConfig {
        server: document.metadata.name,
        spec: document.spec,
    })
}
