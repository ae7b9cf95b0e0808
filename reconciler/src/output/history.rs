//! Journal entries, a line each.

use stead_schemas::api::{JournalEntry, JournalKind};
use stead_schemas::time::WallMs;

use super::table::{Cell, Table};
use super::{Palette, Style, when};

/// The entries in the order given.
#[must_use]
pub fn lines(palette: Palette, entries: &[JournalEntry], now: WallMs) -> String {
    let mut table = Table::bare(4);
    for entry in entries {
        let (style, kind) = kind(entry.kind);
        table.row([
            Cell::new(Style::Faint, when::clock(entry.at, now)),
            Cell::new(style, kind),
            Cell::new(Style::Head, entry.about.as_str()),
            entry.text.as_str().into(),
        ]);
    }
    table.render(palette, "")
}

const fn kind(kind: JournalKind) -> (Style, &'static str) {
    match kind {
        JournalKind::Command => (Style::Note, "command"),
        JournalKind::Contact => (Style::Warn, "contact"),
        JournalKind::Failed => (Style::Bad, "failed"),
        JournalKind::Held => (Style::Warn, "held"),
        JournalKind::Instance => (Style::Plain, "instance"),
        JournalKind::Plan => (Style::Plain, "plan"),
        JournalKind::Record => (Style::Plain, "record"),
        JournalKind::Reconciler => (Style::Note, "reconciler"),
        JournalKind::Released => (Style::Good, "released"),
        JournalKind::Revision => (Style::Note, "revision"),
        JournalKind::Taken => (Style::Good, "taken"),
        JournalKind::Takeover => (Style::Note, "takeover"),
    }
}
