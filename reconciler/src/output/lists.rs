//! What `stead list` shows, as tables (tasks 6 and 8).

use std::collections::BTreeSet;
use std::net::SocketAddr;

use stead_schemas::api::{RecordView, RevisionState, RevisionView, SecretView, SiteView};
use stead_schemas::observed::{Contact, ServedBy};
use stead_schemas::record::{RecordSet, RecordType};
use stead_schemas::time::WallMs;

use super::status::{hold_reason, instance_row, server_row, serves, short};
use super::table::{Cell, Table};
use super::{Palette, Style, when};

/// Servers of all sites.
#[must_use]
pub fn servers(palette: Palette, sites: &[SiteView], now: WallMs) -> String {
    let mut table = Table::new([
        "SITE", "SERVER", "AGENT", "ZONE", "CONTACT", "VERSION", "NOTE",
    ]);
    let (mut all, mut heard) = (0, 0);
    for site in sites {
        for server in &site.servers {
            all += 1;
            heard += usize::from(server.contact == Contact::Heard);
            let site = Cell::from(site.code.as_str());
            table.row(std::iter::once(site).chain(server_row(server, now)));
        }
    }
    format!(
        "{}\n{heard} of {all} servers heard\n",
        table.render(palette, "")
    )
}

/// Role instances of all sites.
#[must_use]
pub fn roles(palette: Palette, sites: &[SiteView], now: WallMs) -> String {
    let headings = [
        "INSTANCE", "STATE", "SINCE", "SERVES", "DNS", "RESTARTS", "NOTE",
    ];
    let mut table = Table::new(headings);
    let (mut wanted, mut healthy) = (0, 0);
    for instance in sites.iter().flat_map(|site| &site.instances) {
        wanted += usize::from(instance.wanted);
        healthy += usize::from(instance.wanted && serves(instance));
        table.row(instance_row(instance.name.to_string(), instance, now));
    }
    format!(
        "{}\n{healthy} of {wanted} instances healthy\n",
        table.render(palette, "")
    )
}

/// Holds of all sites, those that need a person first.
#[must_use]
pub fn holds(palette: Palette, sites: &[SiteView], now: WallMs) -> String {
    let mut all: Vec<_> = sites.iter().flat_map(|site| &site.holds).collect();
    if all.is_empty() {
        return "no holds: nothing waits\n".to_owned();
    }
    all.sort_by_key(|hold| !hold.reason.needs_person());
    let mut table = Table::new(["HOLD", "ABOUT", "WHY", "ENDS WITH", "PLACE"]);
    for hold in &all {
        let style = if hold.reason.needs_person() {
            Style::Bad
        } else {
            Style::Warn
        };
        let remedy = hold.reason.remedy(&hold.about);
        table.row([
            format!("hold:{}", hold.id()).into(),
            hold.about.as_str().into(),
            Cell::new(style, hold_reason(hold, now)),
            Cell::new(Style::Note, remedy.as_deref().unwrap_or("(by itself)")),
            hold.place
                .as_ref()
                .map_or_else(String::new, ToString::to_string)
                .into(),
        ]);
    }
    let persons = all.iter().filter(|hold| hold.reason.needs_person()).count();
    format!(
        "{}\n{} held, {persons} of them until a person acts\n",
        table.render(palette, ""),
        all.len()
    )
}

/// Records: wanted, served by each server, owner and state (task 8).
#[must_use]
pub fn records(palette: Palette, records: &[RecordView]) -> String {
    let servers: BTreeSet<SocketAddr> = records
        .iter()
        .flat_map(|record| &record.observed.servers)
        .map(|served| served.server)
        .collect();
    let headings = ["NAME".to_owned(), "WANT".to_owned()]
        .into_iter()
        .chain(servers.iter().map(ToString::to_string))
        .chain(["OWNER".to_owned(), "STATE".to_owned()]);
    let mut table = Table::bare(servers.len() + 4);
    table.row(headings.map(|heading| Cell::new(Style::Faint, heading)));
    for record in records {
        table.row(record_row(record, &servers));
    }
    let in_step = records.iter().filter(|r| r.state == "in step").count();
    format!(
        "{}\n{in_step} of {} records in step\n",
        table.render(palette, ""),
        records.len()
    )
}

/// Revisions and what became of them (task 6).
#[must_use]
pub fn revisions(palette: Palette, revisions: &[RevisionView], now: WallMs) -> String {
    if revisions.is_empty() {
        return "no revisions yet\n".to_owned();
    }
    let mut table = Table::new(["REV", "WHEN", "AUTHOR", "STATE", "SUBJECT", "NOTE"]);
    for revision in revisions {
        let (style, state) = match revision.state {
            RevisionState::InForce => (Style::Good, "in force"),
            RevisionState::Past => (Style::Faint, "past"),
            RevisionState::Refused => (Style::Bad, "refused"),
            RevisionState::Stopped => (Style::Bad, "stopped"),
        };
        table.row([
            Cell::new(Style::Head, short(&revision.revision)),
            when::ago(revision.when, now).into(),
            revision.author.as_str().into(),
            Cell::new(style, state),
            revision.subject.as_str().into(),
            revision.note.as_str().into(),
        ]);
    }
    table.render(palette, "")
}

/// Secrets by name: who uses and who has them.
#[must_use]
pub fn secrets(palette: Palette, secrets: &[SecretView]) -> String {
    if secrets.is_empty() {
        return "no secrets are named\n".to_owned();
    }
    let mut table = Table::new(["SECRET", "SITE", "USED BY", "HERE", "AT AGENTS"]);
    for secret in secrets {
        let (style, here) = if secret.present {
            (Style::Good, "present")
        } else {
            (Style::Bad, "missing")
        };
        let held: Vec<&str> = secret.held_by.iter().map(|name| name.as_str()).collect();
        table.row([
            secret.name.as_str().into(),
            secret.site.as_str().into(),
            secret.used_by.join(", ").into(),
            Cell::new(style, here),
            held.join(", ").into(),
        ]);
    }
    let missing = secrets.iter().filter(|secret| !secret.present).count();
    format!(
        "{}\n{} secrets, {missing} missing\n",
        table.render(palette, ""),
        secrets.len()
    )
}

fn record_row(record: &RecordView, servers: &BTreeSet<SocketAddr>) -> Vec<Cell> {
    let style = match record.state.as_str() {
        "in step" => Style::Good,
        _ => Style::Warn,
    };
    let name = format!("{} {}", record.key.name, record.key.rtype.as_str());
    let mut cells = vec![
        name.into(),
        set_text(record.key.rtype, record.want.as_ref()).into(),
    ];
    for server in servers {
        let served = record.observed.servers.iter().find(|s| s.server == *server);
        cells.push(served_cell(record, served));
    }
    cells.push(record.owner.as_str().into());
    cells.push(Cell::new(style, record.state.as_str()));
    cells
}

/// `=` where a server serves what is wanted.
fn served_cell(record: &RecordView, served: Option<&ServedBy>) -> Cell {
    let Some(served) = served.and_then(|by| by.served.as_ref()) else {
        return Cell::new(Style::Bad, "?");
    };
    if served.set == record.want {
        return Cell::new(Style::Good, "=");
    }
    let same_values = match (&served.set, &record.want) {
        (Some(found), Some(want)) => found.values == want.values,
        _ => false,
    };
    let text = match &served.set {
        Some(found) if same_values => format!("= (ttl {} s)", found.ttl_s),
        set => set_text(record.key.rtype, set.as_ref()),
    };
    Cell::new(Style::Warn, text)
}

fn set_text(rtype: RecordType, set: Option<&RecordSet>) -> String {
    let Some(set) = set else {
        return "-".to_owned();
    };
    let mut values = set.values.iter();
    match (values.next(), values.next(), rtype) {
        (None, _, _) => "-".to_owned(),
        (Some(one), None, _) => one.to_string(),
        (Some(_), Some(_), RecordType::Srv) => format!("{} targets", set.values.len()),
        (Some(_), Some(_), RecordType::A | RecordType::Aaaa) => {
            format!("{} addresses", set.values.len())
        }
    }
}
