//! Protobuf to JSON, along the schema.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::schema::{Field, Kind, Message, Role};
use super::super::{MAX_DEPTH, OtlpError};
use super::{Style, go_float, push, push_string};
use crate::proto::{Fields, ProtoError, Value};

/// Writes `raw` as an object. `depth` is how many `AnyValue`s stand around.
pub(super) fn message(
    message: &'static Message,
    raw: &[u8],
    style: Style,
    mut depth: usize,
    out: &mut String,
) -> Result<(), OtlpError> {
    let at = At { message, style };
    if message.role == Role::AnyValue {
        depth += 1;
        if depth > MAX_DEPTH {
            return Err(OtlpError::TooDeep);
        }
    }
    let mut values = Vec::new();
    for value in Fields::new(raw) {
        let (number, value) = value.map_err(|e| at.malformed(e))?;
        if message.field(number).is_some() {
            values.push((number, value));
        }
    }
    if message.role == Role::AnyValue {
        // Of a oneof's members only the last counts.
        values.drain(..values.len().saturating_sub(1));
    }
    values.sort_by_key(|(number, _)| *number);
    out.push('{');
    let mut comma = "";
    for field in message.fields {
        let first = values.partition_point(|(number, _)| *number < field.number);
        let end = values.partition_point(|(number, _)| *number <= field.number);
        let values = &values[first..end];
        let Some((_, last)) = values.last() else {
            if style == Style::Tempo && at.is_always_there(field) {
                push(format_args!("{comma}\"{}\":{{}}", field.name), out);
                comma = ",";
            }
            continue;
        };
        if message.role != Role::AnyValue && is_zero(field, *last) {
            continue;
        }
        push(format_args!("{comma}\"{}\":", field.name), out);
        comma = ",";
        if let Kind::Repeated(_) | Kind::Strings = field.kind {
            for (i, (_, value)) in values.iter().enumerate() {
                out.push(if i == 0 { '[' } else { ',' });
                at.value(field, *value, depth, out)?;
            }
            out.push(']');
        } else {
            at.value(field, *last, depth, out)?;
        }
    }
    out.push('}');
    Ok(())
}

/// Whether proto3 JSON leaves the value out.
fn is_zero(field: &Field, value: Value<'_>) -> bool {
    match (field.kind, value) {
        (Kind::Message(_) | Kind::Repeated(_) | Kind::Strings, _) => false,
        (_, Value::Varint(v) | Value::Fixed64(v)) => v == 0,
        (_, Value::Fixed32(v)) => v == 0,
        (_, Value::Len(v)) => v.is_empty(),
    }
}

#[derive(Clone, Copy)]
struct At {
    message: &'static Message,
    style: Style,
}

impl At {
    fn malformed(self, problem: ProtoError) -> OtlpError {
        OtlpError::Malformed { message: self.message.name, problem }
    }

    /// `resource`, `scope` and `status`: messages that Tempo always has.
    fn is_always_there(self, field: &Field) -> bool {
        matches!(self.message.role, Role::Resources | Role::Scopes | Role::Span)
            && matches!(field.kind, Kind::Message(_))
    }

    fn value(self, field: &Field, value: Value<'_>, depth: usize, out: &mut String) -> Result<(), OtlpError> {
        match (field.kind, value) {
            (Kind::String | Kind::Strings, Value::Len(bytes)) => {
                let text = simdutf8::basic::from_utf8(bytes)
                    .map_err(|_| OtlpError::Utf8 { message: self.message.name, field: field.name })?;
                push_string(text, out);
            }
            (Kind::Id(_), Value::Len(bytes)) if self.style == Style::Otlp => {
                out.push('"');
                for byte in bytes {
                    push(format_args!("{byte:02x}"), out);
                }
                out.push('"');
            }
            (Kind::Bytes | Kind::Id(_), Value::Len(bytes)) => {
                out.push('"');
                STANDARD.encode_string(bytes, out);
                out.push('"');
            }
            (Kind::Bool, Value::Varint(value)) => out.push_str(if value != 0 { "true" } else { "false" }),
            (Kind::Uint32, Value::Varint(value)) => push(value as u32, out),
            (Kind::Int64, Value::Varint(value)) => push(format_args!("\"{}\"", value as i64), out),
            (Kind::Fixed64, Value::Fixed64(value)) => push(format_args!("\"{value}\""), out),
            (Kind::Fixed32, Value::Fixed32(value)) => push(value, out),
            (Kind::Double, Value::Fixed64(bits)) => double(f64::from_bits(bits), out),
            (Kind::Enum(names), Value::Varint(value)) => match names.get(value as usize) {
                Some(name) if self.style == Style::Tempo => push(format_args!("\"{name}\""), out),
                _ => push(value as i32, out),
            },
            (Kind::Message(inner) | Kind::Repeated(inner), Value::Len(bytes)) => {
                message(inner, bytes, self.style, depth, out)?;
            }
            _ => return Err(self.malformed(ProtoError::Mismatch(field.number))),
        }
        Ok(())
    }
}

fn double(value: f64, out: &mut String) {
    if value.is_nan() {
        out.push_str("\"NaN\"");
    } else if value.is_infinite() {
        out.push_str(if value > 0.0 { "\"Infinity\"" } else { "\"-Infinity\"" });
    } else {
        out.push_str(&go_float(value));
    }
}
