//! `| pattern` on shapes of plain text: its literals are found in the shape instead of in every line.
//!
//! The values in gaps of such shapes are words: they are never empty and hold only letters, digits, `_`, `.`, `-` and what is not
//! ASCII. A literal of the pattern that holds another byte can only stand where the shape's literals have that byte. Whatever
//! would depend on a value makes the shape odd.

use std::ops::Range;
use std::sync::Arc;

use shred::{Shape, Syntax};

use super::program::{Origins, Reading};

/// A byte of a literal of the shape, or a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Byte(u8),
    Gap(usize),
}

/// A shape of plain text as tokens.
pub(super) struct Tokens<'s> {
    shape: &'s Shape,
    tokens: Vec<Token>,
}

/// Whether a text stands at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    Yes,
    No,
    Perhaps,
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | 0x80..)
}

impl<'s> Tokens<'s> {
    /// The tokens; `None` if values may be anything.
    pub(super) fn new(shape: &'s Shape) -> Option<Self> {
        if shape.syntax != Syntax::Text {
            return None;
        }
        let mut tokens = Vec::new();
        for (at, literal) in shape.literals.iter().enumerate() {
            tokens.extend(literal.bytes().map(Token::Byte));
            if at < shape.gaps.len() {
                tokens.push(Token::Gap(at));
            }
        }
        Some(Self { shape, tokens })
    }

    /// Where the captures of a pattern lie in lines of the shape, as ranges of tokens: `None` if that depends on values, empty if
    /// the pattern does not apply. `parts` are the literals behind the captures; only the last may have none.
    pub(super) fn captures<'p>(
        &self,
        prefix: &str,
        parts: impl Iterator<Item = Option<&'p [u8]>>,
    ) -> Option<Vec<Range<usize>>> {
        let mut captures = Vec::new();
        match self.forwards(0, prefix.as_bytes()) {
            Stands::Yes if !self.tokens.is_empty() => {}
            Stands::Yes | Stands::No => return Some(captures),
            Stands::Perhaps => return None,
        }
        let mut at = prefix.len();
        for end in parts {
            let found = match end {
                Some(end) => self.find(at, end)?.map(|place| (place, end.len())),
                None => None,
            };
            let stop = found.map_or(self.tokens.len(), |(place, _)| place);
            captures.push(at..stop);
            match found {
                Some((place, length)) => at = place + length,
                None => return Some(captures),
            }
        }
        Some(captures)
    }

    /// What a capture of these tokens is; `None` if it is more than one value.
    pub(super) fn origin(&self, range: Range<usize>) -> Option<Origins> {
        let tokens = &self.tokens[range];
        if let [Token::Gap(gap)] = tokens {
            return Some(Origins::Gap(self.shape.gaps[*gap], Reading::Plain));
        }
        let bytes = tokens.iter().map(|token| match token {
            Token::Byte(byte) => Some(*byte),
            Token::Gap(_) => None,
        });
        let text = String::from_utf8(bytes.collect::<Option<Vec<u8>>>()?).ok()?;
        Some(Origins::Text(Arc::from(text)))
    }

    /// The first place of `literal` from `at` on; `None` if it depends on values.
    fn find(&self, at: usize, literal: &[u8]) -> Option<Option<usize>> {
        let pivot = literal.iter().position(|byte| !is_word(*byte))?;
        for place in at..self.tokens.len() {
            if self.tokens[place] != Token::Byte(literal[pivot]) {
                continue;
            }
            let before = self.backwards(at, place, &literal[..pivot]);
            match (before, self.forwards(place + 1, &literal[pivot + 1..])) {
                (Stands::No, _) | (_, Stands::No) => {}
                (Stands::Yes, Stands::Yes) => return Some(Some(place - pivot)),
                _ => return None,
            }
        }
        Some(None)
    }

    /// Whether `text` follows from `at` on.
    fn forwards(&self, at: usize, text: &[u8]) -> Stands {
        for (i, byte) in text.iter().enumerate() {
            match self.tokens.get(at + i) {
                Some(Token::Byte(other)) if other == byte => {}
                Some(Token::Gap(_)) if is_word(*byte) => return Stands::Perhaps,
                _ => return Stands::No,
            }
        }
        Stands::Yes
    }

    /// Whether `text` stands right before `end`, and not before `start`.
    fn backwards(&self, start: usize, end: usize, text: &[u8]) -> Stands {
        for (i, byte) in text.iter().rev().enumerate() {
            match (end - start > i).then(|| self.tokens[end - 1 - i]) {
                Some(Token::Byte(other)) if other == *byte => {}
                Some(Token::Gap(_)) if is_word(*byte) => return Stands::Perhaps,
                _ => return Stands::No,
            }
        }
        Stands::Yes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shred::{Form, Gap, Source};

    #[test]
    fn captures_of_a_shape() {
        let text = r#"@ - - [@] "GET /api/@?q=@ HTTP/@" @ @ "-""#;
        let literals: Vec<Arc<str>> = text.split('@').map(Arc::from).collect();
        let gap = |i| Gap { source: Source::Rest(i), form: Form::Plain };
        let gaps = (0..literals.len() as u32 - 1).map(gap).collect();
        let shape = Shape { syntax: Syntax::Text, literals, gaps };
        let tokens = Tokens::new(&shape).unwrap();
        let check = |prefix: &str, parts: &[Option<&str>], want: Option<&[&str]>| {
            let captures = tokens.captures(prefix, parts.iter().map(|part| part.map(str::as_bytes)));
            let shown = captures.map(|captures| {
                let show = |range: Range<usize>| match tokens.origin(range) {
                    Some(Origins::Text(text)) => text.to_string(),
                    Some(Origins::Gap(Gap { source: Source::Rest(gap), .. }, _)) => format!("@{gap}"),
                    _ => "more".to_owned(),
                };
                captures.into_iter().map(show).collect::<Vec<_>>()
            });
            assert_eq!(
                shown,
                want.map(|want| want.iter().map(|w| (*w).to_owned()).collect()),
                "{prefix} {parts:?}"
            );
        };
        let parts = [Some(" - - "), Some(" \""), Some(" "), Some(" "), Some("\" "), Some(" "), None];
        check("", &parts, Some(&["@0", "more", "GET", "more", "more", "@5", "more"]));
        check("", &[Some(" - - ["), Some("]"), None], Some(&["@0", "@1", "more"]));
        // The value in front might end so.
        check("", &[Some("0 - "), None], None);
        check("10", &[None], None);
        check("[", &[None], Some(&[]));
        // Not there at all: the capture takes the rest.
        check("", &[Some("%"), None], Some(&["more"]));
        // A word could be anywhere.
        check("", &[Some("GET"), None], None);
    }
}
