//! Who may write: claiming an epoch at the start, and giving way to a higher one (H7).
//!
//! The rules are pure ([`next_epoch`], [`Authority::meet`]); gathering is the daemon's. A claim is
//! one above everything any agent, any mark and the store know. Whoever meets a higher epoch stops
//! at once and goes on looking. Nothing here asks anybody.

use std::sync::atomic::{AtomicU64, Ordering};

use stead_schemas::api::WriterState;
use stead_schemas::generation::{Epoch, Generation};
use stead_schemas::names::ServerName;
use tokio::sync::watch;

/// An epoch so far above ours was never reached by starting reconcilers: whoever tells it lies.
const PLAUSIBLE: u64 = 1 << 32;

/// Why an epoch that was told is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("epoch {told} is no epoch that reconcilers could have reached")]
pub struct Implausible {
    /// What was told.
    pub told: Epoch,
}

/// Whether this reconciler writes, and under which epoch.
#[derive(Debug)]
pub struct Authority {
    state: watch::Sender<WriterState>,
    epoch: watch::Sender<Option<Epoch>>,
    number: AtomicU64,
}

impl Authority {
    /// One that has not claimed yet, or never will.
    #[must_use]
    pub fn new(standby: bool) -> Self {
        let state = if standby {
            WriterState::Standby
        } else {
            WriterState::Starting
        };
        Self {
            state: watch::Sender::new(state),
            epoch: watch::Sender::new(None),
            number: AtomicU64::new(0),
        }
    }

    /// What it may do, and each change of that.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<WriterState> {
        self.state.subscribe()
    }

    /// What it may do now.
    #[must_use]
    pub fn state(&self) -> WriterState {
        self.state.borrow().clone()
    }

    /// The epoch claimed.
    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        self.epoch.borrow().clone()
    }

    /// Claims an epoch; nothing happens where a claim was made, or none may be.
    pub fn claim(&self, epoch: Epoch) -> bool {
        let mut claimed = false;
        self.state.send_if_modified(|state| {
            if *state != WriterState::Starting {
                return false;
            }
            self.epoch.send_replace(Some(epoch));
            *state = WriterState::Writing;
            claimed = true;
            true
        });
        claimed
    }

    /// The generation of the next command; none while nothing may be written.
    #[must_use]
    pub fn next(&self) -> Option<Generation> {
        if *self.state.borrow() != WriterState::Writing {
            return None;
        }
        let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
        self.epoch().map(|epoch| Generation { epoch, number })
    }

    /// Somebody told an epoch. A higher one than ours fences us: true where it just did.
    ///
    /// # Errors
    /// [`Implausible`]: whoever told it is not to be believed.
    pub fn meet(&self, told: &Epoch) -> Result<bool, Implausible> {
        let ours = self.epoch();
        let floor = ours.as_ref().map_or(0, |epoch| epoch.counter);
        if told.counter.saturating_sub(floor) > PLAUSIBLE {
            return Err(Implausible { told: told.clone() });
        }
        if ours.is_none_or(|ours| *told <= ours) {
            return Ok(false);
        }
        Ok(self.state.send_if_modified(|state| {
            let stop = *state == WriterState::Writing;
            if stop {
                *state = WriterState::Fenced { by: told.clone() };
            }
            stop
        }))
    }
}

/// The epoch to claim: one above all that is known.
#[must_use]
pub fn next_epoch(
    known: impl Iterator<Item = u64>,
    stored: u64,
    name: &ServerName,
    start: &str,
) -> Epoch {
    let plausible = stored.saturating_add(PLAUSIBLE);
    let highest = known
        .filter(|counter| *counter <= plausible)
        .fold(stored, u64::max);
    Epoch {
        counter: highest + 1,
        reconciler: name.to_string(),
        start: start.to_owned(),
    }
}

/// A fresh start id: tells two copies of one reconciler apart.
///
/// # Errors
/// When the system has no randomness.
pub fn start_id() -> Result<String, ring::error::Unspecified> {
    use ring::rand::SecureRandom as _;
    let mut bytes = [0_u8; 6];
    ring::rand::SystemRandom::new().fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(counter: u64, name: &str, start: &str) -> Epoch {
        Epoch {
            counter,
            reconciler: name.into(),
            start: start.into(),
        }
    }

    #[test]
    fn h7_a_claim_is_above_everything_known() {
        let name = "stead-1".parse().unwrap();
        let claimed = next_epoch([3, 9, 4].into_iter(), 7, &name, "aa");
        assert_eq!(claimed, epoch(10, "stead-1", "aa"));
        assert_eq!(next_epoch([].into_iter(), 0, &name, "aa").counter, 1);
        let lied = next_epoch([3, u64::MAX].into_iter(), 7, &name, "aa");
        assert_eq!(lied.counter, 8, "a liar can't use the numbers up");
    }

    #[test]
    fn h7_of_two_that_claimed_in_the_same_second_exactly_one_goes_on() {
        let (one, two) = (Authority::new(false), Authority::new(false));
        let (a, b) = (epoch(5, "stead-1", "aa"), epoch(5, "stead-1", "ab"));
        assert!(one.claim(a.clone()));
        assert!(two.claim(b.clone()));
        assert_eq!(one.meet(&b), Ok(true));
        assert_eq!(two.meet(&a), Ok(false));
        assert!(one.next().is_none());
        assert_eq!(one.state(), WriterState::Fenced { by: b });
        assert!(two.next().is_some());
    }

    #[test]
    fn h7_our_own_and_older_epochs_fence_nobody_and_numbers_rise() {
        let authority = Authority::new(false);
        assert!(authority.next().is_none(), "not before the claim");
        assert_eq!(authority.meet(&epoch(9, "x", "y")), Ok(false));
        let ours = epoch(5, "stead-1", "aa");
        assert!(authority.claim(ours.clone()));
        assert!(!authority.claim(epoch(6, "stead-1", "aa")), "one a life");
        assert_eq!(authority.meet(&ours), Ok(false));
        assert_eq!(authority.meet(&epoch(4, "stead-2", "zz")), Ok(false));
        let (first, second) = (authority.next().unwrap(), authority.next().unwrap());
        assert!(first < second);
    }

    #[test]
    fn a_lying_agent_fences_nobody() {
        let authority = Authority::new(false);
        authority.claim(epoch(5, "stead-1", "aa"));
        let lie = epoch(u64::MAX, "stead-1", "aa");
        assert!(authority.meet(&lie).is_err());
        assert_eq!(authority.state(), WriterState::Writing);
    }

    #[test]
    fn a_standby_never_writes() {
        let authority = Authority::new(true);
        assert!(!authority.claim(epoch(1, "stead-2", "aa")));
        assert!(authority.next().is_none());
    }
}
