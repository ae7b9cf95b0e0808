//! Who a certificate speaks for.
//!
//! The identity is the one URI SAN that starts with `stead://`; common name, DNS and IP names and
//! HTTP headers are never looked at. Chain and dates are `verify`'s business, not this file's.

use stead_schemas::names::{Identity, NameError};
use thiserror::Error;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Why a certificate speaks for nobody.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdentityError {
    /// Not an X.509 certificate, or its names are malformed.
    #[error("the certificate can't be read; issue a new one with `stead pki issue`")]
    Unreadable,
    /// No `stead://` name in it.
    #[error(
        "the certificate carries no `stead://` identity; \
         issue one with `stead pki issue` or add the URI to its subject alternative names"
    )]
    Missing,
    /// More than one: whoever picks one of them can be made to pick the wrong one.
    #[error("the certificate carries {count} `stead://` identities; exactly one is allowed")]
    Several {
        /// How many there are.
        count: usize,
    },
    /// It starts with `stead://` and goes on wrongly.
    #[error("the certificate's `stead://` identity is malformed")]
    Malformed {
        /// What is wrong with it.
        #[source]
        source: NameError,
    },
}

/// The identity in a certificate (DER).
///
/// # Errors
/// [`IdentityError`] unless there is exactly one `stead://` URI among the subject alternative
/// names and it is well-formed.
pub fn identity_of(der: &[u8]) -> Result<Identity, IdentityError> {
    let (rest, certificate) =
        X509Certificate::from_der(der).map_err(|_| IdentityError::Unreadable)?;
    if !rest.is_empty() {
        return Err(IdentityError::Unreadable);
    }
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| IdentityError::Unreadable)?
        .ok_or(IdentityError::Missing)?;
    let uris: Vec<&str> = names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) if uri.starts_with("stead://") => Some(*uri),
            _ => None,
        })
        .collect();
    match uris.as_slice() {
        [] => Err(IdentityError::Missing),
        [uri] => uri
            .parse()
            .map_err(|source| IdentityError::Malformed { source }),
        several => Err(IdentityError::Several {
            count: several.len(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(uris: &[&str], common_name: &str) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["p01-a".to_owned()]).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        for uri in uris {
            params
                .subject_alt_names
                .push(SanType::URI((*uri).try_into().unwrap()));
        }
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn one_stead_uri_is_the_identity_whatever_else_is_there() {
        let der = certificate(
            &["https://x.example/", "stead://contoso/server/p01-a"],
            "stead://contoso/operator/eve",
        );
        let identity = identity_of(&der).unwrap();
        assert_eq!(identity.to_string(), "stead://contoso/server/p01-a");
    }

    #[test]
    fn a_common_name_or_dns_name_is_no_identity() {
        let der = certificate(&["https://x.example/"], "stead://contoso/server/p01-a");
        assert_eq!(identity_of(&der), Err(IdentityError::Missing));
    }

    #[test]
    fn two_identities_are_none() {
        let der = certificate(
            &["stead://contoso/server/a", "stead://contoso/operator/eve"],
            "",
        );
        assert_eq!(identity_of(&der), Err(IdentityError::Several { count: 2 }));
    }

    #[test]
    fn malformed_names_and_bytes_are_refused() {
        for uri in ["stead://contoso/server", "stead://contoso/server/a/b"] {
            let der = certificate(&[uri], "");
            assert!(matches!(
                identity_of(&der),
                Err(IdentityError::Malformed { .. })
            ));
        }
        assert_eq!(identity_of(b"hello"), Err(IdentityError::Unreadable));
        let mut trailing = certificate(&["stead://contoso/server/a"], "");
        trailing.push(0);
        assert_eq!(identity_of(&trailing), Err(IdentityError::Unreadable));
    }
}
