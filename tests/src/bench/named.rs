//! A BIND of our own on a free port, with one zone and one key; gone when dropped.
//!
//! For the benches' comparison only; the contract test of the publishing client has its own.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A running `named`.
#[derive(Debug)]
pub(super) struct Named {
    child: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Named {
    /// Starts one that serves `zone`, writable with the key `stead`; why not, where it can't.
    pub(super) fn start(zone: &str, secret: &str) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let address = free_address();
        write(folder.path(), zone, secret, address).map_err(|error| error.to_string())?;
        let child = Command::new("named")
            .args(["-f", "-4", "-n", "2", "-c"])
            .arg(folder.path().join("named.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("named: {error}"))?;
        let mut named = Self {
            child,
            address,
            _folder: folder,
        };
        named.wait()?;
        Ok(named)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    fn wait(&mut self) -> Result<(), String> {
        let end = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(self.address).is_err() {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("named ended: {status}"));
            }
            if Instant::now() > end {
                return Err("named did not listen within 10 s".to_owned());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
}

fn write(folder: &Path, zone: &str, secret: &str, address: SocketAddr) -> std::io::Result<()> {
    let dir = folder.display();
    let (ip, port) = (address.ip(), address.port());
    fs::write(
        folder.join("zone.db"),
        format!(
            "$TTL 30\n@ IN SOA ns.{zone}. admin.{zone}. 1 3600 600 86400 30\n@ IN NS ns.{zone}.\nns IN A 127.0.0.1\n"
        ),
    )?;
    fs::write(
        folder.join("named.conf"),
        format!(
            "key stead {{ algorithm hmac-sha256; secret \"{secret}\"; }};
options {{
    directory \"{dir}\"; pid-file \"{dir}/named.pid\"; session-keyfile \"{dir}/session.key\";
    managed-keys-directory \"{dir}\";
    listen-on port {port} {{ {ip}; }}; listen-on-v6 {{ none; }};
    recursion no; dnssec-validation no; notify no;
}};
controls {{ }};
zone \"{zone}\" {{
    type primary; file \"{dir}/zone.db\";
    update-policy {{ grant stead subdomain {zone}. ANY; }};
    allow-transfer {{ key stead; }};
}};
"
        ),
    )
}
