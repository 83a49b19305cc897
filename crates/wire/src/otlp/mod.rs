//! OTLP, the OpenTelemetry protocol: traces and logs.
//!
//! Protobuf bodies are read through borrowed views ([`traces`], [`logs`]); the protobuf bytes are
//! also the only in-memory form, so that JSON ([`json`]) is turned into them first. A body from
//! outside goes through [`Signal::decode`] once, which proves it well-formed, all its text UTF-8, its ids of right
//! length and its nesting bounded; on such bytes no view ever fails or cuts anything off.
//!
//! Field numbers: <https://github.com/open-telemetry/opentelemetry-proto>.

mod check;
pub mod encode;
pub mod json;
pub mod logs;
mod repair;
pub mod rpc;
mod schema;
pub mod traces;
mod value;

use bytes::Bytes;

use crate::proto::{ProtoError, Value};
use crate::{JsonError, Str};

pub use value::{AnyValue, Attributes, KeyValue, MAX_DEPTH, Resource, Scope, Values};

/// The two encodings of OTLP over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `application/x-protobuf`
    Protobuf,
    /// `application/json`
    Json,
}

impl Format {
    /// Reads a `Content-Type` (parameters are ignored); `None` for any other type.
    pub fn from_content_type(text: &str) -> Option<Self> {
        let media = text.split(';').next().unwrap_or_default().trim();
        if media.eq_ignore_ascii_case("application/x-protobuf") {
            Some(Self::Protobuf)
        } else if media.eq_ignore_ascii_case("application/json") {
            Some(Self::Json)
        } else {
            None
        }
    }

    /// The `Content-Type` of an answer in this format.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }
}

/// What a body holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signal {
    /// `ExportTraceServiceRequest`, `TracesData`
    Traces,
    /// `ExportLogsServiceRequest`, `LogsData`
    Logs,
}

impl Signal {
    /// Turns a body from outside (already decompressed) into protobuf bytes that passed the check.
    ///
    /// Text that is not UTF-8 is no reason to refuse: it is repaired with U+FFFD, which is the
    /// only case besides JSON in which the bytes are copied.
    pub fn decode(self, body: Bytes, format: Format) -> Result<(Bytes, Counts), OtlpError> {
        let body = match format {
            Format::Protobuf => body,
            Format::Json => json::to_protobuf(self, &body)?,
        };
        match self.check(&body) {
            Err(OtlpError::Utf8 { .. }) => {
                let repaired = repair::utf8(self, &body)?;
                let counts = self.check(&repaired)?;
                Ok((repaired, counts))
            }
            checked => checked.map(|counts| (body, counts)),
        }
    }

    fn schema(self) -> &'static schema::Message {
        match self {
            Self::Traces => &schema::TRACES,
            Self::Logs => &schema::LOGS,
        }
    }

    /// Walks a whole protobuf request: wire format, UTF-8, id lengths (0 or 16; 0 or 8), nesting.
    pub fn check(self, body: &[u8]) -> Result<Counts, OtlpError> {
        check::check(self, body)
    }
}

/// What a request holds, counted by the check.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// `ResourceSpans` or `ResourceLogs`.
    pub resources: usize,
    /// `ScopeSpans` or `ScopeLogs`.
    pub scopes: usize,
    /// Spans or log records.
    pub items: usize,
    /// Spans whose trace id is empty or all zero. Never counted for log records, which need none.
    pub without_trace_id: usize,
    /// Spans whose span id is empty or all zero.
    pub without_span_id: usize,
}

/// Why a body is not the OTLP message it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OtlpError {
    /// The bytes are not protobuf.
    #[error("malformed {message}: {problem}")]
    Malformed {
        /// The message that it happened in.
        message: &'static str,
        /// What is wrong.
        problem: ProtoError,
    },
    /// A text field is not UTF-8.
    #[error("{message}.{field} is not UTF-8")]
    Utf8 {
        /// The message.
        message: &'static str,
        /// The field.
        field: &'static str,
    },
    /// An id of a length that no id has.
    #[error("{message}.{field}: {} ids must be {} bit, received {bits} bits", .field.trim_end_matches("Id"), id_bits(.field))]
    IdLength {
        /// The message.
        message: &'static str,
        /// The field.
        field: &'static str,
        /// Its length.
        bits: usize,
    },
    /// Attribute values nested deeper than [`MAX_DEPTH`].
    #[error("attribute values are nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// The JSON text is malformed or does not fit the message.
    #[error(transparent)]
    Json(#[from] JsonError),
}

fn id_bits(field: &str) -> usize {
    if field == "traceId" { 128 } else { 64 }
}

/// Decoding of single field values inside the message `message`, for the views.
#[derive(Clone, Copy)]
struct In(&'static str);

impl In {
    fn proto(self, problem: ProtoError) -> OtlpError {
        OtlpError::Malformed { message: self.0, problem }
    }

    fn mismatch(self, number: u32) -> OtlpError {
        self.proto(ProtoError::Mismatch(number))
    }

    fn bytes(self, number: u32, value: Value<'_>) -> Result<&[u8], OtlpError> {
        match value {
            Value::Len(bytes) => Ok(bytes),
            _ => Err(self.mismatch(number)),
        }
    }

    fn text<'a>(self, number: u32, field: &'static str, value: Value<'a>) -> Result<&'a str, OtlpError> {
        let bytes = self.bytes(number, value)?;
        simdutf8::basic::from_utf8(bytes).map_err(|_| OtlpError::Utf8 { message: self.0, field })
    }

    fn varint(self, number: u32, value: Value<'_>) -> Result<u64, OtlpError> {
        match value {
            Value::Varint(value) => Ok(value),
            _ => Err(self.mismatch(number)),
        }
    }

    fn fixed64(self, number: u32, value: Value<'_>) -> Result<u64, OtlpError> {
        match value {
            Value::Fixed64(value) => Ok(value),
            _ => Err(self.mismatch(number)),
        }
    }

    fn fixed32(self, number: u32, value: Value<'_>) -> Result<u32, OtlpError> {
        match value {
            Value::Fixed32(value) => Ok(value),
            _ => Err(self.mismatch(number)),
        }
    }
}

/// Takes a borrowed part of `body` as text that shares the body's buffer.
pub fn share(body: &Bytes, part: &str) -> Str {
    Str::part_of(body, part.as_bytes())
}
