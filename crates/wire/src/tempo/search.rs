//! Search: requests and found traces.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::json::{as_string, is_zero};
use super::value::KeyValue;

/// A search; times in Unix seconds, 0 if not given.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SearchRequest {
    /// Tag search: all pairs must hold.
    #[prost(map = "string, string", tag = "1")]
    pub tags: HashMap<String, String>,
    /// Least trace duration of a tag search.
    #[prost(uint32, tag = "2")]
    pub min_duration_ms: u32,
    /// Greatest trace duration of a tag search.
    #[prost(uint32, tag = "3")]
    pub max_duration_ms: u32,
    /// How many traces.
    #[prost(uint32, tag = "4")]
    pub limit: u32,
    /// From, in seconds.
    #[prost(uint32, tag = "5")]
    pub start: u32,
    /// To, in seconds.
    #[prost(uint32, tag = "6")]
    pub end: u32,
    /// TraceQL.
    #[prost(string, tag = "8")]
    pub query: String,
    /// How many spans per span set.
    #[prost(uint32, tag = "9")]
    pub spans_per_span_set: u32,
    /// Ignored.
    #[prost(string, repeated, tag = "11")]
    pub skip_ast_transformations: Vec<String>,
}

/// Found traces.
#[derive(Clone, PartialEq, prost::Message, Serialize)]
pub struct SearchResponse {
    /// Newest start first.
    #[prost(message, repeated, tag = "1")]
    pub traces: Vec<TraceSearchMetadata>,
    /// What it cost.
    #[prost(message, optional, tag = "2")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<SearchMetrics>,
}

/// One found trace.
#[derive(Clone, PartialEq, prost::Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TraceSearchMetadata {
    /// Hex without leading zeros.
    #[prost(string, tag = "1")]
    #[serde(rename = "traceID", skip_serializing_if = "String::is_empty")]
    pub trace_id: String,
    /// `<root span not yet received>` if the root is missing.
    #[prost(string, tag = "2")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub root_service_name: String,
    /// Name of the root span.
    #[prost(string, tag = "3")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub root_trace_name: String,
    /// Start of its earliest span.
    #[prost(uint64, tag = "4")]
    #[serde(skip_serializing_if = "is_zero", serialize_with = "as_string")]
    pub start_time_unix_nano: u64,
    /// Duration, rounded down.
    #[prost(uint32, tag = "5")]
    #[serde(skip_serializing_if = "is_zero")]
    pub duration_ms: u32,
    /// A copy of the first of `span_sets`, for old clients.
    #[prost(message, optional, tag = "6")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span_set: Option<SpanSet>,
    /// What matched; none for a tag search.
    #[prost(message, repeated, tag = "7")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub span_sets: Vec<SpanSet>,
    /// By service name.
    #[prost(btree_map = "string, message", tag = "8")]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub service_stats: BTreeMap<String, ServiceStats>,
}

/// Spans of one service in a trace.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStats {
    /// All.
    #[prost(uint32, tag = "1")]
    #[serde(skip_serializing_if = "is_zero")]
    pub span_count: u32,
    /// Those with status error.
    #[prost(uint32, tag = "2")]
    #[serde(skip_serializing_if = "is_zero")]
    pub error_count: u32,
}

/// Spans of a trace that matched together.
#[derive(Clone, PartialEq, prost::Message, Serialize)]
pub struct SpanSet {
    /// At most as many as asked for.
    #[prost(message, repeated, tag = "1")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub spans: Vec<Span>,
    /// How many matched before that cut.
    #[prost(uint32, tag = "2")]
    #[serde(skip_serializing_if = "is_zero")]
    pub matched: u32,
    /// Results of grouping and aggregates.
    #[prost(message, repeated, tag = "3")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<KeyValue>,
}

/// A matched span.
#[derive(Clone, PartialEq, prost::Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Span {
    /// 16 hex digits.
    #[prost(string, tag = "1")]
    #[serde(rename = "spanID", skip_serializing_if = "String::is_empty")]
    pub span_id: String,
    /// Only if the query asks for names.
    #[prost(string, tag = "2")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Start.
    #[prost(uint64, tag = "3")]
    #[serde(skip_serializing_if = "is_zero", serialize_with = "as_string")]
    pub start_time_unix_nano: u64,
    /// Duration.
    #[prost(uint64, tag = "4")]
    #[serde(skip_serializing_if = "is_zero", serialize_with = "as_string")]
    pub duration_nanos: u64,
    /// What the query mentions or selects.
    #[prost(message, repeated, tag = "5")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<KeyValue>,
}

/// Cost of a search or metrics query.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SearchMetrics {
    /// Traces looked at.
    #[prost(uint32, tag = "1")]
    #[serde(skip_serializing_if = "is_zero")]
    pub inspected_traces: u32,
    /// Bytes read.
    #[prost(uint64, tag = "2")]
    #[serde(skip_serializing_if = "is_zero", serialize_with = "as_string")]
    pub inspected_bytes: u64,
    /// Blocks in the time range.
    #[prost(uint32, tag = "3")]
    #[serde(skip_serializing_if = "is_zero")]
    pub total_blocks: u32,
    /// Parts done.
    #[prost(uint32, tag = "4")]
    #[serde(skip_serializing_if = "is_zero")]
    pub completed_jobs: u32,
    /// Parts the query was split into.
    #[prost(uint32, tag = "5")]
    #[serde(skip_serializing_if = "is_zero")]
    pub total_jobs: u32,
    /// Size of the blocks.
    #[prost(uint64, tag = "6")]
    #[serde(skip_serializing_if = "is_zero", serialize_with = "as_string")]
    pub total_block_bytes: u64,
    /// Spans looked at.
    #[prost(uint64, tag = "7")]
    #[serde(skip_serializing_if = "is_zero", serialize_with = "as_string")]
    pub inspected_spans: u64,
}
