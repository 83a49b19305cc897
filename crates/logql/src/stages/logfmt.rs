//! `| logfmt`: `key=value` pairs become labels.

use std::ops::Range;

use super::json_text::unescape;
use crate::ast::Extraction;
use crate::names::{NameId, Names};
use crate::row::{Line, Row, Text};

/// The compiled stage.
#[derive(Debug, Clone)]
pub(crate) struct Logfmt {
    strict: bool,
    keep_empty: bool,
    /// Label and key; all keys if empty.
    extractions: Vec<(NameId, String)>,
}

impl Logfmt {
    pub(super) fn compile(
        strict: bool,
        keep_empty: bool,
        extractions: &[Extraction],
        names: &mut Names,
    ) -> Self {
        let extractions = extractions.iter().map(|e| (names.id(&e.label), e.expression.clone())).collect();
        Self { strict, keep_empty, extractions }
    }

    pub(crate) fn is_strict(&self) -> bool {
        self.strict
    }

    pub(crate) fn keeps_empty(&self) -> bool {
        self.keep_empty
    }

    pub(crate) fn extractions(&self) -> &[(NameId, String)] {
        &self.extractions
    }

    pub(super) fn run(&self, row: &mut Row<'_, '_>, names: &mut Names) {
        row.with_line(|line, row| {
            if self.extractions.is_empty() {
                if !row.is_complete() {
                    self.all(line, row, names);
                }
            } else {
                self.chosen(line, row, names);
            }
        });
    }

    fn all<'b>(&self, line: Line<'_, 'b>, row: &mut Row<'_, 'b>, names: &mut Names) {
        let mut reader = Reader::new(line.text);
        while let Some(pair) = reader.next() {
            let pair = match pair {
                Ok(pair) => pair,
                Err(fault) if self.strict => return row.fail("LogfmtParserErr", Some(&fault.to_string())),
                Err(_) => {
                    reader.recover();
                    continue;
                }
            };
            if pair.value.is_empty() && !self.keep_empty {
                continue;
            }
            let Some(name) = names.sanitized(&line.text.as_bytes()[pair.key.0..pair.key.1]) else { continue };
            let name = row.parsed_name(name, names);
            if row.accepts(name)
                && let Some(value) = pair.value.text(&line, row)
            {
                row.add(name, value);
                if row.is_complete() {
                    return;
                }
            }
        }
    }

    fn chosen<'b>(&self, line: Line<'_, 'b>, row: &mut Row<'_, 'b>, names: &mut Names) {
        let mut found: Vec<Option<Text<'b>>> = vec![None; self.extractions.len()];
        let mut reader = Reader::new(line.text);
        while let Some(pair) = reader.next() {
            match pair {
                Ok(pair) => {
                    let key = &line.text[pair.key.0..pair.key.1];
                    for (slot, _) in
                        found.iter_mut().zip(&self.extractions).filter(|(s, (_, k))| s.is_none() && k == key)
                    {
                        *slot = pair.value.text(&line, row);
                    }
                }
                Err(fault) if self.strict => {
                    row.fail("LogfmtParserErr", Some(&fault.to_string()));
                    break;
                }
                Err(_) => reader.recover(),
            }
        }
        for (value, (name, _)) in found.into_iter().zip(&self.extractions) {
            let name = row.parsed_name(*name, names);
            if row.wants(name) {
                row.set(name, value.unwrap_or(Text::Batch("")));
            }
        }
    }
}

/// A fault and its place in bytes from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("logfmt syntax error at pos {0} : unexpected {1:?}")]
    Unexpected(usize, char),
    #[error("logfmt syntax error at pos {0} : unterminated quoted value")]
    Unterminated(usize),
    #[error("logfmt syntax error at pos {0} : invalid quoted value")]
    InvalidQuoted(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pair {
    key: (usize, usize),
    value: PairValue,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PairValue {
    Plain(usize, usize),
    /// Between quotes, with escapes.
    Escaped(usize, usize),
}

impl Pair {
    /// Where key and value stand.
    pub(crate) fn places(self) -> (Range<usize>, Range<usize>) {
        let (PairValue::Plain(start, end) | PairValue::Escaped(start, end)) = self.value;
        (self.key.0..self.key.1, start..end)
    }
}

impl PairValue {
    fn is_empty(self) -> bool {
        let (Self::Plain(start, end) | Self::Escaped(start, end)) = self;
        start == end
    }

    fn text<'b>(self, line: &Line<'_, 'b>, row: &mut Row<'_, 'b>) -> Option<Text<'b>> {
        match self {
            Self::Plain(start, end) if !line.text[start..end].contains('\u{fffd}') => {
                Some(line.slice(start, end))
            }
            Self::Plain(start, end) => Some(row.make(&line.text[start..end].replace('\u{fffd}', " "))),
            Self::Escaped(start, end) => {
                let raw = line.text[start..end].replace('\u{fffd}', " ");
                row.make_with(|out| if unescape(&raw, out) { Ok(()) } else { Err(()) }).ok()
            }
        }
    }
}

pub(crate) struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    /// The next pair; a key without `=` has an empty value.
    pub(crate) fn next(&mut self) -> Option<Result<Pair, Fault>> {
        let bytes = self.text.as_bytes();
        self.at += bytes[self.at..].iter().position(|b| *b > b' ')?;
        let start = self.at;
        let end = bytes[start..]
            .iter()
            .position(|b| *b <= b' ' || matches!(b, b'=' | b'"'))
            .map_or(bytes.len(), |n| start + n);
        self.at = end;
        let key = (start, end);
        let empty = PairValue::Plain(end, end);
        match bytes.get(end) {
            Some(b'=') if start == end => Some(Err(Fault::Unexpected(end + 1, '='))),
            Some(b'=') => {
                self.at += 1;
                match bytes.get(self.at) {
                    Some(b'"') => Some(self.quoted().map(|value| Pair { key, value })),
                    Some(b) if *b > b' ' => Some(self.plain().map(|value| Pair { key, value })),
                    _ => Some(Ok(Pair { key, value: empty })),
                }
            }
            Some(b'"') => Some(Err(Fault::Unexpected(end + 1, '"'))),
            _ => Some(Ok(Pair { key, value: empty })),
        }
    }

    fn plain(&mut self) -> Result<PairValue, Fault> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        let end = bytes[start..]
            .iter()
            .position(|b| *b <= b' ' || matches!(b, b'=' | b'"'))
            .map_or(bytes.len(), |n| start + n);
        self.at = end;
        match bytes.get(end) {
            Some(b @ (b'=' | b'"')) => Err(Fault::Unexpected(end + 1, *b as char)),
            _ => Ok(PairValue::Plain(start, end)),
        }
    }

    fn quoted(&mut self) -> Result<PairValue, Fault> {
        let bytes = self.text.as_bytes();
        let start = self.at + 1;
        let (mut at, mut escaped) = (start, false);
        loop {
            let Some(found) = memchr::memchr2(b'"', b'\\', bytes.get(at..).unwrap_or_default()) else {
                self.at = bytes.len();
                return Err(Fault::Unterminated(bytes.len() + 1));
            };
            if bytes[at + found] == b'"' {
                let end = at + found;
                self.at = end + 1;
                if !escaped {
                    return Ok(PairValue::Plain(start, end));
                }
                let valid = unescape(&self.text[start..end], &mut String::new());
                return if valid {
                    Ok(PairValue::Escaped(start, end))
                } else {
                    Err(Fault::InvalidQuoted(self.at + 1))
                };
            }
            escaped = true;
            at += found + 2;
        }
    }

    /// After a fault: on to the next white space.
    fn recover(&mut self) {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().position(|b| *b <= b' ').unwrap_or(rest.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs() {
        let read = |text: &str| {
            let mut reader = Reader { text, at: 0 };
            let mut out = Vec::new();
            while let Some(pair) = reader.next() {
                out.push(match pair {
                    Ok(Pair { key, value: PairValue::Plain(a, b) | PairValue::Escaped(a, b) }) => {
                        format!("{}={}", &text[key.0..key.1], &text[a..b])
                    }
                    Err(fault) => {
                        reader.recover();
                        fault.to_string()
                    }
                });
            }
            out
        };
        assert_eq!(read(r#"a=1 b= c d="x y" e="q\"r""#), ["a=1", "b=", "c=", "d=x y", r#"e=q\"r"#]);
        assert_eq!(
            read(r#"a=1 bad"quote=1 c=2"#),
            ["a=1", r#"logfmt syntax error at pos 8 : unexpected '"'"#, "c=2"]
        );
        assert_eq!(read(r#"a="x"#), ["logfmt syntax error at pos 5 : unterminated quoted value"]);
        assert_eq!(read("=x y=1"), ["logfmt syntax error at pos 1 : unexpected '='", "y=1"]);
    }
}
