//! Certificate requests: the key is made where it stays, and only the request travels.
//!
//! A request proves that whoever wrote it has the key, and nothing else: what a certificate says is
//! the CA's to decide, so names, dates and usages that a request asks for are not looked at.

use rcgen::{
    CertificateParams, CertificateSigningRequestParams, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKey,
    PublicKeyData as _,
};
use stead_schemas::names::Identity;
use stead_schemas::time::WallMs;

use crate::pki::{self, Ca, PkiError, Request};

/// Longest request read: one with a P-256 key is below 1 KiB.
pub const MAX_REQUEST: usize = 16 * 1024;

/// A key made here and the request for its certificate.
pub struct Asking {
    /// The request, PEM; it may travel.
    pub request_pem: String,
    /// The key, PKCS#8 PEM. Secret; it stays.
    pub key_pem: String,
}

impl std::fmt::Debug for Asking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Asking({} bytes)", self.request_pem.len())
    }
}

/// A certificate just signed; its key is elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// SHA-256 of the certificate, lower-case hex.
    pub fingerprint: String,
    /// Last instant of validity.
    pub not_after: WallMs,
}

/// Makes a key and a request that names `identity`, for CAs that look at names.
///
/// # Errors
/// [`PkiError::Make`].
pub fn ask(identity: &Identity) -> Result<Asking, PkiError> {
    let make = |source| PkiError::Make {
        what: "a key",
        source,
    };
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(make)?;
    request(&key, identity)
}

/// The same with a key that was made before.
///
/// # Errors
/// [`PkiError::Make`] where that is no key.
pub fn ask_with(key_pem: &str, identity: &Identity) -> Result<Asking, PkiError> {
    let key = KeyPair::from_pem(key_pem).map_err(|source| PkiError::Make {
        what: "a certificate request with the key that is there",
        source,
    })?;
    request(&key, identity)
}

fn request(key: &KeyPair, identity: &Identity) -> Result<Asking, PkiError> {
    let make = |source| PkiError::Make {
        what: "a certificate request",
        source,
    };
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![pki::uri_of(identity)?];
    let request = params.serialize_request(key).map_err(make)?;
    Ok(Asking {
        request_pem: request.pem().map_err(make)?,
        key_pem: key.serialize_pem(),
    })
}

/// Signs the key of a request; everything else in the certificate is as `wanted` says.
///
/// # Errors
/// [`PkiError::Request`] for what is no request or not signed with its own key, and what
/// [`pki::issue`] says.
pub fn sign(ca: &Ca, request_pem: &str, wanted: &Request, now: WallMs) -> Result<Signed, PkiError> {
    let key = key_of(request_pem)?;
    let (certificate, not_after) = pki::sign(ca, &key, wanted, now)?;
    Ok(Signed {
        certificate_pem: certificate.pem(),
        fingerprint: pki::fingerprint(certificate.der()),
        not_after,
    })
}

/// SHA-256 of a request's public key, lower-case hex: by it a request that is sent again is known.
///
/// # Errors
/// [`PkiError::Request`].
pub fn key_fingerprint(request_pem: &str) -> Result<String, PkiError> {
    let key = key_of(request_pem)?;
    Ok(pki::fingerprint(&key.subject_public_key_info()))
}

fn key_of(request_pem: &str) -> Result<PublicKey, PkiError> {
    let refused = |reason: String| PkiError::Request { reason };
    if request_pem.len() > MAX_REQUEST {
        return Err(refused("it is too large".to_owned()));
    }
    // This checks the request's own signature, too: whoever sends it has the key.
    let parsed = CertificateSigningRequestParams::from_pem(request_pem)
        .map_err(|error| refused(error.to_string()))?;
    if parsed.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
        return Err(refused("its key is not ECDSA P-256".to_owned()));
    }
    Ok(parsed.public_key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::identity_of;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;

    const NOW: WallMs = WallMs(1_795_000_000_000);

    fn ca() -> Ca {
        let made = pki::create_ca(&"contoso".parse().unwrap(), NOW).unwrap();
        Ca::from_pem(&made.certificate_pem, &made.key_pem).unwrap()
    }

    fn wanted(uri: &str) -> Request {
        Request {
            identity: uri.parse().unwrap(),
            addresses: Vec::new(),
            dns_names: Vec::new(),
            days: pki::LEAF_DAYS,
        }
    }

    #[test]
    fn a_certificate_says_what_the_ca_wants_whatever_was_asked() {
        let greedy = ask(&"stead://contoso/reconciler/stead-1".parse().unwrap()).unwrap();
        let wanted = wanted("stead://contoso/server/p01-a");
        let signed = sign(&ca(), &greedy.request_pem, &wanted, NOW).unwrap();
        let der = CertificateDer::from_pem_slice(signed.certificate_pem.as_bytes()).unwrap();
        assert_eq!(identity_of(&der).unwrap(), wanted.identity);
        assert_eq!(pki::fingerprint(&der), signed.fingerprint);
        let usable = crate::material::Material::from_pem(
            ca().certificate_pem(),
            &signed.certificate_pem,
            &greedy.key_pem,
        );
        assert_eq!(*usable.unwrap().identity(), wanted.identity);
    }

    #[test]
    fn the_same_key_is_known_again_and_another_is_not() {
        let identity = "stead://contoso/server/p01-a".parse().unwrap();
        let (one, other) = (ask(&identity).unwrap(), ask(&identity).unwrap());
        let known = |asking: &Asking| key_fingerprint(&asking.request_pem).unwrap();
        assert_eq!(known(&one), known(&one));
        assert_ne!(known(&one), known(&other));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let good = ask(&"stead://contoso/server/p01-a".parse().unwrap()).unwrap();
        let mut forged = good.request_pem.clone().into_bytes();
        // A byte within the signature, which is at the end.
        let at = forged.len() - 60;
        forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
        let forged = String::from_utf8(forged).unwrap();
        let empty =
            "-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----\n";
        let huge = "A".repeat(MAX_REQUEST + 1);
        for wrong in ["", "no request", empty, &huge, &forged, &good.key_pem] {
            let refused = sign(&ca(), wrong, &wanted("stead://contoso/server/p01-a"), NOW);
            assert!(matches!(refused, Err(PkiError::Request { .. })), "{wrong}");
        }
    }
}
