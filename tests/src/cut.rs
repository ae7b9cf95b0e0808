//! Cuts the network between one process and some addresses, and nobody else: its own cgroup, and an
//! nftables table of its own that goes when the value is dropped.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A cgroup that a program is started in, so that its traffic can be told from all other. (The
/// kernel notes a socket's cgroup when the socket is made: moving a running process is too late.)
#[derive(Debug)]
pub struct Room {
    table: String,
    group: PathBuf,
}

/// A cut in force.
#[derive(Debug)]
pub struct Cut {
    table: String,
}

impl Room {
    /// Makes the cgroup.
    ///
    /// # Panics
    /// Without root or cgroup version 2: the test can't be run then.
    #[must_use]
    pub fn new() -> Self {
        let table = format!("stead-test-{}", std::process::id());
        let mount = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
            .map(Path::new)
            .into_iter()
            .find(|path| path.join("cgroup.procs").exists())
            .expect("cgroup version 2 is mounted");
        let group = mount.join(&table);
        fs::create_dir_all(&group).expect("root may make a cgroup: run the tests as root");
        Self { table, group }
    }

    /// The program, started in this cgroup from its first instruction.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", "echo $$ > \"$0/cgroup.procs\" && exec \"$@\""])
            .arg(&self.group)
            .arg(program);
        command
    }

    /// Drops everything the program sends to these addresses from now on.
    ///
    /// # Panics
    /// When nft refuses.
    #[must_use]
    pub fn cut(&self, addresses: &[Ipv4Addr]) -> Cut {
        // nft resolves the path below /sys/fs/cgroup, wherever version 2 is mounted.
        let path = self
            .group
            .strip_prefix("/sys/fs/cgroup")
            .expect("below the mount");
        let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let rules = format!(
            "table inet {} {{
  chain out {{
    type filter hook output priority 0; policy accept;
    socket cgroupv2 level 1 \"{}\" ip daddr {{ {} }} counter drop
  }}
}}
",
            self.table,
            path.display(),
            list.join(", ")
        );
        let file = std::env::temp_dir().join(&self.table);
        fs::write(&file, rules).expect("a file");
        let done = Command::new("nft").arg("-f").arg(&file).output();
        fs::remove_file(&file).ok();
        let done = done.expect("nft is there: apt-get install nftables (tests/run does)");
        assert!(
            done.status.success(),
            "nft: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        Cut {
            table: self.table.clone(),
        }
    }
}

impl Default for Room {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        fs::remove_dir(&self.group).ok();
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        Command::new("nft")
            .args(["delete", "table", "inet", &self.table])
            .status()
            .ok();
    }
}
