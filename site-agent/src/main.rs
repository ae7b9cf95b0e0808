//! The binary `site-agent`: picks the command. Keepers and the guard go their own ways before
//! anything large is set up, so that they stay small (H18, H24).

use std::process::ExitCode;

use site_agent::commands::{guard, keep};

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).take(4).collect();
    match args.as_slice() {
        [command, folder] if command == "keep" => keep::run(folder.as_ref()),
        [command, flag, told] if command == "guard" && flag == guard::TOLD => {
            guard::run_told(&told.to_string_lossy())
        }
        _ => site_agent::commands::main(),
    }
}
