//! Pairs of keys and values as literals and gaps.

use crate::Syntax;
use crate::scan::{Content, MAX_LINE_GAPS, Parsed, Piece};

/// Takes a line of `key=value` pairs apart. Between them stand spaces or tabs; a few bare keys may stand between as well.
pub(crate) fn parse(line: &str) -> Option<Parsed> {
    let bytes = line.as_bytes();
    let (mut pieces, mut bare) = (Vec::new(), 0);
    let mut at = 0;
    loop {
        while matches!(bytes.get(at), Some(b' ' | b'\t')) {
            at += 1;
        }
        if at == bytes.len() {
            break;
        }
        let start = at;
        at = bare_end(bytes, at).filter(|end| *end > start)?;
        let key = &line[start..at];
        if bytes.get(at) != Some(&b'=') {
            // A bare word with digits is a value in a text rather than a key.
            if !separated(bytes, at) || key.bytes().any(|b| b.is_ascii_digit()) {
                return None;
            }
            bare += 1;
            continue;
        }
        at += 1;
        let content = if bytes.get(at) == Some(&b'"') { Content::LogfmtQuoted } else { Content::LogfmtBare };
        at += usize::from(content == Content::LogfmtQuoted);
        let end = content.end(bytes, at)?;
        if pieces.len() == MAX_LINE_GAPS {
            return None;
        }
        pieces.push(Piece { start: at, end, content, name: key.to_owned() });
        at = end + usize::from(content == Content::LogfmtQuoted);
        if !separated(bytes, at) {
            return None;
        }
    }
    (!pieces.is_empty() && bare <= pieces.len()).then_some(Parsed { syntax: Syntax::Logfmt, pieces })
}

fn separated(bytes: &[u8], at: usize) -> bool {
    matches!(bytes.get(at), None | Some(b' ' | b'\t'))
}

/// Behind the value without quotes at `at`, which may be empty.
#[inline]
pub(crate) fn bare_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    while let Some(byte) = bytes.get(at) {
        match byte {
            b' ' | b'\t' | b'=' | b'"' => break,
            0..0x20 => return None,
            _ => at += 1,
        }
    }
    Some(at)
}

/// Where the closing quote of a value stands whose inside starts at `at`.
#[inline]
pub(crate) fn quoted_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            b'\t' => at += 1,
            0..0x20 => return None,
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_gaps() {
        let gaps = |line: &str| {
            let parsed = parse(line)?;
            Some(
                parsed
                    .pieces
                    .into_iter()
                    .map(|p| format!("{}|{}", p.name, &line[p.start..p.end]))
                    .collect::<Vec<_>>(),
            )
        };
        let check = |line: &str, expect: Option<&[&str]>| {
            assert_eq!(gaps(line), expect.map(|e| e.iter().map(ToString::to_string).collect()), "{line}");
        };
        check(r#"a=1 msg="x \" y"  debug b= "#, Some(&["a|1", r#"msg|x \" y"#, "b|"]));
        check(" level=info\tü=ö", Some(&["level|info", "ü|ö"]));
        check("", None);
        check("hello world", None);
        check("took 12 ms a=b", None);
        check("a=b=c", None);
        check("a=b\"c\"", None);
        check("a=\"b\"c", None);
        check("a=\"b", None);
        check("a=\"b\\", None);
        check("a=\"b\\\"", None);
        check("=b", None);
        check("a=\u{1}", None);
        check("\"a\"=b", None);
    }
}
