//! `site-agent status`: what this server knows, also when no reconciler and no agent answers.

use std::error::Error;
use std::fmt::Write as _;

use clap::Args;
use stead_schemas::time::WallMs;
use stead_schemas::wire::{InstanceReport, Phase};
use stead_wire::clock::wall_now;

use super::local::{Local, LocalError};
use super::{Format, Place};
use crate::agent::{self, LocalStatus};
use crate::keeper::link::KeeperLink;
use crate::layout::Layout;
use crate::ledger::Ledger;
use crate::supervisor::read_spec;

/// Show what this server runs, from the agent itself or, without one, from its ledger and keepers
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    place: Place,
    /// How it is written
    #[arg(short, long, value_enum, default_value = "human")]
    output: Format,
}

pub(super) fn run(args: &StatusArgs) -> Result<(), Box<dyn Error>> {
    let layout = args.place.layout()?;
    let status = super::runtime()?.block_on(find(&layout))?;
    let text = match args.output {
        Format::Human => human(&status),
        Format::Json => format!("{}\n", serde_json::to_string_pretty(&status)?),
    };
    super::print(&text)
}

async fn find(layout: &Layout) -> Result<LocalStatus, Box<dyn Error>> {
    match Local::of(layout)?.status().await {
        Ok(status) => Ok(status),
        Err(LocalError::NotRunning(folder)) => {
            let ledger = Ledger::read(layout.root())?.ok_or_else(|| {
                format!(
                    "{}: no agent runs, and there is no ledger",
                    folder.display()
                )
            })?;
            Ok(without_agent(layout, &ledger).await)
        }
        Err(error) => Err(error.into()),
    }
}

/// From the ledger, and from keepers that go on without an agent.
async fn without_agent(layout: &Layout, ledger: &Ledger) -> LocalStatus {
    let mut report = agent::first_report(ledger.owner.server.clone(), ledger);
    report.version.clear();
    report.problems.push("agent: it does not run".to_owned());
    for group in Layout::groups_in(&layout.instances()) {
        let Some(spec) = read_spec(layout, &group) else {
            continue;
        };
        let mut instance = spec.report;
        match KeeperLink::connect(&layout.instance(&group)).await {
            Ok(Some(link)) => {
                instance.pid = Some(link.state().pid);
                instance.since = link.state().started;
                instance.phase = Phase::Running;
            }
            Ok(None) | Err(_) => {
                instance.phase = Phase::Failed;
                instance.message = Some("it does not run".to_owned());
            }
        }
        report.instances.insert(group, Box::new(instance));
    }
    agent::status_of(ledger, report, None)
}

fn human(status: &LocalStatus) -> String {
    let report = &status.report;
    let mut text = String::new();
    let site = status
        .site
        .as_ref()
        .map_or_else(String::new, |site| format!(" of {site}"));
    // Writing to a String does not fail.
    let _ = writeln!(
        text,
        "server      {}{site} ({})",
        report.server, status.hierarchy
    );
    let _ = match status.agent {
        Some(pid) => writeln!(
            text,
            "agent       {} as pid {pid}, since {}",
            report.version,
            at(report.started_at)
        ),
        None => writeln!(text, "agent       does not run"),
    };
    let _ = match (&report.generation, &status.revision) {
        (Some(generation), Some(revision)) => writeln!(
            text,
            "assignment  {generation} from revision {revision}{}",
            status
                .assigned_at
                .map_or_else(String::new, |when| format!(", came {}", at(when)))
        ),
        _ => writeln!(text, "assignment  none yet"),
    };
    for (name, said) in report
        .lease
        .iter()
        .flat_map(|lease| lease.lines(wall_now()))
    {
        let _ = writeln!(text, "{name:<12}{said}");
    }
    for problem in &report.problems {
        let _ = writeln!(text, "problem     {problem}");
    }
    text.push_str(&table(status));
    text
}

fn table(status: &LocalStatus) -> String {
    if status.report.instances.is_empty() {
        return "no instances\n".to_owned();
    }
    let mut rows = vec![
        [
            "INSTANCE", "ROLE", "PHASE", "HEALTH", "RESTARTS", "PID", "SINCE", "MESSAGE",
        ]
        .map(str::to_owned),
    ];
    for (group, one) in &status.report.instances {
        rows.push(row(group.as_str(), one));
    }
    let widths: Vec<usize> = (0..8)
        .map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0))
        .collect();
    let mut text = String::from("\n");
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn row(group: &str, one: &InstanceReport) -> [String; 8] {
    [
        group.to_owned(),
        one.role.to_string(),
        word(&one.phase),
        word(&one.health),
        one.restarts.to_string(),
        one.pid
            .map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
        at(one.since),
        one.message.clone().unwrap_or_default(),
    ]
}

/// A phase or health by its name on the wire.
fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

fn at(when: WallMs) -> String {
    let ms = i64::try_from(when.0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| "?".to_owned(), |at| format!("{at:.0}"))
}
