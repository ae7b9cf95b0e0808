//! A certificate authority of our own: makes CAs and certificates with Stead identities.
//!
//! ECDSA P-256 throughout. Certificates are valid from 24 h before they are made, so that a clock
//! a day behind still accepts them (H20). Pure but for the randomness of keys: time is an
//! argument, files are `pki_files`' business, requests from elsewhere `csr`'s. Nothing revokes or rotates yet.

use std::fmt;
use std::net::IpAddr;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PublicKeyData, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use stead_schemas::names::{Identity, IdentityKind, NameError, ObjectName};
use stead_schemas::time::{DurationMs, WallMs};
use thiserror::Error;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::meeting::Pin;

const DAY: u64 = 86_400_000;
/// How long before it is made a certificate counts already (H20).
const BACKDATED: u64 = DAY;
/// Ten years.
const CA_DAYS: u64 = 3_650;
/// What a certificate gets when nobody says otherwise.
pub const LEAF_DAYS: u32 = 90;
/// The longest a certificate may be asked for.
pub const MAX_LEAF_DAYS: u32 = 825;

/// Why a CA or certificate could not be made.
#[derive(Debug, Error)]
pub enum PkiError {
    /// The crypto library refused.
    #[error("can't make {what}")]
    Make {
        /// What was being made.
        what: &'static str,
        /// What the library said.
        #[source]
        source: rcgen::Error,
    },
    /// The instant given is beyond what certificates can say.
    #[error("the clock says {} ms since 1970, which no certificate can hold; set the clock", now.0)]
    Clock {
        /// The instant.
        now: WallMs,
    },
    /// The CA's own files are not a CA.
    #[error("this is no CA of Stead: {reason}; use the folder that `stead pki init` made")]
    NotOurCa {
        /// What is missing.
        reason: &'static str,
    },
    /// The CA's certificate names no hierarchy we can read.
    #[error("the CA's certificate carries no usable hierarchy name as its organization")]
    Hierarchy {
        /// What is wrong with the name.
        #[source]
        source: NameError,
    },
    /// The CA is of another hierarchy than the identity asked for.
    #[error("the CA is of hierarchy {ca}; it can't issue {identity}")]
    OtherHierarchy {
        /// The CA's.
        ca: ObjectName,
        /// What was asked for.
        identity: Box<Identity>,
    },
    /// The CA itself is over.
    #[error(
        "the CA's certificate has expired; make a new CA in another folder with `stead pki init`"
    )]
    CaExpired,
    /// A lifetime that makes no sense.
    #[error("{days} days is no lifetime for a certificate; give 1 to {MAX_LEAF_DAYS}")]
    Days {
        /// What was asked for.
        days: u32,
    },
    /// No certificate request, or one that proves no key.
    #[error("the certificate request can't be signed: {reason}; make a new one")]
    Request {
        /// What is wrong with it.
        reason: String,
    },
    /// A DNS name that is none.
    #[error(
        "`{name}` can't stand in a certificate as a DNS name; ASCII letters, digits, `-` and `.`"
    )]
    DnsName {
        /// The name.
        name: String,
    },
}

/// A CA that can issue. `Debug` shows the hierarchy alone.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    hierarchy: ObjectName,
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    not_after: WallMs,
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ca({})", self.hierarchy)
    }
}

/// A certificate just made, with its key. `Debug` shows the fingerprint alone.
#[derive(Clone)]
pub struct Issued {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// Its private key, PKCS#8 PEM. Secret.
    pub key_pem: String,
    /// SHA-256 of the certificate, lower-case hex.
    pub fingerprint: String,
    /// First instant of validity.
    pub not_before: WallMs,
    /// Last instant of validity.
    pub not_after: WallMs,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Issued(sha256:{})", self.fingerprint)
    }
}

/// What to put into a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Who it speaks for.
    pub identity: Identity,
    /// IP names, for programs other than ours; ours look at the identity.
    pub addresses: Vec<IpAddr>,
    /// DNS names, likewise.
    pub dns_names: Vec<String>,
    /// Lifetime in days from now, 1 to [`MAX_LEAF_DAYS`]; cut to the CA's own end.
    pub days: u32,
}

/// Makes a CA for a hierarchy, valid for ten years.
///
/// # Errors
/// [`PkiError`].
pub fn create_ca(hierarchy: &ObjectName, now: WallMs) -> Result<Issued, PkiError> {
    let make = |source| PkiError::Make {
        what: "a CA",
        source,
    };
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(make)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = name(&format!("Stead CA of {hierarchy}"), hierarchy);
    // Constrained(0): certificates only, no CAs below it.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let (not_before, not_after) = (backdated(now), plus_days(now, CA_DAYS));
    params.not_before = instant(not_before)?;
    params.not_after = instant(not_after)?;
    let certificate = params.self_signed(&key).map_err(make)?;
    Ok(issued(&certificate, &key, not_before, not_after))
}

impl Ca {
    /// Takes a CA that [`create_ca`] made, from its certificate and key (PEM).
    ///
    /// # Errors
    /// [`PkiError::NotOurCa`] and others.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, PkiError> {
        let not_ours = |reason| PkiError::NotOurCa { reason };
        let der = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|_| not_ours("its certificate is not PEM"))?;
        let (_, parsed) = X509Certificate::from_der(&der)
            .map_err(|_| not_ours("its certificate is malformed"))?;
        if !parsed.is_ca() {
            return Err(not_ours("its certificate is not a CA's"));
        }
        let hierarchy = parsed
            .subject()
            .iter_organization()
            .next()
            .and_then(|value| value.as_str().ok())
            .ok_or_else(|| not_ours("its certificate names no hierarchy"))?
            .parse()
            .map_err(|source| PkiError::Hierarchy { source })?;
        let seconds = parsed.validity().not_after.timestamp();
        let key = KeyPair::from_pem(key_pem).map_err(|_| not_ours("its key can't be read"))?;
        if key.public_key_raw() != parsed.public_key().subject_public_key.data.as_ref() {
            return Err(not_ours("its key does not belong to its certificate"));
        }
        let issuer =
            Issuer::from_ca_cert_pem(certificate_pem, key).map_err(|source| PkiError::Make {
                what: "an issuer of the CA",
                source,
            })?;
        Ok(Self {
            issuer,
            hierarchy,
            certificate: der,
            certificate_pem: certificate_pem.to_owned(),
            not_after: WallMs(u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000)),
        })
    }

    /// Whose CA it is.
    #[must_use]
    pub fn hierarchy(&self) -> &ObjectName {
        &self.hierarchy
    }

    /// The digest by which a server that is to join knows it.
    #[must_use]
    pub fn pin(&self) -> Pin {
        Pin::of(&self.certificate)
    }

    /// Its certificate, for those who are to trust it.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }
}

/// Makes key and certificate for one identity.
///
/// Servers and reconcilers may serve and call; operators only call.
///
/// # Errors
/// [`PkiError`].
pub fn issue(ca: &Ca, request: &Request, now: WallMs) -> Result<Issued, PkiError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|source| PkiError::Make {
        what: "a key",
        source,
    })?;
    let (certificate, not_after) = sign(ca, &key, request, now)?;
    Ok(issued(&certificate, &key, backdated(now), not_after))
}

/// Makes a certificate for a public key, and says when it ends.
pub(crate) fn sign(
    ca: &Ca,
    key: &impl PublicKeyData,
    request: &Request,
    now: WallMs,
) -> Result<(Certificate, WallMs), PkiError> {
    if request.identity.hierarchy != ca.hierarchy {
        return Err(PkiError::OtherHierarchy {
            ca: ca.hierarchy.clone(),
            identity: Box::new(request.identity.clone()),
        });
    }
    if request.days == 0 || request.days > MAX_LEAF_DAYS {
        return Err(PkiError::Days { days: request.days });
    }
    if ca.not_after <= now {
        return Err(PkiError::CaExpired);
    }
    let not_after = plus_days(now, u64::from(request.days)).min(ca.not_after);
    let mut params = CertificateParams::default();
    params.distinguished_name = name(&request.identity.name, &ca.hierarchy);
    params.subject_alt_names = alternative_names(request)?;
    params.not_before = instant(backdated(now))?;
    params.not_after = instant(not_after)?;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = usages(request.identity.kind);
    let certificate = params
        .signed_by(key, &ca.issuer)
        .map_err(|source| PkiError::Make {
            what: "a certificate",
            source,
        })?;
    Ok((certificate, not_after))
}

fn usages(kind: IdentityKind) -> Vec<ExtendedKeyUsagePurpose> {
    match kind {
        IdentityKind::Operator => vec![ExtendedKeyUsagePurpose::ClientAuth],
        IdentityKind::Reconciler | IdentityKind::Server => vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ],
    }
}

/// The name that an identity has in a certificate, or in a request for one.
pub(crate) fn uri_of(identity: &Identity) -> Result<SanType, PkiError> {
    let uri = identity.to_string().try_into();
    uri.map(SanType::URI).map_err(|source| PkiError::Make {
        what: "the certificate's identity",
        source,
    })
}

fn alternative_names(request: &Request) -> Result<Vec<SanType>, PkiError> {
    let mut names = vec![uri_of(&request.identity)?];
    for dns in &request.dns_names {
        let wrong = || PkiError::DnsName { name: dns.clone() };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.*".contains(c);
        if dns.is_empty() || dns.len() > 253 || !dns.chars().all(plain) {
            return Err(wrong());
        }
        let dns = dns.as_str().try_into().map_err(|_| wrong())?;
        names.push(SanType::DnsName(dns));
    }
    names.extend(request.addresses.iter().copied().map(SanType::IpAddress));
    Ok(names)
}

fn name(common: &str, hierarchy: &ObjectName) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, hierarchy.as_str());
    name.push(DnType::CommonName, common);
    name
}

fn issued(
    certificate: &Certificate,
    key: &KeyPair,
    not_before: WallMs,
    not_after: WallMs,
) -> Issued {
    Issued {
        certificate_pem: certificate.pem(),
        key_pem: key.serialize_pem(),
        fingerprint: fingerprint(certificate.der()),
        not_before,
        not_after,
    }
}

/// SHA-256 of a certificate (DER), lower-case hex.
#[must_use]
pub fn fingerprint(der: &[u8]) -> String {
    ring::digest::digest(&ring::digest::SHA256, der)
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn backdated(now: WallMs) -> WallMs {
    WallMs(now.0.saturating_sub(BACKDATED))
}

fn plus_days(now: WallMs, days: u64) -> WallMs {
    now.plus(DurationMs(days * DAY))
}

/// Certificates hold whole seconds, and years up to 9999.
fn instant(at: WallMs) -> Result<OffsetDateTime, PkiError> {
    i64::try_from(at.0 / 1_000)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .ok_or(PkiError::Clock { now: at })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::identity_of;

    const NOW: WallMs = WallMs(1_795_000_000_000);

    fn ca() -> Ca {
        let made = create_ca(&"contoso".parse().unwrap(), NOW).unwrap();
        Ca::from_pem(&made.certificate_pem, &made.key_pem).unwrap()
    }

    fn request(uri: &str) -> Request {
        Request {
            identity: uri.parse().unwrap(),
            addresses: vec!["10.1.0.11".parse().unwrap(), "2001:db8::1".parse().unwrap()],
            dns_names: vec!["p01-a.cm.contoso.example".to_owned()],
            days: LEAF_DAYS,
        }
    }

    fn der(issued: &Issued) -> Vec<u8> {
        CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes())
            .unwrap()
            .to_vec()
    }

    #[test]
    fn h20_certificates_begin_a_day_before_and_last_as_asked() {
        let issued = issue(&ca(), &request("stead://contoso/server/p01-a"), NOW).unwrap();
        let der = der(&issued);
        let (_, parsed) = X509Certificate::from_der(&der).unwrap();
        let ms = |seconds: i64| u64::try_from(seconds).unwrap() * 1_000;
        assert_eq!(ms(parsed.validity().not_before.timestamp()), NOW.0 - DAY);
        assert_eq!(
            ms(parsed.validity().not_after.timestamp()),
            NOW.0 + 90 * DAY
        );
        assert_eq!(
            (issued.not_before.0, issued.not_after.0),
            (NOW.0 - DAY, NOW.0 + 90 * DAY)
        );
    }

    #[test]
    fn a_certificate_carries_its_identity_and_its_names() {
        let issued = issue(&ca(), &request("stead://contoso/server/p01-a"), NOW).unwrap();
        let der = der(&issued);
        assert_eq!(
            identity_of(&der).unwrap().to_string(),
            "stead://contoso/server/p01-a"
        );
        assert_eq!(fingerprint(&der), issued.fingerprint);
        let (_, parsed) = X509Certificate::from_der(&der).unwrap();
        let names = parsed.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.value.general_names.len(), 4);
    }

    #[test]
    fn an_operators_certificate_can_not_serve() {
        let issued = issue(&ca(), &request("stead://contoso/operator/ann"), NOW).unwrap();
        let der = der(&issued);
        let (_, parsed) = X509Certificate::from_der(&der).unwrap();
        let usage = parsed.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth);
    }

    #[test]
    fn other_hierarchies_lifetimes_and_names_are_refused() {
        let ca = ca();
        let refused = |request: &Request| issue(&ca, request, NOW).unwrap_err();
        assert!(matches!(
            refused(&request("stead://fabrikam/server/p01-a")),
            PkiError::OtherHierarchy { .. }
        ));
        for days in [0, MAX_LEAF_DAYS + 1] {
            let request = Request {
                days,
                ..request("stead://contoso/server/p01-a")
            };
            assert!(matches!(refused(&request), PkiError::Days { .. }));
        }
        for name in ["", "p01 a", "p01/a", "mölln"] {
            let request = Request {
                dns_names: vec![name.to_owned()],
                ..request("stead://contoso/server/p01-a")
            };
            assert!(
                matches!(refused(&request), PkiError::DnsName { .. }),
                "{name}"
            );
        }
    }

    #[test]
    fn a_certificate_never_outlives_its_ca() {
        let ca = ca();
        let late = WallMs(ca.not_after.0 - 10 * DAY);
        let issued = issue(&ca, &request("stead://contoso/server/p01-a"), late).unwrap();
        assert_eq!(issued.not_after, ca.not_after);
        let over = issue(&ca, &request("stead://contoso/server/p01-a"), ca.not_after);
        assert!(matches!(over, Err(PkiError::CaExpired)));
    }

    #[test]
    fn a_leaf_or_a_foreign_key_is_no_ca() {
        let ca = ca();
        let leaf = issue(&ca, &request("stead://contoso/server/p01-a"), NOW).unwrap();
        let as_ca = Ca::from_pem(&leaf.certificate_pem, &leaf.key_pem);
        assert!(matches!(as_ca, Err(PkiError::NotOurCa { .. })));
        let foreign = Ca::from_pem(ca.certificate_pem(), &leaf.key_pem);
        assert!(matches!(foreign, Err(PkiError::NotOurCa { .. })));
    }

    #[test]
    fn keys_do_not_show_in_debug() {
        let issued = issue(&ca(), &request("stead://contoso/server/p01-a"), NOW).unwrap();
        assert_eq!(
            format!("{issued:?}"),
            format!("Issued(sha256:{})", issued.fingerprint)
        );
    }
}
