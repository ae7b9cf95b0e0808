//! The distribution point over a real socket: ranges, tags, conditions, and nothing from outside.

#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

struct Point {
    dir: tempfile::TempDir,
    addr: SocketAddr,
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

impl Point {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let content = dir.path().join("content");
        fs::create_dir_all(content.join("sub")).unwrap();
        fs::write(content.join("file.bin"), "0123456789").unwrap();
        fs::write(content.join("sub/in.txt"), "inner").unwrap();
        fs::write(dir.path().join("outside.txt"), "outside").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let router = site_roles::distribution_point::router(&content).unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { dir, addr }
    }

    fn content(&self) -> std::path::PathBuf {
        self.dir.path().join("content")
    }

    /// One request on a connection of its own; the path goes out as it is written.
    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        Answer {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[]).await
    }
}

fn write_later(path: &Path, content: &str) {
    let before = fs::metadata(path).unwrap().modified().unwrap();
    fs::write(path, content).unwrap();
    let later = before + std::time::Duration::from_secs(5);
    fs::File::open(path).unwrap().set_modified(later).unwrap();
}

#[tokio::test]
async fn whole_files_have_a_strong_tag() {
    let point = Point::new().await;
    let whole = point.get("/file.bin").await;
    assert_eq!((whole.status, whole.body.as_str()), (200, "0123456789"));
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    let tag = whole.header("etag").unwrap();
    assert!(tag.starts_with('"'), "strong: {tag}");
    let head = point.ask("HEAD", "/file.bin", &[]).await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(head.header("etag"), Some(tag));
    assert_eq!(head.header("content-length"), Some("10"));
    let same = point
        .ask("GET", "/file.bin", &[("If-None-Match", tag)])
        .await;
    assert_eq!((same.status, same.body.as_str()), (304, ""));
    write_later(&point.content().join("file.bin"), "0123456780");
    let changed = point
        .ask("GET", "/file.bin", &[("If-None-Match", tag)])
        .await;
    assert_eq!((changed.status, changed.body.as_str()), (200, "0123456780"));
}

#[tokio::test]
async fn parts_of_files() {
    let point = Point::new().await;
    for (range, status, body) in [
        ("bytes=2-4", 206, "234"),
        ("bytes=7-", 206, "789"),
        ("bytes=-3", 206, "789"),
        ("bytes=0-999", 206, "0123456789"),
        ("bytes=0-1,5-6", 200, "0123456789"),
    ] {
        let part = point.ask("GET", "/file.bin", &[("Range", range)]).await;
        assert_eq!((part.status, part.body.as_str()), (status, body), "{range}");
    }
    let past = point
        .ask("GET", "/file.bin", &[("Range", "bytes=10-")])
        .await;
    assert_eq!(past.status, 416);
    assert_eq!(past.header("content-range"), Some("bytes */10"));
}

#[tokio::test]
async fn a_download_goes_on_only_with_the_same_content() {
    let point = Point::new().await;
    let tag = point
        .get("/file.bin")
        .await
        .header("etag")
        .unwrap()
        .to_owned();
    let range = ("Range", "bytes=5-");
    let on = point
        .ask("GET", "/file.bin", &[range, ("If-Range", &tag)])
        .await;
    assert_eq!((on.status, on.body.as_str()), (206, "56789"));
    write_later(&point.content().join("file.bin"), "abcdefghij");
    let anew = point
        .ask("GET", "/file.bin", &[range, ("If-Range", &tag)])
        .await;
    assert_eq!((anew.status, anew.body.as_str()), (200, "abcdefghij"));
    let weak = format!("W/{}", point.get("/file.bin").await.header("etag").unwrap());
    for validator in [weak.as_str(), "Mon, 23 Nov 2026 13:00:00 GMT"] {
        let whole = point
            .ask("GET", "/file.bin", &[range, ("If-Range", validator)])
            .await;
        assert_eq!(whole.status, 200, "{validator} is no strong validator");
    }
}

#[tokio::test]
async fn nothing_from_outside() {
    let point = Point::new().await;
    let content = point.content();
    symlink("../outside.txt", content.join("link")).unwrap();
    symlink(
        point.dir.path().join("outside.txt"),
        content.join("absolute"),
    )
    .unwrap();
    symlink("..", content.join("up")).unwrap();
    symlink("loop", content.join("loop")).unwrap();
    symlink("file.bin", content.join("inside")).unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(content.join("pipe"))
        .status()
        .unwrap();
    assert!(made.success());
    for path in [
        "/../outside.txt",
        "/sub/../../outside.txt",
        "/%2e%2e/outside.txt",
        "/..%2foutside.txt",
        "/link",
        "/absolute",
        "/up/outside.txt",
        "/loop",
        "/pipe",
        "//etc/passwd",
        "/sub",
        "/sub/",
        "/",
        "/none",
        "/file.bin/x",
    ] {
        let answer = point.get(path).await;
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
        assert!(!answer.body.contains("outside"));
    }
    assert_eq!(point.get("/inside").await.body, "0123456789");
    assert_eq!(point.get("/sub/in.txt").await.body, "inner");
}

#[tokio::test]
async fn it_takes_nothing() {
    let point = Point::new().await;
    for method in ["POST", "PUT", "DELETE"] {
        assert_eq!(point.ask(method, "/file.bin", &[]).await.status, 405);
    }
}

#[tokio::test]
async fn health_looks_at_the_folder() {
    let point = Point::new().await;
    let well = point.get("/health").await;
    assert_eq!(well.status, 200);
    assert!(well.body.contains("distributionPoint"));
    fs::remove_dir_all(point.content()).unwrap();
    // The open folder is still there without a name, and lists as empty: its content is gone.
    assert_eq!(point.get("/file.bin").await.status, 404);
    let none = site_roles::distribution_point::router(&point.content());
    assert!(
        none.is_err(),
        "a folder that is not there is an error at the start"
    );
}
