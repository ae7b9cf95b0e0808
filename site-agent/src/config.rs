//! Reading the agent's own settings: one `AgentConfig` document in a file on this machine.
//!
//! Relative paths in it are meant from the folder it lies in.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use stead_schemas::declared::settings::AgentConfig;
use stead_schemas::declared::{self, SourceFile};
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

fn parse(path: &Path, bytes: &[u8]) -> Result<AgentConfig, ConfigError> {
    let file = SourceFile::new(path.display().to_string(), bytes);
    declared::config::agent_config(&file).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        ConfigError::Wrong(lines.join("\n"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "apiVersion: stead/v1
kind: AgentConfig
metadata: {name: p01-a}
spec:
  hierarchy: contoso
  listen: 127.0.0.1:7443
  stateDir: state
  tls: {ca: /etc/stead/ca.crt, cert: server.crt, key: server.key}
";

    #[test]
    fn paths_are_meant_from_the_files_folder() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let file = dir.path().join("agent.yaml");
        std::fs::write(&file, GOOD).unwrap();
        let config = load(&file).unwrap();
        assert_eq!(config.server.as_str(), "p01-a");
        assert_eq!(config.spec.state_dir, base.join("state"));
        assert_eq!(config.spec.tls.ca, Path::new("/etc/stead/ca.crt"));
        assert_eq!(config.spec.tls.key, base.join("server.key"));
    }

    #[test]
    fn a_mistake_is_named_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent.yaml");
        std::fs::write(&file, GOOD.replace("stateDir", "statDir")).unwrap();
        let said = load(&file).unwrap_err().to_string();
        assert!(
            said.contains("agent.yaml:7") && said.contains("statDir"),
            "{said}"
        );
    }
}
