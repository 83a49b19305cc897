//! JSON as Go writes it, and a mending of what Go reads and a strict parser refuses.

use std::fmt::Write as _;

use serde_json::Value as Json;

/// How values are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    /// See [`write_text`].
    pub(super) escape_html: bool,
    /// Whole numbers have all their digits; what Go has read as JSON are floats.
    pub(super) integers: bool,
    /// Each member on a line of its own, two blanks further in than what it belongs to.
    pub(super) indent: bool,
}

/// Appends a value as Go's encoders write it.
pub(super) fn write(value: &Json, style: Style, out: &mut String) {
    write_at(0, value, style, out);
}

fn write_at(depth: usize, value: &Json, style: Style, out: &mut String) {
    let line = |depth: usize, out: &mut String| {
        if style.indent {
            out.push('\n');
            out.extend(std::iter::repeat_n("  ", depth));
        }
    };
    match value {
        Json::Null => out.push_str("null"),
        Json::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Json::Number(number) => match number.as_i64().filter(|_| style.integers) {
            Some(number) => out.push_str(&number.to_string()),
            None => write_number(number.as_f64().unwrap_or_default(), out),
        },
        Json::String(text) => write_text(text, style.escape_html, out),
        Json::Array(items) if items.is_empty() => out.push_str("[]"),
        Json::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                out.push(if i > 0 { ',' } else { '[' });
                line(depth + 1, out);
                write_at(depth + 1, item, style, out);
            }
            line(depth, out);
            out.push(']');
        }
        Json::Object(members) if members.is_empty() => out.push_str("{}"),
        Json::Object(members) => {
            for (i, (key, value)) in members.iter().enumerate() {
                out.push(if i > 0 { ',' } else { '{' });
                line(depth + 1, out);
                write_text(key, style.escape_html, out);
                out.push_str(if style.indent { ": " } else { ":" });
                write_at(depth + 1, value, style, out);
            }
            line(depth, out);
            out.push('}');
        }
    }
}

/// Appends a number: the shortest digits, with an exponent only where they would be many.
pub(super) fn write_number(value: f64, out: &mut String) {
    let size = value.abs();
    if size == 0.0 || (1e-6..1e21).contains(&size) {
        let _ = write!(out, "{value}");
        return;
    }
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((digits, exponent)) if !exponent.starts_with('-') => {
            let _ = write!(out, "{digits}e+{exponent}");
        }
        _ => out.push_str(&text),
    }
}

/// Appends a text with its quotes. With `escape_html`, it can stand in a page: `<`, `>` and `&` are escaped.
pub(super) fn write_text(text: &str, escape_html: bool, out: &mut String) {
    out.reserve(text.len() + 2);
    out.push('"');
    let mut plain = 0;
    for (at, c) in text.char_indices() {
        let escape = match c {
            '"' => "\\\"",
            '\\' => "\\\\",
            '\n' => "\\n",
            '\r' => "\\r",
            '\t' => "\\t",
            '<' | '>' | '&' if escape_html => "",
            '\0'..='\u{1f}' | '\u{2028}' | '\u{2029}' => "",
            _ => continue,
        };
        out.push_str(&text[plain..at]);
        plain = at + c.len_utf8();
        if escape.is_empty() {
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push_str(escape);
        }
    }
    out.push_str(&text[plain..]);
    out.push('"');
}

/// The text with halves of characters (`\ud83d` alone, as programs write that cut texts anywhere) made U+FFFD, which is what Go
/// reads them as; `None` if it has none.
pub(super) fn mended(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let code = |at: usize| {
        let digits =
            text.get(at + 2..at + 6).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
        bytes[at..].starts_with(b"\\u").then(|| u16::from_str_radix(digits, 16).ok()).flatten()
    };
    let (mut out, mut copied, mut at) = (String::new(), 0, 0);
    while let Some(next) = memchr::memchr(b'\\', bytes.get(at..)?) {
        at += next;
        at += match code(at) {
            None => 2,
            Some(0xd800..=0xdbff) if matches!(code(at + 6), Some(0xdc00..=0xdfff)) => 12,
            Some(0xd800..=0xdfff) => {
                out.push_str(&text[copied..at]);
                out.push_str("\\ufffd");
                copied = at + 6;
                6
            }
            Some(_) => 6,
        };
        if at > bytes.len() {
            break;
        }
    }
    (copied > 0).then(|| out + &text[copied..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values() {
        let check = |json: &str, want: &str| {
            let mut out = String::new();
            let style = Style { escape_html: true, integers: false, indent: false };
            write(&serde_json::from_str(json).unwrap(), style, &mut out);
            assert_eq!(out, want);
        };
        check(
            r#"{"b":1.0,"a":[1e21,1e-7,0.000001,123456789012345678,-0.5,null,true]}"#,
            r#"{"b":1,"a":[1e+21,1e-7,0.000001,123456789012345680,-0.5,null,true]}"#,
        );
        check(
            r#""<a href=\"x\">&\u0001\b\u2028\n\u00e9/""#,
            r#""\u003ca href=\"x\"\u003e\u0026\u0001\u0008\u2028\né/""#,
        );
        check(r#"{"a":[],"b":{}}"#, r#"{"a":[],"b":{}}"#);
        let mut out = String::new();
        write_text("<&>", false, &mut out);
        assert_eq!(out, "\"<&>\"");
        let (mut out, style) = (String::new(), Style { escape_html: true, integers: true, indent: true });
        write(&serde_json::json!({"a": [9_007_199_254_740_993_i64, 1.0], "b": {}}), style, &mut out);
        assert_eq!(out, "{\n  \"a\": [\n    9007199254740993,\n    1\n  ],\n  \"b\": {}\n}");
    }

    #[test]
    fn halves_are_mended() {
        let check = |text: &str, want: Option<&str>| assert_eq!(mended(text).as_deref(), want, "{text}");
        check(r#"{"a":"\ud83d x"}"#, Some(r#"{"a":"\ufffd x"}"#));
        check(r#""\ud83d\ud83d\ude00\udE00""#, Some(r#""\ufffd\ud83d\ude00\ufffd""#));
        check(r#""\ud83d\ude00""#, None);
        check(r#""\\ud83d""#, None);
        check(r#""\ud83""#, None);
        check("\\", None);
        check("", None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(text in any::<String>(), number in any::<f64>(), html in any::<bool>()) {
            let mut out = String::new();
            write_text(&text, html, &mut out);
            prop_assert_eq!(serde_json::from_str::<String>(&out).ok(), Some(text));
            if number.is_finite() {
                let mut out = String::new();
                write_number(number, &mut out);
                prop_assert_eq!(out.parse::<f64>().ok(), Some(number));
            }
        }

        #[test]
        fn mending_leaves_the_rest(text in "(\\\\u[dD][8-9c-fC-F][0-9a-f]{2}|\\\\[u\\\\\"n]|[a-zé\"]){0,12}") {
            if let Some(mended) = mended(&text) {
                prop_assert_eq!(mended.len(), text.len());
                prop_assert_eq!(super::mended(&mended), None);
            }
        }
    }
}
