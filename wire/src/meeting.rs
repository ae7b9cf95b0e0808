//! Meeting a reconciler for the first time: all that is known is where it is and its CA's digest.
//!
//! The reconciler shows its certificate together with the CA that signed it. The CA is known by the
//! pinned digest, the certificate by the CA; nothing is sent before both are proved. What comes of
//! it, the CA and the reconciler's name, is enough to call it like any other from then on.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error as RustlsError, RootCertStore, SignatureScheme,
};
use stead_schemas::names::{Identity, IdentityKind};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::identity::identity_of;
use crate::material::provider;
use crate::peer::set_socket;
use crate::pki::fingerprint;
use crate::tls::{TlsError, called_like_ours, client_builder};
use crate::verify::{VerifyError, refuse, verify_under};

/// A CA's digest, as people carry it over: `sha256:` and 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin(String);

/// Text that is no [`Pin`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("write the CA's digest as sha256:<64 hexadecimal digits>, as `stead pki token` prints it")]
pub struct NoPin;

impl Pin {
    /// The digest of a CA's certificate.
    #[must_use]
    pub fn of(certificate: &[u8]) -> Self {
        Self(fingerprint(certificate))
    }
}

impl FromStr for Pin {
    type Err = NoPin;

    fn from_str(text: &str) -> Result<Self, NoPin> {
        let digits = text.strip_prefix("sha256:").ok_or(NoPin)?;
        let digits = digits.to_ascii_lowercase();
        if digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            Ok(Self(digits))
        } else {
            Err(NoPin)
        }
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

/// Who was met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Met {
    /// The CA: the one that was pinned.
    pub ca: CertificateDer<'static>,
    /// The reconciler.
    pub who: Identity,
}

/// Why nobody was met. Nothing secret was sent.
#[derive(Debug, Error)]
pub enum MeetError {
    /// No connection.
    #[error("can't connect to {addr}; is that where the reconciler listens (`api.listen`)?")]
    Refused {
        /// Where to.
        addr: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// No answer in time.
    #[error("no answer from {addr} within {} ms", after.as_millis())]
    Timeout {
        /// Where to.
        addr: SocketAddr,
        /// The deadline.
        after: Duration,
    },
    /// Whoever answers there is not of that CA, or no TLS server at all.
    #[error("{addr} is not who the CA's digest stands for; nothing was sent")]
    Stranger {
        /// Where to.
        addr: SocketAddr,
        /// What the handshake said.
        #[source]
        source: std::io::Error,
    },
}

/// Connects, proves that a reconciler under the pinned CA is there, and closes again.
///
/// # Errors
/// [`MeetError`].
pub async fn meet(addr: SocketAddr, pin: &Pin, deadline: Duration) -> Result<Met, MeetError> {
    let timed_out = MeetError::Timeout {
        addr,
        after: deadline,
    };
    tokio::time::timeout(deadline, shake_hands(addr, pin))
        .await
        .unwrap_or(Err(timed_out))
}

async fn shake_hands(addr: SocketAddr, pin: &Pin) -> Result<Met, MeetError> {
    let refused = |source| MeetError::Refused { addr, source };
    let tcp = TcpStream::connect(addr).await.map_err(refused)?;
    set_socket(&tcp).map_err(refused)?;
    let stranger = |source| MeetError::Stranger { addr, source };
    let settings = settings(pin).map_err(|error| stranger(std::io::Error::other(error)))?;
    let tls = TlsConnector::from(settings)
        .connect(ServerName::from(addr.ip()), tcp)
        .await
        .map_err(stranger)?;
    let chain = tls.get_ref().1.peer_certificates().unwrap_or_default();
    // The verifier has seen both; this only reads them again.
    let met = chain.split_first().and_then(|(leaf, above)| {
        let ca = pinned(above, pin)?;
        Some(Met {
            ca: ca.clone().into_owned(),
            who: identity_of(leaf).ok()?,
        })
    });
    met.ok_or_else(|| stranger(std::io::Error::other("it showed no certificate")))
}

fn settings(pin: &Pin) -> Result<Arc<ClientConfig>, TlsError> {
    let verifier = UnderPinnedCa {
        pin: pin.clone(),
        algorithms: provider().signature_verification_algorithms,
    };
    let config = client_builder()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(Arc::new(called_like_ours(config)))
}

fn pinned<'a>(chain: &'a [CertificateDer<'a>], pin: &Pin) -> Option<&'a CertificateDer<'a>> {
    chain
        .iter()
        .find(|certificate| Pin::of(certificate) == *pin)
}

/// Accepts a reconciler that shows the pinned CA above a certificate of it.
#[derive(Debug)]
struct UnderPinnedCa {
    pin: Pin,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for UnderPinnedCa {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, RustlsError> {
        let Some(ca) = pinned(intermediates, &self.pin) else {
            return Err(refuse(VerifyError::NotPinned));
        };
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        verify_under(&roots, &self.algorithms, end_entity, intermediates, now)?;
        let got = identity_of(end_entity).map_err(refuse)?;
        if got.kind == IdentityKind::Reconciler {
            Ok(ServerCertVerified::assertion())
        } else {
            let got = Box::new(got);
            Err(refuse(VerifyError::NoReconciler { got }))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_read_as_it_is_written_and_nothing_else_is() {
        let pin = Pin::of(b"a certificate");
        assert_eq!(pin.to_string().parse(), Ok(pin.clone()));
        let digits = pin.to_string()["sha256:".len()..].to_owned();
        assert_eq!(format!("sha256:{}", digits.to_uppercase()).parse(), Ok(pin));
        for wrong in [
            "",
            "sha256:",
            "sha256:9c1e",
            &digits,
            &format!("sha1:{digits}"),
        ] {
            assert_eq!(wrong.parse::<Pin>(), Err(NoPin), "{wrong}");
        }
    }
}
