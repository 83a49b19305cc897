//! JSON objects as literals and gaps, strictly: what is taken apart here is valid for every parser.

use hashbrown::HashSet;

use crate::Syntax;
use crate::scan::{Content, MAX_LINE_GAPS, Parsed, Piece};

/// Depth of objects, and of arrays within them, at most.
const MAX_DEPTH: usize = 24;

/// Takes a JSON object apart. `None` for anything else, for keys with escapes and for objects that hold a key twice.
pub(crate) fn parse(line: &str) -> Option<Parsed> {
    let mut parser = Parser { line, bytes: line.as_bytes(), at: 0, pieces: Vec::new() };
    parser.space();
    parser.object("", 0)?;
    parser.space();
    (parser.at == line.len()).then_some(Parsed { syntax: Syntax::Json, pieces: parser.pieces })
}

struct Parser<'a> {
    line: &'a str,
    bytes: &'a [u8],
    at: usize,
    pieces: Vec<Piece>,
}

impl Parser<'_> {
    fn space(&mut self) {
        self.at = space_end(self.bytes, self.at);
    }

    fn eat(&mut self, byte: u8) -> Option<()> {
        (self.bytes.get(self.at) == Some(&byte)).then(|| self.at += 1)
    }

    fn object(&mut self, path: &str, depth: usize) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        self.eat(b'{')?;
        self.space();
        if self.eat(b'}').is_some() {
            return Some(());
        }
        let mut keys: HashSet<&str> = HashSet::new();
        let line = self.line;
        loop {
            self.space();
            self.eat(b'"')?;
            let start = self.at;
            self.at = string_end(self.bytes, start)?;
            let key = &line[start..self.at];
            if key.contains('\\') || !keys.insert(key) {
                return None;
            }
            self.at += 1;
            self.space();
            self.eat(b':')?;
            self.space();
            let name = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            self.member(name, depth)?;
            self.space();
            if self.eat(b'}').is_some() {
                return Some(());
            }
            self.eat(b',')?;
        }
    }

    fn member(&mut self, name: String, depth: usize) -> Option<()> {
        let content = match self.bytes.get(self.at)? {
            b'{' => return self.object(&name, depth + 1),
            b'"' => {
                self.at += 1;
                Content::JsonString
            }
            _ => Content::JsonToken,
        };
        let start = self.at;
        let end = content.end(self.bytes, start)?;
        if self.pieces.len() == MAX_LINE_GAPS {
            return None;
        }
        self.pieces.push(Piece { start, end, content, name });
        self.at = end + usize::from(content == Content::JsonString);
        Some(())
    }
}

fn space_end(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

/// Where the closing quote of a string stands whose inside starts at `at`; `None` if it is not valid.
#[inline]
pub(crate) fn string_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at = special(bytes, at);
        match bytes.get(at)? {
            b'"' => return Some(at),
            b'\\' => at = escape_end(bytes, at)?,
            _ => return None,
        }
    }
}

/// The next quote, backslash or control character.
#[inline]
fn special(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHS: u64 = ONES << 7;
    // A byte is zero if taking one from it borrows; bytes of 128 and more are none of those looked for.
    let zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    while let Some(word) = bytes.get(at..at + 8) {
        let mut eight = [0; 8];
        eight.copy_from_slice(word);
        let word = u64::from_le_bytes(eight);
        let quote = zero(word ^ (ONES * u64::from(b'"')));
        let backslash = zero(word ^ (ONES * u64::from(b'\\')));
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        let found = quote | backslash | control;
        if found != 0 {
            // Borrows run upwards: the lowest hit is a true one.
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while let Some(byte) = bytes.get(at) {
        if matches!(byte, b'"' | b'\\' | 0..0x20) {
            break;
        }
        at += 1;
    }
    at
}

/// Behind the escape that starts at `at`.
fn escape_end(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at + 1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(at + 2),
        b'u' => match unit(bytes, at + 2)? {
            0xd800..=0xdbff => {
                let low = bytes.get(at + 6..at + 8) == Some(b"\\u")
                    && (0xdc00..=0xdfff).contains(&unit(bytes, at + 8)?);
                low.then_some(at + 12)
            }
            0xdc00..=0xdfff => None,
            _ => Some(at + 6),
        },
        _ => None,
    }
}

fn unit(bytes: &[u8], at: usize) -> Option<u32> {
    let digits = bytes.get(at..at + 4)?;
    digits.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)?))
}

/// Behind the number, word or array at `at`.
#[inline]
pub(crate) fn token_end(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at)? {
        b'-' | b'0'..=b'9' => number_end(bytes, at),
        b't' => word_end(bytes, at, b"true"),
        b'f' => word_end(bytes, at, b"false"),
        b'n' => word_end(bytes, at, b"null"),
        b'[' => array_end(bytes, at, 0),
        _ => None,
    }
}

fn word_end(bytes: &[u8], at: usize, word: &[u8]) -> Option<usize> {
    bytes[at..].starts_with(word).then_some(at + word.len())
}

fn digits_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    let start = at;
    while bytes.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    (at > start).then_some(at)
}

#[inline]
fn number_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start + usize::from(bytes[start] == b'-');
    at = if bytes.get(at) == Some(&b'0') { at + 1 } else { digits_end(bytes, at)? };
    if bytes.get(at) == Some(&b'.') {
        at = digits_end(bytes, at + 1)?;
    }
    let mut large = at - start > 300;
    if let Some(b'e' | b'E') = bytes.get(at) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        at = digits_end(bytes, at + 1 + sign)?;
        large = true;
    }
    // Some parsers refuse what no float can hold.
    let fits = || std::str::from_utf8(&bytes[start..at]).ok()?.parse::<f64>().ok().filter(|n| n.is_finite());
    (!large || fits().is_some()).then_some(at)
}

fn array_end(bytes: &[u8], at: usize, depth: usize) -> Option<usize> {
    list_end(bytes, at, b']', depth, &|bytes, at| value_end(bytes, at, depth + 1))
}

fn object_end(bytes: &[u8], at: usize, depth: usize) -> Option<usize> {
    list_end(bytes, at, b'}', depth, &|bytes, at| {
        let at = space_end(bytes, (bytes.get(at) == Some(&b'"')).then(|| string_end(bytes, at + 1))?? + 1);
        (bytes.get(at) == Some(&b':')).then(|| value_end(bytes, space_end(bytes, at + 1), depth + 1))?
    })
}

fn value_end(bytes: &[u8], at: usize, depth: usize) -> Option<usize> {
    match bytes.get(at)? {
        b'"' => string_end(bytes, at + 1).map(|end| end + 1),
        b'[' => array_end(bytes, at, depth),
        b'{' => object_end(bytes, at, depth),
        _ => token_end(bytes, at),
    }
}

/// Behind the list of items whose opening bracket stands at `at`.
fn list_end(
    bytes: &[u8],
    at: usize,
    close: u8,
    depth: usize,
    item_end: &dyn Fn(&[u8], usize) -> Option<usize>,
) -> Option<usize> {
    if depth > MAX_DEPTH {
        return None;
    }
    let mut at = space_end(bytes, at + 1);
    if bytes.get(at) == Some(&close) {
        return Some(at + 1);
    }
    loop {
        at = space_end(bytes, item_end(bytes, at)?);
        match bytes.get(at)? {
            b',' => at = space_end(bytes, at + 1),
            byte if *byte == close => return Some(at + 1),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn gaps(line: &str) -> Option<Vec<(String, String)>> {
        parse(line).map(|p| p.pieces.into_iter().map(|g| (g.name, line[g.start..g.end].to_owned())).collect())
    }

    #[test]
    fn members_are_gaps() {
        let line = r#" { "a" : "x\"y\u00e9" , "o":{"n":-1.5e3,"e":{},"t":true},"l":[1,{"k":"]"}], "z":"" } "#;
        let expect = [
            ("a", r#"x\"y\u00e9"#),
            ("o.n", "-1.5e3"),
            ("o.t", "true"),
            ("l", r#"[1,{"k":"]"}]"#),
            ("z", ""),
        ];
        assert_eq!(gaps(line), Some(expect.map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec()));
        assert_eq!(gaps("{}"), Some(Vec::new()));
    }

    #[test]
    fn what_is_not_plainly_valid_is_refused() {
        let deep = format!("{}1{}", r#"{"a":"#.repeat(100), "}".repeat(100));
        let arrays = format!("{{\"a\":{}{}}}", "[".repeat(100), "]".repeat(100));
        for line in [
            "",
            "{",
            "{}x",
            "[1]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\":01}",
            "{\"a\":1.}",
            "{\"a\":.5}",
            "{\"a\":+1}",
            "{\"a\":1e999}",
            "{\"a\":nul}",
            "{\"a\":NaN}",
            "{\"a\":'x'}",
            "{\"a\":1,\"a\":2}",
            "{\"a\":{\"b\":1,\"b\":2}}",
            "{\"a\":\"\\x\"}",
            "{\"a\":\"\\ud800\"}",
            "{\"a\":\"\\udc00\"}",
            "{\"a\":\"\t\"}",
            "{\"a\":\"x",
            "{\"a\\u0062\":1}",
            "{\"a\":[1,]}",
            "{\"a\":1 \"b\":2}",
            &deep,
            &arrays,
        ] {
            assert_eq!(gaps(line), None, "{line}");
        }
        assert!(gaps("{\"a\":\"\\ud83d\\ude00\"}").is_some());
    }

    fn json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(serde_json::Value::from),
            any::<bool>().prop_map(serde_json::Value::from),
            any::<f64>().prop_map(serde_json::Value::from),
            ".{0,8}".prop_map(serde_json::Value::from),
            Just(serde_json::Value::Null),
        ];
        let value = leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
                proptest::collection::vec(("[a-d]{1,2}", inner), 0..4)
                    .prop_map(|m| serde_json::Value::Object(m.into_iter().collect())),
            ]
        });
        (proptest::collection::vec(("[a-d]{1,2}", value), 0..5), any::<bool>()).prop_map(
            |(members, pretty)| {
                let value = serde_json::Value::Object(members.into_iter().collect());
                if pretty { serde_json::to_string_pretty(&value).unwrap() } else { value.to_string() }
            },
        )
    }

    proptest! {
        #[test]
        fn valid_objects_are_taken(line in json()) {
            // Keys that Rust escapes are the only reason not to.
            prop_assert!(parse(&line).is_some(), "{}", line);
        }

        #[test]
        fn what_is_taken_is_valid(line in json(), at: proptest::sample::Index, insert in "[\\x00-~]{0,2}", remove in 0usize..3) {
            let mut chars: Vec<char> = line.chars().collect();
            let at = at.index(chars.len());
            let end = (at + remove).min(chars.len());
            chars.splice(at..end, insert.chars());
            let line: String = chars.into_iter().collect();
            if parse(&line).is_some() {
                prop_assert!(serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&line).is_ok(), "{}", line);
            }
        }
    }
}
