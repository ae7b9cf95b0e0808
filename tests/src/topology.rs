//! The three small sites that the system tests run: a primary with three front ends, and two
//! secondaries.

use std::fmt::Write as _;
use std::time::Duration;

use crate::harness::Harness;
use crate::processes::program;

/// Servers and the last octets of their addresses.
pub const SERVERS: [(&str, u8); 10] = [
    ("p01-a", 11),
    ("p01-f1", 21),
    ("p01-f2", 22),
    ("p01-f3", 23),
    ("s01-srv", 31),
    ("s01-d1", 32),
    ("s01-d2", 33),
    ("s02-srv", 41),
    ("s02-d1", 42),
    ("s02-d2", 43),
];

/// Port of the distribution points.
pub const CONTENT_PORT: u16 = 8080;

/// What may differ between two revisions of the topology.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Servers of P01's distribution points, placed by hand.
    pub content_on: Vec<&'static str>,
    /// How many distribution points S01 counts.
    pub counted: u16,
    /// Whether S02 is there.
    pub second: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            content_on: vec!["p01-f1", "p01-f2"],
            counted: 1,
            second: true,
        }
    }
}

/// A hierarchy of the default shape, converged, and the revision it is at.
///
/// # Panics
/// When it does not converge within `patience`.
#[must_use]
pub fn running(patience: Duration) -> (Harness, String) {
    let mut harness = Harness::new();
    for (name, last) in SERVERS {
        harness.start_agent(name, last);
    }
    let revision = commit(&harness, "three sites", &Shape::default());
    harness.start_reconciler();
    harness.wait_converged(&revision, patience);
    (harness, revision)
}

/// The files of a shape.
#[must_use]
pub fn files(harness: &Harness, shape: &Shape) -> Vec<(String, String)> {
    let guards = "{maxSitesAtOnce: 10, maxRemovals: 50, maxFailedSites: 3}";
    let mut files = vec![
        ("hierarchy.yaml".to_owned(), harness.hierarchy_yaml(guards)),
        (
            "sites/P01.yaml".to_owned(),
            primary(harness, &shape.content_on),
        ),
        (
            "sites/S01.yaml".to_owned(),
            secondary(harness, "s01", shape.counted),
        ),
    ];
    let second = if shape.second {
        secondary(harness, "s02", 2)
    } else {
        String::new()
    };
    files.push(("sites/S02.yaml".to_owned(), second));
    files
}

/// Commits a shape; answers the commit's id.
pub fn commit(harness: &Harness, message: &str, shape: &Shape) -> String {
    let files = files(harness, shape);
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    harness.commit(message, &files)
}

fn servers(harness: &Harness, site: &str) -> String {
    let mut text = String::from("  servers:\n");
    let ours = SERVERS.iter().filter(|(name, _)| name.starts_with(site));
    for (index, (name, last)) in ours.enumerate() {
        let _ = writeln!(
            text,
            "    {name}: {{address: {}, zone: {site}/room-{}, labels: {{tier: {}}}}}",
            harness.address(*last),
            index % 3 + 1,
            if name.contains("-f") || name.contains("-d") {
                "content"
            } else {
                "site"
            }
        );
    }
    text
}

/// Fast checks, short drains: what is proven is order, not patience.
fn placeholder() -> String {
    format!(
        "{{command: [{}, role, placeholder], health: {{http: {{path: /health}}, interval: 500ms, timeout: 400ms, failures: 2}}, stop: {{grace: 2s}}}}",
        program("site-agent").display()
    )
}

fn primary(harness: &Harness, content_on: &[&str]) -> String {
    format!(
        "apiVersion: stead/v1
kind: Site
metadata: {{name: P01}}
spec:
  type: primary
{}  siteServer: {{active: p01-a}}
  roles:
    managementPoint: {{servers: [p01-f1, p01-f2], port: 8443, service: {}}}
    distributionPoint: {{servers: [{}], port: {CONTENT_PORT}}}
",
        servers(harness, "p01"),
        placeholder(),
        content_on.join(", "),
    )
}

fn secondary(harness: &Harness, site: &str, counted: u16) -> String {
    format!(
        "apiVersion: stead/v1
kind: Site
metadata: {{name: {}}}
spec:
  type: secondary
  parent: P01
{}  siteServer: {{active: {site}-srv}}
  roles:
    managementPoint: {{servers: [{site}-srv], port: 8444, service: {}}}
    distributionPoint: {{instances: {counted}, among: {{tier: content}}, port: {CONTENT_PORT}}}
",
        site.to_ascii_uppercase(),
        servers(harness, site),
        placeholder(),
    )
}
