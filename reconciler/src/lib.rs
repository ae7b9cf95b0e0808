//! Stead's reconciler as a library: the effects behind the commands of the `stead` program.
//!
//! Nouns are in `stead-schemas`, decisions in `stead-plan`; here is what touches git, agents, DNS
//! and disks.

pub mod commands;
pub mod dns;
pub mod git;
