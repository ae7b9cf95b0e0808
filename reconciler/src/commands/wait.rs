//! `stead wait`: block until sites are as git declares them; for pipelines.

use std::time::{Duration, Instant};

use clap::Args;
use stead_schemas::api::{SiteState, SiteView, StatusView};
use stead_schemas::names::SiteCode;
use stead_schemas::time::DurationMs;

use super::{CommandError, CommandResult, ErrorKind, Outcome, status};
use crate::api_client::{ApiArgs, ApiClient};
use crate::output::Ui;

/// Time between looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Wait until sites are as git declares them
///
/// Ends with 0 when they are, 4 when the time is over and a person is needed, 3 when it is over
/// and the reconciler could not be observed, else 1.
#[derive(Debug, Args)]
pub(super) struct WaitArgs {
    /// Wait until every site has converged
    #[arg(long, required = true)]
    converged: bool,
    /// To this commit, or one whose id begins so
    #[arg(long, value_name = "REV")]
    revision: Option<String>,
    /// Only this site
    #[arg(long)]
    site: Option<SiteCode>,
    /// How long at most
    #[arg(long, default_value = "5m")]
    timeout: DurationMs,
    #[command(flatten)]
    api: ApiArgs,
}

/// What the last look saw.
enum Look {
    Converged(usize),
    NotYet { text: String, needs_person: bool },
    Unobserved(CommandError),
}

pub(super) async fn run(ui: &Ui, args: WaitArgs) -> CommandResult {
    let client = args.api.client()?;
    let deadline = Instant::now() + args.timeout.std();
    let mut last = String::new();
    loop {
        let look = look(&client, &args).await?;
        if let Look::Converged(sites) = look {
            ui.note(&format!("{sites} of {sites} sites converged"));
            return Ok(Outcome::Done);
        }
        if Instant::now() >= deadline {
            return Err(over(look, args.timeout));
        }
        if let Look::NotYet { text, .. } = look
            && text != last
        {
            ui.note(&text);
            last = text;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A refusal ends the wait at once; nobody answering may pass.
async fn look(client: &ApiClient, args: &WaitArgs) -> Result<Look, CommandError> {
    match status::fetch(client, args.site.as_ref()).await {
        Ok(view) => Ok(judge(&view, args.revision.as_deref())),
        Err(error) if error.kind == ErrorKind::Unobserved => Ok(Look::Unobserved(error)),
        Err(error) => Err(error),
    }
}

fn judge(view: &StatusView, revision: Option<&str>) -> Look {
    let in_force = view.source.in_force.as_deref();
    if let Some(wanted) = revision
        && !in_force.is_some_and(|found| found.starts_with(wanted))
    {
        return Look::NotYet {
            text: format!(
                "{wanted} is not in force yet (in force: {})",
                in_force.unwrap_or("none")
            ),
            needs_person: !view.needs_person.is_empty(),
        };
    }
    let there = |site: &&SiteView| {
        site.state == SiteState::Converged && site.revision.as_deref() == in_force
    };
    let done = view.sites.iter().filter(there).count();
    if done == view.sites.len() && in_force.is_some() {
        return Look::Converged(done);
    }
    let rest: Vec<&str> = view
        .sites
        .iter()
        .filter(|site| !there(site))
        .map(|site| site.code.as_str())
        .take(10)
        .collect();
    Look::NotYet {
        text: format!(
            "{done} of {} sites converged, waiting for {}",
            view.sites.len(),
            rest.join(", ")
        ),
        needs_person: !view.needs_person.is_empty(),
    }
}

fn over(look: Look, timeout: DurationMs) -> CommandError {
    let message = format!("not converged within {timeout}");
    match look {
        Look::Unobserved(error) => error,
        Look::NotYet {
            text,
            needs_person: true,
        } => CommandError::held(format!("{message}: {text}; a person is needed"))
            .hinted("`stead status` begins with what to do"),
        Look::NotYet { text, .. } => {
            CommandError::failed(format!("{message}: {text}")).hinted("stead status --problems")
        }
        Look::Converged(_) => CommandError::failed(message),
    }
}
