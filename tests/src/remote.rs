//! `stead` as people elsewhere run it: over mutual TLS, with a certificate of `stead pki issue`.
//!
//! It knows where the harness's reconciler listens; it asserts nothing about what is answered.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use crate::harness::{Harness, RECONCILER};
use crate::processes::program;

/// Port of the reconciler's API.
pub const API_PORT: u16 = 7444;

/// Somebody with a certificate, on another machine as far as Stead can tell.
#[derive(Debug)]
pub struct Remote {
    api: String,
    pki: PathBuf,
    name: String,
}

impl Remote {
    /// Who has `pki/out/NAME.crt` of the harness, calling its reconciler.
    #[must_use]
    pub fn new(harness: &Harness, name: &str) -> Self {
        let address = SocketAddr::from((harness.address(2), API_PORT));
        Self {
            api: format!("https://{RECONCILER}@{address}"),
            pki: harness.path("pki/out"),
            name: name.to_owned(),
        }
    }

    /// The same, expecting another reconciler at the address.
    #[must_use]
    pub fn expecting(mut self, reconciler: &str) -> Self {
        self.api = self.api.replace(RECONCILER, reconciler);
        self
    }

    /// The same with files of another folder, its CA's certificate included.
    #[must_use]
    pub fn with_files_of(mut self, pki: PathBuf) -> Self {
        self.pki = pki;
        self
    }

    /// Runs a `stead` command: exit code, stdout, stderr.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn stead(&self, args: &[&str]) -> (i32, String, String) {
        let output = Command::new(program("stead"))
            .args(args)
            .env("STEAD_API", &self.api)
            .env("STEAD_CA", self.pki.join("ca.crt"))
            .env("STEAD_CERT", self.pki.join(format!("{}.crt", self.name)))
            .env("STEAD_KEY", self.pki.join(format!("{}.key", self.name)))
            .current_dir("/")
            .output()
            .expect("stead starts");
        (
            output.status.code().unwrap_or(-1),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }
}
