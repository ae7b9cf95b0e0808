//! Who may be the active site server: a majority lease, as a pure state machine (design section 6).
//!
//! A [`Node`] is one voter of one site. It is given the time and one [`Input`] at a time and answers
//! with [`Effects`]: what must be durable, and what may be done once it is. It has no clock, no disk,
//! no network, no randomness and no standard library; agents, the simulator and the models run the
//! same code. It does not kill anything: it says until when work may go on, and the agent and the
//! guard see to it.
//!
//! `docs/lease-protocol.md` tells the protocol and which rule (R, H) stands where.

#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod candidate;
mod change;
mod effects;
mod handover;
mod holder;
mod ledger;
mod memory;
mod message;
mod node;
mod outlook;
mod promote;
mod time;
mod voter;
mod voters;

#[cfg(test)]
mod tests;

pub use effects::{
    Action, ChangeRefusal, Committed, Effects, HandoverRefusal, How, Note, PromoteRefusal,
};
pub use ledger::Saved;
pub use memory::{Memory, Version};
pub use message::{Body, Message};
pub use node::{Attempt, Input, Lease, Node, Part, Sounding, Standing};
pub use time::{Mono, Ms, Timing, TimingError};
pub use voters::{Configuration, Epoch, Incarnation, Name, Term, Voter, Voters};
