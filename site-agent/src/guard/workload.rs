//! What the guard kills: the site server's cgroup, and whatever carries its mark.
//!
//! `cgroup.kill` and `cgroup.events` are open before they are needed, and opened anew when the
//! cgroup was made again; [`Workload::strike`] is one write to an open file (H34). Version 1 is
//! not used (see `processes::cgroup`): what its freezer holds dies when it is thawed, and until
//! then the fence is incomplete.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::process::Signal;

use crate::processes::cgroup::Cgroup;
use crate::processes::{self, procfs};

/// What is left of the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// Something lives.
    Some,
    /// Nothing was found, and there is no cgroup that would prove it.
    NoneFound,
    /// The cgroup is empty and nothing carries the mark.
    None,
}

/// The site server's workload.
#[derive(Debug)]
pub(super) struct Workload {
    cgroup: Option<Cgroup>,
    mark: procfs::Mark,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    /// Of the cgroup's folder, which is another after it was made again.
    inode: u64,
    kill: Option<File>,
    events: File,
}

impl Workload {
    pub(super) fn new(cgroup: Option<Cgroup>, mark: procfs::Mark) -> Self {
        let mut workload = Self {
            cgroup,
            mark,
            open: None,
        };
        workload.refresh();
        workload
    }

    /// Opens the files of the cgroup there is now, if it is another. Not on the kill path.
    pub(super) fn refresh(&mut self) {
        let Some(cgroup) = &self.cgroup else {
            return;
        };
        let Ok(folder) = cgroup.dir().metadata() else {
            return;
        };
        if self.open.as_ref().is_none_or(|o| o.inode != folder.ino()) {
            self.open = Open::of(cgroup.dir(), folder.ino()).ok();
        }
    }

    /// The kernel's number of the cgroup there is now; none: nothing was started yet.
    pub(super) fn number(&self) -> Option<u64> {
        self.open.as_ref().map(|open| open.inode)
    }

    /// Makes the cgroup for a moment and opens its files, so that the first blow goes the way of
    /// the one that counts, and what that needs is in memory.
    pub(super) fn rehearse(&mut self) {
        if let Some(cgroup) = &self.cgroup
            && cgroup.create().is_ok()
        {
            self.refresh();
            self.strike();
            // Only an empty one goes; otherwise it is struck until it is.
            self.cgroup.iter().for_each(Cgroup::remove);
        }
    }

    /// The kill: one write to a file that is open already.
    pub(super) fn strike(&self) {
        let struck = self.open.as_ref().is_some_and(Open::strike);
        if !struck && let Some(cgroup) = &self.cgroup {
            cgroup.kill();
        }
    }

    /// Kills what is left of it, by every way there is; what was left before that. Marks are looked
    /// for only once the cgroup is empty: reading another process's environment can hang, and then
    /// the cgroup has been struck.
    pub(super) fn sweep(&mut self) -> Left {
        self.refresh();
        if self.populated() {
            self.strike();
            return Left::Some;
        }
        let found = processes::orphans(self.cgroup.as_ref(), &self.mark);
        if found.is_empty() {
            return match self.cgroup {
                Some(_) => Left::None,
                None => Left::NoneFound,
            };
        }
        for pid in found {
            // One that may not be killed is found again.
            drop(processes::signal(pid, Signal::KILL));
        }
        Left::Some
    }

    fn populated(&self) -> bool {
        self.open.as_ref().is_some_and(Open::populated)
            || self.cgroup.as_ref().is_some_and(Cgroup::populated)
    }
}

impl Open {
    fn of(folder: &Path, inode: u64) -> io::Result<Self> {
        Ok(Self {
            inode,
            // Before Linux 5.14 there is none.
            kill: OpenOptions::new()
                .write(true)
                .open(folder.join("cgroup.kill"))
                .ok(),
            events: File::open(folder.join("cgroup.events"))?,
        })
    }

    fn strike(&self) -> bool {
        let kill = self.kill.as_ref();
        kill.is_some_and(|file| file.write_at(b"1", 0).is_ok())
    }

    /// A cgroup that was removed has no processes; one that can't be read may have.
    fn populated(&self) -> bool {
        let mut text = [0; 256];
        match self.events.read_at(&mut text, 0) {
            Ok(read) => !text[..read]
                .split(|byte| *byte == b'\n')
                .any(|line| line == b"populated 0"),
            Err(error) => error.raw_os_error() != Some(rustix::io::Errno::NODEV.raw_os_error()),
        }
    }
}
