//! The command line of `stead`: one file a command, its doc comment is its help.
//!
//! stdout carries data, stderr everything else; every command ends in an [`Outcome`] or a
//! [`CommandError`], and `error.rs` alone knows exit codes (design section 8). Commands read and
//! show; what they show is decided in `stead-plan` and in the daemon.

mod check;
mod confirm_lost;
pub mod dns;
mod drain;
mod error;
mod explain;
mod history;
mod init;
mod lab;
mod list;
mod logs;
pub mod pki;
mod plan;
mod promote;
pub mod reference;
mod render;
mod replace;
mod run;
mod schema;
mod status;
mod suspend;
mod switchover;
mod topology;
mod via;
mod wait;
mod why;

use std::process::ExitCode;

use clap::error::ErrorKind as ClapKind;
use clap::{Parser, Subcommand};

use crate::output::Ui;

pub use error::{CommandError, CommandResult, ErrorKind, Outcome, chain};

/// Keeps a hierarchy of sites as git declares it.
///
/// Where no reconciler answers: `stead --via SERVER status | switchover SITE --to SERVER | promote SERVER
/// --lost …` asks a server's own agent, with an operator's certificate.
///
/// Exit codes: 0 fine; 1 failed, bad usage included; 2 changes pending (`plan --detailed-exitcode`
/// only); 3 could not observe; 4 held, a person is needed.
#[derive(Debug, Parser)]
#[command(
    name = "stead",
    version,
    propagate_version = true,
    disable_help_subcommand = true
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Lab(lab::LabArgs),
    Run(run::RunArgs),
    Init(init::InitArgs),
    Check(check::CheckArgs),
    Plan(plan::PlanArgs),
    Render(render::RenderArgs),
    Explain(explain::ExplainArgs),
    Schema(schema::SchemaArgs),
    Status(status::StatusArgs),
    List(list::ListArgs),
    Why(why::WhyArgs),
    History(history::HistoryArgs),
    Logs(logs::LogsArgs),
    Wait(wait::WaitArgs),
    Suspend(suspend::SuspendArgs),
    Resume(suspend::ResumeArgs),
    Drain(drain::DrainArgs),
    Undrain(drain::UndrainArgs),
    Switchover(switchover::SwitchoverArgs),
    Failback(switchover::FailbackArgs),
    ConfirmLost(confirm_lost::ConfirmLostArgs),
    Promote(promote::PromoteArgs),
    Replace(replace::ReplaceArgs),
    Pki(pki::Args),
    Dns(dns::DnsArgs),
}

/// Runs the process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    let ui = Ui::of_process();
    let parsed = if via::is_meant(std::env::args_os()) {
        via::ViaCli::try_parse().map(|cli| block_on(via::run(&ui, cli)))
    } else {
        Cli::try_parse().map(|cli| run(&ui, cli.command))
    };
    match parsed {
        Ok(result) => error::finish(&ui, result),
        Err(error) => {
            let code = match error.kind() {
                ClapKind::DisplayHelp | ClapKind::DisplayVersion => Outcome::Done,
                _ => Outcome::Failed,
            };
            // Who closed the pipe does not want the help.
            drop(error.print());
            code.code().into()
        }
    }
}

fn run(ui: &Ui, command: Command) -> CommandResult {
    match command {
        Command::Lab(args) => block_on(lab::run(ui, args)),
        Command::Run(args) => run::run(ui, &args),
        Command::Init(args) => init::run(ui, args),
        Command::Check(args) => check::run(ui, args),
        Command::Plan(args) => block_on(plan::run(ui, args)),
        Command::Render(args) => render::run(ui, &args),
        Command::Explain(args) => explain::run(ui, &args),
        Command::Schema(args) => schema::run(ui, &args),
        Command::Status(args) => block_on(status::run(ui, args)),
        Command::List(args) => block_on(list::run(ui, args)),
        Command::Why(args) => block_on(why::run(ui, args)),
        Command::History(args) => block_on(history::run(ui, args)),
        Command::Logs(args) => block_on(logs::run(ui, args)),
        Command::Wait(args) => block_on(wait::run(ui, args)),
        Command::Suspend(args) => block_on(suspend::suspend(ui, args)),
        Command::Resume(args) => block_on(suspend::resume(ui, args)),
        Command::Drain(args) => block_on(drain::drain(ui, args)),
        Command::Undrain(args) => block_on(drain::undrain(ui, args)),
        Command::Switchover(args) => block_on(switchover::switchover(ui, args)),
        Command::Failback(args) => block_on(switchover::failback(ui, args)),
        Command::ConfirmLost(args) => block_on(confirm_lost::run(ui, args)),
        Command::Promote(args) => block_on(promote::run(ui, args)),
        Command::Replace(args) => block_on(replace::run(ui, args)),
        Command::Dns(args) => block_on(async {
            dns::run(args).await?;
            Ok(Outcome::Done)
        }),
        Command::Pki(args) => block_on(pki::run(ui, args)),
    }
}

/// Runs a command that waits, on one thread: commands have nothing to do side by side.
fn block_on(work: impl Future<Output = CommandResult>) -> CommandResult {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_argument_has_help() {
        fn look(command: &clap::Command, path: &str) {
            assert!(command.get_about().is_some(), "`{path}` has no help");
            for argument in command.get_arguments() {
                let told = argument.get_help().is_some() || argument.get_id() == "help";
                assert!(told, "`{path} {}` has no help", argument.get_id());
            }
            for inner in command.get_subcommands() {
                look(inner, &format!("{path} {}", inner.get_name()));
            }
        }
        look(&Cli::command(), "stead");
    }
}
