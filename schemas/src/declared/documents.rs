//! From trees to what they are: one hierarchy, the sites with their defaults, settings.
//!
//! Site sets are stamped out here and defaults merged in (JSON merge patch), so that everything
//! behind this file sees whole sites, each value with the place it was written at. Neither schema
//! nor meaning is judged here, only which document is what.

use std::collections::{BTreeMap, BTreeSet};

use super::problem::{Finding, Findings};
use super::stamp::{Budget, Cost, Variables, names_used, stamped};
use super::tree::{Key, Kind, Node, Spot};
use super::types::{API_VERSION, DocumentKind};
use super::words::nearest;
use crate::names::SiteCode;

/// A site as it is after templates, patches and defaults.
#[derive(Debug, Clone)]
pub struct EffectiveSite {
    /// Its code.
    pub code: SiteCode,
    /// The whole document.
    pub tree: Node,
    /// Where its code is written.
    pub spot: Spot,
    /// Its entry in the list of a SiteSet, where it comes from one.
    pub item: Option<Spot>,
}

/// What the documents of a topology are.
#[derive(Debug, Default)]
pub(super) struct Documents {
    /// The one hierarchy.
    pub(super) hierarchy: Option<Node>,
    /// Sites by code.
    pub(super) sites: BTreeMap<SiteCode, EffectiveSite>,
    /// Site sets as written.
    pub(super) sets: Vec<Node>,
    /// Settings documents as written.
    pub(super) settings: Vec<(DocumentKind, Node)>,
    /// Whether a document couldn't be understood: what isn't found may be in it.
    pub(super) lost: bool,
}

/// Sorts documents by kind and makes whole sites.
pub(super) fn assemble(trees: Vec<Node>, lost: bool, findings: &mut Findings) -> Documents {
    let mut documents = Documents {
        lost,
        ..Documents::default()
    };
    let mut sites = Vec::new();
    let mut names = BTreeMap::new();
    for tree in trees {
        match kind_of(&tree, findings) {
            None => documents.lost = true,
            Some(DocumentKind::Hierarchy) => documents.take_hierarchy(tree, findings),
            Some(DocumentKind::Site) => sites.push(tree),
            Some(DocumentKind::SiteSet) => {
                set_name_is_new(&tree, &mut names, findings);
                documents.sets.push(tree);
            }
            Some(kind) => documents.settings.push((kind, tree)),
        }
    }
    let sets = std::mem::take(&mut documents.sets);
    let mut found = Vec::new();
    for site in sites {
        match site_code(&site, findings) {
            Some((code, spot)) => found.push((code, site, spot, None)),
            None => documents.lost = true,
        }
    }
    let mut budget = Budget::new(super::STAMPED_MAX, super::BYTES_MAX);
    for set in &sets {
        documents.lost |= !stamp_set(set, &mut found, &mut budget, findings);
    }
    documents.sets = sets;
    let defaults = Defaults::of(documents.hierarchy.as_ref());
    for (code, tree, spot, item) in found {
        let Some(tree) = defaults.applied(&code, tree, &mut budget, findings) else {
            documents.lost = true;
            break;
        };
        documents.take_site(
            EffectiveSite {
                code,
                tree,
                spot,
                item,
            },
            findings,
        );
    }
    documents
}

impl Documents {
    fn take_hierarchy(&mut self, tree: Node, findings: &mut Findings) {
        let Some(first) = &self.hierarchy else {
            self.hierarchy = Some(tree);
            return;
        };
        let spot = spot_of_kind(&tree);
        findings.add(
            Finding::error(
                "one-hierarchy",
                spot,
                "a topology has one Hierarchy document, this is another one",
            )
            .related(spot_of_kind(first), "the first one"),
        );
    }

    fn take_site(&mut self, site: EffectiveSite, findings: &mut Findings) {
        let Some(first) = self.sites.get(&site.code) else {
            self.sites.insert(site.code.clone(), site);
            return;
        };
        let message = format!("site {} is declared twice", site.code);
        findings.add(
            Finding::error("duplicate-site", site.spot, message)
                .related(first.spot, "the first one")
                .hint("a site code names one site of the hierarchy"),
        );
    }
}

fn spot_of_kind(tree: &Node) -> Spot {
    tree.get("kind").map_or(tree.spot, |kind| kind.spot)
}

/// Which kind a document is; tells why it is none.
pub(super) fn kind_of(tree: &Node, findings: &mut Findings) -> Option<DocumentKind> {
    let version = tree.get("apiVersion");
    let text = version.and_then(Node::text);
    match (text, version) {
        (Some(API_VERSION), _) => {}
        (Some(other), Some(node)) if other.starts_with("stead/") => {
            let message = format!("`{other}` is no version of the format: write `{API_VERSION}`");
            findings.add(Finding::error("api-version", node.spot, message));
            return None;
        }
        _ => {
            findings.add(
                Finding::error(
                    "api-version",
                    version.map_or_else(|| start(tree), |node| node.spot),
                    format!("this YAML document doesn't begin with `apiVersion: {API_VERSION}`"),
                )
                .hint("files that aren't Stead's are left out by `.steadignore`"),
            );
            return None;
        }
    }
    let Some(kind) = tree.get("kind") else {
        let message = "the document doesn't say its `kind`: Hierarchy, Site or SiteSet";
        findings.add(Finding::error("kind", start(tree), message));
        return None;
    };
    let name = kind.text().unwrap_or_default();
    let known = DocumentKind::of(name);
    if known.is_none() {
        let mut finding = Finding::error(
            "kind",
            kind.spot,
            format!(
                "`{name}` is no kind: write Hierarchy, Site, SiteSet, ReconcilerConfig or AgentConfig"
            ),
        );
        if let Some(near) = nearest(name, DocumentKind::ALL.iter().map(|kind| kind.name())) {
            finding = finding.hint(format!("did you mean `{near}`?"));
        }
        findings.add(finding);
    }
    known
}

/// The first line of a document, not all of it.
fn start(tree: &Node) -> Spot {
    let spot = tree
        .entries()
        .first()
        .map_or(tree.spot, |(key, _)| key.spot);
    Spot {
        end: spot.end.min(spot.start + 80),
        ..spot
    }
}

fn site_code(site: &Node, findings: &mut Findings) -> Option<(SiteCode, Spot)> {
    let Some(name) = site.at(&["metadata", "name"]) else {
        let spot = site
            .entry("metadata")
            .map_or_else(|| start(site), |(key, _)| key.spot);
        let message = "a site has a code: write `metadata: {name: P01}`";
        findings.add(Finding::error("missing", spot, message));
        return None;
    };
    code_at(name, findings)
}

fn code_at(node: &Node, findings: &mut Findings) -> Option<(SiteCode, Spot)> {
    let written = match &node.kind {
        Kind::Scalar(scalar) => &*scalar.text,
        Kind::Map(_) | Kind::Seq(_) => "",
    };
    match SiteCode::new(node.text().unwrap_or_default()) {
        Ok(code) => Some((code, node.spot)),
        Err(error) => {
            let mut finding = Finding::error("site-code", node.spot, error.to_string());
            if node.text().is_none() && !written.is_empty() {
                finding = Finding::error(
                    "site-code",
                    node.spot,
                    format!("`{written}` is a number here: quote it: \"{written}\""),
                );
            }
            findings.add(finding);
            None
        }
    }
}

fn set_name_is_new(set: &Node, names: &mut BTreeMap<String, Spot>, findings: &mut Findings) {
    let Some(name) = set.at(&["metadata", "name"]) else {
        return;
    };
    let text = name.text().unwrap_or_default().to_owned();
    if let Some(first) = names.insert(text.clone(), name.spot) {
        let message = format!("there is a SiteSet `{text}` already");
        findings.add(
            Finding::error("duplicate-set", name.spot, message).related(first, "the first one"),
        );
    }
}

type Found = (SiteCode, Node, Spot, Option<Spot>);

/// Stamps a set's sites out; false where an entry couldn't be understood.
fn stamp_set(
    set: &Node,
    found: &mut Vec<Found>,
    budget: &mut Budget,
    findings: &mut Findings,
) -> bool {
    let (Some(template), Some(list)) = (set.at(&["spec", "template"]), set.at(&["spec", "sites"]))
    else {
        return false;
    };
    let values = set.at(&["spec", "values"]);
    let mut complete = true;
    let cost = Cost::of(template);
    for item in list.items() {
        let code = match item.get("code") {
            Some(code) => code_at(code, findings),
            None => {
                let message = "an entry of a SiteSet has a code: `{code: S01, ...}`";
                findings.add(Finding::error("missing", item.spot, message));
                None
            }
        };
        let Some((code, spot)) = code else {
            complete = false;
            continue;
        };
        let variables = Variables::of_item(code.as_str(), values, item);
        if !cost.take(&variables, budget, item.spot, findings) {
            return false;
        }
        let mut parts = stamped(template, &variables, findings);
        if let Some(patch) = item.get("patch") {
            if !Cost::of(patch).take(&variables, budget, item.spot, findings) {
                return false;
            }
            parts = parts.layered(&stamped(patch, &variables, findings));
        }
        found.push((
            code.clone(),
            whole(set, &code, spot, parts),
            spot,
            Some(item.spot),
        ));
    }
    unused_values(template, values, list, findings);
    complete
}

/// A site document from the parts of a template.
fn whole(set: &Node, code: &SiteCode, spot: Spot, parts: Node) -> Node {
    let key = |text: &str, spot| Key {
        text: text.into(),
        spot,
    };
    let at = |name: &str| set.get(name).map_or(set.spot, |node| node.spot);
    let mut metadata = parts
        .get("metadata")
        .cloned()
        .unwrap_or_else(|| Node::empty_map(spot));
    let name = (key("name", spot), Node::text_at(code.as_str(), spot));
    if let Kind::Map(entries) = &mut metadata.kind {
        entries.retain(|(key, _)| &*key.text != "name");
        entries.insert(0, name);
    }
    let version = Node::text_at(API_VERSION, at("apiVersion"));
    let kind = Node::text_at(DocumentKind::Site.name(), at("kind"));
    let mut entries = vec![
        (key("apiVersion", version.spot), version),
        (key("kind", kind.spot), kind),
        (key("metadata", metadata.spot), metadata),
    ];
    entries.extend(
        parts
            .entries()
            .iter()
            .filter(|(key, _)| &*key.text != "metadata")
            .cloned(),
    );
    Node {
        kind: Kind::Map(entries),
        spot,
    }
}

/// A key of an entry that nothing uses is most often a typo that falls back to `values`.
fn unused_values(template: &Node, values: Option<&Node>, list: &Node, findings: &mut Findings) {
    let mut used = BTreeSet::from(["code".to_owned(), "patch".to_owned()]);
    names_used(template, &mut used);
    for item in list.items() {
        if let Some(patch) = item.get("patch") {
            names_used(patch, &mut used);
        }
    }
    let entries = list.items().iter().chain(values).flat_map(Node::entries);
    for (key, _) in entries.filter(|(key, _)| !used.contains(&*key.text)) {
        let mut finding = Finding::warning(
            "unused-value",
            key.spot,
            format!("`{}` is used nowhere in the template", key.text),
        );
        if let Some(near) = nearest(&key.text, used.iter().map(String::as_str)) {
            finding = finding.hint(format!("did you mean `{near}`?"));
        }
        findings.add(finding);
    }
}

/// The hierarchy's defaults, merged for each site type.
struct Defaults {
    all: Option<(Node, Cost)>,
    by_type: BTreeMap<&'static str, (Node, Cost)>,
}

impl Defaults {
    fn of(hierarchy: Option<&Node>) -> Self {
        let of = |name: &str| hierarchy.and_then(|h| h.at(&["spec", "defaults", name]));
        let ready = |node: Node| {
            let cost = Cost::of(&node);
            (node, cost)
        };
        let nothing = Node::empty_map(Spot::default());
        let all = of("all").map(|all| nothing.merged(all));
        let by_type = ["central", "primary", "secondary"]
            .into_iter()
            .filter_map(|name| {
                let base = all.as_ref().unwrap_or(&nothing);
                Some((name, ready(base.merged(of(name)?))))
            })
            .collect();
        Self {
            all: all.map(ready),
            by_type,
        }
    }

    /// The site with what it doesn't say itself; none where that is too much.
    fn applied(
        &self,
        code: &SiteCode,
        site: Node,
        budget: &mut Budget,
        findings: &mut Findings,
    ) -> Option<Node> {
        let type_of = |node: &Node| node.get("type").and_then(Node::text).map(str::to_owned);
        let site_type = site
            .get("spec")
            .and_then(type_of)
            .or_else(|| self.all.as_ref().and_then(|(all, _)| type_of(all)));
        let base = site_type
            .and_then(|name| self.by_type.get(name.as_str()))
            .or(self.all.as_ref());
        let spot = site.spot;
        let Kind::Map(mut entries) = site.kind else {
            return Some(site);
        };
        let variables = Variables::of_code(code.as_str());
        if let Some((_, cost)) = base
            && !cost.take(&variables, budget, spot, findings)
        {
            return None;
        }
        for (key, spec) in &mut entries {
            if &*key.text != "spec" {
                continue;
            }
            let nothing = Node::empty_map(spec.spot);
            let whole = match base {
                None => nothing.merged(spec),
                Some((base, cost)) if cost.has_placeholder() => {
                    stamped(base, &variables, findings).merged(spec)
                }
                Some((base, _)) => base.merged(spec),
            };
            *spec = whole;
        }
        Some(Node {
            kind: Kind::Map(entries),
            spot,
        })
    }
}
