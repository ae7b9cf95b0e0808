//! Brings what is followed into the mirror, within one deadline.
//!
//! libgit2 reads repositories of this machine, so that trying Stead out needs no `git`; the
//! system's `git` does https and ssh (real known_hosts, proxies, a process that can be killed).
//! The result is a commit; what it means for the source is [`super::source`]'s.

mod child;
mod classify;
mod command;
mod local;

use std::fmt;
use std::sync::Arc;

use git2::Oid;

use super::mirror::{FETCHED, Mirror};
use super::remote::{Place, Remote};

/// A fetch that brought nothing. The last known commit stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{from}: {cause}{}", Detail(.detail))]
pub struct FetchError {
    /// Where from, without credentials.
    pub from: String,
    /// The kind of failure, which decides what to do.
    pub cause: FetchCause,
    /// The words of `git`, `ssh` or libgit2; no secrets, no control characters; may be empty.
    pub detail: String,
}

/// What kept a fetch from succeeding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FetchCause {
    /// The server knows us not, or not for this repository.
    AuthRefused,
    /// The token file is missing, unreadable, empty or longer than a line.
    TokenFile,
    /// The ssh key file is missing, readable by others, or no key.
    KeyFile,
    /// The server is not in the known_hosts file, or the file cannot be read.
    HostKeyUnknown,
    /// The server shows another key than the known_hosts file has.
    HostKeyChanged,
    /// The server's certificate is not from the configured CA, expired, or for another name.
    CertificateRefused,
    /// The CA file cannot be read.
    CaFile,
    /// The server's name has no address.
    NameNotResolved,
    /// No connection, or it broke.
    Unreachable,
    /// The server answers, but with an error of its own.
    ServerFailing,
    /// There is no such repository (any more), or we may not know of it.
    RepositoryGone,
    /// The repository has no such branch or tag (any more).
    BranchGone,
    /// What is followed is not a commit.
    NotACommit,
    /// A local repository belongs to another user, and git refuses it.
    OtherOwner,
    /// It took longer than `git.timeout`.
    Timeout,
    /// It brings more than a mirror may hold.
    TooLarge,
    /// No room below the state folder.
    DiskFull,
    /// No `git` on this machine.
    GitMissing,
    /// Something else; the detail says what.
    Other,
}

impl fmt::Display for FetchCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AuthRefused => "the server refused the credentials",
            Self::TokenFile => "the token file cannot be used",
            Self::KeyFile => "the ssh key file cannot be used",
            Self::HostKeyUnknown => "the server's host key is not known",
            Self::HostKeyChanged => "the server shows another host key than the known one",
            Self::CertificateRefused => "the server's certificate is not trusted",
            Self::CaFile => "the CA file cannot be used",
            Self::NameNotResolved => "the server's name was not resolved",
            Self::Unreachable => "the server was not reached",
            Self::ServerFailing => "the server answered with an error",
            Self::RepositoryGone => "there is no such repository",
            Self::BranchGone => "there is no such branch or tag",
            Self::NotACommit => "what is followed is not a commit",
            Self::OtherOwner => "the repository belongs to another user",
            Self::Timeout => "not finished in time",
            Self::TooLarge => "brings more than the mirror may hold",
            Self::DiskFull => "no room below the state folder",
            Self::GitMissing => "`git` was not found on this machine",
            Self::Other => "failed",
        })
    }
}

impl FetchCause {
    /// What to do about it.
    #[must_use]
    pub const fn hint(self) -> &'static str {
        match self {
            Self::AuthRefused => "renew the token or key, or grant it read access",
            Self::TokenFile => "write the token as the only line of `git.tokenFile`",
            Self::KeyFile => {
                "give `git.sshKeyFile` to the reconciler's user, mode 0600, no passphrase"
            }
            Self::HostKeyUnknown => "compare `ssh-keyscan HOST` with the server's own, then add it",
            Self::HostKeyChanged => "find out why before changing `git.knownHostsFile`",
            Self::CertificateRefused => "name the CA of the server in `git.caFile`",
            Self::CaFile => "make `git.caFile` a readable PEM file",
            Self::NameNotResolved => "check the host in `git.url` and this machine's resolver",
            Self::Unreachable => "check the address, the port and firewalls between",
            Self::ServerFailing => "look at the git server; it is tried again",
            Self::RepositoryGone => "check `git.url`, and that the token or key may read it",
            Self::BranchGone => "push the branch or tag again, or correct `git.branch`",
            Self::NotACommit => "let the tag point at a commit",
            Self::OtherOwner => "git config --system --add safe.directory PATH",
            Self::Timeout => "raise `git.timeout`, or look at the server",
            Self::TooLarge => "keep the topology in a repository of its own",
            Self::DiskFull => "make room; nothing was lost",
            Self::GitMissing => "install git; https and ssh need it",
            Self::Other => "the detail is from git itself",
        }
    }
}

impl FetchError {
    pub(super) fn new(remote: &Remote, cause: FetchCause, detail: impl fmt::Display) -> Self {
        Self {
            from: remote.shown().to_owned(),
            cause,
            detail: classify::shown(&detail.to_string()),
        }
    }
}

struct Detail<'e>(&'e str);

impl fmt::Display for Detail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            "" => Ok(()),
            detail => write!(f, " ({detail})"),
        }
    }
}

/// Fetches what is followed and says which commit it is. One at a time for one mirror.
///
/// Cancel safe: dropped, it kills what it started; a blocking libgit2 call ends at its deadline.
pub(super) async fn fetch(mirror: &Arc<Mirror>, remote: &Remote) -> Result<Oid, FetchError> {
    match &remote.place {
        Place::Local(_) => local::fetch(mirror, remote).await?,
        Place::Https { .. } | Place::Ssh { .. } => child::fetch(mirror, remote).await?,
    }
    let (mirror, remote) = (Arc::clone(mirror), remote.clone());
    blocking(move || fetched_commit(&mirror, &remote)).await
}

fn fetched_commit(mirror: &Mirror, remote: &Remote) -> Result<Oid, FetchError> {
    let other = |error: String| FetchError::new(remote, FetchCause::Other, error);
    let repository = mirror.repository().map_err(|e| other(e.to_string()))?;
    let fetched = repository
        .find_reference(FETCHED)
        .map_err(|e| other(e.message().to_owned()))?;
    match fetched.peel_to_commit() {
        Ok(commit) => Ok(commit.id()),
        Err(error) => {
            let cause = FetchCause::NotACommit;
            Err(FetchError::new(remote, cause, error.message()))
        }
    }
}

/// Runs blocking work away from the runtime; a panic there is a panic here.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Cancelled: the runtime is going down, and this is not polled again.
            Err(_) => std::future::pending().await,
        },
    }
}
