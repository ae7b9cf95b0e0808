//! What doesn't fit the schema is told at its place, with what would be right.

use super::*;

/// A topology with one site; what stands below `spec` of the site.
fn site(spec: &str) -> String {
    format!(
        "apiVersion: stead/v1
kind: Hierarchy
metadata: {{name: contoso}}
spec: {{}}
---
apiVersion: stead/v1
kind: Site
metadata: {{name: P01}}
spec:
  type: primary
{spec}"
    )
}

fn errors(yaml: &str) -> Vec<String> {
    check_text(yaml).errors().map(ToString::to_string).collect()
}

#[test]
fn an_unknown_key_names_the_one_that_was_meant() {
    let yaml = site("  servers: {p01-a: {adress: 10.0.0.1}}\n");
    assert_eq!(
        errors(&yaml),
        [
            "a.yaml:11:21: error: `adress` is no key of `servers.p01-a`\n  hint: did you mean `address`?"
        ]
    );
}

#[test]
fn a_wrong_value_says_what_would_be_right() {
    for (spec, message) in [
        (
            "  servers: {p01-a: {address: 10.0.0}}\n",
            "a.yaml:11:30: error: `10.0.0` in `servers.p01-a.address` is no IPv4 or IPv6 address\n  \
          hint: write an address like 10.1.0.11 or 2001:db8::11, without a port",
        ),
        (
            "  servers: {P01_A: {address: 10.0.0.1}}\n",
            "a.yaml:11:13: error: `P01_A` is not a server name: a DNS label in lower case: a-z, 0-9 \
          and `-`, at most 63 characters, as in `p01-a`",
        ),
        (
            "  servers: {p01-a: {}}\n",
            "a.yaml:11:13: error: `address` is missing in `servers.p01-a`\n  \
          hint: address: Where clients and the reconciler reach it.",
        ),
        (
            "  roles: {managementPoint: {instances: two}}\n",
            "a.yaml:11:40: error: `roles.managementPoint.instances` is a whole number, not `two`",
        ),
        (
            "  protect: 1\n",
            "a.yaml:11:12: error: `protect` is true or false, not `1`",
        ),
        (
            "  parent: 100\n",
            "a.yaml:11:11: error: `parent` is text, not `100`\n  hint: quote it: \"100\"",
        ),
        (
            "  siteServer: {moveAfter: 10m}\n",
            "a.yaml:11:16: error: `moveAfter` is no key of `siteServer` [H14]\n  \
          hint: a site server is never moved by the planner: declare a passive server",
        ),
        (
            "  siteServer: {failover: automatc}\n",
            "a.yaml:11:26: error: `siteServer.failover` is `automatic` or `manual`, not `automatc`\n  \
          hint: did you mean `automatic`?",
        ),
        (
            "  roles: {managementPoint: {servers: [a], drain: {wait: 30}}}\n",
            "a.yaml:11:57: error: `roles.managementPoint.drain.wait` is text, not `30`\n  hint: quote it: \"30\"",
        ),
        (
            "  roles: {managementPoint: {servers: [a], drain: {wait: 30 s}}}\n",
            "a.yaml:11:57: error: `30 s` is not a duration: a whole number and a unit: 500ms, 30s, 5m, \
          4h or 8d\n  hint: in `roles.managementPoint.drain.wait`",
        ),
        (
            "  backup: {schedule: 0 2 * * *, to: {url: 's3://b'}}\n",
            "a.yaml:11:3: error: `timeZone` is missing in `backup` [G-27]\n  \
          hint: timeZone: The time zone of the schedule, `Europe/Berlin`.",
        ),
    ] {
        assert_eq!(errors(&site(spec)), [message], "{spec}");
    }
}

#[test]
fn nothing_behind_a_key_is_called_so() {
    let yaml = site("").replace("spec: {}", "spec:\n  guards:\n  publishing: ~");
    assert_eq!(
        errors(&yaml),
        [
            "a.yaml:5:10: error: `guards` is a map, and nothing is written\n  hint: leave the key out",
            "a.yaml:6:15: error: `~` is null to some YAML readers and text to others: quote it: \"~\"",
        ]
    );
}

#[test]
fn a_secret_in_the_clear_is_refused_and_not_repeated() {
    let yaml = site("  database: {engine: postgresql, password: hunter2}\n");
    let checked = check_text(&yaml);
    let problem = checked.errors().next().unwrap();
    assert!(problem.sensitive);
    assert_eq!(
        problem.to_string(),
        "a.yaml:11:44: error: `database.password` is a map, not the value itself\n  \
         hint: secrets stand by name only: `{secret: NAME}`"
    );
}

#[test]
fn h37_all_errors_of_all_documents_are_told_at_once() {
    let yaml = site(
        "  servers: {p01-a: {adress: 10.0.0.1}}
  roles: {managementPoint: {servers: p01-a}}
---
a: [b
---
apiVersion: stead/v1
kind: Sight
---
apiVersion: stead/v1
kind: Site
metadata: {name: P02}
spec: {type: primry}
",
    );
    let places: Vec<(u32, &str)> = check_text(&yaml)
        .errors()
        .map(|problem| (problem.place.line, problem.code))
        .collect();
    assert_eq!(
        places,
        [
            (11, "unknown-key"),
            (12, "value"),
            (14, "yaml"),
            (17, "kind"),
            (22, "value")
        ]
    );
}

#[test]
fn what_is_wrong_in_a_template_is_told_once_with_its_sites_counted() {
    let yaml = "apiVersion: stead/v1
kind: Hierarchy
metadata: {name: contoso}
spec: {}
---
apiVersion: stead/v1
kind: SiteSet
metadata: {name: all}
spec:
  template: {spec: {type: primary, servers: {$(code.lower)-a: {address: $(net).11, zone: $(zone)}}}}
  sites:
    - {code: P01, net: 10.0, zone: x}
    - {code: P02, net: 10.0, zonee: q}
    - {code: P03, net: 10.0.3, zone: z}
";
    let problems: Vec<String> = check_text(yaml)
        .problems
        .iter()
        .filter(|p| ["value", "placeholder", "unused-value"].contains(&p.code))
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        problems,
        [
            "a.yaml:10:73: error: `10.0.11` in `servers.p01-a.address` is no IPv4 or IPv6 address (seen at P01 and 1 more site)\n  \
             a.yaml:12:7: for site P01\n  \
             hint: write an address like 10.1.0.11 or 2001:db8::11, without a port",
            "a.yaml:10:90: error: `$(zone)` has no value\n  a.yaml:13:7: for site P02\n  \
             hint: give `zone` in the site's entry or in `values`; `$$(` stands for `$(` itself",
            "a.yaml:13:30: warning: `zonee` is used nowhere in the template\n  hint: did you mean `zone`?",
        ]
    );
}
