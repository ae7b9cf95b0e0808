//! What of an archive is unpacked, and what is refused.

use super::*;
use std::os::unix::fs::PermissionsExt;

enum Made<'a> {
    File(&'a str, &'a str),
    Symlink(&'a str, &'a str),
    Hard(&'a str, &'a str),
    Pipe(&'a str),
}

fn header(kind: EntryType, name: &str) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    // Written raw: the crate itself would refuse to name what a hostile archive names.
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o4755);
    header
}

fn tarball(entries: &[Made<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(
        Vec::new(),
        flate2::Compression::fast(),
    ));
    for entry in entries {
        let (mut header, content) = match entry {
            Made::File(name, content) => (header(EntryType::Regular, name), *content),
            Made::Symlink(name, to) | Made::Hard(name, to) => {
                let kind = match entry {
                    Made::Symlink(..) => EntryType::Symlink,
                    _ => EntryType::Link,
                };
                let mut header = header(kind, name);
                header.as_mut_bytes()[157..157 + to.len()].copy_from_slice(to.as_bytes());
                (header, "")
            }
            Made::Pipe(name) => (header(EntryType::Fifo, name), ""),
        };
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

struct Place {
    dir: tempfile::TempDir,
    url: String,
    sha: String,
}

fn place(bytes: &[u8]) -> Place {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("archives")).unwrap();
    let file = dir.path().join("a.tar.gz");
    fs::write(&file, bytes).unwrap();
    Place {
        url: format!("file://{}", file.display()),
        sha: hex(&Sha256::digest(bytes)),
        dir,
    }
}

impl Place {
    async fn ensure(&self, sha: &str) -> Result<PathBuf, ArchiveError> {
        ensure(&self.archives(), &self.url, sha).await
    }

    fn archives(&self) -> PathBuf {
        self.dir.path().join("archives")
    }

    fn left(&self) -> usize {
        fs::read_dir(self.archives()).unwrap().count()
    }
}

#[tokio::test]
async fn what_the_digest_names_is_unpacked_once() {
    let place = place(&tarball(&[
        Made::File("bin/run", "#!/bin/sh\n"),
        Made::Symlink("bin/alias", "run"),
        Made::Symlink("lib/up", "../bin/run"),
        Made::Hard("bin/hard", "bin/run"),
    ]));
    let home = place.ensure(&place.sha.to_uppercase()).await.unwrap();
    let mode = fs::metadata(home.join("bin/run"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7000, 0, "no set-uid from an archive");
    assert_ne!(mode & 0o100, 0);
    assert_eq!(
        fs::read_to_string(home.join("lib/up")).unwrap(),
        "#!/bin/sh\n"
    );
    fs::remove_file(place.url.strip_prefix("file://").unwrap()).unwrap();
    assert_eq!(
        place.ensure(&place.sha).await.unwrap(),
        home,
        "not fetched again"
    );
    retain(&place.archives(), &BTreeSet::new());
    assert_eq!(place.left(), 0);
}

#[tokio::test]
async fn another_digest_is_refused_and_leaves_nothing() {
    let place = place(&tarball(&[Made::File("run", "x")]));
    let error = place.ensure(&"0".repeat(64)).await.unwrap_err();
    assert!(matches!(error, ArchiveError::Digest { .. }), "{error}");
    assert!(error.to_string().contains(&place.sha));
    assert_eq!(place.left(), 0);
}

#[tokio::test]
async fn nothing_is_written_outside() {
    let hostile: [&[Made<'_>]; 9] = [
        &[Made::File("../evil", "x")],
        &[Made::File("a/../../evil", "x")],
        &[Made::File("/tmp/evil", "x")],
        &[Made::Symlink("out", "/etc")],
        &[Made::Symlink("a/out", "../../etc")],
        &[
            Made::Symlink("a/b/d", "../.."),
            Made::Symlink("e", "a/b/d/../x"),
        ],
        &[Made::Symlink("s", "a"), Made::File("s/evil", "x")],
        &[Made::Hard("h", "../../etc/passwd")],
        &[Made::Pipe("p")],
    ];
    for (number, entries) in hostile.into_iter().enumerate() {
        let mut whole = vec![Made::File("good", "x")];
        whole.extend(entries.iter().map(|entry| match entry {
            Made::File(a, b) => Made::File(a, b),
            Made::Symlink(a, b) => Made::Symlink(a, b),
            Made::Hard(a, b) => Made::Hard(a, b),
            Made::Pipe(a) => Made::Pipe(a),
        }));
        let place = place(&tarball(&whole));
        let error = place.ensure(&place.sha).await.unwrap_err();
        assert!(
            matches!(error, ArchiveError::Hostile { .. }),
            "{number}: {error:?}"
        );
        assert_eq!(place.left(), 0, "{number}: nothing half done");
        assert!(!place.dir.path().join("evil").exists());
    }
}

#[tokio::test]
async fn what_is_no_archive_says_so() {
    let place = place(b"not gzip at all");
    let error = place.ensure(&place.sha).await.unwrap_err();
    assert!(matches!(error, ArchiveError::Disk { .. }), "{error:?}");
    assert_eq!(place.left(), 0);
    let ftp = ensure(&place.archives(), "ftp://x/y", &place.sha).await;
    assert!(matches!(ftp, Err(ArchiveError::Scheme { .. })));
}
