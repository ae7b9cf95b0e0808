//! Rules of the hierarchy and its site servers: what breaks one is told with its tag, what keeps it
//! passes. Rules of roles are in `meaning_roles`.

use super::*;

/// A hierarchy, a central site and a primary one with a pair: everything in order.
pub(super) const GOOD: &str = "apiVersion: stead/v1
kind: Hierarchy
metadata: {name: contoso}
spec:
  reconcilers: {stead-1: {address: 10.0.9.5, zone: hq/room-3}}
  publishing:
    dns: {domain: cm.contoso.example, servers: [192.0.2.53, '127.0.0.53:5300'], tsig: [{name: k, algorithm: hmac-sha256, secret: k}]}
---
apiVersion: stead/v1
kind: Site
metadata: {name: CAS}
spec:
  type: central
  servers: {cas-a: {address: 10.0.0.1}}
  siteServer: {active: cas-a}
  roles: {softwareUpdatePoint: {servers: [cas-a]}}
---
apiVersion: stead/v1
kind: Site
metadata: {name: P01}
spec:
  type: primary
  parent: CAS
  servers:
    p01-a: {address: 10.1.0.11, zone: seattle/room-1}
    p01-b: {address: 10.1.0.12, zone: seattle/room-2}
    p01-c: {address: 10.1.0.13, zone: seattle/room-3}
    p01-f1: {address: 10.1.0.21, zone: seattle/room-1, labels: {tier: frontend}}
    p01-f2: {address: 10.1.0.22, zone: seattle/room-2, labels: {tier: frontend}}
  siteServer: {active: p01-a, passive: [p01-b], witnesses: [p01-c]}
  database: {engine: postgresql, name: cm, host: db.contoso.example, user: cm, password: {secret: db-password}}
  contentLibrary: {url: 's3://content/P01'}
  backup: {schedule: 0 2 * * *, timeZone: Europe/Berlin, to: {url: 's3://backup/P01'}}
  roles:
    softwareUpdatePoint: {servers: [p01-f1]}
    distributionPoint: {instances: 2, among: {tier: frontend}, spread: zone}
---
apiVersion: stead/v1
kind: Site
metadata: {name: S01}
spec:
  type: secondary
  parent: P01
  servers: {s01-a: {address: 10.9.0.1}}
  roles: {managementPoint: {servers: [s01-a]}}
";

/// Codes, tags and messages of one severity.
pub(super) fn told(
    yaml: &str,
    severity: Severity,
) -> Vec<(&'static str, Option<&'static str>, String)> {
    check_text(yaml)
        .problems
        .into_iter()
        .filter(|problem| problem.severity == severity)
        .filter(|problem| !["not-yet", "no-program"].contains(&problem.code))
        .map(|problem| (problem.code, problem.tag, problem.message))
        .collect()
}

/// The one error after a replacement in the good topology.
#[track_caller]
pub(super) fn breaks(from: &str, to: &str, code: &str, tag: Option<&str>, message: &str) {
    assert!(GOOD.contains(from), "{from}");
    let errors = told(&GOOD.replacen(from, to, 1), Severity::Error);
    assert_eq!(errors.len(), 1, "{to}: {errors:#?}");
    assert_eq!((errors[0].0, errors[0].1), (code, tag), "{errors:#?}");
    assert!(errors[0].2.contains(message), "{}", errors[0].2);
}

/// The one warning after a replacement.
#[track_caller]
pub(super) fn warns(from: &str, to: &str, code: &str, tag: Option<&str>) {
    assert!(GOOD.contains(from), "{from}");
    let text = GOOD.replacen(from, to, 1);
    assert_eq!(told(&text, Severity::Error), [], "{to}");
    let warnings = told(&text, Severity::Warning);
    assert!(
        warnings.iter().any(|w| (w.0, w.1) == (code, tag)),
        "{to}: {warnings:#?}"
    );
}

/// No error and no warning after a replacement.
#[track_caller]
pub(super) fn passes(from: &str, to: &str) {
    assert!(GOOD.contains(from), "{from}");
    let text = GOOD.replacen(from, to, 1);
    assert_eq!(told(&text, Severity::Error), [], "{to}");
    assert_eq!(told(&text, Severity::Warning), [], "{to}");
}

#[test]
fn the_good_topology_has_no_errors_and_no_warnings() {
    passes("P01", "P01");
}

#[test]
fn sz_1_sites_stand_in_one_tree_of_the_right_types() {
    breaks(
        "  parent: P01\n",
        "",
        "parent",
        Some("SZ-1"),
        "S01 has no parent",
    );
    breaks(
        "parent: P01",
        "parent: CAS",
        "parent",
        Some("SZ-1"),
        "is a primary site, and CAS",
    );
    breaks(
        "parent: P01",
        "parent: P02",
        "parent",
        None,
        "there is no site P02",
    );
    breaks(
        "  parent: CAS\n",
        "",
        "top-site",
        None,
        "P01 is a top site, but CAS is the one",
    );
    breaks(
        "  type: central\n",
        "  type: central\n  parent: P01\n",
        "parent",
        Some("SZ-1"),
        "top of the hierarchy",
    );
}

#[test]
fn a_site_and_the_hierarchy_are_declared_once() {
    breaks(
        "{name: S01}",
        "{name: P01}",
        "duplicate-site",
        None,
        "P01 is declared twice",
    );
    let twice = format!(
        "{GOOD}---\napiVersion: stead/v1\nkind: Hierarchy\nmetadata: {{name: b}}\nspec: {{}}\n"
    );
    assert_eq!(told(&twice, Severity::Error)[0].0, "one-hierarchy");
    let none = GOOD.split_once("---\n").unwrap().1;
    assert_eq!(told(none, Severity::Error)[0].0, "one-hierarchy");
}

#[test]
fn servers_are_unique_in_the_hierarchy() {
    breaks(
        "s01-a: {address: 10.9.0.1}}\n  roles: {managementPoint: {servers: [s01-a]",
        "p01-a: {address: 10.9.0.1}}\n  roles: {managementPoint: {servers: [p01-a]",
        "duplicate-server",
        None,
        "in site P01 already",
    );
    breaks(
        "10.1.0.12",
        "10.1.0.11",
        "duplicate-address",
        None,
        "`p01-a` of site P01",
    );
    passes(
        "{address: 10.1.0.12,",
        "{address: 10.1.0.11, agentPort: 7444,",
    );
    breaks(
        "stead-1:",
        "cas-a:",
        "duplicate-server",
        Some("H4"),
        "a reconciler as well",
    );
    breaks(
        "p01-c: {",
        "p01-c: {was: p01-a, ",
        "was",
        None,
        "still declared",
    );
    passes("p01-c: {", "p01-c: {was: p01-z, ");
    breaks(
        "cas-a: {address: 10.0.0.1}}\n  siteServer: {active: cas-a}\n  roles: {softwareUpdatePoint: {servers: [cas-a]",
        "s01: {address: 10.0.0.1}}\n  siteServer: {active: s01}\n  roles: {softwareUpdatePoint: {servers: [s01]",
        "name-clash",
        None,
        "published name of site S01",
    );
}

#[test]
fn the_site_server_is_on_servers_of_the_site() {
    breaks(
        "active: p01-a",
        "active: p01-x",
        "unknown-server",
        None,
        "no server `p01-x`",
    );
    breaks(
        "passive: [p01-b]",
        "passive: [p01-a, p01-b]",
        "passive",
        None,
        "active site server",
    );
    breaks(
        "active: cas-a",
        "failover: manual",
        "missing",
        None,
        "which server is `active`",
    );
    breaks(
        "witnesses: [p01-c]",
        "witnesses: [nobody]",
        "witness",
        None,
        "no server and no reconciler",
    );
    breaks(
        "witnesses: [p01-c]",
        "witnesses: [p01-b, p01-c]",
        "witness",
        None,
        "votes already",
    );
    passes("witnesses: [p01-c]", "witnesses: [s01-a]");
    passes("witnesses: [p01-c]", "witnesses: [stead-1]");
}

#[test]
fn h36_three_votes_at_least_and_an_even_number_is_a_warning() {
    breaks(
        "witnesses: [p01-c]",
        "witnesses: []",
        "voters",
        Some("H36"),
        "needs 3 voters",
    );
    warns(
        "witnesses: [p01-c]",
        "witnesses: [p01-c, stead-1]",
        "even-voters",
        Some("H36"),
    );
}

#[test]
fn h4_the_default_witness_is_a_reconciler_in_a_zone_of_its_own() {
    let text = GOOD.replace(", witnesses: [p01-c]", "");
    let desired = check_text(&text).desired.unwrap();
    let site = &desired.sites[&"P01".parse::<SiteCode>().unwrap()];
    let witnesses = &site.site_server.as_ref().unwrap().witnesses;
    assert_eq!(witnesses[0].as_str(), "stead-1");
    // In the zone of a voter it is none.
    let near = text.replace("zone: hq/room-3", "zone: seattle/room-1");
    assert_eq!(told(&near, Severity::Error)[0].0, "voters");
}

#[test]
fn a_zone_with_a_majority_of_votes_is_a_warning() {
    warns(
        "zone: seattle/room-2}\n    p01-c",
        "zone: seattle/room-1}\n    p01-c",
        "zone-majority",
        None,
    );
    // Both in rooms of seattle: losing it loses them, wherever the witness is.
    passes("witnesses: [p01-c]", "witnesses: [stead-1]");
}

#[test]
fn ss_2_sp_12_a_pair_shares_database_and_content_library() {
    breaks(
        "  contentLibrary: {url: 's3://content/P01'}\n",
        "",
        "shared-library",
        Some("SP-12"),
        "both can reach",
    );
    breaks(
        "'s3://content/P01'",
        "'file:///srv'",
        "shared-library",
        Some("SP-12"),
        "another folder",
    );
    passes("'s3://content/P01'", "'file:///srv', shared: true");
    breaks(
        "host: db.contoso.example",
        "host: localhost",
        "shared-database",
        Some("SS-2"),
        "another machine",
    );
    let database = "  database: {engine: postgresql, name: cm, host: db.contoso.example, user: cm, password: {secret: db-password}}\n";
    breaks(
        database,
        "",
        "shared-database",
        Some("SS-2"),
        "needs a `database`",
    );
    breaks(
        "host: db.contoso.example, ",
        "",
        "missing",
        None,
        "where it is",
    );
}

#[test]
fn h13_the_embedded_database_is_on_a_third_server() {
    let database = "{engine: postgresql, name: cm, host: db.contoso.example, user: cm, password: {secret: db-password}}";
    warns(
        database,
        "{engine: embedded}",
        "embedded-database",
        Some("H13"),
    );
    breaks(
        database,
        "{engine: embedded, server: p01-b}",
        "database",
        Some("H13"),
        "on a third",
    );
    let text = GOOD
        .replace(database, "{engine: embedded}")
        .replace("witnesses: [p01-c]", "witnesses: [stead-1]");
    assert_eq!(told(&text, Severity::Error)[0].1, Some("H13"));
}

#[test]
fn h9_automatic_failover_needs_a_site_server_that_can_be_fenced() {
    let with = |database: &str, more: &str| {
        let postgresql = "{engine: postgresql, name: cm, host: db.contoso.example, user: cm, password: {secret: db-password}}";
        GOOD.replace(postgresql, database).replace(
            "passive: [p01-b], witnesses: [p01-c]",
            &format!("passive: [p01-b], witnesses: [p01-c]{more}"),
        )
    };
    let embedded = "{engine: embedded, server: p01-c}";
    let own = ", service: {command: [/opt/site]}";
    let unit = ", failover: automatic, service: {systemd: {unit: cm.service, adopt: true}}";
    for foreign in [own, unit] {
        let errors = told(&with(embedded, foreign), Severity::Error);
        let [(code, tag, message)] = errors.as_slice() else {
            panic!("{errors:?}");
        };
        assert_eq!((*code, *tag), ("fencing", Some("H9")));
        assert!(message.contains("checks no token"), "{message}");
    }
    let manual = ", failover: manual, service: {command: [/opt/site]}";
    let postgresql = "{engine: postgresql, name: cm, host: db.contoso.example, user: cm, password: {secret: db-password}}";
    for (database, more, why) in [
        (embedded, manual, "a person looks first"),
        (
            embedded,
            "",
            "no program yet, and the built-in one checks the token",
        ),
        (postgresql, own, "fenced by login"),
        (postgresql, unit, "fenced by login"),
    ] {
        let errors = told(&with(database, more), Severity::Error);
        assert_eq!(errors, [], "{why}");
    }
    let alone = with(embedded, own).replace("passive: [p01-b], ", "");
    assert_eq!(told(&alone, Severity::Error), [], "nothing to fail over to");
}

#[test]
fn sr_2_mp_1_bk_1_hold_at_secondary_sites() {
    // H29: SR-2, MP-1 and BK-1 hold in this wave, G-32 notwithstanding.
    let servers = "servers: {s01-a: {address: 10.9.0.1}}";
    let pair = "servers: {s01-a: {address: 10.9.0.1}, s01-b: {address: 10.9.0.2}}\n  siteServer: {active: s01-a, passive: [s01-b]}";
    breaks(servers, pair, "passive", Some("SR-2"), "no passive");
    breaks(
        servers,
        &format!(
            "{servers}\n  backup: {{schedule: 0 2 * * *, timeZone: UTC, to: {{url: 's3://b'}}}}"
        ),
        "backup",
        Some("BK-1"),
        "no backup",
    );
    breaks(
        "roles: {managementPoint: {servers: [s01-a]}}",
        "roles: {}",
        "management-point",
        Some("MP-1"),
        "one management point",
    );
    let two = "servers: {s01-a: {address: 10.9.0.1}, s01-b: {address: 10.9.0.2}}";
    let text = GOOD
        .replace(servers, two)
        .replace("[s01-a]", "[s01-a, s01-b]");
    assert_eq!(told(&text, Severity::Error)[0].0, "too-many", "MP-1");
    let elsewhere = GOOD
        .replace(servers, &format!("{two}\n  siteServer: {{active: s01-a}}"))
        .replace("servers: [s01-a]}", "servers: [s01-b]}");
    assert_eq!(told(&elsewhere, Severity::Error)[0].1, Some("MP-1"));
}

#[test]
fn h29_gaps_win_over_rules() {
    // G-3 over SR-1: several passive servers.
    passes(
        "passive: [p01-b], witnesses: [p01-c]",
        "passive: [p01-b, p01-c]",
    );
    // SP-9, SR-4 and G-19 over SP-13: roles, also a distribution point, on site servers.
    passes(
        "softwareUpdatePoint: {servers: [p01-f1]}",
        "softwareUpdatePoint: {servers: [p01-b]}",
    );
    passes(
        "{instances: 2, among: {tier: frontend}, spread: zone}",
        "{servers: [p01-a]}",
    );
    // SP-15: a passive server that holds the database. SP-18 and G-46: a pair below a central site is GOOD itself.
    passes("host: db.contoso.example", "members: {p01-b: {mode: sync}}");
}

#[test]
fn h22_a_key_leaves_room_for_the_codes_of_sites_with_a_lease() {
    let key = "{name: k, algorithm: hmac-sha256, secret: k}";
    let long = |count: usize| "k".repeat(count);
    let with = |name: &str, secret: &str| {
        let other = format!("{{name: {name}, algorithm: hmac-sha256, secret: {secret}}}");
        GOOD.replace(key, &other)
    };
    assert_eq!(told(&with(&long(59), &long(59)), Severity::Error), []);
    let errors = told(&with(&long(60), &long(60)), Severity::Error);
    let [name, secret] = errors.as_slice() else {
        panic!("{errors:#?}");
    };
    assert!(
        format!("{name:?}").contains("longer than a name in the DNS"),
        "{name:?}"
    );
    assert!(
        format!("{secret:?}").contains("longer than a secret's name"),
        "{secret:?}"
    );
    assert_eq!(told(&with("k.", "k"), Severity::Error), []);
    let alone =
        with(&long(60), &long(60)).replace("passive: [p01-b], witnesses: [p01-c]", "passive: []");
    assert_eq!(
        told(&alone, Severity::Error),
        [],
        "no lease, no key of its own"
    );
}
