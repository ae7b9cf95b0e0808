//! The board: the agent's report as it is now, and everybody who watches it.
//!
//! A watcher that is slow sees fewer reports, never old ones, and holds no memory: there is one
//! report, and a bell.

use std::sync::Arc;

use stead_schemas::names::GroupName;
use stead_schemas::wire::{AgentReport, InstanceReport};
use stead_wire::clock::wall_now;
use tokio::sync::watch;

/// The report, shared.
#[derive(Debug, Clone)]
pub struct Board {
    sender: Arc<watch::Sender<Arc<AgentReport>>>,
}

impl Board {
    /// A board that shows this report first.
    #[must_use]
    pub fn new(report: AgentReport) -> Self {
        let (sender, _) = watch::channel(Arc::new(report));
        Self {
            sender: Arc::new(sender),
        }
    }

    /// The report as of now.
    #[must_use]
    pub fn report(&self) -> Arc<AgentReport> {
        let mut report = AgentReport::clone(&self.sender.borrow());
        report.wall = wall_now();
        Arc::new(report)
    }

    /// Rings at each change.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<AgentReport>> {
        self.sender.subscribe()
    }

    /// Changes the report; whoever watches hears of it if that made a difference.
    pub fn change(&self, change: impl FnOnce(&mut AgentReport)) {
        self.sender.send_if_modified(|shown| {
            let mut next = AgentReport::clone(shown);
            change(&mut next);
            if next == **shown {
                return false;
            }
            next.sequence += 1;
            next.wall = wall_now();
            *shown = Arc::new(next);
            true
        });
    }

    /// Changes one instance's report, if there is one; the time of a change of phase or health is
    /// noted.
    pub fn change_instance(&self, group: &GroupName, change: impl FnOnce(&mut InstanceReport)) {
        self.change(|report| {
            if let Some(instance) = report.instances.get_mut(group) {
                let before = (instance.phase, instance.health);
                change(instance);
                if (instance.phase, instance.health) != before {
                    instance.since = wall_now();
                }
            }
        });
    }

    /// Notes something wrong with the agent itself, or that it is over. `about` begins the note and
    /// tells it from others.
    pub fn problem(&self, about: &str, text: Option<String>) {
        self.problems(about, text);
    }

    /// The same where several things may be wrong at a time: these are now, and no others about it.
    pub fn problems(&self, about: &str, texts: impl IntoIterator<Item = String>) {
        self.change(|report| {
            report.problems.retain(|one| !one.starts_with(about));
            let notes = texts.into_iter().map(|text| format!("{about}: {text}"));
            report.problems.extend(notes);
            report.problems.sort();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stead_schemas::names::ServerName;
    use stead_schemas::time::WallMs;

    fn report() -> AgentReport {
        AgentReport {
            version: "0".to_owned(),
            boot_id: "b".to_owned(),
            ..AgentReport::new(ServerName::new("p01-a").unwrap(), WallMs(1))
        }
    }

    #[test]
    fn only_what_makes_a_difference_rings() {
        let board = Board::new(report());
        let watch = board.watch();
        board.problem("disk", None);
        assert!(!watch.has_changed().unwrap());
        board.problem("disk", Some("full".to_owned()));
        assert!(watch.has_changed().unwrap());
        assert_eq!(board.report().sequence, 1);
        assert_eq!(board.report().problems, ["disk: full"]);
        board.problem("disk", None);
        assert!(board.report().problems.is_empty());
    }
}
