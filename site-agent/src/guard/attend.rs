//! The guard's loop: the deadline, the agent's end, the socket, and the kill.
//!
//! Every wait is one `poll`. Order on the kill path: the write to `cgroup.kill`, the agent, then
//! everything else, words for the log included (H34). The deadline is looked at before each message,
//! so that none can push back what has passed.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, PipeReader, Read};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use stead_schemas::declared::settings::TlsFiles;

use super::charge::Charge;
use super::client::{Client, Heard};
use super::courier::{self, Courier};
use super::fence::{Fence, Step};
use super::message::{Allow, FromGuard, Killed, ToGuard, Welcome};
use super::network::Network;
use super::timer::{Alarm, boot_ms};
use super::watched::{self, Watched};
use super::workload::Workload;
use super::{SOCKET, lock};
use crate::layout::Layout;
use crate::processes::cgroup::Cgroup;
use crate::processes::procfs;

/// Connections at a time: the agent's, the one that replaces it, and people looking.
const CLIENTS: usize = 4;
/// The loop wakes this often without a cause.
const IDLE_MS: u64 = 10_000;
/// A guard that no agent has been connected to for this long ends, unless something is armed.
const ALONE_MS: u64 = 60_000;
/// How long a starting guard kills before it listens, done or not.
const START: Duration = Duration::from_secs(2);
/// How long a guard that ends waits for its last releases.
const FAREWELL: Duration = Duration::from_secs(3);

/// What a guard needs to know.
#[derive(Debug)]
pub struct Setting {
    /// The state folder.
    pub layout: Layout,
    /// The site server's cgroup; none: nothing is ever released early (H10).
    pub cgroup: Option<Cgroup>,
    /// What the site server's processes are marked with.
    pub mark: procfs::Mark,
    /// The nftables table that follows the deadlines; none: the settings ask for none.
    pub table: Option<String>,
    /// The agent's certificate.
    pub tls: TlsFiles,
    /// Where its releases leave from.
    pub from: Option<IpAddr>,
}

/// Guards until there is nothing to guard.
///
/// # Errors
/// What keeps it from starting.
pub fn guard(setting: Setting) -> Result<(), Box<dyn Error>> {
    let lock = lock::take(&setting.layout)?;
    // Started by hand or by a unit it leads its session already.
    let _ = rustix::process::setsid();
    let (courier, wake) = courier::start(setting.tls, setting.from)?;
    if let Err(error) = lock::in_memory() {
        tracing::warn!("the guard's memory is not locked: {error}");
    }
    if setting.cgroup.is_none() {
        tracing::warn!("there is no cgroup that would prove an end: nothing is released early");
    }
    let network = setting.table.map(Network::open).transpose()?;
    let workload = Workload::new(setting.cgroup, setting.mark);
    let alarm = Alarm::new()?;
    let mut guard = Guard {
        charge: Charge::default(),
        fence: Some(Fence::new(0, None, None, boot_ms())),
        agent: None,
        clients: [const { None }; CLIENTS],
        voice: None,
        workload,
        network,
        alarm,
        courier,
        wake,
        alone_since: boot_ms(),
    };
    guard.workload.rehearse();
    Watched::rehearse();
    guard.kill("a guard that starts kills first");
    let end = Instant::now() + START;
    while guard.fence.is_some() && Instant::now() < end {
        guard.step_fence();
        std::thread::sleep(Duration::from_millis(1));
    }
    let listener = lock::listen(&setting.layout)?;
    tracing::info!(pid = std::process::id(), "guard runs");
    guard.run(&listener);
    // The socket first: whoever finds the lock free finds no socket of ours.
    drop(fs::remove_file(setting.layout.root().join(SOCKET)));
    drop::<File>(lock);
    tracing::info!("guard ends");
    Ok(())
}

struct Guard {
    charge: Charge,
    fence: Option<Fence>,
    agent: Option<Watched>,
    clients: [Option<Client>; CLIENTS],
    /// The client that speaks for the agent.
    voice: Option<usize>,
    workload: Workload,
    network: Option<Network>,
    alarm: Alarm,
    courier: Courier,
    wake: PipeReader,
    alone_since: u64,
}

impl Guard {
    fn run(&mut self, listener: &UnixListener) {
        loop {
            self.wait(listener);
            self.check();
            self.step_fence();
            self.accept(listener);
            for place in 0..CLIENTS {
                self.hear(place);
            }
            let mut woken = [0; 64];
            while matches!(self.wake.read(&mut woken), Ok(1..)) {}
            if self.is_over() {
                break;
            }
        }
        let end = Instant::now() + FAREWELL;
        while self.courier.is_busy() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn wait(&self, listener: &UnixListener) {
        let now = boot_ms();
        let pause = match &self.fence {
            Some(fence) => fence.pause(now).max(1),
            None if self.voice.is_none() => (self.alone_since + ALONE_MS)
                .saturating_sub(now)
                .clamp(1, IDLE_MS),
            None => IDLE_MS,
        };
        let timeout = Timespec {
            tv_sec: i64::try_from(pause / 1_000).unwrap_or(1),
            tv_nsec: i64::try_from(pause % 1_000 * 1_000_000).unwrap_or(0),
        };
        let none = || PollFd::new(listener, PollFlags::empty());
        let wanted = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let client = |place: usize| {
            let client = self.clients[place].as_ref();
            client.map_or_else(none, |client| wanted(client.as_fd()))
        };
        let agent = self.agent.as_ref();
        let mut fds = [
            wanted(self.alarm.as_fd()),
            agent.map_or_else(none, |agent| wanted(agent.as_fd())),
            wanted(self.wake.as_fd()),
            wanted(listener.as_fd()),
            client(0),
            client(1),
            client(2),
            client(3),
        ];
        // Interrupted or refused: the next round looks at everything anyway.
        let _ = poll(&mut fds, Some(&timeout));
    }

    /// What calls for a kill, looked at in every round and before every message.
    fn check(&mut self) {
        if self.charge.due(boot_ms()) {
            self.kill("its deadline passed");
        }
        if self.agent.as_ref().is_some_and(Watched::gone) {
            if self.charge.allowed().is_some() {
                self.kill("the agent is gone");
            }
            self.agent = None;
        }
        if self.courier.told_to_end() && self.charge.allowed().is_some() {
            self.kill("the guard was told to end");
        }
    }

    /// The kill itself comes first; nothing before it waits, reads or writes a disk (H34).
    fn kill(&mut self, why: &str) {
        self.workload.strike();
        let agent = self.agent.take();
        if let Some(agent) = &agent {
            agent.kill();
        }
        self.alarm.clear();
        if let Some(allowed) = self.charge.trip() {
            let release = Some(allowed.release);
            self.fence = Some(Fence::new(allowed.term, release, agent, boot_ms()));
            tracing::warn!(term = allowed.term, "killing the site server: {why}");
        }
    }

    fn step_fence(&mut self) {
        let Some(mut fence) = self.fence.take() else {
            return;
        };
        let term = fence.term;
        match fence.step(&mut self.workload, boot_ms()) {
            Step::Wait => self.fence = Some(fence),
            Step::Incomplete => {
                self.fence = Some(fence);
                self.tell_killed(Killed { term, empty: false });
                tracing::error!(
                    term,
                    "fence incomplete: work is left that can't be killed; nothing is released"
                );
            }
            Step::Over { proven, release } => {
                if let Some(release) = release {
                    self.courier.send(release);
                } else if term > 0 {
                    tracing::warn!(term, "killed, and not proven in time: nothing is released");
                }
                self.tell_killed(Killed {
                    term,
                    empty: proven,
                });
                self.courier.hold(&[]);
                if proven {
                    self.let_go();
                }
                tracing::info!(term, proven, "nothing of the site server is left");
            }
        }
    }

    fn tell_killed(&mut self, killed: Killed) {
        if let Some(place) = self.voice {
            self.answer(place, &FromGuard::Killed(killed));
        }
    }

    fn accept(&mut self, listener: &UnixListener) {
        while let Ok((stream, _)) = listener.accept() {
            // One too many takes the place of another, but never the agent's.
            let free = self.clients.iter().position(Option::is_none);
            let place = free.or_else(|| (0..CLIENTS).find(|at| self.voice != Some(*at)));
            if let Some(place) = place {
                self.clients[place] = Client::new(stream).ok();
            }
        }
    }

    fn hear(&mut self, place: usize) {
        let Some(client) = &mut self.clients[place] else {
            return;
        };
        let (said, over) = match client.receive() {
            Heard::Said(said) => (said, None),
            Heard::Over(said, why) => (said, Some(why)),
        };
        for message in said {
            self.check();
            self.obey(place, message);
        }
        if let Some(why) = over {
            if let Some(why) = why {
                tracing::warn!("a connection is closed: {why}");
            }
            self.hang_up(place);
        }
    }

    fn obey(&mut self, place: usize, message: ToGuard) {
        let answer = match message {
            ToGuard::Hello {} => self.welcome(place),
            _ if self.voice != Some(place) => Err("say hello first".to_owned()),
            ToGuard::Allow(allow) => self.allow(allow),
            ToGuard::Ended { term } => self.end(term),
        };
        match answer {
            Ok(answer) => self.answer(place, &answer),
            Err(reason) => self.answer(place, &FromGuard::Refused { reason }),
        }
    }

    /// The process at the other end is the agent from now on, unless another one is.
    fn welcome(&mut self, place: usize) -> Result<FromGuard, String> {
        let Some(client) = &self.clients[place] else {
            return Err("the connection is gone".to_owned());
        };
        let pid = watched::peer(&client.stream).map_err(|error| error.to_string())?;
        let fence = self.fence.as_ref();
        if fence.is_some_and(|fence| fence.is_killing(pid)) {
            return Err("this agent is being killed".to_owned());
        }
        let pid_lived = match &self.agent {
            Some(agent) if agent.pid() == pid => true,
            // `check` has just seen that it lives.
            Some(agent) => {
                let other = agent.pid().as_raw_nonzero();
                return Err(format!("another agent is at work, pid {other}"));
            }
            None => false,
        };
        if !pid_lived {
            let watched = Watched::at(&client.stream);
            self.agent = Some(watched.map_err(|error| format!("you can't be watched: {error}"))?);
        }
        if let Some(before) = self.voice.replace(place)
            && before != place
        {
            self.clients[before] = None;
        }
        let allowed = self.charge.allowed();
        Ok(FromGuard::Welcome(Welcome {
            term: allowed.map(|one| one.term),
            until: allowed.map(|one| one.until),
            pid_lived,
            highest: self.charge.highest(),
            killing: self.fence.is_some(),
        }))
    }

    fn allow(&mut self, allow: Allow) -> Result<FromGuard, String> {
        if self.fence.is_some() {
            return Err("work of an earlier term is not proven gone yet".to_owned());
        }
        if self.courier.told_to_end() {
            return Err("this guard ends".to_owned());
        }
        let term = allow.term;
        let before = self.charge.clone();
        let until = self.charge.allow(boot_ms(), allow)?;
        self.workload.refresh();
        if let Err(error) = self.extend_network(until) {
            self.charge = before;
            return Err(format!("nftables takes no deadline: {error}"));
        }
        if let Err(error) = self.alarm.set(until) {
            self.kill("no deadline can be armed");
            return Err(format!("no deadline can be armed: {error}"));
        }
        if let Some(allowed) = self.charge.allowed() {
            self.courier.hold(&allowed.release.peers);
        }
        Ok(FromGuard::Allowed { term, until })
    }

    /// Where nothing was started yet there is nothing to cut off: it is looked for at each deadline.
    fn extend_network(&mut self, until: u64) -> io::Result<()> {
        let (Some(network), Some(cgroup)) = (&mut self.network, self.workload.number()) else {
            return Ok(());
        };
        network.extend(
            cgroup,
            Duration::from_millis(until.saturating_sub(boot_ms())),
        )
    }

    fn end(&mut self, term: u64) -> Result<FromGuard, String> {
        if self.fence.as_ref().is_some_and(|one| one.term == term) {
            return Err(format!("term {term} is being killed"));
        }
        if self.charge.end(term)? {
            self.alarm.clear();
            self.courier.hold(&[]);
            self.let_go();
        }
        Ok(FromGuard::Ended { term })
    }

    /// No work is left, for certain: whoever stands by sends what he likes.
    fn let_go(&mut self) {
        if let Some(Err(error)) = self.network.as_mut().map(Network::let_go) {
            tracing::error!("the site server's packets may stay cut off: nftables: {error}");
        }
    }

    fn answer(&mut self, place: usize, message: &FromGuard) {
        let sent = match &mut self.clients[place] {
            Some(client) => client.send(message),
            None => return,
        };
        if !sent {
            self.hang_up(place);
        }
    }

    /// The agent may come back, re-executed: only its end is its end (H18).
    fn hang_up(&mut self, place: usize) {
        self.clients[place] = None;
        if self.voice == Some(place) {
            self.voice = None;
        }
    }

    fn is_over(&mut self) -> bool {
        let now = boot_ms();
        let idle = self.fence.is_none() && self.charge.allowed().is_none();
        if self.voice.is_some() || !idle {
            self.alone_since = now;
        }
        if self.courier.told_to_end() {
            return idle;
        }
        now.saturating_sub(self.alone_since) >= ALONE_MS
    }
}
