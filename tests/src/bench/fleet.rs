//! Many emulated agents as their caller sees them: names, addresses, certificates, and the
//! processes that play them. What an emulated agent answers is in `emulator`.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use stead_schemas::names::{Identity, ServerName, SiteCode};
use stead_schemas::time::WallMs;
use stead_wire::material::Material;
use stead_wire::pki::{Ca, LEAF_DAYS, Request, issue};
use stead_wire::pki_files::load_ca;

use super::emulator;
use crate::harness::HIERARCHY;

/// Servers of one site.
const SERVERS_A_SITE: usize = 4;
/// Descriptors that a process needs beside its connections.
const SPARE_FILES: usize = 200;

/// One emulated agent, from its number alone: both ends derive the same.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    number: usize,
    port: u16,
}

impl Place {
    pub(super) const fn new(number: usize, port: u16) -> Self {
        Self { number, port }
    }

    pub(super) fn server(self) -> ServerName {
        ServerName::new(format!("srv-{}", self.number)).expect("a server's name")
    }

    /// Four servers share one: `A00` to `ZZZ`.
    pub(super) fn site(self) -> SiteCode {
        let number = self.number / SERVERS_A_SITE;
        let digit = |n: usize| char::from(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[n % 36]);
        let code = String::from_iter([
            digit(10 + number / 1_296),
            digit(number / 36),
            digit(number),
        ]);
        SiteCode::new(code).expect("a site code")
    }

    pub(super) fn address(self) -> SocketAddr {
        let octet = |n: usize| u8::try_from(n % 250).expect("below 250");
        let ip = Ipv4Addr::new(
            127,
            96 + octet(self.number / 62_500),
            octet(self.number / 250),
            1 + octet(self.number),
        );
        SocketAddr::from((ip, self.port))
    }

    pub(super) fn identity(self) -> Identity {
        format!("stead://{HIERARCHY}/server/{}", self.server())
            .parse()
            .expect("an identity")
    }
}

/// Processes that play agents; they end with this value, or with this process.
#[derive(Debug)]
pub(super) struct Fleet {
    ca: PathBuf,
    /// How many agents there are.
    pub(super) agents: usize,
    /// The port of every one of them.
    pub(super) port: u16,
    players: Vec<Child>,
}

impl Fleet {
    /// Starts `wanted` agents with certificates of the CA in this folder, or as many as one
    /// process may hold connections to.
    pub(super) fn of_ca(wanted: usize, ca: &Path) -> Self {
        let files = raise_nofile();
        let agents = wanted.min(files - SPARE_FILES);
        // A listener and a connection each.
        let players = (2 * agents).div_ceil(files - SPARE_FILES);
        let mut fleet = Self {
            ca: ca.to_owned(),
            agents,
            port: 20_000 + u16::try_from(std::process::id() % 10_000).expect("below 10,000"),
            players: Vec::new(),
        };
        let each = agents.div_ceil(players);
        for first in (0..agents).step_by(each) {
            fleet.play(first, each.min(agents - first));
        }
        fleet.wait_until_they_listen();
        fleet
    }

    /// Where the CA is.
    pub(super) fn ca(&self) -> &Path {
        &self.ca
    }

    fn play(&mut self, first: usize, count: usize) {
        let child = Command::new(std::env::current_exe().expect("a program has a path"))
            .arg(emulator::COMMAND)
            .arg(self.ca())
            .args([first.to_string(), count.to_string(), self.port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the emulator starts");
        self.players.push(child);
    }

    fn wait_until_they_listen(&mut self) {
        for player in &mut self.players {
            let out = player.stdout.take().expect("a pipe");
            let mut line = String::new();
            BufReader::new(out).read_line(&mut line).expect("a pipe");
            assert_eq!(line, "ready\n", "the emulated agents did not start");
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for player in &mut self.players {
            player.kill().ok();
            player.wait().ok();
        }
    }
}

/// Certificates of the fleet's CA for anyone who plays a part.
#[derive(Debug)]
pub(super) struct Issuer(Ca);

impl Issuer {
    /// The CA in a folder.
    pub(super) fn of(folder: &Path) -> Self {
        Self(load_ca(folder).expect("the CA's files"))
    }

    /// A certificate and key for someone.
    pub(super) fn material(&self, identity: &Identity) -> Material {
        let request = Request {
            identity: identity.clone(),
            addresses: Vec::new(),
            dns_names: Vec::new(),
            days: LEAF_DAYS,
        };
        let issued = issue(&self.0, &request, now()).expect("a certificate");
        Material::from_pem(
            self.0.certificate_pem(),
            &issued.certificate_pem,
            &issued.key_pem,
        )
        .expect("a certificate just issued is good")
    }
}

/// Lets this process open as many files as the machine allows; says how many.
pub(super) fn raise_nofile() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).ok();
    let allowed = getrlimit(Resource::Nofile).current;
    usize::try_from(allowed.unwrap_or(u64::MAX).min(1_000_000)).expect("at most a million")
}

/// Wall time.
pub(super) fn now() -> WallMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let ms = since.expect("after 1970").as_millis();
    WallMs(u64::try_from(ms).expect("before the year 500,000,000"))
}
