//! The status of a hierarchy and of one site, as text (task 5: what needs a person stands first).
//!
//! Made from the API's view alone; a word for every state, the colour only repeats it.

use stead_schemas::api::{
    InstanceView, Need, ServerView, SiteState, SiteView, StatusView, WriterState,
};
use stead_schemas::observed::Contact;
use stead_schemas::plan::Hold;
use stead_schemas::time::WallMs;
use stead_schemas::wire::{Health, Phase};

use super::table::{Cell, Table, one_line};
use super::{Palette, Style, drain, lease, when};

/// All sites, a line each.
#[must_use]
pub fn all_sites(palette: Palette, view: &StatusView, problems: bool, now: WallMs) -> String {
    let mut text = needs(palette, &view.needs_person);
    let mut table = Table::new([
        "SITE",
        "TYPE",
        "STATE",
        "REVISION",
        "SERVERS",
        "INSTANCES",
        "ACTIVE",
        "STANDBY",
        "NOTE",
    ]);
    for site in shown(view, problems) {
        table.row(site_row(site, now));
    }
    text += &table.render(palette, "");
    text.push('\n');
    text += &summary(palette, view, now);
    text
}

/// One site: its servers, instances, steps and holds.
#[must_use]
pub fn one_site(palette: Palette, view: &StatusView, problems: bool, now: WallMs) -> String {
    let mut text = needs(palette, &view.needs_person);
    for site in &view.sites {
        let (state, style) = site_state(site.state);
        text += &format!(
            "{}  {}  {}  {}\n",
            palette.paint(Style::Head, site.code.as_str()),
            site.site_type,
            palette.paint(style, state),
            note(site, now)
        );
        if let Some(view) = &site.lease {
            text += &lease::lease(palette, &site.code, view, &site.passive, now);
        }
        text += &servers(palette, site, problems, now);
        text += &instances(palette, site, problems, now);
        text += &road(palette, site);
        text += &holds(palette, &site.holds, now);
    }
    text.push('\n');
    text += &summary(palette, view, now);
    text
}

/// The lines under NEEDS A PERSON, each with the command that settles it; nothing where nothing
/// does.
#[must_use]
pub fn needs(palette: Palette, needs: &[Need]) -> String {
    if needs.is_empty() {
        return String::new();
    }
    let heading = format!("NEEDS A PERSON ({})", needs.len());
    let mut text = palette.paint(Style::Bad, &heading) + "\n";
    for need in needs {
        let about = match need.about.as_str() {
            "" => String::new(),
            about => palette.paint(Style::Head, &one_line(about)) + "  ",
        };
        text += &format!("  {about}{}\n", one_line(&need.text));
        if let Some(remedy) = &need.remedy {
            text += &format!("       {}\n", palette.paint(Style::Note, &one_line(remedy)));
        }
    }
    text.push('\n');
    text
}

/// A revision as people name it.
#[must_use]
pub fn short(revision: &str) -> &str {
    revision.get(..7).unwrap_or(revision)
}

/// A server's contact in words.
#[must_use]
pub fn contact(contact: Contact, now: WallMs) -> Cell {
    let (style, text) = match contact {
        Contact::Connecting => (Style::Warn, "connecting".to_owned()),
        Contact::CutOff { since } => (
            Style::Warn,
            format!("cut off from the reconciler {}", lasting(since, now)),
        ),
        Contact::Heard => (Style::Good, "heard".to_owned()),
        Contact::Refused { since } => (Style::Bad, format!("refused {}", lasting(since, now))),
        Contact::Silent { since, .. } => (Style::Bad, format!("silent {}", lasting(since, now))),
        Contact::Unsure { since } => (Style::Warn, format!("unsure {}", lasting(since, now))),
    };
    Cell::new(style, text)
}

/// An instance's health or phase, whichever says more.
#[must_use]
pub fn instance_state(instance: &InstanceView) -> Cell {
    let (style, text) = match (instance.phase, instance.health) {
        (None, _) if instance.wanted => (Style::Warn, "not there"),
        (None, _) => (Style::Faint, "gone"),
        (Some(Phase::BackOff), _) => (Style::Bad, "waiting to restart"),
        (Some(Phase::CrashLoop), _) => (Style::Bad, "crash loop"),
        (Some(Phase::Failed), _) => (Style::Bad, "failed"),
        (Some(Phase::Fetching), _) => (Style::Warn, "fetching"),
        (Some(Phase::Starting), _) => (Style::Warn, "starting"),
        (Some(Phase::Stopping), _) => (Style::Warn, "stopping"),
        (Some(Phase::Running), Some(Health::Healthy)) => (Style::Good, "healthy"),
        (Some(Phase::Running), Some(Health::Unhealthy)) => (Style::Bad, "unhealthy"),
        (Some(Phase::Running), Some(Health::Unknown) | None) => (Style::Warn, "running"),
    };
    Cell::new(style, text)
}

/// Whether an instance serves as it should.
#[must_use]
pub fn serves(instance: &InstanceView) -> bool {
    instance.phase == Some(Phase::Running) && instance.health == Some(Health::Healthy)
}

/// Holds, each with its remedy and its place in git.
#[must_use]
pub fn holds(palette: Palette, holds: &[Hold], now: WallMs) -> String {
    let mut text = String::new();
    for hold in holds {
        text += &format!(
            "  {}  {}  {}\n",
            palette.paint(Style::Warn, "held"),
            hold.about,
            hold_reason(hold, now)
        );
        if let Some(remedy) = hold.reason.remedy(&hold.about) {
            text += &format!("        {}\n", palette.paint(Style::Note, &remedy));
        }
    }
    if text.is_empty() {
        text
    } else {
        format!(
            "\n{} ({})\n{text}",
            palette.paint(Style::Head, "HOLDS"),
            holds.len()
        )
    }
}

/// Why something is held, with the time a suspension or a drain ends.
#[must_use]
pub fn hold_reason(hold: &Hold, now: WallMs) -> String {
    use stead_schemas::plan::HoldReason;
    match &hold.reason {
        HoldReason::DrainEnded { server, until } => format!(
            "the drain of {server} ended {} and nobody undrained it",
            when::at(*until, now)
        ),
        HoldReason::Drained { until, .. }
        | HoldReason::Suspended {
            until: Some(until), ..
        } => one_line(&format!("{}, {}", hold.reason, when::until(*until, now))),
        reason => one_line(&reason.to_string()),
    }
}

fn shown(view: &StatusView, problems: bool) -> impl Iterator<Item = &SiteView> {
    view.sites
        .iter()
        .filter(move |site| !problems || site.state != SiteState::Converged)
}

fn site_row(site: &SiteView, now: WallMs) -> Vec<Cell> {
    let declared = |server: &&ServerView| server.declared;
    let wanted: Vec<&InstanceView> = site.instances.iter().filter(|i| i.wanted).collect();
    let heard = site
        .servers
        .iter()
        .filter(declared)
        .filter(|server| server.contact == Contact::Heard)
        .count();
    let serving = wanted.iter().filter(|instance| serves(instance)).count();
    let (state, style) = site_state(site.state);
    vec![
        Cell::new(Style::Head, site.code.as_str()),
        site.site_type.to_string().into(),
        Cell::new(style, state),
        site.revision.as_deref().map_or("-", short).into(),
        share(heard, site.servers.iter().filter(declared).count()),
        share(serving, wanted.len()),
        site.active
            .as_ref()
            .map_or("-", |name| name.as_str())
            .into(),
        standby(site).into(),
        note(site, now).into(),
    ]
}

fn share(good: usize, of: usize) -> Cell {
    let style = if good == of {
        Style::Plain
    } else {
        Style::Warn
    };
    Cell::new(style, format!("{good}/{of}"))
}

fn standby(site: &SiteView) -> String {
    match site.passive.as_slice() {
        [] => "-".to_owned(),
        several => several
            .iter()
            .map(|passive| format!("{}: {}", passive.server, passive.state))
            .collect::<Vec<_>>()
            .join(", "),
    }
}

fn note(site: &SiteView, now: WallMs) -> String {
    let mut notes = Vec::new();
    if let Some(suspension) = &site.suspended {
        let until = suspension.until.map_or_else(String::new, |until| {
            format!(", {}", when::until(until, now))
        });
        notes.push(format!(
            "suspended by {}: {}{until}",
            suspension.by, suspension.why
        ));
    }
    for server in site.servers.iter().filter(|server| server.drain.is_some()) {
        notes.push(format!("{} drained", server.name));
    }
    if let Some(failure) = &site.failure {
        notes.push(failure.clone());
    }
    if let Some(parked) = site
        .lease
        .as_ref()
        .and_then(|l| lease::parked(&site.code, l, now))
    {
        notes.push(parked);
    }
    if !site.steps.is_empty() {
        notes.push(format!("{} steps to go", site.steps.len()));
    }
    if !site.holds.is_empty() {
        notes.push(format!("{} held", site.holds.len()));
    }
    one_line(&notes.join("; "))
}

fn servers(palette: Palette, site: &SiteView, problems: bool, now: WallMs) -> String {
    let mut table = Table::new(["SERVER", "AGENT", "ZONE", "CONTACT", "VERSION", "NOTE"]);
    let mut any = false;
    for server in &site.servers {
        let well = server.contact == Contact::Heard && server.problems.is_empty();
        if problems && well && server.drain.is_none() {
            continue;
        }
        any = true;
        table.row(server_row(server, now));
    }
    section(any, &table, palette)
}

/// One server's line, without its site.
#[must_use]
pub fn server_row(server: &ServerView, now: WallMs) -> Vec<Cell> {
    let drain = server.drain.as_ref().map(|view| drain::note(view, now));
    let mut notes: Vec<String> = drain.into_iter().chain(server.problems.clone()).collect();
    if !server.declared {
        notes.push("leaving: no longer in git".to_owned());
    }
    vec![
        server.name.as_str().into(),
        server.agent.to_string().into(),
        server.zone.as_deref().unwrap_or("-").into(),
        contact(server.contact, now),
        server.version.as_deref().unwrap_or("-").into(),
        Cell::new(Style::Warn, notes.join("; ")),
    ]
}

fn instances(palette: Palette, site: &SiteView, problems: bool, now: WallMs) -> String {
    let mut table = Table::new([
        "INSTANCE", "STATE", "SINCE", "SERVES", "DNS", "RESTARTS", "NOTE",
    ]);
    let mut any = false;
    for instance in &site.instances {
        if problems && serves(instance) && instance.wanted {
            continue;
        }
        any = true;
        let name = format!("{}@{}", instance.name.group, instance.name.server);
        table.row(instance_row(name, instance, now));
    }
    section(any, &table, palette)
}

/// One instance's line under the name given.
#[must_use]
pub fn instance_row(name: String, instance: &InstanceView, now: WallMs) -> Vec<Cell> {
    let mut notes: Vec<&str> = instance.message.as_deref().into_iter().collect();
    if !instance.wanted {
        notes.push("leaving: git does not ask for it here");
    }
    vec![
        name.into(),
        instance_state(instance),
        instance
            .since
            .map_or_else(|| "-".to_owned(), |since| lasting(since, now))
            .into(),
        instance
            .endpoint
            .map_or_else(|| "-".to_owned(), |endpoint| endpoint.to_string())
            .into(),
        if instance.published { "published" } else { "-" }.into(),
        instance.restarts.to_string().into(),
        Cell::new(Style::Warn, notes.join("; ")),
    ]
}

fn road(palette: Palette, site: &SiteView) -> String {
    if site.steps.is_empty() {
        return String::new();
    }
    let heading = format!(
        "\n{} ({})\n",
        palette.paint(Style::Head, "STEPS"),
        site.steps.len()
    );
    site.steps.iter().fold(heading, |text, step| {
        let (style, mark) = if step.waits.is_empty() {
            (Style::Good, "now  ")
        } else {
            (Style::Faint, "later")
        };
        text + &format!(
            "  {} {}  {}\n",
            palette.paint(style, mark),
            step.id,
            palette.paint(Style::Faint, &step.because)
        )
    })
}

fn section(any: bool, table: &Table, palette: Palette) -> String {
    if any {
        format!("\n{}", table.render(palette, ""))
    } else {
        String::new()
    }
}

fn summary(palette: Palette, view: &StatusView, now: WallMs) -> String {
    let converged = view
        .sites
        .iter()
        .filter(|site| site.state == SiteState::Converged)
        .count();
    let style = if converged == view.sites.len() {
        Style::Good
    } else {
        Style::Warn
    };
    let sites = format!("{converged} of {} sites converged", view.sites.len());
    let mut line = palette.paint(style, &sites);
    if let Some(revision) = &view.source.in_force {
        line += &format!(", {} in force", short(revision));
    }
    if let (Some(head), true) = (&view.source.head, view.source.head != view.source.in_force) {
        line += &format!(" ({} is newer)", short(head));
    }
    line += &format!(" ({}", view.reconciler.name);
    line += match &view.reconciler.writer {
        WriterState::Fenced { .. } => ": fenced, another reconciler writes",
        WriterState::Standby => ": standby",
        WriterState::Starting => ": starting",
        WriterState::Writing => "",
    };
    if let Some(fetched) = view.source.fetched_at {
        line += &format!(", git read {}", when::ago(fetched, now));
    }
    line += ")\n";
    if let Some(problem) = &view.source.problem {
        line += &format!("{} {problem}\n", palette.paint(Style::Bad, "git:"));
    }
    line
}

fn site_state(state: SiteState) -> (&'static str, Style) {
    match state {
        SiteState::Degraded => ("degraded", Style::Bad),
        SiteState::Held => ("held", Style::Warn),
        SiteState::Unknown => ("unknown", Style::Warn),
        SiteState::Suspended => ("suspended", Style::Warn),
        SiteState::Changing => ("changing", Style::Warn),
        SiteState::Converged => ("converged", Style::Good),
    }
}

fn lasting(since: WallMs, now: WallMs) -> String {
    when::length(now.since(since))
}
