//! The binary `site-agent`: picks the command. A keeper goes its own way before anything large is
//! set up, so that it stays small (H18).

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == "keep")
        && let Some(folder) = args.next()
        && args.next().is_none()
    {
        return site_agent::commands::keep::run(folder.as_ref());
    }
    site_agent::commands::main()
}
