//! `stead explain KIND.path`: the help text of a field, from the schema.
//!
//! Lines of text, no layout beyond indentation; printing is the command's business.

use serde_json::Value;

use super::schema;
use super::types::DocumentKind;
use super::words::{list, nearest};

/// Help for a field: `Site`, `Site.spec.roles.servers`. Names below maps (a server, a role group)
/// may be left out or written as any word.
///
/// # Errors
/// What is not known, and what would be.
pub fn explain(path: &str) -> Result<Vec<String>, String> {
    let mut words = path.split('.').filter(|word| !word.is_empty());
    let names = || DocumentKind::ALL.iter().map(|kind| kind.name());
    let first = words.next().unwrap_or_default();
    let Some(kind) = DocumentKind::of(first) else {
        let near = nearest(first, names());
        let near = near.map(|near| format!("; did you mean `{near}`?"));
        return Err(format!(
            "`{first}` is no kind of document: {}{}",
            list(names()),
            near.unwrap_or_default()
        ));
    };
    let root = match kind {
        DocumentKind::Site => schema::whole_site_schema(),
        kind => schema::json_schema(kind),
    };
    let mut here = &root;
    let mut walked = kind.name().to_owned();
    for word in words {
        here = step(&root, here, word).ok_or_else(|| unknown(&root, here, &walked, word))?;
        walked = format!("{walked}.{word}");
    }
    Ok(describe(&root, here, &walked))
}

fn unknown(root: &Value, here: &Value, walked: &str, word: &str) -> String {
    let members = members(root, here);
    let names = members.iter().map(|(name, _)| name.as_str());
    match nearest(word, names.clone()) {
        Some(near) => format!("`{walked}` has no `{word}`; did you mean `{near}`?"),
        None if members.is_empty() => format!("`{walked}` has nothing below it"),
        None => format!("`{walked}` has no `{word}`, but {}", list(names)),
    }
}

/// The schema at the end of a path of keys.
pub(super) fn descend<'a, 'k>(
    root: &'a Value,
    keys: impl IntoIterator<Item = &'k str>,
) -> Option<&'a Value> {
    keys.into_iter()
        .try_fold(root, |here, key| exact_step(root, here, key))
}

/// One step down; a name left out above a map's values is skipped.
fn step<'a>(root: &'a Value, here: &'a Value, word: &str) -> Option<&'a Value> {
    if let Some(member) = property(root, here, word) {
        return Some(member);
    }
    let values = map_values(root, here)?;
    Some(property(root, values, word).unwrap_or(values))
}

fn exact_step<'a>(root: &'a Value, here: &'a Value, key: &str) -> Option<&'a Value> {
    property(root, here, key).or_else(|| map_values(root, here))
}

/// A member by its key. Where keys are names, the known ones only help; their values are alike.
fn property<'a>(root: &'a Value, here: &'a Value, key: &str) -> Option<&'a Value> {
    forms(root, here)
        .into_iter()
        .filter(|form| form.get("patternProperties").is_none())
        .find_map(|form| form.get("properties")?.get(key))
}

/// The schema of the values of a map, or of the items of a list.
fn map_values<'a>(root: &'a Value, here: &'a Value) -> Option<&'a Value> {
    forms(root, here).into_iter().find_map(|form| {
        let by_name = form.get("patternProperties").and_then(Value::as_object);
        by_name
            .and_then(|patterns| patterns.values().next())
            .or_else(|| form.get("additionalProperties").filter(|v| v.is_object()))
            .or_else(|| form.get("items"))
    })
}

/// A schema, what it refers to, and its choices.
fn forms<'a>(root: &'a Value, schema: &'a Value) -> Vec<&'a Value> {
    let mut forms = vec![schema];
    let mut at = 0;
    while let Some(form) = forms.get(at).copied() {
        at += 1;
        if let Some(target) = form.get("$ref").and_then(Value::as_str)
            && let Some(name) = target.strip_prefix("#/$defs/")
            && let Some(target) = root.get("$defs").and_then(|defs| defs.get(name))
        {
            forms.push(target);
        }
        if let Some(choices) = form.get("anyOf").and_then(Value::as_array) {
            forms.extend(choices);
        }
    }
    forms
}

/// Names and schemas of what is below.
fn members<'a>(root: &'a Value, here: &'a Value) -> Vec<(String, &'a Value)> {
    let of = |schema: &'a Value| -> Vec<(String, &'a Value)> {
        forms(root, schema)
            .into_iter()
            .filter(|form| form.get("patternProperties").is_none())
            .filter_map(|form| form.get("properties")?.as_object())
            .flatten()
            .map(|(name, schema)| (name.clone(), schema))
            .collect()
    };
    let own = of(here);
    if own.is_empty() {
        return map_values(root, here).map(of).unwrap_or_default();
    }
    own
}

fn describe(root: &Value, here: &Value, walked: &str) -> Vec<String> {
    let mut lines = vec![format!("{walked}  {}", form_of(root, here))];
    if let Some(text) = description(root, here) {
        lines.push(String::new());
        lines.extend(
            wrapped(text, 92)
                .into_iter()
                .map(|line| format!("  {line}")),
        );
    }
    lines.extend(choices(root, here));
    lines.extend(known_names(root, here));
    let members = members(root, here);
    if !members.is_empty() {
        lines.push(String::new());
        let required = required(root, here);
        let width = members
            .iter()
            .map(|(name, _)| name.len())
            .max()
            .unwrap_or(0)
            + 2;
        for (name, schema) in members {
            let mark = if required.contains(&name.as_str()) {
                "*"
            } else {
                " "
            };
            let text = description(root, schema).unwrap_or_default();
            let first = text
                .split(". ")
                .next()
                .unwrap_or_default()
                .trim_end_matches('.');
            lines.push(format!("  {mark} {name:width$}{first}"));
        }
        lines.push(String::new());
        lines.push("  * required".to_owned());
    }
    lines
}

fn description<'a>(root: &'a Value, schema: &'a Value) -> Option<&'a str> {
    forms(root, schema)
        .into_iter()
        .find_map(|form| form.get("description")?.as_str())
}

/// The words a field takes, each with its text.
fn choices(root: &Value, here: &Value) -> Vec<String> {
    let Some(form) = forms(root, here)
        .into_iter()
        .find(|form| form.get("enum").is_some())
    else {
        return Vec::new();
    };
    let words = form["enum"].as_array().cloned().unwrap_or_default();
    let texts = form.get("enumDescriptions").and_then(Value::as_array);
    let mut lines = vec![String::new()];
    for (at, word) in words.iter().filter_map(Value::as_str).enumerate() {
        let text = texts
            .and_then(|texts| texts.get(at)?.as_str())
            .unwrap_or_default();
        lines.push(format!("    {word:24}{text}").trim_end().to_owned());
    }
    lines
}

/// Names that a map by name knows, each with its text: the roles.
fn known_names(root: &Value, here: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    for form in forms(root, here) {
        let names = form
            .get("patternProperties")
            .and_then(|_| form.get("properties"));
        for (name, schema) in names.and_then(Value::as_object).into_iter().flatten() {
            let text = description(root, schema).unwrap_or_default();
            lines.push(format!("    {name:24}{text}"));
        }
    }
    if !lines.is_empty() {
        lines.insert(0, String::new());
    }
    lines
}

fn required<'a>(root: &'a Value, here: &'a Value) -> Vec<&'a str> {
    let of = |schema: &'a Value| -> Vec<&'a str> {
        forms(root, schema)
            .into_iter()
            .filter_map(|form| form.get("required")?.as_array())
            .flatten()
            .filter_map(Value::as_str)
            .collect()
    };
    let own = of(here);
    if own.is_empty() {
        return map_values(root, here).map(of).unwrap_or_default();
    }
    own
}

/// The form of a field in a word or two.
fn form_of(root: &Value, here: &Value) -> String {
    let mut words = Vec::new();
    for form in forms(root, here) {
        let word = match form.get("type").and_then(Value::as_str) {
            Some("array") => "list",
            Some("boolean") => "true or false",
            Some("integer") => "whole number",
            Some("number") => "number",
            Some("object") if form.get("properties").is_some() => "map",
            Some("object") => "map by name",
            Some("string") if form.get("enum").is_some() => "one of",
            Some("string") => "text",
            _ => continue,
        };
        if !words.contains(&word) {
            words.push(word);
        }
    }
    format!("<{}>", words.join(", or "))
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.split("\n\n") {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            if !line.is_empty() && line.len() + 1 + word.len() > width {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_explained_with_its_members_and_required_ones_marked() {
        let text = explain("Site.spec.servers").unwrap().join("\n");
        assert!(text.contains("The site's servers, by name."), "{text}");
        assert!(text.contains("  * address"), "{text}");
    }

    #[test]
    fn names_below_maps_may_be_left_out() {
        let short = explain("Site.spec.roles.servers").unwrap();
        let long = explain("Site.spec.roles.managementPoint.servers").unwrap();
        assert_eq!(short[1..], long[1..]);
        assert!(short.join("\n").contains("On exactly these servers"));
    }

    #[test]
    fn the_roles_are_listed_as_names_of_groups() {
        let text = explain("Site.spec.roles").unwrap().join("\n");
        assert!(
            text.contains("    managementPoint         Gives clients policy"),
            "{text}"
        );
    }

    #[test]
    fn words_are_listed_with_their_texts() {
        let text = explain("Site.spec.type").unwrap().join("\n");
        assert!(text.contains("secondary"), "{text}");
        assert!(text.contains("A child of a primary"), "{text}");
    }

    #[test]
    fn what_is_not_known_names_the_nearest() {
        assert!(explain("Sight").unwrap_err().contains("`Site`"));
        assert!(
            explain("Site.spec.sevrers")
                .unwrap_err()
                .contains("`servers`")
        );
    }
}
