//! Any other text: words with digits are gaps.
//!
//! A word is what searches take for one: letters, digits, `_`, `.`, `-` and whatever is not ASCII. A value is called after the last
//! word in front of it that has a letter; if none stands between two values, the second is called after the first, with `+1`.

use crate::Syntax;
use crate::scan::{Content, Parsed, Piece};

/// Gaps of a line, at most: lines with more are dumps rather than messages.
const MAX_WORD_GAPS: usize = 48;
/// Bytes of a name that are taken from the text.
const MAX_WORD: usize = 48;

/// Takes a text apart. `None` if it has control characters or too many gaps.
pub(crate) fn parse(line: &str) -> Option<Parsed> {
    let bytes = line.as_bytes();
    let mut pieces: Vec<Piece> = Vec::new();
    let (mut word, mut following) = ("start", 0);
    let mut at = 0;
    while at < bytes.len() {
        if !is_word(bytes[at]) {
            if bytes[at] < 0x20 && bytes[at] != b'\t' {
                return None;
            }
            at += 1;
            continue;
        }
        let (end, digit) = word_end(bytes, at);
        if digit {
            if pieces.len() == MAX_WORD_GAPS {
                return None;
            }
            let name = match following {
                0 => format!("text.{word}"),
                n => format!("text.{word}+{n}"),
            };
            following += 1;
            pieces.push(Piece { start: at, end, content: Content::Word, name });
        } else if end - at <= MAX_WORD && bytes[at..end].iter().any(u8::is_ascii_alphabetic) {
            (word, following) = (&line[at..end], 0);
        }
        at = end;
    }
    Some(Parsed { syntax: Syntax::Text, pieces })
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | 0x80..)
}

/// Where a word ends, and whether it has a digit.
#[inline]
fn word_end(bytes: &[u8], mut at: usize) -> (usize, bool) {
    let mut digit = false;
    while let Some(byte) = bytes.get(at).filter(|byte| is_word(**byte)) {
        digit |= byte.is_ascii_digit();
        at += 1;
    }
    (at, digit)
}

/// Where the word with a digit that starts at `at` ends.
#[inline]
pub(crate) fn gap_end(line: &[u8], at: usize) -> Option<usize> {
    let (end, digit) = word_end(line, at);
    digit.then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_with_digits_are_gaps() {
        let check = |line: &str, expect: &[&str]| {
            let parsed = parse(line).unwrap();
            let gaps: Vec<String> =
                parsed.pieces.iter().map(|p| format!("{}|{}", &p.name[5..], &line[p.start..p.end])).collect();
            assert_eq!(gaps, expect, "{line}");
        };
        check(
            r#"10.1.2.3 - - [17] "GET /api/v1/jobs/5?q=1 HTTP/1.1" 200 99 "-" "curl/8.5.0" rt=0.5"#,
            &[
                "start|10.1.2.3",
                "start+1|17",
                "api|v1",
                "jobs|5",
                "q|1",
                "HTTP|1.1",
                "HTTP+1|200",
                "HTTP+2|99",
                "curl|8.5.0",
                "rt|0.5",
            ],
        );
        check("connection reset", &[]);
        check("", &[]);
        check("größe ü5ö\tx", &["größe|ü5ö"]);
        assert_eq!(parse("a\u{1}b"), None);
        assert_eq!(parse("a\nb"), None);
        assert_eq!(parse(&"1 ".repeat(100)), None);
    }
}
