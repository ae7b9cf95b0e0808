//! A program's own certificate, key and CA, read from three files and checked once.
//!
//! What is checked here: the files are readable and of sane size, hold what they should, the key
//! belongs to the certificate, and the certificate carries an identity. Not checked: whether the
//! CA signed it and whether it is in date; peers do that at every handshake.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::CertifiedKey;
use stead_schemas::declared::settings::TlsFiles;
use stead_schemas::names::Identity;
use thiserror::Error;

use crate::dates::Validity;
use crate::identity::{IdentityError, identity_of};
use crate::meeting::Pin;
use crate::verify::verify_under;

/// Largest file read: a chain of a dozen certificates is below 30 KiB.
const MAX_FILE: u64 = 256 * 1024;

/// Why certificate, key or CA can't be used.
#[derive(Debug, Error)]
pub enum MaterialError {
    /// A file can't be read.
    #[error("can't read {what} {path}; check that the file exists and who may read it")]
    Read {
        /// Which of the three.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file is larger than any certificate file.
    #[error("{what} {path} is larger than {MAX_FILE} bytes; is it the right file?")]
    TooLarge {
        /// Which of the three.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// No usable PEM in it.
    #[error("{what}{} holds no PEM {want}; is it the right file?", at(path.as_deref()))]
    NoPem {
        /// Which of the three.
        what: &'static str,
        /// The file, if it came from one.
        path: Option<PathBuf>,
        /// What was looked for.
        want: &'static str,
    },
    /// The certificate or CA is not one that TLS can use.
    #[error("{what}{} can't be used; issue a new one with `stead pki issue`", at(path.as_deref()))]
    Unusable {
        /// Which of the three.
        what: &'static str,
        /// The file, if it came from one.
        path: Option<PathBuf>,
        /// What rustls said.
        #[source]
        source: rustls::Error,
    },
    /// Key and certificate are not a pair.
    #[error("the key{} does not belong to the certificate; use the two files issued together", at(path.as_deref()))]
    NotAPair {
        /// The key file, if it came from one.
        path: Option<PathBuf>,
    },
    /// The certificate speaks for nobody.
    #[error("the certificate{} can't be used", at(path.as_deref()))]
    Identity {
        /// The certificate file, if it came from one.
        path: Option<PathBuf>,
        /// Why.
        #[source]
        source: IdentityError,
    },
}

fn at(path: Option<&Path>) -> String {
    path.map_or_else(String::new, |p| format!(" {}", p.display()))
}

/// Certificate, key and trusted CAs, checked. `Debug` shows the identity alone.
#[derive(Clone)]
pub struct Material {
    pub(crate) roots: Arc<RootCertStore>,
    pub(crate) pair: Arc<CertifiedKey>,
    /// The CAs as they are, for those who know one by its digest alone ([`crate::meeting`]).
    pub(crate) authorities: Arc<[CertificateDer<'static>]>,
    identity: Identity,
    validity: Validity,
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Material({})", self.identity)
    }
}

impl Material {
    /// Reads and checks the three files. Warns in the log when others may read the key.
    ///
    /// # Errors
    /// [`MaterialError`], naming file and remedy.
    pub fn load(paths: &TlsFiles) -> Result<Self, MaterialError> {
        let ca = read_capped("CA file", &paths.ca)?;
        let certificate = read_capped("certificate", &paths.cert)?;
        let key = read_capped("key", &paths.key)?;
        warn_if_exposed(&paths.key);
        Self::check(&ca, &certificate, &key, Some(paths))
    }

    /// The same from memory; `ca`, `certificate` and `key` are PEM.
    ///
    /// # Errors
    /// [`MaterialError`].
    pub fn from_pem(ca: &str, certificate: &str, key: &str) -> Result<Self, MaterialError> {
        Self::check(ca.as_bytes(), certificate.as_bytes(), key.as_bytes(), None)
    }

    /// Who this program is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// When the certificate, and what signed it, is valid.
    #[must_use]
    pub const fn validity(&self) -> Validity {
        self.validity
    }

    /// Whether the CA of this digest is among those trusted.
    #[must_use]
    pub fn trusts(&self, pin: &Pin) -> bool {
        self.authorities.iter().any(|ca| Pin::of(ca) == *pin)
    }

    /// Whether the certificate is of one of the trusted CAs. Dates aside: they are looked at in use.
    #[must_use]
    pub fn is_of_a_trusted_ca(&self) -> bool {
        let (algorithms, at) = (
            provider().signature_verification_algorithms,
            self.validity.begins,
        );
        let at = UnixTime::since_unix_epoch(Duration::from_millis(at.0));
        let verified = self
            .pair
            .cert
            .split_first()
            .map(|(leaf, above)| verify_under(&self.roots, &algorithms, leaf, above, at));
        matches!(verified, Some(Ok(())))
    }

    fn check(
        ca: &[u8],
        certificate: &[u8],
        key: &[u8],
        paths: Option<&TlsFiles>,
    ) -> Result<Self, MaterialError> {
        let ca_path = paths.map(|p| p.ca.clone());
        let path = paths.map(|p| p.cert.clone());
        let key_path = paths.map(|p| p.key.clone());
        let authorities = certificates("CA file", ca, ca_path.as_ref())?;
        let roots = trusted(&authorities, ca_path)?;
        let chain = certificates("certificate", certificate, path.as_ref())?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| MaterialError::NoPem {
            what: "key",
            path: key_path.clone(),
            want: "private key",
        })?;
        let identity = identity_of(&chain[0]).map_err(|source| MaterialError::Identity {
            path: path.clone(),
            source,
        })?;
        let validity = Validity::of_chain(&chain[0], &chain[1..]);
        let pair =
            CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => MaterialError::NotAPair { path: key_path },
                source => MaterialError::Unusable {
                    what: "certificate or key",
                    path,
                    source,
                },
            })?;
        Ok(Self {
            roots: Arc::new(roots),
            pair: Arc::new(pair),
            authorities: authorities.into(),
            identity,
            validity,
        })
    }
}

/// The one crypto provider of Stead, named everywhere so that no process default is needed.
pub(crate) fn provider() -> CryptoProvider {
    ring::default_provider()
}

fn read_capped(what: &'static str, path: &Path) -> Result<Vec<u8>, MaterialError> {
    let failed = |source| MaterialError::Read {
        what,
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(MaterialError::TooLarge {
            what,
            path: path.to_owned(),
        });
    }
    Ok(bytes)
}

fn warn_if_exposed(key: &Path) {
    let Ok(metadata) = std::fs::metadata(key) else {
        return;
    };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        tracing::warn!(
            key = %key.display(),
            mode = format!("{mode:o}"),
            "others on this machine may read the private key; chmod 600 it"
        );
    }
}

fn certificates(
    what: &'static str,
    pem: &[u8],
    path: Option<&PathBuf>,
) -> Result<Vec<CertificateDer<'static>>, MaterialError> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .ok()
        .filter(|chain| !chain.is_empty())
        .ok_or_else(|| MaterialError::NoPem {
            what,
            path: path.cloned(),
            want: "certificate",
        })
}

fn trusted(
    authorities: &[CertificateDer<'static>],
    path: Option<PathBuf>,
) -> Result<RootCertStore, MaterialError> {
    let mut roots = RootCertStore::empty();
    for certificate in authorities {
        roots
            .add(certificate.clone())
            .map_err(|source| MaterialError::Unusable {
                what: "CA file",
                path: path.clone(),
                source,
            })?;
    }
    Ok(roots)
}
