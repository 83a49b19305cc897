//! YAML as a tree that keeps what a deserializer forgets: the text of every scalar as written, and the line it stands on.
//!
//! Types are decided late, by the field that a scalar ends up in: `1.10` in a text field stays `1.10`. Aliases are copied
//! and merge keys (`<<`) resolved here, under a budget, so that no document grows beyond its size by much.

use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap};
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, Span, Tag};
use std::collections::HashMap;

/// Where a node was written: layer (file or flag) and line, from 1; 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Origin {
    pub(super) layer: u16,
    pub(super) line: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Kind {
    /// `plain` is false for quoted and block scalars: those are text and nothing else.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    /// Keys in order of writing, unique.
    Map(Vec<(String, Node)>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// Of the key for a map's entry, else of the node.
    pub(super) origin: Origin,
}

/// What a plain scalar means to a reader that asks for nothing in particular (YAML 1.2 core schema, and `yes/no/on/off`
/// only where a bool is asked for).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Plain {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text,
}

impl Plain {
    pub(super) fn read(text: &str) -> Plain {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => return Plain::Null,
            "true" | "True" | "TRUE" => return Plain::Bool(true),
            "false" | "False" | "FALSE" => return Plain::Bool(false),
            _ => {}
        }
        match int(text) {
            Some(n) => Plain::Int(n),
            None => float(text).map_or(Plain::Text, Plain::Float),
        }
    }
}

/// Decimal, `0x`, `0o` and `0b` integers.
pub(super) fn int(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = match digits.get(..2) {
        Some("0x") => (16, &digits[2..]),
        Some("0o") => (8, &digits[2..]),
        Some("0b") => (2, &digits[2..]),
        _ => (10, digits),
    };
    if digits.is_empty() || digits.starts_with(['+', '-']) {
        return None;
    }
    let n = i128::from_str_radix(digits, radix).ok()?;
    Some(if negative { -n } else { n })
}

/// Floats with a digit in them (Rust alone would read `inf` and `nan`), and YAML's `.inf` and `.nan`.
pub(super) fn float(text: &str) -> Option<f64> {
    match text.trim_start_matches(['+', '-']).to_ascii_lowercase().as_str() {
        ".inf" => Some(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY }),
        ".nan" => Some(f64::NAN),
        lower if lower.starts_with(|c: char| c.is_ascii_digit() || c == '.') => text.parse().ok(),
        _ => None,
    }
}

impl Node {
    pub(super) fn null() -> Node {
        Node::scalar("", true)
    }

    pub(super) fn scalar(text: &str, plain: bool) -> Node {
        Node { kind: Kind::Scalar { text: text.to_owned(), plain }, origin: Origin::default() }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, plain: true } if Plain::read(text) == Plain::Null)
    }

    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|(k, _)| k == key).map(|(_, node)| node),
            _ => None,
        }
    }

    /// Lays `over` on this node: maps join deeply, everything else is replaced.
    pub(super) fn merge(&mut self, over: Node) {
        match (&mut self.kind, over.kind) {
            (Kind::Map(entries), Kind::Map(more)) => {
                for (key, node) in more {
                    match entries.iter_mut().find(|(k, _)| *k == key) {
                        Some((_, old)) => old.merge(node),
                        None => entries.push((key, node)),
                    }
                }
            }
            (_, kind) => *self = Node { kind, origin: over.origin },
        }
    }

    /// The tree of a serialized value; scalars that were text stay text.
    pub(super) fn from_json(value: &serde_json::Value) -> Node {
        use serde_json::Value::*;
        let kind = match value {
            Null => return Node::null(),
            Bool(b) => return Node::scalar(&b.to_string(), true),
            Number(n) => return Node::scalar(&n.to_string(), true),
            String(s) => return Node::scalar(s, false),
            Array(items) => Kind::List(items.iter().map(Node::from_json).collect()),
            Object(map) => Kind::Map(map.iter().map(|(k, v)| (k.clone(), Node::from_json(v))).collect()),
        };
        Node { kind, origin: Origin::default() }
    }

    /// In words, for messages: `a map`, `` `abc` ``.
    pub(super) fn describe(&self) -> String {
        match &self.kind {
            Kind::Map(_) => "a map".to_owned(),
            Kind::List(_) => "a list".to_owned(),
            Kind::Scalar { .. } if self.is_null() => "nothing".to_owned(),
            Kind::Scalar { text, .. } => {
                let shown: String = text.chars().take(60).collect();
                format!("`{shown}{}`", if shown.len() < text.len() { "…" } else { "" })
            }
        }
    }
}

/// A node seen as the value a generic reader would see; used to print.
pub(super) struct Typed<'a>(pub(super) &'a Node);

impl Serialize for Typed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0.kind {
            Kind::List(items) => serializer.collect_seq(items.iter().map(Typed)),
            Kind::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, node) in entries {
                    map.serialize_entry(key, &Typed(node))?;
                }
                map.end()
            }
            Kind::Scalar { text, plain: false } => serializer.serialize_str(text),
            Kind::Scalar { text, plain: true } => match Plain::read(text) {
                Plain::Null => serializer.serialize_unit(),
                Plain::Bool(b) => serializer.serialize_bool(b),
                Plain::Int(n) => match (i64::try_from(n), u64::try_from(n)) {
                    (Ok(n), _) => serializer.serialize_i64(n),
                    (_, Ok(n)) => serializer.serialize_u64(n),
                    _ => serializer.serialize_str(text),
                },
                Plain::Float(f) => serializer.serialize_f64(f),
                Plain::Text => serializer.serialize_str(text),
            },
        }
    }
}

/// Why text is not a tree: line (0 for none) and message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ParseError {
    pub(super) line: usize,
    pub(super) message: String,
}

const MAX_NODES: usize = 200_000;
const MAX_TEXT: usize = 16 << 20;
const MAX_DEPTH: usize = 64;

/// Reads one YAML document; an empty one is null.
pub(super) fn parse(text: &str, layer: u16) -> Result<Node, ParseError> {
    let mut reader =
        Reader { parser: Parser::new_from_str(text), layer, anchors: HashMap::new(), nodes: 0, text: 0 };
    let mut document = None;
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamEnd => return Ok(document.unwrap_or_else(Node::null)),
            Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
            _ if document.is_some() => {
                return Err(
                    reader.error(&span, "a second document is not expected: use one document per file")
                );
            }
            event => document = Some(reader.node(event, &span, 0)?),
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, serde_saphyr::granit_parser::StrInput<'a>>,
    layer: u16,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    text: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), ParseError> {
        loop {
            match self.parser.next() {
                Some(Ok((Event::Comment(..) | Event::Anchor(..), _))) => {}
                Some(Ok(next)) => return Ok(next),
                Some(Err(error)) => {
                    return Err(ParseError {
                        line: error.marker().line(),
                        message: error.info().to_string(),
                    });
                }
                None => return Ok((Event::StreamEnd, Span::default())),
            }
        }
    }

    fn error(&self, span: &Span, message: impl Into<String>) -> ParseError {
        ParseError { line: span.start.line(), message: message.into() }
    }

    fn spend(&mut self, span: &Span, nodes: usize, text: usize) -> Result<(), ParseError> {
        self.nodes += nodes;
        self.text += text;
        if self.nodes > MAX_NODES || self.text > MAX_TEXT {
            return Err(self.error(span, "the document is too large, perhaps because of aliases in aliases"));
        }
        Ok(())
    }

    fn node(&mut self, event: Event<'a>, span: &Span, depth: usize) -> Result<Node, ParseError> {
        if depth > MAX_DEPTH {
            return Err(self.error(span, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let origin = Origin { layer: self.layer, line: span.start.line() };
        let (kind, anchor) = match event {
            Event::Alias(anchor) => {
                let target = self.anchors.get(&anchor).cloned();
                let target = target.ok_or_else(|| self.error(span, "alias inside its own anchor"))?;
                let (nodes, text) = weight(&target);
                self.spend(span, nodes, text)?;
                return Ok(Node { origin, ..target });
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.spend(span, 1, text.len())?;
                let plain = match tag.as_deref().map(Tag::suffix) {
                    Some("str") => false,
                    Some("int" | "float" | "bool" | "null") => true,
                    _ => style == ScalarStyle::Plain,
                };
                (Kind::Scalar { text: text.into_owned(), plain }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => {
                self.spend(span, 1, 0)?;
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break,
                        (event, span) => items.push(self.node(event, &span, depth + 1)?),
                    }
                }
                (Kind::List(items), anchor)
            }
            Event::MappingStart(_, anchor, _) => {
                self.spend(span, 1, 0)?;
                (Kind::Map(self.entries(depth)?), anchor)
            }
            other => return Err(self.error(span, format!("unexpected {other:?}"))),
        };
        let node = Node { kind, origin };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn entries(&mut self, depth: usize) -> Result<Vec<(String, Node)>, ParseError> {
        let mut entries: Vec<(String, Node)> = Vec::new();
        let mut merged = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let key = match self.node(event, &span, depth + 1)?.kind {
                Kind::Scalar { text, .. } => text,
                _ => return Err(self.error(&span, "a key must be text")),
            };
            let (event, value_span) = self.next()?;
            let mut value = self.node(event, &value_span, depth + 1)?;
            value.origin.line = span.start.line();
            if key == "<<" {
                match value.kind {
                    Kind::List(items) => merged.extend(items),
                    _ => merged.push(value),
                }
            } else if entries.iter().any(|(k, _)| *k == key) {
                return Err(self.error(&span, format!("key `{key}` is there twice")));
            } else {
                entries.push((key, value));
            }
        }
        for node in merged {
            let Kind::Map(more) = node.kind else {
                return Err(ParseError {
                    line: node.origin.line,
                    message: "`<<` takes a map or a list of maps".to_owned(),
                });
            };
            for (key, value) in more {
                if !entries.iter().any(|(k, _)| *k == key) {
                    entries.push((key, value));
                }
            }
        }
        Ok(entries)
    }
}

/// Nodes and bytes of text in a tree.
fn weight(node: &Node) -> (usize, usize) {
    let add = |(a, b): (usize, usize), (c, d): (usize, usize)| (a + c, b + d);
    match &node.kind {
        Kind::Scalar { text, .. } => (1, text.len()),
        Kind::List(items) => items.iter().map(weight).fold((1, 0), add),
        Kind::Map(entries) => entries.iter().map(|(_, node)| weight(node)).fold((1, 0), add),
    }
}
