//! A plan as people read it: a line an instance, holds, a summary, and what is taken away last.

use stead_plan::render::{Line, counts, lines};
use stead_schemas::desired::SiteDesired;
use stead_schemas::plan::{Hold, SitePlan};
use unicode_width::UnicodeWidthStr as _;

use super::{Palette, Style};

/// The whole text of a plan over several sites.
#[must_use]
pub fn text(
    palette: Palette,
    id: Option<&str>,
    sites: &[(Option<&SiteDesired>, SitePlan)],
) -> String {
    let all: Vec<Line> = sites
        .iter()
        .flat_map(|(desired, plan)| lines(*desired, plan))
        .collect();
    let mut text = aligned(palette, &all);
    let holds: Vec<&Hold> = sites.iter().flat_map(|(_, plan)| &plan.holds).collect();
    text += &held(palette, &holds);
    if !text.is_empty() {
        text.push('\n');
    }
    let summary = counts(sites.iter().map(|(_, plan)| plan)).to_string();
    text += &palette.paint(Style::Head, &summary);
    if !holds.is_empty() {
        text += &format!(", {} held", holds.len());
    }
    let touched = sites
        .iter()
        .filter(|(_, plan)| !plan.steps.is_empty())
        .count();
    text += &match touched {
        1 => " (1 site)\n".to_owned(),
        touched => format!(" ({touched} sites)\n"),
    };
    if let Some(id) = id {
        text += &format!("id plan:{id}\n");
    }
    text + &taken_away(palette, &all)
}

fn aligned(palette: Palette, lines: &[Line]) -> String {
    let width =
        |of: fn(&Line) -> &str| lines.iter().map(|line| of(line).width()).max().unwrap_or(0);
    let verbs = width(|line| line.verb);
    let whats = width(|line| {
        if line.which.is_empty() {
            ""
        } else {
            &line.what
        }
    });
    let whiches = width(|line| &line.which);
    let mut text = String::new();
    for line in lines {
        let style = style(line);
        let head = format!("{} {:verbs$}", line.sign, line.verb);
        let pad = |text: &str, to: usize| " ".repeat(to.saturating_sub(text.width()));
        let mut row = format!("{}  {}", palette.paint(style, &head), line.what);
        if line.which.is_empty() {
            row += &format!("  {}", line.how);
        } else {
            let (what, which) = (pad(&line.what, whats), pad(&line.which, whiches));
            row += &format!("{what}  {}{which}  {}", line.which, line.how);
        }
        if let Some(place) = &line.place {
            row += &format!("   {}", palette.paint(Style::Note, &place.to_string()));
        }
        text += row.trim_end();
        text.push('\n');
        if let Some(note) = &line.note {
            text += &format!("        {}\n", palette.paint(Style::Faint, note));
        }
    }
    text
}

fn held(palette: Palette, holds: &[&Hold]) -> String {
    let mut text = String::new();
    for hold in holds {
        let style = if hold.reason.needs_person() {
            Style::Bad
        } else {
            Style::Warn
        };
        text += &format!(
            "{}  {}  {}",
            palette.paint(style, "held"),
            hold.about,
            hold.reason
        );
        if let Some(place) = &hold.place {
            text += &format!("   {}", palette.paint(Style::Note, &place.to_string()));
        }
        text.push('\n');
        if let Some(remedy) = hold.reason.remedy(&hold.about) {
            text += &format!("        {}\n", palette.paint(Style::Note, &remedy));
        }
    }
    text
}

/// Once more and last, where it is not overlooked.
fn taken_away(palette: Palette, lines: &[Line]) -> String {
    let gone: Vec<&Line> = lines.iter().filter(|line| line.destructive).collect();
    if gone.is_empty() {
        return String::new();
    }
    let mut text = palette.paint(Style::Bad, "takes away") + "\n";
    for line in gone {
        text += &format!("  {} {}  {}\n", line.verb, line.what, line.which);
    }
    text
}

const fn style(line: &Line) -> Style {
    match (line.destructive, line.sign) {
        (true, _) | (_, '-') => Style::Bad,
        (_, '+') => Style::Good,
        _ => Style::Warn,
    }
}
