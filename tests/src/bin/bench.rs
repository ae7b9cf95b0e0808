//! `cargo run --release -p system-tests --bin bench [NAME]`: measures the budgets of design section 10.
//!
//! One JSON line a figure on stdout, a table with budgets on stderr. It measures and asserts no
//! time (H35); `docs/benchmarks.md` keeps the results.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    system_tests::bench::main(&args)
}
