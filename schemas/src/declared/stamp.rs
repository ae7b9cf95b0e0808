//! Stamping sites out of a SiteSet: `$(KEY)` in strings and keys, after parsing.
//!
//! Every node of a stamped site keeps the place of the template line (or patch line) it came from.
//! Merging with defaults is `documents`' business.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::problem::{Finding, Findings};
use super::tree::{Key, Kind, Meaning, Node, Scalar, Spot};

/// Longest text that replacing may make.
const TEXT_MAX: usize = 4_096;

/// What all stamped sites together may take: a template times a list has no bound of its own.
#[derive(Debug)]
pub(super) struct Budget {
    values: usize,
    bytes: usize,
    told: bool,
}

impl Budget {
    pub(super) const fn new(values: usize, bytes: usize) -> Self {
        Self {
            values,
            bytes,
            told: false,
        }
    }

    /// Takes from the budget; false, told once, when there is not enough left.
    fn take(&mut self, values: usize, bytes: usize, spot: Spot, findings: &mut Findings) -> bool {
        if let (Some(values), Some(bytes)) = (
            self.values.checked_sub(values),
            self.bytes.checked_sub(bytes),
        ) {
            (self.values, self.bytes) = (values, bytes);
            return true;
        }
        if !self.told {
            self.told = true;
            let message = "the sites are too large together, templates and defaults written out";
            findings.add(Finding::error("too-large", spot, message));
        }
        false
    }
}

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

    /// Length of the longest value, as far as values are used.
    fn longest(&self) -> usize {
        let values = self.scalars.values().map(|scalar| scalar.text.len());
        let longest = values.max().unwrap_or(0).max(self.code.len());
        longest.min(TEXT_MAX)
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

/// What stamping a tree takes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cost {
    values: usize,
    bytes: usize,
    placeholders: usize,
}

impl Cost {
    pub(super) fn of(node: &Node) -> Self {
        let mut cost = Self::default();
        cost.add(node);
        cost
    }

    /// Whether anything in the tree stands for something else.
    pub(super) const fn has_placeholder(self) -> bool {
        self.placeholders > 0
    }

    /// Takes what stamping with these variables needs at most from the budget.
    pub(super) fn take(
        self,
        variables: &Variables<'_>,
        budget: &mut Budget,
        spot: Spot,
        findings: &mut Findings,
    ) -> bool {
        let replaced = self.placeholders.saturating_mul(variables.longest());
        budget.take(
            self.values,
            self.bytes.saturating_add(replaced),
            spot,
            findings,
        )
    }

    fn add(&mut self, node: &Node) {
        self.values += 1;
        match &node.kind {
            Kind::Scalar(scalar) => self.add_text(&scalar.text),
            Kind::Seq(items) => items.iter().for_each(|item| self.add(item)),
            Kind::Map(entries) => {
                for (key, value) in entries {
                    self.add_text(&key.text);
                    self.add(value);
                }
            }
        }
    }

    fn add_text(&mut self, text: &str) {
        let placeholders = text.matches("$(").count();
        if placeholders > 0 {
            self.bytes += text.len();
            self.placeholders += placeholders;
        }
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
    let replaced_any = entries.iter().any(|(key, _)| key.text.contains("$("));
    let mut seen: BTreeMap<Arc<str>, Spot> = BTreeMap::new();
    for (key, value) in entries {
        let value = stamped(value, variables, findings);
        if !replaced_any {
            result.push((key.clone(), value));
            continue;
        }
        let spot = key.spot;
        let text: Arc<str> = if key.text.contains("$(") {
            replaced(&key.text, spot, variables, findings).into()
        } else {
            Arc::clone(&key.text)
        };
        if let Some(first) = seen.insert(Arc::clone(&text), spot) {
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
        if result.len() > TEXT_MAX {
            let message = format!("this becomes longer than {TEXT_MAX} characters");
            findings.add(of_item(
                Finding::error("placeholder", spot, message),
                variables,
            ));
            break;
        }
        match piece {
            Piece::Text(text) => result.push_str(text),
            Piece::Name(name) => match variables.text(name) {
                Some(value) if value.len() <= TEXT_MAX => result.push_str(&value),
                Some(_) => {
                    let message = format!("`$({name})` is longer than {TEXT_MAX} characters");
                    findings.add(of_item(
                        Finding::error("placeholder", spot, message),
                        variables,
                    ));
                }
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
