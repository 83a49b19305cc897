//! A JSON reader that hands out slices of the text and names the place of every error.
//!
//! Values are pulled one by one into whatever the caller builds; no tree is made. Strings without
//! escapes are borrowed. Depth is bounded, and so is everything that is allocated: by the text itself.

use std::borrow::Cow;

/// How deep arrays and objects may be nested, in what is read and in what is skipped. OTLP's 64
/// levels of attribute values take four each.
const MAX_DEPTH: usize = 300;

/// Why a JSON text is malformed or does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}{colon}{problem} (at byte {at})", colon = if .path.is_empty() { "" } else { ": " })]
pub struct JsonError {
    /// Where, as `resourceSpans[0].resource`; empty for the outermost value.
    pub path: String,
    /// What is wrong.
    pub problem: String,
    /// Offset into the text.
    pub at: usize,
}

impl JsonError {
    fn inside_member(mut self, key: &str) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        // Keys are the sender's: a path shows no more than the start of a long one.
        let shown: String = key.chars().take(64).collect();
        self.path = format!("{shown}{dot}{}", self.path);
        self
    }

    fn inside_element(mut self, index: usize) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("[{index}]{dot}{}", self.path);
        self
    }
}

/// What kind of value comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    Bool,
    Number,
    String,
    Array,
    Object,
}

/// A position in a JSON text.
pub(crate) struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    /// An error at the current position.
    pub(crate) fn error(&self, problem: impl Into<String>) -> JsonError {
        JsonError { path: String::new(), problem: problem.into(), at: self.at }
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.byte() {
            self.at += 1;
        }
    }

    fn unexpected(&self, wanted: &str) -> JsonError {
        match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            Some(c) => self.error(format!("expected {wanted}, found {c:?}")),
            None => self.error(format!("expected {wanted}, found the end")),
        }
    }

    /// The kind of the next value.
    pub(crate) fn peek(&mut self) -> Result<Kind, JsonError> {
        self.space();
        match self.byte() {
            Some(b'"') => Ok(Kind::String),
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(b't' | b'f') => Ok(Kind::Bool),
            Some(b'n') => Ok(Kind::Null),
            _ => Err(self.unexpected("a value")),
        }
    }

    /// Takes `null` if it comes next.
    pub(crate) fn null(&mut self) -> Result<bool, JsonError> {
        Ok(self.peek()? == Kind::Null && self.word("null")?)
    }

    /// A bool.
    pub(crate) fn bool(&mut self) -> Result<bool, JsonError> {
        self.space();
        match self.byte() {
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false").map(|_| false),
            _ => Err(self.unexpected("a bool")),
        }
    }

    fn word(&mut self, word: &str) -> Result<bool, JsonError> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(self.unexpected(word));
        }
        self.at += word.len();
        Ok(true)
    }

    /// A number, as its text.
    pub(crate) fn number(&mut self) -> Result<&'a str, JsonError> {
        self.space();
        let start = self.at;
        let digits = |reader: &mut Self| {
            let from = reader.at;
            while let Some(b'0'..=b'9') = reader.byte() {
                reader.at += 1;
            }
            if reader.at == from { Err(reader.unexpected("a digit")) } else { Ok(()) }
        };
        if self.byte() == Some(b'-') {
            self.at += 1;
        }
        digits(self)?;
        if self.byte() == Some(b'.') {
            self.at += 1;
            digits(self)?;
        }
        if let Some(b'e' | b'E') = self.byte() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.byte() {
                self.at += 1;
            }
            digits(self)?;
        }
        Ok(&self.text[start..self.at])
    }

    /// A string; borrowed unless it has escapes. Unpaired surrogates become U+FFFD.
    pub(crate) fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        let quoted = self.quoted()?;
        if !quoted.escaped {
            return Ok(Cow::Borrowed(quoted.source));
        }
        let mut out = Vec::with_capacity(quoted.source.len());
        self.unescape(quoted, &mut out)?;
        match String::from_utf8(out) {
            Ok(text) => Ok(Cow::Owned(text)),
            Err(_) => Err(self.error("a string is not UTF-8")),
        }
    }

    /// A string as it stands between its quotes.
    pub(crate) fn quoted(&mut self) -> Result<Quoted<'a>, JsonError> {
        self.space();
        if self.byte() != Some(b'"') {
            return Err(self.unexpected("a string"));
        }
        self.at += 1;
        let start = self.at;
        let mut escaped = false;
        loop {
            let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
            match find([b'"', b'\\'], rest) {
                Some(stop) if rest[stop] == b'"' => {
                    self.at += stop + 1;
                    return Ok(Quoted { source: &self.text[start..self.at - 1], start, escaped });
                }
                Some(stop) => {
                    escaped = true;
                    self.at += stop + 2;
                }
                None => {
                    self.at = self.text.len();
                    return Err(self.unexpected("the end of a string"));
                }
            }
        }
    }

    /// Writes what `quoted` stands for: no longer than its source, and UTF-8.
    pub(crate) fn unescape(&self, quoted: Quoted<'a>, out: &mut Vec<u8>) -> Result<(), JsonError> {
        let mut rest = quoted.source;
        out.reserve(rest.len());
        while let Some(stop) = find([b'\\'; 2], rest.as_bytes()) {
            out.extend_from_slice(&rest.as_bytes()[..stop]);
            let (c, length) = escape(&rest[stop + 1..]).ok_or_else(|| JsonError {
                path: String::new(),
                problem: format!("invalid escape {:?}", rest[stop..].chars().take(6).collect::<String>()),
                at: quoted.start + quoted.source.len() - rest.len() + stop,
            })?;
            if c.is_ascii() {
                out.push(c as u8);
            } else {
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            rest = &rest[stop + 1 + length..];
        }
        out.extend_from_slice(rest.as_bytes());
        Ok(())
    }

    /// An array: `element` must take one value each time it is called.
    pub(crate) fn array(
        &mut self,
        mut element: impl FnMut(&mut Self, usize) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        self.open(b'[', "an array")?;
        if self.closes(b']') {
            return Ok(());
        }
        for index in 0.. {
            element(self, index).map_err(|e| e.inside_element(index))?;
            if !self.goes_on(b']', "',' or ']'")? {
                break;
            }
        }
        Ok(())
    }

    /// An object: `member` gets each key and must take one value.
    pub(crate) fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, Cow<'a, str>) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        self.open(b'{', "an object")?;
        if self.closes(b'}') {
            return Ok(());
        }
        loop {
            let key = self.string()?;
            self.space();
            if self.byte() != Some(b':') {
                return Err(self.unexpected("':'"));
            }
            self.at += 1;
            let shown = key.clone();
            member(self, key).map_err(|e| e.inside_member(&shown))?;
            if !self.goes_on(b'}', "',' or '}'")? {
                return Ok(());
            }
        }
    }

    fn open(&mut self, bracket: u8, wanted: &str) -> Result<(), JsonError> {
        self.space();
        if self.byte() != Some(bracket) {
            return Err(self.unexpected(wanted));
        }
        if self.depth == MAX_DEPTH {
            return Err(self.error(format!("nested deeper than {MAX_DEPTH} levels")));
        }
        self.depth += 1;
        self.at += 1;
        Ok(())
    }

    fn closes(&mut self, bracket: u8) -> bool {
        self.space();
        let closes = self.byte() == Some(bracket);
        if closes {
            self.at += 1;
            self.depth -= 1;
        }
        closes
    }

    fn goes_on(&mut self, bracket: u8, wanted: &str) -> Result<bool, JsonError> {
        if self.closes(bracket) {
            return Ok(false);
        }
        if self.byte() != Some(b',') {
            return Err(self.unexpected(wanted));
        }
        self.at += 1;
        Ok(true)
    }

    /// Takes any value without looking at it; gives its source text.
    pub(crate) fn skip(&mut self) -> Result<&'a str, JsonError> {
        let kind = self.peek()?;
        let start = self.at;
        match kind {
            Kind::Null => self.null().map(drop)?,
            Kind::Bool => self.bool().map(drop)?,
            Kind::Number => self.number().map(drop)?,
            Kind::String => self.quoted().map(drop)?,
            Kind::Array => self.array(|reader, _| reader.skip().map(drop))?,
            Kind::Object => self.object(|reader, _| reader.skip().map(drop))?,
        }
        Ok(&self.text[start..self.at])
    }

    /// Makes sure that nothing but white space follows.
    pub(crate) fn end(mut self) -> Result<(), JsonError> {
        self.space();
        if self.at < self.text.len() { Err(self.unexpected("the end")) } else { Ok(()) }
    }
}

/// Where the first of two bytes stands, eight bytes at a step.
///
/// In JSON within JSON every few bytes are escaped: there setting up a vector search, as memchr does,
/// costs more than it saves.
#[inline]
fn find([a, b]: [u8; 2], text: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGHS: u64 = ONES << 7;
    let (words, rest) = text.as_chunks::<8>();
    for (i, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // A byte that is equal becomes zero, and a zero byte's high bit shows up in the borrow; higher
        // bytes may show falsely then, but the lowest is always right.
        let (a, b) = (word ^ (ONES * u64::from(a)), word ^ (ONES * u64::from(b)));
        let hits = (a.wrapping_sub(ONES) & !a | b.wrapping_sub(ONES) & !b) & HIGHS;
        if hits != 0 {
            return Some(i * 8 + hits.trailing_zeros() as usize / 8);
        }
    }
    rest.iter().position(|byte| *byte == a || *byte == b).map(|at| text.len() - rest.len() + at)
}

/// A JSON string, undecoded.
#[derive(Clone, Copy)]
pub(crate) struct Quoted<'a> {
    /// What stands between the quotes.
    pub(crate) source: &'a str,
    /// Where that begins.
    start: usize,
    /// Whether there are escapes in it.
    pub(crate) escaped: bool,
}

/// What follows a backslash: the character it stands for, and how many bytes that took.
fn escape(rest: &str) -> Option<(char, usize)> {
    let c = match rest.as_bytes().first()? {
        c @ (b'"' | b'\\' | b'/') => char::from(*c),
        b'b' => '\x08',
        b'f' => '\x0c',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return unicode_escape(rest),
        _ => return None,
    };
    Some((c, 1))
}

/// `uXXXX` or a surrogate pair `uXXXX\uXXXX`.
fn unicode_escape(rest: &str) -> Option<(char, usize)> {
    let high = hex4(rest.get(1..5)?)?;
    if let 0xd800..0xdc00 = high
        && let Some(low) = rest.get(5..).and_then(|next| next.strip_prefix("\\u"))
        && let low @ 0xdc00..0xe000 = hex4(low.get(..4)?)?
    {
        let c = char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00));
        return Some((c.unwrap_or(char::REPLACEMENT_CHARACTER), 11));
    }
    Some((char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER), 5))
}

fn hex4(digits: &str) -> Option<u32> {
    digits.bytes().try_fold(0, |value, digit| Some(value << 4 | char::from(digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Rebuilds serde_json's value through the reader.
    fn value(reader: &mut Reader<'_>) -> Result<serde_json::Value, JsonError> {
        Ok(match reader.peek()? {
            Kind::Null => {
                reader.null()?;
                serde_json::Value::Null
            }
            Kind::Bool => reader.bool()?.into(),
            Kind::Number => serde_json::from_str(reader.number()?).unwrap(),
            Kind::String => reader.string()?.into(),
            Kind::Array => {
                let mut out = Vec::new();
                reader.array(|r, _| value(r).map(|v| out.push(v)))?;
                out.into()
            }
            Kind::Object => {
                let mut out = serde_json::Map::new();
                reader.object(|r, key| value(r).map(|v| drop(out.insert(key.into_owned(), v))))?;
                out.into()
            }
        })
    }

    fn read(text: &str) -> Result<serde_json::Value, JsonError> {
        let mut reader = Reader::new(text);
        let found = value(&mut reader)?;
        reader.end()?;
        let mut skipping = Reader::new(text);
        assert_eq!(skipping.skip()?, text.trim_matches([' ', '\n', '\t', '\r']));
        Ok(found)
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::vec((any::<String>(), inner), 0..6)
                    .prop_map(|pairs| serde_json::Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json(json in any_json(), pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&json) } else { serde_json::to_string(&json) };
            let text = text.unwrap();
            prop_assert_eq!(read(&text).unwrap(), serde_json::from_str::<serde_json::Value>(&text).unwrap());
        }

        #[test]
        fn accepts_what_serde_json_accepts(text in "[ \\[\\]{},:\"\\\\a-fntu0-9.eE+-]{0,12}") {
            if let Ok(expect) = serde_json::from_str::<serde_json::Value>(&text) {
                prop_assert_eq!(read(&text).unwrap(), expect);
            }
        }

        #[test]
        fn finds_the_first(text: Vec<u8>, a: u8, b: u8, at: prop::sample::Index) {
            let a = if text.is_empty() { a } else { text[at.index(text.len())] };
            prop_assert_eq!(find([a, b], &text), text.iter().position(|byte| *byte == a || *byte == b));
        }

        #[test]
        fn any_text_ends(text: String) {
            let _ = read(&text);
        }
    }

    #[test]
    fn strings() {
        assert_eq!(Reader::new(r#" "plain""#).string(), Ok(Cow::Borrowed("plain")));
        assert_eq!(Reader::new(r#""\u00e9\ud83d\ude00\n""#).string().unwrap(), "é😀\n");
        assert_eq!(Reader::new(r#""\ud83d-\ude00\ud83dA""#).string().unwrap(), "\u{fffd}-\u{fffd}\u{fffd}A");
    }

    #[test]
    fn errors_name_the_place() {
        fn check(text: &str, expect: &str) {
            assert_eq!(read(text).unwrap_err().to_string(), expect);
        }
        check("", "expected a value, found the end (at byte 0)");
        check(r#"{"a": [1, {"b": x}]}"#, "a[1].b: expected a value, found 'x' (at byte 16)");
        check(r#"{"a": [[1 2]]}"#, "a[0]: expected ',' or ']', found '2' (at byte 10)");
        check(r#"{"a": "b"#, "a: expected the end of a string, found the end (at byte 8)");
        check("[] []", "expected the end, found '[' (at byte 3)");
        assert!(read(&"[".repeat(100_000)).unwrap_err().problem.contains("nested deeper than 300"));
        assert!(read(&"{\"a\":".repeat(100_000)).unwrap_err().problem.contains("nested deeper than 300"));
    }
}
