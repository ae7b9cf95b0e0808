//! Where the reconciler is: `--api`, `STEAD_API`, or the usual sockets.
//!
//! A path is a local socket. `https://NAME@HOST:PORT` is the reconciler declared as NAME, which
//! must prove to be it by its certificate; ours says who we are. No name is ever taken from DNS as
//! proof of anything.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use clap::Args;
use stead_schemas::declared::settings::{API_SOCKET, TlsFiles};
use stead_schemas::names::{Identity, IdentityKind, ServerName};
use stead_wire::material::Material;
use stead_wire::peer::Peer;
use stead_wire::tls::ClientTls;

use super::socket::SocketCaller;
use super::{ApiClient, Way};
use crate::commands::CommandError;

/// Where `stead lab` puts it, seen from where it was started.
const LAB_SOCKET: &str = "stead-lab/stead.sock";
/// Where `stead lab` puts it, seen from its own folder.
const LAB_SOCKET_INSIDE: &str = "stead.sock";

/// How to reach the reconciler.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Reaching the reconciler")]
pub struct ApiArgs {
    /// Socket path, or https://NAME@HOST:PORT with the reconciler's declared name
    ///
    /// Default: /run/stead/stead.sock, else the lab's ./stead-lab/stead.sock, else ./stead.sock.
    #[arg(long, env = "STEAD_API", value_name = "WHERE")]
    pub api: Option<String>,
    /// For https: PEM file of the hierarchy's CA
    #[arg(long, env = "STEAD_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// For https: PEM file of your operator certificate
    #[arg(long, env = "STEAD_CERT", value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// For https: PEM file of its key
    #[arg(long, env = "STEAD_KEY", value_name = "FILE")]
    pub key: Option<PathBuf>,
}

impl ApiArgs {
    /// A client for the reconciler meant. Nothing is asked yet.
    ///
    /// # Errors
    /// Bad addresses and certificates are failures; no socket to be found is unobserved.
    pub fn client(&self) -> Result<ApiClient, CommandError> {
        let way = match self.api.as_deref() {
            Some(text) if text.starts_with("https://") => Way::Remote(self.peer(text)?),
            Some(text) if text.contains("://") => {
                let error = CommandError::failed(format!("`{text}` is no way to a reconciler"));
                return Err(error.hinted("a socket path, or https://NAME@HOST:PORT"));
            }
            Some(path) => Way::Socket(SocketCaller::new(PathBuf::from(path))),
            None => Way::Socket(SocketCaller::new(usual_socket()?)),
        };
        Ok(ApiClient { way })
    }

    fn peer(&self, text: &str) -> Result<Peer, CommandError> {
        let (name, address) = parse_url(text)?;
        self.peer_of(IdentityKind::Reconciler, &name, address)
    }

    /// Somebody at an address who must prove to be of this name, called with the operator's
    /// certificate.
    ///
    /// # Errors
    /// A certificate that is missing, or not as it should be.
    pub fn peer_of(
        &self,
        kind: IdentityKind,
        name: &ServerName,
        address: SocketAddr,
    ) -> Result<Peer, CommandError> {
        let (Some(ca), Some(certificate), Some(key)) = (&self.ca, &self.cert, &self.key) else {
            return Err(
                CommandError::failed(format!("{name} wants to know who asks")).hinted(
                    "give --ca, --cert and --key (or STEAD_CA, STEAD_CERT, STEAD_KEY) of an \
                     operator certificate: `stead pki issue`",
                ),
            );
        };
        let material = Material::load(&TlsFiles {
            ca: ca.clone(),
            cert: certificate.clone(),
            key: key.clone(),
        })?;
        let expected = Identity {
            hierarchy: material.identity().hierarchy.clone(),
            kind,
            name: name.to_string(),
        };
        Ok(Peer::new(address, expected, ClientTls::new(&material)?))
    }
}

/// Name and address of `https://NAME@HOST:PORT`.
fn parse_url(text: &str) -> Result<(ServerName, SocketAddr), CommandError> {
    let wrong = |what: &str| {
        CommandError::failed(format!("`{text}`: {what}"))
            .hinted("write https://NAME@HOST:PORT, NAME as under `reconcilers` in the hierarchy")
    };
    let rest = text
        .strip_prefix("https://")
        .ok_or_else(|| wrong("does not begin with https://"))?
        .trim_end_matches('/');
    let (name, host) = rest
        .split_once('@')
        .ok_or_else(|| wrong("the reconciler's name is missing"))?;
    let name = name
        .parse()
        .map_err(|_| wrong("the part before `@` is not a reconciler's name"))?;
    let address = host
        .to_socket_addrs()
        .map_err(|error| wrong(&format!("`{host}` can't be looked up ({error})")))?
        .next()
        .ok_or_else(|| wrong(&format!("`{host}` has no address")))?;
    Ok((name, address))
}

fn usual_socket() -> Result<PathBuf, CommandError> {
    [API_SOCKET, LAB_SOCKET, LAB_SOCKET_INSIDE]
        .into_iter()
        .map(Path::new)
        .find(|path| path.exists())
        .map(Path::to_owned)
        .ok_or_else(|| {
            CommandError::unobserved(format!(
                "no reconciler here: neither {API_SOCKET} nor ./{LAB_SOCKET} exists"
            ))
            .hinted("say where it is with --api or STEAD_API, or start one: `stead lab`")
            .hinted(super::HINT_NOBODY)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_reconciler_is_named_and_addressed() {
        let (name, address) = parse_url("https://stead-1@127.0.0.1:7444").unwrap();
        assert_eq!(name.as_str(), "stead-1");
        assert_eq!(address, SocketAddr::from(([127, 0, 0, 1], 7444)));
        for bad in [
            "https://127.0.0.1:7444",
            "https://A B@127.0.0.1:7444",
            "https://stead-1@127.0.0.1",
            "https://stead-1@",
        ] {
            assert!(parse_url(bad).is_err(), "{bad}");
        }
    }
}
