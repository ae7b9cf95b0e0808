//! `site-agent run`: the agent itself.
//!
//! SIGTERM ends the agent and leaves its instances to their keepers; SIGINT (Ctrl-C) stops the
//! instances first; SIGHUP replaces the program in place, keeping its pid, settings read anew.

use std::error::Error;
use std::path::PathBuf;

use clap::Args;
use tracing_subscriber::EnvFilter;

use crate::service;

/// Run the agent of this server
///
/// SIGTERM ends it and leaves instances running under their keepers, for the next agent to adopt;
/// SIGINT stops them first; SIGHUP, or `site-agent reload`, replaces it in place.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Its settings (a document of kind AgentConfig)
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// How the log is written
    #[arg(long, value_enum, default_value = "human")]
    log: super::Format,
}

pub(super) fn run(args: &RunArgs) -> Result<(), Box<dyn Error>> {
    start_log(args.log);
    let config = crate::config::load(&args.config)?;
    super::runtime()?.block_on(service::serve(&args.config, config))?;
    Ok(())
}

fn start_log(format: super::Format) {
    let filter = EnvFilter::try_from_env("STEAD_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_writer(std::io::stderr);
    match format {
        super::Format::Human => log.with_ansi(false).init(),
        super::Format::Json => log.json().init(),
    }
}
