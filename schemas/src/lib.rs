//! The nouns of Stead: everything that crosses a boundary between git, the reconciler, the
//! agents, DNS and people.
//!
//! What is declared, what was seen, what will be done about it, what goes over the wire, and the
//! words they share. The crate holds data and rules about data; it does no IO, reads no clock and
//! draws no random number. It does not know how a plan is made (`stead-plan`) or carried out
//! (`stead`).

pub mod alias;
pub mod api;
pub mod declared;
pub mod desired;
pub mod generation;
pub mod hold;
pub mod join;
pub mod lease;
pub mod names;
pub mod observed;
pub mod plan;
pub mod prerequisite;
pub mod record;
pub mod role;
pub mod time;
pub mod wire;
