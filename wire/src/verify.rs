//! The two checks of a peer's certificate, made inside the handshake.
//!
//! Chain, key usage, dates and signatures are webpki's, through rustls. What is ours: a called
//! server must be the one expected *by identity*, so that a changed address needs no new
//! certificate and another server of the same CA can't stand in; a caller must carry an identity
//! of our own hierarchy. Address and DNS names in certificates are for other programs; they are
//! not looked at here. Revocation is not checked yet.
//!
//! Dates come last (H20): a caller of whom nothing else is wrong is let in, and `serve` knows that it is
//! outside; a server is where whoever calls it is tolerant of that.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use stead_schemas::names::{Identity, ObjectName};
use thiserror::Error as ThisError;

use crate::dates::Validity;
use crate::identity::identity_of;

/// Why an otherwise good certificate was refused. Travels inside [`rustls::Error`].
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
pub(crate) enum VerifyError {
    /// Somebody else of the same CA answers there.
    #[error("expected {expected}, got {got}")]
    WrongIdentity {
        expected: Box<Identity>,
        got: Box<Identity>,
    },
    /// No certificate of the chain is the pinned CA.
    #[error("its CA is another than the pinned one, or it does not show it")]
    NotPinned,
    /// The pinned CA's, and no reconciler.
    #[error("{got} is no reconciler")]
    NoReconciler { got: Box<Identity> },
    /// A caller of another hierarchy.
    #[error("{got} is not of hierarchy {ours}")]
    OtherHierarchy {
        ours: ObjectName,
        got: Box<Identity>,
    },
}

impl VerifyError {
    /// Finds one in what rustls reports.
    pub(crate) fn within(error: &Error) -> Option<&Self> {
        match error {
            Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) => {
                inner.downcast_ref()
            }
            _ => None,
        }
    }
}

pub(crate) fn refuse(why: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
}

/// Whether a certificate outside its dates, otherwise good, is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tolerance {
    Strict,
    Tolerant,
}

const fn is_of_dates(error: &Error) -> bool {
    use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    matches!(
        error,
        Error::InvalidCertificate(
            Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. }
        )
    )
}

/// Verifies now; where that fails for the date, at the first instant at which all of the chain was
/// valid. The whole check is made again, so that nothing else can hide behind a date.
fn tolerating_dates<T>(
    leaf: &CertificateDer<'_>,
    above: &[CertificateDer<'_>],
    now: UnixTime,
    verify: impl Fn(UnixTime) -> Result<T, Error>,
) -> Result<T, Error> {
    match verify(now) {
        Err(error) if is_of_dates(&error) => {
            let begins = Validity::of_chain(leaf, above).begins;
            verify(UnixTime::since_unix_epoch(Duration::from_millis(begins.0)))
        }
        verified => verified,
    }
}

/// Whether a server's certificate is one of these roots', and valid at that instant.
pub(crate) fn verify_under(
    roots: &RootCertStore,
    algorithms: &WebPkiSupportedAlgorithms,
    leaf: &CertificateDer<'_>,
    above: &[CertificateDer<'_>],
    at: UnixTime,
) -> Result<(), Error> {
    let certificate = ParsedCertificate::try_from(leaf)?;
    verify_server_cert_signed_by_trust_anchor(&certificate, roots, above, at, algorithms.all)
}

/// Accepts exactly one server.
#[derive(Debug)]
pub(crate) struct ExpectedServer {
    pub(crate) roots: Arc<RootCertStore>,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
    pub(crate) expected: Identity,
    pub(crate) tolerance: Tolerance,
}

impl ServerCertVerifier for ExpectedServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verify =
            |at| verify_under(&self.roots, &self.algorithms, end_entity, intermediates, at);
        match self.tolerance {
            Tolerance::Strict => verify(now)?,
            Tolerance::Tolerant => tolerating_dates(end_entity, intermediates, now, verify)?,
        }
        let got = identity_of(end_entity).map_err(refuse)?;
        if got == self.expected {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(refuse(VerifyError::WrongIdentity {
                expected: Box::new(self.expected.clone()),
                got: Box::new(got),
            }))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Accepts every caller of one hierarchy, and strangers where they are let in. Dates are `serve`'s.
#[derive(Debug)]
pub(crate) struct HierarchyCallers {
    pub(crate) chain: Arc<dyn ClientCertVerifier>,
    pub(crate) hierarchy: ObjectName,
    /// Callers without a certificate get through the handshake; with a wrong one nobody does.
    pub(crate) strangers: bool,
}

impl ClientCertVerifier for HierarchyCallers {
    fn client_auth_mandatory(&self) -> bool {
        !self.strangers
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let accepted = tolerating_dates(end_entity, intermediates, now, |at| {
            self.chain.verify_client_cert(end_entity, intermediates, at)
        })?;
        let got = identity_of(end_entity).map_err(refuse)?;
        if got.hierarchy == self.hierarchy {
            Ok(accepted)
        } else {
            Err(refuse(VerifyError::OtherHierarchy {
                ours: self.hierarchy.clone(),
                got: Box::new(got),
            }))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
