//! Fetches from a repository on this machine with libgit2, in-process.
//!
//! No `git` has to be installed for it. libgit2 asks nobody's leave while it waits for a disk, so
//! a call that hangs there is left behind at the deadline, and no second one joins it.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use git2::{
    AutotagOption, Direction, ErrorClass, ErrorCode, FetchOptions, Oid, RemoteCallbacks, Repository,
};

use super::{FetchCause, FetchError, blocking};
use crate::git::mirror::{FETCHED, Mirror};
use crate::git::remote::Remote;

pub(super) async fn fetch(mirror: &Arc<Mirror>, remote: &Remote) -> Result<(), FetchError> {
    let Some(turn) = mirror.local_turn() else {
        let why = "an earlier fetch still hangs on the disk";
        return Err(FetchError::new(remote, FetchCause::Timeout, why));
    };
    let (into, from) = (Arc::clone(mirror), remote.clone());
    let work = blocking(move || {
        let _turn = turn;
        fetch_until(&into, &from, Instant::now() + from.timeout)
    });
    match tokio::time::timeout(remote.timeout, work).await {
        Ok(result) => result,
        Err(_) => Err(timeout(remote)),
    }
}

fn timeout(remote: &Remote) -> FetchError {
    let after = format!("stopped after {} ms", remote.timeout.as_millis());
    FetchError::new(remote, FetchCause::Timeout, after)
}

fn fetch_until(mirror: &Mirror, remote: &Remote, deadline: Instant) -> Result<(), FetchError> {
    mirror.sweep();
    let Some(folder) = remote.local_folder() else {
        let cause = FetchCause::Other;
        return Err(FetchError::new(remote, cause, "not a local repository"));
    };
    check_source(remote, folder)?;
    let repository = mirror
        .repository()
        .map_err(|error| FetchError::new(remote, FetchCause::Other, error))?;
    bring(&repository, remote, folder, deadline).map_err(|error| {
        if Instant::now() >= deadline {
            return timeout(remote);
        }
        FetchError::new(remote, cause(&error), error.message())
    })?
}

fn check_source(remote: &Remote, folder: &Path) -> Result<(), FetchError> {
    match Repository::open_ext(
        folder,
        git2::RepositoryOpenFlags::NO_SEARCH,
        std::iter::empty::<&Path>(),
    ) {
        Ok(_) => Ok(()),
        Err(error) => Err(FetchError::new(remote, cause(&error), error.message())),
    }
}

/// The outer error is libgit2's; the inner one says that there is nothing to bring.
fn bring(
    repository: &Repository,
    remote: &Remote,
    folder: &Path,
    deadline: Instant,
) -> Result<Result<(), FetchError>, git2::Error> {
    let mut from = repository.remote_anonymous(folder.to_str().unwrap_or_default())?;
    let mut connection = from.connect_auth(Direction::Fetch, None, None)?;
    let offered = connection.list()?.iter();
    let tip: Option<Oid> = offered
        .filter(|head| head.name() == remote.reference())
        .map(git2::RemoteHead::oid)
        .next();
    let Some(tip) = tip else {
        let cause = FetchCause::BranchGone;
        return Ok(Err(FetchError::new(remote, cause, remote.reference())));
    };
    if repository.refname_to_id(FETCHED).ok() == Some(tip) {
        return Ok(Ok(()));
    }
    let received = Cell::new(0);
    let mut callbacks = RemoteCallbacks::new();
    callbacks.transfer_progress(|progress| {
        received.set(progress.received_bytes() as u64);
        received.get() <= remote.most_bytes && Instant::now() < deadline
    });
    let mut options = FetchOptions::new();
    options
        .remote_callbacks(callbacks)
        .download_tags(AutotagOption::None)
        .update_fetchhead(false);
    let refspec = format!("+{}:{FETCHED}", remote.reference());
    let fetched = connection
        .remote()
        .fetch(&[refspec], Some(&mut options), None);
    drop(options);
    // libgit2 does not say which callback stopped it, nor why.
    if fetched.is_err() && received.get() > remote.most_bytes {
        let most = format!("stopped after {} bytes", received.get());
        return Ok(Err(FetchError::new(remote, FetchCause::TooLarge, most)));
    }
    fetched.map(Ok)
}

fn cause(error: &git2::Error) -> FetchCause {
    let message = error.message().to_lowercase();
    match (error.code(), error.class()) {
        (ErrorCode::Owner, _) => FetchCause::OtherOwner,
        (ErrorCode::NotFound, ErrorClass::Repository | ErrorClass::Os | ErrorClass::Net) => {
            FetchCause::RepositoryGone
        }
        _ if message.contains("no space left") => FetchCause::DiskFull,
        _ => FetchCause::Other,
    }
}
