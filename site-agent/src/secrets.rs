//! Secrets on disk: `secrets/NAME/VERSION`, 0600, apart from the ledger (H30).
//!
//! Only those the assignment names are kept, so that a server comes back after a power cut without
//! a reconciler. Names and versions are reported, values never.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use stead_schemas::names::SecretName;
use stead_schemas::wire::SecretMaterial;

use site_voting::durable;

/// The content version of each secret held.
pub type Versions = BTreeMap<SecretName, String>;

/// Largest value: what fits into one environment variable with room to spare.
pub const VALUE_MAX: usize = 60 * 1024;
const VERSION_MAX: usize = 100;

/// The secrets folder.
#[derive(Debug, Clone)]
pub struct SecretStore {
    dir: PathBuf,
}

impl SecretStore {
    /// The store in `dir`, made when it is first written to.
    #[must_use]
    pub const fn at(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The file with this version of this secret.
    #[must_use]
    pub fn file(&self, name: &SecretName, version: &str) -> PathBuf {
        self.dir.join(name.as_str()).join(version)
    }

    /// Makes the given ones durable, beside those there are.
    ///
    /// # Errors
    /// What the disk says; what was written is removed by the next [`SecretStore::retain`].
    pub fn store(&self, secrets: &BTreeMap<SecretName, SecretMaterial>) -> io::Result<()> {
        for (name, material) in secrets {
            let dir = self.dir.join(name.as_str());
            make_private(&self.dir)?;
            make_private(&dir)?;
            let file = dir.join(&material.version);
            if fs::read(&file).is_ok_and(|held| held == material.value.as_bytes()) {
                continue;
            }
            durable::write(&dir, &material.version, material.value.as_bytes(), 0o600)?;
        }
        Ok(())
    }

    /// Removes all versions but these. What can't be removed now is tried again the next time.
    pub fn retain(&self, keep: &Versions) {
        let wanted: BTreeSet<PathBuf> = keep
            .iter()
            .map(|(name, version)| self.file(name, version))
            .collect();
        for dir in entries(&self.dir) {
            for file in entries(&dir) {
                if !wanted.contains(&file) {
                    drop(fs::remove_file(&file));
                }
            }
            // Only an empty one goes.
            drop(fs::remove_dir(&dir));
        }
    }
}

/// Why a secret is not taken; never says its value.
///
/// # Errors
/// A sentence for the sender.
pub fn check(name: &SecretName, material: &SecretMaterial) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    let version = &material.version;
    if version.is_empty()
        || version.len() > VERSION_MAX
        || version.starts_with('.')
        || !version.chars().all(plain)
    {
        return Err(format!(
            "the version of secret {name} is not 1 to {VERSION_MAX} letters, digits, `-`, `_`, `.` or `:`"
        ));
    }
    if material.value.len() > VALUE_MAX {
        return Err(format!("secret {name} is larger than {VALUE_MAX} bytes"));
    }
    if material.value.contains('\0') {
        return Err(format!("secret {name} holds a NUL byte"));
    }
    Ok(())
}

fn make_private(dir: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).map_or_else(
        |_| Vec::new(),
        |entries| entries.flatten().map(|entry| entry.path()).collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn material(version: &str, value: &str) -> SecretMaterial {
        SecretMaterial {
            version: version.to_owned(),
            value: value.to_owned(),
        }
    }

    #[test]
    fn h30_private_by_version_and_gone_when_not_named() {
        let dir = tempfile::tempdir().unwrap();
        let store = SecretStore::at(dir.path().join("secrets"));
        let name = SecretName::new("db-password").unwrap();
        let first = BTreeMap::from([(name.clone(), material("v1", "alpha"))]);
        let second = BTreeMap::from([(name.clone(), material("v2", "beta"))]);
        store.store(&first).unwrap();
        store.store(&second).unwrap();
        let file = store.file(&name, "v1");
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(
            (fs::read_to_string(&file).unwrap().as_str(), mode & 0o777),
            ("alpha", 0o600)
        );
        store.retain(&Versions::from([(name.clone(), "v2".to_owned())]));
        assert!(!file.exists() && store.file(&name, "v2").exists());
        store.retain(&Versions::new());
        assert_eq!(entries(&dir.path().join("secrets")).len(), 0);
    }

    #[test]
    fn a_version_is_no_path() {
        let name = SecretName::new("a").unwrap();
        for wrong in ["", "../x", "a/b", ".hidden", &"x".repeat(101)] {
            let refused = check(&name, &material(wrong, "s3cr3t-value")).unwrap_err();
            assert!(!refused.contains("s3cr3t"), "{refused}");
        }
        assert!(check(&name, &material("sha256:00ff", "v")).is_ok());
        assert!(check(&name, &material("1", "a\0b")).is_err());
    }
}
