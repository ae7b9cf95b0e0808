//! Over real ssh: known hosts enforced, each refusal told apart.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use stead::git::FetchCause;

use super::following::{follow, read, until_at, until_trouble};
use super::scratch::Scratch;
use super::servers::Ssh;

struct Remote {
    scratch: Scratch,
    server: Ssh,
    dir: tempfile::TempDir,
    tip: git2::Oid,
}

async fn remote() -> Remote {
    let scratch = Scratch::new();
    let tip = scratch.commit(&[("a.yaml", "1")]);
    let dir = tempfile::tempdir().unwrap();
    let server = Ssh::start(dir.path()).await;
    Remote {
        scratch,
        server,
        dir,
        tip,
    }
}

impl Remote {
    fn settings(&self, key: &str) -> Value {
        let (server, path) = (&self.server, self.scratch.path.display());
        json!({
            "url": format!("ssh://{}@{}{path}", server.user, server.address),
            "sshKeyFile": server.file(key),
            "knownHostsFile": server.file("known_hosts"),
            "timeout": "10s",
        })
    }

    async fn trouble(&self, settings: Value, cause: FetchCause) {
        let source = follow(&self.dir.path().join(format!("{cause:?}")), settings);
        until_trouble(&source, cause).await;
    }
}

#[tokio::test]
async fn commits_come_over_ssh_and_a_wake_brings_the_next() {
    let remote = remote().await;
    let source = follow(&remote.dir.path().join("state"), remote.settings("user"));
    until_at(&source, remote.tip).await;
    assert_eq!(read(&source, remote.tip), ["a.yaml=1"]);
    let next = remote.scratch.commit(&[("a.yaml", "2")]);
    source.waker().wake();
    until_at(&source, next).await;
}

#[tokio::test]
async fn a_server_with_an_unknown_or_another_host_key_is_refused() {
    let remote = remote().await;
    std::fs::write(remote.server.file("known_hosts"), "").unwrap();
    remote
        .trouble(remote.settings("user"), FetchCause::HostKeyUnknown)
        .await;
    remote.server.know("stranger");
    remote
        .trouble(remote.settings("user"), FetchCause::HostKeyChanged)
        .await;
}

#[tokio::test]
async fn a_key_that_is_refused_open_to_others_or_missing_is_told_apart() {
    let remote = remote().await;
    remote
        .trouble(remote.settings("stranger"), FetchCause::AuthRefused)
        .await;
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(remote.server.file("user"), open).unwrap();
    remote
        .trouble(remote.settings("user"), FetchCause::KeyFile)
        .await;
    let source = follow(
        &remote.dir.path().join("missing"),
        remote.settings("missing"),
    );
    until_trouble(&source, FetchCause::KeyFile).await;
}

#[tokio::test]
async fn a_repository_or_branch_that_is_not_there_is_told_apart() {
    let remote = remote().await;
    let mut settings = remote.settings("user");
    settings["branch"] = json!("other");
    remote.trouble(settings, FetchCause::BranchGone).await;
    let moved = remote.scratch.path.with_extension("moved");
    std::fs::rename(&remote.scratch.path, moved).unwrap();
    remote
        .trouble(remote.settings("user"), FetchCause::RepositoryGone)
        .await;
}
