//! From the bytes of one YAML file to trees, one a document.
//!
//! The only file that knows the YAML parser. Hostile input is bounded here: size, depth, nodes
//! after aliases are expanded, and the form of scalars. It does not know what a document means.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use granit_parser::{Event, Marker, Parser, ScalarStyle, Span, StrInput, Tag};

use super::SourceFile;
use super::problem::{Finding, Findings};
use super::scalar;
use super::tree::{Key, Kind, Meaning, Node, Scalar, Spot};

/// Largest file that is read.
pub const FILE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Deepest nesting.
pub const DEPTH_MAX: usize = 64;
/// Most nodes in a file, aliases expanded.
pub const NODES_MAX: usize = 1_000_000;
/// Above this many entries duplicate keys are found by tree, not one by one.
const SEARCH_MAX: usize = 16;

/// The documents of a file that could be read.
pub(super) struct Parsed {
    /// One tree a document, empty ones left out.
    pub(super) documents: Vec<Node>,
    /// Whether a document was lost: what it would have said is unknown.
    pub(super) lost: bool,
    /// Nodes made.
    pub(super) nodes: usize,
}

/// Reads a file; what is wrong goes to the findings.
pub(super) fn parse(source: &SourceFile, file: u32, findings: &mut Findings) -> Parsed {
    let lost = |finding, findings: &mut Findings| {
        findings.add(finding);
        Parsed {
            documents: Vec::new(),
            lost: true,
            nodes: 0,
        }
    };
    match text(source, file) {
        Ok(text) => Reader::new(text, file, findings).read(),
        Err(finding) => lost(*finding, findings),
    }
}

/// The file's text, or why it is none.
fn text(source: &SourceFile, file: u32) -> Result<&str, Box<Finding>> {
    let start = Spot::start_of(file);
    if source.bytes.len() > FILE_BYTES_MAX {
        return Err(Box::new(Finding::error(
            "file-size",
            start,
            format!(
                "the file has {} bytes, at most {FILE_BYTES_MAX} are read: split it",
                source.bytes.len()
            ),
        )));
    }
    if source.bytes.starts_with(&[0xFE, 0xFF]) || source.bytes.starts_with(&[0xFF, 0xFE]) {
        return Err(Box::new(Finding::error(
            "encoding",
            start,
            "the file is UTF-16: save it as UTF-8",
        )));
    }
    std::str::from_utf8(&source.bytes).map_err(|error| {
        let good = String::from_utf8_lossy(&source.bytes[..error.valid_up_to()]);
        let line = good.matches('\n').count() + 1;
        let column = good.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let at = number(error.valid_up_to());
        let spot = Spot {
            file,
            line: number(line),
            column: number(column),
            start: at,
            end: at + 1,
        };
        Box::new(Finding::error(
            "encoding",
            spot,
            "the file is not UTF-8 from here on: save it as UTF-8",
        ))
    })
}

fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// A collection that is still open.
enum Open {
    Map {
        entries: Vec<(Key, Node)>,
        key: Option<Key>,
        seen: Option<BTreeMap<Arc<str>, Spot>>,
        spot: Spot,
        anchor: usize,
    },
    Seq {
        items: Vec<Node>,
        spot: Spot,
        anchor: usize,
    },
}

/// A finished anchored node, and what expanding it costs.
struct Anchor {
    node: Node,
    nodes: usize,
    depth: usize,
}

/// Why a document is given up; told already.
struct GiveUp;

struct Reader<'text, 'findings> {
    parser: Parser<'text, StrInput<'text>>,
    file: u32,
    findings: &'findings mut Findings,
    open: Vec<Open>,
    root: Option<Node>,
    anchors: BTreeMap<usize, Anchor>,
    nodes: usize,
}

impl<'text, 'findings> Reader<'text, 'findings> {
    fn new(text: &'text str, file: u32, findings: &'findings mut Findings) -> Self {
        let options = granit_parser::options! {
            strict_indentation: true,
            emit_unresolved_aliases: true,
            emit_comments: false,
            flow_nesting_limit: DEPTH_MAX,
            block_nesting_limit: DEPTH_MAX,
        };
        Self {
            parser: Parser::new_from_str_with_options(text, options),
            file,
            findings,
            open: Vec::new(),
            root: None,
            anchors: BTreeMap::new(),
            nodes: 0,
        }
    }

    fn read(mut self) -> Parsed {
        let mut documents = Vec::new();
        let mut lost = false;
        loop {
            let given_up = match self.parser.next_event() {
                None | Some(Ok((Event::StreamEnd, _))) => break,
                Some(Ok((Event::DocumentStart(..), _))) => {
                    self.start_document();
                    false
                }
                Some(Ok((Event::DocumentEnd, _))) => {
                    documents.extend(self.root.take().filter(|root| !root.is_null()));
                    false
                }
                Some(Ok((event, span))) => self.event(event, span).is_err(),
                Some(Err(error)) => {
                    let finding = Finding::error("yaml", self.mark(*error.marker()), error.info());
                    self.findings
                        .add(finding.hint("one syntax error a document is told"));
                    true
                }
            };
            if given_up {
                lost = true;
                self.start_document();
                if self.nodes > NODES_MAX
                    || !matches!(self.parser.proceed_next_document(), Ok(true))
                {
                    break;
                }
            }
        }
        Parsed {
            documents,
            lost,
            nodes: self.nodes,
        }
    }

    fn start_document(&mut self) {
        self.open.clear();
        self.anchors.clear();
        self.root = None;
    }

    fn event(&mut self, event: Event<'text>, span: Span) -> Result<(), GiveUp> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), span);
                self.scalar(text, style, anchor, span)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), span);
                let spot = self.spot(span);
                self.start(Open::Seq {
                    items: Vec::new(),
                    spot,
                    anchor,
                })
            }
            Event::MappingStart(_, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), span);
                let spot = self.spot(span);
                self.start(Open::Map {
                    entries: Vec::new(),
                    key: None,
                    seen: None,
                    spot,
                    anchor,
                })
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(span),
            Event::Alias(id) => self.alias(id, span),
            Event::UnresolvedAlias(name) => {
                let spot = self.spot(span);
                self.findings.add(Finding::error(
                    "alias",
                    spot,
                    format!(
                        "`*{name}` names no anchor: nothing above in this document has `&{name}`"
                    ),
                ));
                if self.wants_key() {
                    return Err(GiveUp);
                }
                self.place_node(Node::text_at("", spot), 1)
            }
            _ => Ok(()),
        }
    }

    fn refuse_tag(&mut self, tag: Option<&Tag>, span: Span) {
        if let Some(tag) = tag {
            let spot = self.spot(span.tag_span().unwrap_or(span));
            let message = format!("YAML tags are not read: leave `{}` out", tag.original());
            self.findings.add(Finding::error("tag", spot, message));
        }
    }

    fn scalar(
        &mut self,
        text: Cow<'text, str>,
        style: ScalarStyle,
        anchor: usize,
        span: Span,
    ) -> Result<(), GiveUp> {
        let mut spot = self.spot(span);
        let mut text = text;
        let plain = style == ScalarStyle::Plain;
        if plain && spot.start == spot.end {
            // Nothing is written: the parser says `~`, and stands at the colon of a map's key.
            text = Cow::Borrowed("");
            if matches!(self.open.last(), Some(Open::Map { key: Some(_), .. })) {
                spot = behind_colon(spot);
            }
        }
        if self.wants_key() {
            return self.key(&text, plain, spot);
        }
        let meaning = if plain {
            scalar::plain(&text)
        } else {
            Ok(Meaning::Text)
        };
        let meaning = meaning.unwrap_or_else(|ambiguous| {
            self.findings.add(Finding::error(
                "ambiguous",
                spot,
                format!(
                    "`{text}` is {} to some YAML readers and text to others: quote it: \"{text}\"",
                    ambiguous.taken_for
                ),
            ));
            Meaning::Text
        });
        let scalar = Scalar {
            text: text.as_ref().into(),
            meaning,
            plain,
        };
        let node = Node {
            kind: Kind::Scalar(scalar),
            spot,
        };
        self.remember(anchor, &node, 1, 1)?;
        self.place_node(node, 1)
    }

    fn wants_key(&self) -> bool {
        matches!(self.open.last(), Some(Open::Map { key: None, .. }))
    }

    fn key(&mut self, text: &str, plain: bool, spot: Spot) -> Result<(), GiveUp> {
        if plain && text == "<<" {
            self.findings.add(
                Finding::error("merge-key", spot, "merge keys (`<<`) are not read")
                    .hint("share values by `defaults` of the Hierarchy or by a SiteSet"),
            );
        } else if plain && scalar::plain(text) != Ok(Meaning::Text) {
            self.findings.add(Finding::error(
                "ambiguous",
                spot,
                format!("the key `{text}` is not text to every YAML reader: quote it: \"{text}\""),
            ));
        }
        let Some(Open::Map {
            entries, key, seen, ..
        }) = self.open.last_mut()
        else {
            return Ok(());
        };
        let text: Arc<str> = text.into();
        let first = match seen {
            Some(seen) => seen.insert(Arc::clone(&text), spot),
            None => entries
                .iter()
                .find(|(k, _)| k.text == text)
                .map(|(k, _)| k.spot),
        };
        if seen.is_none() && entries.len() >= SEARCH_MAX {
            let mut index: BTreeMap<_, _> = entries
                .iter()
                .map(|(k, _)| (Arc::clone(&k.text), k.spot))
                .collect();
            index.insert(Arc::clone(&text), spot);
            *seen = Some(index);
        }
        if let Some(first) = first {
            self.findings.add(
                Finding::error(
                    "duplicate-key",
                    spot,
                    format!("the key `{text}` is here already: keep one of the two"),
                )
                .related(first, "the first one"),
            );
        }
        *key = Some(Key { text, spot });
        Ok(())
    }

    fn start(&mut self, open: Open) -> Result<(), GiveUp> {
        let (Open::Map { spot, .. } | Open::Seq { spot, .. }) = &open;
        let spot = *spot;
        if self.wants_key() {
            self.findings.add(Finding::error(
                "key",
                spot,
                "a list or a map can't be a key: keys are text",
            ));
            return Err(GiveUp);
        }
        if self.open.len() >= DEPTH_MAX {
            return self.too_deep(spot);
        }
        self.count(1, spot)?;
        self.open.push(open);
        Ok(())
    }

    fn end(&mut self, span: Span) -> Result<(), GiveUp> {
        let end = number(span.end.byte_offset().unwrap_or_default());
        let (node, anchor) = match self.open.pop() {
            Some(Open::Map {
                entries,
                spot,
                anchor,
                ..
            }) => (
                Node {
                    kind: Kind::Map(entries),
                    spot: whole(spot, end),
                },
                anchor,
            ),
            Some(Open::Seq {
                items,
                spot,
                anchor,
            }) => (
                Node {
                    kind: Kind::Seq(items),
                    spot: whole(spot, end),
                },
                anchor,
            ),
            None => return Ok(()),
        };
        if anchor != 0 {
            let (nodes, depth) = node.cost();
            self.remember(anchor, &node, nodes, depth)?;
        }
        self.place_node(node, 0)
    }

    /// Keeps a copy for aliases; copies count, or anchors within anchors would cost depth times size.
    fn remember(
        &mut self,
        anchor: usize,
        node: &Node,
        nodes: usize,
        depth: usize,
    ) -> Result<(), GiveUp> {
        if anchor == 0 {
            return Ok(());
        }
        self.count(nodes, node.spot)?;
        let node = node.clone();
        self.anchors.insert(anchor, Anchor { node, nodes, depth });
        Ok(())
    }

    fn alias(&mut self, id: usize, span: Span) -> Result<(), GiveUp> {
        let spot = self.spot(span);
        let Some(anchor) = self.anchors.get(&id) else {
            self.findings.add(Finding::error(
                "alias",
                spot,
                "an alias within the value it stands for has no end: write the value out",
            ));
            return Err(GiveUp);
        };
        if let (true, Kind::Scalar(scalar)) = (self.wants_key(), &anchor.node.kind) {
            let (text, plain) = (Arc::clone(&scalar.text), scalar.plain);
            return self.key(&text, plain, spot);
        }
        if self.wants_key() {
            self.findings.add(Finding::error(
                "key",
                spot,
                "a list or a map can't be a key: keys are text",
            ));
            return Err(GiveUp);
        }
        if self.open.len() + anchor.depth > DEPTH_MAX {
            return self.too_deep(spot);
        }
        let nodes = anchor.nodes;
        if self.nodes + nodes > NODES_MAX {
            self.nodes += nodes;
            return self.count(0, spot);
        }
        let node = anchor.node.clone();
        self.place_node(node, nodes)
    }

    /// Puts a finished node where it belongs.
    fn place_node(&mut self, node: Node, nodes: usize) -> Result<(), GiveUp> {
        self.count(nodes, node.spot)?;
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::Seq { items, .. }) => items.push(node),
            Some(Open::Map { entries, key, .. }) => match key.take() {
                Some(key) => entries.push((key, node)),
                None => return Ok(()),
            },
        }
        Ok(())
    }

    fn count(&mut self, nodes: usize, spot: Spot) -> Result<(), GiveUp> {
        self.nodes += nodes;
        if self.nodes <= NODES_MAX {
            return Ok(());
        }
        self.findings.add(Finding::error(
            "file-size",
            spot,
            format!("the file has more than {NODES_MAX} values, aliases written out: split it"),
        ));
        Err(GiveUp)
    }

    fn too_deep(&mut self, spot: Spot) -> Result<(), GiveUp> {
        self.findings.add(Finding::error(
            "depth",
            spot,
            format!("nested more than {DEPTH_MAX} deep"),
        ));
        Err(GiveUp)
    }

    fn spot(&self, span: Span) -> Spot {
        let start = self.mark(span.start);
        let end = span.end.byte_offset().unwrap_or_default();
        whole(start, number(end))
    }

    fn mark(&self, marker: Marker) -> Spot {
        let start = number(marker.byte_offset().unwrap_or_default());
        Spot {
            file: self.file,
            line: number(marker.line()),
            column: number(marker.col() + 1),
            start,
            end: start,
        }
    }
}

fn whole(spot: Spot, end: u32) -> Spot {
    Spot {
        end: end.max(spot.start),
        ..spot
    }
}

/// One character on, as editors mark what is missing behind a key (H37).
const fn behind_colon(spot: Spot) -> Spot {
    Spot {
        column: spot.column + 1,
        start: spot.start + 1,
        end: spot.end + 1,
        ..spot
    }
}
