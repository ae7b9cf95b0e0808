//! Writes the largest supported hierarchy as YAML documents: 1 central, 25 primaries, 6,250
//! secondaries, 31,703 servers, about 38,000 role instances (SZ-1, design section 10).
//!
//! Checked and planned only; nothing dials its addresses (H35).

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use stead_schemas::declared::SourceFile;

/// How large.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Primary sites, at most 25.
    pub primaries: u32,
    /// Secondaries of each primary, at most 250.
    pub secondaries_each: u32,
}

impl Size {
    /// The largest supported.
    pub const LARGEST: Self = Self {
        primaries: 25,
        secondaries_each: 250,
    };
}

const DIGITS: &[u8; 36] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const FRONT_ENDS: u32 = 262;

/// The hierarchy's files: one for the hierarchy, one a site.
#[must_use]
pub fn files(size: Size) -> Vec<SourceFile> {
    let mut addresses = Addresses(u32::from(Ipv4Addr::new(10, 0, 0, 1)));
    let mut files = vec![
        file("hierarchy.yaml".to_owned(), hierarchy()),
        file("sites/CAS.yaml".to_owned(), central(&mut addresses)),
    ];
    for primary in 0..size.primaries {
        let code = format!("P{primary:02}");
        files.push(file(
            format!("sites/{code}.yaml"),
            primary_site(&code, &mut addresses),
        ));
        for secondary in 0..size.secondaries_each {
            let number = primary * size.secondaries_each + secondary;
            let child = secondary_code(number);
            let text = secondary_site(&child, &code, &mut addresses);
            files.push(file(format!("sites/{code}/{child}.yaml"), text));
        }
    }
    files
}

struct Addresses(u32);

impl Addresses {
    fn next(&mut self) -> Ipv4Addr {
        self.0 += 1;
        Ipv4Addr::from(self.0)
    }
}

fn file(path: String, text: String) -> SourceFile {
    SourceFile {
        path,
        bytes: text.into_bytes(),
    }
}

/// Codes that begin with a letter after `P`, so that they clash with no primary.
fn secondary_code(number: u32) -> String {
    let number = number as usize;
    let first = char::from(DIGITS[16 + 1 + number / 1296 + 9]);
    let second = char::from(DIGITS[number / 36 % 36]);
    let third = char::from(DIGITS[number % 36]);
    format!("{first}{second}{third}")
}

fn hierarchy() -> String {
    "apiVersion: stead/v1
kind: Hierarchy
metadata: {name: largest}
spec:
  reconcilers:
    stead-1: {address: 10.255.0.5, zone: hq/room-3}
  publishing:
    dns:
      domain: cm.largest.example
      servers: [192.0.2.53]
      tsig: [{name: stead-2026, algorithm: hmac-sha256, secret: tsig-2026}]
      ttl: 30s
  guards: {maxSitesAtOnce: 5, maxRemovals: 3, maxFailedSites: 1}
"
    .to_owned()
}

fn head(code: &str, kind: &str, parent: Option<&str>) -> String {
    let parent = parent.map_or_else(String::new, |p| format!("  parent: {p}\n"));
    format!(
        "apiVersion: stead/v1\nkind: Site\nmetadata: {{name: {code}}}\nspec:\n  type: {kind}\n{parent}"
    )
}

fn pair(text: &mut String, lower: &str) {
    let _ = write!(
        text,
        "  siteServer: {{active: {lower}-a, passive: [{lower}-b], witnesses: [{lower}-w]}}
  database: {{engine: postgresql, name: cm_{lower}, host: {lower}-db.largest.example, user: cm, password: {{secret: db-password}}, tls: verify-full}}
  contentLibrary: {{url: \"s3://content/{lower}\"}}
"
    );
}

fn three_servers(text: &mut String, lower: &str, addresses: &mut Addresses) {
    text.push_str("  servers:\n");
    for (name, room) in [("a", 1), ("b", 2), ("w", 3)] {
        let _ = writeln!(
            text,
            "    {lower}-{name}: {{address: {}, zone: {lower}/room-{room}}}",
            addresses.next()
        );
    }
}

fn central(addresses: &mut Addresses) -> String {
    let mut text = head("CAS", "central", None);
    three_servers(&mut text, "cas", addresses);
    pair(&mut text, "cas");
    text
}

fn primary_site(code: &str, addresses: &mut Addresses) -> String {
    let lower = code.to_ascii_lowercase();
    let mut text = head(code, "primary", Some("CAS"));
    three_servers(&mut text, &lower, addresses);
    for number in 0..FRONT_ENDS + 3 {
        let tier = if number < 15 { "frontend" } else { "content" };
        let _ = writeln!(
            text,
            "    {lower}-f{number}: {{address: {}, zone: {lower}/room-{}, labels: {{tier: {tier}}}}}",
            addresses.next(),
            number % 3 + 1
        );
    }
    pair(&mut text, &lower);
    text.push_str(
        "  roles:
    managementPoint:     {instances: 15, among: {tier: frontend}, spread: zone, service: {command: [/opt/mp/bin/mp]}}
    distributionPoint:   {instances: 240, among: {tier: content}, spread: zone}
    softwareUpdatePoint: {instances: 3, among: {tier: content}, spread: zone, port: 8531, service: {command: [/opt/sup/bin/sup]}}
    fallbackStatusPoint: {instances: 1, among: {tier: content}, port: 8081, moveAfter: 10m, service: {command: [/opt/fsp/bin/fsp]}}
",
    );
    text
}

fn secondary_site(code: &str, parent: &str, addresses: &mut Addresses) -> String {
    let lower = code.to_ascii_lowercase();
    let mut text = head(code, "secondary", Some(parent));
    text.push_str("  servers:\n");
    for (name, rack) in [("srv", 1), ("d1", 1), ("d2", 2), ("d3", 2)] {
        let _ = writeln!(
            text,
            "    {lower}-{name}: {{address: {}, zone: {lower}/rack-{rack}}}",
            addresses.next()
        );
    }
    let _ = write!(
        text,
        "  siteServer: {{active: {lower}-srv}}
  roles:
    managementPoint:   {{servers: [{lower}-srv], service: {{command: [/opt/mp/bin/mp]}}}}
    distributionPoint: {{servers: [{lower}-srv, {lower}-d1, {lower}-d2, {lower}-d3]}}
"
    );
    text
}
