//! Tests and benches that need more than one crate: whole programs, real servers, house rules.
//!
//! The library part holds what several of them share. It proves nothing by itself.

pub mod bench;
pub mod chance;
pub mod cut;
pub mod disk;
pub mod harness;
pub mod hosts;
pub mod lab;
pub mod large;
pub mod lsp;
pub mod pair;
pub mod processes;
pub mod remote;
pub mod sampler;
pub mod sources;
pub mod topology;
pub mod wall;
