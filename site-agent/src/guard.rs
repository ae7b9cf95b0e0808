//! The guard: a process outside the agent with nothing but a deadline and a pre-opened kill (H34).
//!
//! The third enforcer of a lease. The agent gives it each new deadline before the site server gets
//! it; when one passes, or the agent dies while one is armed, the guard kills the site server's
//! workload and the agent, and only when both are proven gone sends the release that the agent
//! left with it (R12, H10). It decides nothing: terms, deadlines and the words of a release are the
//! agent's. A guard that starts kills first and knows no term (R13).
//!
//! One thread polls, kills, and touches neither disk nor network; `courier` holds connections
//! open and sends releases; `journal` writes what is logged.

mod attend;
mod charge;
mod client;
mod courier;
mod fence;
mod journal;
pub mod link;
mod lock;
pub mod message;
pub mod network;
mod nftables;
pub mod timer;
mod watched;
mod workload;

pub use attend::{Setting, guard};
pub use journal::start as start_journal;

/// The socket a guard answers on, in the state folder.
pub const SOCKET: &str = "guard.sock";
/// Held locked by a living guard.
pub const LOCK: &str = "guard.lock";
/// What guards that agents started say.
pub const LOG: &str = "guard.log";
/// The group whose workload needs a term.
pub const GROUP: &str = "siteServer";
