//! The fence in the kernel, where the settings ask for one: what the site server sends is dropped once
//! the guard's deadline has passed, with neither agent nor guard alive.
//!
//! A table of this agent's own has two sets of cgroups: `work` is what needs a lease, `lease` is what has
//! one, for as long as the kernel keeps the element. The agent makes the table, the guard fills it: a
//! deadline goes in before it is acknowledged, and what is proven gone is taken out of both. A site
//! server that stands by is in neither, and sends what it likes. The kernel counts jiffies, which stand
//! still while the machine is suspended: then it is the other enforcers' turn.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use thiserror::Error;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use super::nftables::{Change, Nftables};

const WORK: &str = "work";
const LEASE: &str = "lease";
/// How long `nft` may take to make the table.
const MAKE: Duration = Duration::from_secs(5);

/// Why there is no such fence.
#[derive(Debug, Error)]
pub enum NetworkError {
    /// There is nothing to tell the site server's packets by.
    #[error("`networkFence: nftables` needs cgroups of version 2, which this agent does not use")]
    NoCgroup,
    /// The program is missing, or does not run.
    #[error("`networkFence: nftables` needs the program `nft`, which can't be run")]
    Program(#[source] io::Error),
    /// The table was refused, or not made in time.
    #[error("`networkFence: nftables`: nft can't make its table: {0}")]
    Refused(String),
}

/// The table of the agent whose site server is in this cgroup; no other agent's.
#[must_use]
pub fn table_of(cgroup: &Path) -> String {
    let agent = cgroup.parent().and_then(Path::file_name);
    let name = agent.unwrap_or_default().to_string_lossy();
    let plain = |letter: char| {
        if letter.is_ascii_alphanumeric() {
            letter
        } else {
            '_'
        }
    };
    format!("stead_{}", name.chars().map(plain).collect::<String>())
}

/// Makes the table for a site server in this cgroup, so deep below the mount, or the rule anew where
/// there is one; its sets stay as they are.
///
/// # Errors
/// [`NetworkError`].
pub async fn make(cgroup: &Path, depth: usize) -> Result<(), NetworkError> {
    let table = table_of(cgroup);
    let own = format!("socket cgroupv2 level {depth}");
    let rules = format!(
        "add table inet {table}
add set inet {table} {WORK} {{ type cgroupsv2; }}
add set inet {table} {LEASE} {{ type cgroupsv2; flags timeout; }}
add chain inet {table} out {{ type filter hook output priority 0; policy accept; }}
flush chain inet {table} out
add rule inet {table} out {own} @{WORK} {own} != @{LEASE} drop
"
    );
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(NetworkError::Program)?;
    let told = async {
        if let Some(mut stdin) = nft.stdin.take() {
            stdin.write_all(rules.as_bytes()).await?;
        }
        nft.wait_with_output().await
    };
    let done = timeout(MAKE, told).await;
    let done = done.map_err(|_| NetworkError::Refused("it does not end".to_owned()))?;
    let done = done.map_err(NetworkError::Program)?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    let first = said.lines().next().unwrap_or("it does not say why");
    Err(NetworkError::Refused(first.to_owned()))
}

/// The guard's hold on it.
#[derive(Debug)]
pub(super) struct Network {
    table: String,
    nftables: Nftables,
}

impl Network {
    pub(super) fn open(table: String) -> io::Result<Self> {
        let nftables = Nftables::open()?;
        Ok(Self { table, nftables })
    }

    /// The cgroup with this number may send for so long, and no longer until it is told again or let
    /// go. Put, taken and put: kernels before 6.12 leave an element's time as it is.
    pub(super) fn extend(&mut self, cgroup: u64, left: Duration) -> io::Result<()> {
        let changes = [
            Change::Put(WORK, cgroup, None),
            Change::Put(LEASE, cgroup, Some(left)),
            Change::Take(LEASE, cgroup),
            Change::Put(LEASE, cgroup, Some(left)),
        ];
        self.nftables.change(&self.table, &changes)
    }

    /// Nothing needs a lease any more.
    pub(super) fn let_go(&mut self) -> io::Result<()> {
        let changes = [Change::Empty(WORK), Change::Empty(LEASE)];
        self.nftables.change(&self.table, &changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_named_after_its_agents_cgroup() {
        let cgroup = Path::new("/sys/fs/cgroup/stead/p01-a-5f3c/siteServer");
        assert_eq!(table_of(cgroup), "stead_p01_a_5f3c");
    }
}
