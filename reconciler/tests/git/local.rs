//! A repository on this machine: noticed without a poll, and nothing lost whatever becomes of it.

use serde_json::json;
use stead::git::{Condition, FetchCause, Waker};

use super::following::{follow, read, until, until_at, until_trouble};
use super::scratch::Scratch;

type Dir = tempfile::TempDir;

fn started() -> (Scratch, Dir, git2::Oid) {
    let scratch = Scratch::new();
    let first = scratch.commit(&[("a.yaml", "1")]);
    (scratch, tempfile::tempdir().unwrap(), first)
}

#[tokio::test]
async fn a_commit_is_noticed_without_a_poll() {
    let (scratch, state, first) = started();
    let source = follow(state.path(), json!({"url": scratch.path}));
    let at_first = until_at(&source, first).await;
    assert!(at_first.fetched_at.is_some());
    assert_eq!(read(&source, first), ["a.yaml=1"]);
    for text in ["2", "3"] {
        let next = scratch.commit(&[("a.yaml", text)]);
        until_at(&source, next).await;
        assert_eq!(read(&source, next), [format!("a.yaml={text}")]);
    }
}

#[tokio::test]
async fn our_own_fetch_wakes_nobody() {
    let (scratch, state, first) = started();
    let source = follow(state.path(), json!({"url": scratch.path}));
    until_at(&source, first).await;
    let next = scratch.commit(&[("a.yaml", "2")]);
    until_at(&source, next).await;
    // Enough time for a loop of notices to show itself: a turn takes about 60 ms.
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    let looks = source.state().borrow().looks;
    assert!(looks.good <= 4, "{looks:?}");
}

#[tokio::test]
async fn a_work_tree_is_followed_through_git_itself() {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("work");
    let git = async |args: &[&str]| {
        let at = work.to_str().unwrap();
        let identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"];
        super::servers::tool("git", &[&["-C", at], &identity[..], args].concat()).await
    };
    std::fs::create_dir(&work).unwrap();
    git(&["init", "-q", "-b", "main"]).await;
    std::fs::write(work.join("a.yaml"), "1").unwrap();
    git(&["add", "."]).await;
    git(&["commit", "-q", "-m", "one"]).await;
    let url = format!("file://{}", work.display());
    let source = follow(&dir.path().join("state"), json!({"url": url}));
    let seen = until(&source, "first commit", |s| s.head.is_some()).await;
    assert_eq!(seen.head.unwrap().subject, "one");
    git(&["commit", "-q", "--allow-empty", "-m", "two"]).await;
    let is_two = |s: &stead::git::SourceState| s.head.as_ref().is_some_and(|h| h.subject == "two");
    until(&source, "second commit", is_two).await;
}

#[tokio::test]
async fn a_deleted_branch_is_said_and_tears_nothing_down() {
    let (scratch, state, first) = started();
    let source = follow(state.path(), json!({"url": scratch.path}));
    until_at(&source, first).await;
    let mut branch = scratch.git.find_reference("refs/heads/main").unwrap();
    branch.delete().unwrap();
    until_trouble(&source, FetchCause::BranchGone).await;
    let seen = source.state().borrow().clone();
    assert!(matches!(seen.condition, Condition::BranchGone(_)));
    assert_eq!(seen.head.unwrap().id, first);
    assert_eq!(read(&source, first), ["a.yaml=1"]);
    scratch
        .git
        .reference("refs/heads/main", first, true, "again")
        .unwrap();
    until_at(&source, first).await;
}

#[tokio::test]
async fn a_force_push_is_said_followed_and_keeps_the_pinned_revision() {
    let (scratch, state, first) = started();
    let source = follow(state.path(), json!({"url": scratch.path}));
    until_at(&source, first).await;
    source.mirror().pin(first).unwrap();
    let other = scratch.rewrite(&[("b.yaml", "2")]);
    let seen = until(&source, "rewrite", |s| {
        matches!(&s.condition, Condition::HistoryRewritten { old, new }
            if old.id == first && new.id == other)
    })
    .await;
    assert_eq!(seen.head.unwrap().id, other);
    assert!(seen.condition.problem().unwrap().contains("rewritten"));
    assert_eq!(read(&source, other), ["b.yaml=2"]);
    assert_eq!(read(&source, first), ["a.yaml=1"]);
    assert_eq!(source.mirror().pinned().unwrap(), Some(first));
    let next = scratch.commit(&[("b.yaml", "3")]);
    until_at(&source, next).await;
}

#[tokio::test]
async fn a_repository_moved_away_is_said_and_found_again() {
    let (scratch, state, first) = started();
    let source = follow(state.path(), json!({"url": scratch.path}));
    until_at(&source, first).await;
    let elsewhere = scratch.path.with_extension("moved");
    std::fs::rename(&scratch.path, &elsewhere).unwrap();
    source.waker().wake();
    until_trouble(&source, FetchCause::RepositoryGone).await;
    let seen = source.state().borrow().clone();
    assert!(matches!(seen.condition, Condition::RepositoryGone(_)));
    assert_eq!(seen.head.unwrap().id, first);
    std::fs::rename(&elsewhere, &scratch.path).unwrap();
    // By the back-off alone: nothing is there that could be watched.
    until_at(&source, first).await;
    let next = scratch.commit(&[("a.yaml", "2")]);
    until_at(&source, next).await;
}

#[tokio::test]
async fn a_restart_knows_the_head_while_the_remote_is_gone() {
    let (scratch, state, first) = started();
    let source = follow(state.path(), json!({"url": scratch.path}));
    until_at(&source, first).await;
    source.mirror().pin(first).unwrap();
    drop(source);
    std::fs::rename(&scratch.path, scratch.path.with_extension("moved")).unwrap();
    let source = restarted(state.path(), &scratch).await;
    let seen = source.state().borrow().clone();
    assert_eq!(seen.head.unwrap().id, first);
    assert_eq!(seen.fetched_at, None);
    assert_eq!(source.mirror().pinned().unwrap(), Some(first));
    assert_eq!(read(&source, first), ["a.yaml=1"]);
}

/// The old task lets its mirror go once it is polled for the last time.
async fn restarted(state: &std::path::Path, scratch: &Scratch) -> stead::git::GitSource {
    let settings = serde_json::from_value(json!({"url": scratch.path})).unwrap();
    for _ in 0..200 {
        if let Ok(source) = stead::git::GitSource::spawn(&settings, state) {
            return source;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the state folder stays in use after the source was dropped");
}

#[tokio::test]
async fn tags_are_followed_and_must_be_commits() {
    let (scratch, state, first) = started();
    let who = git2::Signature::now("t", "t@example.org").unwrap();
    let commit = scratch.git.find_object(first, None).unwrap();
    scratch
        .git
        .tag("live", &commit, &who, "annotated", false)
        .unwrap();
    let source = follow(state.path(), json!({"url": scratch.path, "tag": "live"}));
    until_at(&source, first).await;
    let next = scratch.commit(&[("a.yaml", "2")]);
    let commit = scratch.git.find_object(next, None).unwrap();
    scratch.git.tag_lightweight("live", &commit, true).unwrap();
    until_at(&source, next).await;
    let blob = scratch.git.blob(b"x").unwrap();
    scratch
        .git
        .reference("refs/tags/live", blob, true, "t")
        .unwrap();
    until_trouble(&source, FetchCause::NotACommit).await;
    assert_eq!(source.state().borrow().head.as_ref().unwrap().id, next);
}

#[tokio::test]
async fn wakes_that_come_together_are_one() {
    let waker = Waker::new();
    for _ in 0..100 {
        waker.wake();
    }
    waker.woken().await;
    let second = tokio::time::timeout(std::time::Duration::from_millis(50), waker.woken());
    assert!(second.await.is_err());
}
