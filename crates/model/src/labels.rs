//! Label sets: the identity of a log stream or of a series.

use std::cmp::Ordering;
use std::fmt::{self, Write as _};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// A sorted set of labels with distinct names and non-empty values, cheap to clone, compare and hash.
///
/// The canonical text `{app="a", env="b"}` is Prometheus' and Loki's: sorted by name, values
/// quoted as Go does.
#[derive(Clone, Default)]
pub struct Labels {
    pairs: Arc<[Pair]>,
    /// Of the pairs: sets are looked up far more often than they are made.
    hash: u64,
}

type Pair = (Arc<str>, Arc<str>);

/// The hash (xxh3-64) of a stream's canonical text. Persisted: never change how it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// Why a text is not a label set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelsError {
    /// The text does not follow the grammar.
    #[error("error parsing labels '{text}' with error: parse error at col {at}: {problem}")]
    Syntax {
        /// The text as given.
        text: String,
        /// Column in characters, from 1.
        at: usize,
        /// What is wrong there.
        problem: &'static str,
    },
    /// A name occurs twice.
    #[error("stream '{text}' has duplicate label name: '{name}'")]
    Duplicate {
        /// The text as given.
        text: String,
        /// The name.
        name: String,
    },
}

impl Labels {
    /// Makes a set from pairs in any order. Empty values are dropped; of equal names the last wins.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut builder = LabelsBuilder::default();
        for (name, value) in pairs {
            builder.set(name.as_ref(), value.as_ref());
        }
        builder.build()
    }

    /// Parses Prometheus' series syntax as push bodies carry it: `{app="x", env='p', raw=`r`,}`.
    /// Labels with an empty value are dropped; a name given twice is an error.
    pub fn parse(text: &str) -> Result<Self, LabelsError> {
        Parser { text, at: 0 }.labels()
    }

    /// The value of `name`, if the set has it.
    pub fn get(&self, name: &str) -> Option<&str> {
        /// In so few, names of other lengths are passed over faster than halves are chosen.
        const FEW: usize = 16;
        let place = match self.pairs.len() <= FEW {
            true => self.pairs.iter().position(|(n, _)| **n == *name)?,
            false => self.pairs.binary_search_by(|(n, _)| (**n).cmp(name)).ok()?,
        };
        Some(&self.pairs[place].1)
    }

    /// Name and value of each label in order of name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + Clone {
        self.pairs.iter().map(|(n, v)| (&**n, &**v))
    }

    /// How many labels there are.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there is no label at all.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The identity under which the stream's rows are stored.
    pub fn stream_id(&self) -> StreamId {
        StreamId(xxh3_64(self.to_string().as_bytes()))
    }

    /// Starts a changed copy.
    pub fn to_builder(&self) -> LabelsBuilder {
        LabelsBuilder(self.pairs.to_vec())
    }
}

impl PartialEq for Labels {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.pairs, &other.pairs) || (self.hash == other.hash && self.pairs == other.pairs)
    }
}

impl Eq for Labels {}

impl Hash for Labels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Labels {
    fn cmp(&self, other: &Self) -> Ordering {
        self.pairs.cmp(&other.pairs)
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('{')?;
        for (i, (name, value)) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{name}={}", quote(value))?;
        }
        f.write_char('}')
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Builds a [`Labels`] by setting and removing names.
#[derive(Debug, Clone, Default)]
pub struct LabelsBuilder(Vec<Pair>);

impl LabelsBuilder {
    /// Sets `name`; an empty value removes it.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        match self.0.binary_search_by(|(n, _)| (**n).cmp(name)) {
            Ok(i) if value.is_empty() => drop(self.0.remove(i)),
            Ok(i) => self.0[i].1 = value.into(),
            Err(_) if value.is_empty() => {}
            Err(i) => self.0.insert(i, (name.into(), value.into())),
        }
        self
    }

    /// Removes `name` if it is there.
    pub fn remove(&mut self, name: &str) -> &mut Self {
        self.set(name, "")
    }

    /// The value of `name`, if set.
    pub fn get(&self, name: &str) -> Option<&str> {
        let i = self.0.binary_search_by(|(n, _)| (**n).cmp(name)).ok()?;
        Some(&self.0[i].1)
    }

    /// The finished set.
    pub fn build(self) -> Labels {
        let hash = |hash, (name, value): &Pair| {
            xxh3_64_with_seed(value.as_bytes(), xxh3_64_with_seed(name.as_bytes(), hash))
        };
        Labels { hash: self.0.iter().fold(0, hash), pairs: self.0.into() }
    }
}

/// Whether `name` follows `[A-Za-z_][A-Za-z0-9_]*`.
pub fn is_label_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Quotes a text as Go's `strconv.Quote` does.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0b' => out.push_str("\\v"),
            '\x0c' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || c == '\x7f' => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c if c.is_control() || ('\u{2028}'..='\u{2029}').contains(&c) || c == '\u{feff}' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn labels(mut self) -> Result<Labels, LabelsError> {
        let mut pairs: Vec<(&str, String)> = Vec::new();
        self.expect('{', "expected '{'")?;
        loop {
            if self.eat('}') {
                break;
            }
            let name = self.name()?;
            self.expect('=', "expected '='")?;
            let value = self.string()?;
            if pairs.iter().any(|(n, _)| *n == name) {
                return Err(LabelsError::Duplicate { text: self.text.to_owned(), name: name.to_owned() });
            }
            pairs.push((name, value));
            if !self.eat(',') {
                self.expect('}', "expected ',' or '}'")?;
                break;
            }
        }
        self.space();
        if self.at < self.text.len() {
            return Err(self.error("unexpected text after '}'"));
        }
        Ok(Labels::from_pairs(pairs))
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    fn eat(&mut self, c: char) -> bool {
        self.space();
        let found = self.rest().starts_with(c);
        self.at += if found { c.len_utf8() } else { 0 };
        found
    }

    fn expect(&mut self, c: char, problem: &'static str) -> Result<(), LabelsError> {
        if self.eat(c) { Ok(()) } else { Err(self.error(problem)) }
    }

    fn name(&mut self) -> Result<&'a str, LabelsError> {
        self.space();
        let rest = self.rest();
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        if !is_label_name(&rest[..end]) {
            return Err(self.error("expected a label name"));
        }
        self.at += end;
        Ok(&rest[..end])
    }

    fn string(&mut self) -> Result<String, LabelsError> {
        self.space();
        let quote = match self.rest().chars().next() {
            Some(c @ ('"' | '\'' | '`')) => c,
            _ => return Err(self.error("expected a quoted value")),
        };
        self.at += 1;
        if quote == '`' {
            let end = self.rest().find('`').ok_or_else(|| self.error("value not terminated"))?;
            let value = self.rest()[..end].to_owned();
            self.at += end + 1;
            return Ok(value);
        }
        let mut bytes = Vec::new();
        loop {
            let Some(c) = self.rest().chars().next() else {
                return Err(self.error("value not terminated"));
            };
            self.at += c.len_utf8();
            match c {
                c if c == quote => break,
                '\n' => return Err(self.error("newline in value")),
                '\\' => self.escape(&mut bytes)?,
                c => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Result<(), LabelsError> {
        let c = self.rest().chars().next().ok_or_else(|| self.error("value not terminated"))?;
        self.at += c.len_utf8();
        let plain = match c {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            '\\' | '"' | '\'' => c as u8,
            'x' => self.digits(2, 16)? as u8,
            '0'..='7' => {
                self.at -= 1;
                self.digits(3, 8)? as u8
            }
            'u' | 'U' => {
                let code = self.digits(if c == 'u' { 4 } else { 8 }, 16)?;
                let c = char::from_u32(code).ok_or_else(|| self.error("escape is not a character"))?;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err(self.error("unknown escape")),
        };
        out.push(plain);
        Ok(())
    }

    fn digits(&mut self, count: usize, radix: u32) -> Result<u32, LabelsError> {
        let digits = self.rest().get(..count).unwrap_or("x");
        let value = u32::from_str_radix(digits, radix).map_err(|_| self.error("broken escape"))?;
        self.at += count;
        Ok(value)
    }

    fn error(&self, problem: &'static str) -> LabelsError {
        let at = self.text[..self.at].chars().count() + 1;
        LabelsError::Syntax { text: self.text.to_owned(), at, problem }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn canonical_text() {
        let labels = Labels::parse(r#"{ env='p', app="x\n", raw=`a\b`, none="", }"#).unwrap();
        assert_eq!(labels.to_string(), r#"{app="x\n", env="p", raw="a\\b"}"#);
        assert_eq!(labels.get("env"), Some("p"));
        assert_eq!(labels.get("none"), None);
        assert!(Labels::parse("{}").unwrap().is_empty());
    }

    #[test]
    fn refused_texts_name_the_place() {
        for (text, at) in
            [("", 1), ("{a}", 3), ("{a=b}", 4), ("{a=\"b}", 7), ("{1=\"b\"}", 2), ("{a=\"b\"} x", 9)]
        {
            match Labels::parse(text) {
                Err(LabelsError::Syntax { at: got, .. }) => assert_eq!(got, at, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        assert!(matches!(Labels::parse(r#"{a="1",a="2"}"#), Err(LabelsError::Duplicate { .. })));
    }

    #[test]
    fn what_is_equal_is_found_again() {
        let pairs =
            |count: usize| (0..count).map(|i| (format!("name{i}"), i.to_string())).collect::<Vec<_>>();
        for count in [0, 1, 16, 17, 40] {
            let labels = Labels::from_pairs(pairs(count));
            assert!((0..count).all(|i| labels.get(&format!("name{i}")) == Some(&i.to_string())));
            assert_eq!(labels.get("name"), None);
            let mut known = std::collections::HashSet::from([labels.clone()]);
            assert!(
                !known.insert(Labels::from_pairs(pairs(count).into_iter().rev())),
                "the order is no part of it"
            );
            assert!(known.insert(Labels::from_pairs(pairs(count + 1))));
        }
        assert_ne!(Labels::from_pairs([("a", "bc")]), Labels::from_pairs([("ab", "c")]));
    }

    proptest! {
        #[test]
        fn text_comes_back(pairs in proptest::collection::vec(("[a-z_]{1,4}", any::<String>()), 0..5)) {
            let labels = Labels::from_pairs(pairs);
            prop_assert_eq!(Labels::parse(&labels.to_string()).unwrap(), labels);
        }
    }
}
