//! `stead logs`: what an instance wrote, fetched from its agent through the reconciler.

use std::io::Write as _;

use clap::Args;
use stead_schemas::names::InstanceName;

use super::{CommandResult, Outcome};
use crate::api_client::{ApiArgs, query_value};
use crate::output::Ui;

/// Show what a role instance wrote to its output
#[derive(Debug, Args)]
pub(super) struct LogsArgs {
    /// The instance, as in P01/managementPoint@p01-f1
    instance: InstanceName,
    /// Go on until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// How many of the last lines
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    lines: u32,
    #[command(flatten)]
    api: ApiArgs,
}

pub(super) async fn run(ui: &Ui, args: LogsArgs) -> CommandResult {
    let client = args.api.client()?;
    let instance = query_value(&args.instance.to_string());
    let path = format!(
        "/v1/logs?instance={instance}&lines={}&follow={}",
        args.lines, args.follow
    );
    let mut lines = client.lines(&path).await?;
    while let Some(mut line) = lines.next().await? {
        if ui.out.is_coloured() {
            // A person's terminal takes no commands from an instance.
            line.retain(|byte| *byte == b'\t' || !byte.is_ascii_control());
        }
        line.push(b'\n');
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(&line)?;
        stdout.flush()?;
    }
    Ok(Outcome::Done)
}
