//! The binary `stead`: hands its arguments to [`stead::commands`] and exits with the code that comes
//! back. Everything else is in the library, so that tests can reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    stead::commands::main()
}
