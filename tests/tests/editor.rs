//! What an author sees in an editor: the real `yaml-language-server` over the checked-in schemas.
//!
//! H37: the editor marks schema errors at the places that `stead check` names. What needs more than
//! one document, defaults or the meaning of a value only `check` knows; that is tested elsewhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use stead_schemas::declared::explain::explain;
use stead_schemas::declared::{SourceFile, check};
use system_tests::lsp::Editor;
use system_tests::sources::workspace_root;

/// What is wrong, the kind of document, and what stands below `spec`, wrong in that alone.
const BROKEN: [(&str, &str, &str); 25] = [
    (
        "misspelt key",
        "Site",
        "  servers: {p01-a: {adress: 10.0.0.1}}",
    ),
    ("unknown key", "Site", "  srvers: {}"),
    (
        "unknown key behind an umlaut",
        "Site",
        "  servers: {p-ü: {}}",
    ),
    (
        "unknown key of the document",
        "Site",
        "  servers: {}\nstatus: {}",
    ),
    ("number for true or false", "Site", "  protect: 1"),
    (
        "word for a number",
        "Site",
        "  roles: {managementPoint: {instances: two}}",
    ),
    ("number for text", "Site", "  parent: 100"),
    ("list for a map", "Site", "  servers: [p01-a]"),
    (
        "list for a map, in lines",
        "Site",
        "  servers:\n    - p01-a",
    ),
    ("map for text", "Site", "  parent: {code: CAS}"),
    ("map for text, in lines", "Site", "  parent:\n    code: CAS"),
    (
        "none of the words",
        "Site",
        "  siteServer: {failover: automatc}",
    ),
    ("no site code", "Site", "  parent: p1"),
    (
        "no duration",
        "Site",
        "  roles: {managementPoint: {drain: {wait: 30 s}}}",
    ),
    (
        "no address",
        "Site",
        "  servers: {p01-a: {address: 10.0.0}}",
    ),
    (
        "no server name",
        "Site",
        "  servers: {P01_A: {address: 10.0.0.1}}",
    ),
    (
        "port out of range",
        "Site",
        "  roles: {managementPoint: {port: 70000}}",
    ),
    (
        "secret in the clear",
        "Site",
        "  database: {engine: postgresql, password: hunter2}",
    ),
    (
        "missing key",
        "Hierarchy",
        "  reconcilers: {stead-1: {zone: hq}}",
    ),
    (
        "missing key, in lines",
        "Hierarchy",
        "  reconcilers:\n    stead-1:\n      zone: hq",
    ),
    (
        "two missing keys",
        "Hierarchy",
        "  publishing: {dns: {domain: a.example}}",
    ),
    (
        "empty list",
        "Hierarchy",
        "  publishing: {dns: {domain: a.b, servers: [], tsig: [{name: k, algorithm: hmac-sha256, secret: t}]}}",
    ),
    (
        "nothing for a map",
        "Hierarchy",
        "  reconcilers:\n  guards: {}",
    ),
    (
        "missing key of settings",
        "AgentConfig",
        "  hierarchy: contoso\n  stateDir: /s\n  listen: 127.0.0.1:1",
    ),
    (
        "missing key in a list",
        "SiteSet",
        "  template: {spec: {type: secondary}}\n  sites: [{net: '10.1'}]",
    ),
];

/// The kind of document, what is written below `spec` up to the pointer, what is offered there and
/// what is not.
const OFFERED: [Offered; 9] = [
    // `Site` is how `SiteSet` begins: its keys are not offered all the same.
    (
        "Site",
        "  ",
        &["servers", "siteServer", "roles", "parent", "database"],
        &["template", "sites", "guards", "SiteSetSpec"],
    ),
    (
        "Site",
        "  siteServer:\n    ",
        &["active", "passive", "witnesses", "failover"],
        &["moveAfter", "servers"],
    ),
    (
        "Site",
        "  roles:\n    distributionPoint:\n      ",
        &["servers", "instances", "among", "spread", "moveAfter"],
        &["roles"],
    ),
    (
        "Site",
        "  roles:\n    ",
        &["managementPoint", "distributionPoint"],
        &["siteServer"],
    ),
    (
        "Site",
        "  roles:\n    distributionPoint:\n      settings:\n        ",
        &["content", "pullFrom"],
        &["syncFrom"],
    ),
    (
        "Site",
        "  siteServer:\n    failover: ",
        &["automatic", "manual"],
        &[],
    ),
    (
        "SiteSet",
        "  ",
        &["template", "sites", "values"],
        &["roles", "guards"],
    ),
    (
        "Hierarchy",
        "  ",
        &["publishing", "guards", "defaults", "reconcilers"],
        &["servers", "roles"],
    ),
    (
        "AgentConfig",
        "  ",
        &["hierarchy", "listen", "stateDir", "tls"],
        &["git", "servers"],
    ),
];

type Offered = (
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

#[test]
fn h37_the_editor_marks_schema_errors_where_check_does() {
    let mut editor = Editor::start();
    let mut differing = Vec::new();
    for (number, (what, kind, spec)) in BROKEN.iter().enumerate() {
        let text = document(kind, spec);
        let marks = editor.open(&opened(&format!("broken-{number}.yaml")), &text);
        let marked: BTreeSet<(u64, u64)> = marks.iter().map(|m| (m.line, m.column)).collect();
        let checked = places_checked(&text);
        assert!(!checked.is_empty(), "{what}: check finds nothing wrong");
        if marked != checked {
            differing.push(format!("{what}: check {checked:?}, editor {marks:?}"));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn the_examples_have_no_mark() {
    let mut editor = Editor::start();
    let files = examples();
    assert!(files.len() >= 8, "{files:?}");
    for path in files {
        let text = fs::read_to_string(&path).expect("an example is text");
        let first = text.lines().next().unwrap_or_default();
        assert!(
            first.starts_with("# yaml-language-server: $schema="),
            "{}: {first}",
            path.display()
        );
        let marks = editor.open(&path, &text);
        assert!(marks.is_empty(), "{}: {marks:?}", path.display());
    }
}

#[test]
fn keys_are_offered_where_they_may_stand_and_no_others() {
    let mut editor = Editor::start();
    for (number, (kind, spec, wanted, unwanted)) in OFFERED.into_iter().enumerate() {
        let text = document(kind, spec);
        let path = opened(&format!("incomplete-{number}.yaml"));
        editor.open(&path, &text);
        let (line, column) = end_of(text.trim_end_matches('\n'));
        let offered = editor.complete(&path, line, column);
        let names: Vec<&str> = offered.keys().map(String::as_str).collect();
        for name in wanted {
            assert!(
                offered.contains_key(*name),
                "{kind} {spec:?}: no {name}: {names:?}"
            );
        }
        for name in unwanted {
            assert!(
                !offered.contains_key(*name),
                "{kind} {spec:?}: {name}: {names:?}"
            );
        }
    }
}

#[test]
fn the_text_under_the_pointer_is_the_text_of_explain() {
    let mut editor = Editor::start();
    let path = workspace_root().join("examples/three-sites/sites/P01.yaml");
    let text = fs::read_to_string(&path).expect("an example is text");
    editor.open(&path, &text);
    for (key, name) in [
        ("  siteServer:", "Site.spec.siteServer"),
        ("    passive:", "Site.spec.siteServer.passive"),
        ("      moveAfter:", "Site.spec.roles.moveAfter"),
        ("  contentLibrary:", "Site.spec.contentLibrary"),
    ] {
        let at = text
            .find(key)
            .unwrap_or_else(|| panic!("{key} is in the example"));
        let (line, column) = end_of(&text[..at + key.len() - 1]);
        let shown = plain(&editor.hover(&path, line, column - 1));
        let explained = explain(name).expect("it is explained");
        let paragraph = explained.iter().skip(2).take_while(|line| !line.is_empty());
        let help = paragraph.cloned().collect::<Vec<_>>().join(" ");
        assert!(help.len() > 10, "{name}: {explained:?}");
        assert!(
            shown.contains(&plain(&help)),
            "{name}: {help:?} is not in {shown:?}"
        );
    }
}

/// A whole document, the line that names the schema first.
fn document(kind: &str, spec: &str) -> String {
    let schema = workspace_root().join("schemas/json/stead-v1.json");
    let (name, first) = match kind {
        "Site" => ("P01", "  type: primary\n"),
        _ => ("contoso", ""),
    };
    format!(
        "# yaml-language-server: $schema=file://{}\napiVersion: stead/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n{first}{spec}\n",
        schema.display()
    )
}

/// Line and column of the errors that check finds in the document itself.
fn places_checked(text: &str) -> BTreeSet<(u64, u64)> {
    let mut files = vec![SourceFile::new("a.yaml", text)];
    if !text.contains("kind: Hierarchy") {
        let hierarchy =
            "apiVersion: stead/v1\nkind: Hierarchy\nmetadata: {name: contoso}\nspec: {}\n";
        files.push(SourceFile::new("hierarchy.yaml", hierarchy));
    }
    check(&files)
        .errors()
        .filter(|problem| &*problem.place.file == "a.yaml")
        .map(|problem| {
            (
                u64::from(problem.place.line),
                u64::from(problem.place.column),
            )
        })
        .collect()
}

/// A path for a document that is opened and never saved.
fn opened(name: &str) -> PathBuf {
    workspace_root().join("examples").join(name)
}

/// Every document below `examples/`.
fn examples() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![workspace_root().join("examples")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "yaml") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Line and column behind the last character.
fn end_of(text: &str) -> (u64, u64) {
    let lines = text.split('\n').count();
    let last = text.rsplit('\n').next().unwrap_or_default();
    (lines as u64, last.chars().count() as u64 + 1)
}

/// Letters and spaces alone: markdown escapes some of the rest.
fn plain(text: &str) -> String {
    let kept: String = text
        .chars()
        .filter(|c| c.is_alphanumeric() || c.is_whitespace())
        .collect();
    kept.split_whitespace().collect::<Vec<_>>().join(" ")
}
