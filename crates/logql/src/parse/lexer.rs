//! Cuts a query into tokens with their places.
//!
//! Function words (`rate`, `sum`, `ip`, …) are keywords only in front of `(` or a grouping, so that they stay usable as label
//! names; a run of digits and letters is a duration, a byte size or a number, tried in this order.

use std::rc::Rc;

use crate::ast::{RangeOp, VectorOp};
use crate::error::ParseError;

/// A token and where it starts.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// From 1; 0 for ranges.
    pub(super) line: usize,
    /// From 1, in characters.
    pub(super) column: usize,
}

/// What a token is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// Operators and reserved words, in lower case.
    Word(&'static str),
    /// A function word in front of its parenthesis.
    Function(&'static str),
    Identifier(Rc<str>),
    Text(Rc<str>),
    Number(Rc<str>),
    /// Nanoseconds.
    Duration(i64),
    Bytes(u64),
    /// Nanoseconds.
    Range(i64),
    Flag(&'static str),
    /// Text that is no token.
    Broken(Rc<str>),
    End,
}

impl Kind {
    /// The token as error texts name it.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Word(word) => (*word).to_owned(),
            Self::Function("ip") => "ip".to_owned(),
            Self::Function(word) => word.to_uppercase(),
            Self::Identifier(_) => "IDENTIFIER".to_owned(),
            Self::Text(_) => "STRING".to_owned(),
            Self::Number(_) => "NUMBER".to_owned(),
            Self::Duration(_) => "DURATION".to_owned(),
            Self::Bytes(_) => "BYTES".to_owned(),
            Self::Range(_) => "RANGE".to_owned(),
            Self::Flag(_) => "FUNCTION_FLAG".to_owned(),
            Self::Broken(text) => text.to_string(),
            Self::End => "$end".to_owned(),
        }
    }
}

const RESERVED: [&str; 24] = [
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "bool",
    "offset",
    "unwrap",
    "and",
    "or",
    "unless",
    "json",
    "logfmt",
    "regexp",
    "pattern",
    "unpack",
    "label_format",
    "line_format",
    "decolorize",
    "drop",
    "keep",
    "of",
    "variants",
];

const OPERATORS: [&str; 29] = [
    "|=", "|~", "|>", "!=", "!~", "!>", "=~", "==", ">=", "<=", "=", ">", "<", "|", "{", "}", "(", ")", ",",
    "+", "-", "*", "/", "%", "^", "[", "]", ".", ":",
];

const FUNCTIONS: [&str; 6] = ["vector", "label_replace", "ip", "bytes", "duration", "duration_seconds"];

fn function_word(word: &str) -> Option<&'static str> {
    RangeOp::from_word(word)
        .map(RangeOp::as_str)
        .or_else(|| VectorOp::from_word(word).map(VectorOp::as_str))
        .or_else(|| FUNCTIONS.into_iter().find(|f| *f == word))
}

/// Cuts the whole query; the last token is [`Kind::End`]. Broken text becomes a token too, so that a fault of grammar before it
/// is reported first.
pub(super) fn tokens(query: &str) -> Vec<Token> {
    let mut lexer = Lexer { text: query, at: 0, line: 1, column: 1 };
    let mut out = Vec::new();
    loop {
        let skipped = lexer.skip();
        let (line, column) = (lexer.line, lexer.column);
        let kind = match skipped {
            Ok(()) => lexer.next(),
            Err(broken) => broken,
        };
        let last = matches!(kind, Kind::End | Kind::Broken(_));
        let line = if let Kind::Range(_) = kind { 0 } else { line };
        // Faults inside a range carry their own mark; see `range`.
        let (kind, line) = match kind {
            Kind::Broken(text) if text.starts_with('[') => (Kind::Broken(text[1..].into()), 0),
            kind => (kind, line),
        };
        out.push(Token { kind, line, column });
        if last {
            return out;
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    line: usize,
    column: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn advance(&mut self, bytes: usize) -> &'a str {
        let taken = &self.rest()[..bytes];
        for c in taken.chars() {
            if c == '\n' {
                self.line += 1;
                self.column = 1;
            } else {
                self.column += 1;
            }
        }
        self.at += bytes;
        taken
    }

    /// Skips white space and comments.
    fn skip(&mut self) -> Result<(), Kind> {
        loop {
            let rest = self.rest();
            let space = rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
            self.advance(space);
            let rest = self.rest();
            if rest.starts_with('#') || rest.starts_with("//") {
                self.advance(rest.find('\n').unwrap_or(rest.len()));
            } else if let Some(comment) = rest.strip_prefix("/*") {
                match comment.find("*/") {
                    Some(end) => self.advance(end + 4),
                    None => return Err(Kind::Broken("comment not terminated".into())),
                };
            } else {
                return Ok(());
            }
        }
    }

    fn next(&mut self) -> Kind {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return Kind::End };
        match first {
            '"' => self.quoted(),
            '`' => match rest[1..].find('`') {
                Some(end) => {
                    let text = self.advance(end + 2);
                    Kind::Text(text[1..=end].into())
                }
                None => Kind::Broken("literal not terminated".into()),
            },
            '\'' => Kind::Broken("invalid char literal".into()),
            '[' => self.range(),
            c if c == '_' || c.is_alphabetic() => self.word(),
            c if c.is_ascii_digit() => self.quantity(0),
            '.' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => self.quantity(0),
            '-' if rest[1..].starts_with("-strict") && !continues(&rest[8..]) => self.flag("--strict"),
            '-' if rest[1..].starts_with("-keep-empty") && !continues(&rest[12..]) => {
                self.flag("--keep-empty")
            }
            '-' if rest[1..].starts_with(|c: char| c.is_ascii_digit())
                && run_duration(&rest[1..]).is_some() =>
            {
                self.quantity(1)
            }
            _ => match OPERATORS.into_iter().find(|op| rest.starts_with(op)) {
                Some(op) => {
                    self.advance(op.len());
                    Kind::Word(op)
                }
                None => Kind::Broken("syntax error: unexpected IDENTIFIER".into()),
            },
        }
    }

    fn flag(&mut self, flag: &'static str) -> Kind {
        self.advance(flag.len());
        Kind::Flag(flag)
    }

    fn word(&mut self) -> Kind {
        let rest = self.rest();
        let end = rest.find(|c: char| !(c == '_' || c.is_alphanumeric())).unwrap_or(rest.len());
        let word = self.advance(end);
        let lower = word.to_lowercase();
        if let Some(reserved) = RESERVED.into_iter().find(|r| *r == lower) {
            return Kind::Word(reserved);
        }
        match function_word(&lower) {
            Some(function) if opens(self.rest()) => Kind::Function(function),
            _ => Kind::Identifier(word.into()),
        }
    }

    /// A duration, size or number after `sign` bytes of sign.
    fn quantity(&mut self, sign: usize) -> Kind {
        let rest = &self.rest()[sign..];
        let run = run(rest);
        if let Some(nanos) = duration(run) {
            self.advance(sign + run.len());
            return Kind::Duration(if sign == 1 { -nanos } else { nanos });
        }
        if let Some(bytes) = byte_size(run) {
            self.advance(run.len());
            return Kind::Bytes(bytes);
        }
        let number = number_length(rest);
        Kind::Number(self.advance(number).into())
    }

    fn range(&mut self) -> Kind {
        let rest = self.rest();
        let Some(end) = rest.find(']') else {
            return Kind::Broken("[missing closing ']' in duration".into());
        };
        let text = &rest[1..end];
        match prometheus_duration(text) {
            Ok(nanos) => {
                self.advance(end + 1);
                Kind::Range(nanos)
            }
            Err(problem) => Kind::Broken(format!("[{problem}").into()),
        }
    }

    fn quoted(&mut self) -> Kind {
        let rest = self.rest();
        let mut escaped = false;
        for (i, c) in rest.char_indices().skip(1) {
            match c {
                '\n' => break,
                '"' if !escaped => {
                    let literal = self.advance(i + 1);
                    return match unquote(&literal[1..i]) {
                        Some(text) => Kind::Text(text.into()),
                        None => Kind::Broken("invalid syntax".into()),
                    };
                }
                _ => escaped = c == '\\' && !escaped,
            }
        }
        Kind::Broken("literal not terminated".into())
    }
}

/// Whether what follows a function word makes it one: `(`, `by (` or `without (`.
fn opens(rest: &str) -> bool {
    let rest = rest.trim_start();
    if rest.starts_with('(') {
        return true;
    }
    let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    let word = &rest[..end];
    (word.eq_ignore_ascii_case("by") || word.eq_ignore_ascii_case("without"))
        && rest[end..].trim_start().starts_with('(')
}

fn continues(rest: &str) -> bool {
    rest.starts_with(|c: char| c == '_' || c == '-' || c.is_alphanumeric())
}

/// The longest prefix that could be one quantity.
fn run(rest: &str) -> &str {
    &rest[..rest
        .find(|c: char| !(c == '.' || c == 'µ' || c == 'μ' || c.is_ascii_alphanumeric()))
        .unwrap_or(rest.len())]
}

fn run_duration(rest: &str) -> Option<i64> {
    duration(run(rest))
}

/// A duration: Prometheus' form first, then Go's.
fn duration(text: &str) -> Option<i64> {
    if !text.ends_with(|c: char| c.is_alphabetic()) {
        return None;
    }
    prometheus_duration(text).ok().or_else(|| model::duration::parse_go(text).ok())
}

fn prometheus_duration(text: &str) -> Result<i64, String> {
    let units = [
        ("y", 365 * 86_400_000),
        ("w", 7 * 86_400_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1_i64),
    ];
    let invalid = || format!("not a valid duration string: {}", model::quote(text));
    let (mut rest, mut next_unit, mut millis) = (text, 0, 0_i64);
    if text.is_empty() {
        return Err("empty duration string".to_owned());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(invalid)?;
        let count: i64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = &rest[..end];
        if !unit.bytes().all(|b| b.is_ascii_alphabetic()) {
            return Err(invalid());
        }
        let place = units.iter().position(|(name, _)| *name == unit).ok_or_else(|| {
            format!("unknown unit {} in duration {}", model::quote(unit), model::quote(text))
        })?;
        if place < next_unit {
            return Err(invalid());
        }
        next_unit = place + 1;
        let part = count.checked_mul(units[place].1).ok_or_else(invalid)?;
        millis = millis.checked_add(part).ok_or_else(invalid)?;
        rest = &rest[end..];
    }
    millis.checked_mul(1_000_000).ok_or_else(|| "duration out of range".to_owned())
}

/// A size such as `10KB` or `1.5MiB`; lower-case `b`, `kb`, `mb` are none.
fn byte_size(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !(c == '.' || c.is_ascii_digit()))?;
    let number: f64 = text[..end].parse().ok()?;
    let unit = text[end..].strip_suffix('B').unwrap_or(&text[end..]);
    let (prefix, base) = match unit.strip_suffix('i') {
        Some(prefix) => (prefix, 1024_f64),
        None => (unit, 1000_f64),
    };
    let power = match prefix {
        "" if base == 1000.0 => 0,
        "k" | "K" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        "P" => 5,
        _ => return None,
    };
    let bytes = number * base.powi(power);
    (bytes < 1.8e19).then_some(bytes as u64)
}

/// How long the number at the start of `rest` is; at least 1.
fn number_length(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let digits = |mut i: usize, ok: fn(&u8) -> bool| {
        while bytes.get(i).is_some_and(ok) {
            i += 1;
        }
        i
    };
    if bytes.len() > 2 && bytes[0] == b'0' && matches!(bytes[1] | 32, b'x' | b'b' | b'o') {
        return digits(2, u8::is_ascii_hexdigit);
    }
    let mut end = digits(0, u8::is_ascii_digit);
    if bytes.get(end) == Some(&b'.') {
        end = digits(end + 1, u8::is_ascii_digit);
    }
    if bytes.get(end).is_some_and(|b| b | 32 == b'e') {
        let sign = usize::from(bytes.get(end + 1).is_some_and(|b| matches!(b, b'+' | b'-')));
        let exponent = digits(end + 1 + sign, u8::is_ascii_digit);
        if exponent > end + 1 + sign {
            end = exponent;
        }
    }
    end.max(1)
}

/// Resolves the escapes of a Go string literal; bytes that are not UTF-8 become U+FFFD.
fn unquote(text: &str) -> Option<String> {
    if !text.contains('\\') {
        return Some(text.to_owned());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let c = rest[at + 1..].chars().next()?;
        rest = &rest[at + 1 + c.len_utf8()..];
        let mut digits = |first: Option<char>, count: usize, radix: u32| {
            let digits = rest.get(..count)?;
            let text = first.into_iter().chain(digits.chars()).collect::<String>();
            let value = u32::from_str_radix(&text, radix).ok()?;
            rest = &rest[count..];
            Some(value)
        };
        match c {
            'a' => out.push(7),
            'b' => out.push(8),
            'f' => out.push(12),
            'n' => out.push(b'\n'),
            'r' => out.push(b'\r'),
            't' => out.push(b'\t'),
            'v' => out.push(11),
            '\\' | '"' => out.push(c as u8),
            'x' => out.push(digits(None, 2, 16)? as u8),
            '0'..='7' => out.push(u8::try_from(digits(Some(c), 2, 8)?).ok()?),
            'u' | 'U' => {
                let c = char::from_u32(digits(None, if c == 'u' { 4 } else { 8 }, 16)?)?;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => return None,
        }
    }
    out.extend_from_slice(rest.as_bytes());
    Some(match String::from_utf8(out) {
        Ok(text) => text,
        Err(bytes) => String::from_utf8_lossy(bytes.as_bytes()).into_owned(),
    })
}

/// The error for broken text, or for a token that may not stand where it does.
pub(super) fn unexpected(token: &Token, expecting: &[&str]) -> ParseError {
    let mut message = match &token.kind {
        Kind::Broken(text) => text.to_string(),
        kind => format!("syntax error: unexpected {}", kind.describe()),
    };
    if !expecting.is_empty() && !matches!(token.kind, Kind::Broken(_)) {
        message += ", expecting ";
        message += &expecting.join(" or ");
    }
    ParseError::At { line: token.line, column: token.column, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Kind> {
        tokens(text).into_iter().map(|t| t.kind).collect()
    }

    #[test]
    fn quantities() {
        let check = |text: &str, kind: Kind| assert_eq!(kinds(text), [kind, Kind::End], "{text}");
        check("5m", Kind::Duration(300_000_000_000));
        check("-5m", Kind::Duration(-300_000_000_000));
        check("1h30m", Kind::Duration(5_400_000_000_000));
        check("30m1h", Kind::Duration(5_400_000_000_000));
        check("1.5s", Kind::Duration(1_500_000_000));
        check("1d", Kind::Duration(86_400_000_000_000));
        check("5M", Kind::Bytes(5_000_000));
        check("1.5MiB", Kind::Bytes(1_572_864));
        check("42B", Kind::Bytes(42));
        check("1e3", Kind::Number("1e3".into()));
        check(".5", Kind::Number(".5".into()));
        check("0x10", Kind::Number("0x10".into()));
        assert_eq!(kinds("10kb"), [Kind::Number("10".into()), Kind::Identifier("kb".into()), Kind::End]);
    }

    #[test]
    fn function_words_need_a_parenthesis() {
        assert_eq!(kinds("rate"), [Kind::Identifier("rate".into()), Kind::End]);
        assert_eq!(kinds("SUM (")[0], Kind::Function("sum"));
        assert_eq!(kinds("sum by (")[0], Kind::Function("sum"));
        assert_eq!(kinds("sum by x (")[0], Kind::Identifier("sum".into()));
    }

    #[test]
    fn strings_and_comments() {
        assert_eq!(kinds(r#""a\n\x41\u00e9\101""#)[0], Kind::Text("a\nAéA".into()));
        assert_eq!(kinds("/* x */ `a\\n` # c"), [Kind::Text("a\\n".into()), Kind::End]);
        assert_eq!(kinds("\"a\nb\"")[0], Kind::Broken("literal not terminated".into()));
        assert_eq!(tokens("a\n  b")[1].line, 2);
        assert_eq!(tokens("a\n  b")[1].column, 3);
    }
}
