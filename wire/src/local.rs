//! Where calls leave from: the address a program listens on, where there is one.
//!
//! Others then see one address for a server, whichever way a connection was opened, and whoever cuts
//! that address off cuts off all of it: on a machine with one address a server as well as in a lab,
//! where all share the loopback. An address that can't lead to the other end is not used.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::{TcpSocket, TcpStream};

/// The address for calls of a program that listens here; none: the system chooses.
#[must_use]
pub const fn of_listener(listen: SocketAddr) -> Option<IpAddr> {
    let ip = listen.ip();
    if ip.is_unspecified() { None } else { Some(ip) }
}

/// Connects, from this address where it can lead there.
///
/// # Errors
/// What the system says.
pub async fn connect(to: SocketAddr, from: Option<IpAddr>) -> io::Result<TcpStream> {
    let Some(from) = from.filter(|from| leads_to(*from, to.ip())) else {
        return TcpStream::connect(to).await;
    };
    let socket = if to.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // Two connections to different ends may then leave from one port.
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::new(from, 0))?;
    socket.connect(to).await
}

/// Of one family, and both on the loopback or neither.
const fn leads_to(from: IpAddr, to: IpAddr) -> bool {
    from.is_ipv4() == to.is_ipv4() && from.is_loopback() == to.is_loopback()
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_connection_leaves_from_the_address_given_where_that_leads_there() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        for (from, seen) in [
            (None, "127.0.0.1"),
            (Some("127.91.2.3"), "127.91.2.3"),
            (Some("192.0.2.1"), "127.0.0.1"),
            (Some("::1"), "127.0.0.1"),
        ] {
            let from = from.map(|from| from.parse().unwrap());
            let _open = connect(to, from).await.unwrap();
            let (_, other) = listener.accept().await.unwrap();
            assert_eq!(other.ip().to_string(), seen);
        }
    }

    #[test]
    fn who_listens_everywhere_leaves_the_choice_to_the_system() {
        let of = |text: &str| of_listener(text.parse().unwrap());
        assert_eq!(of("0.0.0.0:7443"), None);
        assert_eq!(of("[::]:7443"), None);
        assert_eq!(of("127.80.2.11:7443"), Some("127.80.2.11".parse().unwrap()));
    }
}
