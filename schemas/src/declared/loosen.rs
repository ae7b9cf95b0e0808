//! Rewriting generated JSON Schemas: tidying them, and loosening them for parts of sites.
//!
//! Works on schema documents only; knows no type and no instance.

use serde_json::{Map, Value, json};

/// What stands for something else, in strings.
const PLACEHOLDER: &str = "\\$\\(";
/// Keywords that only describe.
const ANNOTATIONS: [&str; 3] = ["description", "default", "title"];

/// Makes a generated schema plain: no `null` for what may be left out, enumerations as `enum`, no
/// empty defaults, descriptions in one line.
pub(super) fn tidy(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Object(object) => {
            object.values_mut().for_each(tidy);
            tidy_object(object);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn tidy_object(object: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|one| one != "null");
        if let [one] = types.as_slice() {
            let one = one.clone();
            object.insert("type".to_owned(), one);
        }
    }
    if let Some(Value::Array(values)) = object.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
        choices.retain(|choice| choice != &json!({ "type": "null" }));
        if let [Value::Object(only)] = choices.as_slice() {
            let only = only.clone();
            object.shift_remove("anyOf");
            for (keyword, value) in only {
                object.entry(keyword).or_insert(value);
            }
        }
    }
    constants_as_enum(object);
    let empty = |value: &Value| match value {
        Value::Null | Value::Object(_) => true,
        Value::Array(items) => items.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    };
    if object.get("default").is_some_and(empty) {
        object.shift_remove("default");
    }
    if let Some(Value::String(format)) = object.get("format")
        && format.starts_with("uint")
    {
        object.shift_remove("format");
    }
    if let Some(Value::String(text)) = object.get_mut("description") {
        *text = text
            .replace("\n\n", "\u{0}")
            .replace('\n', " ")
            .replace('\u{0}', "\n\n");
    }
}

/// `oneOf` of constants, each described, as `enum` with `enumDescriptions`.
fn constants_as_enum(object: &mut Map<String, Value>) {
    let Some(Value::Array(choices)) = object.get("oneOf") else {
        return;
    };
    let values: Option<Vec<Value>> = choices
        .iter()
        .map(|one| one.get("const").cloned())
        .collect();
    let Some(values) = values else {
        return;
    };
    let texts = choices
        .iter()
        .map(|one| one.get("description").cloned().unwrap_or_else(|| json!("")))
        .collect();
    object.shift_remove("oneOf");
    object.insert("type".to_owned(), json!("string"));
    object.insert("enum".to_owned(), Value::Array(values));
    object.insert("enumDescriptions".to_owned(), Value::Array(texts));
}

/// Takes `required` away and allows `null` for every member; with placeholders also `$(KEY)` for
/// every value and key. References go to definitions with the prefix.
pub(super) fn loosen(schema: &mut Map<String, Value>, placeholders: bool, prefix: &str) {
    schema.shift_remove("required");
    if let Some(Value::String(target)) = schema.get_mut("$ref") {
        *target = target.replace("#/$defs/", &format!("#/$defs/{prefix}"));
    }
    for keyword in ["properties", "patternProperties"] {
        if let Some(Value::Object(members)) = schema.get_mut(keyword) {
            for member in members.values_mut().filter_map(Value::as_object_mut) {
                loosen_member(member, placeholders, prefix);
            }
        }
    }
    if let (true, Some(Value::Object(patterns))) =
        (placeholders, schema.get_mut("patternProperties"))
        && let Some(any) = patterns.values().next().cloned()
    {
        patterns.insert(PLACEHOLDER.to_owned(), any);
    }
    if let Some(Value::Object(member)) = schema.get_mut("additionalProperties") {
        loosen_member(member, placeholders, prefix);
    }
    if let Some(Value::Object(items)) = schema.get_mut("items") {
        loosen(items, placeholders, prefix);
        if placeholders {
            or_placeholder(items);
        }
    }
    for keyword in ["allOf", "anyOf"] {
        if let Some(Value::Array(choices)) = schema.get_mut(keyword) {
            for choice in choices.iter_mut().filter_map(Value::as_object_mut) {
                loosen(choice, placeholders, prefix);
            }
        }
    }
}

fn loosen_member(member: &mut Map<String, Value>, placeholders: bool, prefix: &str) {
    loosen(member, placeholders, prefix);
    if placeholders {
        or_placeholder(member);
    }
    if member
        .keys()
        .all(|keyword| ANNOTATIONS.contains(&keyword.as_str()))
    {
        // Allows everything already.
    } else if simple(member) {
        add_type(member, "null");
    } else {
        or_also(member, json!({ "type": "null" }));
    }
}

/// A value that isn't a collection may be a placeholder instead.
fn or_placeholder(schema: &mut Map<String, Value>) {
    let types = |name: &str| match schema.get("type") {
        Some(Value::String(one)) => one == name,
        Some(Value::Array(several)) => several.iter().any(|one| one == name),
        _ => false,
    };
    if types("object") || types("array") || schema.contains_key("additionalProperties") {
        return;
    }
    let is_string = types("string");
    if !simple(schema) {
        or_also(schema, json!({ "type": "string", "pattern": PLACEHOLDER }));
    } else if let Some(Value::String(pattern)) = schema.get_mut("pattern") {
        *pattern = format!("(?:{pattern})|{PLACEHOLDER}");
    } else if !is_string {
        add_type(schema, "string");
        schema.insert("pattern".to_owned(), json!(PLACEHOLDER));
    }
}

/// Whether a schema is one type with its keywords, no choice and no reference.
fn simple(schema: &Map<String, Value>) -> bool {
    schema.contains_key("type")
        && !["anyOf", "oneOf", "allOf", "$ref", "enum", "const"]
            .iter()
            .any(|keyword| schema.contains_key(*keyword))
}

fn add_type(schema: &mut Map<String, Value>, name: &str) {
    let types = match schema.get("type") {
        Some(Value::Array(several)) => several.iter().cloned().chain([json!(name)]).collect(),
        Some(one) => vec![one.clone(), json!(name)],
        None => return,
    };
    schema.insert("type".to_owned(), Value::Array(types));
}

/// Makes a schema allow something else as well, its description kept on top.
fn or_also(schema: &mut Map<String, Value>, other: Value) {
    let only_choices = schema
        .keys()
        .all(|keyword| keyword == "anyOf" || ANNOTATIONS.contains(&keyword.as_str()));
    if let (true, Some(Value::Array(choices))) = (only_choices, schema.get_mut("anyOf")) {
        choices.push(other);
        return;
    }
    let mut inner = std::mem::take(schema);
    for keyword in ANNOTATIONS {
        if let Some(value) = inner.shift_remove(keyword) {
            schema.insert(keyword.to_owned(), value);
        }
    }
    schema.insert("anyOf".to_owned(), json!([Value::Object(inner), other]));
}
