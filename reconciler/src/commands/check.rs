//! `stead check`: whether a topology can be applied: syntax, schema and meaning in one pass.

use clap::{Args, ValueEnum};
use serde::Serialize;
use stead_schemas::declared::{Problem, Severity};
use stead_schemas::desired::HierarchyDesired;

use super::topology::{PathArg, Topology};
use super::{CommandResult, Outcome, topology};
use crate::output::diagnostics::snippet;
use crate::output::{Style, Ui, github};

/// Check a topology: syntax, schema and meaning
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    path: PathArg,
    /// Take warnings as errors; what this version can't do yet stays a warning
    #[arg(long)]
    strict: bool,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t, value_name = "FORM")]
    output: CheckFormat,
}

/// The code of remarks about this version of Stead, not about the topology.
const NOT_YET: &str = "not-yet";

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum CheckFormat {
    /// Annotations of a pull request on GitHub
    Github,
    /// For people
    #[default]
    Human,
    /// For programs
    Json,
}

/// The answer as JSON.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    errors: usize,
    warnings: usize,
    problems: &'a [Problem],
}

pub(super) fn run(ui: &Ui, args: CheckArgs) -> CommandResult {
    let mut topology = topology::read(&args.path.path)?;
    if args.strict {
        let problems = topology.checked.problems.iter_mut();
        for problem in problems.filter(|problem| problem.code != NOT_YET) {
            problem.severity = Severity::Error;
        }
    }
    let errors = topology.checked.errors().count();
    let warnings = topology.checked.warnings().count();
    match args.output {
        CheckFormat::Human => ui.data(&human(ui, &topology, errors, warnings))?,
        CheckFormat::Json => ui.json(&Report {
            errors,
            warnings,
            problems: &topology.checked.problems,
        })?,
        CheckFormat::Github => {
            let problems = topology.checked.problems.iter();
            let lines: String = problems
                .map(|p| github::annotation(p, &topology.texts().shown(&p.place.file)))
                .collect();
            ui.data(&lines)?;
        }
    }
    Ok(if errors == 0 {
        Outcome::Done
    } else {
        Outcome::Failed
    })
}

fn human(ui: &Ui, topology: &Topology, errors: usize, warnings: usize) -> String {
    let mut text = String::new();
    for problem in &topology.checked.problems {
        text += &snippet(problem, topology.texts(), ui.out);
        text.push('\n');
    }
    let (style, verdict) = match (errors, warnings) {
        (0, 0) => (Style::Good, "checks".to_owned()),
        (0, some) => (
            Style::Warn,
            format!("checks, with {}", counted(some, "warning")),
        ),
        (some, 0) => (
            Style::Bad,
            format!("does not check: {}", counted(some, "error")),
        ),
        (some, more) => (
            Style::Bad,
            format!(
                "does not check: {}, {}",
                counted(some, "error"),
                counted(more, "warning")
            ),
        ),
    };
    let what = topology
        .checked
        .desired
        .as_ref()
        .map_or_else(|| counted(topology.files.len(), "file"), contents);
    text + &format!("{what}: {}\n", ui.out.paint(style, &verdict))
}

fn contents(desired: &HierarchyDesired) -> String {
    let servers = desired.sites.values().map(|site| site.servers.len()).sum();
    let groups = desired.sites.values().map(|site| site.groups.len()).sum();
    format!(
        "{}: {}, {}, {}",
        desired.name,
        counted(desired.sites.len(), "site"),
        counted(servers, "server"),
        counted(groups, "role group")
    )
}

/// `1 error`, `2 errors`.
fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}
