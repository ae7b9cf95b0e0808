//! The three servers under test, each with the zone, the keys and the policy that Stead prints.
//!
//! The policy comes from `stead::dns::policy`, so that what people are told is what is tested.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use stead::dns::policy::policy_text;
use stead::dns::server::{Running, Scope, ServerConfig, ServerKey, serve};
use stead_dns::TsigKey;
use stead_dns::client::Client;
use stead_schemas::desired::TsigAlgorithm;
use stead_schemas::names::{DomainName, SiteCode};
use tempfile::TempDir;

/// The zone; Stead's names live one label below, so that the zone has to be found.
pub(crate) const ZONE: &str = "lab.example";
pub(crate) const DOMAIN: &str = "cm.lab.example";
/// The reconciler's key, the one it rotates to, and two sites' keys.
pub(crate) const KEY: &str = "stead-2026";
pub(crate) const NEXT_KEY: &str = "stead-2027";
pub(crate) const SITE_KEYS: [(&str, &str); 2] =
    [("stead-2026-p01", "P01"), ("stead-2026-p02", "P02")];
/// For single exchanges in tests; generous, because the machine is shared.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bind,
    Knot,
    Ours,
}

pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    dir: TempDir,
    // Held for its Drop.
    _running: Option<Running>,
    child: Option<Child>,
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the server's log:\n{}", self.log());
        }
        if let Some(child) = &mut self.child {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

impl Server {
    pub(crate) async fn start(kind: Kind) -> Self {
        let addr = free_address();
        let dir = tempfile::tempdir().unwrap();
        let mut server = Self {
            addr,
            dir,
            _running: None,
            child: None,
        };
        match kind {
            Kind::Bind => server.child = Some(bind(server.dir.path(), addr)),
            Kind::Knot => server.child = Some(knot(server.dir.path(), addr)),
            Kind::Ours => server._running = Some(ours(server.dir.path(), addr).await),
        }
        server.wait_until_served().await;
        server
    }

    /// A client with the reconciler's key.
    pub(crate) fn client(&self) -> Client {
        self.client_with(vec![key(KEY)])
    }

    pub(crate) fn client_with(&self, keys: Vec<TsigKey>) -> Client {
        Client::new(vec![self.addr], keys, LIMIT)
    }

    async fn wait_until_served(&mut self) {
        let client = self.client();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let found = client.zone_of(self.addr, DOMAIN).await;
            if found.is_ok_and(|zone| zone == ZONE) {
                return;
            }
            if let Some(status) = self.child.as_mut().and_then(|c| c.try_wait().unwrap()) {
                panic!("the server ended with {status}:\n{}", self.log());
            }
            assert!(
                Instant::now() < deadline,
                "the server does not serve:\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

/// An address that no other test process uses. BIND listens only on addresses that an interface
/// has, so it is the port that differs: below the ephemeral range, four a process id.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let count = std::process::id() * 4 + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + u16::try_from(count % 22_000).unwrap();
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(addr).is_ok() && UdpSocket::bind(addr).is_ok() {
            return addr;
        }
    }
}

/// The secret of a test key: different for each name.
pub(crate) fn secret(name: &str) -> String {
    use base64::Engine as _;
    let bytes: Vec<u8> = name.bytes().cycle().take(32).collect();
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

pub(crate) fn key(name: &str) -> TsigKey {
    key_with_secret(name, name)
}

/// A key under one name with the secret of another.
pub(crate) fn key_with_secret(name: &str, secret_of: &str) -> TsigKey {
    TsigKey::from_base64(name, TsigAlgorithm::HmacSha256, &secret(secret_of)).unwrap()
}

pub(crate) fn server_keys() -> Vec<ServerKey> {
    let whole = [KEY, NEXT_KEY].map(|name| ServerKey {
        key: key(name),
        scope: Scope::zone(),
    });
    let sites = SITE_KEYS.map(|(name, code)| ServerKey {
        key: key(name),
        scope: Scope::alias(&format!("{}.{DOMAIN}", code.to_lowercase())).unwrap(),
    });
    whole.into_iter().chain(sites).collect()
}

pub(crate) async fn ours(dir: &Path, listen: SocketAddr) -> Running {
    let config = ServerConfig::new(listen, ZONE.to_owned(), dir.join("zone"), server_keys());
    serve(config).await.unwrap()
}

fn names() -> (DomainName, Vec<SiteCode>) {
    let sites = SITE_KEYS.map(|(_, code)| SiteCode::new(code).unwrap());
    (DomainName::new(DOMAIN).unwrap(), sites.to_vec())
}

fn key_names() -> Vec<&'static str> {
    vec![KEY, NEXT_KEY, SITE_KEYS[0].0, SITE_KEYS[1].0]
}

fn zone_file(dir: &Path) {
    let text = "\
$TTL 60
@ IN SOA ns.lab.example. hostmaster.lab.example. 1 3600 60 86400 5
@ IN NS ns.lab.example.
ns IN A 127.0.0.1
";
    fs::write(dir.join("lab.zone"), text).unwrap();
    let nested = text.replace("lab.example", "deep.lab.example");
    fs::write(dir.join("deep.zone"), nested).unwrap();
}

fn bind(dir: &Path, addr: SocketAddr) -> Child {
    zone_file(dir);
    let keys: String = key_names()
        .iter()
        .map(|name| {
            let secret = secret(name);
            format!("key \"{name}\" {{ algorithm hmac-sha256; secret \"{secret}\"; }};\n")
        })
        .collect();
    let (domain, sites) = names();
    // The second reconciler key, and what the tests plant besides Stead, get their lines too.
    let extra = format!(
        "update-policy {{\n    grant {NEXT_KEY} zonesub ANY;\n    grant {KEY} zonesub CNAME;"
    );
    let policy = policy_text(KEY, &domain, &sites)
        .bind
        .replacen("update-policy {", &extra, 1);
    let (home, ip, port) = (dir.display(), addr.ip(), addr.port());
    let config = format!(
        "{keys}options {{ directory \"{home}\"; listen-on port {port} {{ {ip}; }}; \
         listen-on-v6 {{ none; }}; pid-file none; lock-file none; \
         session-keyfile \"{home}/session.key\"; recursion no; allow-query {{ any; }}; \
         notify no; dnssec-validation no; }};\ncontrols {{ }};\n\
         zone \"{ZONE}\" {{ type primary; file \"lab.zone\";\n{policy}}};\n\
         zone \"deep.{ZONE}\" {{ type primary; file \"deep.zone\"; \
         update-policy {{ grant {KEY} zonesub ANY; }}; }};\n"
    );
    fs::write(dir.join("named.conf"), config).unwrap();
    let conf = dir.join("named.conf");
    spawn(
        dir,
        "named",
        &["-g", "-n", "1", "-c", conf.to_str().unwrap()],
    )
}

fn knot(dir: &Path, addr: SocketAddr) -> Child {
    zone_file(dir);
    let keys: String = key_names()
        .iter()
        .map(|name| {
            let secret = secret(name);
            format!("  - id: {name}\n    algorithm: hmac-sha256\n    secret: {secret}\n")
        })
        .collect();
    let (domain, sites) = names();
    let policy = policy_text(KEY, &domain, &sites).knot;
    let extra = format!(
        "acl:\n  - id: next\n    key: {NEXT_KEY}\n    action: [update, transfer]\n  \
         - id: planted\n    key: {KEY}\n    action: update\n    update-type: [CNAME]\n"
    );
    let acl = policy.replacen("acl:\n", &extra, 1);
    let ids = policy
        .split_once("acl: [")
        .and_then(|(_, rest)| rest.split_once(']'))
        .expect("the policy names its rules")
        .0;
    let (home, ip, port) = (dir.display(), addr.ip(), addr.port());
    let config = format!(
        "server:\n    rundir: \"{home}\"\n    listen: {ip}@{port}\n    tcp-workers: 2\n    \
         udp-workers: 1\n    background-workers: 1\n\
         log:\n  - target: stderr\n    any: info\n\
         database:\n    storage: \"{home}/db\"\n\
         key:\n{keys}{acl}\
         template:\n  - id: default\n    storage: \"{home}\"\n    zonefile-sync: -1\n    \
         zonefile-load: whole\n    journal-content: changes\n\
         zone:\n  - domain: {ZONE}\n    file: lab.zone\n    acl: [next, planted, {ids}]\n  \
         - domain: deep.{ZONE}\n    file: deep.zone\n    acl: [next]\n"
    );
    fs::write(dir.join("knot.conf"), config).unwrap();
    fs::create_dir(dir.join("db")).unwrap();
    let conf = dir.join("knot.conf");
    spawn(dir, "knotd", &["-c", conf.to_str().unwrap()])
}

/// Starts a program with its output in `log`; a missing program fails the test and says so.
fn spawn(dir: &Path, program: &str, args: &[&str]) -> Child {
    let log = fs::File::create(dir.join("log")).unwrap();
    let path = format!(
        "{}:/usr/local/sbin:/usr/sbin:/sbin",
        std::env::var("PATH").unwrap_or_default()
    );
    Command::new(program)
        .env("PATH", path)
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| {
            panic!(
                "{program} cannot be started ({error}): install it, as tests/run does (bind9, knot)"
            )
        })
}
