//! Archives: fetched once, checked by SHA-256, unpacked into `archives/DIGEST`.
//!
//! What is unpacked is exactly what the digest names, or nothing: the folder appears by one
//! rename. An archive is hostile until its digest is right, and after that still may not write
//! outside its folder: absolute names, `..`, links that lead outside, devices and entries behind
//! links are refused.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use flate2::read::GzDecoder;
use futures_util::StreamExt;
use sha2::{Digest as _, Sha256};
use tar::EntryType;
use thiserror::Error;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

/// Largest archive.
pub const ARCHIVE_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// Largest unpacked content.
const UNPACKED_MAX: u64 = 16 * 1024 * 1024 * 1024;
/// Most entries.
const ENTRIES_MAX: usize = 200_000;
/// For the whole transfer.
const FETCH: Duration = Duration::from_secs(30 * 60);
/// Without a byte for this long it is given up.
const STALL: Duration = Duration::from_secs(30);

/// Why there is no archive.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// The URL is of no kind we fetch.
    #[error("can't fetch {url}: only https://, http:// and file:// are known")]
    Scheme {
        /// The URL.
        url: String,
    },
    /// The transfer failed.
    #[error("can't fetch {url}")]
    Fetch {
        /// The URL.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The transfer took too long, or stood still.
    #[error("fetching {url} took too long")]
    Slow {
        /// The URL.
        url: String,
    },
    /// It is larger than any archive may be.
    #[error("{url} is larger than {max} bytes")]
    TooLarge {
        /// The URL.
        url: String,
        /// The bound.
        max: u64,
    },
    /// It is another archive.
    #[error("{url} is not the archive declared: its SHA-256 is {got}, declared is {declared}")]
    Digest {
        /// The URL.
        url: String,
        /// What it is.
        got: String,
        /// What it should be.
        declared: String,
    },
    /// It holds something that may not be unpacked.
    #[error("the archive holds {entry:?}, {why}; nothing of it was unpacked")]
    Hostile {
        /// The entry.
        entry: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Reading or writing failed.
    #[error("can't {what} {path}")]
    Disk {
        /// What.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The folder with the unpacked archive; fetched and unpacked if it is not there.
///
/// # Errors
/// [`ArchiveError`]; then nothing of it is left.
pub async fn ensure(archives: &Path, url: &str, sha256: &str) -> Result<PathBuf, ArchiveError> {
    let declared = sha256.to_ascii_lowercase();
    let home = archives.join(&declared);
    if home.is_dir() {
        return Ok(home);
    }
    let work = tempfile::Builder::new()
        .prefix(".fetch-")
        .tempdir_in(archives)
        .map_err(disk("make a folder in", archives))?;
    let file = work.path().join("archive.tar.gz");
    let got = timeout(FETCH, fetch(url, &file))
        .await
        .unwrap_or_else(|_| {
            Err(ArchiveError::Slow {
                url: url.to_owned(),
            })
        })?;
    if got != declared {
        return Err(ArchiveError::Digest {
            url: url.to_owned(),
            got,
            declared,
        });
    }
    let target = home.clone();
    let archives = archives.to_owned();
    tokio::task::spawn_blocking(move || {
        let unpacked = work.path().join("content");
        unpack(&file, &unpacked)?;
        match fs::rename(&unpacked, &target) {
            Ok(()) => {}
            // Another instance with the same archive was faster.
            Err(_) if target.is_dir() => {}
            Err(source) => return Err(disk("make", &target)(source)),
        }
        site_voting::durable::sync_folder(&archives).map_err(disk("sync", &archives))
    })
    .await
    .map_err(|error| disk("unpack into", &home)(io::Error::other(error)))??;
    Ok(home)
}

/// A program named by an archive's command, as a path within the archive.
#[must_use]
pub fn within_archive(program: &str) -> Option<PathBuf> {
    plain(Path::new(program)).filter(|path| !path.as_os_str().is_empty())
}

/// Removes every unpacked archive but these, and what interrupted fetches left.
pub fn retain(archives: &Path, keep: &BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(archives) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if !name.to_str().is_some_and(|name| keep.contains(name)) {
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}

async fn fetch(url: &str, file: &Path) -> Result<String, ArchiveError> {
    if let Some(path) = url.strip_prefix("file://") {
        return copy(url, Path::new(path), file).await;
    }
    if !url.starts_with("https://") && !url.starts_with("http://") {
        return Err(ArchiveError::Scheme {
            url: url.to_owned(),
        });
    }
    let failed = |source: reqwest::Error| ArchiveError::Fetch {
        url: url.to_owned(),
        source: source.without_url(),
    };
    let answer = crate::net::archive_client()
        .map_err(failed)?
        .get(url)
        .send()
        .await
        .and_then(reqwest::Response::error_for_status)
        .map_err(failed)?;
    within(url, answer.content_length().unwrap_or(0))?;
    let mut stream = answer.bytes_stream();
    let mut out = tokio::fs::File::create(file)
        .await
        .map_err(disk("write", file))?;
    let (mut hash, mut size) = (Sha256::new(), 0_u64);
    loop {
        let next = timeout(STALL, stream.next()).await;
        let Some(chunk) = next.map_err(|_| ArchiveError::Slow {
            url: url.to_owned(),
        })?
        else {
            break;
        };
        let chunk = chunk.map_err(failed)?;
        size += chunk.len() as u64;
        within(url, size)?;
        hash.update(&chunk);
        out.write_all(&chunk).await.map_err(disk("write", file))?;
    }
    out.flush().await.map_err(disk("write", file))?;
    Ok(hex(&hash.finalize()))
}

async fn copy(url: &str, from: &Path, to: &Path) -> Result<String, ArchiveError> {
    let (url, from, to) = (url.to_owned(), from.to_owned(), to.to_owned());
    let copied = tokio::task::spawn_blocking(move || {
        let mut source = File::open(&from).map_err(disk("read", &from))?;
        let metadata = source.metadata().map_err(disk("read", &from))?;
        within(&url, metadata.len())?;
        let mut target = File::create(&to).map_err(disk("write", &to))?;
        let mut hash = Sha256::new();
        let mut chunk = vec![0; 64 * 1024];
        let mut size = 0;
        loop {
            let read = source.read(&mut chunk).map_err(disk("read", &from))?;
            if read == 0 {
                return Ok(hex(&hash.finalize()));
            }
            size += read as u64;
            within(&url, size)?;
            hash.update(&chunk[..read]);
            io::Write::write_all(&mut target, &chunk[..read]).map_err(disk("write", &to))?;
        }
    });
    match copied.await {
        Ok(result) => result,
        Err(error) => Err(disk("copy to", Path::new("archive"))(io::Error::other(
            error,
        ))),
    }
}

fn within(url: &str, size: u64) -> Result<(), ArchiveError> {
    if size <= ARCHIVE_MAX {
        return Ok(());
    }
    Err(ArchiveError::TooLarge {
        url: url.to_owned(),
        max: ARCHIVE_MAX,
    })
}

/// Unpacks a tar.gz into `target`, which is made.
fn unpack(file: &Path, target: &Path) -> Result<(), ArchiveError> {
    fs::create_dir(target).map_err(disk("make", target))?;
    let opened = File::open(file).map_err(disk("read", file))?;
    let bounded = GzDecoder::new(opened).take(UNPACKED_MAX);
    let mut archive = tar::Archive::new(bounded);
    archive.set_preserve_permissions(false);
    archive.set_unpack_xattrs(false);
    let mut links = BTreeSet::new();
    let entries = archive.entries().map_err(disk("unpack", file))?;
    for (count, entry) in entries.enumerate() {
        let mut entry = entry.map_err(disk("unpack", file))?;
        let path = entry.path().map_err(disk("unpack", file))?.into_owned();
        let hostile = |why| ArchiveError::Hostile {
            entry: path.clone(),
            why,
        };
        if count >= ENTRIES_MAX {
            return Err(hostile("one entry too many"));
        }
        let kind = entry.header().entry_type();
        let link = entry.link_name().map_err(disk("unpack", file))?;
        judge(&path, kind, link.as_deref(), &mut links).map_err(hostile)?;
        let inside = entry.unpack_in(target).map_err(disk("unpack", file))?;
        if !inside {
            return Err(hostile("which leads outside"));
        }
    }
    Ok(())
}

/// Whether an entry may be unpacked. With no entry behind a link, and links that go up only at
/// their beginning, each link leads where its text says, which is inside.
fn judge(
    path: &Path,
    kind: EntryType,
    link: Option<&Path>,
    links: &mut BTreeSet<PathBuf>,
) -> Result<(), &'static str> {
    let clean = plain(path).ok_or("whose name is absolute or has `..`")?;
    if clean.ancestors().any(|above| links.contains(above)) {
        return Err("which lies behind a link");
    }
    match kind {
        EntryType::Regular
        | EntryType::Continuous
        | EntryType::Directory
        | EntryType::XGlobalHeader => Ok(()),
        EntryType::Symlink => {
            let link = link.ok_or("a link to nowhere")?;
            let depth = clean.components().count().saturating_sub(1);
            if !stays_inside(link, depth) {
                return Err("a link that leads outside");
            }
            links.insert(clean);
            Ok(())
        }
        EntryType::Link => {
            let target = link.and_then(plain).ok_or("a link that leads outside")?;
            if target.ancestors().any(|above| links.contains(above)) {
                return Err("a link to something behind a link");
            }
            Ok(())
        }
        _ => Err("which is neither file, folder nor link"),
    }
}

/// The path without `.`, if it is relative and has no `..`.
fn plain(path: &Path) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(clean)
}

/// Whether a link's text, in a folder `depth` deep, stays inside: `..` first only, and not too many.
fn stays_inside(link: &Path, depth: usize) -> bool {
    let (mut up, mut down) = (0, false);
    for part in link.components() {
        match part {
            Component::ParentDir if down => return false,
            Component::ParentDir => up += 1,
            Component::Normal(_) => down = true,
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    up <= depth
}

fn disk(what: &'static str, path: &Path) -> impl Fn(io::Error) -> ArchiveError + use<> {
    let path = path.to_owned();
    move |source| ArchiveError::Disk {
        what,
        path: path.clone(),
        source,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
