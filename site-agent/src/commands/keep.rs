//! `site-agent keep FOLDER`: one instance's keeper. Started by the agent.

use std::path::Path;
use std::process::ExitCode;

/// Keeps the instance until nothing of it is left.
#[must_use]
pub fn run(folder: &Path) -> ExitCode {
    match crate::keeper::keep(folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", crate::chain(&error));
            ExitCode::FAILURE
        }
    }
}
