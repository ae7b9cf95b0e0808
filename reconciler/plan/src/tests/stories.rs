//! Scenarios that read as stories, with small goldens: moves, updates, renames, removals.

use stead_schemas::desired::Placement;
use stead_schemas::plan::HoldReason;
use stead_schemas::record::RecordSet;
use stead_schemas::role::Role;
use stead_schemas::time::DurationMs;

use super::model::{Model, SiteExt, mk_service, mk_site, name};
use crate::render::{self, road};
use crate::{Permits, Scope, Suspension};

const MP: &str = "managementpoint.fab.cm.example/A";

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

fn put(model: &mut Model, group: &str, servers: &[&str]) {
    let servers = servers.iter().map(|server| name(server)).collect();
    model.change(|site| {
        site.groups.get_mut(&name(group)).unwrap().placement = Placement::ByHand(servers);
    });
}

fn taken(model: &mut Model) -> Vec<String> {
    model
        .taken(40)
        .iter()
        .map(|step| step.id.to_string())
        .collect()
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
    assert_eq!(model.served_as(MP), ["10.1.0.11", "10.1.0.13"]);
}

#[test]
fn a_management_point_moves() {
    let mut model = two_points();
    put(&mut model, "managementPoint", &["fab-mp2", "fab-mp3"]);
    let plan = model.plan();
    let text = render::report(&[(model.desired.as_ref(), &plan)]);
    assert_eq!(
        text,
        "\
~ move  FAB/managementPoint  fab-mp1 -> fab-mp3  install, healthy, publish, withdraw, drain 1m, remove   sites/P01.yaml:29:5
        managementPoint: never fewer than 2 of 2; interruption: none
+ publish  dns:fab-mp3.cm.example/A  the server has role instances   sites/P01.yaml:22:5
- withdraw  dns:fab-mp1.cm.example/A  nothing declared wants it
Plan: 0 to install, 0 to update, 1 to move, 0 to remove, 0 to switch over, 3 records to publish, 3 to withdraw
"
    );
    let began = model.now;
    assert_eq!(
        taken(&mut model),
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
        model.now.since(began) >= DurationMs::seconds(60),
        "H27: TTL and drain.wait"
    );
    assert_eq!(model.at("managementPoint"), ["fab-mp2", "fab-mp3"]);
}

#[test]
fn the_only_management_point_of_a_secondary_moves_without_a_gap() {
    let site = mk_site("S01").servers("a", &["s01-a", "s01-b"]).by_hand(
        "managementPoint",
        Role::ManagementPoint,
        &["s01-a"],
    );
    let mut model = Model::new(site);
    model.converge(6);
    put(&mut model, "managementPoint", &["s01-b"]);
    while !model.plan().is_empty() {
        model.pass();
        assert!(model.serves("managementPoint"));
        assert!(
            !model
                .served_as("_mssms_mp_s01._tcp.cm.example/SRV")
                .is_empty()
        );
    }
    assert_eq!(model.at("managementPoint"), ["s01-b"]);
}

#[test]
fn a_move_names_both_ends_to_its_last_step() {
    let mut model = two_points();
    put(&mut model, "managementPoint", &["fab-mp2", "fab-mp3"]);
    for plan in model.converge(20) {
        let counts = plan.counts();
        assert_eq!(counts.to_remove, 0, "moves don't count\n{}", road(&plan));
        let removal = plan
            .steps
            .iter()
            .find(|step| step.id.0 == "remove managementPoint@fab-mp1");
        if let Some(removal) = removal {
            assert_eq!(removal.part_of.as_ref().unwrap().to.as_str(), "fab-mp3");
        }
    }
}

#[test]
fn updates_go_one_after_another_out_of_dns() {
    let mut model = two_points();
    model.change(|site| {
        let group = site.groups.get_mut(&name("managementPoint")).unwrap();
        group.service = Some(mk_service("2"));
    });
    let steps = taken(&mut model);
    let order: Vec<&String> = steps.iter().filter(|id| !id.contains("_tcp")).collect();
    assert_eq!(
        order,
        [
            "withdraw managementPoint@fab-mp1 from managementpoint.fab.cm.example/A",
            "update managementPoint@fab-mp1",
            "publish managementPoint@fab-mp1 in managementpoint.fab.cm.example/A",
            "withdraw managementPoint@fab-mp2 from managementpoint.fab.cm.example/A",
            "update managementPoint@fab-mp2",
            "publish managementPoint@fab-mp2 in managementpoint.fab.cm.example/A",
        ]
    );
}

#[test]
fn a_bad_update_stops_at_the_first_instance() {
    let mut model = two_points();
    for server in ["fab-mp1", "fab-mp2"] {
        model.host(server).will_break = Some(mk_service("bad").program);
    }
    model.change(|site| {
        let group = site.groups.get_mut(&name("managementPoint")).unwrap();
        group.service = Some(mk_service("bad"));
    });
    for _ in 0..30 {
        model.pass();
    }
    assert_eq!(
        model.served_as(MP),
        ["10.1.0.13"],
        "the other one was not touched"
    );
    let held = "held  FAB/managementPoint@fab-mp1: FAB/managementPoint@fab-mp1 is not healthy: exit status 1";
    assert!(
        road(&model.plan()).contains(held),
        "{}",
        road(&model.plan())
    );
}

#[test]
fn an_only_instance_is_updated_in_place_and_the_interruption_said() {
    let site = mk_site("P01").servers("a", &["p01-a"]).by_count(
        "managementPoint",
        Role::ManagementPoint,
        1,
    );
    let mut model = Model::new(site);
    model.converge(6);
    model.change(|site| site.groups.get_mut(&name("managementPoint")).unwrap().port = 8443);
    let plan = model.plan();
    assert!(
        plan.steps[0].because.contains("interruption"),
        "{}",
        plan.steps[0].because
    );
    model.converge(4);
    assert_eq!(
        model.served_as("_mssms_mp_p01._tcp.cm.example/SRV"),
        ["10 100 8443 p01-a.cm.example"]
    );
}

#[test]
fn instances_spread_over_zones_and_stay_where_they_are() {
    let site = mk_site("P01")
        .servers("seattle/room-1", &["p01-f1", "p01-f2"])
        .servers("seattle/room-2", &["p01-f3", "p01-f4"])
        .servers("tacoma/room-1", &["p01-f5"])
        .by_count("distributionPoint", Role::DistributionPoint, 3);
    let mut model = Model::new(site);
    model.converge(6);
    assert_eq!(
        model.at("distributionPoint"),
        ["p01-f1", "p01-f3", "p01-f5"]
    );
    model.change(|site| *site = site.clone().servers("portland/room-1", &["p01-f6"]));
    assert_eq!(road(&model.plan()), "", "nothing moves for a new zone");
}

/// Two counted groups with one port: never on one server, whichever was there first.
#[test]
fn counted_groups_with_one_port_stay_out_of_each_others_way() {
    let site = mk_site("P01")
        .servers("seattle/room-1", &["p01-f1", "p01-f2"])
        .by_count("managementPoint", Role::ManagementPoint, 1)
        .by_count("managementPoint-internet", Role::ManagementPoint, 1);
    let mut model = Model::new(site);
    model.converge(6);
    assert_eq!(model.at("managementPoint"), ["p01-f1"]);
    assert_eq!(model.at("managementPoint-internet"), ["p01-f2"]);
    model.change(|site| {
        let group = site.groups.get_mut(&name("managementPoint")).unwrap();
        let Placement::ByCount { instances, .. } = &mut group.placement else {
            panic!("counted");
        };
        *instances = 2;
    });
    assert_eq!(
        road(&model.plan()),
        "held  P01/managementPoint: managementPoint wants port 443, which managementPoint-internet has on p01-f2, and no other server can take it",
        "nobody is pushed away"
    );
    model.change(|site| *site = site.clone().servers("seattle/room-1", &["p01-f3"]));
    model.converge(6);
    assert_eq!(model.at("managementPoint"), ["p01-f1", "p01-f3"]);
}

#[test]
fn h8_a_role_that_may_not_run_twice_is_removed_first() {
    let site = mk_site("P01").servers("a", &["p01-a", "p01-b"]).by_hand(
        "reportingPoint",
        Role::ReportingPoint,
        &["p01-a"],
    );
    let mut model = Model::new(site);
    model.converge(6);
    put(&mut model, "reportingPoint", &["p01-b"]);
    let plan = model.plan();
    let line = &render::lines(model.desired.as_ref(), &plan)[0];
    assert_eq!(
        line.note.as_deref(),
        Some("it may not run twice; interruption: until healthy on p01-b")
    );
    for plan in model.converge(12) {
        assert!(model_never_ran_twice(&plan), "{}", road(&plan));
    }
    assert_eq!(
        model.served_as("reportingpoint.p01.cm.example/A"),
        ["10.1.0.12"]
    );
}

fn model_never_ran_twice(plan: &stead_schemas::plan::SitePlan) -> bool {
    let ready: Vec<&str> = plan.ready().map(|step| step.id.0.as_str()).collect();
    !(ready.contains(&"remove reportingPoint@p01-a")
        && ready.contains(&"install reportingPoint@p01-b"))
}

#[test]
fn a_renamed_server_keeps_its_instances() {
    let mut model = two_points();
    model.change(|site| {
        let mut server = site.servers.remove(&name("fab-mp1")).unwrap();
        server.was = Some(name("fab-mp1"));
        site.servers.insert(name("fab-new"), server);
        let group = site.groups.get_mut(&name("managementPoint")).unwrap();
        group.placement = Placement::ByHand(vec![name("fab-new"), name("fab-mp2")]);
    });
    let mut host = model.hosts.remove(&name("fab-mp1")).unwrap();
    host.real.server = name("fab-new");
    model.hosts.insert(name("fab-new"), host);
    assert_eq!(
        taken(&mut model),
        [
            "publish fab-new.cm.example/A",
            "publish managementPoint@fab-new in _mssms_mp_fab._tcp.cm.example/SRV",
            "withdraw managementPoint@fab-mp1 from _mssms_mp_fab._tcp.cm.example/SRV",
            "withdraw fab-mp1.cm.example/A",
        ]
    );
}

#[test]
fn a_protected_site_goes_by_two_commits_its_site_server_last() {
    let site = mk_site("P03")
        .servers("a", &["p03-a", "p03-f1"])
        .site_server("p03-a", &[])
        .by_hand("distributionPoint", Role::DistributionPoint, &["p03-f1"]);
    let mut model = Model::new(site.with(|site| site.protect = true));
    model.converge(12);
    let desired = model.desired.take();
    model.pass();
    model.pass();
    assert_eq!(
        road(&model.plan()),
        "held  P03: it is protected: removing it takes two commits"
    );
    model.desired = desired;
    model.change(|site| site.protect = false);
    model.converge(2);
    model.desired = None;
    assert_eq!(model.plan().counts().to_remove, 2);
    assert_eq!(
        taken(&mut model),
        [
            "withdraw distributionPoint@p03-f1 from distributionpoint.p03.cm.example/A",
            "remove distributionPoint@p03-f1",
            "withdraw siteServer@p03-a from p03.cm.example/A",
            "withdraw p03-f1.cm.example/A",
            "remove siteServer@p03-a",
            "withdraw p03-a.cm.example/A",
        ]
    );
    assert!(model.records.is_empty());
}

#[test]
fn a_protected_group_stays_however_many_commits_follow() {
    let mut model = two_points();
    model.change(|site| {
        site.groups
            .get_mut(&name("managementPoint"))
            .unwrap()
            .protect = true
    });
    model.converge(3);
    model.change(|site| site.groups.clear());
    for line in 30..33 {
        model.change(|site| site.place.line = line);
        assert!(
            model
                .plan()
                .holds
                .iter()
                .any(|hold| hold.reason == HoldReason::Protected)
        );
        assert!(model.plan().is_empty(), "{}", road(&model.plan()));
        model.pass();
    }
    assert_eq!(model.served_as(MP), ["10.1.0.11", "10.1.0.13"]);
}

#[test]
fn h22_a_foreign_record_is_left_alone_and_said() {
    let site = mk_site("P01").servers("a", &["p01-a"]).by_count(
        "distributionPoint",
        Role::DistributionPoint,
        1,
    );
    let mut model = Model::new(site);
    let key = "distributionpoint.p01.cm.example/A";
    let values = ["203.0.113.11"].map(|a| stead_schemas::record::RecordData::A(a.parse().unwrap()));
    let foreign = RecordSet {
        ttl_s: 300,
        values: values.into(),
    };
    model.records.entry(name(key)).or_default().set = Some(foreign);
    for _ in 0..6 {
        model.pass();
    }
    assert_eq!(model.served_as(key), ["203.0.113.11"]);
    let (desired, context) = (model.desired.as_ref(), model.context());
    let wanted = crate::wanted_records(desired, &model.observe(), &context, model.now);
    let want = wanted[&name(key)].as_ref().unwrap();
    assert_eq!(
        want.values.first().unwrap().to_string(),
        "10.1.0.11",
        "what would be there"
    );
    assert!(
        road(&model.plan())
            .contains("held  dns:distributionpoint.p01.cm.example/A: foreign record")
    );
}

#[test]
fn drift_is_healed_and_a_secondary_behind_is_waited_for() {
    let mut model = two_points();
    let mark = model.records[&name(MP)].mark.clone().unwrap();
    let values = ["198.51.100.7"].map(|a| stead_schemas::record::RecordData::A(a.parse().unwrap()));
    model.write(
        &name(MP),
        Some(RecordSet {
            ttl_s: 30,
            values: values.into(),
        }),
        &mark,
    );
    model.converge(2);
    assert_eq!(model.served_as(MP), ["10.1.0.11", "10.1.0.13"]);

    put(&mut model, "managementPoint", &["fab-mp2", "fab-mp3"]);
    model.secondary_stuck = Some(model.records.clone());
    for _ in 0..20 {
        model.pass();
    }
    let plan = model.plan();
    assert!(
        plan.ready().next().is_none(),
        "a secondary behind is no reason to write"
    );
    let withdraws = |line: &&str| line.contains("withdraw managementPoint@fab-mp1");
    let line = road(&plan)
        .lines()
        .find(withdraws)
        .map(str::to_owned)
        .unwrap();
    assert!(
        line.contains("managementpoint.fab.cm.example/A served everywhere"),
        "{line}"
    );
    model.secondary_stuck = None;
    model.converge(12);
    assert_eq!(model.at("managementPoint"), ["fab-mp2", "fab-mp3"]);
}

#[test]
fn a_suspended_server_keeps_what_it_has_and_its_records_follow_health() {
    let mut model = two_points();
    model.suspended.push(Suspension {
        scope: Scope::Server(name("fab-mp1")),
        by: "alice".into(),
        why: "CHG-4711".into(),
        until: None,
    });
    put(&mut model, "managementPoint", &["fab-mp2", "fab-mp3"]);
    model.host("fab-mp1").broken.insert(name("managementPoint"));
    for _ in 0..10 {
        model.pass();
    }
    assert_eq!(
        model.at("managementPoint"),
        ["fab-mp1", "fab-mp2", "fab-mp3"]
    );
    assert_eq!(model.served_as(MP), ["10.1.0.12", "10.1.0.13"]);
    assert!(road(&model.plan()).contains("held  FAB/fab-mp1: suspended by alice: CHG-4711"));
    model.suspended[0].until = Some(model.now);
    model.converge(12);
    assert_eq!(model.at("managementPoint"), ["fab-mp2", "fab-mp3"]);
}

#[test]
fn a_site_that_is_only_observed_is_left_alone() {
    let mut model = two_points();
    model.desired.as_mut().unwrap().only_observed = true;
    put(&mut model, "managementPoint", &["fab-mp3"]);
    for _ in 0..10 {
        model.pass();
    }
    assert_eq!(model.at("managementPoint"), ["fab-mp1", "fab-mp2"]);
    assert_eq!(model.plan().steps, []);
    assert!(road(&model.plan()).contains("held  FAB: declared as observed only"));
}

#[test]
fn a_held_removal_takes_nothing_away_and_a_move_goes_on() {
    let mut model = two_points();
    let reason = HoldReason::BudgetSpent {
        budget: "maxRemovals".into(),
        wanted: 4,
        limit: 3,
    };
    model.permits = Permits {
        changes: None,
        removals: Some(reason),
    };
    put(&mut model, "managementPoint", &["fab-mp2"]);
    model.converge(2);
    assert_eq!(model.served_as(MP), ["10.1.0.11", "10.1.0.13"]);
    put(&mut model, "managementPoint", &["fab-mp2", "fab-mp3"]);
    model.converge(20);
    assert_eq!(model.at("managementPoint"), ["fab-mp2", "fab-mp3"]);
}

#[test]
fn h28_a_role_without_a_program_is_held_and_not_published() {
    let site = mk_site("P01")
        .servers("a", &["p01-a"])
        .by_count("managementPoint", Role::ManagementPoint, 1)
        .with(|site| {
            site.groups
                .get_mut(&name("managementPoint"))
                .unwrap()
                .service = None
        });
    let model = Model::new(site);
    assert_eq!(
        road(&model.plan()),
        "held  P01/managementPoint: no program for managementPoint"
    );
}

#[test]
fn addresses_of_both_families_have_a_record_each() {
    let site = mk_site("P01")
        .servers("a", &["p01-a", "p01-b"])
        .by_hand(
            "distributionPoint",
            Role::DistributionPoint,
            &["p01-a", "p01-b"],
        )
        .with(|site| {
            site.servers.get_mut(&name("p01-b")).unwrap().address = "2001:db8::12".parse().unwrap();
        });
    let mut model = Model::new(site);
    model.converge(6);
    assert_eq!(
        model.served_as("distributionpoint.p01.cm.example/A"),
        ["10.1.0.11"]
    );
    assert_eq!(
        model.served_as("distributionpoint.p01.cm.example/AAAA"),
        ["2001:db8::12"]
    );
    assert_eq!(model.served_as("p01-b.cm.example/AAAA"), ["2001:db8::12"]);
}
