//! `stead plan` without a reconciler: from nothing, from a revision, and its id.

use std::path::Path;
use std::process::Command;

use crate::stead::{SITE, small, stead};

fn git(dir: &Path, arguments: &[&str]) {
    let output = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@t.example"])
        .args(arguments)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .output()
        .expect("git runs");
    assert!(output.status.success(), "git {arguments:?}: {output:?}");
}

fn committed() -> tempfile::TempDir {
    let dir = small();
    git(dir.path(), &["init", "-q", "-b", "main"]);
    git(dir.path(), &["add", "-A"]);
    git(dir.path(), &["commit", "-q", "-m", "one"]);
    dir
}

fn write_site(dir: &Path, site: &str) {
    std::fs::write(dir.join("sites/P01.yaml"), site).expect("a file");
}

fn moved() -> String {
    SITE.replace("{servers: [p01-f1]", "{servers: [p01-f2]")
}

fn id(out: &str) -> &str {
    out.lines()
        .find_map(|line| line.strip_prefix("id plan:"))
        .expect("a plan has an id")
}

#[test]
fn from_nothing_everything_is_installed() {
    insta::assert_snapshot!(stead(small().path(), &["plan"]), @"
    exit 0
    + install  P01/managementPoint      p01-f1  install, healthy, publish   sites/P01.yaml:14:5
    + install  P01/smsProvider          p01-a   install, healthy, publish   sites/P01.yaml:12:5
    + install  P01/softwareUpdatePoint  p01-a   install, healthy, publish   sites/P01.yaml:13:5
    + install  P01/siteServer           p01-a   install, healthy, publish   sites/P01.yaml:10:24
    + publish  dns:p01-a.cm.small.example/A  the server has role instances   sites/P01.yaml:7:5
    + publish  dns:p01-f1.cm.small.example/A  the server has role instances   sites/P01.yaml:8:5

    Plan: 4 to install, 0 to update, 0 to move, 0 to remove, 0 to switch over, 7 records to publish, 0 to withdraw (1 site)
    id plan:345e409+0ef44d
    ");
}

#[test]
fn a_move_is_told_as_one_line_with_what_interrupts() {
    let dir = committed();
    write_site(dir.path(), &moved());
    insta::assert_snapshot!(stead(dir.path(), &["plan", "--from", "main"]), @"
    exit 0
    ~ move      P01/managementPoint  p01-f1 -> p01-f2  install, healthy, publish, withdraw, drain 30s, remove   sites/P01.yaml:14:5
            managementPoint: never fewer than 1 of 1; interruption: none
    + publish   dns:p01-f2.cm.small.example/A  the server has role instances   sites/P01.yaml:9:5
    - withdraw  dns:p01-f1.cm.small.example/A  nothing declared wants it

    Plan: 0 to install, 0 to update, 1 to move, 0 to remove, 0 to switch over, 3 records to publish, 3 to withdraw (1 site)
    id plan:e860428+549904
    ");
}

#[test]
fn what_is_taken_away_is_told_again_at_the_end() {
    let dir = committed();
    let line = SITE.lines().last().unwrap();
    write_site(dir.path(), &SITE.replace(line, ""));
    insta::assert_snapshot!(stead(dir.path(), &["plan", "--from", "main"]), @"
    exit 0
    - remove    P01/managementPoint  p01-f1  withdraw, drain 30s, remove
            managementPoint is gone from git
    - withdraw  dns:p01-f1.cm.small.example/A  nothing declared wants it

    Plan: 0 to install, 0 to update, 0 to move, 1 to remove, 0 to switch over, 0 records to publish, 3 to withdraw (1 site)
    id plan:bf07974+ae01c0
    takes away
      remove P01/managementPoint  p01-f1
    ");
}

#[test]
fn exit_codes_tell_pending_changes_only_when_asked() {
    let dir = committed();
    let plan = |more: &[&str]| stead(dir.path(), &[&["plan", "--from", "main"], more].concat());
    assert_eq!(plan(&["--detailed-exitcode"]).code, 0, "nothing to do");
    write_site(dir.path(), &moved());
    assert_eq!(plan(&[]).code, 0);
    assert_eq!(plan(&["--detailed-exitcode"]).code, 2);
}

#[test]
fn h38_the_id_survives_the_merge_and_no_other_plan_has_it() {
    let dir = committed();
    let plan = |from: &str| stead(dir.path(), &["plan", "--from", from]).out;
    write_site(dir.path(), &moved());
    let before = plan("main");
    git(dir.path(), &["commit", "-q", "-a", "-m", "move"]);
    let after = plan("HEAD~1");
    assert_eq!(id(&before), id(&after));
    git(
        dir.path(),
        &[
            "commit",
            "-q",
            "--amend",
            "-m",
            "the same under another name",
        ],
    );
    assert_eq!(id(&plan("HEAD~1")), id(&before));
    write_site(dir.path(), &moved().replace("port: 8441", "port: 8442"));
    assert_ne!(id(&plan("HEAD~1")), id(&before));
}

#[test]
fn planning_writes_nothing_to_the_repository() {
    let dir = committed();
    write_site(dir.path(), &moved());
    let listing = || {
        let mut command = Command::new("find");
        let output = command
            .arg(".git")
            .args(["-type", "f"])
            .current_dir(dir.path())
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let before = listing();
    assert_eq!(stead(dir.path(), &["plan", "--from", "main"]).code, 0);
    assert_eq!(listing(), before);
}

#[test]
fn a_revision_that_is_none_or_does_not_check_is_told() {
    let dir = committed();
    insta::assert_snapshot!(stead(dir.path(), &["plan", "--from", "origin/main"]), @"
    exit 1
    -- stderr
    error: there is no revision `origin/main`: revspec 'origin/main' not found
    hint: fetch it first; in CI, a checkout of full depth
    ");
    write_site(dir.path(), "nonsense: true\n");
    git(dir.path(), &["commit", "-q", "-a", "-m", "bad"]);
    let bad = stead(dir.path(), &["plan"]);
    assert_eq!((bad.code, bad.out.as_str()), (1, ""), "{bad}");
    write_site(dir.path(), SITE);
    let from_bad = stead(dir.path(), &["plan", "--from", "main"]);
    assert_eq!(from_bad.code, 1);
    assert!(
        from_bad.err.contains("main:sites/P01.yaml:1:1"),
        "{from_bad}"
    );
    let outside = stead(small().path(), &["plan", "--from", "main"]);
    assert!(outside.err.contains("is in no git repository"), "{outside}");
}

#[test]
fn json_has_steps_holds_and_counts() {
    let dir = committed();
    write_site(dir.path(), &moved());
    let ran = stead(dir.path(), &["plan", "--from", "main", "-o", "json"]);
    let plan: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(plan["counts"]["toMove"], 1, "{ran}");
    assert!(plan["sites"]["P01"]["steps"].as_array().unwrap().len() > 3);
    assert!(plan["id"].as_str().unwrap().contains('+'));
}

#[test]
fn what_does_not_check_is_not_sent_to_a_reconciler() {
    let dir = small();
    write_site(dir.path(), &SITE.replace("type: primary", "type: primry"));
    let ran = stead(dir.path(), &["plan", ".", "--live", "--api", "gone.sock"]);
    assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{ran}");
    assert!(ran.err.contains("does not check"), "{ran}");
}
