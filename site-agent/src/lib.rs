//! The site agent: what runs on every server of a site.
//!
//! It is given an assignment and converges by itself ([`supervisor`]); every instance runs under a
//! keeper ([`keeper`]) that outlives it; what must survive a crash is in the [`ledger`]; reconcilers
//! talk to it over mutual TLS ([`api`]). A [`guard`] beside it kills what it no longer can. It decides nothing about the site: what should run is the
//! reconciler's plan.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod accept;
pub mod agent;
pub mod api;
pub mod board;
pub mod certificates;
pub mod commanded;
pub mod commands;
pub mod config;
pub mod guard;
pub mod keeper;
pub mod layout;
pub mod ledger;
pub mod net;
pub mod preflight;
pub mod processes;
pub mod renewal;
pub mod seat;
pub mod secrets;
pub mod service;
pub mod supervisor;

use std::error::Error;

/// An error with all its causes, in one line.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// Makes ring the process's crypto provider; reqwest asks for one. Safe to call again.
pub fn init_crypto() {
    // Refused only when it is set already.
    drop(rustls::crypto::ring::default_provider().install_default());
}
