//! `stead status`: how things are, what needs a person first (task 5).

use std::time::Duration;

use clap::Args;
use stead_schemas::api::StatusView;
use stead_schemas::names::SiteCode;
use stead_schemas::time::WallMs;

use super::{CommandError, CommandResult, Outcome};
use crate::api_client::{ApiArgs, ApiClient};
use crate::output::{Format, FormatArg, Ui, status as show, when};

/// Time between looks of `--watch`.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Show how sites are, beginning with what needs a person
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// One site, with its servers, instances, steps and holds
    site: Option<SiteCode>,
    /// Show it again whenever it changes, until Ctrl-C
    #[arg(long)]
    watch: bool,
    /// Only what is not as it should be
    #[arg(long)]
    problems: bool,
    #[command(flatten)]
    format: FormatArg,
    #[command(flatten)]
    api: ApiArgs,
}

pub(super) async fn run(ui: &Ui, args: StatusArgs) -> CommandResult {
    let client = args.api.client()?;
    let mut last = String::new();
    loop {
        let view = fetch(&client, args.site.as_ref()).await?;
        let now = when::now();
        let text = render(ui, &args, &view, now)?;
        if !args.watch {
            ui.data(&text)?;
            return Ok(Outcome::Done);
        }
        if text != last {
            if ui.out.is_coloured() {
                // Cursor home, clear below: a screen that doesn't flicker.
                ui.data("\u{1b}[H\u{1b}[J")?;
            }
            ui.data(&text)?;
            last = text;
        }
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

/// Asks for the status of all sites, or of one.
///
/// # Errors
/// As [`ApiClient::get`], and when the reconciler knows no such site.
pub(super) async fn fetch(
    client: &ApiClient,
    site: Option<&SiteCode>,
) -> Result<StatusView, CommandError> {
    let path = match site {
        Some(site) => format!("/v1/status?site={site}"),
        None => "/v1/status".to_owned(),
    };
    let view: StatusView = client.get(&path).await?;
    match site {
        Some(site) if view.sites.iter().all(|found| found.code != *site) => {
            let error = CommandError::failed(format!("no site {site}"));
            Err(error.hinted("`stead status` lists all sites"))
        }
        _ => Ok(view),
    }
}

fn render(
    ui: &Ui,
    args: &StatusArgs,
    view: &StatusView,
    now: WallMs,
) -> Result<String, CommandError> {
    match (args.format.output, &args.site) {
        (Format::Json, _) => Ok(serde_json::to_string_pretty(view)? + "\n"),
        (Format::Human, Some(_)) => Ok(show::one_site(ui.out, view, args.problems, now)),
        (Format::Human, None) => Ok(show::all_sites(ui.out, view, args.problems, now)),
    }
}
