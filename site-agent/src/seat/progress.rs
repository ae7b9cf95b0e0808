//! Proof that the ledger's disk still takes writes: a small file, written and synced (design section 6).
//!
//! In a thread of its own, one at a time: a disk that stalls stalls nobody here, there just is no more
//! proof, and the lease runs out by itself.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use tokio::sync::mpsc;

/// The file's name in the state folder.
const FILE: &str = "progress";

/// Writes on request.
#[derive(Debug)]
pub(super) struct Probe {
    ask: std::sync::mpsc::SyncSender<()>,
    proofs: mpsc::Receiver<io::Result<()>>,
}

impl Probe {
    /// A probe of the disk that this folder is on.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(folder: PathBuf) -> io::Result<Self> {
        let (ask, asked) = std::sync::mpsc::sync_channel(1);
        let (proved, proofs) = mpsc::channel(1);
        std::thread::Builder::new()
            .name("progress".to_owned())
            .stack_size(128 * 1024)
            .spawn(move || {
                while asked.recv().is_ok() {
                    if proved.blocking_send(write(&folder)).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self { ask, proofs })
    }

    /// Asks for a proof; nothing happens while the last one is still under way.
    pub(super) fn ask(&self) {
        // Full: it is asked already. Closed: there are no proofs any more.
        self.ask.try_send(()).ok();
    }

    /// The next proof, or why there is none. Cancel safe.
    pub(super) async fn proof(&mut self) -> io::Result<()> {
        match self.proofs.recv().await {
            Some(proof) => proof,
            None => std::future::pending().await,
        }
    }
}

fn write(folder: &std::path::Path) -> io::Result<()> {
    let mut file = File::create(folder.join(FILE))?;
    file.write_all(b"progress\n")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_disk_that_takes_writes_is_proof_and_one_that_does_not_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let mut probe = Probe::start(dir.path().to_owned()).unwrap();
        probe.ask();
        probe.proof().await.unwrap();
        std::fs::remove_file(dir.path().join(FILE)).unwrap();
        std::fs::create_dir(dir.path().join(FILE)).unwrap();
        probe.ask();
        probe.proof().await.unwrap_err();
    }
}
