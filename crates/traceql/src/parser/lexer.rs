//! Text to tokens.
//!
//! The one unusual thing is the attribute: after `.`, `span.` and the like, everything up to white space
//! or one of a few terminators is the name, so an attribute is a single token here.

use std::sync::Arc;

use crate::ast::{Attribute, Scope};
use model::duration::{parse_go, parse_prometheus};

/// A token and where it starts (line and column, from 1) and ends.
#[derive(Debug, Clone)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Tok<'a>,
    pub(crate) at: (u32, u32),
    /// Byte offsets in the text.
    pub(crate) span: (usize, usize),
}

/// What a token is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Tok<'a> {
    Str(String),
    Int(i64),
    Float(f64),
    Duration(i64),
    /// A bare word: keyword, intrinsic or unknown.
    Word(&'a str),
    Attribute(Attribute),
    /// `span:` and the like, without the colon.
    ScopeColon(&'a str),
    Symbol(&'static str),
    /// Something that is no token; the sentence to say about it once the parser meets it.
    Bad(String),
    End,
}

const SYMBOLS: [&str; 36] = [
    "!>>", "!<<", "&>>", "&<<", "!>", "!<", "!~", "!=", "&>", "&<", "&~", "&&", "||", ">>", "<<", ">=", "<=",
    "=~", "=", "!", ">", "<", "~", "|", "+", "-", "*", "/", "%", "^", "{", "}", "(", ")", ",", "&",
];

const ATTRIBUTE_SCOPES: [(&str, Scope); 5] = [
    ("span.", Scope::Span),
    ("resource.", Scope::Resource),
    ("event.", Scope::Event),
    ("link.", Scope::Link),
    ("instrumentation.", Scope::Instrumentation),
];

const COLON_SCOPES: [&str; 5] = ["span", "trace", "event", "link", "instrumentation"];

/// Whether `c` ends an attribute name that is not quoted.
pub(crate) fn ends_name(c: char) -> bool {
    c.is_whitespace() || "{}()=~!<>&|^,".contains(c)
}

/// Splits a text into tokens; the last is [`Tok::End`].
pub(crate) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut lexer = Lexer { text, pos: 0, line: 1, column: 1 };
    let mut out = Vec::new();
    loop {
        let bad = lexer.skip_blank();
        let (at, start) = ((lexer.line, lexer.column), lexer.pos);
        let kind = match bad {
            Some(message) => Tok::Bad(message),
            None => lexer.token(),
        };
        let last = matches!(kind, Tok::End | Tok::Bad(_));
        out.push(Token { kind, at, span: (start, lexer.pos) });
        if last {
            return out;
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    pos: usize,
    line: u32,
    column: u32,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.pos..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn advance(&mut self, bytes: usize) {
        for c in self.text[self.pos..self.pos + bytes].chars() {
            if c == '\n' {
                self.line += 1;
                self.column = 1;
            } else {
                self.column += 1;
            }
        }
        self.pos += bytes;
    }

    /// Skips white space and comments; says what is wrong with a comment that does not end.
    fn skip_blank(&mut self) -> Option<String> {
        loop {
            let rest = self.rest();
            let blank = rest.len() - rest.trim_start().len();
            self.advance(blank);
            let rest = self.rest();
            if rest.starts_with("//") {
                self.advance(rest.find('\n').unwrap_or(rest.len()));
            } else if rest.starts_with("/*") {
                match rest.find("*/") {
                    Some(end) => self.advance(end + 2),
                    None => return Some("comment not terminated".to_owned()),
                }
            } else {
                return None;
            }
        }
    }

    fn token(&mut self) -> Tok<'a> {
        let rest = self.rest();
        let Some(c) = self.peek() else { return Tok::End };
        match c {
            '"' => self.quoted(),
            '`' => match rest[1..].find('`') {
                Some(end) => {
                    self.advance(end + 2);
                    Tok::Str(rest[1..end + 1].to_owned())
                }
                None => Tok::Bad("literal not terminated".to_owned()),
            },
            '\'' => Tok::Bad("invalid char literal".to_owned()),
            '0'..='9' => self.number(),
            '.' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => self.number(),
            '.' => {
                self.advance(1);
                self.attribute(None, false)
            }
            c if c.is_alphabetic() || c == '_' => self.word(),
            _ => {
                if let Some(symbol) = SYMBOLS.iter().find(|s| rest.starts_with(**s)) {
                    self.advance(symbol.len());
                    return Tok::Symbol(symbol);
                }
                self.advance(c.len_utf8());
                Tok::Word(&rest[..c.len_utf8()])
            }
        }
    }

    fn word(&mut self) -> Tok<'a> {
        let rest = self.rest();
        if let Some(inner) = rest.strip_prefix("parent.") {
            self.advance("parent.".len());
            for (opener, scope) in &ATTRIBUTE_SCOPES[..2] {
                if inner.starts_with(opener) {
                    self.advance(opener.len());
                    return self.attribute(Some(*scope), true);
                }
            }
            return self.attribute(None, true);
        }
        for (opener, scope) in ATTRIBUTE_SCOPES {
            if rest.starts_with(opener) {
                self.advance(opener.len());
                return self.attribute(Some(scope), false);
            }
        }
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let word = &rest[..end];
        self.advance(end);
        if COLON_SCOPES.contains(&word) && self.peek() == Some(':') {
            self.advance(1);
            return Tok::ScopeColon(word);
        }
        Tok::Word(word)
    }

    fn attribute(&mut self, scope: Option<Scope>, parent: bool) -> Tok<'a> {
        let mut name = String::new();
        while let Some(c) = self.peek() {
            if c == '"' {
                self.advance(1);
                if let Err(message) = self.quoted_part(&mut name) {
                    return Tok::Bad(message.to_owned());
                }
            } else if ends_name(c) {
                break;
            } else {
                name.push(c);
                self.advance(c.len_utf8());
            }
        }
        if name.is_empty() {
            return Tok::Bad("syntax error: unexpected END_ATTRIBUTE, expecting IDENTIFIER".to_owned());
        }
        Tok::Attribute(Attribute { scope, name: Arc::from(name), parent })
    }

    /// The rest of a quoted part of an attribute name, its opening quote already read.
    fn quoted_part(&mut self, name: &mut String) -> Result<(), &'static str> {
        while let Some(c) = self.peek() {
            self.advance(c.len_utf8());
            match c {
                '"' => return Ok(()),
                '\\' => match self.peek() {
                    Some(escaped @ ('"' | '\\')) => {
                        self.advance(1);
                        name.push(escaped);
                    }
                    _ => return Err("invalid escape sequence"),
                },
                c => name.push(c),
            }
        }
        Err("syntax error: unexpected EOF, expecting \"")
    }

    fn number(&mut self) -> Tok<'a> {
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
        let mut end = digits(0);
        let mut float = false;
        if bytes.get(end) == Some(&b'.') {
            float = true;
            end += 1 + digits(end + 1);
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            let exponent = digits(end + 1 + sign);
            if exponent > 0 {
                float = true;
                end += 1 + sign + exponent;
            }
        }
        let tail = |c: char| !(c.is_alphanumeric() || c == '_' || c == '.');
        let whole = end + rest[end..].find(tail).unwrap_or(rest.len() - end);
        if whole > end {
            let text = &rest[..whole];
            if let Ok(nanos) = parse_prometheus(text).or_else(|_| parse_go(text)) {
                self.advance(whole);
                return Tok::Duration(nanos);
            }
            if bytes[end].is_ascii_alphabetic() && !text.starts_with("0x") && !text.starts_with("0X") {
                self.advance(end);
                return Tok::Bad("syntax error: unexpected IDENTIFIER".to_owned());
            }
            return Tok::Bad(format!("strconv.Atoi: parsing {}: invalid syntax", model::quote(text)));
        }
        self.advance(end);
        let text = &rest[..end];
        if float {
            return text.parse().map_or_else(|_| Tok::Bad(format!("invalid number {text}")), Tok::Float);
        }
        text.parse().map_or_else(
            |_| Tok::Bad(format!("strconv.Atoi: parsing {}: value out of range", model::quote(text))),
            Tok::Int,
        )
    }

    /// A string in double quotes, with Go's escapes.
    fn quoted(&mut self) -> Tok<'a> {
        let rest = self.rest();
        let mut out: Vec<u8> = Vec::new();
        let mut chars = rest[1..].char_indices();
        let invalid = || Tok::Bad("invalid syntax".to_owned());
        while let Some((i, c)) = chars.next() {
            match c {
                '"' => {
                    self.advance(i + 2);
                    return String::from_utf8(out).map_or_else(
                        |e| Tok::Str(String::from_utf8_lossy(e.as_bytes()).into_owned()),
                        Tok::Str,
                    );
                }
                '\n' => break,
                '\\' => {
                    let Some((_, escape)) = chars.next() else { break };
                    let (radix, length) = match escape {
                        'x' => (16, 2),
                        'u' => (16, 4),
                        'U' => (16, 8),
                        '0'..='7' => (8, 2),
                        _ => {
                            out.push(match escape {
                                'a' => 7,
                                'b' => 8,
                                'f' => 12,
                                'n' => b'\n',
                                'r' => b'\r',
                                't' => b'\t',
                                'v' => 11,
                                '\\' => b'\\',
                                '"' => b'"',
                                _ => return invalid(),
                            });
                            continue;
                        }
                    };
                    let mut code = if radix == 8 { escape.to_digit(8).unwrap_or(0) } else { 0 };
                    for _ in 0..length {
                        let digit = chars.next().and_then(|(_, c)| c.to_digit(radix));
                        let Some(digit) = digit else { return invalid() };
                        code = code.wrapping_mul(radix) | digit;
                    }
                    if matches!(escape, 'u' | 'U') {
                        let Some(c) = char::from_u32(code) else { return invalid() };
                        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                    } else {
                        let Ok(byte) = u8::try_from(code) else { return invalid() };
                        out.push(byte);
                    }
                }
                c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        Tok::Bad("literal not terminated".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Tok<'_>> {
        tokens(text).into_iter().map(|t| t.kind).collect()
    }

    fn attribute(scope: Option<Scope>, name: &str) -> Tok<'_> {
        Tok::Attribute(Attribute { scope, name: Arc::from(name), parent: false })
    }

    #[test]
    fn an_attribute_name_runs_to_a_terminator() {
        assert_eq!(
            kinds("span.a+1=3"),
            [attribute(Some(Scope::Span), "a+1"), Tok::Symbol("="), Tok::Int(3), Tok::End]
        );
        assert_eq!(kinds("span.a -1")[1..], [Tok::Symbol("-"), Tok::Int(1), Tok::End]);
        assert_eq!(kinds(r#"."k8s pod".name"#), [attribute(None, "k8s pod.name"), Tok::End]);
    }

    #[test]
    fn numbers_and_durations() {
        assert_eq!(
            kinds(".5 2. 1e3 10ms 1h30m"),
            [
                Tok::Float(0.5),
                Tok::Float(2.0),
                Tok::Float(1000.0),
                Tok::Duration(10_000_000),
                Tok::Duration(5_400_000_000_000),
                Tok::End
            ]
        );
        assert!(matches!(kinds("0x10")[0], Tok::Bad(_)));
        assert!(matches!(kinds("1_000")[0], Tok::Bad(_)));
    }

    #[test]
    fn strings_comments_and_positions() {
        assert_eq!(
            kinds("\"a\\tb\\u00e9\\x41\" `r\\d`"),
            [Tok::Str("a\tb\u{e9}A".into()), Tok::Str("r\\d".into()), Tok::End]
        );
        let t = tokens("{ /* c */\n  >> // end\n}");
        assert_eq!(t.iter().map(|t| t.at).collect::<Vec<_>>(), [(1, 1), (2, 3), (3, 1), (3, 2)]);
    }
}
