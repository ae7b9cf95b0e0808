//! Loopback addresses of a lab: a network of its own for each lab on this machine.
//!
//! `127.80` stands in the example; a second lab takes `127.81`, and so on. Who has which is kept by
//! the kernel (an abstract socket that ends with its process), not in a file.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};

use crate::commands::CommandError;

/// The network in the example's files, `127.80.`.
pub(super) const FIRST: u8 = 80;
const LAST: u8 = 119;
/// Where the DNS server of the first network listens; others count up from it.
const DNS_PORT: u16 = 5300;
const DNS_ADDRESS: [u8; 4] = [127, 0, 0, 53];

/// The right to a network, held while the lab runs.
#[derive(Debug)]
pub(super) struct Network {
    number: u8,
    _claim: UnixListener,
}

impl Network {
    /// The first network that nobody has.
    ///
    /// # Errors
    /// When all are taken.
    pub(super) fn claim_any() -> Result<Self, CommandError> {
        (FIRST..=LAST)
            .filter(|number| dns_is_free(*number))
            .find_map(Self::claim)
            .ok_or_else(|| CommandError::failed("every loopback network of labs is taken"))
    }

    /// The network with this number, unless another lab has it.
    pub(super) fn claim(number: u8) -> Option<Self> {
        let name = UnixAddr::from_abstract_name(format!("stead-lab-127.{number}")).ok()?;
        let claim = UnixListener::bind_addr(&name).ok()?;
        Some(Self {
            number,
            _claim: claim,
        })
    }

    /// The second number of its addresses.
    pub(super) const fn number(&self) -> u8 {
        self.number
    }

    /// Where its DNS server listens.
    pub(super) fn dns(&self) -> SocketAddr {
        dns_of(self.number)
    }
}

/// The network of a lab whose servers have these addresses.
///
/// # Errors
/// When they are not all loopback addresses of one network.
pub(super) fn number_of(addresses: impl Iterator<Item = IpAddr>) -> Result<u8, CommandError> {
    let mut number = None;
    for address in addresses {
        match address {
            IpAddr::V4(v4) if v4.is_loopback() && number.is_none_or(|n| n == v4.octets()[1]) => {
                number = Some(v4.octets()[1]);
            }
            other => {
                let message = format!("{other} is no address of this lab");
                return Err(CommandError::failed(message)
                    .hinted("servers of a lab have addresses of one network 127.N.0.0/16"));
            }
        }
    }
    number.ok_or_else(|| CommandError::failed("the lab's topology has no server"))
}

/// Fails where somebody else listens already.
///
/// # Errors
/// Naming the address.
pub(super) fn ensure_free(address: SocketAddr, whose: &str) -> Result<(), CommandError> {
    TcpListener::bind(address).map(drop).map_err(|error| {
        CommandError::failed(format!("{whose} can't listen on {address}: {error}"))
            .hinted("end what listens there: `ss -ltnp`")
    })
}

fn dns_of(number: u8) -> SocketAddr {
    let port = DNS_PORT + u16::from(number.saturating_sub(FIRST));
    SocketAddr::from((DNS_ADDRESS, port))
}

fn dns_is_free(number: u8) -> bool {
    let address = dns_of(number);
    TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_one_lab() {
        let first = Network::claim(250).unwrap();
        assert!(Network::claim(250).is_none());
        drop(first);
        assert!(Network::claim(250).is_some());
    }

    #[test]
    fn a_lab_lies_in_one_loopback_network() {
        let number = |addresses: &[&str]| number_of(addresses.iter().map(|a| a.parse().unwrap()));
        assert_eq!(number(&["127.81.1.1", "127.81.2.1"]).unwrap(), 81);
        assert!(number(&["127.81.1.1", "127.82.2.1"]).is_err());
        assert!(number(&["10.0.0.1"]).is_err());
        assert!(number(&[]).is_err());
    }
}
