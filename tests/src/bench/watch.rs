//! `watch`: one reconciler over 10,000 emulated agents, one heartbeat a second each (H25): memory an
//! agent, processor time, and how soon all are back after a restart.
//!
//! The reconciler is the real daemon over a real topology of 2,500 sites; it first assigns every
//! agent its instances. Each later life of it is a restart after a kill.

use super::figure::Report;
use super::fleet::Fleet;
use super::{watched, wide, wire};
use crate::harness::{HIERARCHY, Harness};

const AGENTS: usize = 10_000;
const RESTARTS: usize = 3;

pub(super) fn run() -> Report {
    super::build::programs();
    let mut report = Report::new("watch");
    let harness = Harness::new();
    let fleet = Fleet::of_ca(AGENTS, &harness.path("pki"));
    if fleet.agents < AGENTS {
        report.note(format!(
            "nofile allows {} agents in one process, not {AGENTS}",
            fleet.agents
        ));
    }
    report.plain("agents", "", vec![count(fleet.agents)]);
    lives(&mut report, &harness, &fleet);
    let bare = wire::watcher(&fleet);
    report.plain(
        "the wire alone: memory an agent",
        "KiB",
        vec![bare.kib_an_agent],
    );
    report.plain("the wire alone: CPU", "% core", vec![bare.cpu_percent]);
    report.plain("the wire alone: all connected", "s", vec![bare.connected_s]);
    report.plain(
        "the wire alone: CPU to connect one",
        "ms",
        vec![bare.connect_cpu_ms],
    );
    report.plain("the wire alone: streams lost", "", vec![count(bare.lost)]);
    report
}

fn lives(report: &mut Report, harness: &Harness, fleet: &Fleet) {
    let hierarchy = format!(
        "apiVersion: stead/v1\nkind: Hierarchy\nmetadata: {{name: {HIERARCHY}}}\nspec:\n  guards: {{maxSitesAtOnce: 3000}}\n"
    );
    let files = wide::files(fleet, &hierarchy);
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    harness.commit("every emulated agent", &files);
    let config = harness.reconciler_config();
    let first = watched::life(&config, fleet.agents);
    report.plain("first life: all heard", "s", vec![first.all_heard_s]);
    report.plain("first life: all assigned", "s", vec![first.converged_s]);
    let lives: Vec<watched::Life> = (0..RESTARTS)
        .map(|_| watched::life(&config, fleet.agents))
        .collect();
    let all = |pick: fn(&watched::Life) -> f64| lives.iter().map(pick).collect::<Vec<f64>>();
    report.budgeted("memory an agent", "KiB", 48.0, all(|l| l.kib_an_agent));
    report.budgeted("CPU", "% core", 30.0, all(|l| l.cpu_percent));
    report.budgeted(
        "all back after a restart",
        "s",
        10.0,
        all(|l| l.all_heard_s),
    );
    // None may be: the worst restart counts, not the middle one.
    let most = lives.iter().map(|life| life.declared_silent).max();
    let most = count(most.expect("there were restarts"));
    report.budgeted("declared silent, worst restart", "", 0.0, vec![most]);
    report.plain(
        "nothing left to do after a restart",
        "s",
        all(|l| l.converged_s),
    );
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn count(n: usize) -> f64 {
    n as f64
}
