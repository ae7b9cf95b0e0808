//! Proof that the ledger's disk still takes writes: a small file, written as the ledger is (design
//! section 6). A holder renews on it, and a passive without it is not ready: its votes could not be kept.
//!
//! In a thread of its own, one at a time: a disk that stalls stalls nobody here, there just is no more
//! proof, and the lease runs out by itself. What follows from a proof is `attend`'s matter.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use site_lease::{Mono, Ms};
use site_voting::clock::boot_now;
use tokio::sync::mpsc;

/// The file's name in the state folder.
const FILE: &str = "progress";
const NEW: &str = ".progress.new";
/// A disk that has proven nothing for so many of the intervals at which it is asked does not answer.
const MISSED: u64 = 3;

/// The disk that the state folder is on.
#[derive(Debug)]
pub(super) struct Disk {
    ask: std::sync::mpsc::SyncSender<()>,
    proofs: mpsc::Receiver<io::Result<()>>,
    /// When it is asked next.
    due: Mono,
    /// How often it is asked.
    every: Ms,
    /// When it proved something last.
    proved: Mono,
    /// What it said instead.
    failed: Option<String>,
}

impl Disk {
    /// The disk that this folder is on, to be asked so often at first.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(folder: PathBuf, every: Ms) -> io::Result<Self> {
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
        let now = boot_now();
        Ok(Self {
            ask,
            proofs,
            due: now,
            every,
            proved: now,
            failed: None,
        })
    }

    /// When it is to be asked next.
    pub(super) const fn due(&self) -> Mono {
        self.due
    }

    /// It is asked at the next occasion, whenever it was last.
    pub(super) const fn hurry(&mut self, now: Mono) {
        self.due = now;
    }

    /// Asks for a proof if one is due. Nothing happens while the last one is still under way.
    pub(super) fn ask_when_due(&mut self, now: Mono, every: Ms) {
        if now < self.due {
            return;
        }
        self.due = now.plus(every);
        self.every = every;
        // Full: it is asked already. Closed: there are no proofs any more.
        self.ask.try_send(()).ok();
    }

    /// Whether the next answer is a proof. Cancel safe.
    pub(super) async fn answer(&mut self) -> bool {
        match self.proofs.recv().await {
            Some(answer) => self.note(answer, boot_now()),
            None => std::future::pending().await,
        }
    }

    fn note(&mut self, answer: io::Result<()>, now: Mono) -> bool {
        let proven = answer.is_ok();
        if proven {
            self.proved = now;
        }
        self.failed = answer.err().map(|error| error.to_string());
        proven
    }

    /// Why nothing can be made durable here now, in words.
    pub(super) fn flaw(&self, now: Mono) -> Option<String> {
        if let Some(why) = &self.failed {
            return Some(format!("the state folder takes no writes: {why}"));
        }
        let late = self.proved.plus(Ms(self.every.0 * MISSED)) < now;
        late.then(|| "the state folder's disk does not answer".to_owned())
    }
}

/// A new file in the place of the old one, as the ledger's: one that is only written over would be
/// taken by a full disk. What the names are after a crash does not matter, so the folder is not synced:
/// a busy disk has to answer once, not twice.
fn write(folder: &Path) -> io::Result<()> {
    let new = folder.join(NEW);
    let mut file = File::create(&new)?;
    file.write_all(b"progress\n")?;
    file.sync_all()?;
    fs::rename(new, folder.join(FILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_disk_that_takes_writes_is_proof_and_one_that_does_not_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let mut disk = Disk::start(dir.path().to_owned(), Ms(500)).unwrap();
        disk.ask_when_due(boot_now(), Ms(60_000));
        assert!(disk.answer().await);
        assert_eq!(disk.flaw(boot_now()), None);
        fs::remove_file(dir.path().join(FILE)).unwrap();
        fs::create_dir(dir.path().join(FILE)).unwrap();
        disk.hurry(boot_now());
        disk.ask_when_due(boot_now(), Ms(60_000));
        assert!(!disk.answer().await);
        assert!(disk.flaw(boot_now()).unwrap().contains("takes no writes"));
    }

    #[tokio::test]
    async fn a_disk_that_says_nothing_does_not_answer() {
        let dir = tempfile::tempdir().unwrap();
        let mut disk = Disk::start(dir.path().to_owned(), Ms(500)).unwrap();
        let asked = disk.proved;
        disk.ask_when_due(asked, Ms(500));
        assert_eq!(disk.due(), asked.plus(Ms(500)));
        assert_eq!(disk.flaw(asked.plus(Ms(1_500))), None);
        let flaw = disk.flaw(asked.plus(Ms(1_501)));
        assert!(flaw.unwrap().contains("does not answer"));
        disk.note(Ok(()), asked.plus(Ms(1_600)));
        assert_eq!(disk.flaw(asked.plus(Ms(1_700))), None);
    }
}
