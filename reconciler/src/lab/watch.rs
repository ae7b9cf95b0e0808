//! What the lab tells its user while it runs: changes of sites, a line each.

use std::collections::BTreeMap;
use std::path::Path;

use stead_schemas::api::{SiteState, StatusView};
use stead_schemas::names::SiteCode;

use super::folder::Folder;
use super::scene::Scene;
use crate::output::status::short;

/// What was told last.
#[derive(Debug, Default)]
pub(super) struct Story {
    states: BTreeMap<SiteCode, SiteState>,
    revision: Option<String>,
    needs: Vec<String>,
    converged: bool,
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
        let needs: Vec<String> = view
            .needs_person
            .iter()
            .map(|need| format!("needs a person: {}  {}", need.about, need.text))
            .collect();
        lines.extend(
            needs
                .iter()
                .filter(|need| !self.needs.contains(need))
                .cloned(),
        );
        self.needs = needs;
        let there = |state: &SiteState| *state == SiteState::Converged;
        let done = view.sites.iter().filter(|site| there(&site.state)).count();
        self.converged = done == view.sites.len() && !view.sites.is_empty();
        if let Some(last) = lines.last_mut() {
            *last += &format!("    ({done} of {} sites converged)", view.sites.len());
        }
        lines
    }
}

/// What to do with a lab that has converged.
pub(super) fn what_to_try(folder: &Folder, scene: &Scene) -> String {
    let stead = shown(&scene.stead);
    let dns = scene.network.dns();
    let domain = scene.dns().map_or("lab.example", |(domain, _)| domain);
    let topology = shown(&folder.topology());
    let root = shown(folder.root());
    format!(
        "
Leave it running and try, in another terminal here:

  export STEAD_API={api}
  {stead} status                        how things are; status P01 --watch follows one site
  {stead} list records                  what is published, and what the DNS server serves
  dig @{ip} -p {port} +short _mssms_mp_p01._tcp.{domain} SRV
  {stead} why dns:_mssms_mp_p01._tcp.{domain}/SRV

  {stead} lab kill p01-f1 --dir {root}  a power cut; also freeze, cut; heal undoes them
  kill -9 PID                           of any process in {root}/lab.json: it comes back

  sed -i 's/p01-f1, p01-f2/p01-f1, p01-f3/' {topology}/sites/P01.yaml
  {stead} plan {topology} --from main   what that would do; then commit it and watch it move:
  git -C {topology} commit -am 'move a management point'

Ctrl-C ends it all.
",
        api = folder.api_socket().display(),
        ip = dns.ip(),
        port = dns.port(),
    )
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
