//! Sites with passives, resolved: who votes, how long, and what a site server is told.

use std::sync::Arc;

use serde_json::json;

use super::check_text;
use super::meaning::{GOOD, told};
use crate::declared::problem::Severity;
use crate::desired::{Placement, SiteDesired};
use crate::lease::LeaseTiming;
use crate::names::IdentityKind;
use crate::role::Role;
use crate::time::DurationMs;
use crate::wire::{EnvValue, Program};

const PAIR: &str = "passive: [p01-b], witnesses: [p01-c]";
const POSTGRESQL: &str = "{engine: postgresql, name: cm, host: db.contoso.example, user: cm, password: {secret: db-password}}";

fn p01(text: &str) -> Arc<SiteDesired> {
    let errors = told(text, Severity::Error);
    assert_eq!(errors, []);
    let desired = check_text(text).desired.unwrap();
    Arc::clone(&desired.sites[&"P01".parse().unwrap()])
}

fn not_yet(text: &str) -> Vec<String> {
    let problems = check_text(text).problems.into_iter();
    problems
        .filter(|problem| problem.code == "not-yet")
        .map(|problem| problem.message)
        .collect()
}

#[test]
fn h4_voters_are_the_active_the_passives_in_order_and_the_witnesses() {
    let site = p01(&GOOD.replace(
        PAIR,
        "passive: [p01-f1, p01-b], witnesses: [p01-c, stead-1]",
    ));
    let lease = site.site_server.as_ref().unwrap().lease.as_ref().unwrap();
    let voters: Vec<(&str, Option<u32>, IdentityKind)> = lease
        .voters
        .iter()
        .map(|(name, voter)| (name.as_str(), voter.rank, voter.kind))
        .collect();
    assert_eq!(
        voters,
        [
            ("p01-a", Some(0), IdentityKind::Server),
            ("p01-b", Some(2), IdentityKind::Server),
            ("p01-c", None, IdentityKind::Server),
            ("p01-f1", Some(1), IdentityKind::Server),
            ("stead-1", None, IdentityKind::Reconciler),
        ]
    );
    let address = lease.voters[&"p01-c".parse().unwrap()].address;
    assert_eq!(address.to_string(), "10.1.0.13:7443");
}

#[test]
fn h19_limits_and_lengths_have_defaults_and_are_taken_over() {
    let of = |text: &str| *p01(text).site_server.clone().unwrap().lease.unwrap();
    let lease = of(GOOD);
    assert!(lease.automatic);
    assert_eq!(
        (lease.failback_after, lease.failovers_per_hour),
        (None, Some(3))
    );
    assert_eq!(lease.timing, LeaseTiming::default());
    let more = "failover: manual, failback: automatic, limits: {failoversPerHour: unlimited}, \
                lease: {duration: 6s, drift: 1.5%}";
    let lease = of(&GOOD.replace(PAIR, &format!("{PAIR}, {more}")));
    assert!(!lease.automatic);
    assert_eq!(lease.failback_after, Some(DurationMs::seconds(300)));
    assert_eq!(lease.failovers_per_hour, None);
    let timing = (lease.timing.duration, lease.timing.drift_percent);
    assert_eq!(timing, (DurationMs::seconds(6), 2));
}

#[test]
fn a_leased_site_server_is_told_its_store_and_given_the_password_by_name() {
    let site = p01(GOOD);
    let site_server = site.site_server.as_ref().unwrap();
    assert_eq!(
        site_server.settings,
        json!({"site": "P01", "store": {"postgresql": {
            "hosts": ["db.contoso.example:5432"], "name": "cm", "user": "cm", "tls": "verify-full"
        }}})
    );
    let service = site_server.service.as_ref().unwrap();
    assert_eq!(service.program, Program::BuiltIn);
    let secret = "db-password".parse().unwrap();
    assert_eq!(
        service.env["STEAD_DATABASE_PASSWORD"],
        EnvValue::Secret { secret },
        "H30"
    );
}

#[test]
fn h13_an_embedded_database_is_planned_as_a_group_of_its_own() {
    let text = GOOD.replace(POSTGRESQL, "{engine: embedded}");
    let site = p01(&text);
    let group = &site.groups[&"database".parse().unwrap()];
    assert_eq!(
        (group.role, group.port, group.publish),
        (Role::Database, 7450, false)
    );
    assert_eq!(
        group.placement,
        Placement::ByHand(vec!["p01-c".parse().unwrap()])
    );
    assert_eq!(group.place.line, 31);
    assert_eq!(
        site.site_server.as_ref().unwrap().settings,
        json!({"site": "P01", "store": {"embedded": {"address": "10.1.0.13:7450"}}})
    );
    assert!(!not_yet(&text).iter().any(|told| told.contains("database")));
    let point = "softwareUpdatePoint: {servers: [p01-f1]}";
    let clash = GOOD
        .replace(POSTGRESQL, "{engine: embedded, server: p01-f1, port: 8531}")
        .replace(point, &point.replace("]}", "], service: {command: [/x]}}"));
    let errors = told(&clash, Severity::Error);
    assert!(
        errors[0].2.contains("is used by the database"),
        "{errors:?}"
    );
    let taken = "distributionPoint: {instances";
    let custom = "database: {role: custom, servers: [p01-f1], service: {command: [/x]}}";
    let text = text.replace(taken, &format!("{custom}\n    {taken}"));
    let errors = told(&text, Severity::Error);
    assert!(errors[0].2.contains("another name"), "{errors:?}");
}

#[test]
fn h9_a_program_of_ones_own_and_a_site_without_passives_have_no_lease() {
    let own = format!("{PAIR}, service: {{command: [/opt/site]}}");
    for (to, warned) in [(own.as_str(), true), ("", false)] {
        let text = GOOD.replace(
            &format!(", {PAIR}"),
            &if to.is_empty() {
                String::new()
            } else {
                format!(", {to}")
            },
        );
        let site = p01(&text);
        let site_server = site.site_server.as_ref().unwrap();
        assert_eq!(site_server.lease, None);
        assert!(site_server.settings.is_null());
        let warnings = not_yet(&text);
        let passive = warnings
            .iter()
            .any(|told| told.contains("don't take over yet"));
        assert_eq!(passive, warned, "{warnings:?}");
    }
}
