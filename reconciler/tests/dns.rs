//! DNS against real servers: one contract, run at BIND 9, at Knot and at `stead dns`; and what
//! broken or hostile servers do to the client.
//!
//! Every test starts its own server on a loopback address of its own, so they run side by side.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on panics; clippy knows that only of #[test] functions themselves"
)]

#[path = "dns/alias.rs"]
mod alias;
#[path = "dns/contract.rs"]
mod contract;
#[path = "dns/crash.rs"]
mod crash;
#[path = "dns/embedded.rs"]
mod embedded;
#[path = "dns/many.rs"]
mod many;
#[path = "dns/pitfalls.rs"]
mod pitfalls;
#[path = "dns/raw.rs"]
mod raw;
#[path = "dns/servers.rs"]
mod servers;
