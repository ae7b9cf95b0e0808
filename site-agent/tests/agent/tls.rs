//! A small web server for tests, with TLS or without, that answers one thing and may misbehave.
//!
//! One thread a connection; it ends with the test's process or when it is dropped.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::lab::free_address;

pub(crate) struct Web {
    pub(crate) address: SocketAddr,
    /// Of the CA that its certificate is from.
    pub(crate) ca_pem: String,
    /// What it answers with.
    pub(crate) status: Arc<AtomicU16>,
    pub(crate) body: Arc<Mutex<Body>>,
    /// How often it answered.
    pub(crate) answers: Arc<AtomicUsize>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Body {
    pub(crate) bytes: Vec<u8>,
    /// The length it speaks of, where that is another one than it sends.
    pub(crate) claims: Option<u64>,
}

impl Web {
    pub(crate) fn https() -> Self {
        let address = free_address();
        let (config, ca_pem) = certified(address);
        Self::start(address, Some(config), ca_pem)
    }

    pub(crate) fn http() -> Self {
        Self::start(free_address(), None, String::new())
    }

    fn start(address: SocketAddr, tls: Option<Arc<rustls::ServerConfig>>, ca_pem: String) -> Self {
        let web = Self {
            address,
            ca_pem,
            status: Arc::new(AtomicU16::new(200)),
            body: Arc::default(),
            answers: Arc::default(),
        };
        let listener = TcpListener::bind(address).unwrap();
        let (status, body, answers) = (
            Arc::clone(&web.status),
            Arc::clone(&web.body),
            Arc::clone(&web.answers),
        );
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answer = answer(status.load(Ordering::Relaxed), &body.lock().unwrap());
                let (tls, answers) = (tls.clone(), Arc::clone(&answers));
                std::thread::spawn(move || {
                    if serve(stream, tls, &answer).is_ok() {
                        answers.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        web
    }
}

fn answer(status: u16, body: &Body) -> Vec<u8> {
    let length = body.claims.unwrap_or(body.bytes.len() as u64);
    let head =
        format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    [head.as_bytes(), &body.bytes].concat()
}

fn serve(
    stream: TcpStream,
    tls: Option<Arc<rustls::ServerConfig>>,
    answer: &[u8],
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let Some(config) = tls else {
        return talk(stream, answer);
    };
    let connection = rustls::ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut stream = rustls::StreamOwned::new(connection, stream);
    talk(&mut stream, answer)?;
    stream.conn.send_close_notify();
    stream.flush()
}

fn talk(mut stream: impl Read + Write, answer: &[u8]) -> std::io::Result<()> {
    let mut asked = Vec::new();
    let mut byte = [0];
    while !asked.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        asked.push(byte[0]);
    }
    stream.write_all(answer)?;
    stream.flush()
}

/// A certificate for this address of a CA made for it, and the CA's PEM.
fn certified(address: SocketAddr) -> (Arc<rustls::ServerConfig>, String) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new([address.ip().to_string()]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    (Arc::new(config), pem)
}
