//! Reading a commit's folder and a plain folder: same rules, same result, hostile input bounded.

use std::os::unix::fs::symlink;

use git2::{ObjectType, Oid};
use stead::git::{
    Change, Limits, ReadError, changed_files, commit_info, folder_tree, last_change, list_folder,
    read_folder, read_folder_at_path,
};

use super::scratch::Scratch;

fn read(scratch: &Scratch, commit: Oid, folder: Option<&str>) -> Result<Vec<String>, ReadError> {
    let files = read_folder(&scratch.git, commit, folder, &Limits::default())?;
    Ok(files
        .into_iter()
        .map(|f| format!("{}={}", f.path, String::from_utf8(f.bytes).unwrap()))
        .collect())
}

/// A tree object as git would not write it: raw entries.
fn raw_tree(scratch: &Scratch, entries: &[(&str, &[u8], Oid)]) -> Oid {
    let mut bytes = Vec::new();
    for (mode, name, id) in entries {
        bytes.extend([mode.as_bytes(), b" ", name, b"\0", id.as_bytes()].concat());
    }
    let odb = scratch.git.odb().unwrap();
    odb.write(ObjectType::Tree, &bytes).unwrap()
}

#[test]
fn only_the_folders_yaml_is_read_by_path_order() {
    let scratch = Scratch::new();
    let commit = scratch.commit(&[
        ("README.md", "no"),
        (".gitlab-ci.yml", "no"),
        ("prod/b.yaml", "2"),
        ("prod/a/c.yml", "1"),
        ("prod/.hidden/x.yaml", "no"),
        ("prod/drafts/x.yaml", "no"),
        ("prod/.steadignore", "drafts/\n"),
    ]);
    assert_eq!(
        read(&scratch, commit, Some("prod")).unwrap(),
        ["a/c.yml=1", "b.yaml=2"]
    );
    let top = read(&scratch, commit, None).unwrap_err();
    assert!(
        matches!(&top, ReadError::NestedIgnore { path } if path == "prod/.steadignore"),
        "{top}"
    );
}

#[test]
fn a_plain_folder_reads_like_the_commit_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let files = [
        ("a.yaml", "1"),
        ("b/c.yml", "2"),
        ("b/skip.yaml", "no"),
        ("b/note.txt", "no"),
        (".steadignore", "skip.yaml\n"),
        (".github/ci.yaml", "no"),
    ];
    for (path, text) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let scratch = Scratch::new();
    let commit = scratch.commit(&files);
    let from_git = read_folder(&scratch.git, commit, None, &Limits::default()).unwrap();
    let from_disk = read_folder_at_path(dir.path(), &Limits::default()).unwrap();
    assert_eq!(from_git, from_disk);
    assert_eq!(from_disk.len(), 2);
}

#[test]
fn links_and_submodules_are_refused_by_name_unless_excluded() {
    let scratch = Scratch::new();
    let link = ("sites/p01", "/etc", 0o120_000);
    let commit = scratch.commit_on(None, "refs/heads/main", [link]);
    let error = read(&scratch, commit, None).unwrap_err();
    assert!(
        matches!(&error, ReadError::Symlink { path } if path == "sites/p01"),
        "{error}"
    );
    let excluded = [link, (".steadignore", "sites/p01\n", 0o100_644)];
    let commit = scratch.commit_on(None, "refs/heads/main", excluded);
    assert!(read(&scratch, commit, None).unwrap().is_empty());

    let tree = raw_tree(&scratch, &[("160000", b"vendor", commit)]);
    let commit = scratch.commit_tree(None, "refs/heads/main", tree);
    let error = read(&scratch, commit, None).unwrap_err();
    assert!(
        matches!(&error, ReadError::Submodule { path } if path == "vendor"),
        "{error}"
    );
}

#[test]
fn a_link_as_the_configured_folder_or_as_the_ignore_file_is_not_followed() {
    let scratch = Scratch::new();
    let files = [("prod", "real", 0o120_000), ("real/a.yaml", "1", 0o100_644)];
    let commit = scratch.commit_on(None, "refs/heads/main", files);
    let error = read(&scratch, commit, Some("prod")).unwrap_err();
    assert!(matches!(error, ReadError::FolderMissing { .. }), "{error}");
    let files = [(".steadignore", "/etc/passwd", 0o120_000)];
    let commit = scratch.commit_on(None, "refs/heads/main", files);
    let error = read(&scratch, commit, None).unwrap_err();
    assert!(matches!(error, ReadError::Symlink { .. }), "{error}");
}

#[test]
fn links_pipes_and_inner_repositories_on_disk_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |name: &str| {
        let error = read_folder_at_path(dir.path(), &Limits::default()).unwrap_err();
        assert_eq!(error.path(), Some(name), "{error}");
        error
    };
    symlink("/etc/hostname", dir.path().join("x.yaml")).unwrap();
    assert!(matches!(refused("x.yaml"), ReadError::Symlink { .. }));
    std::fs::remove_file(dir.path().join("x.yaml")).unwrap();

    let pipe = dir.path().join("p.yaml");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    assert!(matches!(refused("p.yaml"), ReadError::NotAFile { .. }));
    std::fs::remove_file(pipe).unwrap();

    std::fs::create_dir_all(dir.path().join("vendor/.git")).unwrap();
    assert!(matches!(refused("vendor"), ReadError::Submodule { .. }));
    std::fs::remove_dir_all(dir.path().join("vendor")).unwrap();

    symlink("/etc/passwd", dir.path().join(".steadignore")).unwrap();
    assert!(matches!(refused(".steadignore"), ReadError::Symlink { .. }));
}

#[test]
fn a_tree_with_impossible_names_is_refused() {
    let scratch = Scratch::new();
    let blob = scratch.git.blob(b"x").unwrap();
    let empty = raw_tree(&scratch, &[]);
    let cases: [&[(&str, &[u8], Oid)]; 4] = [
        &[("40000", b"..", empty)],
        &[("100644", b"a/b.yaml", blob)],
        &[("100644", b"a\x1b[2J.yaml", blob)],
        &[("100644", b"\xff.yaml", blob)],
    ];
    for entries in cases {
        let tree = raw_tree(&scratch, entries);
        let commit = scratch.commit_tree(None, "refs/heads/main", tree);
        let error = read(&scratch, commit, None).unwrap_err();
        assert!(matches!(error, ReadError::Name { .. }), "{error}");
        assert!(!error.to_string().contains('\x1b'));
    }
    let tree = raw_tree(
        &scratch,
        &[("100644", b"a.yaml", blob), ("100644", b"a.yaml", blob)],
    );
    let commit = scratch.commit_tree(None, "refs/heads/main", tree);
    let error = read(&scratch, commit, None).unwrap_err();
    assert!(matches!(error, ReadError::Twice { .. }), "{error}");
}

#[test]
fn a_tree_that_unfolds_without_end_stops_at_the_bound() {
    let scratch = Scratch::new();
    let blob = scratch.git.blob(b"x").unwrap();
    let mut tree = raw_tree(&scratch, &[("100644", b"x.yaml", blob)]);
    for _ in 0..12 {
        let names: Vec<Vec<u8>> = (0..10).map(|n| format!("{n}").into_bytes()).collect();
        let entries: Vec<_> = names.iter().map(|n| ("40000", &n[..], tree)).collect();
        tree = raw_tree(&scratch, &entries);
    }
    let commit = scratch.commit_tree(None, "refs/heads/main", tree);
    let limits = Limits {
        entries: 5_000,
        ..Limits::default()
    };
    let error = read_folder(&scratch.git, commit, None, &limits).unwrap_err();
    assert!(
        matches!(error, ReadError::TooMuch { what: "names", .. }),
        "{error}"
    );
}

#[test]
fn each_bound_names_itself_and_the_path() {
    let scratch = Scratch::new();
    let deep = format!("{}x.yaml", "d/".repeat(33));
    let commit = scratch.commit(&[("a.yaml", "12345"), ("b.yaml", "12345"), (&deep, "1")]);
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.yaml"), "12345").unwrap();
    std::fs::write(dir.path().join("b.yaml"), "12345").unwrap();
    let of = |limits: Limits| {
        let error = read_folder(&scratch.git, commit, None, &limits).unwrap_err();
        let on_disk = read_folder_at_path(dir.path(), &limits).map_err(|e| e.to_string());
        (error.to_string(), on_disk)
    };
    let all = Limits::default();
    let (error, _) = of(all);
    assert!(error.contains("folders below each other"), "{error}");
    let cases = [
        (
            Limits {
                file_bytes: 4,
                ..all
            },
            "a.yaml: too large: more than 4 bytes in one file",
        ),
        (
            Limits {
                total_bytes: 9,
                ..all
            },
            "b.yaml: too large: more than 9 bytes in all files",
        ),
        (
            Limits { files: 1, ..all },
            "b.yaml: too large: more than 1 YAML files",
        ),
    ];
    for (limits, wanted) in cases {
        let (error, on_disk) = of(limits);
        assert_eq!(error, wanted);
        assert_eq!(on_disk.unwrap_err(), wanted);
    }
}

#[test]
fn h23_five_thousand_files_are_read() {
    let scratch = Scratch::new();
    let files: Vec<(String, String)> = (0..5_000)
        .map(|n| {
            (
                format!("sites/{}/{n}.yaml", n % 40),
                format!("n: {}", n % 50),
            )
        })
        .collect();
    let refs: Vec<(&str, &str)> = files.iter().map(|(p, t)| (&p[..], &t[..])).collect();
    let commit = scratch.commit(&refs);
    assert_eq!(read(&scratch, commit, None).unwrap().len(), 5_000);
}

#[test]
fn what_changed_between_commits_is_listed_within_the_folder() {
    let scratch = Scratch::new();
    let old = scratch.commit(&[("p/a.yaml", "1"), ("p/b.yaml", "1"), ("p/c.yaml", "1")]);
    let new = scratch.commit(&[
        ("p/a.yaml", "1"),
        ("p/b.yaml", "2"),
        ("p/d.yaml", "1"),
        ("q", ""),
    ]);
    let limits = Limits::default();
    let changed: Vec<_> = changed_files(&scratch.git, (old, new), Some("p"), &limits)
        .unwrap()
        .into_iter()
        .map(|c| (c.path, c.change))
        .collect();
    let wanted = [
        ("b.yaml".to_owned(), Change::Modified),
        ("c.yaml".to_owned(), Change::Removed),
        ("d.yaml".to_owned(), Change::Added),
    ];
    assert_eq!(changed, wanted);
    let listed = list_folder(&scratch.git, new, Some("p"), &limits).unwrap();
    assert_eq!(listed.len(), 3);
}

#[test]
fn the_folders_tree_id_survives_a_merge_that_changes_nothing_in_it() {
    let scratch = Scratch::new();
    let one = scratch.commit(&[("p/a.yaml", "1")]);
    let two = scratch.commit(&[("p/a.yaml", "1"), ("other.md", "x")]);
    let of = |commit| folder_tree(&scratch.git, commit, Some("p")).unwrap();
    assert_eq!(of(one), of(two));
    let error = folder_tree(&scratch.git, one, Some("gone")).unwrap_err();
    assert_eq!(error.to_string(), "there is no folder `gone`");
}

#[test]
fn the_last_commit_that_changed_a_file_is_found() {
    let scratch = Scratch::new();
    let first = scratch.commit(&[("a.yaml", "1"), ("b.yaml", "1")]);
    let second = scratch.commit(&[("a.yaml", "2"), ("b.yaml", "1")]);
    let tip = scratch.commit(&[("a.yaml", "2"), ("b.yaml", "1"), ("c.yaml", "1")]);
    let of = |path| {
        last_change(&scratch.git, tip, path, 100)
            .unwrap()
            .map(|c| c.id)
    };
    assert_eq!(of("a.yaml"), Some(second));
    assert_eq!(of("b.yaml"), Some(first));
    assert_eq!(of("gone.yaml"), None);
    let orphan = scratch.rewrite(&[("b.yaml", "1")]);
    let reopened = git2::Repository::open(&scratch.path).unwrap();
    let found = last_change(&reopened, orphan, "b.yaml", 100).unwrap();
    assert_eq!(found.map(|c| c.id), Some(orphan));
    let info = commit_info(&scratch.git, second).unwrap();
    assert_eq!(info.author, "Ada Admin");
    assert_eq!(info.when.0, 1_790_000_000_000);
    assert!(info.subject.starts_with("state "), "{}", info.subject);
}
