//! What BIND and Knot must be told so that each key writes its own names only (H22).
//!
//! Printed by `stead init` and explained in `docs/dns.md`; the contract test runs both servers with
//! exactly this text. It configures no server itself.

use std::fmt::Write as _;

use stead_schemas::alias::site_key_name;
use stead_schemas::names::{DomainName, SiteCode};

/// The server configuration for one hierarchy's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyText {
    /// For `named.conf`, inside the zone's block.
    pub bind: String,
    /// For `knot.conf`: the `acl` section, and the line for the zone.
    pub knot: String,
}

/// The policy for a reconciler's key `key_name` and the sites' keys `<key_name>-<code>`, whose
/// names all lie under `domain`.
#[must_use]
pub fn policy_text(key_name: &str, domain: &DomainName, sites: &[SiteCode]) -> PolicyText {
    PolicyText {
        bind: bind(key_name, domain, sites),
        knot: knot(key_name, domain, sites),
    }
}

fn bind(key_name: &str, domain: &DomainName, sites: &[SiteCode]) -> String {
    let mut text = String::from("update-policy {\n");
    line(
        &mut text,
        &format!("    grant {key_name} subdomain {domain}. A AAAA SRV TXT;"),
    );
    for site in sites {
        let (key, alias) = (site_key_name(key_name, site), alias(site, domain));
        line(&mut text, &format!("    grant {key} name {alias}. A AAAA;"));
        for mark in marks(&alias) {
            line(&mut text, &format!("    grant {key} name {mark}. TXT;"));
        }
    }
    text.push_str("};\n");
    line(&mut text, &format!("allow-transfer {{ key {key_name}; }};"));
    text
}

fn knot(key_name: &str, domain: &DomainName, sites: &[SiteCode]) -> String {
    let mut text = String::from("acl:\n");
    let mut ids = vec![key_name.to_owned(), format!("{key_name}-transfer")];
    line(
        &mut text,
        &format!("  - id: {key_name}\n    key: {key_name}\n    action: update"),
    );
    line(
        &mut text,
        "    update-owner: name\n    update-owner-match: sub-or-equal",
    );
    line(&mut text, &format!("    update-owner-name: [{domain}.]"));
    line(&mut text, "    update-type: [A, AAAA, SRV, TXT]");
    line(
        &mut text,
        &format!("  - id: {key_name}-transfer\n    key: {key_name}\n    action: transfer"),
    );
    for site in sites {
        let (key, alias) = (site_key_name(key_name, site), alias(site, domain));
        let [a, aaaa] = marks(&alias);
        line(
            &mut text,
            &format!("  - id: {key}\n    key: {key}\n    action: update"),
        );
        line(
            &mut text,
            "    update-owner: name\n    update-owner-match: equal",
        );
        line(
            &mut text,
            &format!("    update-owner-name: [{alias}., {a}., {aaaa}.]"),
        );
        line(&mut text, "    update-type: [A, AAAA, TXT]");
        ids.push(key);
    }
    line(
        &mut text,
        &format!("\n# in the zone's block:\n#   acl: [{}]", ids.join(", ")),
    );
    text
}

fn alias(site: &SiteCode, domain: &DomainName) -> String {
    format!("{}.{domain}", site.dns_label())
}

fn marks(alias: &str) -> [String; 2] {
    ["a", "aaaa"].map(|rtype| format!("_stead-{rtype}.{alias}"))
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("writing to a string does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h22_each_site_key_has_its_alias_and_marks_and_nothing_else() {
        let domain = DomainName::new("cm.contoso.example").unwrap();
        let sites = ["P01", "S01"].map(|code| SiteCode::new(code).unwrap());
        let policy = policy_text("stead-2026", &domain, &sites);
        insta::assert_snapshot!(policy.bind, @r"
        update-policy {
            grant stead-2026 subdomain cm.contoso.example. A AAAA SRV TXT;
            grant stead-2026-p01 name p01.cm.contoso.example. A AAAA;
            grant stead-2026-p01 name _stead-a.p01.cm.contoso.example. TXT;
            grant stead-2026-p01 name _stead-aaaa.p01.cm.contoso.example. TXT;
            grant stead-2026-s01 name s01.cm.contoso.example. A AAAA;
            grant stead-2026-s01 name _stead-a.s01.cm.contoso.example. TXT;
            grant stead-2026-s01 name _stead-aaaa.s01.cm.contoso.example. TXT;
        };
        allow-transfer { key stead-2026; };
        ");
        insta::assert_snapshot!(policy.knot, @r"
        acl:
          - id: stead-2026
            key: stead-2026
            action: update
            update-owner: name
            update-owner-match: sub-or-equal
            update-owner-name: [cm.contoso.example.]
            update-type: [A, AAAA, SRV, TXT]
          - id: stead-2026-transfer
            key: stead-2026
            action: transfer
          - id: stead-2026-p01
            key: stead-2026-p01
            action: update
            update-owner: name
            update-owner-match: equal
            update-owner-name: [p01.cm.contoso.example., _stead-a.p01.cm.contoso.example., _stead-aaaa.p01.cm.contoso.example.]
            update-type: [A, AAAA, TXT]
          - id: stead-2026-s01
            key: stead-2026-s01
            action: update
            update-owner: name
            update-owner-match: equal
            update-owner-name: [s01.cm.contoso.example., _stead-a.s01.cm.contoso.example., _stead-aaaa.s01.cm.contoso.example.]
            update-type: [A, AAAA, TXT]

        # in the zone's block:
        #   acl: [stead-2026, stead-2026-transfer, stead-2026-p01, stead-2026-s01]
        ");
    }
}
