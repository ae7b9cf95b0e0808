//! `stead list`: what is, a line each.

use clap::{Args, ValueEnum};
use serde::Serialize;
use stead_schemas::api::{RecordView, RevisionView, SecretView, SiteView};
use stead_schemas::names::SiteCode;
use stead_schemas::plan::Hold;

use super::{CommandResult, Outcome, status};
use crate::api_client::{ApiArgs, ApiClient};
use crate::output::{Format, FormatArg, Ui, lists, when};

/// List servers, role instances, records, holds, revisions or secrets
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// What to list
    #[arg(value_enum)]
    what: What,
    /// Only of this site
    site: Option<SiteCode>,
    #[command(flatten)]
    format: FormatArg,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// Servers and whether their agents answer
    Servers,
    /// Role instances and how they are
    Roles,
    /// DNS records: wanted, served by each server, owner and state
    Records,
    /// What is not done now, and why
    Holds,
    /// Commits and what became of them
    Revisions,
    /// Names of secrets, who uses and who has them; never a value
    Secrets,
}

/// A hold with its id and site, as JSON shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct HoldLine<'a> {
    id: String,
    site: &'a SiteCode,
    text: String,
    needs_person: bool,
    remedy: Option<String>,
    #[serde(flatten)]
    hold: &'a Hold,
}

pub(super) async fn run(ui: &Ui, args: ListArgs) -> CommandResult {
    let client = args.api.client()?;
    let site = args.site.as_ref();
    let json = args.format.output == Format::Json;
    let now = when::now();
    match args.what {
        What::Servers | What::Roles | What::Holds => {
            let sites = status::fetch(&client, site).await?.sites;
            show_sites(ui, args.what, &sites, json)?;
        }
        What::Records => {
            let records: Vec<RecordView> = ask(&client, "records", site).await?;
            if json {
                ui.json(&records)?;
            } else {
                ui.data(&lists::records(ui.out, &records))?;
            }
        }
        What::Revisions => {
            let revisions: Vec<RevisionView> = client.get("/v1/revisions").await?;
            if json {
                ui.json(&revisions)?;
            } else {
                ui.data(&lists::revisions(ui.out, &revisions, now))?;
            }
        }
        What::Secrets => {
            let secrets: Vec<SecretView> = ask(&client, "secrets", site).await?;
            if json {
                ui.json(&secrets)?;
            } else {
                ui.data(&lists::secrets(ui.out, &secrets))?;
            }
        }
    }
    Ok(Outcome::Done)
}

async fn ask<T: serde::de::DeserializeOwned>(
    client: &ApiClient,
    what: &str,
    site: Option<&SiteCode>,
) -> Result<T, super::CommandError> {
    let query = site.map_or_else(String::new, |site| format!("?site={site}"));
    client.get(&format!("/v1/{what}{query}")).await
}

fn show_sites(ui: &Ui, what: What, sites: &[SiteView], json: bool) -> std::io::Result<()> {
    let now = when::now();
    match (what, json) {
        (What::Servers, true) => {
            let servers: Vec<_> = sites.iter().flat_map(|site| &site.servers).collect();
            ui.json(&servers)
        }
        (What::Roles, true) => {
            let instances: Vec<_> = sites.iter().flat_map(|site| &site.instances).collect();
            ui.json(&instances)
        }
        (_, true) => ui.json(&hold_lines(sites, now)),
        (What::Servers, false) => ui.data(&lists::servers(ui.out, sites, now)),
        (What::Roles, false) => ui.data(&lists::roles(ui.out, sites, now)),
        (_, false) => ui.data(&lists::holds(ui.out, sites, now)),
    }
}

fn hold_lines(sites: &[SiteView], now: stead_schemas::time::WallMs) -> Vec<HoldLine<'_>> {
    sites
        .iter()
        .flat_map(|site| site.holds.iter().map(move |hold| (&site.code, hold)))
        .map(|(site, hold)| HoldLine {
            id: hold.id(),
            site,
            text: crate::output::status::hold_reason(hold, now),
            needs_person: hold.reason.needs_person(),
            remedy: hold.reason.remedy(&hold.about),
            hold,
        })
        .collect()
}
