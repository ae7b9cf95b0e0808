//! The reference of the command line and of the YAML, as Markdown, made from what programs read.
//!
//! `docs/reference/cli.md` and `docs/reference/yaml.md` hold it; a test compares, and writes them
//! anew when `STEAD_UPDATE=1` is set. Nothing in it is written by hand.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use clap::{Arg, Command, CommandFactory as _};
use serde_json::Value;
use stead_schemas::declared::explain::explain;
use stead_schemas::declared::schema::json_schema;
use stead_schemas::declared::types::DocumentKind;

use super::Cli;

const HEAD: &str =
    "<!-- Generated: STEAD_UPDATE=1 cargo nextest run -p stead --test cli reference -->\n";
/// Topologies first, settings last.
const KINDS: [DocumentKind; 5] = [
    DocumentKind::Hierarchy,
    DocumentKind::Site,
    DocumentKind::SiteSet,
    DocumentKind::ReconcilerConfig,
    DocumentKind::AgentConfig,
];
/// Deeper fields than this would be a schema that refers to itself.
const DEPTH_MAX: usize = 12;

/// Every command with its options.
#[must_use]
pub fn command_line() -> String {
    let mut command = Cli::command();
    command.build();
    let mut text = format!("{HEAD}\n# The command line\n\n{}\n\n", about(&command));
    text += "| command | does |\n| --- | --- |\n";
    for inner in visible(&command) {
        let name = inner.get_name();
        let line = inner
            .get_about()
            .map_or_else(String::new, ToString::to_string);
        let _ = writeln!(
            text,
            "| [`stead {name}`](#stead-{name}) | {} |",
            escaped(&line)
        );
    }
    for inner in visible(&command) {
        describe(&mut text, inner, "stead");
    }
    text
}

/// Every kind of document with its fields.
#[must_use]
pub fn yaml() -> String {
    let mut text = format!(
        "{HEAD}\n# The YAML\n\nOne section for each field that has fields of its own; `stead explain \
         KIND.path` shows the same at the terminal. What a site has, site sets and defaults have as well. `<map by name>` stands for names of your choice.\n"
    );
    let mut told = BTreeSet::new();
    for kind in KINDS {
        let schema = json_schema(kind);
        let _ = writeln!(text, "\n## {}\n", kind.name());
        let mut paths = Vec::new();
        collect(&schema, &schema, kind.name(), 0, &mut paths);
        for path in paths {
            let Ok(lines) = explain(&path) else { continue };
            // A site's fields stand in site sets and defaults as well: once is enough.
            if told.insert(lines[1..].join("\n")) {
                let _ = writeln!(text, "```text\n{}\n```\n", lines.join("\n").trim_end());
            }
        }
    }
    text.trim_end().to_owned() + "\n"
}

fn describe(text: &mut String, command: &Command, above: &str) {
    let path = format!("{above} {}", command.get_name());
    let _ = writeln!(text, "\n## {path}\n\n{}\n", about(command));
    let usage = command.clone().render_usage().to_string();
    let _ = writeln!(text, "```text\n{}\n```", usage.trim());
    let arguments: Vec<&Arg> = command
        .get_arguments()
        .filter(|argument| !argument.is_hide_set() && !is_common(argument))
        .collect();
    if !arguments.is_empty() {
        text.push_str("\n| argument | means |\n| --- | --- |\n");
    }
    for argument in arguments {
        let _ = writeln!(
            text,
            "| `{}` | {} |",
            escaped(&spelling(argument)),
            meaning(argument)
        );
    }
    for inner in visible(command) {
        describe(text, inner, &path);
    }
}

fn visible(command: &Command) -> impl Iterator<Item = &Command> {
    command
        .get_subcommands()
        .filter(|inner| !inner.is_hide_set())
}

fn about(command: &Command) -> String {
    let long = command.get_long_about().or_else(|| command.get_about());
    long.map_or_else(String::new, ToString::to_string)
        .trim()
        .to_owned()
}

fn is_common(argument: &Arg) -> bool {
    matches!(argument.get_id().as_str(), "help" | "version")
}

/// `-o, --output <FORM>`.
fn spelling(argument: &Arg) -> String {
    let names: Vec<String> = argument
        .get_short()
        .map(|short| format!("-{short}"))
        .into_iter()
        .chain(argument.get_long().map(|long| format!("--{long}")))
        .collect();
    let takes = argument.get_action().takes_values();
    let values: Vec<String> = argument
        .get_value_names()
        .into_iter()
        .flatten()
        .map(|name| format!("<{name}>"))
        .collect();
    match (names.is_empty(), takes) {
        (true, _) => values.join(" "),
        (false, true) => format!("{} {}", names.join(", "), values.join(" ")),
        (false, false) => names.join(", "),
    }
}

fn meaning(argument: &Arg) -> String {
    let help = argument.get_long_help().or_else(|| argument.get_help());
    let mut text = help
        .map_or_else(String::new, ToString::to_string)
        .replace("\n\n", " ");
    let choices: Vec<String> = argument
        .get_possible_values()
        .iter()
        .filter(|_| argument.get_action().takes_values())
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    if !choices.is_empty() {
        let _ = write!(text, ": {}", choices.join(", "));
    }
    let defaults: Vec<_> = argument
        .get_default_values()
        .iter()
        .filter(|_| argument.get_action().takes_values())
        .map(|value| value.to_string_lossy())
        .collect();
    if !defaults.is_empty() {
        let _ = write!(text, " (default `{}`)", defaults.join(" "));
    }
    if let Some(variable) = argument.get_env() {
        let _ = write!(text, " (environment `{}`)", variable.to_string_lossy());
    }
    escaped(&text.replace('\n', " "))
}

fn escaped(text: &str) -> String {
    text.replace('|', "\\|")
}

/// Paths of everything below `node` that has fields, in the order of the schema.
fn collect(root: &Value, node: &Value, path: &str, depth: usize, paths: &mut Vec<String>) {
    let node = resolved(root, node);
    if depth > DEPTH_MAX || paths.iter().any(|known| known == path) {
        return;
    }
    if let Some(fields) = node.get("properties").and_then(Value::as_object) {
        paths.push(path.to_owned());
        for (name, field) in fields {
            collect(root, field, &format!("{path}.{name}"), depth + 1, paths);
        }
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = node.get(inner).filter(|inner| inner.is_object()) {
            collect(root, inner, path, depth + 1, paths);
        }
    }
    for choice in ["anyOf", "oneOf", "allOf"] {
        for inner in node
            .get(choice)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            collect(root, inner, path, depth + 1, paths);
        }
    }
}

fn resolved<'a>(root: &'a Value, node: &'a Value) -> &'a Value {
    node.get("$ref")
        .and_then(Value::as_str)
        .and_then(|pointer| root.pointer(pointer.trim_start_matches('#')))
        .unwrap_or(node)
}
