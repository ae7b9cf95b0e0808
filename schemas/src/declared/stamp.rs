//! Stamping sites out of a SiteSet: `$(KEY)` in strings and keys, after parsing.
//!
//! Every node of a stamped site keeps the place of the template line (or patch line) it came from.
//! Merging with defaults is `documents`' business.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::problem::{Finding, Findings};
use super::tree::{Key, Kind, Meaning, Node, Scalar, Spot};

/// What stands for `$(KEY)`.
pub(super) struct Variables<'a> {
    scalars: BTreeMap<&'a str, &'a Scalar>,
    /// The site's code.
    code: &'a str,
    /// Where the values come from, for messages: the line of the list.
    item: Option<Spot>,
}

impl<'a> Variables<'a> {
    /// Only the code: what defaults know.
    pub(super) fn of_code(code: &'a str) -> Self {
        Self {
            scalars: BTreeMap::new(),
            code,
            item: None,
        }
    }

    /// The set's values, then those of the site's entry in the list.
    pub(super) fn of_item(code: &'a str, values: Option<&'a Node>, item: &'a Node) -> Self {
        let own = item.entries().iter();
        let shared = values.map(Node::entries).unwrap_or_default().iter();
        let scalars = shared
            .chain(own)
            .filter_map(|(key, node)| match &node.kind {
                Kind::Scalar(scalar) if scalar.meaning != Meaning::Null => {
                    Some((&*key.text, scalar))
                }
                _ => None,
            })
            .collect();
        Self {
            scalars,
            code,
            item: Some(item.spot),
        }
    }

    fn text(&self, name: &str) -> Option<String> {
        let (name, lower) = match name.strip_suffix(".lower") {
            Some(name) => (name, true),
            None => (name, false),
        };
        let text = match name {
            "code" => self.code,
            name => &self.scalars.get(name)?.text,
        };
        Some(if lower {
            text.to_lowercase()
        } else {
            text.to_owned()
        })
    }
}

/// Whether anything in the tree stands for something else.
pub(super) fn has_placeholder(node: &Node) -> bool {
    match &node.kind {
        Kind::Scalar(scalar) => scalar.text.contains("$("),
        Kind::Seq(items) => items.iter().any(has_placeholder),
        Kind::Map(entries) => entries
            .iter()
            .any(|(key, value)| key.text.contains("$(") || has_placeholder(value)),
    }
}

/// The names used in a tree, without `.lower`.
pub(super) fn names_used(node: &Node, names: &mut BTreeSet<String>) {
    let mut take = |text: &str| {
        for part in pieces(text) {
            if let Piece::Name(name) = part {
                names.insert(name.strip_suffix(".lower").unwrap_or(name).to_owned());
            }
        }
    };
    match &node.kind {
        Kind::Scalar(scalar) => take(&scalar.text),
        Kind::Seq(items) => items.iter().for_each(|item| names_used(item, names)),
        Kind::Map(entries) => {
            for (key, _) in entries {
                take(&key.text);
            }
            for (_, value) in entries {
                names_used(value, names);
            }
        }
    }
}

/// The tree with every `$(KEY)` replaced.
pub(super) fn stamped(node: &Node, variables: &Variables<'_>, findings: &mut Findings) -> Node {
    let kind = match &node.kind {
        Kind::Scalar(scalar) => {
            Kind::Scalar(stamped_scalar(scalar, node.spot, variables, findings))
        }
        Kind::Seq(items) => Kind::Seq(
            items
                .iter()
                .map(|item| stamped(item, variables, findings))
                .collect(),
        ),
        Kind::Map(entries) => Kind::Map(stamped_map(entries, variables, findings)),
    };
    Node {
        kind,
        spot: node.spot,
    }
}

fn stamped_scalar(
    scalar: &Scalar,
    spot: Spot,
    variables: &Variables<'_>,
    findings: &mut Findings,
) -> Scalar {
    if scalar.meaning != Meaning::Text || !scalar.text.contains("$(") {
        return scalar.clone();
    }
    // A value that is nothing but `$(KEY)`, without quotes, takes the kind of its value too.
    if scalar.plain
        && let [Piece::Name(name)] = pieces(&scalar.text).as_slice()
        && let Some(value) = variables.scalars.get(name)
    {
        return (*value).clone();
    }
    Scalar {
        text: replaced(&scalar.text, spot, variables, findings).into(),
        ..scalar.clone()
    }
}

fn stamped_map(
    entries: &[(Key, Node)],
    variables: &Variables<'_>,
    findings: &mut Findings,
) -> Vec<(Key, Node)> {
    let mut result: Vec<(Key, Node)> = Vec::with_capacity(entries.len());
    let mut replaced_keys: BTreeMap<Arc<str>, Spot> = BTreeMap::new();
    for (key, value) in entries {
        let value = stamped(value, variables, findings);
        if !key.text.contains("$(") {
            result.push((key.clone(), value));
            continue;
        }
        let text: Arc<str> = replaced(&key.text, key.spot, variables, findings).into();
        let spot = key.spot;
        let twice = replaced_keys.insert(Arc::clone(&text), spot).or_else(|| {
            entries
                .iter()
                .find(|(other, _)| other.text == text)
                .map(|(other, _)| other.spot)
        });
        if let Some(first) = twice {
            let message = format!("`{}` becomes `{text}`, which is here already", key.text);
            findings.add(
                of_item(Finding::error("duplicate-key", spot, message), variables)
                    .related(first, "the first one"),
            );
            continue;
        }
        result.push((Key { text, spot }, value));
    }
    result
}

fn of_item(finding: Finding, variables: &Variables<'_>) -> Finding {
    match variables.item {
        Some(item) => finding.related(item, format!("for site {}", variables.code)),
        None => finding,
    }
}

/// A piece of a text with placeholders.
enum Piece<'a> {
    Name(&'a str),
    Text(&'a str),
    /// `$(` without an end.
    Unclosed,
}

fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("$(") {
        if rest[..at].ends_with('$') {
            pieces.push(Piece::Text(&rest[..at - 1]));
            pieces.push(Piece::Text("$("));
            rest = &rest[at + 2..];
            continue;
        }
        if at > 0 {
            pieces.push(Piece::Text(&rest[..at]));
        }
        let inner = &rest[at + 2..];
        let Some(end) = inner.find(')') else {
            pieces.push(Piece::Unclosed);
            return pieces;
        };
        pieces.push(Piece::Name(&inner[..end]));
        rest = &inner[end + 1..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    pieces
}

fn replaced(text: &str, spot: Spot, variables: &Variables<'_>, findings: &mut Findings) -> String {
    let mut result = String::with_capacity(text.len());
    for piece in pieces(text) {
        match piece {
            Piece::Text(text) => result.push_str(text),
            Piece::Name(name) => match variables.text(name) {
                Some(value) => result.push_str(&value),
                None => findings.add(unknown(name, spot, variables)),
            },
            Piece::Unclosed => {
                let message = format!("`{text}` opens `$(` and doesn't close it");
                let finding = Finding::error("placeholder", spot, message);
                findings.add(finding.hint("`$$(` stands for `$(` itself"));
            }
        }
    }
    result
}

fn unknown(name: &str, spot: Spot, variables: &Variables<'_>) -> Finding {
    let message = format!("`$({name})` has no value");
    let finding = Finding::error("placeholder", spot, message);
    let hint = if variables.item.is_some() {
        format!("give `{name}` in the site's entry or in `values`; `$$(` stands for `$(` itself")
    } else {
        "defaults know `$(code)` and `$(code.lower)`; `$$(` stands for `$(` itself".to_owned()
    };
    of_item(finding.hint(hint), variables)
}
