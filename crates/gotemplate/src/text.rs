//! Text functions of templates that need more than a line.

use std::fmt::Write as _;

use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use base64::{DecodeError, Engine as _, alphabet};

/// Upper-cases the first letter of each word, as Go's `strings.Title`.
pub(crate) fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        if inside {
            out.push(c);
        } else {
            out.extend(c.to_uppercase());
        }
        inside = c == '_' || c.is_alphanumeric() || !c.is_ascii() && !c.is_whitespace();
    }
    out
}

/// In capital letters, each character alone: one that would become several stays.
pub(crate) fn upper(text: &str) -> String {
    text.chars()
        .map(|c| {
            let mut upper = c.to_uppercase();
            upper.next().filter(|_| upper.next().is_none()).unwrap_or(c)
        })
        .collect()
}

/// In small letters, each character alone.
pub(crate) fn lower(text: &str) -> String {
    text.chars().map(|c| c.to_lowercase().next().unwrap_or(c)).collect()
}

/// The first `n` bytes, or the last `-n`.
pub(crate) fn trunc(n: i64, text: &str) -> String {
    let bytes = text.as_bytes();
    let length = usize::try_from(n.unsigned_abs()).unwrap_or(usize::MAX);
    if length >= bytes.len() {
        return text.to_owned();
    }
    let part = if n < 0 { &bytes[bytes.len() - length..] } else { &bytes[..length] };
    String::from_utf8_lossy(part).into_owned()
}

/// Bytes from `a` to `b`.
pub(crate) fn substr(a: i64, b: i64, text: &str) -> Result<String, String> {
    let bytes = text.as_bytes();
    let to = |end: i64| usize::try_from(end).ok().filter(|end| *end <= bytes.len());
    let range = if a < 0 {
        to(b).map(|end| 0..end)
    } else if to(b).is_none() {
        to(a).map(|start| start..bytes.len())
    } else {
        to(a).zip(to(b)).map(|(start, end)| start..end)
    };
    let part = range.filter(|r| r.start <= r.end).and_then(|range| bytes.get(range));
    part.map(|part| String::from_utf8_lossy(part).into_owned())
        .ok_or_else(|| format!("slice bounds out of range [{a}:{b}]"))
}

/// Padded or cut on the right to `n` characters.
pub(crate) fn align_left(n: usize, text: &str) -> String {
    let mut out: String = text.chars().take(n).collect();
    let missing = n - out.chars().count();
    out.extend(std::iter::repeat_n(' ', missing));
    out
}

/// Padded or cut on the left to `n` characters.
pub(crate) fn align_right(n: usize, text: &str) -> String {
    let count = text.chars().count();
    let mut out: String = std::iter::repeat_n(' ', n.saturating_sub(count)).collect();
    out.extend(text.chars().skip(count.saturating_sub(n)));
    out
}

/// Undoes base 64; where that cannot be, Go's complaint. Line ends, and bits behind the last byte, do not matter.
pub(crate) fn from_base64(text: &str) -> String {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
    );
    let text = text.replace(['\r', '\n'], "");
    match LENIENT.decode(&text) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(DecodeError::InvalidByte(at, _)) => format!("illegal base64 data at input byte {at}"),
        Err(_) => format!("illegal base64 data at input byte {}", text.len()),
    }
}

/// Each line shifted to the right.
pub(crate) fn indent(n: usize, text: &str) -> String {
    let pad = " ".repeat(n);
    format!("{pad}{}", text.replace('\n', &format!("\n{pad}")))
}

/// As in the query of a URL.
pub(crate) fn query_escape(text: &str) -> String {
    let mut out = String::new();
    for b in text.bytes() {
        match b {
            b' ' => out.push('+'),
            b if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) => out.push(b as char),
            b => {
                let _ = write!(out, "%{b:02X}");
            }
        }
    }
    out
}

/// Undoes [`query_escape`].
pub(crate) fn query_unescape(text: &str) -> Result<String, String> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        match first {
            b'+' => out.push(b' '),
            b'%' => {
                let digits = after.get(..2).and_then(|d| std::str::from_utf8(d).ok());
                let byte = digits.and_then(|d| u8::from_str_radix(d, 16).ok());
                let shown = String::from_utf8_lossy(&rest[..rest.len().min(2)]).into_owned();
                out.push(
                    byte.ok_or_else(|| format!("invalid URL escape {}", model::quote(&format!("%{shown}"))))?,
                );
                rest = &after[2..];
            }
            b => out.push(*b),
        }
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// For text inside HTML.
pub(crate) fn html_escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\0' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// For text inside a JavaScript string.
pub(crate) fn js_escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' | '>' | '&' | '=' => {
                let _ = write!(out, "\\u{:04X}", c as u32);
            }
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04X}", c as u32);
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        assert_eq!((upper("straße").as_str(), lower("ΑΣ").as_str()), ("STRAßE", "ασ"));
        assert_eq!((title("a-b c_d").as_str(), trunc(-2, "abc").as_str()), ("A-B C_d", "bc"));
        assert_eq!(
            (from_base64("YW\nI="), from_base64("YWJ="), from_base64("YW!=")),
            ("ab".into(), "ab".into(), "illegal base64 data at input byte 2".into())
        );
        assert_eq!((substr(-1, 2, "abc").as_deref(), substr(1, -1, "abc").as_deref()), (Ok("ab"), Ok("bc")));
        assert!(substr(-1, -2, "abc").is_err());
    }
}
