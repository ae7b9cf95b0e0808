//! Parts of a site: the site's own schema with nothing required and `null` allowed.
//!
//! Defaults, templates, patches and sites themselves are merged before they are whole; each may
//! leave anything out. The schema of a part is derived from [`SiteSpec`], so the two can't differ.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::SiteSpec;

/// A site's spec that may leave out what defaults say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartialSite(pub Value);

/// A part of a site's spec with `$(KEY)` in strings and keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartialTemplate(pub Value);

impl JsonSchema for PartialSite {
    fn schema_name() -> Cow<'static, str> {
        "PartialSite".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        part(false)
    }
}

impl JsonSchema for PartialTemplate {
    fn schema_name() -> Cow<'static, str> {
        "PartialTemplate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        part(true)
    }
}

fn part(placeholders: bool) -> Schema {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<SiteSpec>();
    if let Some(object) = schema.as_object_mut() {
        loosen(object, placeholders);
    }
    schema
}

/// Takes `required` away, allows `null` for every member, and `$(KEY)` for every value and key.
fn loosen(schema: &mut Map<String, Value>, placeholders: bool) {
    schema.remove("required");
    for keyword in ["properties", "patternProperties"] {
        if let Some(Value::Object(members)) = schema.get_mut(keyword) {
            for member in members.values_mut() {
                loosen_member(member, placeholders);
            }
        }
    }
    if placeholders && let Some(Value::Object(patterns)) = schema.remove("patternProperties") {
        let mut patterns = patterns;
        if let Some(any) = patterns.values().next().cloned() {
            patterns.insert("\\$\\(".to_owned(), any);
        }
        schema.insert("patternProperties".to_owned(), Value::Object(patterns));
    }
    if let Some(member @ Value::Object(_)) = schema.get_mut("additionalProperties") {
        loosen_member(member, placeholders);
    }
    if let Some(Value::Object(items)) = schema.get_mut("items") {
        loosen(items, placeholders);
        if placeholders {
            or_placeholder(items);
        }
    }
    if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
        for choice in choices.iter_mut().filter_map(Value::as_object_mut) {
            loosen(choice, placeholders);
        }
    }
}

fn loosen_member(member: &mut Value, placeholders: bool) {
    let Value::Object(member) = member else {
        return;
    };
    loosen(member, placeholders);
    if placeholders {
        or_placeholder(member);
    }
    or_also(member, json!({ "type": "null" }));
}

/// A value that isn't a collection may be a placeholder instead.
fn or_placeholder(schema: &mut Map<String, Value>) {
    let is = |name: &str| match schema.get("type") {
        Some(Value::String(one)) => one == name,
        Some(Value::Array(several)) => several.iter().any(|one| one == name),
        _ => false,
    };
    if is("object") || is("array") {
        return;
    }
    or_also(schema, json!({ "type": "string", "pattern": "\\$\\(" }));
}

/// Makes a schema allow something else as well, its description kept on top.
fn or_also(schema: &mut Map<String, Value>, other: Value) {
    if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
        if !choices.contains(&other) {
            choices.push(other);
        }
        return;
    }
    let mut inner = std::mem::take(schema);
    for keyword in ["description", "default"] {
        if let Some(value) = inner.shift_remove(keyword) {
            schema.insert(keyword.to_owned(), value);
        }
    }
    schema.insert("anyOf".to_owned(), json!([Value::Object(inner), other]));
}
