//! Rules of roles, placement, services and names; the helpers are those of `meaning`.

use super::meaning::{GOOD, breaks, passes, told, warns};
use super::*;

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
fn dp_1_a_primary_and_its_secondaries_have_at_most_5000_distribution_points() {
    let mut text = GOOD.to_owned();
    for site in 0..20 {
        text += &format!(
            "---\napiVersion: stead/v1\nkind: Site\nmetadata: {{name: T{site:02}}}\nspec:\n  type: \
             secondary\n  parent: P01\n  siteServer: {{active: t{site}-0}}\n  roles: \
             {{managementPoint: {{servers: [t{site}-0]}}, distributionPoint: {{instances: 250}}}}\n  \
             servers:\n"
        );
        for server in 0..250 {
            text += &format!("    t{site}-{server}: {{address: 10.20.{site}.{server}}}\n");
        }
    }
    let errors = told(&text, Severity::Error);
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert_eq!((errors[0].0, errors[0].1), ("too-many", Some("DP-1")));
    assert!(
        errors[0].2.contains("5002 distribution points"),
        "{}",
        errors[0].2
    );
}

#[test]
fn cl_4_no_two_sites_share_a_content_library() {
    let library = "contentLibrary: {url: 's3://content/P01'}";
    breaks(
        "  siteServer: {active: cas-a}\n",
        &format!("  siteServer: {{active: cas-a}}\n  {library}\n"),
        "library",
        Some("CL-4"),
        "site CAS keeps its content",
    );
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
