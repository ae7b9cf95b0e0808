//! The built-in roles over real sockets, and the site server against real stores.

#![allow(clippy::unwrap_used, missing_docs)]

mod cluster;
mod database;
mod distribution_point;
mod failover;
mod look;
mod postgres;
mod site_server;
mod stage;
