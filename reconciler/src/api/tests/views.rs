//! What people are shown: status, records, why, from one moment.

use stead_schemas::api::{Cause, SiteState, WhyView};
use stead_schemas::observed::{Contact, RecordObserved};
use stead_schemas::plan::HoldReason;
use stead_schemas::record::{RecordKey, RecordSet};
use stead_schemas::time::WallMs;
use stead_schemas::wire::Health;

use super::world::{COMMIT, MARK, MESSAGE, changed, instance, place_of, served, snapshot};
use crate::api::Snapshot;
use crate::api::records::{records, state};
use crate::api::status::{plan, status};
use crate::api::why::why;

fn asked(snapshot: &Snapshot, thing: &str) -> WhyView {
    why(snapshot, &thing.parse().unwrap()).unwrap_or_else(|error| panic!("{thing}: {error:?}"))
}

fn texts(view: &WhyView) -> Vec<&str> {
    view.because
        .iter()
        .map(|cause| cause.text.as_str())
        .collect()
}

/// The chain ends in git: file, line, column and commit.
fn assert_declared_at(view: &WhyView, text: &str) {
    let last: &Cause = view.because.last().unwrap();
    let place = last.place.as_ref().map(ToString::to_string);
    assert_eq!(place.as_deref(), Some(place_of(text).as_str()), "{view:#?}");
    assert_eq!(last.commit.as_deref(), Some(COMMIT), "{view:#?}");
}

#[test]
fn status_opens_with_what_needs_a_person_and_the_command_that_settles_it() {
    let view = status(&snapshot(), None);
    let needs: Vec<(&str, &str)> = view
        .needs_person
        .iter()
        .map(|need| (need.about.as_str(), need.text.as_str()))
        .collect();
    assert_eq!(
        needs[0],
        ("", "the journal's disk is full"),
        "the reconciler's own comes first"
    );
    assert!(
        needs.contains(&("P01/p01-n", "waiting for p01-n to join (never seen)")),
        "{needs:?}"
    );
    assert!(
        needs
            .iter()
            .any(|(_, text)| text.contains("foreign record in the way")),
        "{needs:?}"
    );
    for need in &view.needs_person {
        assert!(need.remedy.is_some(), "{need:?}");
    }
    assert_eq!(view.sites[0].state, SiteState::Held);
}

#[test]
fn an_instance_is_wanted_published_and_healthy_each_by_itself() {
    let sick = changed(&snapshot(), |observed| {
        let report = instance(observed, "managementPoint", "p01-f2");
        report.health = Health::Unhealthy;
        report.message = Some(MESSAGE.to_owned());
    });
    let view = status(&sick, None);
    let site = &view.sites[0];
    assert_eq!(site.state, SiteState::Degraded);
    let shown = |name: &str| {
        let found = site.instances.iter().find(|i| i.name.to_string() == name);
        found.unwrap_or_else(|| panic!("{name}: {:#?}", site.instances))
    };
    let f2 = shown("P01/managementPoint@p01-f2");
    assert_eq!(
        (f2.health, f2.wanted, f2.published),
        (Some(Health::Unhealthy), true, true)
    );
    assert_eq!(f2.message.as_deref(), Some(MESSAGE));
    let missing = shown("P01/distributionPoint@p01-n");
    assert_eq!(
        (missing.health, missing.wanted, missing.published),
        (None, true, false)
    );
    assert_eq!(
        missing.place.as_ref().unwrap().to_string(),
        place_of("distributionPoint")
    );
}

#[test]
fn an_unanswered_agent_is_unknown_and_never_shown_as_it_was() {
    let silent = changed(&snapshot(), |observed| {
        let seen = observed
            .servers
            .get_mut(&"p01-f1".parse().unwrap())
            .unwrap();
        seen.contact = Contact::Unsure {
            since: WallMs(4_500),
        };
    });
    let view = status(&silent, None);
    let found = view.sites[0]
        .instances
        .iter()
        .find(|i| i.name.server.as_str() == "p01-f1");
    let found = found.unwrap();
    assert_eq!((found.health, found.phase, found.pid), (None, None, None));
    assert!(found.published, "DNS still serves it");
}

#[test]
fn the_plan_counts_over_all_sites_and_leaves_out_those_at_rest() {
    let view = plan(&snapshot());
    assert_eq!(view.counts.to_install, 0);
    assert_eq!(view.sites.len(), 1, "it has holds");
    let sick = changed(&snapshot(), |observed| {
        instance(observed, "managementPoint", "p01-f2").health = Health::Unhealthy;
    });
    assert_eq!(plan(&sick).counts.to_withdraw, 2, "{:#?}", plan(&sick));
}

#[test]
fn records_say_whose_they_are_and_how_they_are() {
    let views = records(&snapshot(), Some(&"P01".parse().unwrap()));
    let of = |name: &str| {
        let key: RecordKey = name.parse().unwrap();
        let found = views.iter().find(|view| view.key == key);
        let view = found.unwrap_or_else(|| panic!("{name}: {views:#?}"));
        (view.owner.as_str(), view.state.as_str())
    };
    assert_eq!(
        of("_mssms_mp_p01._tcp.cm.example/SRV"),
        ("P01#4", "in step")
    );
    assert_eq!(
        of("p01.cm.example/A"),
        ("(none)", "foreign record in the way")
    );
    assert!(records(&snapshot(), Some(&"X01".parse().unwrap())).is_empty());
}

#[test]
fn a_record_is_in_one_of_these_states() {
    let of = |address: &str| -> RecordSet {
        let text = format!(r#"{{"ttl_s":30,"values":[{{"a":"{address}"}}]}}"#);
        serde_json::from_str(&text).unwrap()
    };
    let (set, other) = (of("10.1.0.21"), of("10.1.0.22"));
    let two = |first: RecordObserved, second: RecordObserved| RecordObserved {
        servers: [first.servers, second.servers].concat(),
        contested: false,
    };
    let good = || served(Some(set.clone()), Some(MARK));
    let silent = || {
        let mut observed = served(None, None);
        observed.servers[0].served = None;
        observed
    };
    let theirs = "v=1 h=fabrikam s=P01 t=0 g=1:stead-1:x.4";
    for (observed, words) in [
        (good(), "in step"),
        (served(None, None), "differs"),
        (silent(), "not known: no DNS server answers"),
        (
            served(Some(set.clone()), Some(theirs)),
            "foreign record in the way",
        ),
        (two(good(), silent()), "in step; 1 DNS servers don't answer"),
        (
            two(good(), served(Some(other), Some(MARK))),
            "1 secondaries behind",
        ),
    ] {
        assert_eq!(state(Some(&set), &observed, "contoso"), words);
    }
}

#[test]
fn why_an_instance_down_to_file_line_and_commit() {
    let sick = changed(&snapshot(), |observed| {
        let report = instance(observed, "managementPoint", "p01-f2");
        report.health = Health::Unhealthy;
        report.message = Some(MESSAGE.to_owned());
    });
    let view = asked(&sick, "P01/managementPoint@p01-f2");
    assert_eq!(
        view.answer,
        "unhealthy; git asks for it here; clients find it by DNS"
    );
    assert_eq!(texts(&view)[0], format!("its agent says: {MESSAGE}"));
    assert_declared_at(&view, "managementPoint");
    let none = asked(&sick, "P01/managementPoint@p01-a");
    assert_eq!(none.answer, "not there, and git does not ask for it");
}

#[test]
fn why_a_server_down_to_file_line_and_commit() {
    let view = asked(&snapshot(), "P01/p01-n");
    let text = texts(&view).join("\n");
    assert!(text.contains("waiting for p01-n to join"), "{text}");
    assert!(
        text.contains("stead pki issue"),
        "the command that settles it: {text}"
    );
    assert_declared_at(&view, "p01-n: {address");
}

#[test]
fn why_a_site_names_its_holds() {
    let view = asked(&snapshot(), "P01");
    assert_eq!(view.answer, "held");
    assert!(
        texts(&view)
            .iter()
            .any(|text| text.contains("foreign record")),
        "{view:#?}"
    );
    assert_declared_at(&view, "P01}");
}

#[test]
fn why_a_hold_by_its_id() {
    let snapshot = snapshot();
    let site = snapshot.sites.values().next().unwrap();
    let holds = &site.plan.as_ref().unwrap().holds;
    let joining = |hold: &&stead_schemas::plan::Hold| {
        matches!(hold.reason, HoldReason::AwaitingJoin { .. }) && hold.place.is_some()
    };
    let hold = holds
        .iter()
        .find(joining)
        .unwrap_or_else(|| panic!("{holds:#?}"));
    let view = asked(&snapshot, &format!("hold:{}", hold.id()));
    assert_eq!(view.thing, hold.about);
    assert!(view.answer.contains("waiting for p01-n"), "{view:#?}");
    let last = view.because.last().unwrap();
    assert_eq!(last.place, hold.place);
    assert_eq!(last.commit.as_deref(), Some(COMMIT));
}

#[test]
fn why_a_record_names_each_value_with_its_server_and_may_leave_the_domain_out() {
    let snapshot = snapshot();
    let view = asked(&snapshot, "dns:_mssms_mp_P01._tcp");
    assert_eq!(view.thing, "dns:_mssms_mp_p01._tcp.cm.example/SRV");
    assert_eq!(view.answer, "2 wanted; in step");
    let value = format!(
        "wanted: 10 100 443 p01-f1.cm.example = p01-f1 ({})",
        place_of("p01-f1: {address")
    );
    assert!(texts(&view).contains(&value.as_str()), "{value}\n{view:#?}");
    assert_declared_at(&view, "managementPoint");
    assert_eq!(
        asked(&snapshot, &view.thing),
        view,
        "whole or short, it is the same record"
    );
}

#[test]
fn what_is_not_known_is_refused_with_what_is() {
    let snapshot = snapshot();
    for (thing, error, hint) in [
        ("X01", "there is no site X01", "sites: P01"),
        ("X01/a", "there is no site X01", "sites: P01"),
        (
            "P01/p01-z",
            "P01 has no server p01-z",
            "stead list servers P01",
        ),
        ("hold:abcd", "there is no hold abcd", "stead list holds"),
        (
            "dns:nobody.example/A",
            "neither wants nor finds",
            "stead list records",
        ),
        (
            "rev:77d0e1b",
            "answered by the journal only",
            "stead history",
        ),
    ] {
        let said = why(&snapshot, &thing.parse().unwrap()).unwrap_err();
        assert!(said.error.contains(error), "{thing}: {said:?}");
        assert!(said.hint.unwrap().contains(hint), "{thing}");
    }
}
