//! A topology that is sent to be planned: only the difference comes out, and nothing is changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::{Value, json};
use stead_schemas::api::{PLAN_BYTES_MAX, PlanView, SuspensionView};
use stead_schemas::names::IdentityKind;
use stead_schemas::plan::{Action, HoldReason};
use stead_schemas::time::WallMs;

use super::endpoints::{Recorder, call, identity, post, with};
use super::world::{HIERARCHY, SITE, place_of, snapshot};
use crate::api::Access;

const TREE: &str = "0123456789abcdef";

fn body(hierarchy: &str, sites: &[(&str, &str)]) -> String {
    let mut files = BTreeMap::from([("hierarchy.yaml".to_owned(), hierarchy.to_owned())]);
    for (code, text) in sites {
        files.insert(format!("sites/{code}.yaml"), (*text).to_owned());
    }
    json!({"tree": TREE, "files": files}).to_string()
}

async fn send(backend: &Arc<Recorder>, body: impl Into<String>) -> (StatusCode, Value) {
    call(backend, Access::Socket, post("/v1/plan", body.into())).await
}

async fn planned(backend: &Arc<Recorder>, sites: &[(&str, &str)]) -> PlanView {
    let (status, said) = send(backend, body(HIERARCHY, sites)).await;
    assert_eq!(status, StatusCode::OK, "{said}");
    serde_json::from_value(said).unwrap()
}

/// The site with a line of its roles changed.
fn changed(from: &str, to: &str) -> String {
    assert!(SITE.contains(from), "{from}");
    SITE.replace(from, to)
}

fn holds(view: &PlanView, site: &str) -> Vec<HoldReason> {
    let site = view.sites.get(&site.parse().unwrap());
    let holds = site.into_iter().flat_map(|site| &site.holds);
    holds.map(|hold| hold.reason.clone()).collect()
}

#[tokio::test]
async fn only_the_difference_is_planned_and_nothing_is_changed() {
    let backend = Recorder::new(snapshot());
    let before = format!("{:?}", backend.snapshot);
    let same = planned(&backend, &[("P01", SITE)]).await;
    let own = backend.snapshot.sites.values().next().unwrap();
    let site = same.sites.values().next().unwrap();
    assert!(site.steps.is_empty(), "{:#?}", site.steps);
    assert_eq!(site.holds, own.plan.as_ref().unwrap().holds);
    let moved = changed("[p01-f1, p01-f2], service", "[p01-f1, p01-a], service");
    let view = planned(&backend, &[("P01", &moved)]).await;
    assert_eq!(
        (view.counts.to_move, view.counts.to_install),
        (1, 0),
        "{view:#?}"
    );
    let site = view.sites.values().next().unwrap();
    let installed = site.steps.iter().find_map(|step| match &step.action {
        Action::Install { server, .. } => Some((server.as_str(), step.place.as_ref()?.to_string())),
        _ => None,
    });
    let at = place_of("managementPoint: ");
    assert_eq!(installed, Some(("p01-a", at)));
    let (same, moved) = (same.id.unwrap(), view.id.unwrap());
    assert!(
        same.starts_with("0123456+") && moved.starts_with("0123456+") && same != moved,
        "{same} {moved}"
    );
    assert_eq!(format!("{:?}", backend.snapshot), before);
    assert!(backend.asked().is_empty(), "{:?}", backend.asked());
}

#[tokio::test]
async fn servers_and_sites_that_are_new_wait_for_their_agents() {
    let backend = Recorder::new(snapshot());
    let grown = changed(
        "  siteServer:",
        "    p01-x: {address: 10.1.0.99}\n  siteServer:",
    )
    .replace("servers: [p01-n]", "servers: [p01-n, p01-x]");
    let site = "apiVersion: stead/v1\nkind: Site\nmetadata: {name: P02}\nspec:\n  type: primary\n  \
                servers: {p02-a: {address: 10.2.0.11}}\n  \
                siteServer: {active: p02-a, service: {command: [/opt/any]}}\n";
    let central = "apiVersion: stead/v1\nkind: Site\nmetadata: {name: CAS}\nspec:\n  type: central\n  \
                   servers: {cas-a: {address: 10.0.0.11}}\n  \
                   siteServer: {active: cas-a, service: {command: [/opt/any]}}\n";
    let child = |text: &str| text.replace("type: primary", "type: primary\n  parent: CAS");
    let sites = [
        ("CAS", central),
        ("P01", &child(&grown)),
        ("P02", &child(site)),
    ];
    let view = planned(&backend, &sites).await;
    for (site, server) in [("CAS", "cas-a"), ("P01", "p01-x"), ("P02", "p02-a")] {
        let server = server.parse().unwrap();
        let joins = HoldReason::AwaitingJoin { server };
        assert!(holds(&view, site).contains(&joins), "{view:#?}");
    }
}

#[tokio::test]
async fn a_renamed_server_is_seen_as_it_was_and_a_missing_secret_is_told() {
    let backend = Recorder::new(snapshot());
    let renamed = changed("p01-f2: {", "p01-g2: {was: p01-f2, ").replace(", p01-f2]", ", p01-g2]");
    let view = planned(&backend, &[("P01", &renamed)]).await;
    let counts = &view.counts;
    assert_eq!(
        (counts.to_install, counts.to_move, counts.to_remove),
        (0, 0, 0),
        "{view:#?}"
    );
    let secret = changed(
        "{servers: [p01-a], port: 8441, service: *any}",
        "{servers: [p01-a], port: 8441, service: {command: [/opt/any], env: {P: {secret: pw}}}}",
    );
    let view = planned(&backend, &[("P01", &secret)]).await;
    let missing = HoldReason::SecretMissing {
        secret: "pw".parse().unwrap(),
    };
    assert_eq!(view.counts.to_update, 1, "{view:#?}");
    assert!(holds(&view, "P01").contains(&missing), "{view:#?}");
}

#[tokio::test]
async fn records_nobody_read_yet_are_read_and_unknown_where_dns_is_silent() {
    let more = changed(
        "    distributionPoint:",
        "    fallbackStatusPoint: {servers: [p01-a], service: *any}\n    distributionPoint:",
    );
    let backend = Recorder::new(snapshot());
    let view = planned(&backend, &[("P01", &more)]).await;
    assert_eq!(
        (view.counts.to_install, view.counts.to_publish),
        (1, 1),
        "{view:#?}"
    );
    let unread = |reason: &HoldReason| matches!(reason, HoldReason::RecordUnknown { .. });
    assert!(!holds(&view, "P01").iter().any(unread), "{view:#?}");
    let mut silent = Recorder::new(snapshot());
    Arc::get_mut(&mut silent).unwrap().dns_answers = false;
    let view = planned(&silent, &[("P01", &more)]).await;
    assert!(holds(&view, "P01").iter().any(unread), "{view:#?}");
}

#[tokio::test]
async fn a_site_left_out_is_planned_as_gone_and_suspensions_hold() {
    let other = SITE.replace("P01", "P02").replace("p01-", "p02-");
    let backend = Recorder::new(snapshot());
    let view = planned(&backend, &[("P02", &other)]).await;
    assert_eq!(view.counts.to_remove, 4, "{view:#?}");
    let mut moment = snapshot();
    moment.suspensions = vec![SuspensionView {
        scope: String::new(),
        by: "alice".to_owned(),
        why: "CHG-1".to_owned(),
        at: WallMs(1),
        until: None,
        failover: false,
    }];
    let view = planned(&Recorder::new(moment), &[("P02", &other)]).await;
    assert_eq!(view.counts, Default::default(), "{view:#?}");
    for site in ["P01", "P02"] {
        let by_alice = |reason: &HoldReason| matches!(reason, HoldReason::Suspended { by, .. } if by == "alice");
        assert!(holds(&view, site).iter().any(by_alice), "{view:#?}");
    }
}

#[tokio::test]
async fn what_can_not_be_planned_is_refused_in_words() {
    let backend = Recorder::new(snapshot());
    let large = "# x\n".repeat(PLAN_BYTES_MAX / 4);
    let larger = "\"".repeat(PLAN_BYTES_MAX);
    let broken = changed("type: primary", "type: primry");
    let theirs = HIERARCHY.replace("contoso", "fabrikam");
    use StatusCode as Is;
    for (body, status, words) in [
        (
            body(HIERARCHY, &[("P01", &large)]),
            Is::PAYLOAD_TOO_LARGE,
            "16777216",
        ),
        (
            body(HIERARCHY, &[("P01", &larger)]),
            Is::PAYLOAD_TOO_LARGE,
            "16777216",
        ),
        (
            body(HIERARCHY, &[("P01", &broken)]),
            Is::UNPROCESSABLE_ENTITY,
            "sites/P01.yaml:5:9: error",
        ),
        (
            body(&theirs, &[("P01", SITE)]),
            Is::UNPROCESSABLE_ENTITY,
            "fabrikam",
        ),
        ("{".to_owned(), Is::BAD_REQUEST, "no topology"),
        (
            r#"{"tree": "", "files": {}, "apply": true}"#.to_owned(),
            Is::BAD_REQUEST,
            "apply",
        ),
    ] {
        let (got, said) = send(&backend, body).await;
        assert_eq!(got, status, "{words}: {said}");
        let error = said["error"].as_str().unwrap();
        assert!(error.contains(words), "{words}: {said}");
        assert!(said["hint"].is_string(), "{said}");
        assert!(error.len() < 3_000, "it fits a remote caller's refusal");
    }
    planned(&backend, &[("P01", SITE)]).await;
    let mut moment = snapshot();
    moment.reconciler.hierarchy = None;
    let (status, said) = send(&Recorder::new(moment), body(HIERARCHY, &[("P01", SITE)])).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{said}");
}

#[tokio::test]
async fn one_is_planned_at_a_time_and_operators_may_ask() {
    let backend = Recorder::new(snapshot());
    let turn = Arc::clone(&backend.turn).try_acquire_owned().unwrap();
    let ask = || post("/v1/plan", body(HIERARCHY, &[("P01", SITE)]));
    let operator = || with(ask(), identity(IdentityKind::Operator));
    let (status, said) = call(&backend, Access::Tls, operator()).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS, "{said}");
    drop(turn);
    let (status, said) = call(&backend, Access::Tls, operator()).await;
    assert_eq!(status, StatusCode::OK, "{said}");
    let server = with(ask(), identity(IdentityKind::Server));
    let (status, _) = call(&backend, Access::Tls, server).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
}
