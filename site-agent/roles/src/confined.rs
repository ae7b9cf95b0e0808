//! Files below one folder, and nothing else: every name is resolved by the kernel beneath the
//! folder's descriptor (`openat2` with `RESOLVE_BENEATH`), so that neither `..` nor a link, nor a
//! folder that is swapped for a link meanwhile, leads outside. Only regular files are opened.

use std::fs::{File, Metadata};
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};
use tower_http::services::fs::{Backend, File as ServedFile};

/// A folder that nothing is served from outside of.
#[derive(Debug, Clone)]
pub(crate) struct Confined {
    root: Arc<OwnedFd>,
}

type Later<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

impl Confined {
    /// The folder at `path`, which may itself be a link.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self {
            root: Arc::new(root),
        })
    }

    /// Whether the folder can be listed: what a health check asks.
    pub(crate) fn is_readable(&self) -> bool {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(&*self.root, ".", flags, Mode::empty()).is_ok()
    }

    fn beneath(&self, path: &Path, flags: OFlags) -> io::Result<File> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(
            &*self.root,
            path,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            how,
        )
        .map(File::from)
        // Links that lead outside, or in circles, are names that nothing is served under.
        .map_err(|error| match error {
            rustix::io::Errno::XDEV | rustix::io::Errno::LOOP => nothing(),
            other => other.into(),
        })
    }
}

fn nothing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Backend for Confined {
    type File = Content;
    type Metadata = Metadata;
    type OpenFuture = Later<'static, Content>;
    type MetadataFuture = Later<'static, Metadata>;

    fn open(&self, path: PathBuf) -> Self::OpenFuture {
        let this = self.clone();
        Box::pin(blocking(move || {
            // Not blocking: opening a pipe would wait for its writer.
            let file = this.beneath(&path, OFlags::RDONLY | OFlags::NONBLOCK)?;
            if !file.metadata()?.is_file() {
                return Err(nothing());
            }
            Ok(Content(tokio::fs::File::from_std(file)))
        }))
    }

    fn metadata(&self, path: PathBuf) -> Self::MetadataFuture {
        let this = self.clone();
        Box::pin(blocking(move || {
            this.beneath(&path, OFlags::PATH)?.metadata()
        }))
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(io::Error::other(error)),
    }
}

/// An open file of the folder.
#[derive(Debug)]
pub(crate) struct Content(tokio::fs::File);

impl ServedFile for Content {
    type Metadata = Metadata;
    type MetadataFuture<'a> = Later<'a, Metadata>;

    fn metadata(&self) -> Self::MetadataFuture<'_> {
        Box::pin(self.0.metadata())
    }
}

impl AsyncRead for Content {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncSeek for Content {
    fn start_seek(mut self: Pin<&mut Self>, position: io::SeekFrom) -> io::Result<()> {
        Pin::new(&mut self.0).start_seek(position)
    }

    fn poll_complete(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Pin::new(&mut self.0).poll_complete(cx)
    }
}
