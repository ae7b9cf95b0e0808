//! Over real https: tokens, CAs, deadlines, and nothing of a token where it does not belong.

use std::path::Path;

use serde_json::{Value, json};
use stead::git::FetchCause;
use tokio::net::TcpListener;

use super::following::{follow, read, until_at, until_trouble};
use super::scratch::Scratch;
use super::servers::{Https, Manners};

const TOKEN: &str = "s3cret-t0ken";

fn with_token() -> Manners {
    Manners {
        token: Some(TOKEN.to_owned()),
        ..Manners::default()
    }
}

struct Remote {
    scratch: Scratch,
    server: Https,
    dir: tempfile::TempDir,
    tip: git2::Oid,
}

async fn remote(manners: Manners) -> Remote {
    let scratch = Scratch::new();
    let tip = scratch.commit(&[("a.yaml", "1")]);
    let server = Https::start(scratch.path.parent().unwrap(), manners).await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("token"), format!("{TOKEN}\n")).unwrap();
    Remote {
        scratch,
        server,
        dir,
        tip,
    }
}

impl Remote {
    fn settings(&self) -> Value {
        json!({
            "url": self.server.url("topology.git"),
            "caFile": self.server.ca_file,
            "tokenFile": self.dir.path().join("token"),
            "timeout": "10s",
        })
    }

    async fn trouble(&self, change: (&str, Value), cause: FetchCause) -> String {
        let mut settings = self.settings();
        settings[change.0] = change.1;
        let source = follow(&self.dir.path().join(format!("{cause:?}")), settings);
        let trouble = until_trouble(&source, cause).await;
        let said = format!("{:?} {}", source.state().borrow(), trouble.error);
        assert!(!said.contains(TOKEN), "{said}");
        said
    }
}

#[tokio::test]
async fn commits_come_over_https_with_a_token_and_a_ca_of_its_own() {
    let remote = remote(with_token()).await;
    let source = follow(&remote.dir.path().join("state"), remote.settings());
    until_at(&source, remote.tip).await;
    assert_eq!(read(&source, remote.tip), ["a.yaml=1"]);
    let next = remote.scratch.commit(&[("a.yaml", "2")]);
    source.waker().wake();
    until_at(&source, next).await;
}

#[tokio::test]
async fn a_refused_token_is_said_and_a_new_one_in_the_file_is_taken() {
    let remote = remote(with_token()).await;
    let file = remote.dir.path().join("token");
    std::fs::write(&file, "yesterdays-token").unwrap();
    let source = follow(&remote.dir.path().join("state"), remote.settings());
    let trouble = until_trouble(&source, FetchCause::AuthRefused).await;
    assert!(!format!("{trouble:?}").contains("yesterdays-token"));
    std::fs::write(&file, TOKEN).unwrap();
    source.waker().wake();
    until_at(&source, remote.tip).await;
    std::fs::write(&file, "").unwrap();
    source.waker().wake();
    until_trouble(&source, FetchCause::TokenFile).await;
}

#[tokio::test]
async fn a_server_of_another_ca_is_refused_before_the_token_is_sent() {
    let remote = remote(with_token()).await;
    let other = Https::start(remote.dir.path(), Manners::default()).await;
    let ca = json!(other.ca_file);
    remote
        .trouble(("caFile", ca), FetchCause::CertificateRefused)
        .await;
    let ca = json!(remote.dir.path().join("missing.pem"));
    remote.trouble(("caFile", ca), FetchCause::CaFile).await;
    assert!(remote.server.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_token_does_not_follow_a_redirect() {
    let target = remote(with_token()).await;
    let redirect = format!("https://{}", target.server.address);
    let manners = Manners {
        redirect: Some(redirect),
        ..Manners::default()
    };
    let remote = remote(manners).await;
    // One CA file for both, so that only the token is in question.
    let both = [&remote.server.ca_file, &target.server.ca_file]
        .map(|file| std::fs::read_to_string(file).unwrap())
        .concat();
    let ca_file = remote.dir.path().join("both.pem");
    std::fs::write(&ca_file, both).unwrap();
    remote
        .trouble(("caFile", json!(ca_file)), FetchCause::AuthRefused)
        .await;
    let seen = target.server.seen.lock().unwrap();
    assert!(seen.is_empty(), "{seen:?}");
}

#[tokio::test]
async fn what_is_not_there_is_told_apart_from_what_fails() {
    let remote = remote(with_token()).await;
    let nowhere = json!(remote.server.url("nowhere.git"));
    remote
        .trouble(("url", nowhere), FetchCause::RepositoryGone)
        .await;
    remote
        .trouble(("branch", json!("other")), FetchCause::BranchGone)
        .await;
    let failing = Manners {
        status: Some(503),
        ..Manners::default()
    };
    let failing = Https::start(remote.dir.path(), failing).await;
    let mut settings = remote.settings();
    settings["url"] = json!(failing.url("topology.git"));
    settings["caFile"] = json!(failing.ca_file);
    let source = follow(&remote.dir.path().join("failing"), settings);
    until_trouble(&source, FetchCause::ServerFailing).await;
}

#[tokio::test]
async fn a_name_without_address_and_a_closed_port_are_told_apart() {
    let remote = remote(with_token()).await;
    let unnamed = json!("https://no-such-host.invalid/t.git");
    remote
        .trouble(("url", unnamed), FetchCause::NameNotResolved)
        .await;
    let closed = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let closed = json!(format!("https://{closed}/t.git"));
    remote
        .trouble(("url", closed), FetchCause::Unreachable)
        .await;
}

#[tokio::test]
async fn a_server_that_says_nothing_is_left_at_the_deadline_with_nothing_behind() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let accepted = tokio::spawn(async move { silent.accept().await.unwrap() });
    let dir = tempfile::tempdir().unwrap();
    let url = format!("https://{address}/t.git");
    let source = follow(dir.path(), json!({"url": url, "timeout": "700ms"}));
    let _connection = accepted.await.unwrap();
    assert!(
        !processes_of(dir.path()).is_empty(),
        "the fetch is not seen in /proc"
    );
    until_trouble(&source, FetchCause::Timeout).await;
    // Killed is not yet gone: the group leader is reaped by the runtime, the rest by init.
    for _ in 0..250 {
        if processes_of(dir.path()).is_empty() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("left behind: {:?}", processes_of(dir.path()));
}

/// Processes whose environment names the mirror below this folder.
fn processes_of(state: &Path) -> Vec<String> {
    let mark = state.join("mirror.git");
    let mark = mark.to_str().unwrap().as_bytes();
    let folders = std::fs::read_dir("/proc").unwrap().flatten();
    folders
        .filter(|folder| {
            let environment = std::fs::read(folder.path().join("environ")).unwrap_or_default();
            environment.windows(mark.len()).any(|window| window == mark)
        })
        .map(|folder| folder.file_name().to_string_lossy().into_owned())
        .collect()
}
