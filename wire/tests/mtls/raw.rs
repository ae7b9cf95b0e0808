//! Ends of a TLS connection by hand, for peers that misbehave or know nothing of Stead.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use stead_wire::pki::Issued;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::hierarchy::Hierarchy;

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn pair(issued: &Issued) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let certificate = CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap();
    (vec![certificate], key)
}

/// A plain TLS server that asks nobody for a certificate.
pub(crate) fn server_config(issued: &Issued) -> Arc<ServerConfig> {
    let (chain, key) = pair(issued);
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    Arc::new(config)
}

/// A plain TLS client that checks the address in the certificate, as any other program would.
pub(crate) async fn connect(
    addr: SocketAddr,
    hierarchy: &Hierarchy,
    own: Option<&Issued>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(hierarchy.0.certificate_pem().as_bytes()).unwrap();
    roots.add(ca).unwrap();
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some(issued) => {
            let (chain, key) = pair(issued);
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    let tcp = TcpStream::connect(addr).await?;
    TlsConnector::from(Arc::new(config))
        .connect(ServerName::from(addr.ip()), tcp)
        .await
}

/// Passes connections on; counts all there were, and those that are open.
pub(crate) struct Relay {
    pub(crate) addr: SocketAddr,
    pub(crate) seen: Arc<AtomicUsize>,
    pub(crate) open: Arc<AtomicUsize>,
}

pub(crate) async fn relay(to: SocketAddr) -> Relay {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let relay = Relay {
        addr: listener.local_addr().unwrap(),
        seen: Arc::default(),
        open: Arc::default(),
    };
    let (seen, open) = (Arc::clone(&relay.seen), Arc::clone(&relay.open));
    tokio::spawn(async move {
        while let Ok((mut inside, _)) = listener.accept().await {
            seen.fetch_add(1, Ordering::SeqCst);
            open.fetch_add(1, Ordering::SeqCst);
            let open = Arc::clone(&open);
            tokio::spawn(async move {
                let mut outside = TcpStream::connect(to).await.unwrap();
                drop(tokio::io::copy_bidirectional(&mut inside, &mut outside).await);
                open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    relay
}

/// Both ends of 500 connections are more than the usual soft limit of 1,024 files.
pub(crate) fn raise_nofile() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let hard = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: hard,
        maximum: hard,
    };
    setrlimit(Resource::Nofile, limit).expect("the soft limit of open files may be raised");
}
