//! `stead why`: why a thing is as it is, down to file, line and commit.

use clap::Args;
use stead_schemas::api::{JournalEntry, WhyView};
use stead_schemas::names::Thing;
use stead_schemas::time::WallMs;

use super::{CommandResult, Outcome};
use crate::api_client::{ApiArgs, query_value};
use crate::output::table::one_line;
use crate::output::{Format, FormatArg, Palette, Style, Ui, history, when};

/// Tell why a thing is as it is, down to file, line and commit
#[derive(Debug, Args)]
pub(super) struct WhyArgs {
    /// P01, P01/p01-a, P01/managementPoint@p01-f1, dns:NAME/TYPE, hold:ID, rev:SHA
    thing: Thing,
    #[command(flatten)]
    format: FormatArg,
    #[command(flatten)]
    api: ApiArgs,
}

pub(super) async fn run(ui: &Ui, args: WhyArgs) -> CommandResult {
    let client = args.api.client()?;
    let thing = query_value(&args.thing.to_string());
    let view: WhyView = client.get(&format!("/v1/why?thing={thing}")).await?;
    match args.format.output {
        Format::Json => ui.json(&view)?,
        Format::Human => ui.data(&render(ui.out, &view, when::now()))?,
    }
    Ok(Outcome::Done)
}

fn render(palette: Palette, view: &WhyView, now: WallMs) -> String {
    let mut text = format!(
        "{}  {}\n",
        palette.paint(Style::Head, &view.thing),
        one_line(&view.answer)
    );
    for cause in &view.because {
        text += &format!("  because  {}\n", one_line(&cause.text));
        let place = cause.place.as_ref().map(ToString::to_string);
        if let Some(place) = place.filter(|place| !cause.text.contains(place)) {
            text += &format!("           {}\n", palette.paint(Style::Note, &place));
        }
        if let Some(commit) = &cause.commit {
            text += &format!(
                "           {}\n",
                palette.paint(Style::Note, &one_line(commit))
            );
        }
    }
    text + &past(palette, &view.history, now)
}

fn past(palette: Palette, entries: &[JournalEntry], now: WallMs) -> String {
    if entries.is_empty() {
        return String::new();
    }
    format!(
        "\n{}\n{}",
        palette.paint(Style::Head, "HISTORY (newest first)"),
        history::lines(palette, entries, now)
    )
}
