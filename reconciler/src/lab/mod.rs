//! `stead lab`: a whole three-site hierarchy on this machine, made of the real programs.
//!
//! A git repository, a CA, a site agent for each server on a loopback address of its own, `stead
//! dns` and `stead run`, all children of one process that starts again what dies and leaves nothing
//! behind. What is here only sets the scene: how it converges is the programs' own doing, and
//! nothing here knows what a role is.

mod breaking;
mod control;
mod cut;
mod ending;
mod folder;
mod git;
mod network;
mod processes;
mod programs;
mod scene;
mod stage;
mod takeovers;
mod watch;

pub use control::{Command, Request, Target, ask};
pub use folder::Folder;
pub use stage::run;
