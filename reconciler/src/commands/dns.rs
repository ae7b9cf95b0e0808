//! `stead dns`: the embedded authoritative server as a process of its own.
//!
//! Apart from the daemon, so that a killed reconciler takes no name away (H2). The zone's contents
//! come only over signed updates; this command writes none.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use stead_schemas::desired::TsigAlgorithm;
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};

use crate::dns::server::{Scope, ServeError, ServerConfig, ServerKey, serve};
use stead_dns::{KeyError, TsigKey};

/// Serve one DNS zone from this process, updated over RFC 2136 with TSIG.
#[derive(Debug, clap::Args)]
pub struct DnsArgs {
    /// Address and port, for TCP and UDP; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:5300", value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,
    /// The zone to serve.
    #[arg(long, value_name = "ZONE")]
    pub zone: String,
    /// Folder of the zone file; made if missing.
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// A key that may write the whole zone; FILE holds its secret in base64.
    #[arg(long, value_name = "NAME:ALGORITHM:FILE", required = true)]
    pub key: Vec<KeyArg>,
    /// A site's key, which may write one alias and its mark: NAME:ALGORITHM:FILE:ALIAS.
    #[arg(long, value_name = "NAME:ALGORITHM:FILE:ALIAS")]
    pub site_key: Vec<SiteKeyArg>,
}

/// `NAME:ALGORITHM:FILE`.
#[derive(Debug, Clone)]
pub struct KeyArg {
    name: String,
    algorithm: TsigAlgorithm,
    file: PathBuf,
}

/// `NAME:ALGORITHM:FILE:ALIAS`.
#[derive(Debug, Clone)]
pub struct SiteKeyArg {
    key: KeyArg,
    alias: String,
}

impl FromStr for KeyArg {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(3, ':');
        let (Some(name), Some(algorithm), Some(file)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err("write it as NAME:ALGORITHM:FILE".to_owned());
        };
        let algorithm = match algorithm {
            "hmac-sha256" => TsigAlgorithm::HmacSha256,
            "hmac-sha384" => TsigAlgorithm::HmacSha384,
            "hmac-sha512" => TsigAlgorithm::HmacSha512,
            other => {
                return Err(format!(
                    "unknown algorithm `{other}`: hmac-sha256, hmac-sha384 or hmac-sha512"
                ));
            }
        };
        Ok(Self {
            name: name.to_owned(),
            algorithm,
            file: PathBuf::from(file),
        })
    }
}

impl FromStr for SiteKeyArg {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (key, alias) = text
            .rsplit_once(':')
            .ok_or("write it as NAME:ALGORITHM:FILE:ALIAS")?;
        Ok(Self {
            key: key
                .parse()
                .map_err(|_| "write it as NAME:ALGORITHM:FILE:ALIAS")?,
            alias: alias.to_owned(),
        })
    }
}

/// Why `stead dns` did not run, or not to its end.
#[derive(Debug, Error)]
pub enum DnsError {
    /// A key file.
    #[error("a key given with --key or --site-key cannot be used")]
    Key(#[source] KeyError),
    /// An alias that is no name.
    #[error("`{alias}` is not a name: write the site's alias in full, like `p01.cm.lab.example`")]
    Alias {
        /// What was given.
        alias: String,
    },
    /// The server.
    #[error("the DNS server did not start")]
    Serve(#[source] ServeError),
    /// Signals cannot be received.
    #[error("SIGTERM and SIGINT cannot be received")]
    Signal(#[source] std::io::Error),
}

/// Serves until SIGTERM or SIGINT, then finishes what is under way.
///
/// # Errors
/// [`DnsError`] when keys, zone file or address cannot be used.
pub async fn run(args: DnsArgs) -> Result<(), DnsError> {
    let mut keys = Vec::new();
    for key in &args.key {
        keys.push(ServerKey {
            key: load(key)?,
            scope: Scope::zone(),
        });
    }
    for site in &args.site_key {
        let scope = Scope::alias(&site.alias).map_err(|_| DnsError::Alias {
            alias: site.alias.clone(),
        })?;
        keys.push(ServerKey {
            key: load(&site.key)?,
            scope,
        });
    }
    // Before the address is announced: a signal right after it must find its handler.
    let mut terminate = signal(SignalKind::terminate()).map_err(DnsError::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(DnsError::Signal)?;
    let config = ServerConfig::new(args.listen, args.zone.clone(), args.dir, keys);
    let server = serve(config).await.map_err(DnsError::Serve)?;
    // Nobody may be reading; the zone is served all the same.
    drop(writeln!(
        std::io::stdout(),
        "serving {} on {}",
        args.zone,
        server.addr()
    ));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    server.shutdown().await;
    Ok(())
}

fn load(key: &KeyArg) -> Result<TsigKey, DnsError> {
    TsigKey::from_file(&key.name, key.algorithm, &key.file).map_err(DnsError::Key)
}
