//! What a test asks the servers of a leased site, with and without a reconciler.

use std::process::Command;
use std::time::Duration;

use stead_schemas::lease::{LeasePart, LeaseReport};

use super::Harness;
use crate::pair::{Clocks, Records};
use crate::processes::{program, wait_until};

impl Harness {
    /// `site-agent status` on a server's own machine: exit code and stdout.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn agent_status(&self, server: &str, format: &str) -> (i32, String) {
        let output = Command::new(program("site-agent"))
            .args(["status", "-o", format, "--config"])
            .arg(self.path(&format!("agents/{server}.yaml")))
            .output()
            .expect("site-agent starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code().unwrap_or(-1), text)
    }

    /// What a server knows of its site's lease.
    #[must_use]
    pub fn lease(&self, server: &str) -> Option<LeaseReport> {
        let (_, text) = self.agent_status(server, "json");
        let status: serde_json::Value = serde_json::from_str(&text).ok()?;
        serde_json::from_value(status["report"]["lease"].clone()).ok()
    }

    /// Waits until that is so.
    ///
    /// # Panics
    /// When it does not come to that within the deadline.
    pub fn until_lease(
        &self,
        server: &str,
        what: &str,
        deadline: Duration,
        so: impl Fn(&LeaseReport) -> bool,
    ) {
        wait_until(
            &format!("{server} {what}"),
            deadline,
            || self.lease(server).as_ref().is_some_and(&so),
            || format!("{:#?}\n{}", self.lease(server), self.describe()),
        );
    }

    /// `stead --via SERVER` with the certificate of the operator alice, which the test issues: exit code
    /// and all that it says.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn via(&self, server: &str, last: u8, args: &[&str]) -> (i32, String) {
        let pki = self.path("pki/out");
        let output = Command::new(program("stead"))
            .args(["--via", &format!("{server}@{}", self.address(last))])
            .args(args)
            .env("STEAD_CA", pki.join("ca.crt"))
            .env("STEAD_CERT", pki.join("operator-alice.crt"))
            .env("STEAD_KEY", pki.join("operator-alice.key"))
            .output()
            .expect("stead starts");
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.code().unwrap_or(-1),
            String::from_utf8_lossy(&said).into_owned(),
        )
    }

    /// Where the records of a site are, whose store is at this address, to judge it by.
    #[must_use]
    pub fn records(&self, store: u8, candidates: [&'static str; 2]) -> Records {
        let data = |server: &str| self.path(&format!("agents/{server}/data/siteServer"));
        Records {
            store: (self.address(store), crate::pair::STORE_PORT).into(),
            folders: candidates.map(|server| (server, data(server))).into(),
            clocks: Clocks::new(),
            pauses: Vec::new(),
        }
    }
}

/// Whether it holds and works.
#[must_use]
pub fn holds(lease: &LeaseReport) -> bool {
    lease.part == LeasePart::Holding && lease.ready
}
