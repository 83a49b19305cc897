//! Reads JSON objects member by member without building anything.
//!
//! Its tolerance and its complaints are those of the reader Loki uses (buger/jsonparser): a value is only looked at as far as needed
//! to find its end, so `{"a":1x}` has a number `1x`, and what follows the closing brace does not matter.

use memchr::{memchr, memchr2};

/// A fault, in the words users see in `__error_details__`.
pub(crate) type Fault = &'static str;

pub(crate) const MALFORMED: Fault = "Malformed JSON error";
pub(crate) const MALFORMED_OBJECT: Fault = "Value looks like object, but can't find closing '}' symbol";
const MALFORMED_ARRAY: Fault = "Value is array, but can't find closing ']' symbol";
const MALFORMED_STRING: Fault = "Value is string, but can't find closing '\"' symbol";
const UNKNOWN_VALUE: Fault = "Unknown value type";

/// A value; places are byte offsets in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value {
    /// Between the quotes.
    String {
        start: usize,
        end: usize,
        escaped: bool,
    },
    /// Number or boolean.
    Scalar {
        start: usize,
        end: usize,
    },
    Null,
    /// From brace to brace.
    Object {
        start: usize,
        end: usize,
    },
    /// From bracket to bracket.
    Array {
        start: usize,
        end: usize,
    },
}

/// A place in a JSON text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scanner<'t> {
    pub(crate) text: &'t [u8],
    pub(crate) at: usize,
}

impl<'t> Scanner<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Self { text: text.as_bytes(), at: 0 }
    }

    /// The next byte that is no white space.
    pub(crate) fn token(&mut self) -> Option<u8> {
        loop {
            match self.text.get(self.at) {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                other => return other.copied(),
            }
        }
    }

    /// Enters an object; false if it is empty (and left again).
    pub(crate) fn open(&mut self) -> Result<bool, Fault> {
        if self.token() != Some(b'{') {
            return Err(MALFORMED_OBJECT);
        }
        self.at += 1;
        match self.token() {
            None => Err(MALFORMED),
            Some(b'}') => {
                self.at += 1;
                Ok(false)
            }
            Some(_) => Ok(true),
        }
    }

    /// Reads a key and its colon. Gives the place between the quotes and whether it has escapes; `None` at a closing brace
    /// (after a trailing comma).
    pub(crate) fn key(&mut self) -> Result<Option<(usize, usize, bool)>, Fault> {
        match self.token() {
            Some(b'"') => {}
            Some(b'}') => {
                self.at += 1;
                return Ok(None);
            }
            _ => return Err(MALFORMED_OBJECT),
        }
        let (start, end, escaped) = self.string().ok_or(MALFORMED)?;
        if self.token() != Some(b':') {
            return Err(MALFORMED);
        }
        self.at += 1;
        Ok(Some((start, end, escaped)))
    }

    /// After a value: true if another member follows.
    pub(crate) fn next_member(&mut self) -> Result<bool, Fault> {
        match self.token() {
            None => Err(MALFORMED_ARRAY),
            Some(b'}') => {
                self.at += 1;
                Ok(false)
            }
            Some(b',') => {
                self.at += 1;
                if self.token().is_none() { Err(MALFORMED_ARRAY) } else { Ok(true) }
            }
            Some(_) => Err(MALFORMED_OBJECT),
        }
    }

    /// Whether the next value is an object.
    pub(crate) fn at_object(&mut self) -> bool {
        self.token() == Some(b'{')
    }

    /// Reads a value, skipping over the inside of objects and arrays.
    pub(crate) fn value(&mut self) -> Result<Value, Fault> {
        let first = self.token().ok_or(MALFORMED)?;
        let start = self.at;
        match first {
            b'"' => {
                let (start, end, escaped) = self.string().ok_or(MALFORMED_STRING)?;
                Ok(Value::String { start, end, escaped })
            }
            b'{' => {
                self.skip_block(b'{', b'}').ok_or(MALFORMED_OBJECT)?;
                Ok(Value::Object { start, end: self.at })
            }
            b'[' => {
                self.skip_block(b'[', b']').ok_or(MALFORMED_ARRAY)?;
                Ok(Value::Array { start, end: self.at })
            }
            _ => self.scalar(first),
        }
    }

    fn scalar(&mut self, first: u8) -> Result<Value, Fault> {
        let start = self.at;
        let rest = &self.text[start..];
        let length = rest.iter().position(|b| matches!(b, b' ' | b'\n' | b'\r' | b'\t' | b',' | b'}' | b']'));
        let end = start + length.unwrap_or(rest.len());
        self.at = end;
        match (first, &self.text[start..end]) {
            (b'0'..=b'9' | b'-', _) | (_, b"true" | b"false") => Ok(Value::Scalar { start, end }),
            (_, b"null") => Ok(Value::Null),
            _ => Err(UNKNOWN_VALUE),
        }
    }

    /// At a quote: the place of the text inside and whether it has escapes.
    fn string(&mut self) -> Option<(usize, usize, bool)> {
        let start = self.at + 1;
        let mut at = start;
        let mut escaped = false;
        loop {
            let found = at + memchr2(b'"', b'\\', self.text.get(at..)?)?;
            if self.text[found] == b'"' {
                self.at = found + 1;
                return Some((start, found, escaped));
            }
            escaped = true;
            at = found + 2;
        }
    }

    /// Skips from an opening to its closing mark, strings left out.
    fn skip_block(&mut self, open: u8, close: u8) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            let b = *self.text.get(self.at)?;
            if b == b'"' {
                self.string()?;
                continue;
            }
            self.at += 1;
            if b == open {
                depth += 1;
            } else if b == close {
                depth -= 1;
                if depth == 0 {
                    return Some(());
                }
            }
        }
    }
}

/// Writes the text of a string literal's inside; U+FFFD (left by bytes that were not UTF-8) becomes a space. False if an
/// escape is broken; then nothing is written.
pub(crate) fn unescape(raw: &str, out: &mut String) -> bool {
    let before = out.len();
    let mut rest = raw;
    while let Some(at) = memchr(b'\\', rest.as_bytes()) {
        out.push_str(&rest[..at]);
        let Some((c, used)) = escape(&rest.as_bytes()[at..]) else {
            out.truncate(before);
            return false;
        };
        out.push(if c == char::REPLACEMENT_CHARACTER { ' ' } else { c });
        rest = &rest[at + used..];
    }
    out.push_str(rest);
    true
}

/// The character of the escape at the start of `bytes` and its length.
fn escape(bytes: &[u8]) -> Option<(char, usize)> {
    let plain = match bytes.get(1)? {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\x08',
        b'f' => '\x0c',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let high = hex4(bytes.get(2..6)?)?;
            if !(0xd800..0xe000).contains(&high) {
                return Some((char::from_u32(high)?, 6));
            }
            let low = match bytes.get(6..12) {
                Some([b'\\', b'u', digits @ ..]) => hex4(digits)?,
                _ => return None,
            };
            let pair = (high < 0xdc00 && (0xdc00..0xe000).contains(&low))
                .then(|| 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))
                .and_then(char::from_u32);
            return Some((pair.unwrap_or(char::REPLACEMENT_CHARACTER), 12));
        }
        _ => return None,
    };
    Some((plain, 2))
}

fn hex4(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |value, d| Some(value << 4 | (*d as char).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes() {
        let check = |raw: &str, want: Option<&str>| {
            let mut out = String::from("x");
            let ok = unescape(raw, &mut out);
            assert_eq!(ok.then(|| &out[1..]), want, "{raw}");
        };
        check(r#"a\"b\\\/\n"#, Some("a\"b\\/\n"));
        check(r"\u00e9\ud83d\ude00", Some("é😀"));
        check(r"\ud800\u0041", Some(" "));
        check(r"\ud800", None);
        check(r"\x", None);
    }

    #[test]
    fn values() {
        let check =
            |text: &str, want: Result<Value, Fault>| assert_eq!(Scanner::new(text).value(), want, "{text}");
        check(r#" "a\"b" "#, Ok(Value::String { start: 2, end: 6, escaped: true }));
        check(r#"{"a":"}"}x"#, Ok(Value::Object { start: 0, end: 9 }));
        check("[1,[2]] ", Ok(Value::Array { start: 0, end: 7 }));
        check("1x,", Ok(Value::Scalar { start: 0, end: 2 }));
        check("null", Ok(Value::Null));
        check("nul", Err(UNKNOWN_VALUE));
        check("\"abc", Err(MALFORMED_STRING));
        check("[1", Err(MALFORMED_ARRAY));
        check("{", Err(MALFORMED_OBJECT));
        check("", Err(MALFORMED));
    }
}
