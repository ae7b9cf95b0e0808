//! A road under construction: steps, holds and the next wake-up, and the names of steps.

use std::collections::{BTreeMap, BTreeSet};

use stead_schemas::desired::Place;
use stead_schemas::lease::LeaseSpec;
use stead_schemas::names::{GroupName, ServerName};
use stead_schemas::plan::{Hold, HoldReason, PlannedCheck, Step, StepId, Wait};
use stead_schemas::record::RecordKey;
use stead_schemas::time::WallMs;

use crate::payload::effect;

/// What a plan is put together from.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(crate) steps: Vec<Step>,
    pub(crate) holds: Vec<Hold>,
    pub(crate) wake_at: Option<WallMs>,
    /// What servers with a step to be told the lease are told; none: that they have no part in it.
    pub(crate) leases: BTreeMap<ServerName, Option<Box<LeaseSpec>>>,
    /// Whose prerequisites are asked for now.
    pub(crate) checks: BTreeMap<ServerName, Box<PlannedCheck>>,
    ids: BTreeSet<StepId>,
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

    /// Adds a step; the same one is added once.
    pub(crate) fn push(&mut self, step: Step) {
        if self.ids.insert(step.id.clone()) {
            self.steps.push(step);
        }
    }

    /// Takes steps back.
    pub(crate) fn retract(&mut self, ids: &[StepId]) {
        self.steps.retain(|step| !ids.contains(&step.id));
        for id in ids {
            self.ids.remove(id);
        }
    }

    pub(crate) fn has_step(&self, id: &StepId) -> bool {
        self.ids.contains(id)
    }

    /// Mends waits for steps that are not on the road because they are held: where the step follows
    /// an instance's health, that is waited for; otherwise what waits is held as well.
    pub(crate) fn mend(&mut self, meanwhile: impl Fn(&StepId) -> Option<Wait>) {
        loop {
            let on_road = std::mem::take(&mut self.ids);
            let missing = |wait: &Wait| matches!(wait, Wait::Step(id) if !on_road.contains(id));
            let whole = !self.steps.iter().any(|step| step.waits.iter().any(missing));
            if !whole {
                self.steps
                    .retain_mut(|step| mended(step, missing, &meanwhile));
            }
            self.ids = self.steps.iter().map(|step| step.id.clone()).collect();
            if whole {
                return;
            }
        }
    }

    /// The steps in the order they will be taken: a step comes after all it waits for.
    pub(crate) fn into_order(mut self) -> Self {
        let levels = levels(&self.steps);
        let mut steps: Vec<(usize, Step)> = levels.into_iter().zip(self.steps).collect();
        steps.sort_by_key(|(level, _)| *level);
        self.steps = steps.into_iter().map(|(_, step)| step).collect();
        self
    }
}

/// Mends one step's waits; answers whether it stays on the road.
fn mended(
    step: &mut Step,
    missing: impl Fn(&Wait) -> bool,
    meanwhile: impl Fn(&StepId) -> Option<Wait>,
) -> bool {
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
}

/// How many steps must be taken before each.
fn levels(steps: &[Step]) -> Vec<usize> {
    let by_id: BTreeMap<&StepId, usize> = steps
        .iter()
        .enumerate()
        .map(|(index, step)| (&step.id, index))
        .collect();
    let mut comes = BTreeMap::new();
    let mut goes = BTreeMap::new();
    for (index, step) in steps.iter().enumerate() {
        match effect(&step.action) {
            Some((server, group, true)) => comes.insert((group, server), index),
            Some((server, group, false)) => goes.insert((group, server), index),
            None => None,
        };
    }
    let before: Vec<Vec<usize>> = steps
        .iter()
        .map(|step| {
            let of = step.waits.iter().filter_map(|wait| match wait {
                Wait::Step(id) => by_id.get(id),
                Wait::Healthy(instance) => comes.get(&(&instance.group, &instance.server)),
                Wait::Gone(instance) => goes.get(&(&instance.group, &instance.server)),
                Wait::Holds(_)
                | Wait::Ledger(_)
                | Wait::Served(_)
                | Wait::Until(_)
                | Wait::Voters(_) => None,
            });
            of.copied().collect()
        })
        .collect();
    let mut levels = vec![0; steps.len()];
    // A chain is at most as long as the road; a circle, which the lint finds, ends there too.
    for _ in 0..steps.len() {
        let mut settled = true;
        for index in 0..steps.len() {
            let after = before[index]
                .iter()
                .map(|other| levels[*other] + 1)
                .max()
                .unwrap_or(0);
            if after > levels[index] && after < steps.len() {
                levels[index] = after;
                settled = false;
            }
        }
        if settled {
            break;
        }
    }
    levels
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

/// A server's prerequisites are asked for.
pub(crate) fn check_id(server: &ServerName) -> StepId {
    StepId(format!("check {server}"))
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

pub(crate) fn lease_id(server: &ServerName) -> StepId {
    StepId(format!("lease {server}"))
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
