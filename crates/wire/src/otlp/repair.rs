//! Making the text of a request UTF-8, for senders that put other bytes there.

use bytes::Bytes;

use super::schema::{Kind, Message, Role};
use super::{MAX_DEPTH, OtlpError, Signal};
use crate::proto::{Fields, Value, Writer};

/// Copies a request with every invalid sequence in a text field replaced by U+FFFD.
pub(super) fn utf8(signal: Signal, body: &[u8]) -> Result<Bytes, OtlpError> {
    let mut out = Writer::with_capacity(body.len() + body.len() / 8);
    copy(signal.schema(), body, 0, &mut out)?;
    Ok(out.finish().into())
}

fn copy(message: &'static Message, raw: &[u8], mut depth: usize, out: &mut Writer) -> Result<(), OtlpError> {
    if message.role == Role::AnyValue {
        depth += 1;
        if depth > MAX_DEPTH {
            return Err(OtlpError::TooDeep);
        }
    }
    for field in Fields::new(raw) {
        let (number, value) =
            field.map_err(|problem| OtlpError::Malformed { message: message.name, problem })?;
        match value {
            Value::Varint(value) => out.varint(number, value),
            Value::Fixed64(value) => out.fixed64(number, value),
            Value::Fixed32(value) => out.fixed32(number, value),
            Value::Len(bytes) => match message.field(number).map(|field| field.kind) {
                Some(Kind::String | Kind::Strings) => {
                    out.bytes(number, String::from_utf8_lossy(bytes).as_bytes());
                }
                Some(Kind::Message(inner) | Kind::Repeated(inner)) => {
                    out.message(number, |out| copy(inner, bytes, depth, out))?;
                }
                _ => out.bytes(number, bytes),
            },
        }
    }
    Ok(())
}
