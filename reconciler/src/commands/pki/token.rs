//! `stead pki token`: lets servers join, each with a token of its own.

use clap::Args;
use stead_schemas::join::{TokensAnswer, TokensRequest};
use stead_schemas::names::ServerName;
use stead_schemas::time::DurationMs;

use super::instant;
use crate::api_client::ApiArgs;
use crate::commands::{CommandResult, Outcome};
use crate::output::Ui;

/// Let servers join: print the command for each, with a token that works once.
///
/// The reconciler has to run, with `pki.dir` in its settings. A token is for one server of the revision
/// in force; a later one ends it. It is shown this once and not kept; who asked for it is journalled.
#[derive(Debug, Args)]
pub(super) struct TokenArgs {
    /// The servers, as declared
    #[arg(required = true, value_name = "SERVER")]
    servers: Vec<ServerName>,
    /// How long the tokens are good for: 1 minute to 7 days
    #[arg(long, value_name = "TIME", default_value = "1h")]
    ttl: DurationMs,
    #[command(flatten)]
    api: ApiArgs,
}

pub(super) async fn run(ui: &Ui, args: TokenArgs) -> CommandResult {
    let client = args.api.client()?;
    let request = TokensRequest {
        servers: args.servers,
        ttl: args.ttl,
    };
    let answer: TokensAnswer = client.post("/v1/tokens", &request).await?;
    let widest = answer.tokens.iter().map(|made| made.server.as_str().len());
    let width = widest.max().unwrap_or(0);
    for made in &answer.tokens {
        let TokensAnswer { reconciler, ca, .. } = &answer;
        let (server, token) = (&made.server, &made.token);
        ui.line(&format!(
            "{server:<width$}  site-agent join https://{reconciler} --server {server} --token {token} --ca {ca}"
        ))?;
    }
    if let Some(made) = answer.tokens.first() {
        let until = instant(made.until);
        ui.note(&format!(
            "each works once, on the server it names, until {until}"
        ));
    }
    Ok(Outcome::Done)
}
