//! HTTP clients of the agent that are not its own protocol: health checks and archives.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// The address for calls to this very server, where it is one of several on the loopback: what is cut
/// off from everybody else still finds itself. Elsewhere the system chooses that by itself.
#[must_use]
pub fn own_loopback(listen: SocketAddr) -> Option<IpAddr> {
    let ip = listen.ip();
    (ip.is_ipv4() && ip.is_loopback() && ip != Ipv4Addr::LOCALHOST).then_some(ip)
}

/// For health checks: a fresh connection each, no proxy, no redirects, no certificate judged (a
/// check asks whether the instance is well, not whose it is). Connections leave from `from`.
///
/// # Panics
/// Never: these settings are fixed, and [`crate::init_crypto`] was called.
#[must_use]
pub fn probe_client(from: Option<IpAddr>) -> reqwest::Client {
    crate::init_crypto();
    reqwest::Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .redirect(reqwest::redirect::Policy::none())
        .pool_max_idle_per_host(0)
        .no_proxy()
        .local_address(from)
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
