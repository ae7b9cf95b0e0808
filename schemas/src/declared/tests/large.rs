//! A large hierarchy checks without an error, and one beyond the limits does not. The largest one,
//! within its time, is the business of the bench.

use std::fmt::Write as _;

use super::topologies::desired;
use super::*;

/// A central site, `primaries` primary sites and `secondaries` secondary sites each, one document a
/// site in a few files.
pub(super) fn hierarchy(primaries: usize, secondaries: usize) -> Vec<SourceFile> {
    let mut files = vec![SourceFile::new(
        "hierarchy.yaml",
        "apiVersion: stead/v1
kind: Hierarchy
metadata: {name: large}
spec:
  reconcilers: {stead-1: {address: 10.255.0.5, zone: hq/room-3}}
  defaults:
    primary: {siteServer: {failover: automatic, failback: manual}}
",
    )];
    let central = site("CAS", "central", None, 0, 8);
    files.push(SourceFile::new("central.yaml", central));
    for primary in 0..primaries {
        let code = code(primary);
        let mut text = site(&code, "primary", Some("CAS"), primary + 1, 18);
        for secondary in 0..secondaries {
            let number = primaries + primary * secondaries + secondary;
            text += &site(&self::code(number), "secondary", Some(&code), number + 1, 5);
        }
        files.push(SourceFile::new(format!("sites/{code}.yaml"), text));
    }
    files
}

fn code(number: usize) -> String {
    let digit = |n: usize| char::from_digit(u32::try_from(n % 36).unwrap(), 36).unwrap();
    let text: String = [digit(number / 1296), digit(number / 36), digit(number)]
        .iter()
        .collect();
    text.to_uppercase()
}

fn site(code: &str, kind: &str, parent: Option<&str>, number: usize, servers: usize) -> String {
    let low = code.to_lowercase();
    let mut text = format!(
        "---\napiVersion: stead/v1\nkind: Site\nmetadata: {{name: \"{code}\", labels: {{region: west}}}}\nspec:\n  type: {kind}\n"
    );
    if let Some(parent) = parent {
        writeln!(text, "  parent: \"{parent}\"").unwrap();
    }
    text += "  servers:\n";
    for server in 0..servers {
        let (a, b) = (number / 250, number % 250);
        writeln!(
            text,
            "    s{low}-{server}: {{address: 10.{a}.{b}.{}, zone: city-{low}/room-{}, labels: {{tier: all}}}}",
            server + 10,
            server % 3
        )
        .unwrap();
    }
    if kind == "secondary" {
        writeln!(text, "  siteServer: {{active: s{low}-0}}").unwrap();
    } else {
        writeln!(
            text,
            "  siteServer: {{active: s{low}-0, passive: [s{low}-1], witnesses: [s{low}-2]}}
  database: {{engine: postgresql, name: cm, host: pg-{low}.example, user: cm, password: {{secret: db-password}}}}
  contentLibrary: {{url: \"s3://content/{low}\"}}"
        )
        .unwrap();
    }
    text += "  roles:\n";
    if kind != "central" {
        writeln!(text, "    managementPoint: {{servers: [s{low}-0]}}").unwrap();
        text += "    distributionPoint: {instances: 3, among: {tier: all}, spread: zone, service: {health: {http: {path: /health}, interval: 5s, timeout: 2s}}}\n";
    }
    text += "    softwareUpdatePoint: {instances: 1, among: {tier: all}}\n";
    text
}

#[test]
fn sz_1_a_large_hierarchy_checks() {
    let checked = check(&hierarchy(25, 40));
    assert_eq!(desired(checked).sites.len(), 1_026);
}

#[test]
fn sz_1_one_site_more_is_too_many() {
    let checked = check(&hierarchy(1, 251));
    let errors: Vec<String> = checked.errors().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "sites/000.yaml:4:18: error: 000 has 251 secondary sites below a primary one: at most 250 [SZ-1]"
        ]
    );
    let checked = check(&hierarchy(26, 0));
    assert_eq!(checked.errors().next().unwrap().tag, Some("SZ-1"));
}
