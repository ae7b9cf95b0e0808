//! What is shipped checks: the examples, and what `stead init` makes.

use crate::stead::{stead, top};

#[test]
fn every_example_checks_without_a_complaint_about_itself() {
    let examples = top().join("examples");
    let mut names: Vec<String> = std::fs::read_dir(&examples)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["contoso", "single-site", "three-sites"]);
    for name in names {
        let ran = stead(&examples, &["check", &name, "--output", "json"]);
        let report: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        let complaints: Vec<&str> = report["problems"]
            .as_array()
            .unwrap()
            .iter()
            .map(|problem| problem["code"].as_str().unwrap())
            .filter(|code| !["not-yet", "embedded-database", "deprecated"].contains(code))
            .collect();
        assert_eq!((ran.code, complaints), (0, Vec::new()), "{name}");
    }
}

#[test]
fn contoso_has_every_role_of_the_catalogue() {
    let rendered: String = ["CAS", "P01", "E01"]
        .map(|site| stead(&top().join("examples"), &["render", site, "contoso"]).out)
        .concat();
    for entry in stead_schemas::role::CATALOGUE {
        let found = entry.name == "custom" || rendered.contains(entry.name);
        assert!(found, "no {} in contoso", entry.name);
    }
}

#[test]
fn what_init_makes_checks_strictly_and_plans() {
    let dir = tempfile::tempdir().unwrap();
    let made = stead(dir.path(), &["init", "demo"]);
    assert_eq!(made.code, 0, "{made}");
    insta::assert_snapshot!(made.out, @"
    wrote demo/README.md
    wrote demo/hierarchy.yaml
    wrote demo/sites/P01.yaml
    wrote demo/.stead/schema.json
    wrote demo/.github/workflows/stead.yml
    wrote demo/.gitlab-ci.yml
    ");
    let checked = stead(&dir.path().join("demo"), &["check", "--strict"]);
    insta::assert_snapshot!(checked, @"
    exit 0
    demo: 1 site, 3 servers, 4 role groups: checks
    ");
    let planned = stead(dir.path(), &["plan", "demo", "--detailed-exitcode"]);
    assert_eq!(planned.code, 2, "{planned}");
}

#[test]
fn init_leaves_a_folder_that_is_in_use_alone() {
    let dir = crate::stead::folder(&[("demo/mine.txt", "mine")]);
    let ran = stead(dir.path(), &["init", "demo"]);
    insta::assert_snapshot!(ran, @"
    exit 1
    -- stderr
    error: demo is not empty: nothing was written
    hint: name a folder that does not exist yet
    ");
    assert_eq!(
        std::fs::read_dir(dir.path().join("demo")).unwrap().count(),
        1
    );
}
