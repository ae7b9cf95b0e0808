//! Admission over all sites: collects summaries, asks the planner, hands permits out (H16).
//!
//! The decision is `stead_plan::admit`; this file keeps its input and runs it at most every few
//! milliseconds, however many sites change at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use stead_plan::{Admission, InFlight, SiteSummary, admit};
use stead_schemas::desired::Guards;
use stead_schemas::names::SiteCode;
use tokio::sync::{Notify, watch};

use crate::daemon::core::Core;

/// Summaries that come within this time are decided together.
const TOGETHER: Duration = Duration::from_millis(2);

/// What a site tells with its summary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// What its plan asks for.
    pub summary: SiteSummary,
    /// It has begun and not finished.
    pub busy: bool,
    /// A step failed and is not overcome.
    pub failed: bool,
    /// Removals done since the last time.
    pub removed: u32,
}

/// The admissions of a hierarchy.
#[derive(Debug)]
pub struct Admissions {
    state: Mutex<State>,
    decided: watch::Sender<(u64, Arc<Admission>)>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    asked: u64,
    revision: Option<Arc<str>>,
    guards: Option<Guards>,
    sites: BTreeMap<SiteCode, SiteSummary>,
    flight: InFlight,
}

impl Default for Admissions {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            decided: watch::Sender::new((0, Arc::default())),
            wake: Notify::new(),
        }
    }
}

impl Admissions {
    /// Tells a site's summary and waits for the decision that knows it.
    pub async fn submit(&self, told: Told) -> Arc<Admission> {
        let Some(asked) = self.put(told) else {
            return self.now();
        };
        self.wake.notify_one();
        let mut decided = self.decided.subscribe();
        match decided.wait_for(|(known, _)| *known >= asked).await {
            Ok(decision) => Arc::clone(&decision.1),
            Err(_) => self.now(),
        }
    }

    /// The last decision.
    #[must_use]
    pub fn now(&self) -> Arc<Admission> {
        Arc::clone(&self.decided.borrow().1)
    }

    /// Sites in which a step failed under the revision in force.
    #[must_use]
    pub fn failed(&self) -> Vec<SiteCode> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.flight.failed.iter().cloned().collect()
    }

    /// A site is gone.
    pub fn forget(&self, code: &SiteCode) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.sites.remove(code);
        state.flight.sites.remove(code);
        state.flight.failed.remove(code);
        state.asked += 1;
        self.wake.notify_one();
    }

    /// Another revision is in force: what failed and what was removed counts anew.
    pub fn start_revision(&self, revision: &Arc<str>, guards: &Guards) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.revision.as_ref() != Some(revision) {
            state.revision = Some(Arc::clone(revision));
            state.flight.failed.clear();
            state.flight.removals = 0;
        }
        state.guards = Some(guards.clone());
        state.asked += 1;
        self.wake.notify_one();
    }

    /// The question's number; none where nothing is new.
    fn put(&self, told: Told) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let code = told.summary.site.clone();
        let (busy, failed) = (
            state.flight.sites.contains(&code),
            state.flight.failed.contains(&code),
        );
        let same = state.sites.get(&code) == Some(&told.summary)
            && busy == told.busy
            && failed == told.failed
            && told.removed == 0;
        if same && self.decided.borrow().0 >= state.asked {
            return None;
        }
        if told.busy {
            state.flight.sites.insert(code.clone());
        } else {
            state.flight.sites.remove(&code);
        }
        if told.failed {
            state.flight.failed.insert(code.clone());
        } else {
            state.flight.failed.remove(&code);
        }
        state.flight.removals = state.flight.removals.saturating_add(told.removed);
        state.sites.insert(code, told.summary);
        state.asked += 1;
        Some(state.asked)
    }

    fn decide(&self) -> (u64, Admission) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let sites: Vec<SiteSummary> = state.sites.values().cloned().collect();
        let admission = state
            .guards
            .as_ref()
            .map(|guards| admit(&sites, &state.flight, guards))
            .unwrap_or_default();
        (state.asked, admission)
    }
}

/// Decides whenever something was told, and wakes the sites for which the decision changed.
pub async fn run(core: Arc<Core>) {
    loop {
        core.admissions.wake.notified().await;
        tokio::time::sleep(TOGETHER).await;
        let (asked, admission) = core.admissions.decide();
        let before = core.admissions.now();
        let moved: Vec<SiteCode> = changed(&before, &admission).cloned().collect();
        let removals = before.removals != admission.removals;
        core.admissions
            .decided
            .send_replace((asked, Arc::new(admission)));
        if removals {
            core.wake_all();
        }
        for site in moved.iter().filter_map(|code| core.site(code)) {
            site.wake();
        }
    }
}

/// Sites that wait now and did not before, or the other way round, or for another reason.
fn changed<'a>(before: &'a Admission, after: &'a Admission) -> impl Iterator<Item = &'a SiteCode> {
    before
        .waiting
        .keys()
        .chain(after.waiting.keys())
        .filter(|code| before.waiting.get(*code) != after.waiting.get(*code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(site: &str, changes: bool, busy: bool) -> Told {
        Told {
            summary: SiteSummary {
                site: site.parse().unwrap(),
                changes,
                removals: 0,
                dropped: 0,
                recorded: 10,
            },
            busy,
            failed: false,
            removed: 0,
        }
    }

    fn guards(at_once: u32) -> Guards {
        Guards {
            max_sites_at_once: at_once,
            max_removals: 3,
            max_failed_sites: 1,
        }
    }

    fn decided(admissions: &Admissions) -> Arc<Admission> {
        let (asked, admission) = admissions.decide();
        admissions
            .decided
            .send_replace((asked, Arc::new(admission)));
        admissions.now()
    }

    #[test]
    fn h16_a_site_beyond_the_budget_waits_until_one_is_done() {
        let admissions = Admissions::default();
        admissions.start_revision(&"a".into(), &guards(1));
        admissions.put(told("P01", true, false));
        admissions.put(told("P02", true, false));
        let first = decided(&admissions);
        let p2: SiteCode = "P02".parse().unwrap();
        assert_eq!(first.waiting.keys().collect::<Vec<_>>(), [&p2]);
        admissions.put(told("P01", true, true));
        assert!(decided(&admissions).waiting.contains_key(&p2));
        admissions.put(told("P01", false, false));
        assert!(decided(&admissions).waiting.is_empty());
    }

    #[test]
    fn failures_count_under_their_own_revision_only() {
        let admissions = Admissions::default();
        admissions.start_revision(&"a".into(), &guards(5));
        let mut failed = told("P01", true, true);
        failed.failed = true;
        admissions.put(failed);
        admissions.put(told("P02", true, false));
        assert_eq!(decided(&admissions).waiting.len(), 1);
        admissions.start_revision(&"b".into(), &guards(5));
        assert!(decided(&admissions).waiting.is_empty());
    }

    #[test]
    fn what_is_not_new_is_not_decided_again() {
        let admissions = Admissions::default();
        assert!(admissions.put(told("P01", false, false)).is_some());
        let (asked, admission) = admissions.decide();
        admissions
            .decided
            .send_replace((asked, Arc::new(admission)));
        assert!(admissions.put(told("P01", false, false)).is_none());
        assert!(admissions.put(told("P01", true, false)).is_some());
    }
}
