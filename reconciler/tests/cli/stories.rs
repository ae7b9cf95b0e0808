//! `check`, `render` and `explain` as stories.

use crate::stead::{HIERARCHY, SITE, folder, small, stead};

fn broken() -> tempfile::TempDir {
    let site = SITE
        .replace("active: p01-a", "active: p01-x")
        .replace("{servers: [p01-f1]", "{serverz: [p01-f1]");
    folder(&[("hierarchy.yaml", HIERARCHY), ("sites/P01.yaml", &site)])
}

#[test]
fn what_is_wrong_is_shown_where_it_stands() {
    insta::assert_snapshot!(stead(broken().path(), &["check"]), @"
    exit 1
    error[unknown-server]: site P01 has no server `p01-x`
      --> sites/P01.yaml:10:24
       |
    10 |   siteServer: {active: p01-x, service: {command: [/bin/site-server]}}
       |                        ^^^^^
       |
       = hint: did you mean `p01-a`?

    error[unknown-key]: `serverz` is no key of `roles.managementPoint`
      --> sites/P01.yaml:14:23
       |
    14 |     managementPoint: {serverz: [p01-f1], service: {command: [/bin/mp]}}
       |                       ^^^^^^^
       |
       = hint: did you mean `servers`?

    2 files: does not check: 2 errors
    ");
}

#[test]
fn the_same_for_a_pull_request_and_for_programs() {
    let dir = broken();
    let github = stead(dir.path(), &["check", "-o", "github"]);
    assert_eq!(github.code, 1);
    insta::assert_snapshot!(github.out, @"
    ::error file=sites/P01.yaml,line=10,col=24,title=unknown-server::site P01 has no server `p01-x`%0Ahint: did you mean `p01-a`?
    ::error file=sites/P01.yaml,line=14,col=23,title=unknown-key::`serverz` is no key of `roles.managementPoint`%0Ahint: did you mean `servers`?
    ");
    let json = stead(dir.path(), &["check", "-o", "json"]);
    let report: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(report["errors"], 2, "{json}");
    assert_eq!(report["problems"][0]["place"]["file"], "sites/P01.yaml");
    assert_eq!(json.code, 1);
}

#[test]
fn paths_are_told_as_seen_from_here() {
    let dir = broken();
    let above = dir.path().parent().unwrap();
    let name = dir.path().file_name().unwrap().to_str().unwrap();
    let ran = stead(above, &["check", name]);
    assert!(
        ran.out.contains(&format!("--> {name}/sites/P01.yaml:")),
        "{ran}"
    );
    let full = stead(above, &["check", dir.path().to_str().unwrap()]);
    assert!(
        full.out.contains(&format!("--> {name}/sites/P01.yaml:")),
        "{full}"
    );
}

#[test]
fn a_warning_fails_a_strict_check_only() {
    let site = SITE.replace(
        "    softwareUpdatePoint: {servers: [p01-a], service: {command: [/bin/updates]}}\n",
        "",
    );
    let dir = folder(&[("hierarchy.yaml", HIERARCHY), ("sites/P01.yaml", &site)]);
    let ran = stead(dir.path(), &["check"]);
    insta::assert_snapshot!(ran, @"
    exit 0
    warning[update-point]: central and primary sites should have a software update point [SU-1]
     --> sites/P01.yaml:5:3
      |
    5 |   type: primary
      |   ^^^^

    small: 1 site, 3 servers, 2 role groups: checks, with 1 warning
    ");
    assert_eq!(stead(dir.path(), &["check", "--strict"]).code, 1);
}

#[test]
fn a_site_is_rendered_with_the_origin_of_each_value() {
    let ran = stead(small().path(), &["render", "P01", "--origin"]);
    assert_eq!(ran.code, 0, "{ran}");
    let line = ran
        .out
        .lines()
        .find(|line| line.contains("192.0.2.21"))
        .unwrap();
    assert!(line.ends_with("# sites/P01.yaml:8"), "{line}");
    insta::assert_snapshot!(stead(small().path(), &["render", "P09"]), @"
    exit 1
    -- stderr
    error: there is no site P09
    hint: sites: P01
    ");
}

#[test]
fn a_field_is_explained_and_a_wrong_one_corrected() {
    let dir = small();
    insta::assert_snapshot!(stead(dir.path(), &["explain", "Site.spec.siteServer.limits"]), @"
    exit 0
    Site.spec.siteServer.limits  <map>

      How often it may fail over.

        failoversPerHour  Unplanned failovers an hour, or `unlimited`; default 3
        settle            How long the declared active has to be well before automatic failback; default 5m

      * required
    ");
    let wrong = stead(dir.path(), &["explain", "Site.spec.rolez"]);
    assert_eq!(wrong.code, 1);
    assert!(wrong.err.contains("`roles`"), "{wrong}");
}

#[test]
fn a_schema_is_json() {
    let dir = small();
    for arguments in [
        &["schema"][..],
        &["schema", "Site"],
        &["schema", "hierarchy"],
    ] {
        let ran = stead(dir.path(), arguments);
        serde_json::from_str::<serde_json::Value>(&ran.out).unwrap();
        assert_eq!(ran.code, 0);
    }
    assert_eq!(stead(dir.path(), &["schema", "Sites"]).code, 1);
}
