//! Reading `/proc`: parents, start times, boot id, and the mark every instance process carries.
//!
//! A process is known by pid, start time and boot id together, so that a pid used again is never
//! mistaken for the old process. Processes that end while they are read are simply not there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Environment variable with the instance, `P01/web@p01-a`, set for every instance process.
pub const INSTANCE_VAR: &str = "STEAD_INSTANCE";
/// Environment variable with the agent's state folder, set for keepers and instance processes.
pub const STATE_VAR: &str = "STEAD_STATE";

/// Largest environment read while looking for marks: what Linux allows by default.
const ENVIRON_MAX: usize = 2 * 1024 * 1024;

/// One line of `/proc/PID/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// The process.
    pub pid: u32,
    /// Its parent.
    pub parent: u32,
    /// `R`, `S`, `Z`...
    pub state: u8,
    /// When it started, in clock ticks since boot.
    pub start: u64,
}

impl Stat {
    /// Whether it has ended and only waits for its parent to notice.
    #[must_use]
    pub const fn ended(&self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }
}

/// What an instance process says about itself in its environment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// The state folder of the agent it belongs to.
    pub state: PathBuf,
    /// The instance.
    pub instance: String,
}

/// A process that carries a mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marked {
    /// The process.
    pub pid: u32,
    /// Its mark.
    pub mark: Mark,
}

/// The process with this id, if there is one.
#[must_use]
pub fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(pid, &text)
}

/// Every process.
#[must_use]
pub fn all() -> Vec<Stat> {
    pids().into_iter().filter_map(stat).collect()
}

/// All living processes below `root`, without itself.
#[must_use]
pub fn descendants(root: u32) -> Vec<Stat> {
    let all = all();
    let mut family = BTreeSet::from([root]);
    let mut found = Vec::new();
    // Parents may stand after their children: repeat until a round finds nobody new.
    loop {
        let before = family.len();
        for one in &all {
            if family.contains(&one.parent) && family.insert(one.pid) && !one.ended() {
                found.push(*one);
            }
        }
        if family.len() == before {
            return found;
        }
    }
}

/// This boot of the machine.
#[must_use]
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

/// Every living process marked with this state folder, in our pid namespace. Processes of
/// another user stay unseen, as do those that replaced their environment (H10: a cgroup finds
/// these, where there is one).
#[must_use]
pub fn marked(state: &Path) -> Vec<Marked> {
    let own = fs::read_link("/proc/self/ns/pid").ok();
    let me = std::process::id();
    pids()
        .into_iter()
        .filter(|pid| *pid != me)
        .filter_map(|pid| mark_of(pid).map(|mark| Marked { pid, mark }))
        .filter(|one| one.mark.state == state)
        .filter(|one| fs::read_link(format!("/proc/{}/ns/pid", one.pid)).ok() == own)
        .filter(|one| stat(one.pid).is_some_and(|stat| !stat.ended()))
        .collect()
}

fn mark_of(pid: u32) -> Option<Mark> {
    let environ = fs::read(format!("/proc/{pid}/environ")).ok()?;
    if environ.len() > ENVIRON_MAX {
        return None;
    }
    let value = |name: &str| {
        environ.split(|byte| *byte == 0).find_map(|entry| {
            let rest = entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            String::from_utf8(rest.to_vec()).ok()
        })
    };
    Some(Mark {
        state: PathBuf::from(value(STATE_VAR)?),
        instance: value(INSTANCE_VAR)?,
    })
}

fn pids() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// The name may hold spaces and parentheses; fields count from the last closing one (proc(5)).
fn parse_stat(pid: u32, text: &[u8]) -> Option<Stat> {
    let after = text.iter().rposition(|byte| *byte == b')')? + 1;
    let text = std::str::from_utf8(text.get(after..)?).ok()?;
    let mut fields = text.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let parent = fields.next()?.parse().ok()?;
    // Field 22; state was field 3 and parent 4.
    let start = fields.nth(17)?.parse().ok()?;
    Some(Stat {
        pid,
        parent,
        state,
        start,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_is_read_past() {
        let text = b"42 (a) b (c)) S 7 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 98765 0 0";
        let read = parse_stat(42, text).unwrap();
        assert_eq!(
            read,
            Stat {
                pid: 42,
                parent: 7,
                state: b'S',
                start: 98_765
            }
        );
    }

    #[test]
    fn this_test_descends_from_its_parent() {
        let me = stat(std::process::id()).unwrap();
        assert!(
            descendants(me.parent).iter().any(|one| one.pid == me.pid),
            "H10: the walk finds every descendant"
        );
    }

    #[test]
    fn torn_lines_are_no_process() {
        assert_eq!(parse_stat(1, b"1 (x"), None);
        assert_eq!(parse_stat(1, b"1 (x) S 1"), None);
    }
}
