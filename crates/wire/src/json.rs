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
        self.space();
        if self.byte() != Some(b'"') {
            return Err(self.unexpected("a string"));
        }
        self.at += 1;
        let mut owned: Option<String> = None;
        loop {
            let rest = &self.text[self.at..];
            let Some(stop) = memchr::memchr2(b'"', b'\\', rest.as_bytes()) else {
                self.at = self.text.len();
                return Err(self.unexpected("the end of a string"));
            };
            let plain = &rest[..stop];
            self.at += stop + 1;
            if rest.as_bytes()[stop] == b'"' {
                return Ok(match owned {
                    None => Cow::Borrowed(plain),
                    Some(mut text) => {
                        text.push_str(plain);
                        Cow::Owned(text)
                    }
                });
            }
            let text = owned.get_or_insert_default();
            text.push_str(plain);
            text.push(self.escape()?);
        }
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Result<char, JsonError> {
        let c = match self.byte() {
            Some(c @ (b'"' | b'\\' | b'/')) => char::from(c),
            Some(b'b') => '\x08',
            Some(b'f') => '\x0c',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.unicode_escape();
            }
            _ => return Err(self.unexpected("an escape")),
        };
        self.at += 1;
        Ok(c)
    }

    fn unicode_escape(&mut self) -> Result<char, JsonError> {
        let high = self.hex4()?;
        if let 0xd800..0xdc00 = high
            && self.text.as_bytes()[self.at..].starts_with(b"\\u")
        {
            let after_high = self.at;
            self.at += 2;
            let low = self.hex4()?;
            if let 0xdc00..0xe000 = low {
                let c = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                return Ok(char::from_u32(c).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = after_high;
        }
        Ok(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex4(&mut self) -> Result<u32, JsonError> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4).unwrap_or_default();
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(self.unexpected("four hex digits"));
        }
        let value = digits.iter().fold(0, |v, d| v << 4 | char::from(*d).to_digit(16).unwrap_or(0));
        self.at += 4;
        Ok(value)
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
            Kind::String => self.string().map(drop)?,
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
