//! The agent as a real process: everything here starts the built binary, with real certificates
//! and real instances, and looks from outside.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod archives;
mod commands;
mod dates;
mod guard;
mod guard_lab;
mod guard_link;
mod heal;
mod https;
mod lab;
mod preflight;
mod removal;
mod safety;
mod site_server;
mod streams;
mod tls;
