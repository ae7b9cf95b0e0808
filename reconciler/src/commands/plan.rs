//! `stead plan`: what a topology would do, and why; without a reconciler unless `--live` asks one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use stead_plan::render::plan_id;
use stead_plan::{offline_plans, offline_site};
use stead_schemas::api::{PLAN_BYTES_MAX, PlanRequest, PlanView, SitePlanView};
use stead_schemas::declared::SourceFile;
use stead_schemas::desired::{HierarchyDesired, SiteDesired};
use stead_schemas::names::SiteCode;
use stead_schemas::observed::SiteObserved;
use stead_schemas::plan::SitePlan;

use super::topology::{Base, read, read_base, tree_of};
use super::{CommandError, CommandResult, Outcome};
use crate::api_client::ApiArgs;
use crate::output::{Format, FormatArg, Ui, plan as show};

/// Show what a topology would do, and why
///
/// Without --from: from nothing at all. With --from: what differs from that revision, taken as fully
/// in place, every server reachable. With --live: what the reconciler that runs has still to do; for
/// PATH and --live: what it would do next, as things are, if PATH were in force. It is sent there,
/// planned and forgotten; `guards` are left out of account, for other sites may be changing.
#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// Folder of the topology (default `.`; with --live: the revision in force)
    path: Option<PathBuf>,
    /// Plan the difference from this revision of the repository that holds the folder
    #[arg(long, value_name = "REV", conflicts_with = "live")]
    from: Option<String>,
    /// Ask the reconciler, which knows what is observed
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

pub(super) async fn run(ui: &Ui, args: PlanArgs) -> CommandResult {
    match (&args.path, args.live) {
        (None, true) => {
            let view = args.api.client()?.get("/v1/plan").await?;
            answer(ui, &args, &planned(view, None))
        }
        (Some(path), true) => {
            let target = read(path)?;
            let desired = target.require_checked(ui)?;
            let request = request(tree_of(path, &target.files), &target.files)?;
            let view = args.api.client()?.post("/v1/plan", &request).await?;
            answer(ui, &args, &planned(view, Some(desired)))
        }
        (path, false) => offline(ui, &args, path.as_deref().unwrap_or_else(|| Path::new("."))),
    }
}

fn offline(ui: &Ui, args: &PlanArgs, path: &Path) -> CommandResult {
    let target = read(path)?;
    let desired = target.require_checked(ui)?;
    let base = match &args.from {
        Some(revision) => read_base(ui, path, revision)?,
        None => Base::Nothing,
    };
    let base = base.desired();
    let plans = offline_plans(base, desired, "");
    let tree = tree_of(path, &target.files);
    let planned = Planned {
        id: Some(identity(&tree, base, desired, &plans)),
        sites: plans
            .into_iter()
            .map(|plan| (desired.sites.get(&plan.site).map(|site| &**site), plan))
            .collect(),
    };
    answer(ui, args, &planned)
}

/// The topology as it goes over the wire; one that is too large is not sent.
fn request(tree: String, files: &[SourceFile]) -> Result<PlanRequest, CommandError> {
    let bytes: usize = files.iter().map(|f| f.path.len() + f.bytes.len()).sum();
    if bytes > PLAN_BYTES_MAX {
        let error = format!(
            "the topology is too large to plan it live: {bytes} bytes, at most {PLAN_BYTES_MAX}"
        );
        let hint = "exclude what is no topology in .steadignore; or plan it with --from";
        return Err(CommandError::failed(error).hinted(hint));
    }
    let mut texts = BTreeMap::new();
    for file in files {
        let text = std::str::from_utf8(&file.bytes)?;
        texts.insert(file.path.clone(), text.to_owned());
    }
    Ok(PlanRequest { tree, files: texts })
}

/// What the reconciler answered, with what the sites declare where that is known here.
fn planned(view: PlanView, desired: Option<&HierarchyDesired>) -> Planned<'_> {
    let of = |site: &SiteCode| desired.and_then(|all| all.sites.get(site).map(|site| &**site));
    Planned {
        id: view.id,
        sites: view
            .sites
            .into_iter()
            .map(|(site, plan)| (of(&site), whole(site, plan)))
            .collect(),
    }
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
        Format::Json => ui.json(&view(planned))?,
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

fn view(planned: &Planned<'_>) -> PlanView {
    PlanView::of(
        planned.id.clone(),
        planned.sites.iter().map(|(_, plan)| plan),
    )
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
        checks: Default::default(),
        wake_at: None,
    }
}
