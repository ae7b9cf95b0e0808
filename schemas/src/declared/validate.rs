//! Holding a document against its schema, and saying in words what differs.
//!
//! The validator's errors name a path in the instance and one in the schema; here each becomes a
//! finding at the line it is about. Values are echoed unless a secret could stand there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::paths::{Location, LocationSegment};
use jsonschema::{JsonType, ValidationError, Validator};
use serde_json::Value;

use super::documents::EffectiveSite;
use super::problem::{Finding, Findings};
use super::schema;
use super::tree::{Kind, Node, Spot, Step};
use super::typed::{Damage, label, of_site};
use super::types::DocumentKind;
use super::words::{list, nearest};

/// More schema errors of one document are not told.
const ERRORS_MAX: usize = 100;

/// A compiled schema, and its text for messages.
struct Compiled {
    validator: Validator,
    schema: Value,
    /// What a pattern means in words.
    patterns: BTreeMap<String, String>,
}

impl Compiled {
    fn new(schema: Value) -> Self {
        let mut patterns = BTreeMap::new();
        collect_patterns(&schema, &mut patterns);
        let validator = jsonschema::options()
            .should_validate_formats(true)
            .build(&schema)
            .expect("a test compiles every schema");
        Self {
            validator,
            schema,
            patterns,
        }
    }

    /// Compiled when first needed: most checks need two of them.
    fn of(kind: DocumentKind) -> &'static Self {
        static KINDS: [OnceLock<Compiled>; DocumentKind::ALL.len()] =
            [const { OnceLock::new() }; DocumentKind::ALL.len()];
        KINDS[kind as usize].get_or_init(|| Self::new(schema::json_schema(kind)))
    }

    fn whole_site() -> &'static Self {
        static SITE: OnceLock<Compiled> = OnceLock::new();
        SITE.get_or_init(|| Self::new(schema::whole_site_schema()))
    }
}

fn collect_patterns(schema: &Value, patterns: &mut BTreeMap<String, String>) {
    match schema {
        Value::Array(items) => items
            .iter()
            .for_each(|item| collect_patterns(item, patterns)),
        Value::Object(object) => {
            if let (Some(Value::String(pattern)), Some(Value::String(words))) =
                (object.get("pattern"), object.get("patternErrorMessage"))
            {
                patterns.insert(pattern.clone(), words.clone());
            }
            object
                .values()
                .for_each(|value| collect_patterns(value, patterns));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Holds a document as written against its kind; whether it fits.
pub(super) fn document_fits(tree: &Node, kind: DocumentKind, findings: &mut Findings) -> bool {
    let compiled = Compiled::of(kind);
    let errors = Teller { compiled, tree }.errors(&tree.value());
    let fits = errors.is_empty();
    if errors.len() >= ERRORS_MAX {
        findings.flood();
    }
    for (_, finding) in errors {
        findings.add_unless_told(finding);
    }
    fits
}

/// Holds a whole site against the strict schema; what doesn't fit is taken out of the value.
pub(super) fn site_fits(
    site: &EffectiveSite,
    value: &mut Value,
    findings: &mut Findings,
) -> Damage {
    let compiled = Compiled::whole_site();
    let mut damage = Damage::default();
    if compiled.validator.is_valid(value) {
        return damage;
    }
    let tree = &site.tree;
    for (wrong, finding) in (Teller { compiled, tree }).errors(value) {
        findings.add_unless_told(of_site(site, finding));
        let steps: Vec<Step<'_>> = wrong.path.iter().map(Segment::step).collect();
        damage.take(&steps, value);
        if let ([Segment::Key(_), Segment::Key(_)], Some(meant)) = (&*wrong.path, wrong.meant) {
            damage.misspelt(meant);
        }
    }
    damage
}

/// A step on the way to what is wrong, owned.
#[derive(Debug, Clone)]
enum Segment {
    Index(usize),
    Key(String),
}

impl Segment {
    fn step(&self) -> Step<'_> {
        match self {
            Self::Index(index) => Step::Index(*index),
            Self::Key(key) => Step::Key(key),
        }
    }
}

/// Where something is wrong.
struct Wrong {
    path: Vec<Segment>,
    /// For a misspelt key: which one was meant.
    meant: Option<&'static str>,
    /// For a missing key: which one.
    missing: Option<String>,
}

impl Wrong {
    const fn at(path: Vec<Segment>) -> Self {
        Self {
            path,
            meant: None,
            missing: None,
        }
    }
}

/// Puts one document's errors into words.
struct Teller<'t> {
    compiled: &'static Compiled,
    tree: &'t Node,
}

impl Teller<'_> {
    /// What differs; a key that is missing because it is misspelt is told once (H37).
    fn errors(&self, value: &Value) -> Vec<(Wrong, Finding)> {
        let mut told = Vec::new();
        for error in self.compiled.validator.iter_errors(value).take(ERRORS_MAX) {
            self.tell(&error, &mut told);
        }
        let misspelt: BTreeSet<(String, &str)> = told
            .iter()
            .filter_map(|(wrong, _)| {
                let above = wrong.path.split_last()?.1;
                Some((in_words(above), wrong.meant?))
            })
            .collect();
        told.retain(|(wrong, _)| {
            let missing = wrong.missing.as_deref();
            missing.is_none_or(|name| !misspelt.contains(&(in_words(&wrong.path), name)))
        });
        told
    }

    fn tell(&self, error: &ValidationError<'_>, told: &mut Vec<(Wrong, Finding)>) {
        let path = segments(error.instance_path());
        match error.kind() {
            ValidationErrorKind::AnyOf { context }
            | ValidationErrorKind::OneOfNotValid { context } => {
                self.tell_choice(error, context, &path, told);
            }
            ValidationErrorKind::AdditionalProperties { unexpected } => {
                for key in unexpected.iter().take(ERRORS_MAX) {
                    self.tell_unknown(error, key, &path, told);
                }
                if unexpected.len() > ERRORS_MAX {
                    told.push(self.too_many(unexpected.len() - ERRORS_MAX, path));
                }
            }
            ValidationErrorKind::Required { property } => {
                let name = property.as_str().unwrap_or_default();
                let finding = self.missing(name, &path);
                let missing = Some(name.to_owned());
                let wrong = Wrong::at(path);
                told.push((Wrong { missing, ..wrong }, finding));
            }
            _ => {
                let finding = self.wrong_value(error, &path);
                told.push((Wrong::at(path), finding));
            }
        }
    }

    /// Of several forms the one that fits best is told.
    fn tell_choice(
        &self,
        error: &ValidationError<'_>,
        context: &[Vec<ValidationError<'static>>],
        path: &[Segment],
        told: &mut Vec<(Wrong, Finding)>,
    ) {
        let depth = |branch: &Vec<ValidationError<'static>>| {
            let deepest = branch
                .iter()
                .map(|e| e.instance_path().as_str().len())
                .max();
            let fits_type = !branch
                .iter()
                .any(|e| matches!(e.kind(), ValidationErrorKind::Type { .. }));
            (deepest, fits_type)
        };
        let formats = context
            .iter()
            .flatten()
            .any(|e| matches!(e.kind(), ValidationErrorKind::Format { .. }));
        let best = context.iter().enumerate().max_by_key(|(at, branch)| {
            let (deepest, fits_type) = depth(branch);
            (deepest, fits_type, std::cmp::Reverse(*at))
        });
        match best {
            Some((_, branch)) if !formats && !branch.is_empty() => {
                for inner in branch {
                    self.tell(inner, told);
                }
            }
            _ => {
                let finding = self.wrong_value(error, path);
                told.push((Wrong::at(path.to_vec()), finding));
            }
        }
    }

    fn tell_unknown(
        &self,
        error: &ValidationError<'_>,
        key: &str,
        path: &[Segment],
        told: &mut Vec<(Wrong, Finding)>,
    ) {
        let (_, node) = self.walk(path);
        let spot = node.entry(key).map_or(node.spot, |(key, _)| key.spot);
        let above: Vec<LocationSegment<'_>> = error.schema_path().iter().collect();
        let schema = self.schema_at(&above[..above.len().saturating_sub(1)]);
        let known: Vec<&'static str> = schema
            .and_then(|schema| schema.get("properties")?.as_object())
            .map(|properties| properties.keys().map(String::as_str).collect())
            .unwrap_or_default();
        let mut segments = path.to_vec();
        segments.push(Segment::Key(key.to_owned()));
        let pattern = schema
            .and_then(|schema| schema.get("patternProperties")?.as_object()?.keys().next())
            .and_then(|pattern| self.compiled.patterns.get(pattern));
        let (finding, meant) = match pattern {
            Some(words) => {
                let message = format!("`{key}` is {words}");
                (Finding::error("name", spot, message), None)
            }
            None => unknown_key(key, path, &known, spot),
        };
        let wrong = Wrong::at(segments);
        told.push((Wrong { meant, ..wrong }, finding));
    }

    /// Keys beyond the first ones; the whole map counts as unreadable.
    fn too_many(&self, more: usize, path: Vec<Segment>) -> (Wrong, Finding) {
        let (key, node) = self.walk(&path);
        let message = format!("{} has {more} more keys that aren't known", in_words(&path));
        let finding = Finding::error("unknown-key", label(key, node), message);
        (Wrong::at(path), finding)
    }

    fn missing(&self, name: &str, path: &[Segment]) -> Finding {
        let (key, node) = self.walk(path);
        let spot = label(key, node);
        let mut finding = Finding::error(
            "missing",
            spot,
            format!("`{name}` is missing in {}", in_words(path)),
        );
        if let Some(words) = self.description(path, name) {
            finding = finding.hint(words);
        }
        match (name, path.last()) {
            // G-27: a schedule without a zone means something else in each console.
            ("timeZone", Some(Segment::Key(above))) if above == "backup" => finding.tag("G-27"),
            _ => finding,
        }
    }

    /// Marks the value, a list or map at its first character, as editors do (H37).
    fn wrong_value(&self, error: &ValidationError<'_>, path: &[Segment]) -> Finding {
        let (_, node) = self.walk(path);
        let sensitive = may_be_secret(path);
        let written = match (&node.kind, sensitive) {
            (Kind::Scalar(scalar), false) if scalar.text.len() <= 80 => {
                format!("`{}`", scalar.text)
            }
            (Kind::Scalar(_), _) => "the value".to_owned(),
            (Kind::Seq(_), _) => "a list".to_owned(),
            (Kind::Map(_), _) => "a map".to_owned(),
        };
        let (message, hint) = self.difference(error, path, &written, node, sensitive);
        let finding = Finding::error("value", node.spot, message).sensitive(sensitive);
        match hint {
            Some(hint) => finding.hint(hint),
            None => finding,
        }
    }

    /// What is wrong with a value, and a hint.
    fn difference(
        &self,
        error: &ValidationError<'_>,
        path: &[Segment],
        written: &str,
        node: &Node,
        sensitive: bool,
    ) -> (String, Option<String>) {
        use ValidationErrorKind as K;
        let what = in_words(path);
        match error.kind() {
            K::Type { kind } => type_difference(kind, &what, written, node, sensitive),
            K::Enum { options } => {
                let options: Vec<&str> = options
                    .as_array()
                    .map(|all| all.iter().filter_map(Value::as_str).collect())
                    .unwrap_or_default();
                let near = node
                    .text()
                    .and_then(|text| nearest(text, options.iter().copied()));
                let hint = near.map(|near| format!("did you mean `{near}`?"));
                let options = list(&options).replace(" and ", " or ");
                (format!("{what} is {options}, not {written}"), hint)
            }
            K::Constant { expected_value } => {
                let expected = expected_value.as_str().unwrap_or_default();
                (format!("{what} is `{expected}`, not {written}"), None)
            }
            K::Pattern { pattern } => {
                let words = self.compiled.patterns.get(pattern);
                let words = words.map_or("not of the form wanted", String::as_str);
                (format!("{written} is {words}"), Some(format!("in {what}")))
            }
            K::AnyOf { .. } | K::Format { .. } => (
                format!("{written} in {what} is no IPv4 or IPv6 address"),
                Some("write an address like 10.1.0.11 or 2001:db8::11, without a port".to_owned()),
            ),
            K::Minimum { limit } => (format!("{what} is at least {limit}, not {written}"), None),
            K::Maximum { limit } => (format!("{what} is at most {limit}, not {written}"), None),
            K::MinItems { limit } => (format!("{what} needs {limit} or more entries"), None),
            K::MaxItems { limit } => (format!("{what} takes at most {limit} entries"), None),
            K::MaxProperties { limit } => (format!("{what} takes at most {limit} entries"), None),
            K::MinLength { .. } => (format!("{what} is empty"), None),
            K::MaxLength { limit } => (format!("{what} takes at most {limit} characters"), None),
            other => (
                format!("{what} doesn't fit the schema ({})", other.keyword()),
                None,
            ),
        }
    }

    fn walk(&self, path: &[Segment]) -> (Option<Spot>, &Node) {
        let steps: Vec<Step<'_>> = path.iter().map(Segment::step).collect();
        let (key, node) = self.tree.walk(&steps);
        (key.map(|key| key.spot), node)
    }

    fn schema_at(&self, path: &[LocationSegment<'_>]) -> Option<&'static Value> {
        path.iter()
            .try_fold(&self.compiled.schema, |schema, segment| match segment {
                LocationSegment::Property(key) => schema.get(key.as_ref()),
                LocationSegment::Index(index) => schema.get(*index),
            })
    }

    /// The help text of a member of the map at a path.
    fn description(&self, path: &[Segment], name: &str) -> Option<String> {
        let keys = path.iter().map(|segment| match segment {
            Segment::Key(key) => key.as_str(),
            Segment::Index(_) => "0",
        });
        let schema = super::explain::descend(&self.compiled.schema, keys.chain([name]))?;
        let text = schema.get("description")?.as_str()?;
        Some(format!("{name}: {}", text.lines().next()?))
    }
}

fn segments(location: &Location) -> Vec<Segment> {
    location
        .iter()
        .map(|segment| match segment {
            LocationSegment::Property(key) => Segment::Key(key.into_owned()),
            LocationSegment::Index(index) => Segment::Index(index),
        })
        .collect()
}

fn unknown_key(
    key: &str,
    path: &[Segment],
    known: &[&'static str],
    spot: Spot,
) -> (Finding, Option<&'static str>) {
    let message = format!("`{key}` is no key of {}", in_words(path));
    let finding = Finding::error("unknown-key", spot, message);
    // H14: moving a site server is a failover, never a placement.
    if key == "moveAfter" && matches!(path.last(), Some(Segment::Key(k)) if k == "siteServer") {
        let hint = "a site server is never moved by the planner: declare a passive server";
        return (finding.tag("H14").hint(hint), None);
    }
    match nearest(key, known.iter().copied()) {
        Some(near) => (finding.hint(format!("did you mean `{near}`?")), Some(near)),
        None if known.is_empty() => (finding, None),
        None => (finding.hint(format!("known are {}", list(known))), None),
    }
}

fn type_difference(
    kind: &TypeKind,
    what: &str,
    written: &str,
    node: &Node,
    sensitive: bool,
) -> (String, Option<String>) {
    let types: Vec<JsonType> = match kind {
        TypeKind::Single(one) => vec![*one],
        TypeKind::Multiple(several) => several.iter().collect(),
    };
    let wanted = types
        .iter()
        .filter(|one| **one != JsonType::Null)
        .map(|one| match one {
            JsonType::Array => "a list",
            JsonType::Boolean => "true or false",
            JsonType::Integer => "a whole number",
            JsonType::Null => "nothing",
            JsonType::Number => "a number",
            JsonType::Object => "a map",
            JsonType::String => "text",
        })
        .collect::<Vec<_>>()
        .join(" or ");
    if sensitive && types.contains(&JsonType::Object) {
        let hint = "secrets stand by name only: `{secret: NAME}`".to_owned();
        return (format!("{what} is a map, not the value itself"), Some(hint));
    }
    if node.is_null() {
        let message = format!("{what} is {wanted}, and nothing is written");
        return (message, Some("leave the key out".to_owned()));
    }
    let quote = match &node.kind {
        Kind::Scalar(scalar) if scalar.plain && types.contains(&JsonType::String) => {
            Some(format!("quote it: \"{}\"", scalar.text))
        }
        _ => None,
    };
    (format!("{what} is {wanted}, not {written}"), quote)
}

/// Whether a secret's content could stand at a path by mistake.
fn may_be_secret(path: &[Segment]) -> bool {
    const WORDS: [&str; 4] = ["env", "password", "secret", "encrypt"];
    path.iter().any(|segment| match segment {
        Segment::Key(key) => WORDS.contains(&key.as_str()),
        Segment::Index(_) => false,
    })
}

/// A path as an author knows it: `roles.managementPoint.port`, without `spec`.
fn in_words(path: &[Segment]) -> String {
    let path = match path {
        [Segment::Key(spec), rest @ ..] if spec == "spec" && !rest.is_empty() => rest,
        [] => return "the document".to_owned(),
        all => all,
    };
    let mut text = String::new();
    for segment in path {
        match segment {
            Segment::Key(key) if text.is_empty() => text.push_str(key),
            Segment::Key(key) => {
                text.push('.');
                text.push_str(key);
            }
            Segment::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    format!("`{text}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schema_is_one_and_compiles() {
        for kind in DocumentKind::ALL {
            let compiled = Compiled::of(kind);
            assert!(jsonschema::meta::is_valid(&compiled.schema), "{kind:?}");
        }
        assert!(jsonschema::meta::is_valid(&Compiled::whole_site().schema));
        let combined = schema::combined_schema();
        assert!(jsonschema::meta::is_valid(&combined));
        jsonschema::validator_for(&combined).unwrap();
    }

    #[test]
    fn the_published_schema_takes_the_topologies_as_they_are_written() {
        let combined = jsonschema::validator_for(&schema::combined_schema()).unwrap();
        for name in [
            "contoso",
            "fabrikam",
            "adopted/step-1-observe",
            "adopted/step-5-all",
        ] {
            for (index, file) in crate::declared::tests::testdata(name).iter().enumerate() {
                let mut findings = Findings::default();
                let index = u32::try_from(index).unwrap();
                for tree in crate::declared::yaml::parse(file, index, &mut findings).documents {
                    let value = tree.value();
                    let errors: Vec<String> = combined
                        .iter_errors(&value)
                        .map(|e| format!("{} {}", e.instance_path(), e))
                        .collect();
                    assert!(errors.is_empty(), "{}: {errors:#?}", file.path);
                }
            }
        }
    }
}
