//! `stead render`: a site as it is after templates, patches and defaults, as YAML.
//!
//! Plain YAML that reads back to the same tree: text is quoted wherever a reader could take it for
//! anything else. With origins each value's file and line stand behind it. Secrets stand in
//! documents by name only, so that nothing needs hiding here.

use std::fmt::Write as _;

use super::Checked;
use super::scalar;
use super::tree::{Kind, Meaning, Node, Scalar, Sources, Spot};
use crate::names::SiteCode;

/// Where the comments with origins begin, at least.
const ORIGIN_COLUMN: usize = 60;

/// The effective document of a site; none where the topology has no such site.
#[must_use]
pub fn render(checked: &Checked, site: &SiteCode, with_origin: bool) -> Option<String> {
    let site = checked.sites.get(site)?;
    let sources = with_origin.then_some(&checked.sources);
    Some(yaml(&site.tree, sources))
}

/// A tree as YAML; with sources also where each value is from.
pub(super) fn yaml(tree: &Node, sources: Option<&Sources>) -> String {
    let mut writer = Writer {
        text: String::new(),
        sources,
    };
    match &tree.kind {
        Kind::Map(entries) if !entries.is_empty() => writer.block(tree, 0, ""),
        Kind::Seq(items) if !items.is_empty() => writer.block(tree, 0, ""),
        Kind::Map(_) | Kind::Seq(_) | Kind::Scalar(_) => {
            let line = inline(tree);
            writer.line(&line, tree.spot);
        }
    }
    writer.text
}

struct Writer<'a> {
    text: String,
    sources: Option<&'a Sources>,
}

impl Writer<'_> {
    /// A collection in block style; `first` stands in the place of the first line's indentation.
    fn block(&mut self, node: &Node, indent: usize, first: &str) {
        let mut prefix = first.to_owned();
        let spaces = " ".repeat(indent);
        let lead = |prefix: &mut String| {
            if prefix.is_empty() {
                spaces.clone()
            } else {
                std::mem::take(prefix)
            }
        };
        match &node.kind {
            Kind::Map(entries) => {
                for (key, value) in entries {
                    let start = format!("{}{}:", lead(&mut prefix), text(&key.text));
                    if is_block(value) {
                        self.line(&start, key.spot);
                        self.block(value, indent + 2, "");
                    } else {
                        self.line(&format!("{start} {}", inline(value)), value.spot);
                    }
                }
            }
            Kind::Seq(items) => {
                for item in items {
                    let start = format!("{}- ", lead(&mut prefix));
                    if is_block(item) {
                        self.block(item, indent + 2, &start);
                    } else {
                        self.line(&format!("{start}{}", inline(item)), item.spot);
                    }
                }
            }
            Kind::Scalar(_) => {}
        }
    }

    fn line(&mut self, line: &str, spot: Spot) {
        self.text.push_str(line);
        if let Some(sources) = self.sources {
            let place = sources.place(spot);
            let width = line.chars().count();
            let gap = ORIGIN_COLUMN.saturating_sub(width).max(2);
            write!(self.text, "{:gap$}# {}:{}", "", place.file, place.line)
                .expect("a string takes all text");
        }
        self.text.push('\n');
    }
}

/// Whether a value is written below its key: collections that don't fit in a short line.
fn is_block(node: &Node) -> bool {
    match &node.kind {
        Kind::Scalar(_) => false,
        Kind::Map(entries) => !entries.is_empty(),
        Kind::Seq(items) => items
            .iter()
            .any(|item| !matches!(item.kind, Kind::Scalar(_))),
    }
}

/// A value in one line.
fn inline(node: &Node) -> String {
    match &node.kind {
        Kind::Scalar(scalar) => scalar_text(scalar),
        Kind::Seq(items) => {
            let items: Vec<String> = items.iter().map(inline).collect();
            format!("[{}]", items.join(", "))
        }
        Kind::Map(entries) => {
            let entries: Vec<String> = entries
                .iter()
                .map(|(key, value)| format!("{}: {}", text(&key.text), inline(value)))
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}

fn scalar_text(scalar: &Scalar) -> String {
    match scalar.meaning {
        Meaning::Null => "null".to_owned(),
        Meaning::Bool(_) | Meaning::Float(_) | Meaning::Int(_) => scalar.text.to_string(),
        Meaning::Text => text(&scalar.text),
    }
}

/// Text without quotes where no reader can mistake it, else in double quotes.
fn text(text: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "-_./$()%+@".contains(c);
    let first = text.chars().next();
    let plain = first.is_some_and(|c| c.is_ascii_alphanumeric() || c == '$' || c == '/')
        && text.chars().all(harmless)
        && scalar::plain(text) == Ok(Meaning::Text);
    if plain {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            ' '..='~' => quoted.push(c),
            c if u32::from(c) <= 0xFFFF => {
                write!(quoted, "\\u{:04X}", u32::from(c)).expect("a string takes all text");
            }
            c => {
                write!(quoted, "\\U{:08X}", u32::from(c)).expect("a string takes all text");
            }
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::declared::{SourceFile, check};

    #[test]
    fn every_value_names_the_line_it_is_from() {
        let checked = check(&[
            SourceFile::new(
                "h.yaml",
                "apiVersion: stead/v1
kind: Hierarchy
metadata: {name: contoso}
spec:
  defaults:
    all: {backup: {timeZone: Europe/Berlin, to: {url: 's3://backup/$(code.lower)'}}}
",
            ),
            SourceFile::new(
                "p01.yaml",
                "apiVersion: stead/v1
kind: Site
metadata: {name: P01}
spec:
  type: primary
  backup: {schedule: 0 2 * * *}
",
            ),
        ]);
        let text = render(&checked, &"P01".parse().unwrap(), true).unwrap();
        let expected = "\
apiVersion: stead/v1                                        # p01.yaml:1
kind: Site                                                  # p01.yaml:2
metadata:                                                   # p01.yaml:3
  name: P01                                                 # p01.yaml:3
spec:                                                       # p01.yaml:4
  backup:                                                   # p01.yaml:6
    timeZone: Europe/Berlin                                 # h.yaml:6
    to:                                                     # h.yaml:6
      url: \"s3://backup/p01\"                                # h.yaml:6
    schedule: \"0 2 * * *\"                                   # p01.yaml:6
  type: primary                                             # p01.yaml:5
";
        assert_eq!(text, expected);
    }
}
