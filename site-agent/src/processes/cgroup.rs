//! One cgroup (version 2) an instance: nothing leaves it, and one write kills all of it (H10).
//!
//! Version 1 is not used: its freezer makes killing slower and no surer. Where version 2 is not
//! mounted or may not be written to, instances run without, and trees are found by descent.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

/// Where version 2 is mounted: alone, or beside version 1.
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// The folder that all of Stead's cgroups are below.
pub const TOP: &str = "stead";
/// How often a folder above is made again that another keeper's end has just removed.
const REMADE: usize = 20;

/// A version 2 cgroup, there or not yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    dir: PathBuf,
}

/// The folder `below` of the version 2 hierarchy, if that is mounted and the folder can be made.
/// It is not left there: keepers make what they need.
#[must_use]
pub fn usable(below: &str) -> Option<PathBuf> {
    let dir = mount()?.join(below);
    let cgroup = Cgroup::at(dir);
    cgroup.create().ok()?;
    cgroup.remove();
    Some(cgroup.dir)
}

fn mount() -> Option<PathBuf> {
    MOUNTS
        .iter()
        .map(PathBuf::from)
        .find(|dir| dir.join("cgroup.controllers").exists())
}

/// The cgroup this process is in.
///
/// # Errors
/// When version 2 is not mounted.
pub fn own() -> io::Result<Cgroup> {
    let text = fs::read_to_string("/proc/self/cgroup")?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
    let root = mount();
    let (Some(path), Some(root)) = (path, root) else {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "no version 2 cgroup is mounted",
        ));
    };
    Ok(Cgroup {
        dir: root.join(path),
    })
}

impl Cgroup {
    /// The cgroup in this folder of the cgroup file system.
    #[must_use]
    pub const fn at(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Its folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// How many folders below the mount it is.
    #[must_use]
    pub fn depth(&self) -> usize {
        let below = mount().and_then(|mount| {
            let below = self.dir.strip_prefix(mount).ok()?;
            Some(below.components().count())
        });
        below.unwrap_or_default()
    }

    /// Makes it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn create(&self) -> io::Result<()> {
        let mut made = fs::create_dir_all(&self.dir);
        for _ in 0..REMADE {
            match &made {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    made = fs::create_dir_all(&self.dir);
                }
                Ok(()) | Err(_) => break,
            }
        }
        made
    }

    /// Moves this process into it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn enter(&self) -> io::Result<()> {
        fs::write(self.dir.join("cgroup.procs"), "0")
    }

    /// Whether any process is in it or below it. One that does not exist is empty; one that
    /// can't be read is not.
    #[must_use]
    pub fn populated(&self) -> bool {
        match fs::read_to_string(self.dir.join("cgroup.events")) {
            Ok(text) => !text.lines().any(|line| line == "populated 0"),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    /// The processes in it and below it, as far as they can be read.
    #[must_use]
    pub fn members(&self) -> Vec<u32> {
        let mut found = Vec::new();
        for dir in self.tree() {
            if let Ok(text) = fs::read_to_string(dir.join("cgroup.procs")) {
                found.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
            }
        }
        found.retain(|pid| *pid != 0);
        found
    }

    /// Kills everything in it, frozen processes included. Whether that worked is seen in
    /// [`Cgroup::populated`] only.
    pub fn kill(&self) {
        if fs::write(self.dir.join("cgroup.kill"), "1").is_ok() {
            return;
        }
        // Before Linux 5.14 there is no `cgroup.kill`.
        for pid in self.members() {
            drop(super::signal(pid, Signal::KILL));
        }
    }

    /// Removes it, what the instance made below it, and what stands above it for it alone; what is
    /// in use stays.
    pub fn remove(&self) {
        for dir in self.tree().into_iter().rev() {
            // Busy or gone: the next one who uses or cleans this name sees it again.
            drop(fs::remove_dir(dir));
        }
        let ours = |dir: &&Path| dir.components().any(|part| part.as_os_str() == TOP);
        for above in self.dir.ancestors().skip(1).take_while(ours) {
            drop(fs::remove_dir(above));
        }
    }

    /// This folder and all below, parents first.
    fn tree(&self) -> Vec<PathBuf> {
        let mut found = vec![self.dir.clone()];
        let mut next = 0;
        while let Some(dir) = found.get(next).cloned() {
            next += 1;
            let Ok(entries) = fs::read_dir(dir) else {
                continue;
            };
            for entry in entries.flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    found.push(entry.path());
                }
            }
        }
        found
    }
}
