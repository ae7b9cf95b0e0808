//! A commit that brings more than a mirror may hold: refused by name, and nothing of it stays.

use std::path::Path;

use serde_json::{Value, json};
use stead::git::{FetchCause, GitSource, Remote};

use super::following::{read, until_at, until_trouble};
use super::scratch::Scratch;
use super::servers::{Https, Manners};

const LIMIT: u64 = 256 * 1024;

fn follow(state: &Path, settings: Value) -> GitSource {
    let mut all = json!({"poll": "1h", "timeout": "10s"});
    for (key, value) in settings.as_object().unwrap() {
        all[key] = value.clone();
    }
    let remote = Remote::from_settings(&serde_json::from_value(all).unwrap()).unwrap();
    GitSource::spawn_remote(remote.at_most(LIMIT), state).unwrap()
}

/// Text that no packing makes smaller than half of it.
fn noise(bytes: usize, seed: u64) -> String {
    let mut state = seed | 1;
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text.push_str(&format!("{state:016x}"));
    }
    text
}

fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let sizes = entries.map(|entry| {
        let facts = entry.metadata().unwrap();
        if facts.is_dir() {
            bytes_below(&entry.path())
        } else {
            facts.len()
        }
    });
    sizes.sum()
}

/// The good commit stays, the large one leaves nothing, and a small one after it is followed.
async fn refuses(scratch: &Scratch, state: &Path, settings: Value) {
    let first = scratch.git.refname_to_id("refs/heads/main").unwrap();
    let source = follow(state, settings);
    until_at(&source, first).await;
    let before = bytes_below(state);
    // One large file, then many that are small each.
    let large = noise(8 * LIMIT as usize, 1);
    let small: Vec<(String, String)> = (0..64)
        .map(|n| (format!("{n}.yaml"), noise(LIMIT as usize / 8, n + 2)))
        .collect();
    let many: Vec<(&str, &str)> = small.iter().map(|(p, t)| (&p[..], &t[..])).collect();
    for files in [&[("a.yaml", &large[..])][..], &many] {
        let large = scratch.commit(files);
        source.waker().wake();
        let trouble = until_trouble(&source, FetchCause::TooLarge).await;
        assert!(
            trouble
                .error
                .to_string()
                .contains("more than the mirror may hold"),
            "{trouble:?}"
        );
        let head = source.state().borrow().head.clone();
        assert_eq!(head.map(|head| head.id), Some(first));
        assert_eq!(read(&source, first), ["a.yaml=1"]);
        let repository = source.mirror().repository().unwrap();
        assert!(repository.find_commit(large).is_err());
        let after = bytes_below(state);
        assert!(after < before + LIMIT / 8, "{before} bytes became {after}");
        scratch
            .git
            .reference("refs/heads/main", first, true, "taken back")
            .unwrap();
        source.waker().wake();
        until_at(&source, first).await;
    }
    let next = scratch.commit(&[("a.yaml", "2")]);
    source.waker().wake();
    until_at(&source, next).await;
    assert_eq!(read(&source, next), ["a.yaml=2"]);
}

#[tokio::test]
async fn more_than_a_mirror_may_hold_is_refused_from_this_machine() {
    let scratch = Scratch::new();
    scratch.commit(&[("a.yaml", "1")]);
    let state = tempfile::tempdir().unwrap();
    refuses(&scratch, state.path(), json!({"url": scratch.path})).await;
}

#[tokio::test]
async fn more_than_a_mirror_may_hold_is_refused_over_https() {
    let scratch = Scratch::new();
    scratch.commit(&[("a.yaml", "1")]);
    let server = Https::start(scratch.path.parent().unwrap(), Manners::default()).await;
    let settings = json!({"url": server.url("topology.git"), "caFile": server.ca_file});
    let state = tempfile::tempdir().unwrap();
    refuses(&scratch, state.path(), settings).await;
}
