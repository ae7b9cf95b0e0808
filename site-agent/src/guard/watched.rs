//! The agent as the guard sees it: a process known by the kernel, not by what it says.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

const AT_ONCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// A watched agent. Its pidfd stays that process's through re-execution, and is never another's.
#[derive(Debug)]
pub(super) struct Watched {
    pid: Pid,
    pidfd: OwnedFd,
}

/// Who is at the other end of this connection.
pub(super) fn peer(stream: &UnixStream) -> io::Result<Pid> {
    Ok(rustix::net::sockopt::socket_peercred(stream)?.pid)
}

impl Watched {
    /// Watches the process at the other end.
    pub(super) fn at(stream: &UnixStream) -> io::Result<Self> {
        let pid = peer(stream)?;
        let pidfd = pidfd_open(pid, PidfdFlags::NONBLOCK)?;
        // Had it died before, its pid might be another's by now: but then the connection is closed.
        if hung_up(stream) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(Self { pid, pidfd })
    }

    pub(super) const fn pid(&self) -> Pid {
        self.pid
    }

    /// Whether it has ended, for certain.
    pub(super) fn gone(&self) -> bool {
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        matches!(poll(&mut fds, Some(&AT_ONCE)), Ok(1..))
            && fds[0].revents().contains(PollFlags::IN)
    }

    /// Kills it. Whether that worked is seen in [`Watched::gone`] only.
    pub(super) fn kill(&self) {
        self.send(Signal::KILL);
    }

    /// Sends this process a signal that does nothing, so that what [`Watched::kill`] needs is in
    /// memory.
    pub(super) fn rehearse() {
        let pid = rustix::process::getpid();
        if let Ok(pidfd) = pidfd_open(pid, PidfdFlags::NONBLOCK) {
            let me = Self { pid, pidfd };
            me.send(Signal::CONT);
            me.gone();
        }
    }

    fn send(&self, signal: Signal) {
        // One that is gone already can't be signalled, and need not be.
        let _ = pidfd_send_signal(&self.pidfd, signal);
    }
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

fn hung_up(stream: &UnixStream) -> bool {
    let mut fds = [PollFd::new(stream, PollFlags::RDHUP)];
    let heard = poll(&mut fds, Some(&AT_ONCE));
    let ends = PollFlags::HUP | PollFlags::RDHUP | PollFlags::ERR;
    heard.is_err() || fds[0].revents().intersects(ends)
}
