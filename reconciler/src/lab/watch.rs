//! What the lab tells its user while it runs: changes of sites, a line each.

use std::collections::BTreeMap;
use std::path::Path;

use stead_schemas::api::{SiteState, StatusView};
use stead_schemas::names::SiteCode;

use super::folder::Folder;
use super::scene::Scene;
use super::takeovers::{Seen, Told};
use crate::output::status::short;

/// What was told last.
#[derive(Debug, Default)]
pub(super) struct Story {
    states: BTreeMap<SiteCode, SiteState>,
    revision: Option<String>,
    /// What needed a person at the last look, ageless, and whether that was told.
    needs: BTreeMap<String, bool>,
    converged: bool,
    takeovers: BTreeMap<SiteCode, Told>,
}

impl Story {
    /// Whether every site was as declared when it was last looked at.
    pub(super) const fn is_converged(&self) -> bool {
        self.converged
    }

    /// The lines for what changed since.
    pub(super) fn lines(&mut self, view: &StatusView) -> Vec<String> {
        let mut lines = Vec::new();
        if view.source.in_force != self.revision {
            if let Some(revision) = &view.source.in_force {
                lines.push(format!("revision {} is in force", short(revision)));
            }
            self.revision.clone_from(&view.source.in_force);
        }
        for site in &view.sites {
            let before = self.states.insert(site.code.clone(), site.state);
            if before != Some(site.state) {
                lines.push(format!(
                    "{}  {}{}",
                    site.code,
                    word(site.state),
                    detail(site)
                ));
            }
        }
        lines.extend(self.needs_of(view));
        let there = |state: &SiteState| *state == SiteState::Converged;
        let done = view.sites.iter().filter(|site| there(&site.state)).count();
        self.converged = done == view.sites.len() && !view.sites.is_empty();
        if let Some(last) = lines.last_mut() {
            *last += &format!("    ({done} of {} sites converged)", view.sites.len());
        }
        lines
    }

    /// The lines for a holder of a lease.
    pub(super) fn takeover(&mut self, seen: &Seen) -> Vec<String> {
        let told = self.takeovers.entry(seen.site.clone()).or_default();
        told.lines(seen)
    }

    /// What needs a person at two looks in a row: what passes by itself needs none. It is told once, not
    /// each time that its age is another.
    fn needs_of(&mut self, view: &StatusView) -> Vec<String> {
        let mut lines = Vec::new();
        let mut seen = BTreeMap::new();
        for need in &view.needs_person {
            let line = format!("needs a person: {} {}", need.about, need.text).replace(":  ", ": ");
            let ageless = ageless(&line);
            let told = match self.needs.get(&ageless) {
                None => false,
                Some(true) => true,
                Some(false) => {
                    lines.push(line);
                    true
                }
            };
            seen.insert(ageless, told);
        }
        self.needs = seen;
        lines
    }
}

/// A sentence without its durations and counts, which change by themselves.
fn ageless(line: &str) -> String {
    let words = line.split(' ');
    let lasting = words.filter(|word| !word.starts_with(|first: char| first.is_ascii_digit()));
    lasting.collect::<Vec<_>>().join(" ")
}

/// What to do with a lab that has converged.
pub(super) fn what_to_try(folder: &Folder, scene: &Scene) -> String {
    let stead = program(&scene.stead);
    let dns = scene.network.dns();
    let domain = scene.domain().unwrap_or("lab.example");
    let topology = shown(&folder.topology());
    let root = shown(folder.root());
    format!(
        r#"
Leave it running and try, in another terminal here:

  export STEAD_API={api}

  # How things are, and what is published
  {stead} status
  {stead} list records
  dig @{ip} -p {port} +short _mssms_mp_p01._tcp.{domain} SRV
  {stead} why dns:_mssms_mp_p01._tcp.{domain}/SRV

  # A power cut at the active site server: p01-b takes over, and its name follows
  {stead} lab kill p01-a --dir {root}
  {stead} status P01 --watch
  dig @{ip} -p {port} +short p01.{domain}
  curl --json '{{"id":"1","text":"hello"}}' http://{passive}/v1/write

  # The power is back: it comes up as the passive
  {stead} lab heal p01-a --dir {root}

  # The same without the reconciler; also cut and freeze
  {stead} lab kill --reconciler --dir {root}
  {stead} lab freeze p01-b --dir {root}
  {stead} lab heal p01-b --dir {root}
  {stead} lab heal --reconciler --dir {root}

  # Any process of {root}/lab.json comes back by itself
  kill -9 PID

  # Move a management point by a commit
  sed -i 's/p01-f1, p01-f2/p01-f1, p01-f3/' {topology}/sites/P01.yaml
  {stead} plan {topology} --from main
  git -C {topology} commit -am 'move a management point'
  {stead} wait --converged

Ctrl-C ends it all."#,
        api = folder.api_socket().display(),
        passive = format_args!("127.{}.2.12:8440", scene.network.number()),
        ip = dns.ip(),
        port = dns.port(),
    )
}

/// The program as its user can call it: by name where it is found by name.
fn program(path: &Path) -> String {
    let search = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&search)
        .map(|dir| dir.join("stead"))
        .find(|candidate| candidate.is_file());
    match found.and_then(|found| found.canonicalize().ok()) {
        Some(found) if found == path => "stead".to_owned(),
        _ => shown(path),
    }
}

/// A path from here, where that is shorter.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let below = here
        .as_deref()
        .and_then(|here| path.strip_prefix(here).ok());
    match below {
        Some(below) if below.components().count() == 1 && path.is_file() => {
            format!("./{}", below.display())
        }
        Some(below) => below.display().to_string(),
        None => path.display().to_string(),
    }
}

fn detail(site: &stead_schemas::api::SiteView) -> String {
    match (site.steps.len(), site.holds.first()) {
        (_, Some(hold)) => format!(": {}: {}", hold.about, hold.reason),
        (0, None) => String::new(),
        (steps, None) => format!(": {steps} steps to go"),
    }
}

const fn word(state: SiteState) -> &'static str {
    match state {
        SiteState::Degraded => "degraded",
        SiteState::Held => "held",
        SiteState::Unknown => "unknown",
        SiteState::Suspended => "suspended",
        SiteState::Changing => "changing",
        SiteState::Converged => "converged",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_that_grows_older_is_the_same_one() {
        let lost = |age: &str, then: &str| {
            ageless(&format!("needs a person: P01 p01-a lost for {age}; {then}"))
        };
        let alone = "P01 survives no further loss";
        assert_eq!(lost("9s", alone), lost("1m 10s", alone));
        assert_ne!(lost("9s", alone), lost("9s", "P01 has no majority"));
        assert_ne!(
            ageless("P01 p01-a lost for 9s"),
            ageless("P01 p01-b lost for 9s")
        );
    }
}
