//! The walk that proves a protobuf request well-formed, so that the views need not fail later.

use super::schema::{Kind, Message, Role};
use super::{Counts, MAX_DEPTH, OtlpError, Signal};
use crate::proto::{Fields, ProtoError, Value};

pub(super) fn check(signal: Signal, body: &[u8]) -> Result<Counts, OtlpError> {
    let mut counts = Counts::default();
    walk(signal.schema(), body, 0, &mut counts)?;
    Ok(counts)
}

/// `depth` is how many `AnyValue`s stand around; the messages themselves nest only a few levels.
fn walk(
    message: &'static Message,
    raw: &[u8],
    mut depth: usize,
    counts: &mut Counts,
) -> Result<(), OtlpError> {
    let malformed = |problem| OtlpError::Malformed { message: message.name, problem };
    match message.role {
        Role::Plain => {}
        Role::Resources => counts.resources += 1,
        Role::Scopes => counts.scopes += 1,
        Role::LogRecord => counts.items += 1,
        Role::Span => counts.items += 1,
        Role::AnyValue => {
            depth += 1;
            if depth > MAX_DEPTH {
                return Err(OtlpError::TooDeep);
            }
        }
    }
    let (mut trace_id, mut span_id): (&[u8], &[u8]) = (&[], &[]);
    for field in Fields::new(raw) {
        let (number, value) = field.map_err(malformed)?;
        let Some(field) = message.field(number) else { continue };
        match (field.kind, value) {
            (Kind::String | Kind::Strings, Value::Len(bytes)) => {
                if simdutf8::basic::from_utf8(bytes).is_err() {
                    return Err(OtlpError::Utf8 { message: message.name, field: field.name });
                }
            }
            (Kind::Id(length), Value::Len(bytes)) => {
                if !bytes.is_empty() && bytes.len() != length {
                    let bits = bytes.len() * 8;
                    return Err(OtlpError::IdLength { message: message.name, field: field.name, bits });
                }
                match number {
                    1 => trace_id = bytes,
                    2 => span_id = bytes,
                    _ => {}
                }
            }
            (Kind::Message(inner) | Kind::Repeated(inner), Value::Len(bytes)) => {
                walk(inner, bytes, depth, counts)?
            }
            (Kind::Bytes, Value::Len(_))
            | (Kind::Bool | Kind::Uint32 | Kind::Int64 | Kind::Enum(_), Value::Varint(_))
            | (Kind::Fixed64 | Kind::Double, Value::Fixed64(_))
            | (Kind::Fixed32, Value::Fixed32(_)) => {}
            _ => return Err(malformed(ProtoError::Mismatch(number))),
        }
    }
    if message.role == Role::Span {
        let is_zero = |id: &[u8]| id.iter().all(|b| *b == 0);
        counts.without_trace_id += usize::from(is_zero(trace_id));
        counts.without_span_id += usize::from(is_zero(span_id));
    }
    Ok(())
}
