//! Stories of site servers that are installed only where everything they need is there.

use stead_schemas::desired::{DatabaseDesired, SiteDesired};
use stead_schemas::plan::{Hold, HoldReason, SitePlan};
use stead_schemas::prerequisite::{Check, Checked, Finding, Prerequisite};
use stead_schemas::role::Role;
use stead_schemas::time::{DurationMs, WallMs};

use super::model::{Model, SiteExt as _, mk_site, name};
use super::voters::leased;
use crate::render::road;

impl Model {
    /// Agents say what they lack, where they are asked.
    pub(super) fn answer(&mut self, plan: &SitePlan) {
        for (server, check) in &plan.checks {
            let at = self.now;
            let host = self.host(server.as_str());
            host.checked = Some(Box::new(Checked {
                question: check.question.clone(),
                at,
                checks: host.lacks.clone(),
            }));
        }
    }
}

fn servers() -> SiteDesired {
    mk_site("P01").servers("a", &["p01-a", "p01-b", "p01-c", "p01-w"])
}

/// p01-a is active, p01-b passive, p01-w witness; p01-c is to stand by as well.
fn third() -> Model {
    let mut model = Model::new(leased(servers(), "p01-a", &["p01-b"], &["p01-w"]));
    model.converge(8);
    model.commit(leased(servers(), "p01-a", &["p01-b", "p01-c"], &["p01-w"]));
    model
}

fn lack(prerequisite: Prerequisite, findings: Vec<Finding>) -> Check {
    Check {
        prerequisite,
        measured: None,
        findings,
    }
}

fn no_create() -> Check {
    let text = "role cm may not CREATE in database cm_p01 (needed: term table)";
    let finding = Finding::fatal(text, "GRANT CREATE ON SCHEMA public TO cm");
    lack(Prerequisite::Database, vec![finding])
}

fn lacks(model: &Model) -> Vec<Hold> {
    let holds = model.plan().holds.into_iter();
    holds
        .filter(|hold| matches!(hold.reason, HoldReason::Prerequisite { .. }))
        .collect()
}

#[test]
fn g10_a_passive_is_not_installed_while_something_is_missing_and_everything_missing_is_named() {
    let mut model = third();
    let closed = Finding::fatal("p01-w does not reach 10.1.0.13:7443", "open the port");
    model.host("p01-c").lacks = vec![no_create(), lack(Prerequisite::Ports, vec![closed])];
    assert!(
        road(&model.plan()).contains("later install siteServer@p01-c  <- [check p01-c]"),
        "{}",
        road(&model.plan())
    );
    for _ in 0..20 {
        model.pass();
        assert_eq!(model.at("siteServer"), ["p01-a", "p01-b"]);
    }
    let holds = lacks(&model);
    let texts: Vec<String> = holds.iter().map(|hold| hold.reason.to_string()).collect();
    assert_eq!(
        texts,
        [
            "p01-c is not fit for it: database: role cm may not CREATE in database cm_p01 (needed: term table)",
            "p01-c is not fit for it: ports: p01-w does not reach 10.1.0.13:7443",
        ]
    );
    assert!(
        holds
            .iter()
            .all(|hold| hold.about == "P01/siteServer@p01-c")
    );
    assert_ne!(holds[0].id(), holds[1].id(), "each can be asked about");
    let remedy = holds[0].reason.remedy(&holds[0].about);
    assert_eq!(
        remedy.as_deref(),
        Some("GRANT CREATE ON SCHEMA public TO cm")
    );
    assert_eq!(model.holder(), Some("p01-a"), "nothing else is touched");
}

#[test]
fn g10_what_was_repaired_is_found_within_a_bounded_time_and_the_installation_goes_on_by_itself() {
    let mut model = third();
    model.host("p01-c").lacks = vec![no_create()];
    model.pass();
    let asked_at = WallMs(model.now.0 - 1_000);
    assert!(model.plan().checks.is_empty(), "not at every look");
    let wake = model.plan().wake_at.unwrap();
    assert_eq!(wake, asked_at.plus(DurationMs::seconds(10)));
    model.host("p01-c").lacks.clear();
    assert_eq!(lacks(&model).len(), 1, "not known yet");
    model.now = wake;
    assert!(model.plan().checks.contains_key(&name("p01-c")));
    model.converge(8);
    assert_eq!(model.at("siteServer"), ["p01-a", "p01-b", "p01-c"]);
    assert_eq!(lacks(&model), []);
}

#[test]
fn h5_a_warning_holds_nothing() {
    let mut model = third();
    let warning = Finding::warning(
        "no synchronous standby (H5)",
        "set synchronous_standby_names",
    );
    model.host("p01-c").lacks = vec![lack(Prerequisite::Database, vec![warning])];
    model.converge(8);
    assert_eq!(model.at("siteServer"), ["p01-a", "p01-b", "p01-c"]);
    assert_eq!(lacks(&model), []);
}

#[test]
fn an_answer_to_another_question_or_an_old_one_is_not_believed() {
    let mut model = third();
    let plan = model.plan();
    model.carry_out(&plan);
    model.change(|site| site.site_server.as_mut().unwrap().port += 1);
    let after = road(&model.plan());
    assert!(after.contains("now   check p01-c"), "{after}");
    let mut model = third();
    model.pass();
    let after = road(&model.plan());
    assert!(after.contains("now   install siteServer@p01-c"), "{after}");
    model.now = model.now.plus(DurationMs::seconds(60));
    let after = road(&model.plan());
    assert!(after.contains("now   check p01-c"), "{after}");
}

#[test]
fn g15_those_that_are_installed_are_asked_now_and_then_and_nothing_is_held_for_it() {
    let mut model = third();
    model.converge(8);
    model.host("p01-b").lacks = vec![no_create()];
    assert!(model.plan().checks.is_empty());
    model.now = model.now.plus(DurationMs::seconds(600));
    let plan = model.plan();
    assert_eq!(plan.checks.len(), 3, "{:#?}", plan.checks);
    assert!(plan.is_empty());
    model.pass();
    assert_eq!(lacks(&model), []);
    assert!(model.plan().is_empty() && model.plan().checks.is_empty());
}

#[test]
fn a_running_site_stays_without_a_lease_until_its_passive_is_fit() {
    let mut model = Model::new(servers().site_server("p01-a", &[]));
    model.converge(8);
    model.host("p01-b").lacks = vec![no_create()];
    model.commit(leased(servers(), "p01-a", &["p01-b"], &["p01-w"]));
    for _ in 0..20 {
        model.pass();
    }
    let runs = |model: &Model| {
        let host = &model.hosts[&name("p01-a")];
        host.real.assigned[&name("siteServer")].settings.is_null()
    };
    assert!(runs(&model), "it works on");
    assert_eq!((model.holder(), model.at("siteServer").len()), (None, 1));
    assert_eq!(lacks(&model).len(), 1);
    assert_eq!(model.plan().holds, lacks(&model), "and nothing else");
    model.host("p01-b").lacks.clear();
    model.now = model.now.plus(DurationMs::seconds(10));
    model.pass();
    model.converge(12);
    assert_eq!(model.holder(), Some("p01-a"));
    assert!(!runs(&model));
}

#[test]
fn g10_the_first_active_is_checked_as_well() {
    let mut model = Model::new(leased(servers(), "p01-a", &["p01-b"], &["p01-w"]));
    model.host("p01-a").lacks = vec![no_create()];
    for _ in 0..20 {
        model.pass();
    }
    assert_eq!(model.at("siteServer"), ["p01-b"]);
    assert_eq!(lacks(&model).len(), 1);
    model.host("p01-a").lacks.clear();
    model.now = model.now.plus(DurationMs::seconds(10));
    model.pass();
    model.converge(12);
    assert_eq!(model.holder(), Some("p01-a"));
}

#[test]
fn sp_8_g_49_a_standby_is_not_older_than_the_active_and_may_be_newer() {
    let mut model = third();
    model.host("p01-c").real.version = "0.0.9".into();
    for _ in 0..4 {
        model.pass();
    }
    let holds = lacks(&model);
    assert_eq!(holds.len(), 1);
    assert!(
        holds[0].reason.to_string().contains(
            "version: its site-agent is 0.0.9, older than 0.1.0 of the active p01-a (SP-8)"
        ),
        "{}",
        holds[0].reason
    );
    model.host("p01-c").real.version = "0.2.0".into();
    model.converge(8);
    assert_eq!(model.at("siteServer"), ["p01-a", "p01-b", "p01-c"]);
}

#[test]
fn h13_an_embedded_database_runs_before_anybody_is_asked_whether_it_is_reached() {
    let site = servers().by_hand("database", Role::Database, &["p01-w"]);
    let mut site = leased(site, "p01-a", &["p01-b"], &["p01-w"]);
    let (server, port) = (name("p01-w"), 7450);
    site.database = Some(DatabaseDesired::Embedded { server, port });
    site.groups.get_mut(&name("database")).unwrap().publish = false;
    let mut model = Model::new(site);
    let first = road(&model.plan());
    assert!(
        first.contains("later check p01-a  <- database@p01-w healthy"),
        "{first}"
    );
    assert!(model.plan().checks.is_empty());
    model.converge(12);
    assert_eq!(model.holder(), Some("p01-a"));
}
