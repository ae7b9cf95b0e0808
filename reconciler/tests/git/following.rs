//! One source followed by a test: settings in, conditions out.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use stead::git::{Condition, FetchCause, GitSource, Limits, SourceState, Trouble, read_folder};

/// No test waits longer for anything; what is expected comes within milliseconds.
const DEADLINE: Duration = Duration::from_secs(15);

/// Starts a source with these settings, the poll so rare that it takes no part.
pub(crate) fn follow(state: &Path, settings: Value) -> GitSource {
    let mut all = json!({"poll": "1h"});
    for (key, value) in settings.as_object().unwrap() {
        all[key] = value.clone();
    }
    GitSource::spawn(&serde_json::from_value(all).unwrap(), state).unwrap()
}

/// Waits for a state; panics with the last one where it doesn't come.
pub(crate) async fn until(
    source: &GitSource,
    what: &str,
    wanted: impl FnMut(&SourceState) -> bool,
) -> SourceState {
    let mut state = source.state();
    let found = tokio::time::timeout(DEADLINE, state.wait_for(wanted)).await;
    match found {
        Ok(found) => found.unwrap().clone(),
        Err(_) => panic!("no {what}: {:?}", source.state().borrow()),
    }
}

/// Waits until the head is this commit and nothing is wrong.
pub(crate) async fn until_at(source: &GitSource, commit: git2::Oid) -> SourceState {
    let is_there = |state: &SourceState| {
        let head = state.head.as_ref().map(|head| head.id);
        head == Some(commit) && state.condition == Condition::InStep
    };
    until(source, &format!("commit {commit}"), is_there).await
}

/// Waits for trouble of this cause.
pub(crate) async fn until_trouble(source: &GitSource, cause: FetchCause) -> Trouble {
    let state = until(source, &format!("{cause:?}"), |state| {
        trouble(state).is_some_and(|t| t.error.cause == cause)
    })
    .await;
    assert!(state.condition.hint().is_some());
    trouble(&state).unwrap().clone()
}

pub(crate) fn trouble(state: &SourceState) -> Option<&Trouble> {
    match &state.condition {
        Condition::Starting | Condition::InStep | Condition::HistoryRewritten { .. } => None,
        Condition::BranchGone(t) | Condition::RepositoryGone(t) | Condition::Failing(t) => Some(t),
    }
}

/// The topology as read from the mirror at a commit: `path=content`.
pub(crate) fn read(source: &GitSource, commit: git2::Oid) -> Vec<String> {
    let repository = source.mirror().repository().unwrap();
    let files = read_folder(&repository, commit, None, &Limits::default()).unwrap();
    files
        .into_iter()
        .map(|f| format!("{}={}", f.path, String::from_utf8(f.bytes).unwrap()))
        .collect()
}
