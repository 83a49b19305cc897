//! Trace by id: the trace itself stays encoded OTLP.

use bytes::Bytes;
use serde::Serialize;

use super::json::{as_string, is_zero};
use super::value::status;
use crate::otlp::json::{Style, from_protobuf};
use crate::otlp::{OtlpError, Signal};

/// The answer of `/api/v2/traces/{id}`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TraceByIdResponse {
    /// An encoded `Trace` (OTLP's `TracesData`). `Some` of nothing for a trace that is not there:
    /// clients take the field's presence for granted.
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub trace: Option<Bytes>,
    /// What it cost.
    #[prost(message, optional, tag = "2")]
    pub metrics: Option<TraceByIdMetrics>,
    /// A [`super::PartialStatus`].
    #[prost(enumeration = "super::PartialStatus", tag = "3")]
    pub status: i32,
    /// Why the answer is partial.
    #[prost(string, tag = "4")]
    pub message: String,
}

/// Cost of finding a trace.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TraceByIdMetrics {
    /// Bytes read.
    #[prost(uint64, tag = "1")]
    #[serde(skip_serializing_if = "is_zero", serialize_with = "as_string")]
    pub inspected_bytes: u64,
}

impl TraceByIdResponse {
    /// JSON: `{"trace":{"resourceSpans":[…]},"metrics":{…}}`; `"trace":{}` if there is none.
    pub fn to_json(&self) -> Result<String, OtlpError> {
        let rest = Rest { metrics: self.metrics, status: self.status, message: &self.message };
        let rest = serde_json::to_string(&rest).unwrap_or_else(|_| "{}".to_owned());
        let Some(trace) = &self.trace else { return Ok(rest) };
        let trace = from_protobuf(Signal::Traces, trace, Style::Tempo)?;
        let comma = if rest == "{}" { "" } else { "," };
        Ok(format!("{{\"trace\":{trace}{comma}{}", &rest[1..]))
    }
}

/// The members next to the trace.
#[derive(Serialize)]
struct Rest<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<TraceByIdMetrics>,
    #[serde(skip_serializing_if = "is_zero", serialize_with = "status")]
    status: i32,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
}

/// The answer of `/api/traces/{id}` in JSON: the trace with its only member called `batches`.
pub fn trace_v1_json(trace: &[u8]) -> Result<String, OtlpError> {
    let json = from_protobuf(Signal::Traces, trace, Style::Tempo)?;
    Ok(json.replacen("{\"resourceSpans\"", "{\"batches\"", 1))
}
