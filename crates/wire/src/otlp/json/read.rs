//! OTLP/JSON to protobuf, along the schema.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::super::MAX_DEPTH;
use super::super::schema::{Field, Kind, Message, Role};
use crate::JsonError;
use crate::json::{Kind as JsonKind, Reader};
use crate::proto::Writer;

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// Reads one object as `message`. `depth` is how many `AnyValue`s stand around.
pub(super) fn message(
    message: &'static Message,
    reader: &mut Reader<'_>,
    out: &mut Writer,
    mut depth: usize,
) -> Result<(), JsonError> {
    if message.role == Role::AnyValue {
        depth += 1;
        if depth > MAX_DEPTH {
            return Err(reader.error(format!("attribute values are nested deeper than {MAX_DEPTH} levels")));
        }
    }
    reader.object(|reader, key| match message.field_by_key(&key) {
        None => reader.skip().map(drop),
        Some(_) if reader.null()? => Ok(()),
        Some(field) => member(field, message.role == Role::AnyValue, reader, out, depth),
    })
}

/// Reads a member's value. `keep_zero`: it is written even when zero.
fn member(
    field: &Field,
    keep_zero: bool,
    reader: &mut Reader<'_>,
    out: &mut Writer,
    depth: usize,
) -> Result<(), JsonError> {
    let number = field.number;
    match field.kind {
        Kind::String => {
            let text = reader.string()?;
            if keep_zero || !text.is_empty() {
                out.bytes(number, text.as_bytes());
            }
        }
        Kind::Id(length) => {
            let text = reader.string()?;
            if !text.is_empty() {
                out.bytes(number, &hex(&text, length).map_err(|problem| reader.error(problem))?);
            }
        }
        Kind::Bytes => {
            let text = reader.string()?;
            let bytes = STANDARD.decode(&*text).or_else(|_| URL_SAFE.decode(&*text));
            let bytes = bytes.map_err(|e| reader.error(format!("not base64: {e}")))?;
            if keep_zero || !bytes.is_empty() {
                out.bytes(number, &bytes);
            }
        }
        Kind::Bool => {
            let value = reader.bool()?;
            if keep_zero || value {
                out.varint(number, u64::from(value));
            }
        }
        Kind::Uint32 => {
            let value: u32 = integer(reader)?;
            if keep_zero || value != 0 {
                out.varint(number, u64::from(value));
            }
        }
        Kind::Int64 => {
            let value: i64 = integer(reader)?;
            if keep_zero || value != 0 {
                out.varint(number, value as u64);
            }
        }
        Kind::Fixed64 => {
            let value: u64 = integer(reader)?;
            if keep_zero || value != 0 {
                out.fixed64(number, value);
            }
        }
        Kind::Fixed32 => {
            let value: u32 = integer(reader)?;
            if keep_zero || value != 0 {
                out.fixed32(number, value);
            }
        }
        Kind::Double => {
            let value = double(reader)?;
            if keep_zero || value != 0.0 {
                out.fixed64(number, value.to_bits());
            }
        }
        Kind::Enum(names) => {
            let value = enumeration(names, reader)?;
            if keep_zero || value != 0 {
                out.varint(number, i64::from(value) as u64);
            }
        }
        Kind::Message(inner) => out.message(number, |out| message(inner, reader, out, depth))?,
        Kind::Repeated(inner) => reader.array(|reader, _| {
            if reader.null()? {
                // A null value is a value; a null span is none.
                if inner.role == Role::AnyValue {
                    out.bytes(number, &[]);
                }
                return Ok(());
            }
            out.message(number, |out| message(inner, reader, out, depth))
        })?,
        Kind::Strings => reader.array(|reader, _| {
            out.bytes(number, reader.string()?.as_bytes());
            Ok(())
        })?,
    }
    Ok(())
}

fn hex(text: &str, length: usize) -> Result<Vec<u8>, String> {
    if text.len() != 2 * length {
        return Err(format!("an id of {} hex digits must have {}", text.len(), 2 * length));
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?))
        .collect::<Option<_>>()
        .ok_or_else(|| format!("an id must be hex digits, not {text:?}"))
}

/// An integer as a number or in a string; `1e3` and `1.0` are integers too.
fn integer<T: TryFrom<i128>>(reader: &mut Reader<'_>) -> Result<T, JsonError> {
    let text = scalar(reader)?;
    parse_integer(&text)
        .and_then(|value| T::try_from(value).ok())
        .ok_or_else(|| reader.error(format!("{text:?} is not an integer of {} bits", 8 * size_of::<T>())))
}

fn parse_integer(text: &str) -> Option<i128> {
    /// Beyond it, doubles skip integers.
    const EXACT: f64 = (1u64 << 53) as f64;
    text.parse().ok().or_else(|| {
        let float: f64 = text.parse().ok()?;
        (float.fract() == 0.0 && float.abs() <= EXACT).then_some(float as i128)
    })
}

fn double(reader: &mut Reader<'_>) -> Result<f64, JsonError> {
    let text = scalar(reader)?;
    match &*text {
        "NaN" => Ok(f64::NAN),
        "Infinity" => Ok(f64::INFINITY),
        "-Infinity" => Ok(f64::NEG_INFINITY),
        text if text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')) => {
            text.parse().map_err(|_| reader.error(format!("{text:?} is not a number")))
        }
        text => Err(reader.error(format!("{text:?} is not a number"))),
    }
}

fn enumeration(names: &[&str], reader: &mut Reader<'_>) -> Result<i32, JsonError> {
    let text = scalar(reader)?;
    if let Some(at) = names.iter().position(|name| **name == *text) {
        return Ok(at as i32);
    }
    let number = parse_integer(&text).and_then(|value| i32::try_from(value).ok());
    number
        .ok_or_else(|| reader.error(format!("{text:?} is not a value of this enum, such as {:?}", names[0])))
}

/// The text of a number or a string.
fn scalar<'a>(reader: &mut Reader<'a>) -> Result<std::borrow::Cow<'a, str>, JsonError> {
    match reader.peek()? {
        JsonKind::Number => reader.number().map(Into::into),
        JsonKind::String => reader.string(),
        _ => Err(reader.error("expected a number or a string")),
    }
}
