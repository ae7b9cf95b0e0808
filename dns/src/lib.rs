//! DNS as a client: records changed over RFC 2136 with TSIG, read back and verified.
//!
//! [`client`] changes and reads records at any server that speaks the protocol, under the ownership
//! mark of H22; [`alias`] publishes a site's alias under a term. Below both programs, because both
//! write: the reconciler everything but the alias of a site with a lease, that site's active server
//! its alias (decision 0007). Which records are wanted is not decided here (`stead-plan`), nor when
//! to publish; `stead dns`, the server, is the reconciler's and shares [`convert`] and [`TsigKey`].

pub mod alias;
pub mod client;
pub mod convert;
mod key;

pub use key::{KeyError, Secret, TsigKey};
