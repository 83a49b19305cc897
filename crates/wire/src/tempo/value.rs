//! `tempopb.common.v1`: attributes as answers carry them, and the status of partial answers.

use serde::Serialize;

use super::json::{as_string, double, is_zero};

/// A name with a value.
#[derive(Clone, PartialEq, prost::Message, Serialize)]
pub struct KeyValue {
    /// The name; for metrics with its scope, for search without.
    #[prost(string, tag = "1")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// The value.
    #[prost(message, optional, tag = "2")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<AnyValue>,
}

impl KeyValue {
    /// A name with a value.
    pub fn new(key: impl Into<String>, value: impl Into<Value>) -> Self {
        Self { key: key.into(), value: Some(AnyValue { value: Some(value.into()) }) }
    }
}

/// A value of any kind.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AnyValue {
    /// The value; none is null.
    #[prost(oneof = "Value", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub value: Option<Value>,
}

/// The members of [`AnyValue`]. The chosen one is written even when zero.
#[derive(Clone, PartialEq, prost::Oneof, Serialize)]
pub enum Value {
    /// Text.
    #[prost(string, tag = "1")]
    #[serde(rename = "stringValue")]
    String(String),
    /// True or false.
    #[prost(bool, tag = "2")]
    #[serde(rename = "boolValue")]
    Bool(bool),
    /// A signed integer.
    #[prost(int64, tag = "3")]
    #[serde(rename = "intValue", serialize_with = "as_string")]
    Int(i64),
    /// A double.
    #[prost(double, tag = "4")]
    #[serde(rename = "doubleValue", serialize_with = "double")]
    Double(f64),
    /// A list.
    #[prost(message, tag = "5")]
    #[serde(rename = "arrayValue")]
    Array(ArrayValue),
    /// A map.
    #[prost(message, tag = "6")]
    #[serde(rename = "kvlistValue")]
    KvList(KeyValueList),
    /// Bytes, base64 in JSON.
    #[prost(bytes = "vec", tag = "7")]
    #[serde(rename = "bytesValue", serialize_with = "base64")]
    Bytes(Vec<u8>),
}

/// A list of values.
#[derive(Clone, PartialEq, prost::Message, Serialize)]
pub struct ArrayValue {
    /// The elements.
    #[prost(message, repeated, tag = "1")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<AnyValue>,
}

/// A list of names with values.
#[derive(Clone, PartialEq, prost::Message, Serialize)]
pub struct KeyValueList {
    /// The members.
    #[prost(message, repeated, tag = "1")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<KeyValue>,
}

impl Serialize for AnyValue {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        match &self.value {
            Some(value) => value.serialize(serializer),
            None => serializer.serialize_map(Some(0))?.end(),
        }
    }
}

fn base64<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    use ::base64::Engine;
    serializer.serialize_str(&::base64::engine::general_purpose::STANDARD.encode(bytes))
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::String(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::String(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Double(value)
    }
}

/// Whether an answer holds everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum PartialStatus {
    /// It does.
    Complete = 0,
    /// It was cut at a limit; the answer's message says at which.
    Partial = 1,
}

/// Writes a [`PartialStatus`] field by name.
pub(super) fn status<S: serde::Serializer>(status: &i32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(if *status == PartialStatus::Partial as i32 { "PARTIAL" } else { "COMPLETE" })
}

/// Cost of a tag question.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MetadataMetrics {
    /// Bytes read.
    #[prost(uint64, tag = "1")]
    #[serde(skip_serializing_if = "is_zero", serialize_with = "as_string")]
    pub inspected_bytes: u64,
    /// Parts the question was split into.
    #[prost(uint32, tag = "2")]
    #[serde(skip_serializing_if = "is_zero")]
    pub total_jobs: u32,
    /// Parts done.
    #[prost(uint32, tag = "3")]
    #[serde(skip_serializing_if = "is_zero")]
    pub completed_jobs: u32,
    /// Blocks in the time range.
    #[prost(uint32, tag = "4")]
    #[serde(skip_serializing_if = "is_zero")]
    pub total_blocks: u32,
    /// Their size.
    #[prost(uint64, tag = "5")]
    #[serde(skip_serializing_if = "is_zero", serialize_with = "as_string")]
    pub total_block_bytes: u64,
}
