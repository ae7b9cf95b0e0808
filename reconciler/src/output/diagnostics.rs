//! Problems of a topology as people read them: the lines in question, a caret under the words, the
//! other places concerned, the remedy.
//!
//! Only looks: which problems there are is decided in `stead_schemas::declared`. A line that may
//! hold a secret by mistake is named and not shown.

use std::borrow::Cow;
use std::ops::Range;

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use stead_schemas::declared::{Problem, Severity, SourceFile};
use stead_schemas::desired::Place;

use super::Palette;

/// Columns of a snippet at most; longer lines are cut around the caret.
const WIDTH: usize = 120;
/// Places of one file this many lines apart stand in one snippet.
const TOGETHER: u32 = 20;
/// Bytes of a line looked at; what is longer is no line of a topology.
const LINE_MAX: usize = 4_096;

/// Files by path, to take lines from.
#[derive(Debug, Clone, Copy)]
pub struct Texts<'a> {
    files: &'a [SourceFile],
    /// Put before each path that is shown: where the folder is, seen from the reader.
    prefix: &'a str,
}

impl<'a> Texts<'a> {
    /// The files of a check, and what to put before their paths.
    #[must_use]
    pub const fn new(files: &'a [SourceFile], prefix: &'a str) -> Self {
        Self { files, prefix }
    }

    /// A file's path as shown.
    #[must_use]
    pub fn shown(&self, file: &str) -> String {
        format!("{}{file}", self.prefix)
    }

    fn text(&self, file: &str) -> Option<&'a str> {
        let found = self.files.iter().find(|source| source.path == file)?;
        std::str::from_utf8(&found.bytes).ok()
    }
}

/// One problem with its lines.
#[must_use]
pub fn snippet(problem: &Problem, texts: Texts<'_>, palette: Palette) -> String {
    let level = match problem.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let tag = problem
        .tag
        .map_or_else(String::new, |tag| format!(" [{tag}]"));
    let title = level
        .primary_title(format!("{}{tag}", problem.message))
        .id(problem.code);
    let mut group = Group::with_title(title);
    for element in places(problem, texts) {
        group = match element {
            Shown::Lines(snippet) => group.element(snippet),
            Shown::Name(origin) => group.element(origin),
        };
    }
    if let Some(hint) = &problem.hint {
        group = group.element(Level::HELP.with_name("hint").message(hint.as_str()));
    }
    let renderer = if palette.is_coloured() {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    renderer.term_width(WIDTH).render(&[group]) + "\n"
}

enum Shown<'a> {
    Lines(Snippet<'a, Annotation<'a>>),
    Name(Origin<'a>),
}

/// The problem's own place first, with near places of the same file; then the others.
fn places<'a>(problem: &'a Problem, texts: Texts<'a>) -> Vec<Shown<'a>> {
    let own = &problem.place;
    let near = |place: &Place| place.file == own.file && place.line.abs_diff(own.line) <= TOGETHER;
    let (beside, apart): (Vec<_>, Vec<_>) =
        problem.related.iter().partition(|(place, _)| near(place));
    let mut shown = vec![main_place(problem, &beside, texts)];
    for (place, what) in apart {
        let Some(text) = texts.text(&place.file).filter(|_| !problem.sensitive) else {
            shown.push(Shown::Name(origin(place, texts)));
            continue;
        };
        let (window, first) = window(text, place.line, place.line);
        let span = word(window, first, place);
        shown.push(Shown::Lines(
            Snippet::source(window)
                .path(texts.shown(&place.file))
                .line_start(first)
                .annotation(AnnotationKind::Context.span(span).label(what.as_str())),
        ));
    }
    shown
}

fn main_place<'a>(
    problem: &'a Problem,
    beside: &[&'a (Place, String)],
    texts: Texts<'a>,
) -> Shown<'a> {
    let own = &problem.place;
    let text = texts
        .text(&own.file)
        .filter(|_| own.line > 0 && !problem.sensitive);
    let Some(text) = text else {
        return Shown::Name(origin(own, texts));
    };
    let lines = beside.iter().map(|(place, _)| place.line);
    let from = lines.clone().fold(own.line, u32::min);
    let to = lines.fold(own.line, u32::max);
    let (window, first) = window(text, from, to);
    let mut snippet = Snippet::source(window)
        .path(texts.shown(&own.file))
        .line_start(first)
        .annotation(AnnotationKind::Primary.span(own_span(problem, window, first)));
    for (place, what) in beside {
        let span = word(window, first, place);
        snippet = snippet.annotation(AnnotationKind::Context.span(span).label(what.as_str()));
    }
    Shown::Lines(snippet)
}

fn origin<'a>(place: &Place, texts: Texts<'_>) -> Origin<'a> {
    let origin = Origin::path(Cow::Owned(texts.shown(&place.file)));
    match place.line {
        0 => origin,
        line => origin
            .line(line as usize)
            .char_column(place.column.max(1) as usize),
    }
}

/// The lines `from` to `to` and one on each side, and the first one's number.
fn window(text: &str, from: u32, to: u32) -> (&str, usize) {
    let first = from.saturating_sub(1).max(1) as usize;
    let mut starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1));
    let start = starts.nth(first - 1).unwrap_or(text.len());
    let lines = to as usize + 2 - first;
    let end = text[start..]
        .match_indices('\n')
        .nth(lines - 1)
        .map_or(text.len(), |(at, _)| start + at);
    (&text[start..end], first)
}

/// The problem's own words: its bytes, not beyond the line they begin in.
fn own_span(problem: &Problem, window: &str, first: usize) -> Range<usize> {
    let start = offset(window, first, &problem.place);
    let (from, to) = problem.bytes;
    let length = to.saturating_sub(from) as usize;
    let line_end = window[start..]
        .find('\n')
        .map_or(window.len(), |at| start + at);
    let mut end = (start + length.min(LINE_MAX)).min(line_end);
    while !window.is_char_boundary(end) {
        end += 1;
    }
    start..end
}

/// The word at a place.
fn word(window: &str, first: usize, place: &Place) -> Range<usize> {
    let start = offset(window, first, place);
    let end = window[start..]
        .find(|c: char| c.is_whitespace() || ",:]}".contains(c))
        .map_or(window.len(), |at| start + at);
    start..end
}

/// A place's byte in the window; its end where the place lies beyond it.
fn offset(window: &str, first: usize, place: &Place) -> usize {
    let skip = (place.line as usize).saturating_sub(first);
    let start = match skip {
        0 => 0,
        skip => window
            .match_indices('\n')
            .nth(skip - 1)
            .map_or(window.len(), |(at, _)| at + 1),
    };
    let column = place.column.saturating_sub(1) as usize;
    window[start..]
        .char_indices()
        .take_while(|(_, c)| *c != '\n')
        .nth(column)
        .map_or_else(
            || {
                window[start..]
                    .find('\n')
                    .map_or(window.len(), |at| start + at)
            },
            |(at, _)| start + at,
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(bytes: (u32, u32), line: u32, column: u32) -> Problem {
        Problem {
            severity: Severity::Error,
            code: "unknown-server",
            tag: Some("SS-1"),
            message: "there is no server `p01-x`".into(),
            hint: Some("servers of P01: p01-a".into()),
            place: Place {
                file: "sites/P01.yaml".into(),
                line,
                column,
            },
            bytes,
            related: Vec::new(),
            sensitive: false,
        }
    }

    fn files(text: &str) -> Vec<SourceFile> {
        vec![SourceFile::new("sites/P01.yaml", text)]
    }

    const TEXT: &str = "kind: Site\nspec:\n  größe: p01-x\n  servers:\n    p01-a: {}\n";

    fn plain(problem: &Problem, text: &str) -> String {
        let files = files(text);
        snippet(problem, Texts::new(&files, "t/"), Palette::new(false))
    }

    #[test]
    fn the_words_in_question_are_underlined_and_the_remedy_follows() {
        let at = u32::try_from(TEXT.find("p01-x").unwrap()).unwrap();
        let mut found = problem((at, at + 5), 3, 10);
        found.related = vec![(
            Place {
                file: "sites/P01.yaml".into(),
                line: 4,
                column: 3,
            },
            "declared here".into(),
        )];
        insta::assert_snapshot!(plain(&found, TEXT), @r"
        error[unknown-server]: there is no server `p01-x` [SS-1]
         --> t/sites/P01.yaml:3:10
          |
        3 |   größe: p01-x
          |          ^^^^^
        4 |   servers:
          |   ------- declared here
          |
          = hint: servers of P01: p01-a
        ");
    }

    #[test]
    fn a_line_that_may_hold_a_secret_is_named_and_not_shown() {
        let mut found = problem((0, 4), 3, 10);
        found.sensitive = true;
        let text = plain(&found, TEXT);
        assert!(text.contains("t/sites/P01.yaml:3:10"), "{text}");
        assert!(!text.contains("größe"), "{text}");
    }

    #[test]
    fn no_place_and_no_bytes_break_it() {
        for (line, column) in [(0, 0), (1, 1), (3, 999), (999, 1), (5, 13)] {
            for bytes in [(0, 0), (5, 2), (0, u32::MAX), (40, 41)] {
                assert!(!plain(&problem(bytes, line, column), TEXT).is_empty());
                assert!(!plain(&problem(bytes, line, column), "").is_empty());
            }
        }
        let binary = vec![SourceFile::new("sites/P01.yaml", vec![0xff, 0xfe, 0])];
        let found = problem((0, 1), 1, 1);
        let text = snippet(&found, Texts::new(&binary, ""), Palette::new(false));
        assert!(text.contains("sites/P01.yaml:1:1"), "{text}");
    }
}
