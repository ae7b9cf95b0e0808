//! Stories of servers that stop answering (H8, H14).

use stead_schemas::names::ServerName;
use stead_schemas::observed::Contact;
use stead_schemas::role::Role;
use stead_schemas::time::DurationMs;

use super::host::Host;
use super::model::{Model, SiteExt, mk_site, name};
use crate::render::road;

const DP: &str = "distributionpoint.p01.cm.example/A";

fn three_zones() -> Model {
    let site = mk_site("P01")
        .servers("seattle/room-1", &["p01-f1"])
        .servers("seattle/room-2", &["p01-f2"])
        .servers("seattle/room-3", &["p01-f3"])
        .by_count("distributionPoint", Role::DistributionPoint, 2);
    let mut model = Model::new(site);
    model.converge(12);
    model
}

fn wait(model: &mut Model, seconds: u64) {
    for _ in 0..seconds / 60 {
        model.now = model.now.plus(DurationMs::seconds(59));
        model.pass();
    }
}

#[test]
fn h8_one_of_two_zones_lost_is_withdrawn_and_comes_back() {
    let site = mk_site("P01")
        .servers("seattle/room-1", &["p01-f1"])
        .servers("seattle/room-2", &["p01-f2"])
        .by_count("distributionPoint", Role::DistributionPoint, 2);
    let mut model = Model::new(site);
    model.converge(12);
    model.silence("p01-f1");
    assert!(road(&model.round()).starts_with("now   withdraw distributionPoint@p01-f1"));
    assert_eq!(model.served_as(DP), ["10.1.0.12"]);
    model.silence("p01-f2");
    for _ in 0..5 {
        model.pass();
    }
    assert_eq!(model.served_as(DP), ["10.1.0.12"], "the last one stays");
    model.heal("p01-f1");
    model.heal("p01-f2");
    model.converge(3);
    assert_eq!(model.served_as(DP), ["10.1.0.11", "10.1.0.12"]);
}

#[test]
fn h8_a_server_cut_from_the_reconciler_only_is_shown_not_touched() {
    let mut model = three_zones();
    let since = model.now;
    model.host("p01-f1").contact = Contact::CutOff { since };
    wait(&mut model, 1_200);
    let plan = model.plan();
    let shown = "held  P01/p01-f1: p01-f1 does not answer: what runs there is not known";
    assert_eq!(road(&plan), shown);
    assert_eq!(model.served_as(DP), ["10.1.0.11", "10.1.0.12"]);
}

#[test]
fn h8_a_reconciler_cut_from_all_doubts_itself() {
    let mut model = three_zones();
    for host in model.hosts.values_mut() {
        host.contact = Contact::Unsure { since: model.now };
    }
    model.suspect = true;
    model.change(|site| site.groups.clear());
    let said = "held  P01: no agent of the site is heard: the fault may be the reconciler's own";
    assert_eq!(road(&model.plan()), said);
}

#[test]
fn a_lost_servers_instance_is_placed_elsewhere_after_move_after() {
    let mut model = three_zones();
    let lost = model.now;
    model.silence("p01-f1");
    model.pass();
    assert_eq!(model.served_as(DP), ["10.1.0.12"], "withdrawn at once");
    let plan = model.plan();
    assert_eq!(plan.wake_at, Some(lost.plus(DurationMs::seconds(600))));
    assert!(plan.assignments.is_empty());
    model.pass();
    assert!(road(&model.plan()).contains("now   install distributionPoint@p01-f3"));
    for _ in 0..4 {
        model.pass();
    }
    assert_eq!(model.served_as(DP), ["10.1.0.12", "10.1.0.13"]);

    // It comes back with what it ran: that is stopped, and never published again.
    model.heal("p01-f1");
    let taken: Vec<String> = model
        .taken(6)
        .iter()
        .map(|step| step.id.to_string())
        .collect();
    assert_eq!(
        taken,
        [
            "remove distributionPoint@p01-f1",
            "withdraw p01-f1.cm.example/A"
        ],
        "a leftover goes at once"
    );
    assert_eq!(model.at("distributionPoint"), ["p01-f2", "p01-f3"]);
}

#[test]
fn h8_a_role_that_may_not_overlap_waits_for_confirm_lost() {
    let site = mk_site("P01")
        .servers("seattle/room-1", &["p01-up1"])
        .servers("seattle/room-2", &["p01-up2"])
        .by_count("reportingPoint", Role::ReportingPoint, 1);
    let mut model = Model::new(site);
    model.converge(12);
    model.silence("p01-up1");
    wait(&mut model, 1_200);
    let plan = model.plan();
    let held = plan
        .holds
        .iter()
        .find(|hold| hold.reason.needs_person())
        .unwrap();
    assert_eq!(held.about, "P01/reportingPoint@p01-up1");
    let remedy = held.reason.remedy(&held.about).unwrap();
    assert!(remedy.ends_with("stead confirm-lost p01-up1"));
    assert!(plan.assignments.is_empty());

    model.host("p01-up1").confirmed_lost = true;
    model.converge(6);
    assert_eq!(
        model.served_as("reportingpoint.p01.cm.example/A"),
        ["10.1.0.12"]
    );
}

#[test]
fn h14_a_silent_old_active_keeps_the_new_one_from_starting() {
    let site = mk_site("P01")
        .servers("a", &["p01-a"])
        .servers("b", &["p01-b"]);
    let mut model = Model::new(site.site_server("p01-a", &[]));
    model.converge(12);
    model.silence("p01-a");
    model.host("p01-a").confirmed_lost = true;
    model.change(|site| site.site_server.as_mut().unwrap().active = name("p01-b"));
    let plan = model.plan();
    assert!(plan.assignments.is_empty(), "{}", road(&plan));
    assert!(road(&plan).contains("p01-a was the active site server and is not seen stopped"));

    model.heal("p01-a");
    let ids: Vec<String> = model
        .plan()
        .steps
        .iter()
        .map(|step| step.id.to_string())
        .collect();
    assert_eq!(ids[0], "switch over siteServer p01-a -> p01-b");
    model.converge(12);
    assert_eq!(model.at("siteServer"), ["p01-b"]);
    assert_eq!(model.served_as("p01.cm.example/A"), ["10.1.0.12"]);
}

#[test]
fn h14_after_the_store_is_lost_the_alias_remembers_the_active() {
    let site = mk_site("P01")
        .servers("a", &["p01-a"])
        .servers("b", &["p01-b"]);
    let mut model = Model::new(site.site_server("p01-a", &[]));
    model.converge(12);
    let lost: ServerName = name("p01-a");
    model.hosts.insert(lost.clone(), Host::never(&lost));
    model.change(|site| site.site_server.as_mut().unwrap().active = name("p01-b"));
    assert!(model.plan().assignments.is_empty());
}

#[test]
fn h7_a_new_reconciler_without_a_store_changes_nothing() {
    let mut model = three_zones();
    model.recorded = Default::default();
    model.withdrawn.clear();
    for host in model.hosts.values_mut() {
        host.contact = Contact::Connecting;
        host.heard_at = None;
    }
    for server in ["p01-f2", "p01-f3", "p01-f1"] {
        let plan = model.plan();
        assert!(plan.is_empty() && plan.assignments.is_empty() && plan.records.is_empty());
        model.heal(server);
    }
    assert_eq!(road(&model.plan()), "");
}

#[test]
fn a_server_that_never_joined_is_waited_for_by_hand_and_passed_over_by_count() {
    let site = mk_site("P01")
        .servers("a", &["p01-a"])
        .servers("b", &["p01-b"])
        .by_hand("intranet-proxy", Role::Custom, &["p01-a"])
        .by_count("distributionPoint", Role::DistributionPoint, 1);
    let mut model = Model::new(site);
    let absent: ServerName = name("p01-a");
    model.hosts.insert(absent.clone(), Host::never(&absent));
    model.converge(6);
    assert_eq!(model.at("distributionPoint"), ["p01-b"]);
    let held = "held  P01/p01-a: waiting for p01-a to join (never seen)";
    assert_eq!(road(&model.plan()), held);
}
