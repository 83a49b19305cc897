//! OTLP's JSON in both directions, and attribute values as JSON and as text.
//!
//! Reading takes what any sender writes: ids in hex of any case, 64-bit integers as strings or
//! numbers, enums by number or name, keys in lowerCamelCase or snake_case, nulls, `"NaN"`; unknown
//! members are ignored. Writing knows two styles, see [`Style`].

mod read;
mod value;
mod write;

use bytes::Bytes;

use super::{OtlpError, Signal, schema};
use crate::JsonError;
use crate::json::Reader;
use crate::proto::Writer;

pub use value::{any_value_to_json, any_value_to_text, go_float};

/// Reads OTLP/JSON into the protobuf bytes of the same request. Bytes that are not UTF-8 become U+FFFD.
pub fn to_protobuf(signal: Signal, json: &[u8]) -> Result<Bytes, OtlpError> {
    let text = match simdutf8::basic::from_utf8(json) {
        Ok(text) => text.into(),
        Err(_) => String::from_utf8_lossy(json),
    };
    let mut reader = Reader::new(&text);
    let mut out = Writer::with_capacity(json.len() / 2);
    read::message(signal.schema(), &mut reader, &mut out, 0)?;
    reader.end()?;
    Ok(out.finish().into())
}

/// Reads a value with its type, as [`any_value_to_json`] writes it, into an encoded `AnyValue`.
pub fn any_value_from_json(json: &str) -> Result<Vec<u8>, JsonError> {
    let mut reader = Reader::new(json);
    let mut out = Writer::default();
    read::message(&schema::ANY_VALUE, &mut reader, &mut out, 0)?;
    reader.end()?;
    Ok(out.finish())
}

/// The two styles of JSON that OTLP messages are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// OTLP/JSON: ids in hex, enums as numbers.
    Otlp,
    /// Protobuf's own JSON as Tempo's trace-by-id answers have it: ids in base64, enums by name;
    /// `resource`, `scope` and `status` are there even when empty.
    Tempo,
}

/// Writes a whole request: `{"resourceSpans":[…]}` or `{"resourceLogs":[…]}`, `{}` if it is empty.
///
/// Errors on malformed protobuf and text that is not UTF-8 (never on checked bytes).
pub fn from_protobuf(signal: Signal, body: &[u8], style: Style) -> Result<String, OtlpError> {
    let mut out = String::with_capacity(body.len() * 2);
    write::message(signal.schema(), body, style, 0, &mut out)?;
    Ok(out)
}

/// Writes a text as a JSON string.
pub(crate) fn push_string(text: &str, out: &mut String) {
    out.push('"');
    let mut plain = 0;
    for (i, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..0x20 => "",
            _ => continue,
        };
        out.push_str(&text[plain..i]);
        if escape.is_empty() {
            push(format_args!("\\u{byte:04x}"), out);
        } else {
            out.push_str(escape);
        }
        plain = i + 1;
    }
    out.push_str(&text[plain..]);
    out.push('"');
}

/// Writes whatever can be shown; a `String` takes everything.
fn push(value: impl std::fmt::Display, out: &mut String) {
    use std::fmt::Write as _;
    let _ = write!(out, "{value}");
}
