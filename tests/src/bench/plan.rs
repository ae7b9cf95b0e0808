//! `plan`: the largest supported hierarchy from files, and planned from memory (design section 10).
//!
//! Planning itself is measured from what is loaded; nothing here dials an address (H35).

use std::fs;
use std::path::Path;
use std::time::Instant;

use stead::git::{Limits, read_folder_at_path};
use stead_plan::{InFlight, SiteSummary, admit, summarise};
use stead_schemas::declared::{SourceFile, check};
use stead_schemas::desired::{HierarchyDesired, Placement};
use stead_schemas::role::{Role, SiteType};
use stead_schemas::wire::Health;

use super::figure::Report;
use super::model::SiteModel;
use super::usage::{ms_since, rss_kib};
use crate::large::{Size, files};

const CHECK_RUNS: usize = 5;
const PLAN_RUNS: usize = 11;
const ONE_RUNS: usize = 101;

pub(super) fn run() -> Report {
    let mut report = Report::new("plan");
    let sources = files(Size::LARGEST);
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), &sources);
    describe(&mut report, &sources);
    drop(sources);
    let desired = measure_check(&mut report, folder.path());
    size_of(&mut report, &desired);
    measure_planning(&mut report, &desired);
    report
}

/// From memory, everything converged: all sites, then one in which an instance fell ill.
fn measure_planning(report: &mut Report, desired: &HierarchyDesired) {
    let sites = desired.sites.values();
    let mut models: Vec<SiteModel> = sites
        .map(|site| SiteModel::converged(desired, site))
        .collect();
    let in_flight = InFlight::default();
    let mut summaries = Vec::new();
    for (name, threads) in [
        ("full plan from memory, nothing to do", cores()),
        ("the same on one thread", 1),
    ] {
        let mut whole = Vec::new();
        for _ in 0..PLAN_RUNS {
            let start = Instant::now();
            summaries = plan_all(&models, threads);
            let admission = admit(&summaries, &in_flight, &desired.guards);
            whole.push(ms_since(start));
            assert!(summaries.iter().all(|site| !site.changes), "nothing to do");
            assert!(admission.waiting.is_empty(), "nobody waits");
        }
        if threads == 1 {
            report.plain(name, "ms", whole);
        } else {
            report.budgeted(name, "ms", 150.0, whole);
        }
    }
    for (name, budget, site_type) in [
        (
            "one site changed (primary, 268 servers)",
            Some(2.0),
            SiteType::Primary,
        ),
        (
            "one site changed (secondary, 4 servers)",
            None,
            SiteType::Secondary,
        ),
    ] {
        let at = models.iter().position(|m| m.desired.site_type == site_type);
        let at = at.expect("there is one");
        fall_ill(&mut models[at]);
        let mut one = Vec::new();
        for _ in 0..ONE_RUNS {
            let start = Instant::now();
            summaries[at] = planned(&models[at]);
            let admission = admit(&summaries, &in_flight, &desired.guards);
            one.push(ms_since(start));
            drop(admission);
        }
        assert!(!models[at].plan().is_empty(), "the sick one is withdrawn");
        match budget {
            Some(budget) => report.budgeted(name, "ms", budget, one),
            None => report.plain(name, "ms", one),
        }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism()
        .map_or(2, usize::from)
        .max(2)
}

/// All sites, on so many threads: the daemon's site tasks run on every core. Dealt out in turn,
/// because large sites stand together.
fn plan_all(models: &[SiteModel], threads: usize) -> Vec<SiteSummary> {
    let dealt = |first| models.iter().skip(first).step_by(threads);
    std::thread::scope(|scope| {
        let hands: Vec<_> = (0..threads)
            .map(|first| scope.spawn(move || dealt(first).map(planned).collect::<Vec<_>>()))
            .collect();
        let done = hands.into_iter().map(|hand| hand.join());
        done.flat_map(|hand| hand.expect("planning does not panic"))
            .collect()
    })
}

fn planned(model: &SiteModel) -> SiteSummary {
    let plan = model.plan();
    summarise(&plan, Some(&model.desired), &model.context.recorded)
}

/// The last distribution point of a site becomes unhealthy.
fn fall_ill(model: &mut SiteModel) {
    let servers = model.observed.servers.values_mut();
    let mut instances = servers
        .filter_map(|server| server.report.as_mut())
        .flat_map(|report| report.instances.values_mut())
        .filter(|instance| instance.role == Role::DistributionPoint);
    let sick = instances.next_back().expect("every such site has one");
    sick.health = Health::Unhealthy;
}

/// Files on disk, read as `stead check` reads them, to the desired hierarchy.
fn measure_check(report: &mut Report, folder: &Path) -> HierarchyDesired {
    let (mut whole, mut read_alone) = (Vec::new(), Vec::new());
    let mut kept = None;
    for _ in 0..CHECK_RUNS {
        drop(kept.take());
        let start = Instant::now();
        let sources = read_folder_at_path(folder, &Limits::default()).expect("the files are read");
        read_alone.push(ms_since(start) / 1_000.0);
        let checked = check(&sources);
        whole.push(ms_since(start) / 1_000.0);
        let errors: Vec<_> = checked.errors().take(3).collect();
        assert!(
            errors.is_empty(),
            "the largest hierarchy is good: {errors:#?}"
        );
        kept = checked.desired;
    }
    report.budgeted("check from files", "s", 3.0, whole);
    report.plain("check: reading the files alone", "s", read_alone);
    kept.expect("a hierarchy without errors is desired")
}

fn describe(report: &mut Report, sources: &[SourceFile]) {
    let bytes: usize = sources.iter().map(|source| source.bytes.len()).sum();
    report.plain("documents", "", vec![count(sources.len())]);
    report.plain("documents' size", "MiB", vec![count(bytes) / 1_048_576.0]);
}

fn size_of(report: &mut Report, desired: &HierarchyDesired) {
    let sites = desired.sites.values();
    let servers: usize = sites.clone().map(|site| site.servers.len()).sum();
    let in_groups: usize = sites
        .clone()
        .flat_map(|site| site.groups.values())
        .map(|group| match &group.placement {
            Placement::ByHand(servers) => servers.len(),
            Placement::ByCount { instances, .. } => usize::from(*instances),
        })
        .sum();
    let site_servers = sites.filter(|site| site.site_server.is_some()).count();
    report.plain("sites", "", vec![count(desired.sites.len())]);
    report.plain("servers", "", vec![count(servers)]);
    report.plain("role instances", "", vec![count(in_groups + site_servers)]);
    report.plain(
        "resident memory after loading",
        "MiB",
        vec![rss_kib(std::process::id()) / 1_024.0],
    );
}

fn write(folder: &Path, sources: &[SourceFile]) {
    for source in sources {
        let path = folder.join(&source.path);
        fs::create_dir_all(path.parent().expect("below the folder")).expect("a folder");
        fs::write(path, &source.bytes).expect("a file");
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn count(n: usize) -> f64 {
    n as f64
}
