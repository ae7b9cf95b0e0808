//! The clock that goes on while the machine sleeps, and an alarm on it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

/// Now, in milliseconds of `CLOCK_BOOTTIME`.
#[must_use]
pub fn boot_ms() -> u64 {
    site_voting::clock::boot_now().0
}

/// A timer that wakes a poll.
#[derive(Debug)]
pub(super) struct Alarm(OwnedFd);

impl Alarm {
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Self(timerfd_create(TimerfdClockId::Boottime, flags)?))
    }

    /// Wakes at that time, or at once when it has passed.
    pub(super) fn set(&self, at: u64) -> io::Result<()> {
        self.arm(Timespec {
            tv_sec: i64::try_from(at / 1_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(at % 1_000 * 1_000_000).unwrap_or(0),
        })
    }

    /// Wakes no more.
    pub(super) fn clear(&self) {
        // It can't fail for a descriptor that is a timer; and an alarm too many only wakes.
        drop(self.arm(Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        }));
    }

    fn arm(&self, value: Timespec) -> io::Result<()> {
        let once = Itimerspec {
            it_interval: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: value,
        };
        timerfd_settime(&self.0, TimerfdTimerFlags::ABSTIME, &once)?;
        Ok(())
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};

    fn fired(alarm: &Alarm) -> bool {
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut [PollFd::new(alarm, PollFlags::IN)], Some(&now)).unwrap() == 1
    }

    #[test]
    fn an_alarm_in_the_past_wakes_at_once_and_one_ahead_does_not() {
        let alarm = Alarm::new().unwrap();
        assert!(!fired(&alarm));
        alarm.set(boot_ms() + 3_600_000).unwrap();
        assert!(!fired(&alarm));
        alarm.set(boot_ms()).unwrap();
        assert!(fired(&alarm));
        alarm.clear();
        assert!(!fired(&alarm));
    }
}
