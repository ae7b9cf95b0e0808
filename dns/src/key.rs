//! TSIG keys: a name, an algorithm and a secret that never shows.
//!
//! Key names follow H22: `<name>` for the reconciler, `<name>-<code>` for a site. This file reads
//! and holds keys; it does not decide what a key may write (`server::Scope`, `policy`).

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hickory_proto::rr::TSigner;
use hickory_proto::rr::rdata::tsig::TsigAlgorithm as WireAlgorithm;
use stead_schemas::desired::TsigAlgorithm;
use stead_schemas::names::SecretName;
use thiserror::Error;

use crate::convert;

/// Allowed difference between the clocks of signer and server, RFC 8945 section 10.
const FUDGE_S: u16 = 300;
/// A base64 secret is well under this; a larger file is something else.
const MAX_FILE_BYTES: u64 = 4096;
/// Below 128 bits a secret can be guessed offline from one signed message.
const MIN_SECRET_BYTES: usize = 16;

/// Why a key could not be read. Never holds secret material.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The file could not be read.
    #[error("TSIG key file {path} cannot be read", path = path.display())]
    File {
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// There is no material.
    #[error("TSIG key `{name}`: secret `{secret}` is not here")]
    Missing {
        /// The key's name.
        name: String,
        /// The secret's.
        secret: SecretName,
    },
    /// The file is larger than any key.
    #[error("TSIG key file {path} is larger than {MAX_FILE_BYTES} bytes: it should hold one line of base64", path = path.display())]
    TooLarge {
        /// Where.
        path: PathBuf,
    },
    /// The material is not base64.
    #[error(
        "the secret of TSIG key `{name}` is not base64: make one with `head -c 32 /dev/urandom | base64`"
    )]
    NotBase64 {
        /// The key's name.
        name: String,
    },
    /// The material is too short to protect anything.
    #[error(
        "the secret of TSIG key `{name}` has {bytes} bytes, at least {MIN_SECRET_BYTES} are needed: make one with `head -c 32 /dev/urandom | base64`"
    )]
    TooShort {
        /// The key's name.
        name: String,
        /// Its length, decoded.
        bytes: usize,
    },
    /// The name is not a DNS name.
    #[error("`{name}` cannot name a TSIG key: key names are DNS names, as in `stead-2026`")]
    Name {
        /// What was given.
        name: String,
    },
}

/// Secret bytes; `Debug` prints none of them.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes raw bytes.
    #[must_use]
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// One TSIG key, ready to sign.
#[derive(Clone)]
pub struct TsigKey {
    name: String,
    algorithm: TsigAlgorithm,
    signer: TSigner,
}

impl TsigKey {
    /// Takes a key apart from its file, as the executor does with declared secrets.
    ///
    /// # Errors
    /// [`KeyError`] for a name DNS does not allow and for a short secret.
    pub fn new(name: &str, algorithm: TsigAlgorithm, secret: Secret) -> Result<Self, KeyError> {
        let owner = convert::name(name).map_err(|_| KeyError::Name {
            name: name.to_owned(),
        })?;
        if secret.0.len() < MIN_SECRET_BYTES {
            return Err(KeyError::TooShort {
                name: name.to_owned(),
                bytes: secret.0.len(),
            });
        }
        let signer = TSigner::new(secret.0, wire_algorithm(algorithm), owner, FUDGE_S)
            .expect("hickory supports the three algorithms of TsigAlgorithm");
        Ok(Self {
            name: name.trim_end_matches('.').to_ascii_lowercase(),
            algorithm,
            signer,
        })
    }

    /// Takes base64 text, as it stands in key files and in the secrets directory.
    ///
    /// # Errors
    /// [`KeyError`], never with the text in it.
    pub fn from_base64(name: &str, algorithm: TsigAlgorithm, text: &str) -> Result<Self, KeyError> {
        let bytes = STANDARD
            .decode(text.trim())
            .map_err(|_| KeyError::NotBase64 {
                name: name.to_owned(),
            })?;
        Self::new(name, algorithm, Secret::new(bytes))
    }

    /// Reads the base64 material from a file.
    ///
    /// # Errors
    /// [`KeyError`] when the file is missing, too large or not a key.
    pub fn from_file(name: &str, algorithm: TsigAlgorithm, path: &Path) -> Result<Self, KeyError> {
        let unreadable = |source| KeyError::File {
            path: path.to_owned(),
            source,
        };
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text))
            .map_err(unreadable)?;
        if text.len() as u64 > MAX_FILE_BYTES {
            return Err(KeyError::TooLarge {
                path: path.to_owned(),
            });
        }
        Self::from_base64(name, algorithm, &text)
    }

    /// The key's name, lower case, without the last dot.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What signs and verifies with it.
    #[must_use]
    pub const fn signer(&self) -> &TSigner {
        &self.signer
    }
}

impl fmt::Debug for TsigKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TsigKey")
            .field("name", &self.name)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

const fn wire_algorithm(algorithm: TsigAlgorithm) -> WireAlgorithm {
    match algorithm {
        TsigAlgorithm::HmacSha256 => WireAlgorithm::HmacSha256,
        TsigAlgorithm::HmacSha384 => WireAlgorithm::HmacSha384,
        TsigAlgorithm::HmacSha512 => WireAlgorithm::HmacSha512,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMzQ=";

    #[test]
    fn a_key_never_shows_its_secret() {
        let key = TsigKey::from_base64("stead-2026", TsigAlgorithm::HmacSha256, SECRET).unwrap();
        let shown = format!("{key:?} {:?}", Secret::new(b"secret".to_vec()));
        assert!(shown.contains("stead-2026") && !shown.to_lowercase().contains("c2vj"));
        assert!(!shown.contains("115, 101"), "no byte list either: {shown}");
    }

    #[test]
    fn bad_material_is_refused_without_being_repeated() {
        for text in ["not base64!", "c2hvcnQ="] {
            let error =
                TsigKey::from_base64("stead-2026", TsigAlgorithm::HmacSha256, text).unwrap_err();
            assert!(!error.to_string().contains(text) && error.to_string().contains("stead-2026"));
        }
    }

    #[test]
    fn a_file_of_another_kind_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, vec![b'A'; 5000]).unwrap();
        let read = TsigKey::from_file("k", TsigAlgorithm::HmacSha256, &path);
        assert!(matches!(read, Err(KeyError::TooLarge { .. })));
        let read = TsigKey::from_file("k", TsigAlgorithm::HmacSha256, &dir.path().join("none"));
        assert!(matches!(read, Err(KeyError::File { .. })));
    }
}
