//! `stead explain`: help for a field of the YAML, without a cluster and without a browser.

use clap::Args;
use stead_schemas::declared;

use super::{CommandError, CommandResult, Outcome};
use crate::output::Ui;

/// Explain a kind or a field, as in Site.spec.roles
#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// KIND, or KIND.path.to.field
    #[arg(value_name = "KIND.PATH")]
    path: String,
}

pub(super) fn run(ui: &Ui, args: &ExplainArgs) -> CommandResult {
    let lines = declared::explain::explain(&args.path).map_err(CommandError::failed)?;
    ui.line(&lines.join("\n"))?;
    Ok(Outcome::Done)
}
