//! Scenarios that read as stories, with small goldens.

use stead_schemas::role::Role;

use super::model::{Host, Model, SiteExt, mk_site};
use crate::render::road;

fn two_points() -> Model {
    let site = mk_site("FAB")
        .servers("hq/room-1", &["fab-mp1", "fab-mp3"])
        .servers("hq/room-2", &["fab-mp2"])
        .by_hand(
            "managementPoint",
            Role::ManagementPoint,
            &["fab-mp1", "fab-mp2"],
        );
    let mut model = Model::new(site);
    model.converge(12);
    model
}

#[test]
fn a_new_site_is_installed_and_published() {
    let model = two_points();
    assert_eq!(model.at("managementPoint"), ["fab-mp1", "fab-mp2"]);
    assert_eq!(
        model.served_as("_mssms_mp_fab._tcp.cm.example/SRV"),
        [
            "10 100 443 fab-mp1.cm.example",
            "10 100 443 fab-mp2.cm.example"
        ]
    );
    assert_eq!(
        model.served_as("managementpoint.fab.cm.example/A"),
        ["10.1.0.11", "10.1.0.13"]
    );
}

#[test]
fn a_management_point_moves() {
    let mut model = two_points();
    model.change(|site| {
        let mp = site.groups.values_mut().next().unwrap();
        mp.placement = stead_schemas::desired::Placement::ByHand(vec![
            "fab-mp2".parse().unwrap(),
            "fab-mp3".parse().unwrap(),
        ]);
    });
    let plan = model.plan();
    assert_eq!(
        road(&plan),
        "\
now   install managementPoint@fab-mp3
now   publish fab-mp3.cm.example/A
later publish managementPoint@fab-mp3 in _mssms_mp_fab._tcp.cm.example/SRV  <- managementPoint@fab-mp3 healthy, [publish fab-mp3.cm.example/A]
later publish managementPoint@fab-mp3 in managementpoint.fab.cm.example/A  <- managementPoint@fab-mp3 healthy
later withdraw managementPoint@fab-mp1 from _mssms_mp_fab._tcp.cm.example/SRV  <- [publish managementPoint@fab-mp3 in _mssms_mp_fab._tcp.cm.example/SRV], [publish managementPoint@fab-mp3 in managementpoint.fab.cm.example/A]
later withdraw managementPoint@fab-mp1 from managementpoint.fab.cm.example/A  <- [publish managementPoint@fab-mp3 in _mssms_mp_fab._tcp.cm.example/SRV], [publish managementPoint@fab-mp3 in managementpoint.fab.cm.example/A]
later drain managementPoint@fab-mp1  <- [withdraw managementPoint@fab-mp1 from _mssms_mp_fab._tcp.cm.example/SRV], [withdraw managementPoint@fab-mp1 from managementpoint.fab.cm.example/A]
later remove managementPoint@fab-mp1  <- [drain managementPoint@fab-mp1]
later withdraw fab-mp1.cm.example/A  <- [remove managementPoint@fab-mp1], [withdraw managementPoint@fab-mp1 from _mssms_mp_fab._tcp.cm.example/SRV]"
    );
    let began = model.now;
    let taken: Vec<String> = model
        .taken(12)
        .iter()
        .map(|step| step.id.to_string())
        .collect();
    assert_eq!(
        taken,
        [
            "install managementPoint@fab-mp3",
            "publish fab-mp3.cm.example/A",
            "publish managementPoint@fab-mp3 in _mssms_mp_fab._tcp.cm.example/SRV",
            "publish managementPoint@fab-mp3 in managementpoint.fab.cm.example/A",
            "withdraw managementPoint@fab-mp1 from _mssms_mp_fab._tcp.cm.example/SRV",
            "withdraw managementPoint@fab-mp1 from managementpoint.fab.cm.example/A",
            "remove managementPoint@fab-mp1",
            "withdraw fab-mp1.cm.example/A",
        ]
    );
    assert!(
        model.now.since(began) >= stead_schemas::time::DurationMs::seconds(60),
        "H27: TTL + drain"
    );
    assert_eq!(model.at("managementPoint"), ["fab-mp2", "fab-mp3"]);
}

#[test]
fn h8_one_of_two_zones_lost_is_withdrawn_and_comes_back() {
    let site = mk_site("P01")
        .servers("seattle/room-1", &["p01-f1"])
        .servers("seattle/room-2", &["p01-f2"])
        .by_count("distributionPoint", Role::DistributionPoint, 2)
        .with(|site| site.protect = false);
    let mut model = Model::new(site);
    model.converge(12);
    model.silence("p01-f1");
    assert!(road(&model.round()).starts_with("now   withdraw distributionPoint@p01-f1"));
    assert_eq!(
        model.served_as("distributionpoint.p01.cm.example/A"),
        ["10.1.0.12"]
    );
    assert!(model.serves("distributionPoint"));
    model.heal("p01-f1");
    model.converge(3);
    assert_eq!(
        model.served_as("distributionpoint.p01.cm.example/A"),
        ["10.1.0.11", "10.1.0.12"]
    );
}

#[test]
fn h14_a_silent_old_active_keeps_the_new_one_from_starting() {
    let site = mk_site("P01")
        .servers("a", &["p01-a"])
        .servers("b", &["p01-b"]);
    let mut model = Model::new(site.site_server("p01-a", &["p01-b"]));
    model.converge(12);
    model.silence("p01-a");
    model.host("p01-a").confirmed_lost = true;
    model.change(|site| site.site_server.as_mut().unwrap().active = "p01-b".parse().unwrap());
    let plan = model.plan();
    assert!(plan.assignments.is_empty(), "{}", road(&plan));
    assert!(road(&plan).contains("p01-a was the active site server and is not seen stopped"));
    model.heal("p01-a");
    assert_eq!(model.at("siteServer"), ["p01-a"]);
    model.converge(12);
    assert_eq!(model.at("siteServer"), ["p01-b"]);
    assert_eq!(model.served_as("p01.cm.example/A"), ["10.1.0.12"]);
}

#[test]
fn a_server_that_never_joined_is_waited_for() {
    let site = mk_site("P01").servers("a", &["p01-a"]).by_hand(
        "distributionPoint",
        Role::DistributionPoint,
        &["p01-a"],
    );
    let mut model = Model::new(site);
    let server = "p01-a".parse().unwrap();
    model
        .hosts
        .insert(server, Host::never(&"p01-a".parse().unwrap()));
    assert_eq!(
        road(&model.plan()),
        "held  P01/p01-a: waiting for p01-a to join (never seen)"
    );
}
