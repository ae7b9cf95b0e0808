//! The guard's log, written by a thread of its own: whoever kills never waits for a disk (H34).
//!
//! Lines go through a bounded queue and are dropped when it is full. The file that an agent gave
//! the guard as standard error is cut when it has grown too long.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Lines that wait for the disk.
const QUEUE: usize = 64;
/// The log is cut at this length.
pub(super) const FILE_BYTES: u64 = 256 * 1024;
/// How long the last lines may take.
const FLUSH: Duration = Duration::from_secs(1);
const STACK: usize = 128 * 1024;

enum Entry {
    Text(Vec<u8>),
    Flush(SyncSender<()>),
}

/// Where log lines go.
#[derive(Clone)]
struct Queue(SyncSender<Entry>);

/// Waits, when dropped, until what was logged is written; not for long.
pub struct Journal(SyncSender<Entry>);

/// Begins to log.
///
/// # Errors
/// When there can't be another thread.
pub fn start() -> io::Result<Journal> {
    let (sender, receiver) = sync_channel(QUEUE);
    thread::Builder::new()
        .name("journal".to_owned())
        .stack_size(STACK)
        .spawn(move || write_all(&receiver))?;
    let wanted = std::env::var("STEAD_LOG").ok();
    let filter: Targets = wanted
        .and_then(|wanted| wanted.parse().ok())
        .unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let lines = tracing_subscriber::fmt::layer()
        .with_target(false)
        .with_ansi(false)
        .with_writer(Queue(sender.clone()));
    tracing_subscriber::registry()
        .with(lines)
        .with(filter)
        .init();
    Ok(Journal(sender))
}

fn write_all(entries: &Receiver<Entry>) {
    let mut written = 0;
    while let Ok(entry) = entries.recv() {
        match entry {
            Entry::Text(text) => {
                if written >= FILE_BYTES {
                    // Only a file can be cut; a unit's journal bounds itself.
                    let _ = rustix::fs::ftruncate(io::stderr(), 0);
                    written = 0;
                }
                // Nobody is left to be told that a line could not be written.
                drop(io::stderr().write_all(&text));
                written += text.len() as u64;
            }
            Entry::Flush(done) => drop(done.try_send(())),
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let (done, wait) = sync_channel(1);
        if self.0.try_send(Entry::Flush(done)).is_ok() {
            // A disk that hangs keeps nobody here.
            let _ = wait.recv_timeout(FLUSH);
        }
    }
}

impl Write for Queue {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        // A full queue loses lines: see above.
        drop(self.0.try_send(Entry::Text(text.to_vec())));
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
