//! The command as typed, the files it leaves, and what it says.

use std::error::Error as _;
use std::os::unix::fs::PermissionsExt;

use clap::Parser;
use stead_schemas::declared::settings::TlsFiles;
use stead_wire::material::Material;

use super::*;

const NOW: WallMs = WallMs(1_795_435_200_000);

#[derive(Debug, Parser)]
struct Typed {
    #[command(flatten)]
    args: Args,
}

fn typed(words: &[&str]) -> Result<Typed, clap::Error> {
    Typed::try_parse_from(std::iter::once("pki").chain(words.iter().copied()))
}

fn pki(words: &[&str]) -> Result<String, Error> {
    match typed(words).unwrap().args.command {
        Command::Files(files) => make(&files, NOW),
        Command::Token(_) => panic!("it asks a reconciler"),
    }
}

/// The whole chain, as the printer shows it.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        write!(text, ": {error}").unwrap();
        next = error.source();
    }
    text
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn init_and_issue_leave_files_that_an_agent_can_load() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("pki").display().to_string();
    let out = scratch.path().join("out").display().to_string();
    let made = pki(&["init", "--dir", &dir, "--hierarchy", "contoso"]).unwrap();
    assert!(made.starts_with("created      CA of contoso\n"), "{made}");
    let address = ["--address", "10.1.0.11", "--address", "2001:db8::1"];
    let mut words = vec!["issue", "--dir", &dir, "server", "p01-a", "--out", &out];
    words.extend(address);
    let made = pki(&words).unwrap();
    let masked: Vec<String> = made
        .replace(&scratch.path().display().to_string(), "/X")
        .lines()
        .map(|line| match line.find("sha256:") {
            Some(at) => format!("{}…{}", &line[..at + 7], line.len() - at - 7),
            None => line.to_owned(),
        })
        .collect();
    assert_eq!(
        masked.join("\n"),
        "created      stead://contoso/server/p01-a\n\
         certificate  /X/out/server-p01-a.crt\n\
         key          /X/out/server-p01-a.key\n\
         CA           /X/out/ca.crt\n\
         fingerprint  sha256:…64\n\
         valid        from 2026-11-22 12:00Z until 2027-02-21 12:00Z\n\
         next         name the three files under `tls` of the server's AgentConfig"
    );
    let out = Path::new(&out);
    assert_eq!(
        names(out),
        ["ca.crt", "server-p01-a.crt", "server-p01-a.key"]
    );
    let key = out.join("server-p01-a.key");
    assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let loaded = Material::load(&TlsFiles {
        ca: out.join("ca.crt"),
        cert: out.join("server-p01-a.crt"),
        key,
    })
    .unwrap();
    assert_eq!(
        loaded.identity().to_string(),
        "stead://contoso/server/p01-a"
    );
}

#[test]
fn a_second_time_is_refused_and_leaves_everything_as_it_was() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().display().to_string();
    let init = ["init", "--dir", &dir, "--hierarchy", "contoso"];
    let issue = ["issue", "--dir", &dir, "operator", "ann"];
    pki(&init).unwrap();
    pki(&issue).unwrap();
    let read = |name: &str| std::fs::read(scratch.path().join(name)).unwrap();
    let files = names(scratch.path());
    let before: Vec<_> = files.iter().map(|name| read(name)).collect();
    for again in [&init, &issue] {
        let text = chain(&pki(again).unwrap_err());
        assert!(text.contains("exists and is not overwritten"), "{text}");
    }
    assert_eq!(names(scratch.path()), files);
    let after: Vec<_> = files.iter().map(|name| read(name)).collect();
    assert_eq!(before, after);
}

#[test]
fn errors_name_place_cause_and_remedy() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().display().to_string();
    let text = chain(&pki(&["issue", "--dir", &dir, "server", "p01-a"]).unwrap_err());
    assert!(
        text.contains("ca.crt") && text.contains("stead pki init"),
        "{text}"
    );
    pki(&["init", "--dir", &dir, "--hierarchy", "contoso"]).unwrap();
    std::fs::write(scratch.path().join("ca.key"), "not a key").unwrap();
    let text = chain(&pki(&["issue", "--dir", &dir, "server", "p01-a"]).unwrap_err());
    assert!(text.contains("its key can't be read"), "{text}");
    assert_eq!(names(scratch.path()), ["ca.crt", "ca.key"]);
    for words in [
        vec!["init", "--dir", &dir, "--hierarchy", "Contoso!"],
        vec!["issue", "--dir", &dir, "server", "P01_A"],
        vec!["issue", "--dir", &dir, "printer", "p01-a"],
        vec![
            "issue",
            "--dir",
            &dir,
            "server",
            "p01-a",
            "--address",
            "10.1.0",
        ],
    ] {
        assert!(typed(&words).is_err(), "{words:?}");
    }
}

#[test]
fn another_cas_certificate_in_the_way_stops_before_a_key_is_written() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = |name: &str| scratch.path().join(name).display().to_string();
    for name in ["one", "two"] {
        pki(&["init", "--dir", &dir(name), "--hierarchy", "contoso"]).unwrap();
    }
    let before = names(&scratch.path().join("two"));
    let words = [
        "issue",
        "--dir",
        &dir("one"),
        "server",
        "a",
        "--out",
        &dir("two"),
    ];
    assert!(pki(&words).is_err());
    assert_eq!(names(&scratch.path().join("two")), before);
}
