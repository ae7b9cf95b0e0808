//! Cutting servers off: packets to and from their addresses are dropped, by a table of our own.
//!
//! Needs root and `nft`; without, the lab says so and cuts nothing. A cut server goes on and finds
//! itself: its agent still checks its instances. DNS updates leave from 127.0.0.1 and are not cut; who
//! is cut off holds no term to make one under. The table is removed with the lab.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::IpAddr;
use std::process::{Command, Stdio};

/// The cuts of one lab.
#[derive(Debug)]
pub(super) struct Cuts {
    table: String,
    cut: BTreeSet<IpAddr>,
    made: bool,
}

impl Cuts {
    /// None yet, in the network with this number. What an earlier lab left there (it was killed) is
    /// removed: it would cut this one.
    pub(super) fn new(network: u8) -> Self {
        let table = format!("stead-lab-127-{network}");
        if rustix::process::geteuid().is_root() {
            // Without nft there is nothing left, and mostly there is nothing anyway.
            drop(nft(&format!("delete table inet {table}\n")));
        }
        Self {
            table,
            cut: BTreeSet::new(),
            made: false,
        }
    }

    /// Whether this address is cut off.
    pub(super) fn is_cut(&self, address: IpAddr) -> bool {
        self.cut.contains(&address)
    }

    /// Cuts an address off.
    ///
    /// # Errors
    /// Why it can't, in words.
    pub(super) fn cut(&mut self, address: IpAddr) -> Result<(), String> {
        if !rustix::process::geteuid().is_root() {
            return Err("cutting needs root (it drops packets with nft); `freeze` does not".into());
        }
        if !self.made {
            nft(&format!(
                "table inet {table} {{\n\
                 set cut {{ type ipv4_addr; }}\n\
                 set own {{ type ipv4_addr . ipv4_addr; }}\n\
                 chain input {{\n\
                 type filter hook input priority 0;\n\
                 ip saddr . ip daddr @own accept\n\
                 ip daddr @cut drop\n\
                 ip saddr @cut drop\n\
                 }}\n}}\n",
                table = self.table
            ))?;
            self.made = true;
        }
        self.change("add", address)?;
        self.cut.insert(address);
        Ok(())
    }

    /// Joins it again.
    ///
    /// # Errors
    /// Why it can't, in words.
    pub(super) fn join(&mut self, address: IpAddr) -> Result<(), String> {
        if self.cut.contains(&address) {
            self.change("delete", address)?;
            self.cut.remove(&address);
        }
        Ok(())
    }

    fn change(&self, verb: &str, address: IpAddr) -> Result<(), String> {
        let table = &self.table;
        nft(&format!(
            "{verb} element inet {table} own {{ {address} . {address} }}\n\
             {verb} element inet {table} cut {{ {address} }}\n"
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
