//! Aligned columns: two spaces between them, the last one ragged, no frames.
//!
//! So that a row is one line which `grep` and `awk` take as it is. Width is counted in what a
//! terminal shows, colours aside.

use unicode_width::UnicodeWidthStr;

use super::{Palette, Style};

/// Rows under headings.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<Cell>>,
    columns: usize,
}

/// One cell; plain text becomes one by `into()`.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A cell with a meaning.
    pub fn new(style: Style, text: impl Into<String>) -> Self {
        Self {
            text: one_line(&text.into()),
            style,
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(Style::Plain, text)
    }
}

impl Table {
    /// A table with headings.
    #[must_use]
    pub fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self {
            rows: vec![
                headings
                    .into_iter()
                    .map(|heading| Cell::new(Style::Faint, heading))
                    .collect(),
            ],
            columns: N,
        }
    }

    /// Columns without headings.
    #[must_use]
    pub const fn bare(columns: usize) -> Self {
        Self {
            rows: Vec::new(),
            columns,
        }
    }

    /// Adds a row; missing cells are empty, more than there are columns is a bug.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        let cells: Vec<Cell> = cells.into_iter().collect();
        debug_assert!(cells.len() <= self.columns, "a row wider than its table");
        self.rows.push(cells);
    }

    /// The lines, each begun with `indent`.
    #[must_use]
    pub fn render(&self, palette: Palette, indent: &str) -> String {
        let widths: Vec<usize> = (0..self.columns).map(|column| self.width(column)).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = indent.to_owned();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&palette.paint(cell.style, &cell.text));
                line.push_str(&" ".repeat(width + 2 - cell.text.width()));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    fn width(&self, column: usize) -> usize {
        self.rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.text.width())
            .max()
            .unwrap_or(0)
    }
}

/// Text as one line without control characters: what came from agents, git or DNS can't draw on the
/// terminal.
#[must_use]
pub fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_by_what_is_seen_and_nothing_trails() {
        let mut table = Table::new(["NAME", "STATE", "NOTE"]);
        table.row(["p01-a".into(), Cell::new(Style::Good, "heard"), "".into()]);
        table.row(["größe".into(), Cell::new(Style::Bad, "silent"), "4m".into()]);
        assert_eq!(
            table.render(Palette::new(false), ""),
            "NAME   STATE   NOTE\np01-a  heard\ngröße  silent  4m\n"
        );
        let coloured = table.render(Palette::new(true), "");
        let silent = "\u{1b}[1;31msilent\u{1b}[0m  4m";
        assert!(coloured.contains(silent), "{coloured:?}");
    }

    #[test]
    fn a_cell_cannot_move_the_cursor() {
        let mut table = Table::bare(1);
        table.row(["a\u{1b}[2J\nb".into()]);
        assert_eq!(table.render(Palette::new(false), ""), "a [2J b\n");
    }
}
