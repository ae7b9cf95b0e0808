//! HTTP clients of the agent that are not its own protocol: health checks and archives.

use std::time::Duration;

/// For health checks: a fresh connection each, no proxy, no redirects, no certificate judged (a
/// check asks whether the instance is well, not whose it is).
///
/// # Panics
/// Never: these settings are fixed, and [`crate::init_crypto`] was called.
#[must_use]
pub fn probe_client() -> reqwest::Client {
    crate::init_crypto();
    reqwest::Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .redirect(reqwest::redirect::Policy::none())
        .pool_max_idle_per_host(0)
        .no_proxy()
        .build()
        .expect("fixed settings make a client")
}

/// For archives: the system's CAs and proxies; the transfer's time is bounded where it is used.
///
/// # Errors
/// When the system has no CAs to trust.
pub fn archive_client() -> Result<reqwest::Client, reqwest::Error> {
    crate::init_crypto();
    reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(10))
        .pool_max_idle_per_host(0)
        .build()
}
