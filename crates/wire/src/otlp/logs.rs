//! Views of `ExportLogsServiceRequest` (which is also `LogsData`).
//!
//! Everything borrows from the body; take a part along with [`bytes::Bytes::slice_ref`] on its `raw`.

use super::traces::messages;
use super::value::{AnyValue, Attributes, Resource, Scope};
use super::{Counts, In, OtlpError, Signal};
use crate::proto::Fields;

/// The full validating walk; see [`Signal::check`].
pub fn check(body: &[u8]) -> Result<Counts, OtlpError> {
    Signal::Logs.check(body)
}

/// The `ResourceLogs` of a request.
pub fn resource_logs(body: &[u8]) -> impl Iterator<Item = Result<ResourceLogs<'_>, OtlpError>> {
    messages("ExportLogsServiceRequest", body, 1).map(|raw| ResourceLogs::parse(raw?))
}

/// Log records of one resource.
#[derive(Debug, Clone, Copy)]
pub struct ResourceLogs<'a> {
    /// The encoded message.
    pub raw: &'a [u8],
    /// `resource`, if given.
    pub resource: Option<Resource<'a>>,
    /// `schema_url`
    pub schema_url: &'a str,
}

impl<'a> ResourceLogs<'a> {
    /// Reads an encoded `ResourceLogs`.
    pub fn parse(raw: &'a [u8]) -> Result<Self, OtlpError> {
        const AT: In = In("ResourceLogs");
        let mut found = Self { raw, resource: None, schema_url: "" };
        for field in Fields::new(raw) {
            let (number, value) = field.map_err(|e| AT.proto(e))?;
            match number {
                1 => found.resource = Some(Resource::parse(AT.bytes(1, value)?)?),
                3 => found.schema_url = AT.text(3, "schemaUrl", value)?,
                _ => {}
            }
        }
        Ok(found)
    }

    /// Its `ScopeLogs`.
    pub fn scope_logs(&self) -> impl Iterator<Item = Result<ScopeLogs<'a>, OtlpError>> + use<'a> {
        messages("ResourceLogs", self.raw, 2).map(|raw| ScopeLogs::parse(raw?))
    }
}

/// Log records of one instrumentation scope.
#[derive(Debug, Clone, Copy)]
pub struct ScopeLogs<'a> {
    /// The encoded message.
    pub raw: &'a [u8],
    /// `scope`, if given.
    pub scope: Option<Scope<'a>>,
    /// `schema_url`
    pub schema_url: &'a str,
}

impl<'a> ScopeLogs<'a> {
    /// Reads an encoded `ScopeLogs`.
    pub fn parse(raw: &'a [u8]) -> Result<Self, OtlpError> {
        const AT: In = In("ScopeLogs");
        let mut found = Self { raw, scope: None, schema_url: "" };
        for field in Fields::new(raw) {
            let (number, value) = field.map_err(|e| AT.proto(e))?;
            match number {
                1 => found.scope = Some(Scope::parse(AT.bytes(1, value)?)?),
                3 => found.schema_url = AT.text(3, "schemaUrl", value)?,
                _ => {}
            }
        }
        Ok(found)
    }

    /// Its log records.
    pub fn log_records(&self) -> impl Iterator<Item = Result<LogRecord<'a>, OtlpError>> + use<'a> {
        messages("ScopeLogs", self.raw, 2).map(|raw| LogRecord::parse(raw?))
    }
}

/// One log record.
#[derive(Debug, Clone, Copy)]
pub struct LogRecord<'a> {
    /// The encoded message.
    pub raw: &'a [u8],
    /// When it happened, in ns since the epoch; 0 if unknown.
    pub time: u64,
    /// When it was seen, in ns since the epoch; 0 if unknown.
    pub observed_time: u64,
    /// `SeverityNumber`: 0 unspecified, 1 to 24.
    pub severity_number: i32,
    /// `severity_text`
    pub severity_text: &'a str,
    /// `body`, if given.
    pub body: Option<AnyValue<'a>>,
    /// 16 bytes, or none.
    pub trace_id: &'a [u8],
    /// 8 bytes, or none.
    pub span_id: &'a [u8],
    /// W3C trace flags in the low byte.
    pub flags: u32,
    /// `dropped_attributes_count`
    pub dropped_attributes_count: u32,
    /// `event_name`
    pub event_name: &'a str,
}

impl<'a> LogRecord<'a> {
    /// Reads an encoded `LogRecord`; attributes are read when asked for.
    pub fn parse(raw: &'a [u8]) -> Result<Self, OtlpError> {
        const AT: In = In("LogRecord");
        let mut record = Self {
            raw,
            time: 0,
            observed_time: 0,
            severity_number: 0,
            severity_text: "",
            body: None,
            trace_id: &[],
            span_id: &[],
            flags: 0,
            dropped_attributes_count: 0,
            event_name: "",
        };
        for field in Fields::new(raw) {
            let (number, value) = field.map_err(|e| AT.proto(e))?;
            match number {
                1 => record.time = AT.fixed64(1, value)?,
                2 => record.severity_number = AT.varint(2, value)? as i32,
                3 => record.severity_text = AT.text(3, "severityText", value)?,
                5 => record.body = Some(AnyValue::parse(AT.bytes(5, value)?)?),
                7 => record.dropped_attributes_count = AT.varint(7, value)? as u32,
                8 => record.flags = AT.fixed32(8, value)?,
                9 => record.trace_id = AT.bytes(9, value)?,
                10 => record.span_id = AT.bytes(10, value)?,
                11 => record.observed_time = AT.fixed64(11, value)?,
                12 => record.event_name = AT.text(12, "eventName", value)?,
                _ => {}
            }
        }
        Ok(record)
    }

    /// Its attributes.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes::of(self.raw, 6)
    }
}
