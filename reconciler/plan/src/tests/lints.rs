//! The lint finds what it is for: each rule with a plan that breaks it.

use std::collections::BTreeSet;

use stead_schemas::desired::Placement;
use stead_schemas::observed::Contact;
use stead_schemas::plan::{Action, PlannedAssignment, SitePlan, Step, StepId, Wait};
use stead_schemas::role::Role;
use stead_schemas::time::DurationMs;

use super::model::{Model, SiteExt, mk_generation, mk_site, name};
use crate::NoteKind;

const DP: &str = "distributionpoint.p01.cm.example/A";

/// Two distribution points and a site server, converged; one more is to come.
fn growing() -> Model {
    let site = mk_site("P01")
        .servers("a", &["p01-a"])
        .servers("b", &["p01-b"])
        .servers("c", &["p01-c"])
        .site_server("p01-a", &["p01-b"])
        .by_hand(
            "distributionPoint",
            Role::DistributionPoint,
            &["p01-a", "p01-b"],
        );
    let mut model = Model::new(site);
    model.converge(12);
    model.change(|site| {
        let all = ["p01-a", "p01-b", "p01-c"].map(name).to_vec();
        site.groups
            .get_mut(&name("distributionPoint"))
            .unwrap()
            .placement = Placement::ByHand(all);
    });
    model
}

fn kinds(model: &Model, plan: &SitePlan) -> BTreeSet<NoteKind> {
    let notes = crate::lint(
        model.desired.as_ref(),
        &model.observe(),
        &model.context(),
        plan,
    );
    notes.into_iter().map(|note| note.kind).collect()
}

fn broken(model: &Model, change: impl FnOnce(&mut SitePlan)) -> BTreeSet<NoteKind> {
    let mut plan = model.plan();
    change(&mut plan);
    kinds(model, &plan)
}

fn mk_step(id: &str, action: Action) -> Step {
    Step {
        id: StepId(id.to_owned()),
        action,
        waits: Vec::new(),
        part_of: None,
        because: String::new(),
        place: None,
        deadline: DurationMs(0),
    }
}

/// A plan that removes instances at once, payload and all.
fn removing(model: &Model, group: &str, servers: &[&str]) -> SitePlan {
    let mut plan = model.plan();
    for server in servers {
        let step = mk_step(
            &format!("remove {group}@{server}"),
            Action::Remove {
                group: name(group),
                server: name(server),
            },
        );
        let observed = model.observe();
        let report = observed.servers[&name(server)].report.clone().unwrap();
        let mut instances = report.assigned;
        instances.remove(&name(group));
        let assignment = PlannedAssignment {
            lease: None,
            based_on: report.generation,
            instances,
            steps: vec![step.id.clone()],
        };
        plan.assignments.insert(name(server), assignment);
        plan.steps.push(step);
    }
    plan
}

#[test]
fn steps_and_payloads_belong_together() {
    let model = growing();
    assert!(kinds(&model, &model.plan()).is_empty());
    let twice = broken(&model, |plan| plan.steps.push(plan.steps[0].clone()));
    assert!(twice.contains(&NoteKind::DuplicateStep));
    let bare = broken(&model, |plan| plan.assignments.clear());
    assert!(bare.contains(&NoteKind::PayloadMissing));
    let early = broken(&model, |plan| {
        let step = plan
            .steps
            .iter()
            .position(|step| !step.waits.is_empty())
            .unwrap();
        plan.steps[step].waits.clear();
    });
    assert!(early.contains(&NoteKind::PayloadMissing));
    let dangling = broken(&model, |plan| {
        plan.steps
            .last_mut()
            .unwrap()
            .waits
            .push(Wait::Step(StepId("nothing".into())));
    });
    assert!(dangling.contains(&NoteKind::WaitsForNothing));
    let idle = broken(&model, |plan| {
        let action = Action::Drain {
            group: name("distributionPoint"),
            server: name("p01-a"),
        };
        plan.steps
            .push(mk_step("drain distributionPoint@p01-a", action));
    });
    assert!(idle.contains(&NoteKind::IdleDrain));
}

#[test]
fn payloads_change_only_what_steps_name_and_rest_on_what_was_seen() {
    let model = growing();
    let stale = broken(&model, |plan| {
        plan.assignments.values_mut().next().unwrap().based_on = Some(mk_generation(77));
    });
    assert!(stale.contains(&NoteKind::NotBasedOnObserved));
    let beyond = broken(&model, |plan| {
        let assignment = plan.assignments.values_mut().next().unwrap();
        let spec = assignment.instances.values().next().unwrap().clone();
        assignment.instances.insert(name("stowaway"), spec);
    });
    assert!(beyond.contains(&NoteKind::PayloadBeyondSteps));
}

#[test]
fn nothing_is_sent_to_a_server_that_is_not_heard() {
    let mut model = growing();
    let plan = model.plan();
    model.host("p01-c").contact = Contact::Unsure { since: model.now };
    assert!(kinds(&model, &plan).contains(&NoteKind::DestroysUnknown));
}

#[test]
fn the_last_healthy_one_and_the_active_stay() {
    let model = growing();
    let all = removing(&model, "distributionPoint", &["p01-a", "p01-b"]);
    let notes = kinds(&model, &all);
    assert!(notes.contains(&NoteKind::LastHealthy) && notes.contains(&NoteKind::RemovesPublished));
    let active = removing(&model, "siteServer", &["p01-a"]);
    assert!(kinds(&model, &active).contains(&NoteKind::StopsActive));
}

#[test]
fn only_our_records_are_written_and_never_emptied() {
    let mut model = growing();
    model.pass();
    model.pass();
    model.host("p01-c").broken.insert(name("distributionPoint"));
    model.pass();
    let mut plan = model.plan();
    while plan.records.is_empty() {
        model.pass();
        model.host("p01-c").broken.clear();
        plan = model.plan();
    }
    assert!(kinds(&model, &plan).is_empty());
    let mut emptied = plan.clone();
    let record = emptied.records.get_mut(&name(DP)).unwrap();
    record.want.as_mut().unwrap().values.clear();
    assert!(kinds(&model, &emptied).contains(&NoteKind::EmptiesRecord));
    model.records.get_mut(&name(DP)).unwrap().mark = Some("v=1 h=other s=P01 t=0 g=1:a:b.1".into());
    assert!(kinds(&model, &plan).contains(&NoteKind::WritesForeign));
}
