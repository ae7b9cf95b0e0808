//! `stead history`: what was, from the reconciler's journal.

use clap::Args;
use stead_schemas::api::JournalEntry;
use stead_schemas::names::SiteCode;

use super::{CommandResult, Outcome};
use crate::api_client::ApiArgs;
use crate::output::{Format, FormatArg, Ui, history, when};

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
    #[command(flatten)]
    format: FormatArg,
    #[command(flatten)]
    api: ApiArgs,
}

pub(super) async fn run(ui: &Ui, args: HistoryArgs) -> CommandResult {
    let client = args.api.client()?;
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
