//! JSON objects of simple values, read at a glance: no tree, no copies, and not a value looked at that nobody wants.
//!
//! It reads a part of JSON and takes nothing that is not JSON; of everything else it says so, and a parser reads that again.

use crate::json_text::special;

/// A value as it stands in the text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Flat<'t> {
    Null,
    Bool(bool),
    /// Its digits.
    Number(&'t str),
    Text(&'t str),
    /// A text with escapes in it, which were not looked at more closely.
    Escaped,
}

/// Hands on each member of an object, in order. `false`, also after some, if the text is not an object of such values, or if
/// `take` says so.
pub(super) fn members<'t>(text: &'t str, mut take: impl FnMut(&'t str, Flat<'t>) -> bool) -> bool {
    let mut reader = Reader { text, at: 0 };
    reader.object(&mut take).is_some()
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    fn object(&mut self, take: &mut impl FnMut(&'t str, Flat<'t>) -> bool) -> Option<()> {
        self.space();
        self.expect(b'{')?;
        self.space();
        if self.peek()? == b'}' {
            self.at += 1;
            return self.end();
        }
        loop {
            self.expect(b'"')?;
            let Flat::Text(key) = self.string()? else { return None };
            self.space();
            self.expect(b':')?;
            self.space();
            let value = self.value()?;
            take(key, value).then_some(())?;
            self.space();
            match self.next()? {
                b',' => self.space(),
                b'}' => return self.end(),
                _ => return None,
            }
        }
    }

    fn value(&mut self) -> Option<Flat<'t>> {
        match self.peek()? {
            b'"' => {
                self.at += 1;
                self.string()
            }
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.word("true", Flat::Bool(true)),
            b'f' => self.word("false", Flat::Bool(false)),
            b'n' => self.word("null", Flat::Null),
            _ => None,
        }
    }

    /// Behind the opening quote.
    fn string(&mut self) -> Option<Flat<'t>> {
        let (start, bytes) = (self.at, self.text.as_bytes());
        let mut is_escaped = false;
        loop {
            self.at += special(&bytes[self.at..])?;
            match bytes[self.at] {
                b'"' => {
                    let text = &self.text[start..self.at];
                    self.at += 1;
                    return Some(if is_escaped { Flat::Escaped } else { Flat::Text(text) });
                }
                b'\\'
                    if matches!(
                        bytes.get(self.at + 1)?,
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't'
                    ) =>
                {
                    is_escaped = true;
                    self.at += 2;
                }
                _ => return None,
            }
        }
    }

    fn number(&mut self) -> Option<Flat<'t>> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        // Exponents are rare.
        match self.peek() {
            Some(b'e' | b'E') => None,
            _ => Some(Flat::Number(&self.text[start..self.at])),
        }
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    fn word(&mut self, word: &str, value: Flat<'t>) -> Option<Flat<'t>> {
        self.text.as_bytes()[self.at..].starts_with(word.as_bytes()).then(|| {
            self.at += word.len();
            value
        })
    }

    fn end(&mut self) -> Option<()> {
        self.space();
        (self.at == self.text.len()).then_some(())
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn read(text: &str) -> Option<Vec<(&str, Flat<'_>)>> {
        let mut all = Vec::new();
        members(text, |key, value| {
            all.push((key, value));
            true
        })
        .then_some(all)
    }

    #[test]
    fn simple_objects() {
        let text =
            " {\"a\":\"x\",\"b\" : -1.50 , \"é\":null,\"c\":true,\"d\":false,\"e\":\"\\\"q\\n\",\"f\":0}\n";
        let want = [
            ("a", Flat::Text("x")),
            ("b", Flat::Number("-1.50")),
            ("é", Flat::Null),
            ("c", Flat::Bool(true)),
            ("d", Flat::Bool(false)),
            ("e", Flat::Escaped),
            ("f", Flat::Number("0")),
        ];
        assert_eq!(read(text).unwrap(), want);
        assert_eq!(read("{}").unwrap(), []);
        for other in [
            "",
            "{",
            "[]",
            "1",
            "{\"a\":[1]}",
            "{\"a\":{}}",
            "{\"a\":1,}",
            "{\"a\":01}",
            "{\"a\":1.}",
            "{\"a\":-}",
            "{\"a\":1e5}",
            "{\"a\":\"\\u0041\"}",
            "{\"a\\n\":1}",
            "{\"a\":\"\u{1}\"}",
            "{\"a\":1}x",
            "{\"a\" 1}",
            "{\"a\":tru}",
            "{\"a\":\"x",
            "{\"a\":\"\\x\"}",
            "{a:1}",
        ] {
            assert_eq!(read(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn what_it_takes_is_json(text in "\\{(\"[ab]?\": ?(-?[0-9]{1,3}(\\.[0-9]{0,9})?|\"([a\"\\\\n]){0,3}\"|null|true|nul)[, ]?){0,3}\\}?") {
            if let Some(members) = read(&text) {
                let parsed: Value = serde_json::from_str(&text).unwrap();
                for (key, value) in members {
                    // Of equal keys the last counts.
                    match (value, &parsed[key]) {
                        (Flat::Escaped, value) => prop_assert!(value.is_string() || text.matches(key).count() > 1),
                        (Flat::Text(text), Value::String(value)) if text == value => {}
                        (Flat::Number(digits), Value::Number(value)) if digits.parse().ok() == value.as_f64() => {}
                        (Flat::Null, Value::Null) | (Flat::Bool(true), Value::Bool(true)) => {}
                        (_, other) => prop_assert!(text.matches(key).count() > 1, "{} {:?} {:?}", key, value, other),
                    }
                }
            }
        }
    }
}
