//! Attributes and attribute values, the part that traces and logs share.

use std::fmt;

use super::{In, OtlpError};
use crate::proto::{Fields, Repeated};

/// How deep attribute values may be nested: a plain value is at depth 1, an element of its array at 2.
pub const MAX_DEPTH: usize = 64;

/// An `AnyValue`, borrowed.
#[derive(Clone, Copy, PartialEq)]
pub enum AnyValue<'a> {
    /// No member set.
    Null,
    /// `string_value`
    Str(&'a str),
    /// `bool_value`
    Bool(bool),
    /// `int_value`
    Int(i64),
    /// `double_value`
    Double(f64),
    /// `bytes_value`
    Bytes(&'a [u8]),
    /// `array_value`
    Array(Values<'a>),
    /// `kvlist_value`
    KvList(Attributes<'a>),
}

impl<'a> AnyValue<'a> {
    /// Reads an encoded `AnyValue`. Of several members the last counts, as protobuf's `oneof` says.
    pub fn parse(raw: &'a [u8]) -> Result<Self, OtlpError> {
        Self::parse_at(raw, 1)
    }

    fn parse_at(raw: &'a [u8], depth: usize) -> Result<Self, OtlpError> {
        const AT: In = In("AnyValue");
        if depth > MAX_DEPTH {
            return Err(OtlpError::TooDeep);
        }
        let mut value = Self::Null;
        for field in Fields::new(raw) {
            let (number, field) = field.map_err(|e| AT.proto(e))?;
            value = match number {
                1 => Self::Str(AT.text(1, "stringValue", field)?),
                2 => Self::Bool(AT.varint(2, field)? != 0),
                3 => Self::Int(AT.varint(3, field)? as i64),
                4 => Self::Double(f64::from_bits(AT.fixed64(4, field)?)),
                5 => Self::Array(Values { raw: AT.bytes(5, field)?, depth: depth + 1 }),
                6 => Self::KvList(Attributes { raw: AT.bytes(6, field)?, number: 1, depth: depth + 1 }),
                7 => Self::Bytes(AT.bytes(7, field)?),
                _ => value,
            };
        }
        Ok(value)
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&'a str> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }
}

/// The elements of an `ArrayValue`. Ends at the first malformed one (never on checked bytes).
#[derive(Clone, Copy)]
pub struct Values<'a> {
    raw: &'a [u8],
    depth: usize,
}

impl<'a> Values<'a> {
    /// The encoded `ArrayValue`.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// The elements in order.
    pub fn iter(&self) -> impl Iterator<Item = AnyValue<'a>> + use<'a> {
        let depth = self.depth;
        Repeated::new(self.raw, 1).map_while(move |raw| AnyValue::parse_at(raw, depth).ok())
    }
}

/// One attribute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KeyValue<'a> {
    /// Its name.
    pub key: &'a str,
    /// Its value; [`AnyValue::Null`] if it has none.
    pub value: AnyValue<'a>,
    /// The encoded `KeyValue`.
    pub raw: &'a [u8],
}

impl<'a> KeyValue<'a> {
    /// Reads an encoded `KeyValue`.
    pub fn parse(raw: &'a [u8]) -> Result<Self, OtlpError> {
        Self::parse_at(raw, 1)
    }

    fn parse_at(raw: &'a [u8], depth: usize) -> Result<Self, OtlpError> {
        const AT: In = In("KeyValue");
        let mut found = Self { key: "", value: AnyValue::Null, raw };
        for field in Fields::new(raw) {
            let (number, field) = field.map_err(|e| AT.proto(e))?;
            match number {
                1 => found.key = AT.text(1, "key", field)?,
                2 => found.value = AnyValue::parse_at(AT.bytes(2, field)?, depth)?,
                _ => {}
            }
        }
        Ok(found)
    }
}

/// A list of `KeyValue`s inside a message. Ends at the first malformed one (never on checked bytes).
#[derive(Clone, Copy)]
pub struct Attributes<'a> {
    /// The message that holds the list.
    raw: &'a [u8],
    /// The list's field number in it.
    number: u32,
    depth: usize,
}

impl<'a> Attributes<'a> {
    /// The list that is field `number` of the encoded message `raw`.
    pub fn of(raw: &'a [u8], number: u32) -> Self {
        Self { raw, number, depth: 1 }
    }

    /// The attributes in order; a key may occur more than once.
    pub fn iter(&self) -> impl Iterator<Item = KeyValue<'a>> + use<'a> {
        let depth = self.depth;
        Repeated::new(self.raw, self.number).map_while(move |raw| KeyValue::parse_at(raw, depth).ok())
    }

    /// The value of the first attribute called `key`.
    pub fn get(&self, key: &str) -> Option<AnyValue<'a>> {
        self.iter().find(|attribute| attribute.key == key).map(|attribute| attribute.value)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

impl PartialEq for Values<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl PartialEq for Attributes<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().map(|a| (a.key, a.value)).eq(other.iter().map(|a| (a.key, a.value)))
    }
}

impl fmt::Debug for AnyValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Str(v) => v.fmt(f),
            Self::Bool(v) => v.fmt(f),
            Self::Int(v) => v.fmt(f),
            Self::Double(v) => v.fmt(f),
            Self::Bytes(v) => v.fmt(f),
            Self::Array(v) => v.fmt(f),
            Self::KvList(v) => v.fmt(f),
        }
    }
}

impl fmt::Debug for Values<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl fmt::Debug for Attributes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|a| (a.key, a.value))).finish()
    }
}

/// A `Resource`: what sent the data.
#[derive(Debug, Clone, Copy)]
pub struct Resource<'a> {
    /// The encoded message.
    pub raw: &'a [u8],
    /// `dropped_attributes_count`
    pub dropped_attributes_count: u32,
}

impl<'a> Resource<'a> {
    /// Reads an encoded `Resource`.
    pub fn parse(raw: &'a [u8]) -> Result<Self, OtlpError> {
        const AT: In = In("Resource");
        let mut found = Self { raw, dropped_attributes_count: 0 };
        for field in Fields::new(raw) {
            if let (2, value) = field.map_err(|e| AT.proto(e))? {
                found.dropped_attributes_count = AT.varint(2, value)? as u32;
            }
        }
        Ok(found)
    }

    /// Its attributes.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes::of(self.raw, 1)
    }
}

/// An `InstrumentationScope`: the library that made the data.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The encoded message.
    pub raw: &'a [u8],
    /// `name`
    pub name: &'a str,
    /// `version`
    pub version: &'a str,
    /// `dropped_attributes_count`
    pub dropped_attributes_count: u32,
}

impl<'a> Scope<'a> {
    /// Reads an encoded `InstrumentationScope`.
    pub fn parse(raw: &'a [u8]) -> Result<Self, OtlpError> {
        const AT: In = In("InstrumentationScope");
        let mut found = Self { raw, name: "", version: "", dropped_attributes_count: 0 };
        for field in Fields::new(raw) {
            let (number, value) = field.map_err(|e| AT.proto(e))?;
            match number {
                1 => found.name = AT.text(1, "name", value)?,
                2 => found.version = AT.text(2, "version", value)?,
                4 => found.dropped_attributes_count = AT.varint(4, value)? as u32,
                _ => {}
            }
        }
        Ok(found)
    }

    /// Its attributes.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes::of(self.raw, 3)
    }
}
