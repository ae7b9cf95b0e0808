//! The keeper's loop: output, reaping, the socket, and the way to the end.
//!
//! The end always goes through killing until nothing is left (H10), whether the main process ended
//! by itself or was asked to. Every wait is one `poll`; while the instance simply runs the loop
//! wakes for output, for a connection, and seldom otherwise.

use std::fs::{self, File};
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use stead_schemas::wire::StopSignal;
use stead_wire::clock::wall_now;

use super::output::{Output, Stream};
use super::state::{Exit, KeeperCommand, KeeperPhase, KeeperState};
use super::{EXIT, SOCKET};
use crate::processes::cgroup::Cgroup;
use crate::processes::procfs;
use site_voting::durable;

/// How often orphans of a running instance are reaped when nothing else wakes the loop.
const IDLE: Duration = Duration::from_secs(10);
/// How often it looks whether the tree is gone.
const ENDING: Duration = Duration::from_millis(5);
/// After this long, a tree that won't die is looked at less often, and told of.
const STUBBORN: Duration = Duration::from_secs(2);
const STUBBORN_PAUSE: Duration = Duration::from_millis(250);
/// Agents, and people looking; more are turned away.
const CLIENTS: usize = 8;
/// Longest command line.
const COMMAND_BYTES: usize = 4 * 1024;
/// Read from a pipe before others get their turn.
const READ_ROUNDS: usize = 4;

/// A started instance and all a keeper holds for it.
#[derive(Debug)]
pub(super) struct Attendance {
    /// First, so that it is free before agents hear that the keeper hung up.
    _lock: File,
    listener: UnixListener,
    clients: Vec<Client>,
    main: Pid,
    pidfd: OwnedFd,
    pipes: [Option<PipeReader>; 2],
    cgroup: Option<Cgroup>,
    output: Output,
    state: KeeperState,
    asked: bool,
    mode: Mode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Running,
    Stopping { until: Instant },
    Killing { since: Instant },
}

#[derive(Debug)]
struct Client {
    stream: UnixStream,
    input: Vec<u8>,
}

impl Attendance {
    #[expect(clippy::too_many_arguments, reason = "one caller, which made them all")]
    pub(super) fn new(
        lock: File,
        listener: UnixListener,
        main: Pid,
        pidfd: OwnedFd,
        [out, err]: [PipeReader; 2],
        cgroup: Option<Cgroup>,
        output: Output,
        state: KeeperState,
    ) -> Self {
        Self {
            _lock: lock,
            listener,
            clients: Vec::new(),
            main,
            pidfd,
            pipes: [Some(out), Some(err)],
            cgroup,
            output,
            state,
            asked: false,
            mode: Mode::Running,
        }
    }

    pub(super) fn state(&self) -> &KeeperState {
        &self.state
    }

    /// Attends until nothing of the instance is left.
    pub(super) fn run(mut self) {
        loop {
            let before = self.state.clone();
            self.wait();
            self.reap();
            self.read_output();
            self.serve_clients();
            if self.advance() {
                break;
            }
            if self.state != before {
                self.tell();
            }
        }
        self.end();
    }

    fn wait(&self) {
        let pause = match self.mode {
            Mode::Running => IDLE,
            Mode::Killing { since } if since.elapsed() > STUBBORN => STUBBORN_PAUSE,
            Mode::Stopping { .. } | Mode::Killing { .. } => ENDING,
        };
        let timeout = Timespec {
            tv_sec: i64::try_from(pause.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: pause.subsec_nanos().into(),
        };
        let mut fds = vec![PollFd::new(&self.listener, PollFlags::IN)];
        if self.state.exit.is_none() {
            fds.push(PollFd::new(&self.pidfd, PollFlags::IN));
        }
        let pipes = self.pipes.iter().flatten().map(AsFd::as_fd);
        let streams = self.clients.iter().map(|client| client.stream.as_fd());
        fds.extend(
            pipes
                .chain(streams)
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)),
        );
        // Interrupted or refused: the next round looks at everything anyway.
        let _ = poll(&mut fds, Some(&timeout));
    }

    /// Reaps the main process and every orphan that came to us as their subreaper.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            if pid == self.main {
                self.read_output();
                self.output.finish(wall_now());
                self.state.exit = Some(self.exit_of(status));
            }
        }
    }

    fn exit_of(&self, status: WaitStatus) -> Exit {
        Exit {
            run: self.state.run.clone(),
            code: status.exit_status(),
            signal: status.terminating_signal(),
            at: wall_now(),
            asked: self.asked,
            last_line: self.output.last_line(),
        }
    }

    fn read_output(&mut self) {
        for (index, stream) in [Stream::Out, Stream::Err].into_iter().enumerate() {
            let Some(pipe) = &mut self.pipes[index] else {
                continue;
            };
            let mut chunk = [0; 16 * 1024];
            for _ in 0..READ_ROUNDS {
                match pipe.read(&mut chunk) {
                    Ok(0) => {
                        self.pipes[index] = None;
                        break;
                    }
                    Ok(read) => self.output.take(stream, &chunk[..read], wall_now()),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
        }
    }

    /// The next step towards the end; true once nothing is left.
    fn advance(&mut self) -> bool {
        let now = Instant::now();
        match self.mode {
            Mode::Running if self.state.exit.is_none() => {}
            Mode::Running => self.kill_from(now),
            Mode::Stopping { until } => {
                if now >= until || (self.state.exit.is_some() && !self.group_lives()) {
                    self.kill_from(now);
                }
            }
            Mode::Killing { .. } => {}
        }
        if let Mode::Killing { since } = self.mode {
            return self.killed(since);
        }
        false
    }

    fn kill_from(&mut self, now: Instant) {
        self.mode = Mode::Killing { since: now };
        self.state.phase = KeeperPhase::Killing;
    }

    /// Whether others of the instance's process group still use the time to end.
    fn group_lives(&self) -> bool {
        rustix::process::test_kill_process_group(self.main) != Err(rustix::io::Errno::SRCH)
    }

    /// Kills the tree once more; true when there is nothing to kill.
    fn killed(&mut self, since: Instant) -> bool {
        let below = procfs::descendants(std::process::id());
        let populated = self.cgroup.as_ref().is_some_and(Cgroup::populated);
        if below.is_empty() && !populated {
            self.reap();
            return self.state.exit.is_some();
        }
        if let Some(cgroup) = &self.cgroup {
            cgroup.kill();
        }
        for one in &below {
            // One that may not be killed is found again, and told of, below.
            drop(crate::processes::signal(one.pid, Signal::KILL));
        }
        if since.elapsed() > STUBBORN {
            self.state.survivors = below.iter().map(|one| one.pid).collect();
        }
        false
    }

    fn serve_clients(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if self.clients.len() < CLIENTS && stream.set_nonblocking(true).is_ok() {
                let mut client = Client {
                    stream,
                    input: Vec::new(),
                };
                if client.send(&self.state) {
                    self.clients.push(client);
                }
            }
        }
        let mut commands = Vec::new();
        self.clients
            .retain_mut(|client| client.receive(&mut commands));
        for command in commands {
            self.obey(&command);
        }
    }

    fn obey(&mut self, command: &KeeperCommand) {
        let now = Instant::now();
        self.asked = true;
        match (command, self.mode) {
            (_, Mode::Killing { .. }) => {}
            (KeeperCommand::Kill, _) => self.kill_from(now),
            (KeeperCommand::Stop { signal, grace_ms }, _) => {
                self.mode = Mode::Stopping {
                    until: now + Duration::from_millis(*grace_ms),
                };
                self.state.phase = KeeperPhase::Stopping;
                if self.state.exit.is_none() {
                    // Not reaped yet, so the group is still ours.
                    let _ = rustix::process::kill_process_group(self.main, signal_of(*signal));
                }
            }
        }
    }

    fn tell(&mut self) {
        let state = &self.state;
        self.clients.retain_mut(|client| client.send(state));
    }

    /// Output to its end, the exit durable, the cgroup away; then the last word.
    fn end(mut self) {
        self.read_output();
        self.output.finish(wall_now());
        if let Some(cgroup) = &self.cgroup {
            cgroup.remove();
        }
        self.state.phase = KeeperPhase::Ended;
        self.state.survivors.clear();
        if let Some(exit) = &self.state.exit
            && let Ok(text) = serde_json::to_vec(exit)
        {
            // A full disk loses the status for an agent that is not there now; this one hears it.
            drop(durable::write("".as_ref(), EXIT, &text, 0o600));
        }
        self.tell();
        drop(fs::remove_file(SOCKET));
    }
}

impl Client {
    /// False when the client is gone, or does not read.
    fn send(&mut self, state: &KeeperState) -> bool {
        let Ok(mut line) = serde_json::to_vec(state) else {
            return false;
        };
        line.push(b'\n');
        self.stream.write_all(&line).is_ok()
    }

    /// False when the client is gone, or talks nonsense.
    fn receive(&mut self, commands: &mut Vec<KeeperCommand>) -> bool {
        let mut chunk = [0; COMMAND_BYTES];
        match self.stream.read(&mut chunk) {
            Ok(0) => return false,
            Ok(read) => self.input.extend_from_slice(&chunk[..read]),
            Err(error) => {
                return matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                );
            }
        }
        while let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.input.drain(..=end).collect();
            match serde_json::from_slice(&line) {
                Ok(command) => commands.push(command),
                Err(_) => return false,
            }
        }
        self.input.len() < COMMAND_BYTES
    }
}

const fn signal_of(signal: StopSignal) -> Signal {
    match signal {
        StopSignal::SigHup => Signal::HUP,
        StopSignal::SigInt => Signal::INT,
        StopSignal::SigQuit => Signal::QUIT,
        StopSignal::SigTerm => Signal::TERM,
        StopSignal::SigUsr1 => Signal::USR1,
        StopSignal::SigUsr2 => Signal::USR2,
    }
}
