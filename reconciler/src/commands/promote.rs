//! `stead promote --lost`: the way out when a majority of a site's voters is gone for good (H32).

use std::io::{self, BufRead as _, IsTerminal as _};

use clap::Args;
use stead_schemas::api::{CommandAnswer, PromotionRequest};
use stead_schemas::names::{ServerName, SiteCode};

use super::suspend::tell;
use super::{CommandError, CommandResult};
use crate::api_client::ApiArgs;
use crate::output::Ui;

/// Let a server go on alone, because a majority of its site's voters is gone for good
///
/// Name every voter that is presumed dead: one that is named and answers refuses it, and so does one
/// that is not named and does not answer. The server waits one promise, and then is the only voter, and
/// active, under a term far above every known one. Who comes back stays out until `stead replace`.
/// Where one of the lost is alive and cut off, only the token protects. With `--via SERVER` it works
/// without a reconciler.
#[derive(Debug, Args)]
pub(super) struct PromoteArgs {
    /// The server that goes on
    pub(super) server: ServerName,
    /// Every voter that is gone for good
    #[arg(long, required = true, value_delimiter = ',', value_name = "VOTER,…")]
    pub(super) lost: Vec<ServerName>,
    /// How you know; journalled
    #[arg(long)]
    pub(super) reason: String,
    /// The site's code, instead of typing it when asked: for scripts
    #[arg(long, value_name = "SITE")]
    pub(super) yes_site: Option<SiteCode>,
    #[command(flatten)]
    pub(super) api: ApiArgs,
}

pub(super) async fn run(ui: &Ui, args: PromoteArgs) -> CommandResult {
    let client = args.api.client()?;
    let site_code = confirmed(ui, &args)?;
    let request = PromotionRequest {
        server: args.server,
        lost: args.lost,
        reason: args.reason,
        site_code,
    };
    let answer: CommandAnswer = client.post("/v1/promote", &request).await?;
    tell(ui, &answer)
}

/// The site's code, given or typed: what is done to it can't be taken back.
pub(super) fn confirmed(ui: &Ui, args: &PromoteArgs) -> Result<SiteCode, CommandError> {
    if let Some(site) = &args.yes_site {
        return Ok(site.clone());
    }
    let lost: Vec<&str> = args.lost.iter().map(ServerName::as_str).collect();
    ui.warning(&format!(
        "{} becomes the only voter of its site. If {} still runs somewhere, only the token in the \
         database protects it from two active site servers.",
        args.server,
        lost.join(" or "),
    ));
    if !io::stdin().is_terminal() {
        let error = CommandError::failed("nobody is there to type the site's code");
        return Err(error.hinted("in a script: --yes-site SITE"));
    }
    ui.note("Type the site's code to go on:");
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    let typed = line.trim();
    typed
        .parse()
        .map_err(|_| CommandError::failed(format!("`{typed}` is no site's code; nothing was done")))
}
