//! `stead plan`: what a topology would do, and why; without a reconciler unless `--live` asks one.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use stead_plan::render::{counts, plan_id};
use stead_plan::{offline_plans, offline_site};
use stead_schemas::api::{PlanView, SitePlanView};
use stead_schemas::desired::{HierarchyDesired, SiteDesired};
use stead_schemas::names::SiteCode;
use stead_schemas::observed::SiteObserved;
use stead_schemas::plan::SitePlan;

use super::topology::{Base, read, read_base, tree_of};
use super::{CommandResult, Outcome};
use crate::api_client::ApiArgs;
use crate::output::{Format, FormatArg, Ui, plan as show};

/// Show what a topology would do, and why
///
/// Without --from: from nothing at all. With --from: what differs from that revision, taken as fully
/// in place, every server reachable. With --live: what the reconciler that runs has still to do.
#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// Folder of the topology
    #[arg(default_value = ".", conflicts_with = "live")]
    path: PathBuf,
    /// Plan the difference from this revision of the repository that holds the folder
    #[arg(long, value_name = "REV", conflicts_with = "live")]
    from: Option<String>,
    /// Ask the reconciler what it has still to do for the revision in force
    #[arg(long)]
    live: bool,
    /// End with 2 where there is something to do, with 4 where all of it needs a person
    #[arg(long)]
    detailed_exitcode: bool,
    #[command(flatten)]
    format: FormatArg,
    #[command(flatten)]
    api: ApiArgs,
}

/// A plan and what it is about.
struct Planned<'a> {
    id: Option<String>,
    sites: Vec<(Option<&'a SiteDesired>, SitePlan)>,
}

/// The answer as JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(flatten)]
    view: PlanView,
}

pub(super) async fn run(ui: &Ui, args: PlanArgs) -> CommandResult {
    if args.live {
        let view: PlanView = args.api.client()?.get("/v1/plan").await?;
        let sites = view
            .sites
            .into_iter()
            .map(|(site, plan)| (None, whole(site, plan)));
        let planned = Planned {
            id: None,
            sites: sites.collect(),
        };
        return answer(ui, &args, &planned);
    }
    let target = read(&args.path)?;
    let desired = target.require_checked(ui)?;
    let base = match &args.from {
        Some(revision) => read_base(ui, &args.path, revision)?,
        None => Base::Nothing,
    };
    let base = base.desired();
    let plans = offline_plans(base, desired, "");
    let tree = tree_of(&args.path, &target.files);
    let planned = Planned {
        id: Some(identity(&tree, base, desired, &plans)),
        sites: plans
            .into_iter()
            .map(|plan| (desired.sites.get(&plan.site).map(|site| &**site), plan))
            .collect(),
    };
    answer(ui, &args, &planned)
}

/// The plan's id rests on what it was planned against, so that is made once more here.
fn identity(
    tree: &str,
    base: Option<&HierarchyDesired>,
    desired: &HierarchyDesired,
    plans: &[SitePlan],
) -> String {
    let observed: Vec<SiteObserved> = plans
        .iter()
        .map(|plan| {
            let old = base.and_then(|base| base.sites.get(&plan.site));
            let new = desired.sites.get(&plan.site);
            let (old, new) = (old.map(|site| &**site), new.map(|site| &**site));
            offline_site(&plan.site, old, new, &desired.name, desired.dns.clone()).observed
        })
        .collect();
    let pairs: Vec<(&SitePlan, &SiteObserved)> = plans.iter().zip(&observed).collect();
    plan_id(tree, &pairs)
}

fn answer(ui: &Ui, args: &PlanArgs, planned: &Planned<'_>) -> CommandResult {
    match args.format.output {
        Format::Human => ui.data(&show::text(ui.out, planned.id.as_deref(), &planned.sites))?,
        Format::Json => ui.json(&report(planned))?,
    }
    if !args.detailed_exitcode {
        return Ok(Outcome::Done);
    }
    let plans = || planned.sites.iter().map(|(_, plan)| plan);
    Ok(if plans().any(|plan| !plan.steps.is_empty()) {
        Outcome::ChangesPending
    } else if plans()
        .flat_map(|plan| &plan.holds)
        .any(|hold| hold.reason.needs_person())
    {
        Outcome::Held
    } else {
        Outcome::Done
    })
}

fn report(planned: &Planned<'_>) -> Report {
    let sites = planned.sites.iter().map(|(_, plan)| {
        let view = SitePlanView {
            steps: plan.steps.clone(),
            holds: plan.holds.clone(),
        };
        (plan.site.clone(), view)
    });
    Report {
        id: planned.id.clone(),
        view: PlanView {
            counts: counts(planned.sites.iter().map(|(_, plan)| plan)),
            sites: sites.collect(),
        },
    }
}

/// A plan as the API shows it, made whole for those who print it: payloads stay at the reconciler.
fn whole(site: SiteCode, view: SitePlanView) -> SitePlan {
    SitePlan {
        site,
        revision: String::new(),
        steps: view.steps,
        holds: view.holds,
        assignments: Default::default(),
        records: Default::default(),
        wake_at: None,
    }
}
