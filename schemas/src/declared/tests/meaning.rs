//! Each rule of meaning: what breaks it is told with its tag, what keeps it passes.

use super::*;

/// A hierarchy, a central site and a primary one with a pair: everything in order.
const GOOD: &str = "apiVersion: stead/v1
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
fn told(yaml: &str, severity: Severity) -> Vec<(&'static str, Option<&'static str>, String)> {
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
fn breaks(from: &str, to: &str, code: &str, tag: Option<&str>, message: &str) {
    assert!(GOOD.contains(from), "{from}");
    let errors = told(&GOOD.replacen(from, to, 1), Severity::Error);
    assert_eq!(errors.len(), 1, "{to}: {errors:#?}");
    assert_eq!((errors[0].0, errors[0].1), (code, tag), "{errors:#?}");
    assert!(errors[0].2.contains(message), "{}", errors[0].2);
}

/// The one warning after a replacement.
#[track_caller]
fn warns(from: &str, to: &str, code: &str, tag: Option<&str>) {
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
fn passes(from: &str, to: &str) {
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
fn roles_stand_where_the_catalogue_says() {
    breaks(
        "softwareUpdatePoint: {servers: [cas-a]}",
        "softwareUpdatePoint: {servers: [cas-a]}, managementPoint: {servers: [cas-a]}",
        "role-site-type",
        Some("HI-8"),
        "no clients",
    );
    breaks(
        "managementPoint: {servers: [s01-a]}",
        "managementPoint: {servers: [s01-a]}, smsProvider: {servers: [s01-a]}",
        "role-site-type",
        Some("PR-1"),
        "a secondary site has no smsProvider",
    );
    breaks(
        "softwareUpdatePoint: {servers: [p01-f1]}",
        "softwareUpdatePoint: {servers: [p01-f1]}\n    serviceConnectionPoint: {servers: [p01-f1]}",
        "hierarchy-role",
        Some("NH-6"),
        "at its top site CAS",
    );
    breaks(
        "softwareUpdatePoint: {servers: [p01-f1]}",
        "softwareUpdatePoin: {servers: [p01-f1]}",
        "role",
        None,
        "is no role",
    );
    breaks(
        "softwareUpdatePoint: {servers: [p01-f1]}",
        "siteServer: {servers: [p01-f1]}",
        "role",
        None,
        "a key of its own",
    );
    breaks(
        "softwareUpdatePoint: {servers: [p01-f1]}",
        "softwareUpdatePoint: {servers: [p01-f1]}\n    proxy: {role: custom, servers: [p01-f1]}",
        "service",
        None,
        "needs a `service`",
    );
}

#[test]
fn mp_1_dp_1_numbers_are_bounded() {
    let servers: String = (0..16)
        .map(|n| format!("    m{n}: {{address: 10.2.0.{n}}}\n"))
        .collect();
    let text = GOOD
        .replacen("  servers:\n", &format!("  servers:\n{servers}"), 1)
        .replacen(
            "    distributionPoint:",
            "    managementPoint: {instances: 16}\n    distributionPoint:",
            1,
        );
    let errors = told(&text, Severity::Error);
    assert_eq!(
        (errors[0].0, errors[0].1),
        ("too-many", Some("MP-1")),
        "{errors:?}"
    );
    let pass = text.replace("instances: 16", "instances: 15");
    assert_eq!(told(&pass, Severity::Error), []);
    let servers: String = (0..251)
        .map(|n| format!("    m{n}: {{address: 10.2.0.{n}}}\n"))
        .collect();
    let text = GOOD
        .replacen("  servers:\n", &format!("  servers:\n{servers}"), 1)
        .replacen(
            "{instances: 2, among: {tier: frontend}, spread: zone}",
            "{instances: 251}",
            1,
        );
    assert_eq!(told(&text, Severity::Error)[0].1, Some("DP-1"));
    // DP-1: those that pull have a limit of their own.
    let pull = text.replacen("instances: 251}", "instances: 1}\n    dp-pull: {role: distributionPoint, port: 81, instances: 251, settings: {pullFrom: [distributionPoint]}}", 1);
    assert_eq!(told(&pull, Severity::Error), []);
}

#[test]
fn sp_4_nh_7_g_50_the_connection_point_is_on_neither_site_server() {
    let alone = GOOD
        .replace("  parent: CAS\n", "")
        .split("---\n")
        .filter(|d| !d.contains("CAS}") && !d.contains("S01"))
        .collect::<Vec<_>>()
        .join("---\n");
    let point = |with: &str| {
        alone.replacen(
            "    distributionPoint:",
            &format!("    serviceConnectionPoint: {with}\n    distributionPoint:"),
            1,
        )
    };
    for with in ["{servers: [p01-b]}", "{instances: 1}"] {
        let errors = told(&point(with), Severity::Error);
        assert_eq!(
            (errors[0].0, errors[0].1),
            ("connection-point", Some("SP-4")),
            "{with}"
        );
    }
    assert_eq!(told(&point("{servers: [p01-c]}"), Severity::Error), []);
    assert_eq!(
        told(
            &point("{instances: 1, among: {tier: frontend}}"),
            Severity::Error
        ),
        []
    );
}

#[test]
fn recommendations_are_warnings() {
    warns(
        "  roles: {softwareUpdatePoint: {servers: [cas-a]}}\n",
        "",
        "update-point",
        Some("SU-1"),
    );
    let role = "    distributionPoint:";
    warns(
        role,
        &format!("    fallbackStatusPoint: {{servers: [p01-f1], port: 81}}\n{role}"),
        "fallback-status-point",
        Some("FS-6"),
    );
    warns(
        role,
        &format!("    reportingPoint: {{servers: [p01-a]}}\n{role}"),
        "reporting-point",
        Some("SR-5"),
    );
    warns(
        role,
        &format!("    smsProvider: {{servers: [p01-a]}}\n{role}"),
        "provider",
        Some("SS-6"),
    );
    warns(
        role,
        &format!("    reportingPoint: {{instances: 1, moveAfter: 5m}}\n{role}"),
        "move-held",
        Some("H8"),
    );
    warns(
        "schedule: 0 2 * * *",
        "schedule: 0 2 * * 0",
        "backup",
        Some("BK-2"),
    );
    warns(
        "host: db.contoso.example",
        "members: {p01-b: {mode: async}}",
        "database",
        Some("AG-21"),
    );
}

#[test]
fn placement_is_by_hand_or_by_count_and_possible() {
    let group = "{instances: 2, among: {tier: frontend}, spread: zone}";
    breaks(
        group,
        "{instances: 2, servers: [p01-f1]}",
        "placement",
        None,
        "exclude each other",
    );
    breaks(
        group,
        "{publish: false}",
        "placement",
        None,
        "where it runs",
    );
    breaks(
        group,
        "{instances: 3, among: {tier: frontend}}",
        "too-few-servers",
        None,
        "wants 3 servers, and 2 match",
    );
    breaks(
        group,
        "{instances: 1, among: {tier: backend}}",
        "too-few-servers",
        None,
        "and 0 match",
    );
    breaks(
        group,
        "{servers: [p01-f1, p01-f1]}",
        "duplicate",
        None,
        "twice",
    );
    breaks(
        group,
        "{servers: [p01-f9]}",
        "unknown-server",
        None,
        "no server `p01-f9`",
    );
    breaks(
        group,
        "{servers: [p01-f1], spread: zone}",
        "placement",
        None,
        "goes with `instances`",
    );
    breaks(
        "zone: seattle/room-2, labels",
        "zone: seattle/room-1, labels",
        "spread",
        None,
        "zone `seattle/room-1` would hold all",
    );
    warns(
        group,
        "{servers: [p01-f1], moveAfter: 10m}",
        "move-by-hand",
        None,
    );
}

#[test]
fn two_programs_can_not_share_a_port() {
    let group = "{instances: 2, among: {tier: frontend}, spread: zone}";
    let two = "{servers: [p01-f1]}\n    other: {role: custom, servers: [p01-f1], port: 80, service: {command: [/bin/x]}}";
    let text = GOOD.replacen(group, two, 1);
    let port = crate::role::Role::DistributionPoint.rules().default_port;
    let text = text.replace("port: 80", &format!("port: {port}"));
    assert_eq!(told(&text, Severity::Error)[0].0, "port");
    breaks(
        group,
        "{servers: [p01-f1], port: 7443}",
        "port",
        None,
        "its site agent's",
    );
    // One unit may serve two roles.
    let unit = "service: {systemd: {unit: nginx.service, adopt: true}}";
    passes(
        group,
        &format!(
            "{{servers: [p01-f1], port: 443, {unit}}}\n    other: {{role: custom, servers: [p01-f1], port: 443, {unit}}}"
        ),
    );
}

#[test]
fn a_service_has_one_program_and_one_probe() {
    let group = "{instances: 2, among: {tier: frontend}, spread: zone}";
    let with = |service: &str| format!("{{servers: [p01-f1], service: {service}}}");
    breaks(
        group,
        &with("{command: [a], systemd: {unit: b.service}}"),
        "exclusive",
        None,
        "`command` and `systemd` exclude",
    );
    breaks(
        group,
        &with("{health: {http: {path: /}, tcp: {}}}"),
        "exclusive",
        None,
        "`http` and `tcp`",
    );
    breaks(
        group,
        &with("{health: {interval: 5s}}"),
        "health",
        None,
        "what is tried",
    );
    breaks(
        group,
        &with("{health: {tcp: {}, interval: 1s, timeout: 2s}}"),
        "health",
        None,
        "no longer than the interval",
    );
    breaks(
        group,
        &with("{command: [a], env: {A-B: c}}"),
        "env",
        None,
        "no name of a variable",
    );
    breaks(
        group,
        &with(
            "{archive: {url: 'https://x/y.tgz', sha256: 0000000000000000000000000000000000000000000000000000000000000000, command: [x]}}",
        ),
        "ambiguous",
        None,
        "quote it",
    );
    let sha = "'0000000000000000000000000000000000000000000000000000000000000000'";
    breaks(
        group,
        &with(&format!(
            "{{archive: {{url: 'https://x/y.tgz', sha256: {sha}, command: [../x]}}}}"
        )),
        "command",
        None,
        "within the archive",
    );
    breaks(
        "softwareUpdatePoint: {servers: [p01-f1]}",
        "softwareUpdatePoint: {servers: [p01-f1], service: {builtIn: true}}",
        "built-in",
        Some("H28"),
        "brings no program",
    );
}

#[test]
fn h28_a_role_without_a_program_is_accepted_with_a_warning() {
    let problems = check_text(GOOD).problems;
    let one = problems
        .iter()
        .find(|p| p.message.contains("softwareUpdatePoint"))
        .unwrap();
    assert_eq!((one.severity, one.tag), (Severity::Warning, Some("H28")));
}

#[test]
fn settings_have_a_schema_a_role() {
    let group = "{instances: 2, among: {tier: frontend}, spread: zone}";
    breaks(
        group,
        "{servers: [p01-f1], settings: {contents: x}}",
        "unknown-key",
        None,
        "`contents` is no key",
    );
    breaks(
        group,
        "{servers: [p01-f1], settings: {content: ../etc}}",
        "settings",
        None,
        "below `contentDir`",
    );
    breaks(
        group,
        "{servers: [p01-f1], settings: {pullFrom: [nothing]}}",
        "settings",
        None,
        "no group of distribution points",
    );
}

#[test]
fn names_fit_the_dns() {
    breaks(
        "192.0.2.53",
        "ns.example",
        "dns-server",
        None,
        "no address of a DNS server",
    );
    breaks(
        "'127.0.0.53:5300'",
        "192.0.2.53",
        "duplicate",
        None,
        "twice",
    );
    breaks(
        "{name: k, algorithm: hmac-sha256, secret: k}",
        "{name: k, algorithm: hmac-sha256, secret: k}, {name: K., algorithm: hmac-sha256, secret: k}",
        "duplicate",
        None,
        "a key `K.` already",
    );
    breaks(
        "secret: k}]",
        "secret: k}], ttl: 0s",
        "ttl",
        None,
        "from 1s to 1d",
    );
    breaks(
        "softwareUpdatePoint: {servers: [p01-f1]}",
        "softwareUpdatePoint: {servers: [p01-f1]}\n    SoftwareUpdatePoint: {role: custom, servers: [p01-f2], service: {command: [x]}}",
        "name-clash",
        None,
        "the same name in the DNS",
    );
    let long = vec!["a".repeat(60); 3].join(".");
    let domain = GOOD
        .replace("cm.contoso.example", &long)
        .replace("p01-f1", &"f".repeat(63));
    assert_eq!(told(&domain, Severity::Error)[0].0, "name-length");
}

#[test]
fn schedules_and_leases_are_checked() {
    breaks(
        "schedule: 0 2 * * *",
        "schedule: 0 25 * * *",
        "schedule",
        None,
        "`25` is no hour",
    );
    breaks(
        "witnesses: [p01-c]}",
        "witnesses: [p01-c], lease: {duration: 1s}}",
        "lease",
        Some("H12"),
        "too short",
    );
}

#[test]
fn h37_nothing_is_told_that_only_follows() {
    // A broken server: neither its users nor counts complain.
    breaks(
        "p01-f1: {address: 10.1.0.21",
        "p01-f1: {address: 10.1.0",
        "value",
        None,
        "no IPv4",
    );
    // A site that can't be read at all: its children don't complain.
    breaks(
        "type: primary",
        "type: primry",
        "value",
        None,
        "not `primry`",
    );
    // A misspelt part isn't missing as well.
    breaks(
        "  contentLibrary:",
        "  contentLibary:",
        "unknown-key",
        None,
        "`contentLibary` is no key",
    );
    // A document lost to syntax: what it may have held isn't missing.
    let text = GOOD.replace("metadata: {name: P01}", "metadata: {name: P01");
    let errors = told(&text, Severity::Error);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0].0, "yaml");
}
