//! Cutting servers off: packets to and from their agents are dropped, by a table of our own.
//!
//! Needs root and `nft`; without, the lab says so and cuts nothing. Only the agent's port is cut, as
//! all servers share one machine: what a server runs stays reachable, as behind a broken management
//! network. The table is removed with the lab.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

/// The cuts of one lab.
#[derive(Debug)]
pub(super) struct Cuts {
    table: String,
    cut: BTreeSet<SocketAddr>,
    made: bool,
}

impl Cuts {
    /// None yet.
    pub(super) fn new() -> Self {
        Self {
            table: format!("stead-lab-{}", std::process::id()),
            cut: BTreeSet::new(),
            made: false,
        }
    }

    /// Whether this agent is cut off.
    pub(super) fn is_cut(&self, agent: SocketAddr) -> bool {
        self.cut.contains(&agent)
    }

    /// Cuts an agent off.
    ///
    /// # Errors
    /// Why it can't, in words.
    pub(super) fn cut(&mut self, agent: SocketAddr) -> Result<(), String> {
        if !rustix::process::geteuid().is_root() {
            return Err("cutting needs root (it drops packets with nft); `freeze` does not".into());
        }
        if !self.made {
            nft(&format!(
                "table inet {table} {{\n\
                 set cut {{ type ipv4_addr . inet_service; }}\n\
                 chain input {{\n\
                 type filter hook input priority 0;\n\
                 ip daddr . tcp dport @cut drop\n\
                 ip saddr . tcp sport @cut drop\n\
                 }}\n}}\n",
                table = self.table
            ))?;
            self.made = true;
        }
        self.change("add", agent)?;
        self.cut.insert(agent);
        Ok(())
    }

    /// Joins it again.
    ///
    /// # Errors
    /// Why it can't, in words.
    pub(super) fn join(&mut self, agent: SocketAddr) -> Result<(), String> {
        if self.cut.contains(&agent) {
            self.change("delete", agent)?;
            self.cut.remove(&agent);
        }
        Ok(())
    }

    fn change(&self, verb: &str, agent: SocketAddr) -> Result<(), String> {
        nft(&format!(
            "{verb} element inet {} cut {{ {} . {} }}\n",
            self.table,
            agent.ip(),
            agent.port()
        ))
    }
}

impl Drop for Cuts {
    fn drop(&mut self) {
        if self.made {
            drop(nft(&format!("delete table inet {}\n", self.table)));
        }
    }
}

fn nft(script: &str) -> Result<(), String> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("can't run nft ({error}); install nftables"))?;
    if let Some(mut stdin) = child.stdin.take() {
        let written = stdin.write_all(script.as_bytes());
        written.map_err(|error| format!("nft does not read: {error}"))?;
    }
    let output = child
        .wait_with_output()
        .map_err(|error| format!("nft: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("nft refused: {}", said.trim()))
    }
}
