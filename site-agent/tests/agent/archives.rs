//! Instances from archives, fetched by digest.

use std::fs;
use std::path::Path;
use std::process::Command;

use sha2::{Digest as _, Sha256};
use stead_schemas::wire::{InstanceSpec, Phase, Program};

use crate::lab::{Instances, Lab, command, one};

pub(crate) fn digest(file: &Path) -> String {
    Sha256::digest(fs::read(file).unwrap())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A tar.gz made by tar itself, with a program in `bin/run`.
pub(crate) fn archive(lab: &Lab) -> std::path::PathBuf {
    let dir = lab.dir.path().join("content/bin");
    fs::create_dir_all(&dir).unwrap();
    fs::write(
        dir.join("run"),
        "#!/bin/sh\necho from the archive: $0 $1\nexec sleep 1000\n",
    )
    .unwrap();
    let file = lab.dir.path().join("app.tar.gz");
    let script = "chmod 755 content/bin/run && tar -C content -czf app.tar.gz .";
    let made = Command::new("sh")
        .args(["-c", script])
        .current_dir(lab.dir.path())
        .status()
        .unwrap();
    assert!(made.success());
    file
}

pub(crate) fn from(url: String, sha256: String, program: &str) -> InstanceSpec {
    let mut spec = command(&["unused"]);
    spec.program = Program::Archive {
        url,
        sha256,
        command: vec![program.to_owned(), "word".to_owned()],
    };
    spec
}

#[tokio::test]
async fn an_archive_runs_and_goes_when_nobody_names_it() {
    let mut lab = Lab::running().await;
    let file = archive(&lab);
    let sha = digest(&file);
    let url = format!("file://{}", file.display());
    lab.assign(one("app", from(url, sha.clone(), "bin/run")))
        .await;
    lab.until_healthy("app").await;
    let home = lab.state().join("archives").join(&sha);
    assert!(home.is_dir());
    lab.assign(Instances::new()).await;
    lab.until_instance_gone("app").await;
    lab.assign(one("other", command(&["sleep", "1000"]))).await;
    crate::lab::until("pruned", || !home.exists()).await;
}

#[tokio::test]
async fn an_archive_comes_over_http_as_well() {
    let mut lab = Lab::running().await;
    let file = archive(&lab);
    let sha = digest(&file);
    let mut point = command(&["site-agent", "role", "distributionPoint", "--content"]);
    if let Program::Command(words) = &mut point.program {
        words.push(lab.dir.path().display().to_string());
    }
    let url = format!("http://{}:{}/app.tar.gz", point.address, point.port);
    let mut both = one("point", point);
    both.insert("app".parse().unwrap(), from(url, sha, "bin/run"));
    lab.assign(both).await;
    lab.until_healthy("app").await;
}

#[tokio::test]
async fn the_wrong_archive_is_said_and_not_run() {
    let mut lab = Lab::running().await;
    let file = archive(&lab);
    let url = format!("file://{}", file.display());
    lab.assign(one("app", from(url, "0".repeat(64), "bin/run")))
        .await;
    let failed = lab
        .until_instance("app", "failed", |one| one.phase == Phase::Failed)
        .await;
    let message = failed.message.unwrap();
    assert!(message.contains(&digest(&file)), "{message}");
    assert_eq!(lab.marked(), [0; 0]);
}

#[tokio::test]
async fn an_archives_command_does_not_lead_out_of_it() {
    let mut lab = Lab::running().await;
    let file = archive(&lab);
    let url = format!("file://{}", file.display());
    lab.assign(one("app", from(url, digest(&file), "../../../bin/sh")))
        .await;
    let failed = lab
        .until_instance("app", "failed", |one| one.phase == Phase::Failed)
        .await;
    assert!(failed.message.unwrap().contains("within it"));
}
