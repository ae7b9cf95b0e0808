//! The built-in roles over real sockets, and the site server against real stores.

#![allow(clippy::unwrap_used, missing_docs)]

mod distribution_point;
