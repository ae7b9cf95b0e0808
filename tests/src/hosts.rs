//! Hosts made of network namespaces: each with an address and a cable of its own, all at one switch in
//! a namespace that nothing else is in. Nothing outside of them is reached, and all of it is gone when
//! the value is dropped.
//!
//! Needs root, `ip` and `nft`. One kernel: every host reads the same boot-time clock (H26), unless a
//! program on it is started ahead of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Some hosts at one switch.
#[derive(Debug)]
pub struct Hosts {
    /// Begins the name of every namespace.
    prefix: String,
    /// Host by name, with the last octet of its address.
    hosts: BTreeMap<String, u8>,
}

impl Hosts {
    /// Makes a switch and these hosts, numbered from 1; their addresses are 10.77.0.x, which exist
    /// in these namespaces only.
    ///
    /// # Panics
    /// Without root, `ip` or namespaces: the test can't be run then.
    #[must_use]
    pub fn new(names: &[&str]) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("st{}-{number}", std::process::id());
        let mut made = Self {
            prefix,
            hosts: BTreeMap::new(),
        };
        let switch = made.namespace("switch");
        run("ip", &["netns", "add", &switch]);
        within(&switch, &["ip", "link", "add", "br0", "type", "bridge"]);
        within(&switch, &["ip", "link", "set", "br0", "up"]);
        for (at, name) in names.iter().enumerate() {
            let last = u8::try_from(at + 1).expect("few hosts");
            made.plug_in(&switch, name, last);
        }
        made
    }

    fn plug_in(&mut self, switch: &str, name: &str, last: u8) {
        let host = self.namespace(name);
        run("ip", &["netns", "add", &host]);
        self.hosts.insert(name.to_owned(), last);
        let port = format!("port{last}");
        let cable = [
            "ip", "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &host,
        ];
        within(switch, &cable);
        within(switch, &["ip", "link", "set", &port, "master", "br0", "up"]);
        let address = format!("{}/24", self.address(name));
        within(&host, &["ip", "addr", "add", &address, "dev", "eth0"]);
        within(&host, &["ip", "link", "set", "eth0", "up"]);
        within(&host, &["ip", "link", "set", "lo", "up"]);
    }

    /// A host's address.
    ///
    /// # Panics
    /// When there is no such host.
    #[must_use]
    pub fn address(&self, name: &str) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, self.hosts[name])
    }

    fn namespace(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// The file of a host's network namespace.
    #[must_use]
    pub fn namespace_file(&self, name: &str) -> PathBuf {
        Path::new("/run/netns").join(self.namespace(name))
    }

    /// A command that runs on this host.
    #[must_use]
    pub fn command(&self, name: &str, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.namespace_file(name).display()))
            .arg(program);
        command
    }

    /// The same, in a time namespace of its own: its boot time and its monotonic clock are so many
    /// seconds ahead of the kernel's.
    #[must_use]
    pub fn command_ahead(&self, name: &str, seconds: u64, program: &Path) -> Command {
        let mut command = self.command(name, Path::new("unshare"));
        command
            .arg("--time")
            .arg(format!("--boottime={seconds}"))
            .arg(format!("--monotonic={seconds}"))
            .arg(program);
        command
    }

    /// Moves the calling thread onto this host; whatever it opens from now on is there.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn enter(&self, name: &str) {
        enter(&self.namespace_file(name));
    }

    /// Nothing reaches or leaves this host any more, and nobody is told: packets are dropped.
    pub fn cut(&self, name: &str) {
        self.filter(
            name,
            "chain in { type filter hook input priority 0; policy drop; iif lo accept; }
             chain out { type filter hook output priority 0; policy drop; oif lo accept; }
",
        );
    }

    /// Nothing that comes from `from` reaches `to`; the other way is open.
    pub fn cut_one_way(&self, from: &str, to: &str) {
        let from = self.address(from);
        self.filter(
            to,
            &format!(
                "chain in {{ type filter hook input priority 0; policy accept; ip saddr {from} drop; }}
"
            ),
        );
    }

    /// These two don't reach each other; both reach everybody else.
    pub fn cut_between(&self, one: &str, other: &str) {
        self.cut_one_way(one, other);
        self.cut_one_way(other, one);
    }

    fn filter(&self, name: &str, chains: &str) {
        let rules = format!(
            "table inet cut {{
{chains}}}"
        );
        within(&self.namespace(name), &["nft", &rules]);
    }

    /// Takes every cut at this host back.
    pub fn join(&self, name: &str) {
        // Added first: there may be none. Whatever else filters there stays.
        let rules = "add table inet cut; delete table inet cut";
        within(&self.namespace(name), &["nft", rules]);
    }
}

/// Moves the calling thread onto the host of this namespace.
///
/// # Panics
/// When the kernel refuses.
pub fn enter(namespace: &Path) {
    let file = File::open(namespace).expect("the host's namespace");
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .expect("root may enter a namespace");
}

impl Drop for Hosts {
    fn drop(&mut self) {
        let names: Vec<String> = self.hosts.keys().cloned().collect();
        for name in names.iter().map(String::as_str).chain(["switch"]) {
            let done = Command::new("ip")
                .args(["netns", "del", &self.namespace(name)])
                .output();
            if let Ok(done) = done
                && !done.status.success()
            {
                eprintln!("{}", String::from_utf8_lossy(&done.stderr));
            }
        }
    }
}

fn within(namespace: &str, args: &[&str]) {
    run("ip", &[&["netns", "exec", namespace], args].concat());
}

/// Runs a tool of the system, to its end.
pub(crate) fn run(program: &str, args: &[&str]) {
    let done = Command::new(program).args(args).output();
    let done = done.unwrap_or_else(|error| panic!("{program}: {error} (tests/run installs it)"));
    assert!(
        done.status.success(),
        "{program} {args:?}: {} (these tests need root)",
        String::from_utf8_lossy(&done.stderr)
    );
}
