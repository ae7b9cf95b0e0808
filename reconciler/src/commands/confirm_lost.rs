//! `stead confirm-lost`: a person vouches that a server is off for good.

use clap::Args;
use stead_schemas::api::{CommandAnswer, ConfirmLostRequest};
use stead_schemas::names::ServerName;

use super::CommandResult;
use super::suspend::tell;
use crate::api_client::ApiArgs;
use crate::output::Ui;

/// Vouch that a silent server is off, so that its roles may start elsewhere
///
/// Do so only when its power is certainly off or its machine is gone. It does not promote a passive
/// site server, forgets no vote and replaces no majority: where the active site server and the
/// witness are both gone, that is another command's business (H32). It does not remove the server
/// from git, and a refused one keeps whatever certificate it has.
#[derive(Debug, Args)]
pub(super) struct ConfirmLostArgs {
    /// The server
    server: ServerName,
    /// Why you are certain; journalled
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    api: ApiArgs,
}

/// What this command is taken for and is not (H14, H32).
const NOT_DONE: [&str; 3] = [
    "not done: no passive site server was promoted; a site whose active was here stays without one \
     until `active` in git names another and the old one is seen stopped",
    "not done: the server is still declared; remove it from git, or replace the machine",
    "not done: its certificate is still good; a server that comes back is taken in again",
];

pub(super) async fn run(ui: &Ui, args: ConfirmLostArgs) -> CommandResult {
    let client = args.api.client()?;
    let request = ConfirmLostRequest {
        server: args.server,
        reason: args.reason,
    };
    let answer: CommandAnswer = client.post("/v1/confirm-lost", &request).await?;
    let outcome = tell(ui, &answer)?;
    for line in NOT_DONE {
        ui.note(line);
    }
    Ok(outcome)
}
