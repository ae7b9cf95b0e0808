//! `site-agent join`: a server becomes one of the hierarchy's.
//!
//! Key first, settings last: the key is made here and stays, the settings are the sign that all is
//! there. Whatever stops it in between, the same command may be given again: the key is taken up, and
//! a token answers the key that it was used for. What exists is never written over.

use std::error::Error;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use stead_schemas::join::{JoinAnswer, JoinRequest};
use stead_schemas::names::{Identity, IdentityKind, ServerName};
use stead_schemas::time::WallMs;
use stead_wire::csr::{self, Asking};
use stead_wire::material::Material;
use stead_wire::meeting::{Met, Pin, meet};
use stead_wire::peer::{CallError, Peer};
use stead_wire::pki_files::{self, PairPaths};
use stead_wire::tls::ClientTls;
use thiserror::Error as ThisError;

/// How long the reconciler may take to be met, and to answer.
const MEET: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(30);
/// Longest token read from standard input.
const TOKEN_MAX: u64 = 256;

/// Make this server one of the hierarchy's: key, certificate and settings
///
/// `stead pki token SERVER` prints the whole command. The reconciler is known by its CA's digest before
/// anything is sent. The private key is made here and never leaves; what exists is not overwritten, and a
/// join that was interrupted is taken up by giving the command again.
#[derive(Debug, Args)]
pub(super) struct JoinArgs {
    /// Where the reconciler is: https://ADDRESS:PORT
    #[arg(value_name = "URL", value_parser = parse_url)]
    reconciler: String,
    /// This server's name, as declared
    #[arg(long)]
    server: ServerName,
    /// The token; `-` reads it from standard input, where `ps` shows it to nobody
    #[arg(long, value_name = "TOKEN")]
    token: String,
    /// The digest of the hierarchy's CA
    #[arg(long, value_name = "sha256:HEX")]
    ca: Pin,
    /// Where certificate, key and settings go
    #[arg(long, value_name = "DIR", default_value = "/etc/site-agent")]
    dir: PathBuf,
    /// The agent's state folder, for its settings
    #[arg(long, value_name = "DIR", default_value = "/var/lib/site-agent")]
    state: PathBuf,
}

/// Why a server did not join; nothing but its key may have been written.
#[derive(Debug, ThisError)]
enum JoinError {
    #[error("{} exists: this server joined already; remove it, and the files that its `tls` names, to join anew", .0.display())]
    Joined(PathBuf),
    #[error("{name} names no address")]
    NoAddress {
        name: String,
        #[source]
        source: Option<std::io::Error>,
    },
    #[error("the reconciler refused: {0}")]
    Refused(String),
    #[error("what the reconciler sent can't be used: {0}")]
    Answer(String),
}

pub(super) fn run(args: JoinArgs) -> Result<(), Box<dyn Error>> {
    let settings = args.dir.join("agent.yaml");
    if settings.symlink_metadata().is_ok() {
        return Err(JoinError::Joined(settings).into());
    }
    let (answer, paths) = super::runtime()?.block_on(join(&args))?;
    pki_files::write_new(&settings, &settings_of(&args, &answer, &paths)?, 0o644)?;
    // As any later start reads them.
    crate::config::load(&settings)?;
    let JoinAnswer { site, listen, .. } = &answer;
    let (server, until) = (&args.server, day(answer.until));
    super::print(&format!(
        "joined   {server} of {site} ({listen}), certificate until {until}\n\
         created  {}\n\
         next     start its agent: site-agent run --config {0}\n",
        settings.display()
    ))?;
    Ok(())
}

async fn join(args: &JoinArgs) -> Result<(JoinAnswer, PairPaths), Box<dyn Error>> {
    let token = token(args)?;
    let addr = resolve(&args.reconciler).await?;
    let Met { ca, who } = meet(addr, &args.ca, MEET).await?;
    let identity = Identity {
        hierarchy: who.hierarchy.clone(),
        kind: IdentityKind::Server,
        name: args.server.to_string(),
    };
    let paths = PairPaths::of(&args.dir, &identity);
    let asking = asking(&paths, &identity)?;
    let request = JoinRequest {
        server: args.server.clone(),
        token,
        request: asking.request_pem.clone(),
    };
    let peer = Peer::new(addr, who, ClientTls::nameless(&ca)?);
    let answer: JoinAnswer = match peer.post_json_once("/v1/join", &request, ANSWER).await {
        Ok(answer) => answer,
        Err(CallError::Status { text, .. }) => {
            return Err(JoinError::Refused(in_words(&text)).into());
        }
        Err(error) => return Err(error.into()),
    };
    check(&answer, &identity, &asking, &args.ca)?;
    let ca_path = PairPaths::of_ca(&args.dir).certificate;
    pki_files::write_same(&ca_path, &answer.ca)?;
    pki_files::write_same(&paths.certificate, &answer.certificate)?;
    Ok((answer, paths))
}

/// The key of an earlier try, or a new one; it is on disk before anything is asked.
fn asking(paths: &PairPaths, identity: &Identity) -> Result<Asking, Box<dyn Error>> {
    if paths.key.symlink_metadata().is_ok() {
        let key = pki_files::read_text(&paths.key)?;
        return Ok(csr::ask_with(&key, identity)?);
    }
    let asking = csr::ask(identity)?;
    pki_files::write_new(&paths.key, &asking.key_pem, 0o600)?;
    Ok(asking)
}

/// Before anything of the answer is written: it is for this key and name, under the pinned CA.
fn check(
    answer: &JoinAnswer,
    identity: &Identity,
    asking: &Asking,
    pin: &Pin,
) -> Result<(), Box<dyn Error>> {
    let wrong = |what: String| JoinError::Answer(what);
    let material = Material::from_pem(&answer.ca, &answer.certificate, &asking.key_pem)?;
    if material.identity() != identity {
        let got = material.identity();
        return Err(wrong(format!("the certificate is {got}, not {identity}")).into());
    }
    if !material.trusts(pin) {
        return Err(wrong(format!("its CA is not {pin}")).into());
    }
    Ok(())
}

fn token(args: &JoinArgs) -> std::io::Result<String> {
    if args.token != "-" {
        return Ok(args.token.clone());
    }
    let mut text = String::new();
    std::io::stdin().take(TOKEN_MAX).read_to_string(&mut text)?;
    Ok(text.trim().to_owned())
}

/// `ADDRESS:PORT` of a URL without anything else.
fn parse_url(text: &str) -> Result<String, String> {
    let wrong = || "write it as https://ADDRESS:PORT, as `stead pki token` prints it".to_owned();
    let authority = text.strip_prefix("https://").ok_or_else(wrong)?;
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    let (host, port) = authority.rsplit_once(':').ok_or_else(wrong)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-.:[]".contains(c);
    if host.is_empty() || !host.chars().all(plain) || port.parse::<u16>().is_err() {
        return Err(wrong());
    }
    Ok(authority.to_owned())
}

async fn resolve(authority: &str) -> Result<SocketAddr, JoinError> {
    let no_address = |source| JoinError::NoAddress {
        name: authority.to_owned(),
        source,
    };
    let found = tokio::net::lookup_host(authority).await;
    let mut found = found.map_err(|error| no_address(Some(error)))?;
    found.next().ok_or_else(|| no_address(None))
}

/// An API's refusal as a line; a body that is something else as it is.
fn in_words(body: &str) -> String {
    let Ok(refused) = serde_json::from_str::<stead_schemas::api::ApiError>(body) else {
        return body.to_owned();
    };
    match refused.hint {
        Some(hint) => format!("{}; hint: {hint}", refused.error),
        None => refused.error,
    }
}

/// The settings, as people would write them.
fn settings_of(
    args: &JoinArgs,
    answer: &JoinAnswer,
    paths: &PairPaths,
) -> Result<String, JoinError> {
    let name = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.map(str::to_owned)
    };
    let (cert, key) = (name(&paths.certificate), name(&paths.key));
    let state = args.state.to_str().map(|path| serde_json::json!(path));
    let (Some(cert), Some(key), Some(state)) = (cert, key, state) else {
        return Err(JoinError::Answer("a path is not UTF-8".to_owned()));
    };
    let JoinAnswer {
        hierarchy,
        site,
        listen,
        ..
    } = answer;
    let server = &args.server;
    Ok(format!(
        "apiVersion: stead/v1\n\
         kind: AgentConfig\n\
         metadata: {{name: \"{server}\"}}\n\
         spec:\n  \
           hierarchy: \"{hierarchy}\"\n  \
           site: \"{site}\"\n  \
           listen: \"{listen}\"\n  \
           stateDir: {state}\n  \
           tls: {{ca: ca.crt, cert: \"{cert}\", key: \"{key}\"}}\n"
    ))
}

fn day(at: WallMs) -> String {
    stead_wire::dates::Day(at).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_an_address_and_a_port_and_nothing_else() {
        for good in [
            "https://10.20.2.5:7444",
            "https://[2001:db8::5]:7444/",
            "https://stead-1.example:7444",
        ] {
            assert!(parse_url(good).is_ok(), "{good}");
        }
        for wrong in [
            "",
            "http://10.0.0.5:7444",
            "10.0.0.5:7444",
            "https://10.0.0.5",
            "https://:7444",
            "https://u:p@h:7444",
            "https://h:7444/x",
            "https://h:99999",
        ] {
            assert!(parse_url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_settings_it_writes_are_settings() {
        let args = JoinArgs {
            reconciler: String::new(),
            server: "fab-a".parse().unwrap(),
            token: String::new(),
            ca: Pin::of(b""),
            dir: "/etc/site-agent".into(),
            state: "/var/lib/a \"quoted\" folder".into(),
        };
        let answer = JoinAnswer {
            hierarchy: "fabrikam".parse().unwrap(),
            site: "FAB".parse().unwrap(),
            listen: "[2001:db8::1]:7443".parse().unwrap(),
            certificate: String::new(),
            ca: String::new(),
            until: WallMs(0),
        };
        let identity = "stead://fabrikam/server/fab-a".parse().unwrap();
        let paths = PairPaths::of(&args.dir, &identity);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent.yaml");
        std::fs::write(&file, settings_of(&args, &answer, &paths).unwrap()).unwrap();
        let config = crate::config::load(&file).unwrap();
        assert_eq!(config.server, args.server);
        assert_eq!(config.spec.state_dir, args.state);
        assert_eq!(config.spec.listen, answer.listen);
        assert_eq!(
            config.spec.tls.key,
            dir.path().canonicalize().unwrap().join("server-fab-a.key")
        );
    }
}
