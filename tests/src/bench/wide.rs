//! A topology for a fleet of emulated agents: a central, primaries, and secondaries of four servers.
//!
//! Nothing is published: benches that measure DNS have their own hierarchies.

use std::fmt::Write as _;

use super::fleet::{Fleet, Place};

/// Most secondaries of one primary (SZ-1).
const SECONDARIES: usize = 250;

/// The files of a topology that declares every agent of a fleet.
pub(super) fn files(fleet: &Fleet, hierarchy: &str) -> Vec<(String, String)> {
    files_of(fleet.agents, fleet.port, hierarchy)
}

fn files_of(agents: usize, port: u16, hierarchy: &str) -> Vec<(String, String)> {
    let places: Vec<Place> = (0..agents).map(|number| Place::new(number, port)).collect();
    let sites: Vec<&[Place]> = places.chunk_by(|a, b| a.site() == b.site()).collect();
    let primaries = sites.len().div_ceil(SECONDARIES + 1).max(1);
    let mut files = vec![("hierarchy.yaml".to_owned(), hierarchy.to_owned())];
    for (index, servers) in sites.iter().enumerate() {
        let parent = match index {
            0 => None,
            primary if primary <= primaries => Some(sites[0][0].site()),
            secondary => {
                let primary = 1 + (secondary - 1 - primaries) / SECONDARIES;
                Some(sites[primary][0].site())
            }
        };
        let kind = match index {
            0 => "central",
            primary if primary <= primaries => "primary",
            _ => "secondary",
        };
        let code = servers[0].site();
        let parent = parent.map(|code| code.to_string());
        let text = site(kind, parent.as_deref(), servers);
        files.push((format!("{code}.yaml"), text));
    }
    files
}

fn site(kind: &str, parent: Option<&str>, servers: &[Place]) -> String {
    let mut text = format!(
        "apiVersion: stead/v1\nkind: Site\nmetadata: {{name: {}}}\nspec:\n  type: {kind}\n",
        servers[0].site()
    );
    if let Some(parent) = parent {
        let _ = writeln!(text, "  parent: {parent}");
    }
    text.push_str("  servers:\n");
    for (rack, place) in servers.iter().enumerate() {
        let _ = writeln!(
            text,
            "    {}: {{address: {}, agentPort: {}, zone: {}/rack-{}}}",
            place.server(),
            place.address().ip(),
            place.address().port(),
            place.site().dns_label(),
            rack % 2
        );
    }
    let names: Vec<String> = servers.iter().map(|p| p.server().to_string()).collect();
    let _ = writeln!(text, "  siteServer: {{active: {}}}", names[0]);
    if kind != "central" {
        let _ = writeln!(
            text,
            "  roles:\n    distributionPoint: {{servers: [{}], port: 8080}}",
            names.join(", ")
        );
    }
    if kind == "secondary" {
        let _ = writeln!(
            text,
            "    managementPoint: {{servers: [{}], port: 8443, service: {{command: [/opt/mp]}}}}",
            names[0]
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use stead_schemas::declared::{SourceFile, check};

    use super::*;
    use crate::harness::HIERARCHY;

    /// A bench of a topology that does not check measures nothing.
    #[test]
    fn the_topology_of_a_large_fleet_checks() {
        let hierarchy = format!(
            "apiVersion: stead/v1\nkind: Hierarchy\nmetadata: {{name: {HIERARCHY}}}\nspec: {{}}\n"
        );
        let files = files_of(1_100, 21_000, &hierarchy);
        assert_eq!(
            files.len(),
            276,
            "more secondaries than one primary may have"
        );
        let sources: Vec<SourceFile> = files
            .into_iter()
            .map(|(path, text)| SourceFile::new(path, text))
            .collect();
        let checked = check(&sources);
        let errors: Vec<_> = checked.errors().take(5).collect();
        assert!(errors.is_empty(), "{errors:#?}");
    }
}
