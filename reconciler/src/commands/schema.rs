//! `stead schema`: the JSON Schema that editors check with, made from the types that are read.

use clap::Args;
use stead_schemas::declared;
use stead_schemas::declared::types::DocumentKind;

use super::{CommandResult, Outcome};
use crate::output::Ui;

/// Print the JSON Schema of a kind, or of all kinds in one
#[derive(Debug, Args)]
pub(super) struct SchemaArgs {
    /// Hierarchy, Site, SiteSet, ReconcilerConfig or AgentConfig
    #[arg(value_parser = parse_kind)]
    kind: Option<DocumentKind>,
}

pub(super) fn run(ui: &Ui, args: &SchemaArgs) -> CommandResult {
    let schema = match args.kind {
        Some(kind) => declared::schema::json_schema(kind),
        None => declared::schema::combined_schema(),
    };
    ui.json(&schema)?;
    Ok(Outcome::Done)
}

fn parse_kind(text: &str) -> Result<DocumentKind, String> {
    let all = DocumentKind::ALL;
    all.into_iter()
        .find(|kind| kind.name().eq_ignore_ascii_case(text))
        .ok_or_else(|| {
            let names: Vec<&str> = all.into_iter().map(DocumentKind::name).collect();
            format!("there is no such kind: {}", names.join(", "))
        })
}
