//! OTLP values as text: lines, labels and metadata are text.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use wire::otlp::AnyValue;

/// A number in decimal.
pub(crate) fn push_u64(out: &mut String, value: u64) {
    let _ = write!(out, "{value}");
}

/// Bytes in lower-case hex.
pub(crate) fn push_hex(out: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

/// A value: text as it is, numbers and bools as Go prints them, bytes in base64, lists and maps as JSON.
pub(crate) fn push_value(out: &mut String, value: AnyValue<'_>) {
    match value {
        AnyValue::Null => {}
        AnyValue::Str(text) => out.push_str(text),
        AnyValue::Bytes(bytes) => BASE64.encode_string(bytes, out),
        AnyValue::Double(number) if number.is_nan() => out.push_str("NaN"),
        AnyValue::Double(number) if number.is_infinite() => {
            out.push_str(if number > 0.0 { "+Inf" } else { "-Inf" })
        }
        value => push_json(out, value),
    }
}

/// A value as compact JSON; members of a map in order of their names. Nesting is bounded by the decoder.
fn push_json(out: &mut String, value: AnyValue<'_>) {
    match value {
        AnyValue::Null => out.push_str("null"),
        AnyValue::Str(text) => push_json_str(out, text),
        AnyValue::Bool(value) => out.push_str(if value { "true" } else { "false" }),
        AnyValue::Int(number) => {
            let _ = write!(out, "{number}");
        }
        AnyValue::Double(number) if number.is_finite() => {
            let _ = write!(out, "{number}");
        }
        AnyValue::Double(_) => out.push_str("null"),
        AnyValue::Bytes(bytes) => {
            out.push('"');
            BASE64.encode_string(bytes, out);
            out.push('"');
        }
        AnyValue::Array(values) => {
            out.push('[');
            for (i, value) in values.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                push_json(out, value);
            }
            out.push(']');
        }
        AnyValue::KvList(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|m| m.key);
            out.push('{');
            for (i, member) in members.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                push_json_str(out, member.key);
                out.push(':');
                push_json(out, member.value);
            }
            out.push('}');
        }
    }
}

fn push_json_str(out: &mut String, text: &str) {
    // Writing a string to a string cannot fail.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}
