//! Whole repositories check clean.

use std::path::Path;

use super::*;
use crate::names::ServerName;

/// The YAML files below `schemas/testdata/NAME`.
pub(in crate::declared) fn testdata(name: &str) -> Vec<SourceFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata")
        .join(name);
    let mut files = Vec::new();
    folder(&root, &root, &mut files);
    files
}

#[expect(clippy::disallowed_methods, reason = "a test reads its files")]
fn folder(path: &Path, under: &Path, files: &mut Vec<SourceFile>) {
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            folder(&path, under, files);
        } else if name.ends_with(".yaml") {
            let relative = path.strip_prefix(under).unwrap().to_str().unwrap();
            files.push(SourceFile::new(relative, std::fs::read(&path).unwrap()));
        }
    }
}

/// The desired state of a topology without errors.
pub(super) fn desired(checked: Checked) -> HierarchyDesired {
    let errors: Vec<String> = checked.errors().map(ToString::to_string).collect();
    checked
        .desired
        .unwrap_or_else(|| panic!("{}", errors.join("\n")))
}

#[test]
fn contoso_with_44_sites_from_files_and_a_set_resolves() {
    let hierarchy = desired(check(&testdata("contoso")));
    assert_eq!(hierarchy.sites.len(), 44);
    let s07 = &hierarchy.sites[&"S07".parse::<SiteCode>().unwrap()];
    assert_eq!(s07.servers.len(), 2, "its patch adds a server");
    assert_eq!(s07.labels["ring"], "wide", "from the set's values");
    let active = &s07.site_server.as_ref().unwrap().active;
    assert_eq!(active, &"s07-srv".parse::<ServerName>().unwrap());
    assert_eq!(s07.place.line, 27, "the line of the list");
}

#[test]
fn fabrikam_and_each_step_of_an_adoption_resolve() {
    for name in [
        "fabrikam",
        "adopted/step-1-observe",
        "adopted/step-2-publish",
    ] {
        assert_eq!(desired(check(&testdata(name))).sites.len(), 1, "{name}");
    }
    for name in [
        "adopted/step-3-roles",
        "adopted/step-4-site-server",
        "adopted/step-5-all",
    ] {
        assert_eq!(desired(check(&testdata(name))).sites.len(), 1, "{name}");
    }
}

#[test]
fn a_large_topology_warns_once_a_kind_with_the_number_of_places() {
    let problems = check(&testdata("contoso")).problems;
    let no_program: Vec<&str> = problems
        .iter()
        .filter(|problem| problem.code == "no-program")
        .map(|problem| problem.message.as_str())
        .take(2)
        .collect();
    assert_eq!(
        no_program,
        [
            "no program for managementPoint: it is planned as a hold, neither installed nor published (46 places)",
            "no program for smsProvider: it is planned as a hold, neither installed nor published (4 places)",
        ],
        "H28"
    );
    assert!(problems.len() < 40, "{}", problems.len());
}
