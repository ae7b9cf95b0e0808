//! The commands of `site-agent`, one file each. stdout carries data, stderr everything else.

pub mod guard;
mod join;
pub mod keep;
mod local;
mod purge;
mod reload;
mod role;
mod run;
mod status;
mod stop_all;

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::layout::Layout;

/// Runs the role instances of one server, as the hierarchy's reconciler assigns them
#[derive(Debug, Parser)]
#[command(name = "site-agent", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Kill the site server when its time is over: started by `run`, or by a unit of its own
    #[command(hide = true)]
    Guard(guard::GuardArgs),
    /// Keep one instance: started by `run`, not by people
    #[command(hide = true)]
    Keep {
        /// The instance's folder
        folder: PathBuf,
    },
    Join(join::JoinArgs),
    Purge(purge::PurgeArgs),
    /// Replace the running agent by the program installed now; pid and instances stay
    Reload(Place),
    Role(role::RoleArgs),
    Run(run::RunArgs),
    Status(status::StatusArgs),
    /// Stop every instance of this server, and its agent; the next `run` starts them again
    StopAll(Place),
}

// Which agent of this machine: no doc comment, clap would take it for the command's help.
#[expect(missing_docs, reason = "clap takes doc comments for help")]
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub struct Place {
    /// The agent's settings (a document of kind AgentConfig)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Its state folder
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

impl Place {
    /// The state folder meant.
    ///
    /// # Errors
    /// When the settings can't be read, or there is no such folder.
    pub fn layout(&self) -> Result<Layout, Box<dyn Error>> {
        let dir = match (&self.state, &self.config) {
            (Some(dir), _) => dir.clone(),
            (None, Some(file)) => crate::config::load(file)?.spec.state_dir,
            (None, None) => return Err("say which agent: --config FILE or --state DIR".into()),
        };
        Ok(Layout::of(&dir)?)
    }
}

/// How answers are written
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Human,
    /// For programs
    Json,
}

/// Runs the command that the command line names.
#[must_use]
pub fn main() -> ExitCode {
    crate::init_crypto();
    let done = match Cli::parse().command {
        Command::Guard(args) => guard::run(&args),
        Command::Keep { folder } => return keep::run(&folder),
        Command::Join(args) => join::run(args),
        Command::Purge(args) => purge::run(&args),
        Command::Reload(place) => reload::run(&place),
        Command::Role(args) => role::run(args),
        Command::Run(args) => run::run(&args),
        Command::Status(args) => status::run(&args),
        Command::StopAll(place) => stop_all::run(&place),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", crate::chain(&*error));
            ExitCode::FAILURE
        }
    }
}

/// One thread: an agent waits, mostly, and should be small (H24).
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .thread_keep_alive(std::time::Duration::from_secs(2))
        .build()
}

/// Data for whoever reads standard output; a reader that has enough is no error.
fn print(text: &str) -> Result<(), Box<dyn Error>> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}
