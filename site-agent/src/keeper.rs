//! The keeper: one tiny process under which one instance runs once (H18).
//!
//! It enters the cgroup, starts the command, owns its output and its exit status, and answers on a
//! socket; agents come and go. It runs a command once: starting again, with which pause, is the
//! agent's business. Single-threaded, without an async runtime, so that it stays at about 1 MiB.

mod attend;
mod launch;
pub mod link;
pub mod output;
pub mod spec;
pub mod state;

pub use launch::{KeepError, keep};

/// The socket a keeper answers on, in the instance's folder.
pub const SOCKET: &str = "keeper.sock";
/// Held locked by a living keeper.
pub const LOCK: &str = "keeper.lock";
/// What the keeper is to run: a [`spec::KeeperSpec`].
pub const SPEC: &str = "instance.json";
/// How the last run ended: a [`state::Exit`].
pub const EXIT: &str = "exit.json";
