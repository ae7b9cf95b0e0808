//! YAML as a tree in which every key and value knows where it was written.
//!
//! Places survive merging, so that a message, `render --origin` and `why` can name the line a value
//! came from. The tree knows nothing of kinds, schemas or meaning.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Number, Value};

use crate::desired::Place;

/// Where something is written: file, line and column as people count, and the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Spot {
    /// Index in [`Sources`].
    pub file: u32,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// First byte.
    pub start: u32,
    /// Behind the last byte.
    pub end: u32,
}

impl Spot {
    /// The first character of a file.
    #[must_use]
    pub const fn start_of(file: u32) -> Self {
        Self {
            file,
            line: 1,
            column: 1,
            start: 0,
            end: 0,
        }
    }
}

/// The paths that spots point into.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    paths: Vec<Arc<str>>,
}

impl Sources {
    /// Takes a path in; spots of that file carry the index returned.
    pub fn add(&mut self, path: &str) -> u32 {
        self.paths.push(path.into());
        u32::try_from(self.paths.len() - 1).expect("files are limited to fewer")
    }

    /// The spot with the file's path.
    #[must_use]
    pub fn place(&self, spot: Spot) -> Place {
        let file = self.paths.get(spot.file as usize);
        Place {
            file: file.cloned().unwrap_or_else(|| "".into()),
            line: spot.line,
            column: spot.column,
        }
    }
}

/// A value and where it is written.
#[derive(Debug, Clone)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Where it is.
    pub spot: Spot,
}

/// What a node is.
#[derive(Debug, Clone)]
pub enum Kind {
    /// Keys and values, in the order written; keys are unique.
    Map(Vec<(Key, Node)>),
    /// One value.
    Scalar(Scalar),
    /// Values in order.
    Seq(Vec<Node>),
}

/// A key of a map.
#[derive(Debug, Clone)]
pub struct Key {
    /// Its text.
    pub text: Arc<str>,
    /// Where it is.
    pub spot: Spot,
}

/// A scalar: its text as written (escapes resolved) and what that means.
#[derive(Debug, Clone)]
pub struct Scalar {
    /// The text.
    pub text: Arc<str>,
    /// What the text means.
    pub meaning: Meaning,
    /// Whether it was written without quotes.
    pub plain: bool,
}

/// What a scalar means.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Meaning {
    /// `true` or `false`.
    Bool(bool),
    /// A decimal fraction.
    Float(f64),
    /// A whole number.
    Int(i64),
    /// `null`, or nothing at all.
    Null,
    /// Text.
    Text,
}

/// A step on the way to a node.
#[derive(Debug, Clone, Copy)]
pub enum Step<'a> {
    /// Into a map.
    Key(&'a str),
    /// Into a sequence.
    Index(usize),
}

/// Above this many entries a map is searched by index, not one by one.
const SEARCH_MAX: usize = 16;

impl Node {
    /// An empty map at a spot.
    #[must_use]
    pub fn empty_map(spot: Spot) -> Self {
        Self {
            kind: Kind::Map(Vec::new()),
            spot,
        }
    }

    /// A text scalar at a spot.
    #[must_use]
    pub fn text_at(text: &str, spot: Spot) -> Self {
        let scalar = Scalar {
            text: text.into(),
            meaning: Meaning::Text,
            plain: false,
        };
        Self {
            kind: Kind::Scalar(scalar),
            spot,
        }
    }

    /// The entries, where this is a map.
    #[must_use]
    pub fn entries(&self) -> &[(Key, Self)] {
        match &self.kind {
            Kind::Map(entries) => entries,
            Kind::Scalar(_) | Kind::Seq(_) => &[],
        }
    }

    /// The items, where this is a sequence.
    #[must_use]
    pub fn items(&self) -> &[Self] {
        match &self.kind {
            Kind::Seq(items) => items,
            Kind::Scalar(_) | Kind::Map(_) => &[],
        }
    }

    /// The text, where this is a scalar that means text.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar(scalar) if scalar.meaning == Meaning::Text => Some(&scalar.text),
            Kind::Scalar(_) | Kind::Map(_) | Kind::Seq(_) => None,
        }
    }

    /// Whether this is `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar(scalar) if scalar.meaning == Meaning::Null)
    }

    /// The entry of a key.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<(&Key, &Self)> {
        self.entries()
            .iter()
            .find(|(k, _)| &*k.text == key)
            .map(|(k, v)| (k, v))
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|(_, value)| value)
    }

    /// The value at the end of a path of keys.
    #[must_use]
    pub fn at(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    /// Walks as far as the path exists: the key that led to the last node, and that node.
    #[must_use]
    pub fn walk<'a>(&'a self, path: &[Step<'_>]) -> (Option<&'a Key>, &'a Self) {
        let mut key = None;
        let mut node = self;
        for step in path {
            let next = match step {
                Step::Key(text) => node.entry(text).map(|(k, v)| (Some(k), v)),
                Step::Index(index) => node.items().get(*index).map(|item| (None, item)),
            };
            let Some((next_key, next_node)) = next else {
                break;
            };
            (key, node) = (next_key, next_node);
        }
        (key, node)
    }

    /// How many values the tree has, and how deep it is.
    #[must_use]
    pub fn cost(&self) -> (usize, usize) {
        let children: Vec<(usize, usize)> = match &self.kind {
            Kind::Scalar(_) => return (1, 1),
            Kind::Seq(items) => items.iter().map(Self::cost).collect(),
            Kind::Map(entries) => entries.iter().map(|(_, value)| value.cost()).collect(),
        };
        let values: usize = children.iter().map(|(values, _)| values).sum();
        let depth = children.iter().map(|(_, depth)| *depth).max().unwrap_or(0);
        (values + 1, depth + 1)
    }

    /// The same data without places.
    #[must_use]
    pub fn value(&self) -> Value {
        match &self.kind {
            Kind::Scalar(scalar) => scalar.value(),
            Kind::Seq(items) => Value::Array(items.iter().map(Self::value).collect()),
            Kind::Map(entries) => {
                let mut map = Map::with_capacity(entries.len());
                for (key, node) in entries {
                    map.insert(key.text.to_string(), node.value());
                }
                Value::Object(map)
            }
        }
    }

    /// JSON merge patch (RFC 7396): what `patch` says wins, `null` removes; places are kept.
    #[must_use]
    pub fn merged(&self, patch: &Self) -> Self {
        self.merge(patch, false)
    }

    /// Two patches as one: as [`Self::merged`], but `null` stays, to remove from what is below.
    #[must_use]
    pub fn layered(&self, patch: &Self) -> Self {
        self.merge(patch, true)
    }

    fn merge(&self, patch: &Self, keep_null: bool) -> Self {
        let Kind::Map(changes) = &patch.kind else {
            return patch.clone();
        };
        let base = match &self.kind {
            Kind::Map(entries) => entries.as_slice(),
            Kind::Scalar(_) | Kind::Seq(_) => &[],
        };
        let mut entries: Vec<Option<(Key, Self)>> = base.iter().cloned().map(Some).collect();
        let index = Index::of(base);
        let nothing = Self::empty_map(patch.spot);
        for (key, change) in changes {
            let place = index.find(base, &key.text);
            if change.is_null() && !keep_null {
                if let Some(place) = place {
                    entries[place] = None;
                }
                continue;
            }
            let before = place.and_then(|place| base.get(place));
            let after = before
                .map_or(&nothing, |(_, node)| node)
                .merge(change, keep_null);
            match place {
                Some(place) => entries[place] = Some((key.clone(), after)),
                None => entries.push(Some((key.clone(), after))),
            }
        }
        Self {
            kind: Kind::Map(entries.into_iter().flatten().collect()),
            spot: patch.spot,
        }
    }
}

impl Scalar {
    fn value(&self) -> Value {
        match self.meaning {
            Meaning::Null => Value::Null,
            Meaning::Bool(value) => Value::Bool(value),
            Meaning::Int(value) => Value::Number(value.into()),
            Meaning::Float(value) => {
                Number::from_f64(value).map_or_else(|| self.as_text(), Value::Number)
            }
            Meaning::Text => self.as_text(),
        }
    }

    fn as_text(&self) -> Value {
        Value::String(self.text.to_string())
    }
}

/// Finds keys in a map: one by one in a small one, by tree in a large one.
enum Index<'a> {
    Large(BTreeMap<&'a str, usize>),
    Small,
}

impl<'a> Index<'a> {
    fn of(entries: &'a [(Key, Node)]) -> Self {
        if entries.len() <= SEARCH_MAX {
            return Self::Small;
        }
        let places = entries.iter().enumerate();
        Self::Large(places.map(|(at, (key, _))| (&*key.text, at)).collect())
    }

    fn find(&self, entries: &[(Key, Node)], text: &str) -> Option<usize> {
        match self {
            Self::Large(places) => places.get(text).copied(),
            Self::Small => entries.iter().position(|(key, _)| &*key.text == text),
        }
    }
}
