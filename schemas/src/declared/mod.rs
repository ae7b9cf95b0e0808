//! What operators write: from the bytes of YAML files to [`crate::desired::HierarchyDesired`].
//!
//! Pure: the caller reads folders or git objects and hands over bytes; nothing here opens a file,
//! asks a clock or looks a secret up. One way through: `yaml` makes trees, `documents` whole sites,
//! `validate` and `typed` hold them against the schema, `checks` against each other, `resolve`
//! makes what the planner reads.

mod checks;
pub mod config;
mod documents;
pub mod explain;
mod leased;
mod loosen;
pub mod problem;
pub mod render;
mod resolve;
mod scalar;
pub mod schema;
pub mod settings;
mod stamp;
pub mod tree;
mod typed;
pub mod types;
mod validate;
mod words;
pub mod yaml;

use std::collections::BTreeMap;

use self::checks::Topology;
pub use self::documents::EffectiveSite;
use self::problem::{Finding, Findings};
pub use self::problem::{Problem, Severity};
use self::tree::{Node, Sources, Spot};
use self::typed::{read_document, read_site};
use self::types::{DocumentKind, Hierarchy};
use crate::desired::HierarchyDesired;
use crate::names::SiteCode;

/// Most files of a topology.
pub const FILES_MAX: usize = 100_000;
/// Most bytes of a topology.
pub const BYTES_MAX: usize = 256 * 1024 * 1024;
/// Most values of a topology, aliases written out.
pub const NODES_MAX: usize = 4_000_000;

/// Most values of all sites, templates and defaults written out; the largest hierarchy has a third.
const STAMPED_MAX: usize = 2_000_000;

/// One file of the topology folder, as read by whoever reads files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Path within the folder, with `/`; shown in every message.
    pub path: String,
    /// The content, whatever it is.
    pub bytes: Vec<u8>,
}

impl SourceFile {
    /// A file from a path and its content.
    pub fn new(path: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            path: path.into(),
            bytes: bytes.into(),
        }
    }
}

/// What a check of a topology found.
#[derive(Debug)]
pub struct Checked {
    /// Errors and warnings, by file and line.
    pub problems: Vec<Problem>,
    /// What is declared; none exactly when there is an error.
    pub desired: Option<HierarchyDesired>,
    /// The hierarchy document, where there is one.
    pub hierarchy: Option<Node>,
    /// Whole sites, also of a topology with errors, for `render`.
    pub sites: BTreeMap<SiteCode, EffectiveSite>,
    /// What the spots in the trees point into.
    pub sources: Sources,
}

impl Checked {
    /// The errors alone.
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.problems
            .iter()
            .filter(|problem| problem.severity == Severity::Error)
    }

    /// The warnings alone.
    pub fn warnings(&self) -> impl Iterator<Item = &Problem> {
        self.problems
            .iter()
            .filter(|problem| problem.severity == Severity::Warning)
    }
}

/// Checks a topology: syntax, schema, meaning, all in one pass.
#[must_use]
pub fn check(files: &[SourceFile]) -> Checked {
    let mut findings = Findings::default();
    let mut sources = Sources::default();
    let (trees, lost) = parse_all(files, &mut sources, &mut findings);
    findings.end_stage();
    let documents = documents::assemble(trees, lost, &mut findings);
    let hierarchy = read_hierarchy(&documents, &mut findings);
    for set in &documents.sets {
        validate::document_fits(set, DocumentKind::SiteSet, &mut findings);
    }
    for (kind, tree) in &documents.settings {
        config::check_document(*kind, tree, &mut findings);
    }
    findings.end_stage();
    let mut read = Vec::with_capacity(documents.sites.len());
    for site in documents.sites.values() {
        if findings.is_flooded() {
            break;
        }
        let mut value = site.tree.value();
        let damage = validate::site_fits(site, &mut value, &mut findings);
        read.extend(read_site(site, value, damage, &mut findings));
    }
    findings.end_stage();
    let topology = Topology {
        hierarchy: hierarchy.as_ref().zip(documents.hierarchy.as_ref()),
        sites: read.iter().map(|site| (&site.site.code, site)).collect(),
        codes: documents.sites.keys().collect(),
        lost: documents.lost,
    };
    checks::run(&topology, &mut findings);
    let desired = match &hierarchy {
        Some(hierarchy) if !findings.any_error() => {
            Some(resolve::resolve(hierarchy, &read, &sources))
        }
        _ => None,
    };
    Checked {
        problems: findings.finish(&sources),
        desired,
        hierarchy: documents.hierarchy,
        sites: documents.sites,
        sources,
    }
}

/// The hierarchy, where there is one without errors of its own.
fn read_hierarchy(documents: &documents::Documents, findings: &mut Findings) -> Option<Hierarchy> {
    let Some(tree) = &documents.hierarchy else {
        if !documents.lost {
            let message = "there is no Hierarchy document: a topology has one";
            findings.add(Finding::error("one-hierarchy", Spot::start_of(0), message));
        }
        return None;
    };
    if validate::document_fits(tree, DocumentKind::Hierarchy, findings) {
        read_document(tree, findings)
    } else {
        None
    }
}

/// The documents of all files, in the order of their paths.
fn parse_all(
    files: &[SourceFile],
    sources: &mut Sources,
    findings: &mut Findings,
) -> (Vec<Node>, bool) {
    let mut order: Vec<&SourceFile> = files.iter().collect();
    order.sort_by(|a, b| a.path.cmp(&b.path));
    let mut trees = Vec::new();
    let mut lost = false;
    let (mut bytes, mut nodes) = (0, 0);
    for (count, source) in order.into_iter().enumerate() {
        let file = sources.add(&source.path);
        bytes += source.bytes.len();
        if count >= FILES_MAX || bytes > BYTES_MAX || nodes > NODES_MAX {
            let spot = Spot::start_of(file);
            let message = format!(
                "the topology is too large from here on: at most {FILES_MAX} files, {BYTES_MAX} \
                 bytes, {NODES_MAX} values"
            );
            findings.add(Finding::error("too-large", spot, message));
            return (trees, true);
        }
        let parsed = yaml::parse(source, file, findings);
        nodes += parsed.nodes;
        lost |= parsed.lost;
        trees.extend(parsed.documents);
    }
    (trees, lost)
}

#[cfg(test)]
mod tests;
