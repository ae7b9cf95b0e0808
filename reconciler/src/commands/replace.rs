//! `stead replace`: a person lets in a server whose vote ledger is new.

use clap::Args;
use stead_schemas::api::{CommandAnswer, ReplaceRequest};
use stead_schemas::names::ServerName;

use super::CommandResult;
use super::suspend::tell;
use crate::api_client::ApiArgs;
use crate::output::Ui;

/// Let a voter in again after its machine or its state folder was replaced
///
/// A voter that lost its ledger has no vote: it may have promised what it no longer knows (H4). This
/// says that the old one never comes back. The new ledger votes once the holder of the lease has
/// changed the voters. It revokes no certificate in this version: keep the old machine off.
#[derive(Debug, Args)]
pub(super) struct ReplaceArgs {
    /// The server, or a reconciler that votes
    server: ServerName,
    /// Why; journalled
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    api: ApiArgs,
}

pub(super) async fn run(ui: &Ui, args: ReplaceArgs) -> CommandResult {
    let client = args.api.client()?;
    let request = ReplaceRequest {
        server: args.server,
        reason: args.reason,
    };
    let answer: CommandAnswer = client.post("/v1/replace", &request).await?;
    tell(ui, &answer)
}
