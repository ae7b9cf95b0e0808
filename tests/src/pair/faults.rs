//! Faults at one server of the pair, and how each is taken back.
//!
//! What may be broken without breaking the test itself: the machine's clocks are one kernel's and stay
//! as they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use super::{Pair, SERVERS};
use crate::processes::signal;

/// One fault. The numbers are those of the failure matrix (failover-anchors, section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// 1: the agent is killed.
    AgentKilled,
    /// 2, 3: the site server is killed.
    SiteServerKilled,
    /// The guard is killed, alone.
    GuardKilled,
    /// 13: everything of the server is killed at once.
    ServerKilled,
    /// 4: the agent is stopped for longer than a lease, and goes on.
    AgentFrozen,
    /// 5: the site server is stopped for longer than a lease, and goes on.
    SiteServerFrozen,
    /// 15: everything of the server is stopped for longer than a lease, and goes on.
    ServerFrozen,
    /// 20: no packet reaches or leaves the server.
    Cut,
    /// 21: the server is heard and hears nothing of the other candidate and the witness.
    Deaf,
    /// 21: the server hears and is not heard.
    Mute,
    /// 22: the candidates don't see each other; both see the witness.
    Bridge,
    /// 26: the link comes and goes.
    Flapping,
    /// 6: the agent is asked to end.
    AgentTerminated,
    /// 9: everything of every server is killed at once.
    AllKilled,
    /// 24: the witness, and the store on it, are cut off for a moment.
    WitnessCut,
    /// 12: the site server is killed, and does not start again.
    StartFails,
    /// 33: the server's disk is full.
    DiskFull,
    /// 34: the server's disk stalls.
    DiskStalled,
}

impl Fault {
    /// All of them; those of disks are for a pair that was started on disks.
    pub const ALL: [Self; 18] = [
        Self::AgentKilled,
        Self::SiteServerKilled,
        Self::GuardKilled,
        Self::ServerKilled,
        Self::AgentFrozen,
        Self::SiteServerFrozen,
        Self::ServerFrozen,
        Self::Cut,
        Self::Deaf,
        Self::Mute,
        Self::Bridge,
        Self::Flapping,
        Self::AgentTerminated,
        Self::AllKilled,
        Self::WitnessCut,
        Self::StartFails,
        Self::DiskFull,
        Self::DiskStalled,
    ];
}

impl Pair {
    /// Breaks something at a server, for so long where it lasts, and takes it back. What was killed is
    /// started again as its machine would.
    pub fn suffer(&mut self, fault: Fault, server: &str, lasts: Duration) {
        match fault {
            Fault::AgentKilled => self.kill_agent(server),
            Fault::SiteServerKilled => self.kill_one(self.site_server(server)),
            Fault::GuardKilled => self.kill_one(self.guard(server)),
            Fault::ServerKilled => self.kill_server(server),
            Fault::AgentFrozen => self.freeze(self.agent(server).into_iter().collect(), lasts),
            Fault::SiteServerFrozen => {
                self.note_pause(server);
                self.freeze(self.site_server(server).into_iter().collect(), lasts);
            }
            Fault::ServerFrozen => {
                self.note_pause(server);
                self.freeze(self.processes(server), lasts);
            }
            Fault::AgentTerminated => self.terminate_agent(server),
            Fault::AllKilled => {
                for each in SERVERS {
                    self.kill_server(each);
                }
            }
            Fault::Cut | Fault::Deaf | Fault::Mute | Fault::Bridge | Fault::Flapping => {
                self.cut_for(fault, server, lasts);
            }
            Fault::WitnessCut => {
                self.hosts.cut("p01-w");
                std::thread::sleep(lasts);
                self.hosts.join("p01-w");
            }
            Fault::StartFails => {
                self.prevent_start(server);
                self.kill_one(self.site_server(server));
                std::thread::sleep(lasts);
                self.permit_start(server);
            }
            Fault::DiskFull => {
                self.disk(server).fill();
                std::thread::sleep(lasts);
                self.disk(server).clear();
            }
            Fault::DiskStalled => {
                self.disk(server).freeze();
                std::thread::sleep(lasts);
                self.disk(server).thaw();
            }
        }
        self.revive();
    }

    fn cut_for(&self, fault: Fault, server: &str, lasts: Duration) {
        let others: Vec<&str> = SERVERS.into_iter().filter(|one| *one != server).collect();
        match fault {
            Fault::Cut => self.hosts.cut(server),
            Fault::Deaf => others
                .iter()
                .for_each(|other| self.hosts.cut_one_way(other, server)),
            Fault::Mute => others
                .iter()
                .for_each(|other| self.hosts.cut_one_way(server, other)),
            Fault::Flapping => {
                for _ in 0..4 {
                    self.hosts.cut(server);
                    std::thread::sleep(lasts / 8);
                    self.hosts.join(server);
                    std::thread::sleep(lasts / 8);
                }
            }
            _ => self.hosts.cut_between("p01-a", "p01-b"),
        }
        std::thread::sleep(lasts);
        for each in SERVERS {
            self.hosts.join(each);
        }
    }

    fn kill_one(&self, pid: Option<u32>) {
        if let Some(pid) = pid {
            signal(pid, Signal::KILL);
        }
    }

    fn freeze(&self, pids: Vec<u32>, lasts: Duration) {
        for pid in &pids {
            signal(*pid, Signal::STOP);
        }
        std::thread::sleep(lasts);
        for pid in pids {
            signal(pid, Signal::CONT);
        }
    }

    /// From now on a site server that starts here ends at once: it can't open its record. One that
    /// runs goes on.
    ///
    /// # Panics
    /// When there is no record of one that ran.
    pub fn prevent_start(&self, server: &str) {
        let (record, kept) = self.record(server);
        fs::rename(&record, kept).expect("the record of one that ran");
        fs::create_dir(record).expect("a folder in its place");
    }

    /// Takes that back.
    ///
    /// # Panics
    /// When it was not prevented.
    pub fn permit_start(&self, server: &str) {
        let (record, kept) = self.record(server);
        fs::remove_dir(&record).expect("it was prevented");
        fs::rename(kept, record).expect("it was prevented");
    }

    fn record(&self, server: &str) -> (PathBuf, PathBuf) {
        let folder = self.state(server).join("data/siteServer");
        (folder.join("intervals.log"), folder.join("intervals.kept"))
    }

    fn terminate_agent(&mut self, server: &str) {
        if let Some(mut child) = self.agents.remove(server) {
            signal(child.id(), Signal::TERM);
            child.wait().ok();
        }
    }

    /// Starts every agent that is gone: killed by the fault, or by its guard for hanging.
    fn revive(&mut self) {
        for server in SERVERS {
            let gone = self
                .agents
                .get_mut(server)
                .is_none_or(|child| !matches!(child.try_wait(), Ok(None)) || !runs(child.id()));
            if gone {
                self.kill_agent(server);
                self.start_agent(server);
            }
        }
    }

    /// Waits until one candidate works and the other is ready, whichever.
    ///
    /// # Panics
    /// When it does not come to that.
    #[must_use]
    pub fn until_whole(&mut self) -> &'static str {
        let end = std::time::Instant::now() + super::PATIENCE;
        loop {
            // A guard may have killed an agent that hung, after the fault was over.
            self.revive();
            if let Some(holder) = self.holder()
                && self.lease(holder).is_some_and(|lease| {
                    lease.ready && lease.ready_voters.len() == super::CANDIDATES.len() - 1
                })
            {
                return holder;
            }
            assert!(
                std::time::Instant::now() < end,
                "nobody works\n{}",
                self.describe()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn runs(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}/exe")).exists()
}
