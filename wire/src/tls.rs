//! TLS settings of both directions, replaceable while the program runs.
//!
//! TLS 1.3 only, HTTP/1.1 only (with HTTP/2 a refused client sees "channel closed" instead of the
//! alert). Sessions are never resumed, so that every connection checks certificate and dates
//! again and keeps no ticket memory. A reload counts for new connections; open ones go on with
//! what they were made with. Nothing here watches files: the program calls `reload`.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, ServerConfig, WantsVerifier};
use stead_schemas::names::Identity;
use thiserror::Error;

use crate::dates::Outdated;
use crate::material::{Material, provider};
use crate::verify::{ExpectedServer, HierarchyCallers, Tolerance};

pub(crate) const HTTP1: &[u8] = b"http/1.1";

/// Why good files still make no TLS settings.
#[derive(Debug, Error)]
pub enum TlsError {
    /// rustls refuses the combination.
    #[error("TLS can't be set up with these certificates")]
    Settings {
        /// What rustls said.
        #[source]
        source: rustls::Error,
    },
    /// The CA file can't be used to check callers.
    #[error("callers can't be checked with this CA file; is it a CA's certificate?")]
    Callers {
        /// What rustls said.
        #[source]
        source: rustls::server::VerifierBuilderError,
    },
}

/// What a server answers with: our certificate, and callers of our hierarchy only, or strangers too.
#[derive(Debug)]
pub struct ServerTls {
    current: RwLock<Arc<ServerConfig>>,
    outdated: Outdated,
    strangers: bool,
}

impl ServerTls {
    /// Settings from checked files.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn new(material: &Material) -> Result<Arc<Self>, TlsError> {
        Self::letting_in(material, false)
    }

    /// The same, and callers without a certificate get through the handshake, to what
    /// [`crate::doors::Doors::strangers`] says. The CA is shown with the certificate, so that they can
    /// know it by its digest ([`crate::meeting`]).
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn open_to_strangers(material: &Material) -> Result<Arc<Self>, TlsError> {
        Self::letting_in(material, true)
    }

    fn letting_in(material: &Material, strangers: bool) -> Result<Arc<Self>, TlsError> {
        Ok(Arc::new(Self {
            current: RwLock::new(server_config(material, strangers)?),
            outdated: Outdated::default(),
            strangers,
        }))
    }

    /// Takes new files for all connections from now on; the old ones stay on error.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn reload(&self, material: &Material) -> Result<(), TlsError> {
        let new = server_config(material, self.strangers)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// Callers outside their dates (H20).
    #[must_use]
    pub const fn outdated(&self) -> &Outdated {
        &self.outdated
    }

    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&current)
    }
}

fn server_config(material: &Material, strangers: bool) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(provider());
    let chain = WebPkiClientVerifier::builder_with_provider(
        Arc::clone(&material.roots),
        Arc::clone(&provider),
    )
    .build()
    .map_err(|source| TlsError::Callers { source })?;
    let callers = HierarchyCallers {
        chain,
        hierarchy: material.identity().hierarchy.clone(),
        strangers,
    };
    let shown = if strangers {
        SingleCertAndKey::from(with_authorities(material))
    } else {
        single(material)
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|source| TlsError::Settings { source })?
        .with_client_cert_verifier(Arc::new(callers))
        .with_cert_resolver(Arc::new(shown));
    config.alpn_protocols = vec![HTTP1.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// What a client calls with: our certificate, shared by all calls of the program.
#[derive(Debug)]
pub struct ClientTls {
    current: RwLock<Arc<ClientParts>>,
    outdated: Outdated,
}

/// One set of client settings; which set a kept connection was made with is told by its pointer.
#[derive(Debug)]
pub(crate) struct ClientParts {
    base: ClientConfig,
    roots: Arc<RootCertStore>,
}

impl ClientTls {
    /// Settings from checked files.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn new(material: &Material) -> Result<Arc<Self>, TlsError> {
        let current = RwLock::new(client_parts(material)?);
        let outdated = Outdated::default();
        Ok(Arc::new(Self { current, outdated }))
    }

    /// Settings of a caller that has no certificate yet, and knows one CA.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn nameless(ca: &CertificateDer<'static>) -> Result<Arc<Self>, TlsError> {
        let settings = |source| TlsError::Settings { source };
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone()).map_err(settings)?;
        let roots = Arc::new(roots);
        // `expecting` says whom; until then nobody is accepted.
        let nobody = Arc::new(RootCertStore::empty());
        let base = client_builder()?
            .with_root_certificates(nobody)
            .with_no_client_auth();
        Ok(Arc::new(Self {
            current: RwLock::new(Arc::new(ClientParts {
                base: called_like_ours(base),
                roots,
            })),
            outdated: Outdated::default(),
        }))
    }

    /// Takes new files for all connections from now on; the old ones stay on error.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn reload(&self, material: &Material) -> Result<(), TlsError> {
        let new = client_parts(material)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// Servers outside their dates that a tolerant peer called (H20).
    #[must_use]
    pub const fn outdated(&self) -> &Outdated {
        &self.outdated
    }

    pub(crate) fn parts(&self) -> Arc<ClientParts> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&current)
    }
}

impl ClientParts {
    /// Settings that accept exactly one server. Certificate and key stay shared; the copy is some
    /// hundred bytes a connection.
    pub(crate) fn expecting(&self, expected: &Identity, tolerance: Tolerance) -> Arc<ClientConfig> {
        let mut config = self.base.clone();
        let verifier = expected_server(&self.roots, expected, tolerance);
        config
            .dangerous()
            .set_certificate_verifier(Arc::new(verifier));
        Arc::new(config)
    }
}

fn expected_server(
    roots: &Arc<RootCertStore>,
    expected: &Identity,
    tolerance: Tolerance,
) -> ExpectedServer {
    ExpectedServer {
        roots: Arc::clone(roots),
        algorithms: provider().signature_verification_algorithms,
        expected: expected.clone(),
        tolerance,
    }
}

/// The base expects ourselves: a call that forgot to say whom it wants reaches nobody else.
fn client_parts(material: &Material) -> Result<Arc<ClientParts>, TlsError> {
    let verifier = expected_server(&material.roots, material.identity(), Tolerance::Strict);
    let base = client_builder()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(single(material)));
    Ok(Arc::new(ClientParts {
        base: called_like_ours(base),
        roots: Arc::clone(&material.roots),
    }))
}

pub(crate) fn client_builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, TlsError> {
    ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(|source| TlsError::Settings { source })
}

pub(crate) fn called_like_ours(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![HTTP1.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    config
}

/// Our chain with all that we trust above it: some hundred bytes more a handshake.
fn with_authorities(material: &Material) -> CertifiedKey {
    let mut shown = CertifiedKey::clone(&material.pair);
    shown.cert.extend(material.authorities.iter().cloned());
    shown
}

fn single(material: &Material) -> SingleCertAndKey {
    SingleCertAndKey::from(Arc::clone(&material.pair))
}
