//! `stead render`: a site as it is after defaults, sets and patches, and where each value is from.

use clap::Args;
use stead_schemas::declared::render::render;
use stead_schemas::names::SiteCode;

use super::topology::{PathArg, read};
use super::{CommandError, CommandResult, Outcome};
use crate::output::Ui;

/// Show a site's whole document: defaults, site sets and patches merged
#[derive(Debug, Args)]
pub(super) struct RenderArgs {
    /// The site
    site: SiteCode,
    #[command(flatten)]
    path: PathArg,
    /// Say beside each value where it comes from
    #[arg(long)]
    origin: bool,
}

pub(super) fn run(ui: &Ui, args: &RenderArgs) -> CommandResult {
    let topology = read(&args.path.path)?;
    let Some(text) = render(&topology.checked, &args.site, args.origin) else {
        let sites: Vec<&str> = topology
            .checked
            .sites
            .keys()
            .map(|site| site.as_str())
            .collect();
        let error = CommandError::failed(format!("there is no site {}", args.site));
        return Err(error.hinted(format!("sites: {}", sites.join(", "))));
    };
    ui.data(&text)?;
    let errors = topology.checked.errors().count();
    if errors > 0 {
        ui.warning(&format!(
            "the topology does not check ({errors} errors): see `stead check`"
        ));
    }
    Ok(Outcome::Done)
}
