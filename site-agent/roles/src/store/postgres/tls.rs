//! TLS to PostgreSQL, in its own words: `require` encrypts and believes any server, `verify-ca` asks
//! for a chain to an authority, `verify-full` for the name as well.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use stead_schemas::desired::DatabaseTls;

use crate::settings::PostgresSettings;
use crate::store::StoreError;

/// Where systems keep the authorities they believe.
const SYSTEM: [&str; 2] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
];

pub(super) fn wanted(settings: &PostgresSettings) -> bool {
    settings.tls != DatabaseTls::Disable
}

/// None: no TLS.
pub(super) fn config(settings: &PostgresSettings) -> Result<Option<ClientConfig>, StoreError> {
    let provider = Arc::new(ring::default_provider());
    let builder = || {
        ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| StoreError::broken("no TLS", &error))
    };
    let roots = || authorities(settings.ca.as_deref());
    let config = match settings.tls {
        DatabaseTls::Disable => return Ok(None),
        DatabaseTls::VerifyFull => builder()?.with_root_certificates(roots()?),
        DatabaseTls::Require | DatabaseTls::VerifyCa => {
            let chain = if settings.tls == DatabaseTls::VerifyCa {
                let roots = Arc::new(roots()?);
                let built =
                    WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
                let built = built.build();
                Some(built.map_err(|error| StoreError::broken("no authority", &error))?)
            } else {
                None
            };
            let lenient = Arc::new(AnyName {
                chain,
                provider: Arc::clone(&provider),
            });
            builder()?
                .dangerous()
                .with_custom_certificate_verifier(lenient)
        }
    };
    Ok(Some(config.with_no_client_auth()))
}

fn authorities(file: Option<&Path>) -> Result<RootCertStore, StoreError> {
    let system = || SYSTEM.iter().map(Path::new).find(|path| path.exists());
    let path = file.or_else(system).ok_or_else(|| {
        StoreError::Broken("no authorities to verify the database with".to_owned())
    })?;
    let unreadable = |error| {
        let what = format!("the authorities in {}", path.display());
        StoreError::broken(&what, &error)
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
        // As browsers do: one that can't be used makes the others no worse.
        drop(roots.add(certificate.map_err(unreadable)?));
    }
    if roots.is_empty() {
        let what = format!("no usable authority in {}", path.display());
        return Err(StoreError::Broken(what));
    }
    Ok(roots)
}

/// Believes any name, and where there is no `chain`, any certificate.
#[derive(Debug)]
struct AnyName {
    chain: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else {
            return Ok(ServerCertVerified::assertion());
        };
        // The name is looked at last.
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
