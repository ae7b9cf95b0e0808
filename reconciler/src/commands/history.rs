//! `stead history`: what was, from the reconciler's journal.

use clap::Args;
use stead_schemas::api::{JournalEntry, TakeoverView};
use stead_schemas::lease::TakeoverCause;
use stead_schemas::names::SiteCode;

use super::{CommandResult, Outcome};
use crate::api_client::{ApiArgs, ApiClient};
use crate::output::{Format, FormatArg, Ui, history, lease, when};

/// Show what happened, oldest first
#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    /// Only of this site
    site: Option<SiteCode>,
    /// How many of the newest entries
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Only what was before the entry of this number
    #[arg(long, value_name = "ID")]
    before: Option<i64>,
    /// Only how the site's lease was last taken up, a moment a line
    #[arg(
        long,
        value_enum,
        value_name = "WHAT",
        requires = "site",
        conflicts_with = "before"
    )]
    last: Option<Last>,
    #[command(flatten)]
    format: FormatArg,
    #[command(flatten)]
    api: ApiArgs,
}

/// A kind of takeover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Last {
    /// Because the holder was silent
    Failover,
    /// Because the holder handed over
    Switchover,
    /// Whatever the cause
    Takeover,
}

impl Last {
    const fn is(self, cause: TakeoverCause) -> bool {
        match self {
            Self::Failover => matches!(cause, TakeoverCause::Failover),
            Self::Switchover => matches!(cause, TakeoverCause::Handover),
            Self::Takeover => true,
        }
    }
}

pub(super) async fn run(ui: &Ui, args: HistoryArgs) -> CommandResult {
    let client = args.api.client()?;
    if let (Some(last), Some(site)) = (args.last, &args.site) {
        return takeover(ui, &client, site, last, args.format.output).await;
    }
    let mut path = format!("/v1/history?limit={}", args.limit);
    if let Some(site) = &args.site {
        path += &format!("&site={site}");
    }
    if let Some(before) = args.before {
        path += &format!("&before={before}");
    }
    let mut entries: Vec<JournalEntry> = client.get(&path).await?;
    entries.reverse();
    match args.format.output {
        Format::Json => ui.json(&entries)?,
        Format::Human => {
            ui.data(&history::lines(ui.out, &entries, when::now()))?;
            if let (Some(first), true) = (
                entries.first(),
                entries.len() as u64 == u64::from(args.limit),
            ) {
                ui.note(&format!("older: --before {}", first.id));
            }
        }
    }
    Ok(Outcome::Done)
}

/// The timeline of the last takeover of a kind.
async fn takeover(
    ui: &Ui,
    client: &ApiClient,
    site: &SiteCode,
    last: Last,
    format: Format,
) -> CommandResult {
    let path = format!("/v1/takeovers?site={site}");
    let views: Vec<TakeoverView> = client.get(&path).await?;
    let found = views.into_iter().find(|view| last.is(view.takeover.cause));
    match (format, found) {
        (Format::Json, found) => ui.json(&found)?,
        (Format::Human, Some(view)) => {
            ui.data(&lease::timeline(ui.out, &view, when::now()))?;
        }
        (Format::Human, None) => ui.note("none that this reconciler knows of"),
    }
    Ok(Outcome::Done)
}
