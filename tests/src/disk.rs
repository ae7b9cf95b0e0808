//! A small disk of its own under a folder: a file system in a file, which can be full, or stand still
//! as a stalled disk does. Gone with what is on it when the value is dropped.
//!
//! Needs root and `mkfs.ext4`. Whoever waits for a disk that stands still can't be killed: it goes on,
//! or dies, once the disk does.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::hosts::run;

/// Room for a server's state.
const BYTES: u64 = 24 * 1024 * 1024;
/// How often whoever fills it looks for room.
const GREED: Duration = Duration::from_millis(10);
static CHUNK: [u8; 256 * 1024] = [0; 256 * 1024];

/// A mounted disk.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
    frozen: bool,
    greedy: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
    /// Folders below that are on another disk.
    spared: Vec<PathBuf>,
}

impl Disk {
    /// Makes one in the file `image` and mounts it at `folder`, which is made.
    ///
    /// # Panics
    /// When the machine can't.
    #[must_use]
    pub fn mount(image: &Path, folder: &Path) -> Self {
        let made = File::create(image).and_then(|file| file.set_len(BYTES));
        made.expect("a file for a disk");
        fs::create_dir_all(folder).expect("a folder");
        // No blocks that only root may take: everything here is root.
        run("mkfs.ext4", &["-q", "-m", "0", &text(image)]);
        run("mount", &["-o", "loop", &text(image), &text(folder)]);
        Self {
            folder: folder.to_owned(),
            frozen: false,
            greedy: None,
            spared: Vec::new(),
        }
    }

    /// Puts what is in this folder of it at `elsewhere`.
    ///
    /// # Panics
    /// When the machine can't.
    pub fn spare(&mut self, name: &str, elsewhere: &Path) {
        let folder = self.folder.join(name);
        for each in [&folder, &elsewhere.to_owned()] {
            fs::create_dir_all(each).expect("a folder");
        }
        run("mount", &["--bind", &text(elsewhere), &text(&folder)]);
        self.spared.push(folder);
    }

    /// From now on somebody takes every block that is free, and every one that becomes so.
    ///
    /// # Panics
    /// When it is full already.
    pub fn fill(&mut self) {
        let folder = self.filler();
        fs::create_dir(&folder).expect("there is room");
        let (stop, stopped) = mpsc::channel::<()>();
        let greedy = std::thread::spawn(move || {
            while write_all(&folder.join("most"), &CHUNK) {}
            // The last blocks are refused to large writes and given to small ones.
            let mut files = 0;
            while stopped.recv_timeout(GREED) == Err(RecvTimeoutError::Timeout) {
                while write_all(&folder.join(format!("{files}")), b"x") {
                    files += 1;
                }
            }
        });
        self.greedy = Some((stop, greedy));
    }

    /// Gives the room back.
    ///
    /// # Panics
    /// When it was not filled.
    pub fn clear(&mut self) {
        self.sate();
        fs::remove_dir_all(self.filler()).expect("it was filled");
    }

    fn sate(&mut self) {
        if let Some((stop, greedy)) = self.greedy.take() {
            drop(stop);
            greedy.join().ok();
        }
    }

    fn filler(&self) -> PathBuf {
        self.folder.join("filler")
    }

    /// Nothing is written any more, and whoever writes waits.
    ///
    /// # Panics
    /// When the machine can't.
    pub fn freeze(&mut self) {
        run("fsfreeze", &["-f", &text(&self.folder)]);
        self.frozen = true;
    }

    /// It goes on, if it stood still.
    pub fn thaw(&mut self) {
        if std::mem::take(&mut self.frozen) {
            run("fsfreeze", &["-u", &text(&self.folder)]);
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.thaw();
        self.sate();
        for folder in self.spared.iter().chain([&self.folder]) {
            // Lazily: it is gone once the last process that is dying has let go of it.
            let done = Command::new("umount").arg("-l").arg(folder).output();
            if let Ok(done) = done
                && !done.status.success()
            {
                eprintln!("{}", String::from_utf8_lossy(&done.stderr));
            }
        }
    }
}

/// Appends this, to the disk itself; whether there was room.
fn write_all(path: &Path, bytes: &[u8]) -> bool {
    let file = File::options().append(true).create(true).open(path);
    file.and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .is_ok()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
