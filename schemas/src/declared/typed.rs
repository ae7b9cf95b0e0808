//! From a whole site's tree to its type, keeping what is whole of a damaged one.
//!
//! Where a part can't be read, the error is told, the part taken out and the rest read all the
//! same: a mistake in one role group must not hide one in another (H37). What was taken out is
//! remembered, so that no check complains of its absence.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use super::documents::EffectiveSite;
use super::problem::{Finding, Findings};
use super::tree::{Node, Spot, Step};
use super::types::{Site, SiteSpec};

/// A site that could be read, perhaps in parts.
#[derive(Debug)]
pub(super) struct ReadSite<'a> {
    /// Where it is from.
    pub(super) site: &'a EffectiveSite,
    /// What it says; damaged parts are left out.
    pub(super) document: Site,
    /// What couldn't be read.
    pub(super) damage: Damage,
}

/// Parts of a site that couldn't be read.
#[derive(Debug, Default)]
pub(super) struct Damage {
    /// Keys of `spec`.
    parts: BTreeSet<String>,
    /// Names below `spec.servers`.
    pub(super) servers: BTreeSet<String>,
    /// Names below `spec.roles`.
    pub(super) groups: BTreeSet<String>,
    /// The whole site.
    opaque: bool,
}

impl Damage {
    /// Whether these keys of `spec` could be read wholly.
    pub(super) fn intact(&self, parts: &[&str]) -> bool {
        parts.iter().all(|part| {
            !self.parts.contains(*part)
                && (*part != "servers" || self.servers.is_empty())
                && (*part != "roles" || self.groups.is_empty())
        })
    }

    /// Whether a key of `spec` could be read, apart from single entries below it.
    pub(super) fn part_intact(&self, part: &str) -> bool {
        !self.parts.contains(part)
    }

    /// Takes the part at a path out of a site's value and remembers it.
    pub(super) fn take(&mut self, path: &[Step<'_>], value: &mut Value) {
        match path {
            [Step::Key("spec"), Step::Key("type"), ..] => self.opaque = true,
            [
                Step::Key("spec"),
                Step::Key(map @ ("servers" | "roles")),
                Step::Key(name),
                ..,
            ] => {
                let names = if *map == "servers" {
                    &mut self.servers
                } else {
                    &mut self.groups
                };
                names.insert((*name).to_owned());
                remove(value, &["spec", map, name]);
            }
            [Step::Key("spec"), Step::Key(part), ..] => {
                self.parts.insert((*part).to_owned());
                remove(value, &["spec", part]);
            }
            [Step::Key("metadata"), Step::Key("labels"), ..] => {
                remove(value, &["metadata", "labels"]);
            }
            _ => self.opaque = true,
        }
    }

    /// Remembers that a part is missing because its name is misspelt.
    pub(super) fn misspelt(&mut self, part: &str) {
        self.parts.insert(part.to_owned());
    }
}

fn remove(value: &mut Value, path: &[&str]) {
    let Some((last, above)) = path.split_last() else {
        return;
    };
    let map = above
        .iter()
        .try_fold(value, |value, key| value.get_mut(*key));
    if let Some(Value::Object(map)) = map {
        map.shift_remove(*last);
    }
}

impl ReadSite<'_> {
    /// What the site says.
    pub(super) fn spec(&self) -> &SiteSpec {
        &self.document.spec
    }

    /// The spot of the value at a path below `spec`, or of what there is on the way to it.
    pub(super) fn spot(&self, path: &[&str]) -> Spot {
        let steps: Vec<Step<'_>> = std::iter::once(Step::Key("spec"))
            .chain(path.iter().map(|key| match key.parse() {
                Ok(index) => Step::Index(index),
                Err(_) => Step::Key(key),
            }))
            .collect();
        let (key, node) = self.site.tree.walk(&steps);
        label(key.map(|key| key.spot), node)
    }

    /// The spot of the key at a path below `spec`.
    pub(super) fn key_spot(&self, path: &[&str]) -> Spot {
        let steps: Vec<Step<'_>> = std::iter::once(Step::Key("spec"))
            .chain(path.iter().copied().map(Step::Key))
            .collect();
        let (key, node) = self.site.tree.walk(&steps);
        key.map_or(node.spot, |key| key.spot)
    }

    /// An error of this site; names the list's line where it comes from a set.
    pub(super) fn error(
        &self,
        code: &'static str,
        spot: Spot,
        message: impl Into<String>,
    ) -> Finding {
        self.own(Finding::error(code, spot, message))
    }

    /// A warning of this site.
    pub(super) fn warning(
        &self,
        code: &'static str,
        spot: Spot,
        message: impl Into<String>,
    ) -> Finding {
        self.own(Finding::warning(code, spot, message))
    }

    fn own(&self, finding: Finding) -> Finding {
        of_site(self.site, finding)
    }
}

/// A finding that belongs to a site.
pub(super) fn of_site(site: &EffectiveSite, finding: Finding) -> Finding {
    let finding = finding.of_site(&site.code);
    match site.item {
        Some(item) => finding.related(item, format!("for site {}", site.code)),
        None => finding,
    }
}

/// What to mark for a node: the value where it is short, its key where it is a collection.
pub(super) fn label(key: Option<Spot>, node: &Node) -> Spot {
    match (&node.kind, key) {
        (super::tree::Kind::Map(_) | super::tree::Kind::Seq(_), Some(key)) => key,
        _ => node.spot,
    }
}

/// Parts of a site that are taken out before it counts as unreadable.
const ROUNDS_MAX: usize = 32;

/// Reads a site; `value` and `damage` are what the schema check left of it.
pub(super) fn read_site<'a>(
    site: &'a EffectiveSite,
    mut value: Value,
    mut damage: Damage,
    findings: &mut Findings,
) -> Option<ReadSite<'a>> {
    // Each round takes one part out that the schema let pass; of more, the site is given up.
    for _ in 0..ROUNDS_MAX {
        if damage.opaque {
            return None;
        }
        match read::<Site>(value.clone()) {
            Ok(document) => {
                return Some(ReadSite {
                    site,
                    document,
                    damage,
                });
            }
            Err((path, message)) => {
                let steps = steps(&path);
                findings.add(of_site(site, unreadable(&site.tree, &steps, message)));
                damage.take(&steps, &mut value);
            }
        }
    }
    None
}

/// Reads a document that is no site.
pub(super) fn read_document<T: DeserializeOwned>(
    tree: &Node,
    findings: &mut Findings,
) -> Option<T> {
    match read(tree.value()) {
        Ok(document) => Some(document),
        Err((path, message)) => {
            findings.add(unreadable(tree, &steps(&path), message));
            None
        }
    }
}

fn read<T: DeserializeOwned>(value: Value) -> Result<T, (Path, String)> {
    serde_path_to_error::deserialize(value)
        .map_err(|error| (error.path().clone(), error.inner().to_string()))
}

fn unreadable(tree: &Node, steps: &[Step<'_>], message: String) -> Finding {
    let (key, node) = tree.walk(steps);
    Finding::error("value", label(key.map(|key| key.spot), node), message)
}

fn steps(path: &Path) -> Vec<Step<'_>> {
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(Step::Index(*index)),
            Segment::Map { key } => Some(Step::Key(key)),
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect()
}
