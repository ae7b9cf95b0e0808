//! `stead switchover` and `stead failback`: another active site server, by hand.

use clap::Args;
use serde::Serialize;
use stead_schemas::api::{FailbackRequest, SwitchoverRequest, SwitchoverState, SwitchoverView};
use stead_schemas::names::{ServerName, SiteCode};

use super::{CommandError, CommandResult, Outcome};
use crate::api_client::{ApiArgs, ApiClient};
use crate::output::{Ui, lease, when};

/// Make another server the active site server of a site
///
/// The holder of the site's lease is asked once and does the rest: it stops new work, ends what is in
/// flight, and hands over with the successor's place kept. Refused where the successor is not ready.
/// Git's `active` is parked by it, until it changes or `stead failback` (H21); the change that makes
/// it permanent is printed.
#[derive(Debug, Args)]
pub(super) struct SwitchoverArgs {
    /// The site
    site: SiteCode,
    /// The server that shall be active; default: the first that is ready, in order of preference
    #[arg(long, value_name = "SERVER")]
    to: Option<ServerName>,
    #[command(flatten)]
    common: Common,
}

/// Give a site back to the active that git declares
#[derive(Debug, Args)]
pub(super) struct FailbackArgs {
    /// The site
    site: SiteCode,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Common {
    /// Why; journalled
    #[arg(long)]
    reason: Option<String>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    api: ApiArgs,
}

pub(super) async fn switchover(ui: &Ui, args: SwitchoverArgs) -> CommandResult {
    let client = args.common.api.client()?;
    let mut request = SwitchoverRequest {
        site: args.site,
        to: args.to,
        reason: args.common.reason,
        dry_run: true,
    };
    let planned = ask(&client, "/v1/switchover", &request).await?;
    // Whoever was shown is asked for, not whoever is ready a moment later.
    request.to = Some(planned.to.clone());
    request.dry_run = false;
    carry_out(ui, planned, args.common.dry_run, async || {
        ask(&client, "/v1/switchover", &request).await
    })
    .await
}

pub(super) async fn failback(ui: &Ui, args: FailbackArgs) -> CommandResult {
    let client = args.common.api.client()?;
    let mut request = FailbackRequest {
        site: args.site,
        reason: args.common.reason,
        dry_run: true,
    };
    let planned = ask(&client, "/v1/failback", &request).await?;
    request.dry_run = false;
    carry_out(ui, planned, args.common.dry_run, async || {
        ask(&client, "/v1/failback", &request).await
    })
    .await
}

async fn ask<B: Serialize + Sync>(
    client: &ApiClient,
    path: &str,
    request: &B,
) -> Result<SwitchoverView, CommandError> {
    client.post(path, request).await
}

/// Says what is interrupted, does it, and says what it came to.
async fn carry_out(
    ui: &Ui,
    planned: SwitchoverView,
    dry_run: bool,
    act: impl AsyncFnOnce() -> Result<SwitchoverView, CommandError>,
) -> CommandResult {
    if dry_run || planned.state == SwitchoverState::NothingToDo {
        ui.line(&lease::outcome(&planned, when::now()))?;
        return Ok(Outcome::Done);
    }
    ui.note(&lease::preview(&planned));
    let view = act().await?;
    let text = lease::outcome(&view, when::now());
    if view.state == SwitchoverState::UnderWay {
        let error = CommandError::unobserved(text);
        return Err(error.hinted(format!("stead status {}", view.site)));
    }
    ui.line(&text)?;
    if view.state == SwitchoverState::Done && view.parked {
        ui.note(&format!(
            "git declares another active: that is parked until it changes there, or stead failback {}",
            view.site
        ));
        match &view.diff {
            Some(diff) => {
                ui.note("to make it permanent:");
                ui.data(diff)?;
            }
            None => ui.note(&format!(
                "to make it permanent: `siteServer.active: {}` in git",
                view.to
            )),
        }
    }
    Ok(Outcome::Done)
}
