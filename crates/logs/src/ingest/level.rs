//! Finding the level of an entry, for the structured metadata `detected_level`.
//!
//! This runs for every line of a stream that has no level label, so a line is scanned at most twice and nothing is allocated.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// Names that may hold a level where nothing else is configured, the most telling first.
pub const NAMES: [&str; 14] = [
    "level",
    "LEVEL",
    "Level",
    "log.level",
    "severity",
    "SEVERITY",
    "Severity",
    "SeverityText",
    "lvl",
    "LVL",
    "Lvl",
    "severity_text",
    "Severity_Text",
    "SEVERITY_TEXT",
];
/// The metadata that holds the answer.
pub const DETECTED_LEVEL: &str = "detected_level";
/// OTLP's number of the severity, as metadata.
pub const SEVERITY_NUMBER: &str = "severity_number";
const UNKNOWN: &str = "unknown";

/// Names that may hold a level, the most telling first, with what tells at a glance that a name is none of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<String>", into = "Vec<String>")]
pub struct LevelFields {
    names: Vec<String>,
    /// Length of the shortest and the longest.
    lengths: (usize, usize),
    /// Their first bytes, in both cases.
    starts: Box<[bool; 256]>,
}

impl From<Vec<String>> for LevelFields {
    fn from(names: Vec<String>) -> Self {
        let names: Vec<String> = names.into_iter().filter(|name| !name.is_empty()).collect();
        let lengths = names.iter().map(String::len);
        let lengths = (lengths.clone().min().unwrap_or(1), lengths.max().unwrap_or(0));
        let mut starts = Box::new([false; 256]);
        for first in names.iter().map(|name| name.as_bytes()[0]) {
            starts[usize::from(first.to_ascii_lowercase())] = true;
            starts[usize::from(first.to_ascii_uppercase())] = true;
        }
        Self { names, lengths, starts }
    }
}

impl From<LevelFields> for Vec<String> {
    fn from(fields: LevelFields) -> Self {
        fields.names
    }
}

impl Default for LevelFields {
    fn default() -> Self {
        NAMES.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>().into()
    }
}

impl LevelFields {
    /// The names.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    fn is_plausible(&self, name: &str) -> bool {
        let (shortest, longest) = self.lengths;
        (shortest..=longest).contains(&name.len()) && self.starts[usize::from(name.as_bytes()[0])]
    }

    /// Whether this is one of the names.
    fn has(&self, name: &str) -> bool {
        self.is_plausible(name) && self.names.iter().any(|n| n == name)
    }

    /// How telling a logfmt key is; lower is more.
    fn rank(&self, name: &str) -> Option<usize> {
        if self.is_plausible(name) {
            self.names.iter().position(|n| n.eq_ignore_ascii_case(name))
        } else {
            None
        }
    }
}

/// The canonical name of a level, if `value` is one in any spelling.
pub fn known(value: &str) -> Option<&'static str> {
    const SPELLINGS: [(&str, &str); 15] = [
        ("info", "info"),
        ("error", "error"),
        ("warn", "warn"),
        ("debug", "debug"),
        ("warning", "warn"),
        ("err", "error"),
        ("inf", "info"),
        ("information", "info"),
        ("trace", "trace"),
        ("trc", "trace"),
        ("dbg", "debug"),
        ("wrn", "warn"),
        ("critical", "critical"),
        ("fatal", "fatal"),
        ("warning", "warn"),
    ];
    SPELLINGS.iter().find(|(spelling, _)| value.eq_ignore_ascii_case(spelling)).map(|(_, level)| *level)
}

/// A value found under a level's name: canonical if it is known, else as it is.
pub fn normalise(value: &str) -> Cow<'_, str> {
    known(value).map_or(Cow::Borrowed(value), Cow::Borrowed)
}

/// The level of OTLP's severity number, given as text.
pub fn of_severity_number(text: &str) -> &'static str {
    match text.parse::<i64>() {
        Ok(1..=4) => "trace",
        Ok(5..=8) => "debug",
        Ok(9..=12) => "info",
        Ok(13..=16) => "warn",
        Ok(17..=20) => "error",
        Ok(21..=24) => "fatal",
        Ok(_) => UNKNOWN,
        Err(_) => "info",
    }
}

/// The level that a line itself tells. Members of JSON objects count down to `depth` objects within each other; 0 for any.
pub fn of_line(line: &str, fields: &LevelFields, depth: usize) -> &'static str {
    let trimmed = line.trim_ascii();
    let found = if trimmed.starts_with('{') && trimmed.ends_with('}') {
        in_json(trimmed, fields, if depth == 0 { usize::MAX } else { depth })
    } else if memchr::memchr(b'=', line.as_bytes()).is_some() {
        in_logfmt(line, fields)
    } else {
        None
    };
    found.and_then(known).unwrap_or_else(|| keyword(line))
}

/// The first string member with a level's name, no deeper than `deepest` objects within each other.
fn in_json<'a>(text: &'a str, fields: &LevelFields, deepest: usize) -> Option<&'a str> {
    let bytes = text.as_bytes();
    let mut at = 1;
    let mut depth = 1usize;
    let mut arrays = 0usize;
    // The last string, if it may be a key, and whether a colon came after it.
    let mut key: Option<&str> = None;
    let mut colon = false;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                let end = string_end(bytes, at + 1)?;
                let string = &text[at + 1..end];
                at = end;
                match key {
                    Some(name) if colon => {
                        if depth <= deepest && arrays == 0 && fields.has(name) {
                            return Some(string);
                        }
                        key = None;
                    }
                    _ => key = Some(string),
                }
                colon = false;
            }
            b':' => colon = true,
            b'{' => (depth, key) = (depth + 1, None),
            b'}' => (depth, key) = (depth.checked_sub(1)?, None),
            b'[' => (arrays, key) = (arrays + 1, None),
            b']' => (arrays, key) = (arrays.checked_sub(1)?, None),
            b',' => key = None,
            _ => {}
        }
        at += 1;
    }
    None
}

/// Where the string that begins at `from` ends: the place of its closing quote.
fn string_end(bytes: &[u8], mut from: usize) -> Option<usize> {
    loop {
        let at = from + memchr::memchr2(b'"', b'\\', bytes.get(from..)?)?;
        if bytes[at] == b'"' {
            return Some(at);
        }
        from = at + 2;
    }
}

/// The value of the most telling name, compared without case.
fn in_logfmt<'a>(line: &'a str, fields: &LevelFields) -> Option<&'a str> {
    let bytes = line.as_bytes();
    let mut best: Option<(usize, &str)> = None;
    let mut from = 0;
    while let Some(found) = memchr::memchr(b'=', &bytes[from..]) {
        let equals = from + found;
        from = equals + 1;
        let start = bytes[..equals].iter().rposition(|b| b.is_ascii_whitespace()).map_or(0, |i| i + 1);
        let name = &line[start..equals];
        let value = match bytes.get(from) {
            Some(b'"') => {
                let Some(end) = string_end(bytes, from + 1) else { break };
                let value = &line[from + 1..end];
                from = end;
                value
            }
            _ => {
                let end = bytes[from..]
                    .iter()
                    .position(|b| b.is_ascii_whitespace())
                    .map_or(bytes.len(), |i| from + i);
                let value = &line[from..end];
                from = end;
                value
            }
        };
        let Some(rank) = fields.rank(name) else { continue };
        if best.is_none_or(|(r, _)| rank < r) {
            best = Some((rank, value));
        }
        if rank == 0 {
            break;
        }
    }
    best.map(|(_, value)| value)
}

/// The first word of the line that names a level.
fn keyword(line: &str) -> &'static str {
    const WORDS: [(&[u8], &str); 9] = [
        (b"trace", "trace"),
        (b"debug", "debug"),
        (b"fatal", "fatal"),
        (b"critical", "critical"),
        (b"error", "error"),
        (b"err", "error"),
        (b"warning", "warn"),
        (b"warn", "warn"),
        (b"info", "info"),
    ];
    let bytes = line.as_bytes();
    let mut start = true;
    for (at, &byte) in bytes.iter().enumerate() {
        if start && STARTS[usize::from(byte)] {
            let rest = &bytes[at..];
            for (word, level) in WORDS {
                let fits = rest.get(..word.len()).is_some_and(|r| r.eq_ignore_ascii_case(word));
                if fits && rest.get(word.len()).is_none_or(|b| AFTER[usize::from(*b)]) {
                    return level;
                }
            }
        }
        start = BEFORE[usize::from(byte)];
    }
    UNKNOWN
}

const fn table(of: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut i = 0;
    while i < of.len() {
        table[of[i] as usize] = true;
        i += 1;
    }
    table
}

/// First letters of the keywords.
static STARTS: [bool; 256] = table(b"tdfcewiTDFCEWI");
/// What may stand before a keyword.
static BEFORE: [bool; 256] = table(b" \t\n[({\"=");
/// What may stand after a keyword.
static AFTER: [bool; 256] = table(b" \t\n[](){}:,!\"=");

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines() {
        for (line, level) in [
            (r#"{"level":"ERROR","x":1}"#, "error"),
            (r#" {"msg":"level","lvl":"dbg"} "#, "debug"),
            (r#"{"a":{"severity":"Warning"}}"#, "warn"),
            (r#"{"a":{"b":{"level":"error"}}}"#, "error"), // too deep, but a word of the line
            (r#"{"a":{"b":{"level":"dbg"}}}"#, "unknown"),
            (r#"{"level":5,"severity":"inf"}"#, "info"),
            (r#"{"x":["level","dbg"],"Level":"trc"}"#, "trace"),
            (r#"{"level":"\"err\"","message":"all is fatal"}"#, "fatal"),
            (r#"{"level":"odd"}"#, "unknown"),
            (r#"{"level":""}"#, "unknown"),
            ("ts=1 level=warn msg=\"level=error\"", "warn"),
            ("lvl=dbg LEVEL=Info", "info"),
            ("a=1 msg=\"it is an error\"", "error"),
            ("level=\"information\"", "info"),
            ("rt=0.5 GET /info", "unknown"),
            ("GET /x [error] y", "error"),
            ("ERROR: x", "error"),
            ("terror strikes, then info", "info"),
            ("warnings, err!", "error"),
            ("", "unknown"),
            ("{", "unknown"),
            ("}{", "unknown"),
        ] {
            assert_eq!(of_line(line, &LevelFields::default(), 2), level, "{line}");
        }
    }

    #[test]
    fn other_names() {
        let fields = LevelFields::from(vec!["prio".to_owned(), "é".to_owned(), String::new()]);
        assert_eq!(of_line("prio=dbg level=error", &fields, 2), "debug");
        assert_eq!(of_line(r#"{"level":"x","a":{"b":{"prio":"wrn"}}}"#, &fields, 2), "unknown");
        assert_eq!(of_line(r#"{"level":"x","a":{"b":{"prio":"wrn"}}}"#, &fields, 0), "warn");
        assert_eq!(of_line("prio=dbg x=err", &Vec::new().into(), 2), "error");
        assert_eq!(of_line("=dbg", &fields, 2), "unknown");
    }

    #[test]
    fn numbers_and_values() {
        assert_eq!(
            ["1", "8", "17", "24", "25", "0", "x"].map(of_severity_number),
            ["trace", "debug", "error", "fatal", "unknown", "unknown", "info"]
        );
        assert_eq!((normalise("WRN"), normalise("Odd")), ("warn".into(), "Odd".into()));
    }

    proptest! {
        #[test]
        fn any_line_has_a_level(line in r#"[{}\[\]"\\=:, a-zé]{0,40}"#) {
            of_line(&line, &LevelFields::default(), 2);
        }
    }
}
