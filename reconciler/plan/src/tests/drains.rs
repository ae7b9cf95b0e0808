//! Stories of servers that a person takes out of service for a while (task 4, H3, H27).

use stead_schemas::desired::SiteDesired;
use stead_schemas::names::ServerName;
use stead_schemas::observed::Contact;
use stead_schemas::plan::{HoldReason, Wait};
use stead_schemas::role::Role;
use stead_schemas::time::DurationMs;

use super::model::{Model, SiteExt as _, mk_service, mk_site, name};
use super::voters::leased;
use crate::render::road;
use crate::{Drain, Drained, Fate, drained};

const DP: &str = "distributionpoint.p01.cm.example/A";
const MP: &str = "managementpoint.p01.cm.example/A";

impl Model {
    /// A person takes a server out of service.
    pub(super) fn drain(&mut self, server: &str) {
        let drain = Drain {
            by: "bob".into(),
            why: "CHG-4711".into(),
            at: self.now,
            until: self.now.plus(DurationMs::seconds(7_200)),
            ended: false,
        };
        self.drained.insert(name(server), drain);
    }

    /// Its time is over.
    pub(super) fn end_drain(&mut self, server: &str) {
        let drain = self.drained.get_mut(&name::<ServerName>(server));
        drain.unwrap().ended = true;
    }

    pub(super) fn undrain(&mut self, server: &str) {
        self.drained.remove(&name::<ServerName>(server));
    }
}

fn fronts() -> SiteDesired {
    mk_site("P01")
        .servers("seattle/room-1", &["p01-f1"])
        .servers("seattle/room-2", &["p01-f2"])
        .servers("seattle/room-3", &["p01-f3"])
}

fn running(site: SiteDesired) -> Model {
    let mut model = Model::new(site);
    model.converge(30);
    model
}

fn pair() -> Model {
    let site = mk_site("P01")
        .servers("seattle/room-1", &["p01-a"])
        .servers("seattle/room-2", &["p01-b"])
        .servers("seattle/room-3", &["p01-w"]);
    running(leased(site, "p01-a", &["p01-b"], &["p01-w"]))
}

fn fate(model: &Model, server: &str) -> Drained {
    let desired = model.desired.as_ref().unwrap();
    let server: ServerName = name(server);
    drained(
        desired,
        &model.observe(),
        &model.context(),
        model.now,
        &server,
    )
}

fn kinds(model: &Model) -> Vec<String> {
    let holds = model.plan().holds;
    holds.iter().map(|hold| hold.reason.kind()).collect()
}

/// Its power is off for so long.
fn off(model: &mut Model, server: &str, seconds: u64) {
    model.silence(server);
    for _ in 0..seconds / 60 {
        model.now = model.now.plus(DurationMs::seconds(59));
        model.pass();
    }
}

#[test]
fn counted_instances_move_and_stay_where_they_went() {
    let mut model = running(fronts().by_count("distributionPoint", Role::DistributionPoint, 2));
    assert_eq!(model.at("distributionPoint"), ["p01-f1", "p01-f2"]);
    model.drain("p01-f1");
    let first = model.plan();
    assert_eq!(first.counts().to_move, 1, "{}", road(&first));
    let found = fate(&model, "p01-f1");
    assert_eq!(found.fates, [(name("distributionPoint"), Fate::Goes)]);
    assert_eq!(found.moves[0].to, name("p01-f3"));
    for plan in model.converge(first.steps.len()) {
        for step in plan.ready() {
            assert!(first.steps.iter().any(|other| other.id == step.id));
        }
        assert!(model.serves("distributionPoint"));
    }
    assert_eq!(model.at("distributionPoint"), ["p01-f2", "p01-f3"]);
    assert_eq!(model.served_as(DP), ["10.1.0.12", "10.1.0.13"]);
    assert_eq!(fate(&model, "p01-f1"), Drained::default());
    off(&mut model, "p01-f1", 1_200);
    assert_eq!(kinds(&model), ["drained"]);
    model.heal("p01-f1");
    model.undrain("p01-f1");
    assert!(model.plan().is_empty(), "{}", road(&model.plan()));
    assert_eq!(kinds(&model), [""; 0]);
}

#[test]
fn h27_what_is_placed_by_hand_leaves_dns_until_no_resolver_knows_it_and_comes_back() {
    let hands = ["p01-f1", "p01-f2"];
    let mut model = running(fronts().by_hand("managementPoint", Role::ManagementPoint, &hands));
    model.drain("p01-f1");
    let plan = model.round();
    let because = &plan.ready().next().unwrap().because;
    assert_eq!(because, "p01-f1 is drained");
    assert_eq!(model.served_as(MP), ["10.1.0.12"]);
    let plan = model.plan();
    let drain = plan
        .steps
        .iter()
        .find(|step| step.id.to_string() == "drain managementPoint@p01-f1");
    assert!(
        matches!(drain.unwrap().waits[..], [Wait::Until(_)]),
        "{}",
        road(&plan)
    );
    model.converge(10);
    assert_eq!(model.at("managementPoint"), hands, "it runs on");
    assert_eq!(
        fate(&model, "p01-f1").fates,
        [(name("managementPoint"), Fate::Withdrawn)]
    );
    off(&mut model, "p01-f1", 1_200);
    assert!(model.plan().is_empty(), "{}", road(&model.plan()));
    model.heal("p01-f1");
    model.pass();
    assert_eq!(model.served_as(MP), ["10.1.0.12"], "still drained");
    model.undrain("p01-f1");
    model.converge(4);
    assert_eq!(model.served_as(MP), ["10.1.0.11", "10.1.0.12"]);
}

#[test]
fn the_last_healthy_one_is_left_to_lose_and_never_withdrawn() {
    let hands = ["p01-f1", "p01-f2"];
    let mut model = running(fronts().by_hand("managementPoint", Role::ManagementPoint, &hands));
    model.host("p01-f2").broken.insert(name("managementPoint"));
    for _ in 0..4 {
        model.pass();
    }
    assert_eq!(model.served_as(MP), ["10.1.0.11"]);
    model.drain("p01-f1");
    for _ in 0..4 {
        model.pass();
    }
    assert_eq!(model.served_as(MP), ["10.1.0.11"]);
    let found = fate(&model, "p01-f1");
    assert_eq!(found.fates, [(name("managementPoint"), Fate::Last)]);
    assert!(found.served.is_empty());
    // Well again, the other one takes its place.
    model.host("p01-f2").broken.clear();
    model.pass();
    model.converge(10);
    assert_eq!(model.served_as(MP), ["10.1.0.12"]);
}

#[test]
fn h8_one_whose_health_is_not_known_takes_nobodys_place_in_dns() {
    let hands = ["p01-f1", "p01-f2"];
    let mut model = running(fronts().by_hand("managementPoint", Role::ManagementPoint, &hands));
    let since = model.now;
    model.host("p01-f2").contact = Contact::Unsure { since };
    model.drain("p01-f1");
    for _ in 0..4 {
        model.pass();
    }
    assert_eq!(model.served_as(MP), ["10.1.0.11", "10.1.0.12"]);
    assert_eq!(
        fate(&model, "p01-f1").fates,
        [(name("managementPoint"), Fate::Last)]
    );
    model.heal("p01-f2");
    model.converge(10);
    assert_eq!(model.served_as(MP), ["10.1.0.12"]);
}

#[test]
fn an_update_goes_on_with_the_others_while_one_is_drained() {
    let hands = ["p01-f1", "p01-f2", "p01-f3"];
    let mut model = running(fronts().by_hand("managementPoint", Role::ManagementPoint, &hands));
    model.change(|site| {
        let group = site.groups.get_mut(&name("managementPoint")).unwrap();
        group.service = Some(mk_service("2"));
    });
    let version = |model: &Model, server: &str| {
        let assigned = &model.hosts[&name::<ServerName>(server)].real.assigned;
        assigned[&name("managementPoint")].program.clone()
    };
    let new = mk_service("2").program;
    for _ in 0..40 {
        if version(&model, "p01-f1") == new {
            break;
        }
        model.pass();
    }
    assert_ne!(version(&model, "p01-f2"), new);
    model.drain("p01-f1");
    model.converge(40);
    for server in ["p01-f2", "p01-f3"] {
        assert_eq!(version(&model, server), new, "{server}");
    }
}

#[test]
fn h8_what_may_not_run_twice_or_has_no_other_place_stays() {
    let site = fronts()
        .by_count("reportingPoint", Role::ReportingPoint, 1)
        .by_count("distributionPoint", Role::DistributionPoint, 3);
    let mut model = running(site);
    model.drain("p01-f1");
    model.converge(10);
    assert_eq!(model.at("reportingPoint"), ["p01-f1"]);
    let found = fate(&model, "p01-f1");
    assert_eq!(
        found.fates,
        [
            (name("distributionPoint"), Fate::Withdrawn),
            (name("reportingPoint"), Fate::MayNotOverlap)
        ]
    );
    assert_eq!(model.served_as(DP), ["10.1.0.12", "10.1.0.13"]);
    // While it is rebooted nobody is asked whether it is lost.
    off(&mut model, "p01-f1", 1_200);
    let held = kinds(&model);
    assert!(!held.contains(&"needsConfirmLost".to_owned()), "{held:?}");
    assert!(!held.contains(&"noCandidate".to_owned()), "{held:?}");
    // It does not come back in the time that was said: then it counts again.
    model.end_drain("p01-f1");
    let held = kinds(&model);
    assert!(held.contains(&"drainEnded".to_owned()), "{held:?}");
    assert!(held.contains(&"needsConfirmLost".to_owned()), "{held:?}");
}

#[test]
fn nothing_is_placed_or_changed_on_a_drained_server() {
    let hands = ["p01-f1", "p01-f2"];
    let site = fronts().by_hand("managementPoint", Role::ManagementPoint, &hands);
    let mut model = running(site.clone());
    model.drain("p01-f1");
    model.converge(10);
    let more = site
        .by_hand("proxy", Role::Custom, &["p01-f1"])
        .by_count("distributionPoint", Role::DistributionPoint, 2)
        .with(|site| {
            let group = site.groups.get_mut(&name("managementPoint")).unwrap();
            group.service = Some(mk_service("2"));
            site.groups.get_mut(&name("proxy")).unwrap().port = 8_080;
        });
    model.commit(more);
    for _ in 0..30 {
        model.pass();
    }
    assert_eq!(model.at("proxy"), [""; 0]);
    assert_eq!(model.at("distributionPoint"), ["p01-f2", "p01-f3"]);
    let version = |model: &mut Model, server: &str| {
        let assigned = &model.host(server).real.assigned;
        assigned[&name("managementPoint")].program.clone()
    };
    assert_ne!(version(&mut model, "p01-f1"), mk_service("2").program);
    assert!(model.plan().is_empty(), "{}", road(&model.plan()));
    model.undrain("p01-f1");
    model.converge(20);
    assert_eq!(model.at("proxy"), ["p01-f1"]);
    assert_eq!(version(&mut model, "p01-f1"), mk_service("2").program);
}

#[test]
fn h3_a_drained_site_server_votes_and_does_not_take_over_until_it_is_undrained() {
    let mut model = pair();
    model.ask_for("p01-b");
    model.drain("p01-a");
    model.converge(6);
    assert_eq!(model.holder(), Some("p01-b"));
    for server in ["p01-a", "p01-b", "p01-w"] {
        let told = model.host(server).real.assigned_lease.clone().unwrap();
        assert!(!told.is_candidate(&name("p01-a")), "{server} is told");
        assert_eq!(told.voters.len(), 3, "and it votes");
    }
    model.silence("p01-b");
    for _ in 0..3 {
        model.pass();
    }
    // It may be switched off at any moment.
    assert_ne!(model.holder(), Some("p01-a"));
    model.undrain("p01-a");
    model.pass();
    model.pass();
    assert_eq!(model.holder(), Some("p01-a"));
}

#[test]
fn an_active_that_is_drained_keeps_its_standing_until_it_has_handed_over() {
    let mut model = pair();
    model.drain("p01-a");
    let plan = model.plan();
    assert!(plan.is_empty(), "{}", road(&plan));
    assert_eq!(model.holder(), Some("p01-a"));
}

#[test]
fn a_drain_that_ended_is_a_persons_and_nothing_goes_back_by_itself() {
    let mut model = pair();
    model.change(|site| {
        let site_server = site.site_server.as_mut().unwrap();
        let lease = site_server.lease.as_mut().unwrap();
        lease.failback_after = Some(DurationMs::seconds(300));
    });
    model.converge(6);
    model.ask_for("p01-b");
    model.drain("p01-a");
    model.converge(6);
    model.end_drain("p01-a");
    model.converge(6);
    let held = model.plan().holds;
    assert_eq!(held.len(), 1);
    assert!(held[0].reason.needs_person());
    assert_eq!(
        held[0].reason.remedy(&held[0].about).as_deref(),
        Some("stead undrain p01-a")
    );
    let told = model.host("p01-b").real.assigned_lease.clone().unwrap();
    assert!(told.is_candidate(&name("p01-a")), "it stands by again");
    assert_eq!(told.failback_after, None);
    assert_eq!(model.holder(), Some("p01-b"));
    model.undrain("p01-a");
    model.converge(6);
    let told = model.host("p01-b").real.assigned_lease.clone().unwrap();
    assert_eq!(told.failback_after, Some(DurationMs::seconds(300)));
    assert_eq!(model.holder(), Some("p01-b"));
}

#[test]
fn a_drained_server_that_git_makes_active_is_waited_for() {
    let mut model = pair();
    model.drain("p01-b");
    model.converge(6);
    let site = model.desired.clone().unwrap();
    model.commit(leased(site, "p01-b", &["p01-a"], &["p01-w"]));
    for _ in 0..4 {
        model.pass();
    }
    let held = model.plan().holds;
    let about = |hold: &&stead_schemas::plan::Hold| hold.about == "P01/siteServer@p01-b";
    let reason = &held.iter().find(about).expect("a hold").reason;
    assert!(matches!(reason, HoldReason::Drained { .. }), "{reason}");
}

#[test]
fn a_member_that_leaves_does_not_wait_for_a_drained_one() {
    let hands = ["p01-f1", "p01-f2", "p01-f3"];
    let mut model = running(fronts().by_hand("managementPoint", Role::ManagementPoint, &hands));
    model.drain("p01-f1");
    model.converge(10);
    model.commit(fronts().by_hand("managementPoint", Role::ManagementPoint, &hands[..2]));
    model.converge(10);
    assert_eq!(model.at("managementPoint"), ["p01-f1", "p01-f2"]);
    // The last one that serves stays until the drained one is back.
    model.commit(fronts().by_hand("managementPoint", Role::ManagementPoint, &hands[..1]));
    for _ in 0..6 {
        model.pass();
    }
    assert_eq!(model.at("managementPoint"), ["p01-f1", "p01-f2"]);
    assert_eq!(model.served_as(MP), ["10.1.0.12"]);
    model.undrain("p01-f1");
    model.converge(10);
    assert_eq!(model.at("managementPoint"), ["p01-f1"]);
}
