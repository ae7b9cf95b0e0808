//! Builds the programs that a bench starts, in the profile of the bench itself: cargo builds only
//! the binary it was asked to run.

use std::path::Path;
use std::process::Command;

/// Builds `stead` and `site-agent` beside this program.
///
/// # Panics
/// When they can't be built.
pub(super) fn programs() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = Command::new(cargo);
    command
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .args(["build", "--quiet", "-p", "stead", "-p", "site-agent"])
        .args(["-p", "system-tests", "--bins"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let status = command.status().expect("cargo starts");
    assert!(status.success(), "the programs can't be built");
}
