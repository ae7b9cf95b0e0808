//! A road under construction: steps, holds and the next wake-up, and the names of steps.

use std::collections::BTreeSet;

use stead_schemas::desired::Place;
use stead_schemas::names::{GroupName, ServerName};
use stead_schemas::plan::{Action, Hold, HoldReason, Step, StepId, Wait};
use stead_schemas::record::RecordKey;
use stead_schemas::time::WallMs;

/// What a plan is put together from.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(crate) steps: Vec<Step>,
    pub(crate) holds: Vec<Hold>,
    pub(crate) wake_at: Option<WallMs>,
}

impl Draft {
    /// Notes a hold; the same one is noted once.
    pub(crate) fn hold(&mut self, about: String, reason: HoldReason, place: Option<&Place>) {
        let known = self
            .holds
            .iter()
            .any(|hold| hold.about == about && hold.reason == reason);
        if !known {
            self.holds.push(Hold {
                about,
                reason,
                place: place.cloned(),
            });
        }
    }

    pub(crate) fn wake(&mut self, at: WallMs) {
        self.wake_at = Some(self.wake_at.map_or(at, |wake| wake.min(at)));
    }

    /// Mends waits for steps that are not on the road because they are held: where the step follows
    /// an instance's health, that is waited for; otherwise what waits is held as well.
    pub(crate) fn mend(&mut self, meanwhile: impl Fn(&StepId) -> Option<Wait>) {
        loop {
            let on_road: BTreeSet<StepId> = self.steps.iter().map(|step| step.id.clone()).collect();
            let missing = |wait: &Wait| matches!(wait, Wait::Step(id) if !on_road.contains(id));
            if !self.steps.iter().any(|step| step.waits.iter().any(missing)) {
                return;
            }
            self.steps.retain_mut(|step| {
                let mut waits = Vec::with_capacity(step.waits.len());
                for wait in step.waits.drain(..) {
                    let mended = match &wait {
                        Wait::Step(id) if missing(&wait) => meanwhile(id),
                        _ => Some(wait),
                    };
                    match mended {
                        Some(wait) => add_wait(&mut waits, wait),
                        None => return false,
                    }
                }
                step.waits = waits;
                true
            });
        }
    }

    /// The steps in the order they will be taken: a step comes after all it waits for.
    pub(crate) fn into_order(mut self) -> Self {
        if self.steps.iter().all(|step| step.waits.is_empty()) {
            return self;
        }
        let mut ordered: Vec<Step> = Vec::with_capacity(self.steps.len());
        let mut rest = std::mem::take(&mut self.steps);
        while !rest.is_empty() {
            let (next, later): (Vec<Step>, Vec<Step>) = rest
                .iter()
                .cloned()
                .partition(|step| !rest.iter().any(|other| is_after(step, other)));
            if next.is_empty() {
                ordered.extend(later);
                break;
            }
            ordered.extend(next);
            rest = later;
        }
        self.steps = ordered;
        self
    }

    pub(crate) fn has_step(&self, id: &StepId) -> bool {
        self.steps.iter().any(|step| step.id == *id)
    }
}

/// Whether a step waits for another to be done.
fn is_after(step: &Step, other: &Step) -> bool {
    step.waits.iter().any(|wait| match wait {
        Wait::Step(id) => other.id == *id,
        Wait::Healthy(instance) => matches!(
            &other.action,
            Action::Install { group, server } | Action::Update { group, server }
                if *group == instance.group && *server == instance.server
        ),
        Wait::Gone(instance) => match &other.action {
            Action::Remove { group, server } => {
                *group == instance.group && *server == instance.server
            }
            Action::SwitchOver { from, .. } => *from == instance.server,
            _ => false,
        },
        Wait::Served(_) | Wait::Until(_) => false,
    })
}

/// Adds a wait unless it is there.
pub(crate) fn add_wait(waits: &mut Vec<Wait>, wait: Wait) {
    if !waits.contains(&wait) {
        waits.push(wait);
    }
}

pub(crate) fn install_id(group: &GroupName, server: &ServerName) -> StepId {
    StepId(format!("install {group}@{server}"))
}

pub(crate) fn update_id(group: &GroupName, server: &ServerName) -> StepId {
    StepId(format!("update {group}@{server}"))
}

pub(crate) fn drain_id(group: &GroupName, server: &ServerName) -> StepId {
    StepId(format!("drain {group}@{server}"))
}

pub(crate) fn remove_id(group: &GroupName, server: &ServerName) -> StepId {
    StepId(format!("remove {group}@{server}"))
}

pub(crate) fn switch_id(group: &GroupName, from: &ServerName, to: &ServerName) -> StepId {
    StepId(format!("switch over {group} {from} -> {to}"))
}

/// One instance's value goes into a record.
pub(crate) fn publish_id(key: &RecordKey, group: &GroupName, server: &ServerName) -> StepId {
    StepId(format!("publish {group}@{server} in {key}"))
}

/// One instance's value leaves a record.
pub(crate) fn withdraw_id(key: &RecordKey, group: &GroupName, server: &ServerName) -> StepId {
    StepId(format!("withdraw {group}@{server} from {key}"))
}

/// A record as a whole is written.
pub(crate) fn publish_key_id(key: &RecordKey) -> StepId {
    StepId(format!("publish {key}"))
}

/// A record as a whole is taken away.
pub(crate) fn withdraw_key_id(key: &RecordKey) -> StepId {
    StepId(format!("withdraw {key}"))
}
