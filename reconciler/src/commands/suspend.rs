//! `stead suspend` and `stead resume`: stop the reconciler by hand, with a reason others can read.

use clap::Args;
use stead_schemas::api::{CommandAnswer, ResumeRequest, SuspendRequest};
use stead_schemas::names::Thing;
use stead_schemas::time::{DurationMs, WallMs};

use super::{CommandResult, Outcome};
use crate::api_client::ApiArgs;
use crate::output::{Ui, when};

/// Stop changing a site, a server, or everything
///
/// Nothing is torn down: what runs goes on, and agents restart what dies. It stops the reconciler;
/// failover goes on unless `--failover` stops it too: voters are then told that nobody takes over or
/// back by itself (H31).
#[derive(Debug, Args)]
pub(super) struct SuspendArgs {
    #[command(flatten)]
    scope: ScopeArg,
    /// Why; shown wherever something is held for it
    #[arg(long)]
    reason: String,
    /// When it ends by itself: a length of time (2h) or an instant (2026-11-24T06:00:00Z)
    #[arg(long, value_name = "WHEN", value_parser = parse_until)]
    until: Option<Until>,
    /// Stop failover of the site as well, while it holds
    #[arg(long)]
    failover: bool,
    #[command(flatten)]
    api: ApiArgs,
}

/// Go on changing what was suspended
#[derive(Debug, Args)]
pub(super) struct ResumeArgs {
    #[command(flatten)]
    scope: ScopeArg,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct ScopeArg {
    /// SITE or SITE/SERVER
    #[arg(value_parser = parse_scope)]
    scope: Option<Thing>,
    /// The whole hierarchy
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Clone, Copy)]
enum Until {
    After(DurationMs),
    At(WallMs),
}

pub(super) async fn suspend(ui: &Ui, args: SuspendArgs) -> CommandResult {
    let client = args.api.client()?;
    let request = SuspendRequest {
        scope: args.scope.text(),
        reason: args.reason,
        failover: args.failover,
        until: args.until.map(|until| match until {
            Until::After(duration) => when::now().plus(duration),
            Until::At(at) => at,
        }),
    };
    let answer = client.post("/v1/suspend", &request).await?;
    tell(ui, &answer)
}

pub(super) async fn resume(ui: &Ui, args: ResumeArgs) -> CommandResult {
    let client = args.api.client()?;
    let request = ResumeRequest {
        scope: args.scope.text(),
    };
    let answer = client.post("/v1/resume", &request).await?;
    tell(ui, &answer)
}

/// Prints what a command did and what follows from it.
pub(super) fn tell(ui: &Ui, answer: &CommandAnswer) -> CommandResult {
    ui.line(&answer.text)?;
    for consequence in &answer.consequences {
        ui.line(&format!("  {consequence}"))?;
    }
    Ok(Outcome::Done)
}

impl ScopeArg {
    fn text(&self) -> Option<String> {
        self.scope.as_ref().map(ToString::to_string)
    }
}

fn parse_scope(text: &str) -> Result<Thing, String> {
    match text.parse::<Thing>() {
        Ok(thing @ (Thing::Site(_) | Thing::Server(..))) => Ok(thing),
        Ok(_) => Err("only a site (P01) or a server (P01/p01-a) can be suspended".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn parse_until(text: &str) -> Result<Until, String> {
    if let Ok(duration) = text.parse::<DurationMs>() {
        return Ok(Until::After(duration));
    }
    let at: jiff::Timestamp = text
        .parse()
        .map_err(|_| "write a length (30m, 2h) or an instant (2026-11-24T06:00:00Z)".to_owned())?;
    let ms = u64::try_from(at.as_millisecond()).map_err(|_| "that was before 1970".to_owned())?;
    if WallMs(ms) <= when::now() {
        return Err("that is over already".to_owned());
    }
    Ok(Until::At(WallMs(ms)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_a_site_or_a_server() {
        assert!(parse_scope("P01").is_ok());
        assert!(parse_scope("P01/p01-a").is_ok());
        assert!(parse_scope("P01/managementPoint@p01-a").is_err());
        assert!(parse_scope("dns:x.example").is_err());
        assert!(parse_scope("p01").is_err());
    }

    #[test]
    fn an_end_is_a_length_or_an_instant_to_come() {
        assert!(matches!(
            parse_until("2h"),
            Ok(Until::After(DurationMs(7_200_000)))
        ));
        assert!(parse_until("2099-01-01T00:00:00Z").is_ok());
        assert!(parse_until("1999-01-01T00:00:00Z").is_err());
        assert!(parse_until("tomorrow").is_err());
    }
}
