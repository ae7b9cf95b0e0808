//! `stead drain` and `stead undrain`: a server out of service, to patch and reboot it, and back.

use std::io::{self, BufRead as _, IsTerminal as _};
use std::time::{Duration, Instant};

use clap::Args;
use stead_schemas::api::{
    CommandAnswer, DrainPlanView, DrainRequest, DrainView, SwitchoverState, UndrainRequest,
};
use stead_schemas::names::ServerName;
use stead_schemas::time::DurationMs;

use super::suspend::tell;
use super::{CommandError, CommandResult, ErrorKind, Outcome, status};
use crate::api_client::{ApiArgs, ApiClient};
use crate::output::{Ui, drain as show, lease, when};

/// Time between looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Take a server out of service for a while, to patch and reboot it
///
/// Says what it will do, asks, and does it: the active site server is handed over to a passive that is
/// ready (refused, and nothing begun, where none is); counted instances go to other servers; what is
/// placed there by hand leaves DNS where another of its group serves. Nothing new is placed there
/// meanwhile. Returns once the server's power may go off: 0; 4 where it may not within --timeout, the
/// drain stays in force then. When its time is over and nobody undrained it, it stays as it is and
/// needs a person.
#[derive(Debug, Args)]
pub(super) struct DrainArgs {
    /// The server
    server: ServerName,
    /// How long the server may be away
    #[arg(long = "for", value_name = "DURATION")]
    lasts: DurationMs,
    /// Why; shown wherever something is held for it
    #[arg(long)]
    reason: String,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Don't ask: for scripts
    #[arg(long)]
    yes: bool,
    /// How long at most until its power may go off
    #[arg(long, default_value = "10m")]
    timeout: DurationMs,
    #[command(flatten)]
    api: ApiArgs,
}

/// Put a drained server back into service
///
/// What is placed there by hand is published again once it is healthy, and a site server stands by
/// there. What moved away stays where it is, the active as well.
#[derive(Debug, Args)]
pub(super) struct UndrainArgs {
    /// The server
    server: ServerName,
    #[command(flatten)]
    api: ApiArgs,
}

pub(super) async fn drain(ui: &Ui, args: DrainArgs) -> CommandResult {
    let client = args.api.client()?;
    let mut request = DrainRequest {
        server: args.server,
        lasts: args.lasts,
        reason: args.reason,
        to: None,
        dry_run: true,
    };
    let planned: DrainPlanView = client.post("/v1/drain", &request).await?;
    if args.dry_run {
        ui.data(&show::plan(&planned))?;
        return Ok(Outcome::Done);
    }
    for line in show::plan(&planned).lines() {
        ui.note(line);
    }
    if !args.yes && !agreed(ui)? {
        ui.note("nothing was done");
        return Ok(Outcome::Failed);
    }
    // Whoever was shown is asked for, not whoever is ready a moment later.
    request.to = planned.switch_over.as_ref().map(|view| view.to.clone());
    request.dry_run = false;
    let begun: DrainPlanView = client.post("/v1/drain", &request).await?;
    if let Some(view) = &begun.switch_over
        && view.state != SwitchoverState::NothingToDo
    {
        ui.line(&lease::outcome(view, when::now()))?;
    }
    wait(ui, &client, &begun, args.timeout).await
}

pub(super) async fn undrain(ui: &Ui, args: UndrainArgs) -> CommandResult {
    let client = args.api.client()?;
    let request = UndrainRequest {
        server: args.server,
    };
    let answer: CommandAnswer = client.post("/v1/undrain", &request).await?;
    tell(ui, &answer)
}

/// A person's yes.
fn agreed(ui: &Ui) -> Result<bool, CommandError> {
    if !io::stdin().is_terminal() {
        let error = CommandError::failed("nobody is there to say yes; nothing was done");
        return Err(error.hinted("in a script: --yes"));
    }
    ui.note("proceed? [y/N]");
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

/// Until its power may go off; what is waited for is told when it changes.
async fn wait(
    ui: &Ui,
    client: &ApiClient,
    begun: &DrainPlanView,
    timeout: DurationMs,
) -> CommandResult {
    let DrainPlanView { site, server, .. } = begun;
    let deadline = Instant::now() + timeout.std();
    let mut last = String::new();
    loop {
        match look(client, begun).await {
            Ok(Some(view)) if view.waits.is_empty() => {
                ui.line(&show::safe(begun, when::now()))?;
                return Ok(Outcome::Done);
            }
            Ok(Some(view)) => {
                let text = view.waits.join("; ");
                if text != last {
                    ui.note(&format!("waiting: {text}"));
                    last = text;
                }
            }
            Ok(None) => {
                let error = CommandError::failed(format!("{server} was undrained meanwhile"));
                return Err(error.hinted(format!("stead history {site}")));
            }
            // Nobody answering may pass.
            Err(error) if error.kind != ErrorKind::Unobserved => return Err(error),
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => {}
        }
        if Instant::now() >= deadline {
            let error = CommandError::held(format!(
                "{server} is drained, and its power may not go off yet after {timeout}: {last}"
            ));
            return Err(error.hinted(format!(
                "stead status {site} shows when it may; stead undrain {server} gives it up"
            )));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The drain as the site's status has it; none: it is not drained.
async fn look(
    client: &ApiClient,
    begun: &DrainPlanView,
) -> Result<Option<DrainView>, CommandError> {
    let view = status::fetch(client, Some(&begun.site)).await?;
    let servers = view.sites.into_iter().flat_map(|site| site.servers);
    let mut of_server = servers.filter(|server| server.name == begun.server);
    Ok(of_server.next().and_then(|server| server.drain))
}
