//! `stead pki`: makes a hierarchy's CA, and certificates for servers, reconcilers and people.
//!
//! `init` and `issue` touch files only; `token` asks the running reconciler. What a certificate holds is
//! `stead-wire`'s business. Revocation, renewal and rotation come later.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use jiff::Timestamp;
use stead_schemas::names::{Identity, IdentityKind, ObjectName, ServerName};
use stead_schemas::time::WallMs;
use stead_wire::pki::{self, Issued, LEAF_DAYS, PkiError};
use stead_wire::pki_files::{self, PairPaths, PkiFileError};
use thiserror::Error;

use super::{CommandResult, Outcome};
use crate::output::{Ui, when};

mod token;

/// Make the hierarchy's certificate authority and its certificates.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Files(Files),
    Token(token::TokenArgs),
}

#[derive(Debug, Subcommand)]
enum Files {
    /// Make a CA in a folder of its own.
    Init(Init),
    /// Make a key and a certificate that one server, reconciler or person is known by.
    Issue(Issue),
}

#[derive(Debug, clap::Args)]
struct Init {
    /// The folder for `ca.crt` and `ca.key`; made if missing.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The hierarchy's name, as in `metadata.name` of its `Hierarchy` document.
    #[arg(long, value_name = "NAME")]
    hierarchy: ObjectName,
}

#[derive(Debug, clap::Args)]
struct Issue {
    /// The CA's folder, made by `stead pki init`.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// What the certificate is for.
    #[arg(value_enum)]
    kind: Kind,
    /// The server's or reconciler's name in the hierarchy, or a person's.
    name: ServerName,
    /// An address to put into the certificate for other programs; Stead's own look at the name.
    #[arg(long, value_name = "IP")]
    address: Vec<IpAddr>,
    /// A DNS name to put into the certificate, likewise.
    #[arg(long, value_name = "NAME")]
    dns: Vec<String>,
    /// How long the certificate is good for.
    #[arg(long, value_name = "DAYS", default_value_t = LEAF_DAYS)]
    days: u32,
    /// Where the files go, with a copy of `ca.crt`; default: the CA's folder.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// A site agent.
    Server,
    /// A reconciler.
    Reconciler,
    /// A person; may call and never serve.
    Operator,
}

/// Why nothing was made. The files there are as they were.
#[derive(Debug, Error)]
pub enum Error {
    /// The CA refuses.
    #[error("no certificate was made")]
    Pki(#[source] PkiError),
    /// The files can't be read or written.
    #[error("no certificate was made")]
    Files(#[source] PkiFileError),
}

pub(super) async fn run(ui: &Ui, args: Args) -> CommandResult {
    match args.command {
        Command::Files(files) => {
            ui.data(&make(&files, when::now())?)?;
            Ok(Outcome::Done)
        }
        Command::Token(args) => token::run(ui, args).await,
    }
}

/// Makes files; the text tells which.
fn make(files: &Files, now: WallMs) -> Result<String, Error> {
    match files {
        Files::Init(init) => run_init(init, now),
        Files::Issue(issue) => run_issue(issue, now),
    }
}

fn run_init(init: &Init, now: WallMs) -> Result<String, Error> {
    let paths = PairPaths::of_ca(&init.dir);
    let made = pki::create_ca(&init.hierarchy, now).map_err(Error::Pki)?;
    pki_files::write_pair(&paths, &made).map_err(Error::Files)?;
    let next = format!(
        "keep an offline copy of the key; then: stead pki issue --dir {} server NAME",
        init.dir.display()
    );
    let what = format!("CA of {}", init.hierarchy);
    Ok(report(&what, &made, &paths, None, &next))
}

fn run_issue(issue: &Issue, now: WallMs) -> Result<String, Error> {
    let ca = pki_files::load_ca(&issue.dir).map_err(Error::Files)?;
    let out = issue.out.as_ref().unwrap_or(&issue.dir);
    let identity = Identity {
        hierarchy: ca.hierarchy().clone(),
        kind: match issue.kind {
            Kind::Server => IdentityKind::Server,
            Kind::Reconciler => IdentityKind::Reconciler,
            Kind::Operator => IdentityKind::Operator,
        },
        name: issue.name.to_string(),
    };
    let request = pki::Request {
        identity: identity.clone(),
        addresses: issue.address.clone(),
        dns_names: issue.dns.clone(),
        days: issue.days,
    };
    let made = pki::issue(&ca, &request, now).map_err(Error::Pki)?;
    let paths = PairPaths::of(out, &identity);
    pki_files::check_absent(&paths).map_err(Error::Files)?;
    let trusted = pki_files::write_ca_certificate(out, &ca).map_err(Error::Files)?;
    pki_files::write_pair(&paths, &made).map_err(Error::Files)?;
    let next = match issue.kind {
        Kind::Operator => "give the three files to that person, the key over a safe way",
        Kind::Server => "name the three files under `tls` of the server's AgentConfig",
        Kind::Reconciler => "name the three files under `tls` of its ReconcilerConfig",
    };
    Ok(report(
        &identity.to_string(),
        &made,
        &paths,
        Some(&trusted),
        next,
    ))
}

fn report(
    what: &str,
    made: &Issued,
    paths: &PairPaths,
    trusted: Option<&Path>,
    next: &str,
) -> String {
    let mut text = String::new();
    let mut line = |word: &str, value: &str| {
        writeln!(text, "{word:<12} {value}").expect("a String takes everything");
    };
    line("created", what);
    line("certificate", &paths.certificate.display().to_string());
    line("key", &paths.key.display().to_string());
    if let Some(trusted) = trusted {
        line("CA", &trusted.display().to_string());
    }
    line("fingerprint", &format!("sha256:{}", made.fingerprint));
    let (from, until) = (instant(made.not_before), instant(made.not_after));
    line("valid", &format!("from {from} until {until}"));
    line("next", next);
    text
}

/// To the minute, in UTC.
fn instant(at: WallMs) -> String {
    i64::try_from(at.0)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok())
        .map_or_else(
            || format!("{} ms after 1970", at.0),
            |at| at.strftime("%Y-%m-%d %H:%MZ").to_string(),
        )
}

#[cfg(test)]
mod tests;
