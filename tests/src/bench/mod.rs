//! The benches behind `--bin bench`: what is measured, and how a figure is reported.
//!
//! Each named bench runs in a process of its own, so that one's memory is not the next one's. The
//! programs measured are the real ones, of the same build profile as this program.

mod build;
mod converge;
mod dns;
mod emulator;
mod failover;
mod figure;
mod fleet;
mod footprint;
mod machine;
mod model;
mod named;
mod plan;
mod usage;
mod watch;
mod watched;
mod wide;
mod wire;

use std::process::{Command, ExitCode};

use figure::Report;

type Bench = fn() -> Report;

/// Every bench, in the order in which all of them run.
const BENCHES: [(&str, Bench); 7] = [
    ("plan", plan::run),
    ("watch", watch::run),
    ("dns", dns::run),
    ("converge", converge::run),
    ("footprint", footprint::run),
    ("switchover", failover::switchover),
    ("failover", failover::failover),
];

/// Runs what the command line names: one bench, or all of them.
#[must_use]
pub fn main(args: &[String]) -> ExitCode {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        [emulator::COMMAND, rest @ ..] => emulator::run(rest),
        [wire::COMMAND, rest @ ..] => wire::run(rest),
        [watched::COMMAND, rest @ ..] => watched::run(rest),
        [] => all(),
        [name] => match BENCHES.iter().find(|(known, _)| known == name) {
            Some((_, bench)) => {
                one(*bench);
                ExitCode::SUCCESS
            }
            None => usage(name),
        },
        _ => usage(&words.join(" ")),
    }
}

fn one(bench: Bench) {
    let machine = machine::Machine::read();
    machine.introduce();
    bench().print(&machine);
}

fn all() -> ExitCode {
    let me = std::env::current_exe().expect("a program has a path");
    let mut failed = false;
    for (name, _) in BENCHES {
        let status = Command::new(&me).arg(name).status();
        if !status.is_ok_and(|status| status.success()) {
            eprintln!("bench {name} did not run to its end");
            failed = true;
        }
    }
    ExitCode::from(u8::from(failed))
}

fn usage(given: &str) -> ExitCode {
    let names: Vec<&str> = BENCHES.iter().map(|(name, _)| *name).collect();
    eprintln!("no bench is called `{given}`: {}", names.join(", "));
    ExitCode::FAILURE
}
