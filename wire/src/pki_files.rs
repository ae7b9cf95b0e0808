//! Certificates and keys on disk: whole or not at all, and never over what is there.
//!
//! Layout of a CA's folder: `ca.crt`, `ca.key`; issued pairs are `<kind>-<name>.crt` and `.key`.
//! Keys are 0600 from the first byte on, certificates 0644. Nothing replaces a file but [`replace`], for
//! a program's own renewal: an operator who wants a new certificate under the same name moves the old
//! one away.

use std::fs::{File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use stead_schemas::declared::settings::TlsFiles;
use stead_schemas::names::{Identity, IdentityKind};
use tempfile::NamedTempFile;
use thiserror::Error;

use crate::pki::{Ca, Issued, PkiError};

/// Largest CA file read.
const MAX_FILE: u64 = 256 * 1024;

/// Why files could not be read or written. Nothing is left half written.
#[derive(Debug, Error)]
pub enum PkiFileError {
    /// Something is there already.
    #[error("{path} exists and is not overwritten; move it away or name another folder")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Can't write there.
    #[error("can't write {path}; check the folder, its permissions and the free space")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Can't read the CA.
    #[error("can't read {path}; make a CA with `stead pki init`, or give its folder with --dir")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The CA's files are not a CA.
    #[error("the CA in {dir} can't be used")]
    Ca {
        /// The folder.
        dir: PathBuf,
        /// Why not.
        #[source]
        source: PkiError,
    },
}

/// The two files of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairPaths {
    /// The certificate, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM, 0600.
    pub key: PathBuf,
}

impl PairPaths {
    /// Where a CA lies in its folder.
    #[must_use]
    pub fn of_ca(dir: &Path) -> Self {
        Self::named(dir, "ca")
    }

    /// Where an issued pair lies: `server-p01-a.crt` and `.key`.
    #[must_use]
    pub fn of(dir: &Path, identity: &Identity) -> Self {
        let kind = match identity.kind {
            IdentityKind::Operator => "operator",
            IdentityKind::Reconciler => "reconciler",
            IdentityKind::Server => "server",
        };
        Self::named(dir, &format!("{kind}-{}", identity.name))
    }

    fn named(dir: &Path, stem: &str) -> Self {
        Self {
            certificate: dir.join(format!("{stem}.crt")),
            key: dir.join(format!("{stem}.key")),
        }
    }
}

/// Reads a CA back from its folder.
///
/// # Errors
/// [`PkiFileError::Read`] or [`PkiFileError::Ca`].
pub fn load_ca(dir: &Path) -> Result<Ca, PkiFileError> {
    let paths = PairPaths::of_ca(dir);
    let certificate = read_text(&paths.certificate)?;
    let key = read_text(&paths.key)?;
    Ca::from_pem(&certificate, &key).map_err(|source| PkiFileError::Ca {
        dir: dir.to_owned(),
        source,
    })
}

/// Fails when one of the two files is there already, even as a dangling link.
///
/// # Errors
/// [`PkiFileError::Exists`].
pub fn check_absent(paths: &PairPaths) -> Result<(), PkiFileError> {
    for path in [&paths.certificate, &paths.key] {
        if path.symlink_metadata().is_ok() {
            return Err(PkiFileError::Exists { path: path.clone() });
        }
    }
    Ok(())
}

/// Writes a certificate and its key, making the folder (0700) where it is missing. Both or
/// neither are there afterwards, synced.
///
/// # Errors
/// [`PkiFileError::Exists`] or [`PkiFileError::Write`].
pub fn write_pair(paths: &PairPaths, issued: &Issued) -> Result<(), PkiFileError> {
    // For a clear answer before anything is done; the writing itself can't overwrite either.
    check_absent(paths)?;
    write_new(&paths.key, &issued.key_pem, 0o600)?;
    write_new(&paths.certificate, &issued.certificate_pem, 0o644).inspect_err(|_| {
        // A key without its certificate is of no use and would block the next try.
        drop(std::fs::remove_file(&paths.key));
    })
}

/// Writes the CA's certificate beside issued files for those who are to trust it. The same
/// certificate being there already is fine.
///
/// # Errors
/// [`PkiFileError::Exists`] when another one is there, [`PkiFileError::Write`].
pub fn write_ca_certificate(dir: &Path, ca: &Ca) -> Result<PathBuf, PkiFileError> {
    let path = PairPaths::of_ca(dir).certificate;
    if path.symlink_metadata().is_err() {
        write_new(&path, ca.certificate_pem(), 0o644)?;
        return Ok(path);
    }
    let same = |text: &str| {
        let there = CertificateDer::from_pem_slice(text.as_bytes()).ok();
        there.is_some()
            && there == CertificateDer::from_pem_slice(ca.certificate_pem().as_bytes()).ok()
    };
    match read_text(&path) {
        Ok(text) if same(&text) => Ok(path),
        Ok(_) => Err(PkiFileError::Exists { path }),
        Err(error) => Err(error),
    }
}

/// Writes a file that others may read; the same text being there already is fine.
///
/// # Errors
/// [`PkiFileError::Exists`] when another text is there, [`PkiFileError::Write`].
pub fn write_same(path: &Path, text: &str) -> Result<(), PkiFileError> {
    match read_text(path) {
        Ok(there) if there == text => Ok(()),
        _ => write_new(path, text, 0o644),
    }
}

/// Puts a new certificate, its key and what it trusts in the place of those in use.
///
/// Each file changes whole. Between two of them certificate and key are no pair; a reader waits and
/// looks again, and what a crash leaves is mended by [`settle`].
///
/// # Errors
/// [`PkiFileError::Write`]; the files in use are as they were unless the last step failed.
pub fn replace(files: &TlsFiles, ca: &str, issued: (&str, &str)) -> Result<(), PkiFileError> {
    let (certificate, key) = issued;
    if read_text(&files.ca).ok().as_deref() != Some(ca) {
        put(&files.ca, ca, 0o644)?;
    }
    let (next_certificate, next_key) = (next(&files.cert), next(&files.key));
    // The key's successor is there from before the certificate's until it is in place: by it a crash
    // before is told from one after.
    put(&next_key, key, 0o600)?;
    put(&next_certificate, certificate, 0o644)?;
    rename(&next_key, &files.key)?;
    rename(&next_certificate, &files.cert)
}

/// Ends what a crash left of [`replace`]: the new pair where its key is in place already, else the old
/// one.
///
/// # Errors
/// [`PkiFileError::Write`].
pub fn settle(files: &TlsFiles) -> Result<(), PkiFileError> {
    let (certificate, key) = (next(&files.cert), next(&files.key));
    match (certificate.exists(), key.exists()) {
        (true, false) => rename(&certificate, &files.cert),
        (_, true) => {
            let removed = std::fs::remove_file(&key);
            removed.map_err(|source| PkiFileError::Write { path: key, source })?;
            drop(std::fs::remove_file(&certificate));
            Ok(())
        }
        (false, false) => Ok(()),
    }
}

/// Where a file's successor waits.
fn next(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".next");
    name.into()
}

fn rename(from: &Path, to: &Path) -> Result<(), PkiFileError> {
    let done = std::fs::rename(from, to).and_then(|()| File::open(parent(to))?.sync_all());
    done.map_err(|source| PkiFileError::Write {
        path: to.to_owned(),
        source,
    })
}

/// Writes a file whole and synced, over what is there.
fn put(path: &Path, text: &str, mode: u32) -> Result<(), PkiFileError> {
    let failed = |source| PkiFileError::Write {
        path: path.to_owned(),
        source,
    };
    let file = staged(path, text, mode)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    let synced = File::open(parent(path)).and_then(|dir| dir.sync_all());
    synced.map_err(failed)
}

/// A synced file beside where it is to be. 0600 from the first byte: a key is at no moment readable by
/// others.
fn staged(path: &Path, text: &str, mode: u32) -> Result<NamedTempFile, PkiFileError> {
    let failed = |source| PkiFileError::Write {
        path: path.to_owned(),
        source,
    };
    let mut file = NamedTempFile::new_in(parent(path)).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.as_file()
        .set_permissions(Permissions::from_mode(mode))
        .map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    Ok(file)
}

/// Reads a PEM file, to the largest there may be.
///
/// # Errors
/// [`PkiFileError::Read`].
pub fn read_text(path: &Path) -> Result<String, PkiFileError> {
    let failed = |source| PkiFileError::Read {
        path: path.to_owned(),
        source,
    };
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_FILE)
        .read_to_string(&mut text)
        .map_err(failed)?;
    Ok(text)
}

fn ensure_folder(dir: &Path) -> Result<(), PkiFileError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| PkiFileError::Write {
            path: dir.to_owned(),
            source,
        })
}

/// Writes a file that is not there yet, whole and synced, making its folder (0700) where it is missing.
///
/// # Errors
/// [`PkiFileError::Exists`] or [`PkiFileError::Write`].
pub fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), PkiFileError> {
    ensure_folder(parent(path))?;
    let failed = |source| PkiFileError::Write {
        path: path.to_owned(),
        source,
    };
    let dir = parent(path);
    match staged(path, text, mode)?.persist_noclobber(path) {
        Ok(_) => {}
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(PkiFileError::Exists {
                path: path.to_owned(),
            });
        }
        Err(error) => return Err(failed(error.error)),
    }
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(failed)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use stead_schemas::time::WallMs;

    use super::*;
    use crate::pki::create_ca;

    fn made() -> Issued {
        let now = WallMs(1_795_000_000_000);
        create_ca(&"contoso".parse().unwrap(), now).unwrap()
    }

    fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let mut all: Vec<_> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.clone(), std::fs::read(&path).unwrap()))
            .collect();
        all.sort();
        all
    }

    /// Every place at which a crash can stop it leaves a pair.
    #[test]
    fn a_replacement_that_was_cut_short_is_ended_or_undone() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let files = TlsFiles {
            ca: at("ca.crt"),
            cert: at("own.crt"),
            key: at("own.key"),
        };
        let (old, new) = (made(), made());
        let write = |path: &Path, text: &str| std::fs::write(path, text).unwrap();
        let pair = |issued: &Issued| (issued.certificate_pem.clone(), issued.key_pem.clone());
        let found = || {
            (
                read_text(&files.cert).unwrap(),
                read_text(&files.key).unwrap(),
            )
        };
        let begin = || {
            write(&files.cert, &old.certificate_pem);
            write(&files.key, &old.key_pem);
        };
        let (next_certificate, next_key) = (next(&files.cert), next(&files.key));
        // After the first file, after both, after the first rename.
        begin();
        write(&next_key, &new.key_pem);
        settle(&files).unwrap();
        assert_eq!(found(), pair(&old));
        write(&next_key, &new.key_pem);
        write(&next_certificate, &new.certificate_pem);
        settle(&files).unwrap();
        assert_eq!(found(), pair(&old));
        begin();
        write(&files.key, &new.key_pem);
        write(&next_certificate, &new.certificate_pem);
        settle(&files).unwrap();
        assert_eq!(found(), pair(&new));
        assert_eq!(contents(dir.path()).len(), 2);
        // And whole.
        begin();
        replace(
            &files,
            &old.certificate_pem,
            (&new.certificate_pem, &new.key_pem),
        )
        .unwrap();
        assert_eq!(found(), pair(&new));
        assert_eq!(read_text(&files.ca).unwrap(), old.certificate_pem);
        assert_eq!(contents(dir.path()).len(), 3);
        let mode = files.key.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        settle(&files).unwrap();
        assert_eq!(found(), pair(&new));
    }

    #[test]
    fn keys_are_0600_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let pki = dir.path().join("deep/pki");
        let paths = PairPaths::of_ca(&pki);
        write_pair(&paths, &made()).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&paths.key), 0o600);
        assert_eq!(mode(&paths.certificate), 0o644);
        assert_eq!(mode(&pki), 0o700);
        assert_eq!(contents(&pki).len(), 2);
        assert_eq!(load_ca(&pki).unwrap().hierarchy().as_str(), "contoso");
    }

    #[test]
    fn a_second_time_is_refused_and_leaves_files_as_they_were() {
        let dir = tempfile::tempdir().unwrap();
        let paths = PairPaths::of_ca(dir.path());
        write_pair(&paths, &made()).unwrap();
        let before = contents(dir.path());
        let second = write_pair(&paths, &made());
        assert!(matches!(second, Err(PkiFileError::Exists { .. })));
        assert_eq!(contents(dir.path()), before);
    }

    #[test]
    fn one_half_there_keeps_the_other_from_being_written() {
        for half in ["ca.crt", "ca.key"] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join(half), "mine").unwrap();
            let refused = write_pair(&PairPaths::of_ca(dir.path()), &made());
            assert!(matches!(refused, Err(PkiFileError::Exists { .. })));
            assert_eq!(
                contents(dir.path()),
                [(dir.path().join(half), b"mine".to_vec())]
            );
        }
    }

    #[test]
    fn a_missing_ca_names_the_file_and_the_command() {
        let dir = tempfile::tempdir().unwrap();
        let text = load_ca(dir.path()).unwrap_err().to_string();
        assert!(
            text.contains("ca.crt") && text.contains("stead pki init"),
            "{text}"
        );
    }

    #[test]
    fn the_same_ca_certificate_may_be_there_and_another_may_not() {
        let ca_dir = tempfile::tempdir().unwrap();
        let out = tempfile::tempdir().unwrap();
        write_pair(&PairPaths::of_ca(ca_dir.path()), &made()).unwrap();
        let ca = load_ca(ca_dir.path()).unwrap();
        write_ca_certificate(out.path(), &ca).unwrap();
        write_ca_certificate(out.path(), &ca).unwrap();
        std::fs::write(out.path().join("ca.crt"), made().certificate_pem).unwrap();
        let refused = write_ca_certificate(out.path(), &ca);
        assert!(matches!(refused, Err(PkiFileError::Exists { .. })));
    }
}
