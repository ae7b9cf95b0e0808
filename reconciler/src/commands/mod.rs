//! The commands of `stead`, one file or folder a command.
//!
//! Each has `Args` (clap) and `run`; what they share stands here. Nothing here decides: commands
//! read, ask and print.

pub mod dns;
pub mod pki;
