//! What the agent asks over TLS as anybody would: archives, whose server must prove to be it, and health
//! checks, which only ask whether something answers.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use site_agent::clock::wall_now;
use stead_schemas::names::IdentityKind;
use stead_schemas::time::DurationMs;
use stead_schemas::wire::{Health, HealthCheck, InstanceReport, Phase, Probe};
use stead_wire::pki::{self, Ca};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::archives::{archive, digest, from};
use crate::lab::{Lab, command, issue, one};

/// A TLS server of this CA that gives every caller the same body.
async fn serve(ca: &Ca, body: Vec<u8>) -> SocketAddr {
    let issued = issue(ca, IdentityKind::Server, "web");
    let chain = CertificateDer::pem_slice_iter(issued.certificate_pem.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.collect::<Result<_, _>>().unwrap(), key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let answer = Arc::new([head.into_bytes(), body].concat());
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, answer) = (acceptor.clone(), Arc::clone(&answer));
            tokio::spawn(async move {
                // A caller that does not trust us is gone by here.
                let Ok(mut tls) = acceptor.accept(tcp).await else {
                    return;
                };
                let mut request = [0; 4_096];
                drop(tls.read(&mut request).await);
                drop(tls.write_all(&answer).await);
                drop(tls.shutdown().await);
            });
        }
    });
    address
}

fn another_ca() -> Ca {
    let made = pki::create_ca(&"contoso".parse().unwrap(), wall_now()).unwrap();
    Ca::from_pem(&made.certificate_pem, &made.key_pem).unwrap()
}

#[tokio::test]
async fn an_archive_comes_over_https_from_a_server_the_system_trusts() {
    let mut lab = Lab::running().await;
    let file = archive(&lab);
    let server = serve(&lab.ca, std::fs::read(&file).unwrap()).await;
    let url = format!("https://{server}/app.tar.gz");
    lab.assign(one("app", from(url, digest(&file), "bin/run")))
        .await;
    lab.until_healthy("app").await;
}

/// The right archive of the wrong server is not even read.
#[tokio::test]
async fn an_archive_of_a_server_nobody_trusts_is_not_fetched() {
    let mut lab = Lab::running().await;
    let file = archive(&lab);
    let server = serve(&another_ca(), std::fs::read(&file).unwrap()).await;
    let url = format!("https://{server}/app.tar.gz");
    lab.assign(one("app", from(url, digest(&file), "bin/run")))
        .await;
    let failed = lab
        .until_instance("app", "failed", |one| one.phase == Phase::Failed)
        .await;
    let message = failed.message.unwrap();
    assert!(message.contains("certificate"), "{message}");
    assert_eq!(lab.marked(), [0; 0]);
}

#[tokio::test]
async fn an_archive_that_is_cut_short_or_is_another_leaves_nothing() {
    let mut lab = Lab::running().await;
    let file = archive(&lab);
    let mut cut = std::fs::read(&file).unwrap();
    cut.truncate(cut.len() / 2);
    let server = serve(&lab.ca, cut).await;
    let url = format!("https://{server}/app.tar.gz");
    lab.assign(one("app", from(url, digest(&file), "bin/run")))
        .await;
    let failed = lab
        .until_instance("app", "failed", |one| one.phase == Phase::Failed)
        .await;
    let message = failed.message.unwrap();
    assert!(message.contains("is not the archive declared"), "{message}");
    let left = std::fs::read_dir(lab.state().join("archives")).unwrap();
    assert_eq!(left.count(), 0);
}

/// A check asks whether the instance answers, not who it is: its certificate is its own affair.
#[tokio::test]
async fn an_https_check_takes_any_certificate_and_a_plain_port_is_none() {
    let mut lab = Lab::running().await;
    let server = serve(&another_ca(), b"well".to_vec()).await;
    let mut spec = command(&["sleep", "1000"]);
    spec.address = server.ip();
    spec.port = server.port();
    spec.health = Some(HealthCheck {
        probe: Probe::Https {
            path: "/health".to_owned(),
            port: None,
        },
        interval: DurationMs(100),
        timeout: DurationMs::seconds(2),
        failures: 2,
    });
    lab.assign(one("tls", spec.clone())).await;
    lab.until_healthy("tls").await;
    let plain = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    spec.port = plain.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = plain.accept().await {
            drop(
                tcp.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                    .await,
            );
        }
    });
    lab.assign(one("tls", spec)).await;
    let sick = |one: &InstanceReport| one.health == Health::Unhealthy;
    lab.until_instance("tls", "unhealthy", sick).await;
}
