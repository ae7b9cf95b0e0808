//! Real servers for one repository: OpenSSH's sshd, and `git http-backend` behind TLS.
//!
//! Both listen on 127.0.0.1, on a port the system chose, for as long as the test runs.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use base64::Engine;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::task::JoinHandle;

/// Runs a program that these tests need; says so where it is missing.
pub(crate) async fn tool(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().await;
    let output = output.unwrap_or_else(|error| {
        panic!("these tests need `{program}` ({error}): tests/run installs it")
    });
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// An sshd that knows one user key.
pub(crate) struct Ssh {
    dir: PathBuf,
    pub(crate) address: SocketAddr,
    pub(crate) user: String,
    task: JoinHandle<()>,
}

impl Ssh {
    pub(crate) async fn start(dir: &Path) -> Self {
        let dir = dir.join("ssh server");
        std::fs::create_dir(&dir).unwrap();
        for name in ["host", "user", "stranger"] {
            let file = dir.join(name);
            let file = file.to_str().unwrap();
            tool("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", file]).await;
        }
        std::fs::copy(dir.join("user.pub"), dir.join("authorized_keys")).unwrap();
        let shown = dir.display();
        let config = format!(
            "HostKey \"{shown}/host\"\nAuthorizedKeysFile \"{shown}/authorized_keys\"\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\nPidFile none\n\
             PermitRootLogin prohibit-password\nKbdInteractiveAuthentication no\n"
        );
        std::fs::write(dir.join("sshd_config"), config).unwrap();
        // Where sshd, as root, drops privileges; a machine without a running sshd has none.
        std::fs::create_dir_all("/run/sshd").ok();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(serve_ssh(listener, dir.clone()));
        let user = tool("id", &["-un"]).await.trim().to_owned();
        let server = Self {
            dir,
            address,
            user,
            task,
        };
        server.know("host");
        server
    }

    /// A file of the server: `user`, `stranger` and `known_hosts` are what a client needs.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Writes the known_hosts file: the server has the key of that name.
    pub(crate) fn know(&self, key: &str) {
        let public = std::fs::read_to_string(self.file(&format!("{key}.pub"))).unwrap();
        let line = format!("[127.0.0.1]:{} {public}", self.address.port());
        std::fs::write(self.file("known_hosts"), line).unwrap();
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One `sshd -i` a connection: the port is ours all the time, and nothing runs in between.
async fn serve_ssh(listener: TcpListener, dir: PathBuf) {
    let mut sessions = Vec::new();
    while let Ok((socket, _)) = listener.accept().await {
        let socket = socket.into_std().unwrap();
        socket.set_nonblocking(false).unwrap();
        let (input, output) = (
            OwnedFd::from(socket.try_clone().unwrap()),
            OwnedFd::from(socket),
        );
        let log = std::fs::File::create(dir.join("log")).unwrap();
        let session = Command::new("/usr/sbin/sshd")
            .args(["-i", "-e", "-f"])
            .arg(dir.join("sshd_config"))
            .stdin(Stdio::from(input))
            .stdout(Stdio::from(output))
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("these tests need /usr/sbin/sshd: tests/run installs it");
        sessions.push(session);
    }
}

/// What an https git server does with requests.
#[derive(Debug, Clone, Default)]
pub(crate) struct Manners {
    /// The token it wants as the password of basic authentication.
    pub(crate) token: Option<String>,
    /// Every answer is a redirect to below this.
    pub(crate) redirect: Option<String>,
    /// Every answer is this status.
    pub(crate) status: Option<u16>,
}

/// `git http-backend` behind TLS.
pub(crate) struct Https {
    pub(crate) address: SocketAddr,
    /// PEM of the CA its certificate comes from.
    pub(crate) ca_file: PathBuf,
    /// The `Authorization` headers it was sent.
    pub(crate) seen: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Https {
    /// Serves the repositories below `root`.
    pub(crate) async fn start(root: &Path, manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (config, ca) = tls(&address.to_string());
        let ca_file = root.join(format!("ca-{}.pem", address.port()));
        std::fs::write(&ca_file, ca).unwrap();
        let seen = Arc::default();
        let task = tokio::spawn(serve_https(
            listener,
            config,
            Arc::new((root.to_owned(), manners)),
            Arc::clone(&seen),
        ));
        Self {
            address,
            ca_file,
            seen,
            task,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{}/{path}", self.address)
    }
}

impl Drop for Https {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Site = Arc<(PathBuf, Manners)>;

async fn serve_https(
    listener: TcpListener,
    config: rustls::ServerConfig,
    site: Site,
    seen: Arc<Mutex<Vec<String>>>,
) {
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    while let Ok((socket, _)) = listener.accept().await {
        let (acceptor, site, seen) = (acceptor.clone(), Arc::clone(&site), Arc::clone(&seen));
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(socket).await else {
                return;
            };
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let site = Arc::clone(&site);
                if let Some(value) = request.headers().get("authorization") {
                    seen.lock()
                        .unwrap()
                        .push(value.to_str().unwrap().to_owned());
                }
                async move { Ok::<_, Infallible>(answer(request, &site).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new();
            connection
                .serve_connection(TokioIo::new(stream), service)
                .await
                .ok();
        });
    }
}

async fn answer(request: Request<Incoming>, site: &Site) -> Response<Full<Bytes>> {
    let (root, manners) = &**site;
    let plain = |status: u16| {
        let builder = Response::builder().status(status);
        (builder, Full::new(Bytes::from_static(b"no\n")))
    };
    if let Some(status) = manners.status {
        let (builder, body) = plain(status);
        return builder.body(body).unwrap();
    }
    if let Some(to) = &manners.redirect {
        let (builder, body) = plain(302);
        let path = request.uri().path_and_query().unwrap();
        return builder
            .header("location", format!("{to}{path}"))
            .body(body)
            .unwrap();
    }
    let given = request.headers().get("authorization");
    let is_let_in = manners.token.as_ref().is_none_or(|token| {
        let wanted = base64::engine::general_purpose::STANDARD.encode(format!("git:{token}"));
        given.is_some_and(|value| value == &format!("Basic {wanted}"))
    });
    if !is_let_in {
        let (builder, body) = plain(401);
        return builder
            .header("www-authenticate", "Basic realm=\"git\"")
            .body(body)
            .unwrap();
    }
    backend(request, root).await
}

/// CGI: RFC 3875, as much of it as `git http-backend` asks for.
async fn backend(request: Request<Incoming>, root: &Path) -> Response<Full<Bytes>> {
    let header = |name: &str| {
        let value = request.headers().get(name);
        value.map_or("", |value| value.to_str().unwrap()).to_owned()
    };
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", request.uri().path())
        .env("QUERY_STRING", request.uri().query().unwrap_or(""))
        .env("REQUEST_METHOD", request.method().as_str())
        .env("CONTENT_TYPE", header("content-type"))
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("these tests need `git`: tests/run installs it");
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&body).await.ok();
    drop(stdin);
    let output = child.wait_with_output().await.unwrap().stdout;
    let end = output.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let mut response = Response::builder();
    for line in std::str::from_utf8(&output[..end]).unwrap().lines() {
        let (name, value) = line.split_once(':').unwrap();
        if name.eq_ignore_ascii_case("status") {
            let code = value.split_whitespace().next().unwrap();
            response = response.status(StatusCode::from_bytes(code.as_bytes()).unwrap());
        } else {
            response = response.header(name, value.trim());
        }
    }
    let body = Bytes::copy_from_slice(&output[end + 4..]);
    response.body(Full::new(body)).unwrap()
}

/// A certificate for 127.0.0.1 of a CA made for it, of that name, and the CA's PEM.
fn tls(ca_name: &str) -> (rustls::ServerConfig, String) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::default();
    ca.distinguished_name.push(DnType::CommonName, ca_name);
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    (config, pem)
}
