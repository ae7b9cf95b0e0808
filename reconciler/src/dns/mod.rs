//! DNS: publishing over RFC 2136 with TSIG, reading back, and the embedded authoritative server.
//!
//! [`client`] changes and reads records at any server that speaks the protocol; [`server`] is the
//! one behind `stead dns`; [`policy`] prints what BIND and Knot need to be told. Which records are
//! wanted is not decided here (`stead-plan`), nor when to publish (the executor).
//!
//! Both sides use hickory-proto for parsing and TSIG and their own loop around tokio's sockets;
//! `docs/decisions/0006-dns-transport.md` says why.

pub mod client;
mod convert;
mod key;
pub mod policy;
pub mod server;

pub use key::{KeyError, Secret, TsigKey};
