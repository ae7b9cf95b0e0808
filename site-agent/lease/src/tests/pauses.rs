//! Machines that stand still, agents that hang beside a living guard, and what the guard then does (H1,
//! H6). The simulated site's half of it; which of it happens when is chance's.

use super::site::{Host, Site};
use crate::{Body, Message, Term};

impl Site {
    /// Everything of a host stands still for so long: stopped processes whose clock goes on, or a
    /// virtual machine whose clocks stand still with it.
    pub(super) fn pause(&mut self, host: Host, length: u64, with_clocks: bool) {
        self.say(
            host,
            &std::format!("stands still for {length}, its clocks {with_clocks}"),
        );
        let until = self.now + length;
        self.set_pause(host, until, with_clocks);
    }

    /// Its agent hangs; work goes on until the guard's deadline.
    pub(super) fn freeze_agent(&mut self, host: Host) {
        self.say(host, "its agent hangs");
        self.set_agent_frozen(host, true);
    }

    /// The guard ends the work and the agent, proves both gone, and releases (R12).
    pub(super) fn guard_kills(&mut self, host: Host) {
        self.say(host, "its guard kills");
        let Some((term, disk)) = self.kill_work(host) else {
            return self.kill(host);
        };
        self.kill(host);
        for to in disk.configuration.everyone() {
            if to != disk.me {
                let message = release(&disk, term);
                self.post(to.name, disk.me.clone(), message);
            }
        }
    }
}

fn release(disk: &crate::Saved<Host>, term: Term) -> Message<Host> {
    Message {
        epoch: disk.configuration.epoch(),
        memory: disk.memory.clone(),
        body: Body::Release {
            term,
            successor: None,
        },
    }
}
