//! Running `stead` in a folder, and what came of it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a command did.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl fmt::Display for Ran {
    /// A story's end: exit code, stdout, stderr where there is any.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit {}\n{}", self.code, self.out)?;
        if self.err.is_empty() {
            Ok(())
        } else {
            write!(f, "-- stderr\n{}", self.err)
        }
    }
}

/// Runs `stead` in a folder, with nothing of the tester's own environment that it reads.
pub(crate) fn stead(dir: &Path, arguments: &[&str]) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_stead"))
        .args(arguments)
        .current_dir(dir)
        .env_remove("STEAD_API")
        .env_remove("NO_COLOR")
        .env("COLUMNS", "100")
        .stdin(Stdio::null())
        .output()
        .expect("stead runs");
    Ran {
        code: output.status.code().expect("it ended by itself"),
        out: String::from_utf8(output.stdout).expect("UTF-8"),
        err: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

/// The top of the source tree.
pub(crate) fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Writes files into a new folder.
pub(crate) fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for (path, content) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("a folder");
        std::fs::write(path, content).expect("a file");
    }
    dir
}

/// A topology that checks without a word.
pub(crate) const HIERARCHY: &str = "\
apiVersion: stead/v1
kind: Hierarchy
metadata: {name: small}
spec:
  publishing:
    dns:
      domain: cm.small.example
      servers: [192.0.2.53]
      tsig: [{name: small, algorithm: hmac-sha256, secret: tsig}]
";

/// Its one site.
pub(crate) const SITE: &str = "\
apiVersion: stead/v1
kind: Site
metadata: {name: P01}
spec:
  type: primary
  servers:
    p01-a: {address: 192.0.2.11}
    p01-f1: {address: 192.0.2.21}
    p01-f2: {address: 192.0.2.22}
  siteServer: {active: p01-a, service: {command: [/bin/site-server]}}
  roles:
    smsProvider: {servers: [p01-a], port: 8441, service: {command: [/bin/provider]}}
    softwareUpdatePoint: {servers: [p01-a], service: {command: [/bin/updates]}}
    managementPoint: {servers: [p01-f1], service: {command: [/bin/mp]}}
";

/// That topology in a folder.
pub(crate) fn small() -> tempfile::TempDir {
    folder(&[("hierarchy.yaml", HIERARCHY), ("sites/P01.yaml", SITE)])
}
