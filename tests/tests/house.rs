//! The house rules as tests: who may depend on whom, and what a file looks like.
//!
//! Style anchors section 8, rules 1, 2, 15, 18-20, and design section 2. They read the source; the
//! compiler's part (unsafe, unwrap, docs) is in the workspace lints.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use system_tests::sources::{Source, rust_sources, workspace_root};

const PURE: [&str; 3] = ["stead-schemas", "stead-plan", "site-lease"];
/// What no crate of nouns or decisions may have below it.
const EFFECTS: [&str; 9] = [
    "tokio", "reqwest", "git2", "rusqlite", "rustls", "axum", "notify", "jiff", "rand",
];
/// Who may depend on whom, in the workspace.
const ALLOWED: [(&str, &[&str]); 11] = [
    ("stead-schemas", &[]),
    ("stead-plan", &["stead-schemas"]),
    ("stead-wire", &["stead-schemas"]),
    ("stead-dns", &["stead-schemas"]),
    (
        "stead",
        &[
            "stead-schemas",
            "stead-plan",
            "stead-wire",
            "stead-dns",
            "site-voting",
        ],
    ),
    ("site-lease", &[]),
    ("lease-models", &["site-lease"]),
    ("site-roles", &["stead-schemas"]),
    (
        "site-voting",
        &["stead-schemas", "stead-wire", "site-lease"],
    ),
    (
        "site-agent",
        &[
            "stead-schemas",
            "stead-wire",
            "stead-dns",
            "site-lease",
            "site-roles",
            "site-voting",
        ],
    ),
    (
        "system-tests",
        &[
            "stead-schemas",
            "stead-plan",
            "stead-wire",
            "stead-dns",
            "stead",
            "site-agent",
            "site-roles",
        ],
    ),
];

fn cargo(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(args)
        .current_dir(workspace_root())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "cargo {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("cargo writes UTF-8")
}

fn workspace_dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let metadata: serde_json::Value = serde_json::from_str(&cargo(&[
        "metadata",
        "--format-version=1",
        "--no-deps",
        "--offline",
    ]))
    .expect("cargo metadata is JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let names: BTreeSet<String> = packages
        .iter()
        .map(|p| p["name"].as_str().unwrap_or_default().to_owned())
        .collect();
    packages
        .iter()
        .map(|package| {
            let below = package["dependencies"]
                .as_array()
                .expect("dependencies")
                .iter()
                .filter_map(|dependency| dependency["name"].as_str())
                .filter(|name| names.contains(*name))
                .map(str::to_owned)
                .collect();
            (
                package["name"].as_str().unwrap_or_default().to_owned(),
                below,
            )
        })
        .collect()
}

#[test]
fn dependencies_point_one_way() {
    let found = workspace_dependencies();
    for (name, below) in &found {
        let allowed = ALLOWED
            .iter()
            .find(|(n, _)| n == name)
            .unwrap_or_else(|| panic!("crate `{name}` has no room in the house: add it to ALLOWED"))
            .1;
        for dependency in below {
            assert!(
                allowed.contains(&dependency.as_str()),
                "`{name}` must not use `{dependency}`"
            );
        }
    }
    assert_eq!(found.len(), ALLOWED.len());
}

#[test]
fn pure_crates_have_no_effects_below_them() {
    for name in PURE {
        let tree = cargo(&[
            "tree",
            "-p",
            name,
            "-e",
            "normal",
            "--prefix",
            "none",
            "--offline",
        ]);
        for line in tree.lines() {
            let dependency = line.split(' ').next().unwrap_or_default();
            assert!(
                !EFFECTS.contains(&dependency),
                "`{name}` has `{dependency}` below it"
            );
        }
    }
}

/// The lease decides the same in agents, in the simulator and in models: nothing of an operating
/// system is within its reach.
#[test]
fn the_lease_has_no_standard_library() {
    let folder = workspace_root().join("site-agent/lease/src");
    let lib = std::fs::read_to_string(folder.join("lib.rs")).expect("lib.rs");
    assert!(lib.contains("\n#![no_std]\n"));
    let externs = lib.matches("extern crate std;").count();
    let in_tests = lib.matches("#[cfg(test)]\nextern crate std;").count();
    assert_eq!((externs, in_tests), (1, 1), "std is for its tests only");
    // With its own features alone, not with those that others in the workspace add.
    let tree = cargo(&[
        "tree",
        "-p",
        "site-lease",
        "-e",
        "normal,features,no-proc-macro",
        "--prefix",
        "none",
        "--offline",
    ]);
    for line in tree.lines() {
        let with_std = line.ends_with("feature \"std\"") || line.ends_with("feature \"default\"");
        assert!(!with_std, "the lease has {line} below it");
    }
}

#[test]
fn one_tls_provider_in_the_whole_tree() {
    let tree = cargo(&[
        "tree",
        "--workspace",
        "-e",
        "normal",
        "--prefix",
        "none",
        "--offline",
    ]);
    for banned in ["aws-lc-rs ", "openssl-sys ", "native-tls "] {
        assert!(
            !tree.lines().any(|line| line.starts_with(banned)),
            "{banned}is in the tree"
        );
    }
}

#[test]
fn pure_sources_name_no_clock_file_network_or_hash_map() {
    let banned = [
        "std::fs",
        "std::net::Tcp",
        "std::net::Udp",
        "std::env",
        "std::process",
        "std::thread",
        "SystemTime",
        "Instant::now",
        "HashMap",
        "HashSet",
        "println!",
        "eprintln!",
    ];
    for source in sources_below(&["schemas/src/", "reconciler/plan/src/"]) {
        for (number, line) in source.code_lines() {
            if line.trim_start().starts_with("//") {
                continue;
            }
            for word in banned {
                assert!(
                    !line.contains(word),
                    "{}:{number}: `{word}` in a pure crate",
                    source.path
                );
            }
        }
    }
}

#[test]
fn every_file_says_what_it_is() {
    let silent: Vec<String> = rust_sources()
        .into_iter()
        .filter(|source| !source.text.starts_with("//! "))
        .map(|source| source.path)
        .collect();
    assert!(
        silent.is_empty(),
        "files that don't open with `//!`: {silent:?}"
    );
}

#[test]
fn files_and_functions_stay_small() {
    let mut sizes: Vec<usize> = Vec::new();
    let mut wrong = Vec::new();
    for source in rust_sources() {
        let lines = source.code_lines().count();
        if !source.is_test_file() {
            sizes.push(lines);
        }
        if source.text.lines().count() > 700 || lines > 600 {
            wrong.push(format!("{}: {lines} lines", source.path));
        }
        for (name, start, length) in functions(&source) {
            if length > 80 {
                wrong.push(format!(
                    "{}:{start}: fn {name} has {length} lines",
                    source.path
                ));
            }
        }
    }
    sizes.sort_unstable();
    assert!(wrong.is_empty(), "too long:\n{}", wrong.join("\n"));
    assert!(sizes[sizes.len() / 2] <= 300, "the median file is too long");
}

#[test]
fn no_unfinished_or_banned_words() {
    let banned = [
        "todo!(",
        "unimplemented!(",
        "FIXME",
        "XXX",
        "#[ignore",
        "allow(dead_code",
    ];
    for source in rust_sources() {
        if source.path == "tests/tests/house.rs" {
            continue;
        }
        for (number, line) in source.text.lines().enumerate() {
            for word in banned {
                assert!(
                    !line.contains(word),
                    "{}:{}: `{word}`",
                    source.path,
                    number + 1
                );
            }
        }
        let name = source.path.rsplit('/').next().unwrap_or_default();
        assert!(
            !matches!(name, "utils.rs" | "util.rs" | "helpers.rs" | "misc.rs"),
            "{name}"
        );
        for (number, line) in source.code_lines() {
            let declares = line.contains("struct ") || line.contains("enum ");
            assert!(
                !(declares && (line.contains("Manager") || line.contains("Helper"))),
                "{}:{number}: name what it does",
                source.path
            );
        }
    }
}

#[test]
fn every_dependency_is_justified() {
    let manifest = std::fs::read_to_string(workspace_root().join("Cargo.toml")).expect("manifest");
    let table =
        std::fs::read_to_string(workspace_root().join("docs/decisions/0002-dependencies.md"))
            .expect("docs/decisions/0002-dependencies.md");
    let section = manifest
        .split("[workspace.dependencies]")
        .nth(1)
        .and_then(|rest| rest.split("\n[").next())
        .expect("the workspace lists its dependencies");
    for line in section
        .lines()
        .filter(|line| line.contains('=') && !line.contains("path ="))
    {
        let name = line.split([' ', '=']).next().unwrap_or_default();
        assert!(
            table.contains(&format!("| {name} |")),
            "`{name}` has no row in 0002-dependencies"
        );
    }
}

fn sources_below(folders: &[&str]) -> Vec<Source> {
    rust_sources()
        .into_iter()
        .filter(|source| folders.iter().any(|folder| source.path.starts_with(folder)))
        .filter(|source| !source.is_test_file())
        .collect()
}

/// Functions by indentation, as rustfmt writes them: name, first line, number of lines.
fn functions(source: &Source) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    let mut open: Option<(String, usize, usize)> = None;
    for (number, line) in source.text.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let is_start = line.contains("fn ") && line.ends_with('{') && !line.contains("//");
        match &open {
            None if is_start => {
                let name = line.split("fn ").nth(1).unwrap_or_default();
                let name = name.split(['(', '<']).next().unwrap_or_default().to_owned();
                open = Some((name, number + 1, indent));
            }
            Some((name, start, depth))
                if line.trim_end() == format!("{}}}", " ".repeat(*depth)) =>
            {
                found.push((name.clone(), *start, number + 2 - start));
                open = None;
            }
            _ => {}
        }
    }
    found
}
