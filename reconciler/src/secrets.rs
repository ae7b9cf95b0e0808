//! The reconciler's secrets directory: `<site>/<name>`, then `<name>`, read again on change.
//!
//! Values go to agents beside assignments (H30) and to the DNS client as keys; they are never
//! logged, shown or stored. A file is taken up when its inode, size or modification time changes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use stead_schemas::names::{SecretName, SiteCode};
use stead_schemas::wire::SecretMaterial;

/// Larger files are no secrets.
const BYTES_MAX: u64 = 64 * 1024;

/// A secrets directory. `Debug` shows where, never what.
pub struct Secrets {
    dir: Option<PathBuf>,
    read: Mutex<BTreeMap<PathBuf, Read>>,
}

/// One file as last read.
struct Read {
    stamp: Stamp,
    material: SecretMaterial,
}

/// What changes when a file does.
#[derive(PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secrets")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

impl Secrets {
    /// The directory; none: no secret is ever found.
    #[must_use]
    pub const fn new(dir: Option<PathBuf>) -> Self {
        Self {
            dir,
            read: Mutex::new(BTreeMap::new()),
        }
    }

    /// The site's own secret of the name, else the hierarchy's. None where there is no such file,
    /// or one that can't be read: the log then says which and why.
    #[must_use]
    pub fn lookup(&self, site: Option<&SiteCode>, name: &SecretName) -> Option<SecretMaterial> {
        let dir = self.dir.as_ref()?;
        site.and_then(|site| self.read(&dir.join(site.as_str()).join(name.as_str())))
            .or_else(|| self.read(&dir.join(name.as_str())))
    }

    fn read(&self, path: &Path) -> Option<SecretMaterial> {
        let mut known = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(stamp) = stamp(path) else {
            known.remove(path);
            return None;
        };
        if let Some(read) = known.get(path)
            && read.stamp == stamp
        {
            return Some(read.material.clone());
        }
        match load(path) {
            Ok(material) => {
                let read = Read {
                    stamp,
                    material: material.clone(),
                };
                known.insert(path.to_owned(), read);
                Some(material)
            }
            Err(cause) => {
                tracing::warn!(path = %path.display(), %cause, "secret not usable");
                known.remove(path);
                None
            }
        }
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let meta = std::fs::metadata(path).ok().filter(|meta| meta.is_file())?;
    Some(Stamp {
        device: meta.dev(),
        inode: meta.ino(),
        size: meta.size(),
        changed: (meta.mtime(), meta.mtime_nsec()),
    })
}

fn load(path: &Path) -> Result<SecretMaterial, String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(format!("it is larger than {BYTES_MAX} bytes"));
    }
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())?;
    // Editors and `echo` end a file with one line feed; it is not part of the secret.
    let value = text.strip_suffix('\n').unwrap_or(&text).to_owned();
    if value.is_empty() {
        return Err("it is empty".to_owned());
    }
    Ok(SecretMaterial {
        version: version_of(&value),
        value,
    })
}

/// The content version that reports name: the first 12 digits of its SHA-256.
fn version_of(value: &str) -> String {
    ring::digest::digest(&ring::digest::SHA256, value.as_bytes())
        .as_ref()
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> SecretName {
        text.parse().unwrap()
    }

    #[test]
    fn the_sites_own_wins_and_changes_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = Secrets::new(Some(dir.path().to_owned()));
        let site: SiteCode = "P01".parse().unwrap();
        let db = name("db-password");
        assert!(secrets.lookup(Some(&site), &db).is_none());
        std::fs::write(dir.path().join("db-password"), "common\n").unwrap();
        let common = secrets.lookup(Some(&site), &db).unwrap();
        assert_eq!(common.value, "common");
        std::fs::create_dir(dir.path().join("P01")).unwrap();
        std::fs::write(dir.path().join("P01/db-password"), "own").unwrap();
        let own = secrets.lookup(Some(&site), &db).unwrap();
        assert_eq!(own.value, "own");
        assert_ne!(own.version, common.version);
        // As editors do it: a new file under the old name.
        std::fs::write(dir.path().join("P01/new"), "own2").unwrap();
        std::fs::rename(
            dir.path().join("P01/new"),
            dir.path().join("P01/db-password"),
        )
        .unwrap();
        assert_eq!(secrets.lookup(Some(&site), &db).unwrap().value, "own2");
        assert_eq!(secrets.lookup(None, &db).unwrap().value, "common");
    }

    #[test]
    fn what_is_no_secret_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = Secrets::new(Some(dir.path().to_owned()));
        std::fs::write(dir.path().join("empty"), "\n").unwrap();
        std::fs::write(dir.path().join("large"), vec![b'x'; 65 * 1024]).unwrap();
        std::fs::write(dir.path().join("bytes"), [0xff, 0xfe]).unwrap();
        std::fs::create_dir(dir.path().join("folder")).unwrap();
        for text in ["empty", "large", "bytes", "folder"] {
            assert!(secrets.lookup(None, &name(text)).is_none(), "{text}");
        }
        assert!(Secrets::new(None).lookup(None, &name("x")).is_none());
    }

    #[test]
    fn debug_shows_no_value() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("k"), "hunter2").unwrap();
        let secrets = Secrets::new(Some(dir.path().to_owned()));
        let found = secrets.lookup(None, &name("k"));
        assert!(!format!("{secrets:?} {found:?}").contains("hunter2"));
    }
}
