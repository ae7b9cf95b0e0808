//! What a lab is made of on disk: topology, certificates, secrets and settings.
//!
//! Made once and kept; a second start uses the topology as its user left it. Certificates come from
//! `stead pki` itself, as on any other machine.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::json;
use stead_schemas::declared;
use stead_schemas::desired::{HierarchyDesired, TsigAlgorithm, TsigKeyDesired};
use stead_schemas::names::{ServerName, SiteCode};

use super::folder::Folder;
use super::network::{self, FIRST, Network};
use crate::commands::CommandError;
use crate::git::{Limits, read_folder_at_path};

/// The example, built in: a lab needs no checkout.
const TOPOLOGY: [(&str, &str); 4] = [
    (
        "hierarchy.yaml",
        include_str!("../../../examples/three-sites/hierarchy.yaml"),
    ),
    (
        "sites/CAS.yaml",
        include_str!("../../../examples/three-sites/sites/CAS.yaml"),
    ),
    (
        "sites/P01.yaml",
        include_str!("../../../examples/three-sites/sites/P01.yaml"),
    ),
    (
        "sites/S01.yaml",
        include_str!("../../../examples/three-sites/sites/S01.yaml"),
    ),
];
/// The reconciler's name in the example.
pub(super) const RECONCILER: &str = "stead-1";
/// The longest that `stead pki` gives; nobody renews in a lab.
const CERTIFICATE_DAYS: &str = "825";
const KEY_BYTES: usize = 32;

/// A lab ready to be started.
#[derive(Debug)]
pub(super) struct Scene {
    /// What its topology declared when it was started.
    pub(super) desired: HierarchyDesired,
    /// Its loopback network.
    pub(super) network: Network,
    /// The program of the agents.
    pub(super) site_agent: PathBuf,
    /// This program.
    pub(super) stead: PathBuf,
}

/// One server of the lab.
#[derive(Debug, Clone)]
pub(super) struct LabServer {
    /// Its name.
    pub(super) name: ServerName,
    /// Where its agent listens.
    pub(super) agent: SocketAddr,
    /// Its site.
    pub(super) site: SiteCode,
    /// Whether it may hold its site's lease.
    pub(super) is_candidate: bool,
}

/// A key of the DNS server.
#[derive(Debug)]
pub(super) struct DnsKey {
    /// Its name.
    pub(super) name: String,
    /// Its algorithm.
    pub(super) algorithm: TsigAlgorithm,
    /// The file with its secret.
    pub(super) file: PathBuf,
    /// The one alias it may write; none: the whole zone.
    pub(super) alias: Option<String>,
}

impl Scene {
    /// Makes what is missing in the folder.
    ///
    /// # Errors
    /// When a program is missing, the topology does not check, or addresses are taken.
    pub(super) fn set(folder: &Folder) -> Result<Self, CommandError> {
        let stead = std::env::current_exe()?;
        let site_agent = site_agent_beside(&stead)?;
        let fresh = !folder.topology().exists();
        let claimed = if fresh {
            Some(Network::claim_any()?)
        } else {
            None
        };
        if let Some(network) = &claimed {
            write_topology(folder, network)?;
        }
        let desired = read_topology(&folder.topology())?;
        let network = match claimed {
            Some(network) => network,
            None => claim_again(&desired)?,
        };
        let scene = Self {
            desired,
            network,
            site_agent,
            stead,
        };
        scene.ensure_addresses_free()?;
        scene.write_secrets(folder)?;
        scene.write_identities(folder)?;
        scene.write_settings(folder)?;
        Ok(scene)
    }

    /// Takes in what its user committed or wrote meanwhile: certificates and settings of new servers.
    ///
    /// # Errors
    /// When the topology does not check, or has addresses that are not the lab's.
    pub(super) fn refresh(&mut self, folder: &Folder) -> Result<(), CommandError> {
        let desired = read_topology(&folder.topology())?;
        if network_number(&desired)? != self.network.number() {
            return Err(CommandError::failed(
                "its servers have addresses of another network",
            ));
        }
        self.desired = desired;
        self.write_secrets(folder)?;
        self.write_identities(folder)?;
        self.write_settings(folder)
    }

    /// Every server, by name.
    pub(super) fn servers(&self) -> impl Iterator<Item = LabServer> {
        self.desired.sites.iter().flat_map(|(code, site)| {
            let leased = site
                .site_server
                .as_ref()
                .filter(|found| found.lease.is_some());
            site.servers.iter().map(move |(name, server)| LabServer {
                name: name.clone(),
                agent: SocketAddr::new(server.address, server.agent_port),
                site: code.clone(),
                is_candidate: leased
                    .is_some_and(|found| found.active == *name || found.passive.contains(name)),
            })
        })
    }

    /// The domain published to.
    pub(super) fn domain(&self) -> Option<&str> {
        Some(self.desired.dns.as_ref()?.domain.as_str())
    }

    /// The reconciler's own address.
    pub(super) fn reconciler(&self) -> Option<IpAddr> {
        let declared = |(name, _): &(&ServerName, _)| name.as_str() == RECONCILER;
        let (_, found) = self.desired.reconcilers.iter().find(declared)?;
        Some(found.address).filter(IpAddr::is_loopback)
    }

    /// Every key that the DNS server knows: those of the reconciler, and one a site for its alias (H22).
    pub(super) fn keys(&self, folder: &Folder) -> Vec<DnsKey> {
        let Some(dns) = &self.desired.dns else {
            return Vec::new();
        };
        let key = |key: &TsigKeyDesired, end: &str, alias: Option<String>| DnsKey {
            name: format!("{}{end}", key.name),
            algorithm: key.algorithm,
            file: folder.secrets().join(format!("{}{end}", key.secret)),
            alias,
        };
        let whole = dns.tsig.iter().map(|one| key(one, "", None));
        let sites = self.desired.sites.keys().flat_map(|code| {
            let code = code.as_str().to_lowercase();
            let alias = format!("{code}.{}", dns.domain.as_str());
            let end = format!("-{code}");
            dns.tsig
                .iter()
                .map(move |one| key(one, &end, Some(alias.clone())))
        });
        whole.chain(sites).collect()
    }

    fn ensure_addresses_free(&self) -> Result<(), CommandError> {
        for server in self.servers() {
            network::ensure_free(server.agent, server.name.as_str())?;
        }
        network::ensure_free(self.network.dns(), "stead dns")
    }

    fn write_secrets(&self, folder: &Folder) -> Result<(), CommandError> {
        for key in self.keys(folder) {
            if key.file.exists() {
                continue;
            }
            let mut secret = [0; KEY_BYTES];
            SystemRandom::new()
                .fill(&mut secret)
                .map_err(|_| CommandError::failed("the system gives no random bytes"))?;
            write_private(&key.file, &STANDARD.encode(secret))?;
        }
        Ok(())
    }

    fn write_identities(&self, folder: &Folder) -> Result<(), CommandError> {
        let pki = folder.pki();
        let dir = pki.display().to_string();
        if !pki.join("ca.key").exists() {
            self.pki(&[
                "init",
                "--dir",
                &dir,
                "--hierarchy",
                self.desired.name.as_str(),
            ])?;
        }
        let issue = |kind: &str, name: &str, out: &Path| {
            if out.join(format!("{kind}-{name}.key")).exists() {
                return Ok(());
            }
            let out = out.display().to_string();
            let days = ["--days", CERTIFICATE_DAYS];
            self.pki(&[
                "issue", "--dir", &dir, kind, name, "--out", &out, days[0], days[1],
            ])
        };
        issue("reconciler", RECONCILER, &folder.reconciler())?;
        for server in self.servers() {
            issue(
                "server",
                server.name.as_str(),
                &folder.server(server.name.as_str()),
            )?;
        }
        Ok(())
    }

    fn pki(&self, arguments: &[&str]) -> Result<(), CommandError> {
        let output = Command::new(&self.stead)
            .arg("pki")
            .args(arguments)
            .stdin(Stdio::null())
            .output()?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(CommandError::failed(format!(
            "`stead pki {}` failed: {}",
            arguments.join(" "),
            said.trim().trim_start_matches("error: ")
        )))
    }

    fn write_settings(&self, folder: &Folder) -> Result<(), CommandError> {
        let hierarchy = self.desired.name.as_str();
        let reconciler = json!({
            "apiVersion": "stead/v1",
            "kind": "ReconcilerConfig",
            "metadata": {"name": RECONCILER},
            "spec": {
                "hierarchy": hierarchy,
                "stateDir": folder.reconciler().join("state"),
                "secretsDir": folder.secrets(),
                "git": {"url": folder.topology(), "branch": "main", "poll": "5s"},
                "tls": tls(&folder.reconciler(), "reconciler", RECONCILER),
                "api": {"socket": folder.api_socket()},
            }
        });
        write_document(&folder.reconciler().join("stead.yaml"), &reconciler)?;
        for server in self.servers() {
            let name = server.name.as_str();
            let dir = folder.server(name);
            let agent = json!({
                "apiVersion": "stead/v1",
                "kind": "AgentConfig",
                "metadata": {"name": name},
                "spec": {
                    "hierarchy": hierarchy,
                    "listen": server.agent.to_string(),
                    "stateDir": folder.agent_state(name),
                    "tls": tls(&dir, "server", name),
                }
            });
            write_document(&dir.join("agent.yaml"), &agent)?;
        }
        Ok(())
    }
}

/// The agents' program lies beside this one.
fn site_agent_beside(stead: &Path) -> Result<PathBuf, CommandError> {
    let path = stead.with_file_name("site-agent");
    if path.is_file() {
        return Ok(path);
    }
    let release = if stead.components().any(|part| part.as_os_str() == "release") {
        " --release"
    } else {
        ""
    };
    let message = format!(
        "the lab needs `site-agent` beside `stead`: no {}",
        path.display()
    );
    Err(CommandError::failed(message)
        .hinted(format!("cargo build{release} -p stead -p site-agent")))
}

fn write_topology(folder: &Folder, network: &Network) -> Result<(), CommandError> {
    // Beside its place until it is whole: a lab that was interrupted here begins anew.
    let topology = folder.root().join("topology.new");
    drop(fs::remove_dir_all(&topology));
    for (path, content) in TOPOLOGY {
        let content = content
            .replace(
                &format!("127.{FIRST}."),
                &format!("127.{}.", network.number()),
            )
            .replace("127.0.0.53:5300", &network.dns().to_string());
        // The line points to the schema of the source tree, which is not here.
        let content = match content.split_once('\n') {
            Some((first, rest)) if first.starts_with("# yaml-language-server") => rest.to_owned(),
            _ => content,
        };
        let path = topology.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, content)?;
    }
    super::git::make(&topology)?;
    fs::rename(topology, folder.topology())?;
    Ok(())
}

fn read_topology(topology: &Path) -> Result<HierarchyDesired, CommandError> {
    let files = read_folder_at_path(topology, &Limits::default())?;
    declared::check(&files).desired.ok_or_else(|| {
        let message = format!("the topology in {} does not check", topology.display());
        CommandError::failed(message).hinted(format!("stead check {}", topology.display()))
    })
}

/// A lab started again has the network its topology names.
fn claim_again(desired: &HierarchyDesired) -> Result<Network, CommandError> {
    let number = network_number(desired)?;
    Network::claim(number).ok_or_else(|| {
        CommandError::failed(format!("another lab has the network 127.{number}"))
            .hinted("end that one, or make a new lab with another --dir")
    })
}

fn network_number(desired: &HierarchyDesired) -> Result<u8, CommandError> {
    let servers = desired
        .sites
        .values()
        .flat_map(|site| site.servers.values());
    network::number_of(servers.map(|server| server.address))
}

fn tls(dir: &Path, kind: &str, name: &str) -> serde_json::Value {
    json!({
        "ca": dir.join("ca.crt"),
        "cert": dir.join(format!("{kind}-{name}.crt")),
        "key": dir.join(format!("{kind}-{name}.key")),
    })
}

/// A settings document; JSON is YAML.
fn write_document(path: &Path, document: &serde_json::Value) -> Result<(), CommandError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, serde_json::to_string_pretty(document)? + "\n")?;
    Ok(())
}

fn write_private(path: &Path, content: &str) -> Result<(), CommandError> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options.open(path)?.write_all(content.as_bytes())?;
    Ok(())
}
