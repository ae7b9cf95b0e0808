//! The reconciler and its command line: the effects around `stead-plan`'s decisions.
//!
//! A library so that the binary stays thin and tests reach the parts. It decides nothing about what
//! a hierarchy should look like (`stead-plan` does) and runs no role (`site-agent` does).

pub mod act;
pub mod admission;
pub mod api;
pub mod api_client;
pub mod commands;
pub mod daemon;
pub mod dns;
pub mod epoch;
pub mod git;
pub mod lab;
pub mod metrics;
pub mod observe;
pub mod output;
pub mod publish;
pub mod secrets;
pub mod site;
pub mod store;
pub mod witness;
