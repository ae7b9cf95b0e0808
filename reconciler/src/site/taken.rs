//! Steps that were taken: which are under way, done, or late.
//!
//! Pure. A step is done when the plan no longer has it; one that starts an instance has then still
//! to prove it: the instance must be healthy within the step's own deadline. What is late makes the
//! site count as failed until it is overcome (`guards.maxFailedSites`).

use std::collections::BTreeMap;

use stead_schemas::names::{GroupName, ServerName};
use stead_schemas::observed::SiteObserved;
use stead_schemas::plan::{Action, SitePlan, Step, StepId};
use stead_schemas::time::{DurationMs, WallMs};
use stead_schemas::wire::{Health, Phase};

/// What was taken and is not proven done.
#[derive(Debug, Clone, Default)]
pub struct Taken {
    steps: BTreeMap<StepId, One>,
}

#[derive(Debug, Clone)]
struct One {
    at: WallMs,
    deadline: DurationMs,
    /// It removes an instance for good.
    removal: bool,
    /// What has to be healthy afterwards.
    starts: Option<(GroupName, ServerName)>,
    /// The plan has it no more.
    gone: bool,
    late: bool,
}

/// What a look at the taken steps found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Steps that became late just now.
    pub late: Vec<StepId>,
    /// Removals for good that are done now.
    pub removals: u32,
}

impl Taken {
    /// A step is being taken; again, if it was before: its clock goes on.
    pub fn take(&mut self, step: &Step, now: WallMs) {
        let starts = match &step.action {
            Action::Install { group, server } | Action::Update { group, server } => {
                Some((group.clone(), server.clone()))
            }
            _ => None,
        };
        let one = One {
            at: now,
            deadline: step.deadline,
            removal: step.part_of.is_none() && matches!(step.action, Action::Remove { .. }),
            starts,
            gone: false,
            late: false,
        };
        self.steps
            .entry(step.id.clone())
            .and_modify(|old| old.gone = false)
            .or_insert(one);
    }

    /// Looks at the plan (nothing restricted) and at what is observed.
    pub fn look(&mut self, plan: &SitePlan, observed: &SiteObserved, now: WallMs) -> Progress {
        let mut progress = Progress::default();
        self.steps.retain(|id, one| {
            let planned = plan.steps.iter().any(|step| step.id == *id);
            if !planned && !one.gone {
                one.gone = true;
                progress.removals += u32::from(one.removal);
            }
            let proven = one.gone
                && one
                    .starts
                    .as_ref()
                    .is_none_or(|(group, server)| is_settled(observed, group, server));
            if !proven && !one.late && now.since(one.at) >= one.deadline {
                one.late = true;
                progress.late.push(id.clone());
            }
            !proven
        });
        progress
    }

    /// Something is under way.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.steps.is_empty()
    }

    /// An instance was started and has still to prove itself.
    #[must_use]
    pub fn has_starting(&self) -> bool {
        self.steps.values().any(|one| one.gone)
    }

    /// Another revision: what was late gets its time again.
    pub fn start_revision(&mut self, now: WallMs) {
        for one in self.steps.values_mut() {
            one.late = false;
            one.at = now;
        }
    }

    /// Something is late and not overcome.
    #[must_use]
    pub fn has_late(&self) -> bool {
        self.steps.values().any(|one| one.late)
    }

    /// When the next one would be late.
    #[must_use]
    pub fn next_deadline(&self) -> Option<WallMs> {
        let due = |one: &One| one.at.plus(one.deadline);
        self.steps.values().filter(|one| !one.late).map(due).min()
    }
}

/// Healthy, or no longer there: then it is not this step that waits.
fn is_settled(observed: &SiteObserved, group: &GroupName, server: &ServerName) -> bool {
    let Some(report) = observed
        .servers
        .get(server)
        .and_then(|server| server.report.as_ref())
    else {
        return false;
    };
    match report.instances.get(group) {
        Some(instance) => instance.health == Health::Healthy && instance.phase == Phase::Running,
        None => !report.assigned.contains_key(group),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use stead_schemas::observed::{Contact, ServerObserved};
    use stead_schemas::role::Role;
    use stead_schemas::wire::{AgentReport, InstanceReport, SpecId};

    use super::*;

    fn step(id: &str, action: Action) -> Step {
        Step {
            id: StepId(id.to_owned()),
            action,
            waits: Vec::new(),
            part_of: None,
            because: String::new(),
            place: None,
            deadline: DurationMs(1_000),
        }
    }

    fn install() -> Step {
        let (group, server) = ("dp".parse().unwrap(), "p01-a".parse().unwrap());
        step("install dp@p01-a", Action::Install { group, server })
    }

    fn remove() -> Step {
        let (group, server) = ("dp".parse().unwrap(), "p01-a".parse().unwrap());
        step("remove dp@p01-a", Action::Remove { group, server })
    }

    fn plan(steps: &[Step]) -> SitePlan {
        SitePlan {
            site: "P01".parse().unwrap(),
            revision: "r".into(),
            steps: steps.to_vec(),
            holds: Vec::new(),
            assignments: BTreeMap::new(),
            records: BTreeMap::new(),
            checks: BTreeMap::new(),
            wake_at: None,
        }
    }

    fn world(health: Option<Health>) -> SiteObserved {
        let endpoint = SocketAddr::from(([127, 0, 0, 1], 80));
        let instances = health
            .map(|health| InstanceReport {
                role: Role::DistributionPoint,
                spec: SpecId("1".into()),
                phase: Phase::Running,
                health,
                since: WallMs(0),
                pid: None,
                restarts: 0,
                endpoint,
                message: None,
            })
            .map(|instance| ("dp".parse().unwrap(), instance));
        let report = AgentReport {
            instances: instances
                .into_iter()
                .map(|(name, instance)| (name, Box::new(instance)))
                .collect(),
            ..AgentReport::new("p01-a".parse().unwrap(), WallMs(0))
        };
        let server = ServerObserved {
            contact: Contact::Heard,
            report: Some(Box::new(report)),
            heard_at: None,
            confirmed_lost: None,
            agent: endpoint,
            checked: None,
        };
        SiteObserved {
            servers: BTreeMap::from([("p01-a".parse().unwrap(), server)]),
            ..SiteObserved::default()
        }
    }

    #[test]
    fn a_started_instance_is_done_once_it_is_healthy() {
        let mut taken = Taken::default();
        taken.take(&install(), WallMs(0));
        taken.look(&plan(&[install()]), &world(None), WallMs(10));
        assert!(taken.is_busy() && !taken.has_starting());
        taken.look(&plan(&[]), &world(Some(Health::Unknown)), WallMs(20));
        assert!(taken.has_starting());
        taken.look(&plan(&[]), &world(Some(Health::Healthy)), WallMs(30));
        assert!(!taken.is_busy());
    }

    #[test]
    fn one_that_never_gets_healthy_is_late_once_and_until_it_is_overcome() {
        let mut taken = Taken::default();
        taken.take(&install(), WallMs(0));
        let sick = world(Some(Health::Unhealthy));
        assert_eq!(taken.next_deadline(), Some(WallMs(1_000)));
        assert!(taken.look(&plan(&[]), &sick, WallMs(999)).late.is_empty());
        assert_eq!(taken.look(&plan(&[]), &sick, WallMs(1_000)).late.len(), 1);
        assert!(taken.look(&plan(&[]), &sick, WallMs(2_000)).late.is_empty());
        assert!(taken.has_late());
        taken.start_revision(WallMs(3_000));
        assert!(!taken.has_late(), "a new revision gets its own chance");
        assert_eq!(taken.look(&plan(&[]), &sick, WallMs(4_000)).late.len(), 1);
        taken.look(&plan(&[]), &world(Some(Health::Healthy)), WallMs(4_100));
        assert!(!taken.has_late());
    }

    #[test]
    fn a_removal_counts_when_it_is_done_not_while_it_is_also_planned() {
        let mut taken = Taken::default();
        taken.take(&remove(), WallMs(0));
        let still = taken.look(&plan(&[remove()]), &world(Some(Health::Healthy)), WallMs(1));
        assert_eq!(still.removals, 0);
        let done = taken.look(&plan(&[]), &world(None), WallMs(2));
        assert_eq!(done.removals, 1);
        assert!(!taken.is_busy());
    }
}
