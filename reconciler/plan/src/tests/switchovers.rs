//! Stories of sites under a lease: begun, switched over, failed over, ended, and what is held.

use stead_schemas::desired::SiteDesired;
use stead_schemas::observed::{Contact, SiteRecorded};
use stead_schemas::plan::{HoldReason, SitePlan};
use stead_schemas::role::Role;
use stead_schemas::time::{DurationMs, WallMs};

use super::host::Host;
use super::model::{Model, SiteExt as _, mk_site, name};
use super::voters::leased;
use crate::render::{self, road};
use crate::{Parked, parked};

fn servers() -> SiteDesired {
    mk_site("P01")
        .servers("seattle/room-1", &["p01-a"])
        .servers("seattle/room-2", &["p01-b"])
        .servers("seattle/room-3", &["p01-w", "p01-x"])
}

fn pair() -> SiteDesired {
    leased(servers(), "p01-a", &["p01-b"], &["p01-w"])
}

fn running() -> Model {
    let mut model = Model::new(pair());
    model.converge(20);
    assert_eq!(model.holder(), Some("p01-a"));
    model
}

/// Steps that are no records: the holder's agent writes the alias (H22).
fn steps(plan: &SitePlan) -> Vec<String> {
    let road = road(plan);
    let lines = road.lines().map(ToOwned::to_owned);
    lines.filter(|line| !line.contains("cm.example")).collect()
}

fn taken(model: &mut Model) -> Vec<String> {
    let taken = model.taken(20).into_iter().map(|step| step.id.to_string());
    taken.filter(|id| !id.contains("cm.example")).collect()
}

fn activate(model: &mut Model, active: &str, passive: &str) {
    model.commit(leased(servers(), active, &[passive], &["p01-w"]));
}

fn kill(model: &mut Model, server: &str) {
    model.silence(server);
    for _ in 0..3 {
        model.pass();
    }
}

fn reasons(model: &Model) -> Vec<HoldReason> {
    model
        .plan()
        .holds
        .into_iter()
        .map(|hold| hold.reason)
        .collect()
}

#[test]
fn h4_a_new_site_is_told_its_lease_and_then_who_founds_it() {
    let mut model = Model::new(pair());
    let text = render::report(&[(model.desired.as_ref(), &model.plan())]);
    assert!(
        text.starts_with(
            "\
~ lease  P01/siteServer  p01-a  votes, may be active; declared active p01-a   sites/P01.yaml:20:5
~ lease  P01/siteServer  p01-b  votes, may be active; declared active p01-a   sites/P01.yaml:20:5
~ lease  P01/siteServer  p01-w  votes; declared active p01-a   sites/P01.yaml:20:5
+ install  P01/siteServer  p01-a  install, healthy   sites/P01.yaml:20:5
+ install  P01/siteServer  p01-b  install, healthy   sites/P01.yaml:20:5
"
        ),
        "{text}"
    );
    model.pass();
    let told = model.host("p01-w").real.assigned_lease.clone().unwrap();
    assert_eq!(told.founders, None);
    assert_eq!(model.holder(), None);
    model.pass();
    assert_eq!(model.at("siteServer"), ["p01-a", "p01-b"]);
    assert_eq!(model.holder(), None, "it begins with somebody to hold it");
    model.pass();
    let told = model.host("p01-w").real.assigned_lease.clone().unwrap();
    assert_eq!(told.founders.unwrap().len(), 3);
    assert_eq!(model.holder(), Some("p01-a"));
    model.converge(4);
    assert_eq!(model.at("siteServer"), ["p01-a", "p01-b"]);
    assert_eq!(reasons(&model), []);
}

#[test]
fn h4_a_site_is_not_founded_before_every_voter_is_heard() {
    let mut model = Model::new(pair());
    let witness = name("p01-w");
    model.hosts.insert(name("p01-w"), Host::never(&witness));
    for _ in 0..4 {
        model.pass();
    }
    assert_eq!(model.holder(), None);
    assert!(reasons(&model).contains(&HoldReason::FoundingWaits {
        voter: name("p01-w")
    }));
    assert!(model.plan().is_empty(), "{}", road(&model.plan()));
    model.heal("p01-w");
    model.converge(8);
    assert_eq!(model.holder(), Some("p01-a"));
}

#[test]
fn h4_a_founding_is_repeated_for_a_voter_that_missed_it() {
    let mut model = Model::new(pair());
    model.pass();
    model.pass();
    let plan = model.plan();
    model.silence("p01-w");
    let mut part = plan.clone();
    part.assignments
        .retain(|server, _| server.as_str() != "p01-w");
    model.carry_out(&part);
    model.vote();
    model.pass();
    assert_eq!(model.holder(), Some("p01-a"));
    model.heal("p01-w");
    assert_eq!(taken(&mut model), ["lease p01-w"]);
    let voters = model.host("p01-a").lease().voters.clone();
    assert_eq!(model.host("p01-w").lease().voters, voters);
}

#[test]
fn h4_a_reconciler_that_votes_is_waited_for() {
    let mut model = Model::new(leased(servers(), "p01-a", &["p01-b"], &["stead-1"]));
    for _ in 0..4 {
        model.pass();
    }
    assert!(reasons(&model).contains(&HoldReason::FoundingWaits {
        voter: name("stead-1")
    }));
    model.voting.witness.insert(name("stead-1"), 77);
    model.converge(8);
    assert_eq!(model.in_force(), ["p01-a", "p01-b", "stead-1"]);
}

#[test]
fn h14_a_running_site_gets_a_passive_without_an_outage_before_its_lease_begins() {
    let mut model = Model::new(servers().site_server("p01-a", &[]));
    model.converge(8);
    model.commit(pair());
    assert_eq!(
        steps(&model.plan()),
        [
            "now   check p01-b",
            "now   check p01-a",
            "now   lease p01-a",
            "now   lease p01-b",
            "now   lease p01-w",
            "later install siteServer@p01-b  <- [check p01-b]",
            "later update siteServer@p01-a  <- siteServer@p01-b healthy, p01-a opens its vote ledger, p01-b opens its vote ledger, p01-w opens its vote ledger, [check p01-a], [check p01-b]",
        ]
    );
    model.pass();
    model.pass();
    let plan = model.plan();
    let now: Vec<&str> = plan.ready().map(|step| step.id.0.as_str()).collect();
    let begins = [
        "update siteServer@p01-a",
        "lease p01-a",
        "lease p01-b",
        "lease p01-w",
    ];
    assert_eq!(now, begins, "{}", road(&plan));
    model.converge(6);
    assert_eq!(model.holder(), Some("p01-a"));
    assert_eq!(model.at("siteServer"), ["p01-a", "p01-b"]);
}

#[test]
fn h14_a_silent_voter_keeps_a_running_site_without_a_lease_as_it_is() {
    let mut model = Model::new(servers().site_server("p01-a", &[]));
    model.converge(8);
    let witness = name("p01-w");
    model.hosts.insert(name("p01-w"), Host::never(&witness));
    model.commit(pair());
    for _ in 0..5 {
        model.pass();
    }
    let spec = model.host("p01-a").real.assigned[&name("siteServer")].clone();
    assert!(spec.settings.is_null(), "it works on");
    let waits = HoldReason::FoundingWaits {
        voter: name("p01-w"),
    };
    assert!(reasons(&model).contains(&waits));
}

#[test]
fn h14_who_was_active_without_a_lease_stands_by_before_another_begins_one() {
    let mut model = Model::new(servers().site_server("p01-b", &[]));
    model.converge(8);
    model.commit(pair());
    for _ in 0..10 {
        if model.plan().is_empty() {
            break;
        }
        model.pass();
        let old = &model.hosts[&name("p01-b")].real.assigned[&name("siteServer")];
        assert!(model.holder().is_none() || !old.settings.is_null());
    }
    assert_eq!(model.holder(), Some("p01-a"));
}

#[test]
fn h11_a_changed_active_is_asked_of_the_holder_and_waited_for() {
    let mut model = running();
    activate(&mut model, "p01-b", "p01-a");
    let plan = model.plan();
    assert_eq!(
        steps(&plan)[..4],
        [
            "now   lease p01-a",
            "now   lease p01-b",
            "now   lease p01-w",
            "later switch over siteServer p01-a -> p01-b  <- [lease p01-a], [lease p01-b], p01-b holds the lease",
        ]
    );
    let switch = plan
        .steps
        .iter()
        .find(|step| step.is_destructive())
        .unwrap();
    assert_eq!(
        switch.because,
        "sites/P01.yaml:20:5 declares p01-b the active site server"
    );
    let text = render::report(&[(model.desired.as_ref(), &plan)]);
    assert!(
        text.contains(
            "~ switch over  P01/siteServer  p01-a -> p01-b  the holder hands the lease over"
        ),
        "{text}"
    );
    assert!(text.contains("1 to switch over"), "{text}");
    assert_eq!(
        taken(&mut model),
        ["lease p01-a", "lease p01-b", "lease p01-w"]
    );
    assert_eq!(model.holder(), Some("p01-b"));
    assert_eq!(
        model.at("siteServer"),
        ["p01-a", "p01-b"],
        "nothing was stopped"
    );
}

#[test]
fn h21_b_and_then_a_again_are_both_honoured() {
    let mut model = running();
    for (active, passive) in [("p01-b", "p01-a"), ("p01-a", "p01-b"), ("p01-b", "p01-a")] {
        activate(&mut model, active, passive);
        model.converge(6);
        assert_eq!(model.holder(), Some(active));
    }
}

#[test]
fn h21_nothing_is_done_after_a_failover_also_without_the_reconcilers_records() {
    let mut model = running();
    kill(&mut model, "p01-a");
    assert_eq!(model.holder(), Some("p01-b"));
    model.heal("p01-a");
    for _ in 0..3 {
        model.recorded = SiteRecorded::default();
        assert_eq!(steps(&model.plan()), [""; 0]);
        assert!(model.plan().is_empty());
        model.pass();
    }
    assert_eq!(model.holder(), Some("p01-b"));
    let parked = parked(model.desired.as_ref().unwrap(), &model.observe());
    let declared = Parked {
        declared: name("p01-a"),
        holder: name("p01-b"),
    };
    assert_eq!(parked, Some(declared));
    activate(&mut model, "p01-b", "p01-a");
    model.converge(6);
    activate(&mut model, "p01-a", "p01-b");
    model.converge(6);
    assert_eq!(model.holder(), Some("p01-a"), "a changed value is honoured");
}

#[test]
fn h21_what_was_said_about_an_older_memory_is_said_again() {
    let mut model = running();
    activate(&mut model, "p01-b", "p01-a");
    let plan = model.plan();
    // A switchover by hand and back, before the agents are told.
    model.ask_for("p01-b");
    model.ask_for("p01-a");
    model.carry_out(&plan);
    model.vote();
    assert_eq!(model.holder(), Some("p01-a"), "said about an older memory");
    assert!(model.plan().ready().any(|step| step.id.0 == "lease p01-a"));
    model.converge(6);
    assert_eq!(model.holder(), Some("p01-b"));
}

#[test]
fn h21_a_switchover_by_hand_is_on_the_road_until_it_is_done_and_then_parks() {
    let mut model = running();
    model.host("p01-b").broken.insert(name("siteServer"));
    model.pass();
    model.ask_for("p01-b");
    let not_ready = |reason: &HoldReason| matches!(reason, HoldReason::NotReady { .. });
    assert!(
        reasons(&model).iter().any(not_ready),
        "{}",
        road(&model.plan())
    );
    model.host("p01-b").broken.clear();
    model.pass();
    model.pass();
    assert_eq!(model.holder(), Some("p01-b"));
    assert!(model.plan().is_empty());
    assert!(parked(model.desired.as_ref().unwrap(), &model.observe()).is_some());
}

#[test]
fn h3_a_passive_is_removed_once_it_does_not_vote() {
    let mut model = Model::new(leased(servers(), "p01-a", &["p01-b", "p01-x"], &["p01-w"]));
    model.converge(12);
    model.commit(pair());
    assert_eq!(
        taken(&mut model),
        [
            "lease p01-a",
            "lease p01-b",
            "lease p01-w",
            "lease p01-x",
            "remove siteServer@p01-x",
            "lease p01-x"
        ]
    );
    assert_eq!(model.in_force(), ["p01-a", "p01-b", "p01-w"]);
    assert_eq!(model.host("p01-x").real.assigned_lease, None);
}

#[test]
fn h3_a_passive_becomes_a_witness() {
    let mut model = running();
    model.commit(leased(servers(), "p01-a", &["p01-w"], &["p01-b"]));
    model.converge(8);
    assert_eq!(model.at("siteServer"), ["p01-a", "p01-w"]);
    assert_eq!(model.in_force(), ["p01-a", "p01-b", "p01-w"]);
}

#[test]
fn h3_the_last_passive_goes_the_lease_after_it() {
    let mut model = running();
    model.commit(servers().site_server("p01-a", &[]));
    assert_eq!(
        taken(&mut model)[..3],
        ["lease p01-a", "lease p01-b", "lease p01-w"]
    );
    assert_eq!(model.at("siteServer"), ["p01-a"]);
    for host in model.hosts.values() {
        assert_eq!(host.real.assigned_lease, None);
    }
    let spec = model.host("p01-a").real.assigned[&name("siteServer")].clone();
    assert!(spec.settings.is_null());
}

#[test]
fn h3_a_passive_that_holds_is_not_removed_before_it_handed_over() {
    let mut model = running();
    kill(&mut model, "p01-a");
    model.heal("p01-a");
    model.commit(leased(servers(), "p01-a", &["p01-x"], &["p01-w"]));
    for _ in 0..8 {
        model.pass();
        assert_eq!(
            model.holder(),
            Some("p01-b"),
            "parked: nobody asked for another"
        );
        assert!(model.at("siteServer").contains(&"p01-b".to_owned()));
    }
    let holds = HoldReason::HoldsLease {
        server: name("p01-b"),
    };
    assert!(reasons(&model).contains(&holds), "{}", road(&model.plan()));
    model.ask_for("p01-x");
    model.converge(8);
    assert_eq!(model.in_force(), ["p01-a", "p01-w", "p01-x"]);
    assert_eq!(model.at("siteServer"), ["p01-a", "p01-x"]);
}

#[test]
fn h11_active_and_passive_are_both_replaced_in_one_commit() {
    let mut model = running();
    let site = servers().servers("seattle/room-4", &["p01-y"]);
    model.commit(leased(site, "p01-x", &["p01-y"], &["p01-w"]));
    model.converge(16);
    assert_eq!(model.holder(), Some("p01-x"));
    assert_eq!(model.in_force(), ["p01-w", "p01-x", "p01-y"]);
    assert_eq!(model.at("siteServer"), ["p01-x", "p01-y"]);
    assert_eq!(model.host("p01-a").real.assigned_lease, None);
}

#[test]
fn h14_a_lease_is_not_ended_in_favour_of_a_server_without_a_vote() {
    let mut model = running();
    model.commit(servers().site_server("p01-x", &[]));
    for _ in 0..4 {
        model.pass();
    }
    assert_eq!(model.at("siteServer"), ["p01-a", "p01-b"]);
    let holds = HoldReason::HoldsLease {
        server: name("p01-a"),
    };
    assert!(reasons(&model).contains(&holds));
}

#[test]
fn h4_a_voter_with_a_lost_ledger_votes_only_after_a_person_let_it_in() {
    let mut model = running();
    model.host("p01-b").forget();
    model.vote();
    let lost = HoldReason::NewLedger {
        server: name("p01-b"),
    };
    for _ in 0..4 {
        model.pass();
        assert!(reasons(&model).contains(&lost));
    }
    assert!(model.plan().is_empty());
    assert_eq!(model.host("p01-b").lease().voters, None);
    model.voting.replaced.insert(name("p01-b"));
    model.converge(6);
    assert!(model.host("p01-b").lease().voters.is_some());
    model.voting.replaced.clear();
    assert!(model.plan().is_empty() && !reasons(&model).contains(&lost));
}

#[test]
fn h19_the_fourth_failover_in_an_hour_waits_for_a_person() {
    let mut model = running();
    for _ in 0..3 {
        let holder = model.holder().unwrap().to_owned();
        model.silence(&holder);
        model.vote();
        model.heal(&holder);
        model.vote();
    }
    assert_eq!(model.memory().failovers.len(), 3);
    let spent = HoldReason::FailoversSpent { limit: 3 };
    assert!(reasons(&model).contains(&spent));
    let first = model.memory().failovers[0];
    let end = first.plus(DurationMs::seconds(3_600));
    assert!(model.plan().wake_at.is_some_and(|wake| wake <= end));
    model.now = first.plus(DurationMs::seconds(3_600));
    assert!(!reasons(&model).contains(&spent));
}

#[test]
fn h31_a_voter_that_says_it_cannot_vote_is_told_to_a_person() {
    let mut model = running();
    let host = model.host("p01-w");
    host.real.lease.as_mut().unwrap().problem = Some("its disk is full".into());
    let problem = HoldReason::VoterProblem {
        server: name("p01-w"),
        problem: "its disk is full".into(),
    };
    assert!(reasons(&model).contains(&problem));
}

#[test]
fn h8_who_is_not_heard_is_not_told_and_nothing_is_taken_from_it() {
    let mut model = running();
    model.host("p01-a").contact = Contact::CutOff { since: WallMs(1) };
    activate(&mut model, "p01-b", "p01-a");
    let plan = model.plan();
    assert!(!plan.assignments.contains_key(&name("p01-a")));
    let unknown = |reason: &HoldReason| matches!(reason, HoldReason::UnknownObservation { .. });
    assert!(reasons(&model).iter().any(unknown));
}

#[test]
fn a_leased_site_goes_with_its_lease_last() {
    let mut model = Model::new(pair().by_hand("dp", Role::DistributionPoint, &["p01-x"]));
    model.converge(20);
    model.desired = None;
    let order = taken(&mut model);
    let last = ["lease p01-a", "lease p01-b", "lease p01-w"];
    assert!(order.ends_with(&last.map(ToOwned::to_owned)), "{order:?}");
    for host in model.hosts.values() {
        assert!(host.real.instances.is_empty() && host.real.assigned_lease.is_none());
    }
}

#[test]
fn h31_a_suspension_stops_the_reconciler_and_only_when_told_to_failover_as_well() {
    let mut model = running();
    model.suspended = vec![crate::Suspension {
        scope: crate::Scope::Site(name("P01")),
        by: "alice".into(),
        why: "CHG-1".into(),
        until: None,
    }];
    assert!(model.plan().is_empty(), "failover goes on");
    model.voting.manual = true;
    let told = ["lease p01-a", "lease p01-b", "lease p01-w"];
    assert_eq!(taken(&mut model), told, "through the suspension");
    let automatic = |model: &Model| {
        let hosts = model.hosts.values();
        let specs = hosts.filter_map(|host| host.real.assigned_lease.as_deref());
        specs.map(|spec| spec.automatic).collect::<Vec<_>>()
    };
    assert_eq!(automatic(&model), [false; 3]);
    assert!(model.plan().is_empty(), "and once");
    model.voting.manual = false;
    assert!(model.plan().is_empty(), "nothing else goes through it");
    model.suspended.clear();
    assert_eq!(taken(&mut model), told);
    assert_eq!(automatic(&model), [true; 3]);
    assert_eq!(model.holder(), Some("p01-a"));
}
