//! DNS beside the client (`stead_dns`): the embedded authoritative server, and the words for others.
//!
//! [`server`] is the one behind `stead dns`; [`policy`] prints what BIND and Knot need to be told.
//! Which records are wanted is not decided here (`stead-plan`), nor when to publish (the executor).
//!
//! Like the client it uses hickory-proto for parsing and TSIG and its own loop around tokio's
//! sockets; `docs/decisions/0006-dns-transport.md` says why.

pub mod policy;
pub mod server;
