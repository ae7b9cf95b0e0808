//! JSON Schemas of the documents, from the same types that read them.
//!
//! For editors (`schemas/json/`, `stead schema`) and for the check itself. A site as written may
//! leave out what defaults say; the check holds the whole site against the strict form.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::loosen::{loosen, tidy};
use super::types::{
    AgentDocument, DocumentKind, Hierarchy, ReconcilerDocument, Site, SiteAsWritten, SiteSet,
    SiteSpec,
};

/// The JSON Schema of a kind of document as an author writes it, draft 2020-12.
#[must_use]
pub fn json_schema(kind: DocumentKind) -> Value {
    match kind {
        DocumentKind::AgentConfig => of::<AgentDocument>(kind),
        DocumentKind::Hierarchy => of::<Hierarchy>(kind),
        DocumentKind::ReconcilerConfig => of::<ReconcilerDocument>(kind),
        DocumentKind::Site => of::<SiteAsWritten>(kind),
        DocumentKind::SiteSet => of::<SiteSet>(kind),
    }
}

/// The JSON Schema of a whole site: defaults filled in, what is required is required.
#[must_use]
pub fn whole_site_schema() -> Value {
    of::<Site>(DocumentKind::Site)
}

/// One schema for every kind, chosen by `kind`: what an editor is pointed to.
#[must_use]
pub fn combined_schema() -> Value {
    let mut definitions = Map::new();
    let mut rules = Vec::new();
    for kind in DocumentKind::ALL {
        let mut schema = json_schema(kind);
        if let Some(object) = schema.as_object_mut() {
            object.shift_remove("$schema");
            if let Some(Value::Object(inner)) = object.shift_remove("$defs") {
                definitions.extend(inner);
            }
        }
        definitions.insert(kind.name().to_owned(), schema);
        // No `const`: while completing, the language server takes `Site` for the start of `SiteSet`
        // and would offer the keys of both.
        let only = format!("^{}$", kind.name());
        rules.push(json!({
            "if": {"required": ["kind"], "properties": {"kind": {"pattern": only}}},
            "then": {"$ref": format!("#/$defs/{}", kind.name())}
        }));
    }
    let names: Vec<&str> = DocumentKind::ALL.iter().map(|kind| kind.name()).collect();
    json!({
        "$schema": DRAFT,
        "title": "stead/v1",
        "description": "A document of a Stead topology.",
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": {"const": "stead/v1", "description": "The version of the format."},
            "kind": {"enum": names, "description": "The kind of document."}
        },
        "allOf": rules,
        "$defs": definitions
    })
}

/// The files of `schemas/json/`: name and content.
#[must_use]
pub fn schema_files() -> BTreeMap<String, String> {
    let text = |schema: &Value| {
        let mut text = serde_json::to_string_pretty(schema).expect("a schema has string keys");
        text.push('\n');
        text
    };
    DocumentKind::ALL
        .into_iter()
        .map(|kind| (format!("{}.json", kind.name()), text(&json_schema(kind))))
        .chain([("stead-v1.json".to_owned(), text(&combined_schema()))])
        .collect()
}

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

fn of<T: JsonSchema>(kind: DocumentKind) -> Value {
    let mut schema = generated::<T>();
    schema["title"] = json!(kind.name());
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert(
            "apiVersion".to_owned(),
            json!({"const": "stead/v1", "description": "The version of the format."}),
        );
        properties.insert(
            "kind".to_owned(),
            json!({"const": kind.name(), "description": "The kind of document."}),
        );
    }
    if let Some(definitions) = schema.get_mut("$defs").and_then(Value::as_object_mut) {
        definitions.shift_remove("ApiVersion");
        definitions.shift_remove("DocumentKind");
        fill_part(definitions, "PartialSite", false);
        fill_part(definitions, "PartialTemplate", true);
        // Metadata differs by kind, the definition's name does not.
        if let Some(named) = definitions.shift_remove("Named") {
            schema["properties"]["metadata"] = named;
        }
    }
    schema
}

fn generated<T: JsonSchema>() -> Value {
    let mut schema = SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value();
    tidy(&mut schema);
    schema
}

/// Puts the loosened schema of a site's spec where a part of one is meant.
fn fill_part(definitions: &mut Map<String, Value>, name: &str, placeholders: bool) {
    if !definitions.contains_key(name) {
        return;
    }
    let Value::Object(mut part) = generated::<SiteSpec>() else {
        return;
    };
    part.shift_remove("$schema");
    part.shift_remove("title");
    let inner = part.shift_remove("$defs");
    if let Some(Value::Object(inner)) = inner {
        for (inner_name, mut schema) in inner {
            if let Some(schema) = schema.as_object_mut() {
                loosen(schema, placeholders, name);
            }
            definitions.insert(format!("{name}{inner_name}"), schema);
        }
    }
    loosen(&mut part, placeholders, name);
    definitions.insert(name.to_owned(), Value::Object(part));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test compares files")]
    fn the_schemas_checked_in_are_those_of_the_types() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("json");
        if std::env::var_os("STEAD_UPDATE").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            for (name, text) in schema_files() {
                std::fs::write(folder.join(name), text).unwrap();
            }
        }
        for (name, text) in schema_files() {
            let file = folder.join(&name);
            let stored = std::fs::read_to_string(&file).unwrap_or_default();
            assert!(
                stored == text,
                "{} is stale: STEAD_UPDATE=1 cargo nextest run -p stead-schemas",
                file.display()
            );
        }
    }
}
