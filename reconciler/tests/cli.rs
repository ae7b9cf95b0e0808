//! The command line as its users meet it: the real program, its streams and its exit codes.
//!
//! Only what needs no reconciler; what does is told by the system tests. One binary, stories in
//! `cli/`.

#[path = "cli/bad_input.rs"]
mod bad_input;
#[path = "cli/examples.rs"]
mod examples;
#[path = "cli/plan.rs"]
mod plan;
#[path = "cli/reference.rs"]
mod reference;
#[path = "cli/stead.rs"]
mod stead;
#[path = "cli/stories.rs"]
mod stories;
