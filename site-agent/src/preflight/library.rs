//! A content library that is a folder: it is there, and this server may write to it (SP-12).
//!
//! A warning only: nothing in this version reads or writes it, and a site must not wait for what it does
//! not use.

use std::fs;
use std::io;
use std::path::Path;

use stead_schemas::names::ServerName;
use stead_schemas::prerequisite::{Check, Finding, Prerequisite};

pub(super) fn look(folder: &Path, server: &ServerName) -> Check {
    let shown = folder.display();
    let finding = try_out(folder, server).err().map(|error| {
        Finding::warning(
            format!("{server} may not write to {shown}: {error}"),
            format!("mount it on {server}, and let the agent's user make and remove files there"),
        )
    });
    Check {
        prerequisite: Prerequisite::ContentLibrary,
        measured: Some(format!("{shown}")),
        findings: finding.into_iter().collect(),
    }
}

/// A name of its own: several servers try at one time.
fn try_out(folder: &Path, server: &ServerName) -> io::Result<()> {
    let path = folder.join(format!(".stead-preflight-{server}"));
    fs::write(&path, b"preflight\n")?;
    fs::remove_file(&path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sp_12_a_library_that_can_not_be_written_is_named_with_the_server() {
        let dir = tempfile::tempdir().unwrap();
        let server = "p01-b".parse().unwrap();
        assert_eq!(look(dir.path(), &server).findings, []);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let gone = look(&dir.path().join("gone"), &server);
        let finding = &gone.findings[0];
        assert!(!finding.fatal && finding.text.contains("p01-b may not write to"));
    }
}
