//! GitHub's workflow commands: a problem becomes a mark on the line of the pull request.
//!
//! `::error file=…,line=…,col=…,title=…::message`, with the escapes its runner undoes; a value that
//! is not escaped could end the command or add a property.

use stead_schemas::declared::{Problem, Severity};

/// One problem as a line of the runner's protocol; `path` as seen from the repository's top.
#[must_use]
pub fn annotation(problem: &Problem, path: &str) -> String {
    let severity = match problem.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let mut place = format!("file={}", property(path));
    if problem.place.line > 0 {
        place += &format!(",line={},col={}", problem.place.line, problem.place.column);
    }
    let title = problem.tag.unwrap_or(problem.code);
    let mut message = problem.message.clone();
    for (place, what) in &problem.related {
        message += &format!("\n{place}: {what}");
    }
    if let Some(hint) = &problem.hint {
        message += &format!("\nhint: {hint}");
    }
    format!(
        "::{severity} {place},title={}::{}\n",
        property(title),
        data(&message)
    )
}

/// A line without a place in a file.
#[must_use]
pub fn plain(message: &str) -> String {
    format!("::error::{}\n", data(message))
}

fn data(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use stead_schemas::desired::Place;

    use super::*;

    #[test]
    fn no_file_name_or_message_can_add_to_the_command() {
        let problem = Problem {
            severity: Severity::Warning,
            code: "x",
            tag: None,
            message: "100% wrong\n::error::no".into(),
            hint: Some("be right".into()),
            place: Place {
                file: "a,line=1::b.yaml".into(),
                line: 2,
                column: 7,
            },
            bytes: (0, 1),
            related: Vec::new(),
            sensitive: false,
        };
        assert_eq!(
            annotation(&problem, "a,line=1::b.yaml"),
            "::warning file=a%2Cline=1%3A%3Ab.yaml,line=2,col=7,title=x::100%25 wrong%0A::error::no%0Ahint: be right\n"
        );
    }
}
