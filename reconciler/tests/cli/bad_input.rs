//! Bad input: a clear error, the documented exit code, nothing on stdout.

use crate::stead::{folder, small, stead};

#[test]
fn bad_usage_is_1_not_claps_2() {
    let dir = small();
    for bad in [
        &["nonsense"][..],
        &["check", "--nonsense"],
        &["check", "--output", "xml"],
        &["list", "everything"],
        &["why", "P01/"],
        &["logs", "P01"],
        &["suspend", "P01"],
        &["suspend", "--all", "P01", "--reason", "x"],
        &["suspend", "P01", "--reason", "x", "--until", "soon"],
        &["plan", "--live", "--from", "main"],
        &["wait"],
        &["history", "--limit", "0"],
        &["explain"],
        &[],
    ] {
        let ran = stead(dir.path(), bad);
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{bad:?}: {ran}");
        assert!(!ran.err.is_empty(), "{bad:?}");
    }
}

#[test]
fn help_and_version_are_answers() {
    let dir = small();
    for good in [
        &["--help"][..],
        &["--version"],
        &["lab", "--help"],
        &["plan", "-h"],
    ] {
        let ran = stead(dir.path(), good);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{good:?}: {ran}");
        assert!(!ran.out.is_empty());
    }
}

#[test]
fn no_reconciler_is_3_with_the_way_on() {
    let dir = small();
    insta::assert_snapshot!(stead(dir.path(), &["status"]), @"
    exit 3
    -- stderr
    error: no reconciler here: neither /run/stead/stead.sock nor ./stead-lab/stead.sock exists
    hint: say where it is with --api or STEAD_API, or start one: `stead lab`
    hint: on any server, `site-agent status` tells what its agent knows without a reconciler
    ");
    insta::assert_snapshot!(stead(dir.path(), &["status", "--api", "gone.sock"]), @"
    exit 3
    -- stderr
    error: no reconciler answers at gone.sock: No such file or directory (os error 2)
    hint: on any server, `site-agent status` tells what its agent knows without a reconciler
    ");
    for command in [
        &["list", "records"][..],
        &["why", "P01"],
        &["history"],
        &["logs", "P01/managementPoint@p01-f1"],
        &["plan", "--live"],
        &["plan", ".", "--live"],
        &["wait", "--converged", "--timeout", "1ms"],
        &["suspend", "P01", "--reason", "x"],
        &["resume", "--all"],
        &["confirm-lost", "p01-a", "--reason", "x"],
    ] {
        let ran = stead(dir.path(), command);
        assert_eq!((ran.code, ran.out.as_str()), (3, ""), "{command:?}: {ran}");
    }
}

#[test]
fn a_remote_reconciler_needs_name_address_and_certificate() {
    let dir = small();
    let ask = |api: &str| stead(dir.path(), &["status", "--api", api]);
    insta::assert_snapshot!(ask("https://127.0.0.1:7444"), @"
    exit 1
    -- stderr
    error: `https://127.0.0.1:7444`: the reconciler's name is missing
    hint: write https://NAME@HOST:PORT, NAME as under `reconcilers` in the hierarchy
    ");
    insta::assert_snapshot!(ask("https://stead-1@127.0.0.1:7444"), @"
    exit 1
    -- stderr
    error: stead-1 wants to know who asks
    hint: give --ca, --cert and --key (or STEAD_CA, STEAD_CERT, STEAD_KEY) of an operator certificate: `stead pki issue`
    ");
    insta::assert_snapshot!(ask("http://127.0.0.1"), @"
    exit 1
    -- stderr
    error: `http://127.0.0.1` is no way to a reconciler
    hint: a socket path, or https://NAME@HOST:PORT
    ");
}

#[test]
fn a_folder_that_is_none_or_empty_is_told() {
    let dir = folder(&[("README.md", "no topology")]);
    insta::assert_snapshot!(stead(dir.path(), &["check", "nowhere"]), @"
    exit 1
    -- stderr
    error: there is no folder `nowhere`
    hint: `nowhere` should be the folder of a topology
    ");
    insta::assert_snapshot!(stead(dir.path(), &["check"]), @"
    exit 1
    -- stderr
    error: there is no YAML file in .
    hint: `stead init DIR` makes a topology to start from
    ");
}

#[test]
fn a_link_that_leads_outside_is_refused() {
    let dir = small();
    std::os::unix::fs::symlink("/etc/passwd", dir.path().join("sites/P02.yaml")).unwrap();
    insta::assert_snapshot!(stead(dir.path(), &["check"]), @"
    exit 1
    -- stderr
    error: sites/P02.yaml: is a symbolic link, and links are not followed
    hint: commit the files themselves, or exclude the path in .steadignore
    ");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    use std::process::{Command, Stdio};
    let mut child = Command::new(env!("CARGO_BIN_EXE_stead"))
        .args(["plan", "../examples/contoso"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_lab_that_does_not_run_is_told_and_a_used_folder_is_left_alone() {
    let dir = folder(&[("mine/a.txt", "mine")]);
    let kill = stead(dir.path(), &["lab", "kill", "p01-a"]);
    assert_eq!(kill.code, 3, "{kill}");
    let lab = stead(dir.path(), &["lab", "--dir", "mine"]);
    assert_eq!(lab.code, 1, "{lab}");
    assert!(lab.err.contains("is no lab, and it is not empty"), "{lab}");
    assert_eq!(
        std::fs::read_dir(dir.path().join("mine")).unwrap().count(),
        1
    );
}
