//! TraceQL metrics: range and instant queries.

use serde::Serialize;

use super::json::{as_string, double, is_zero};
use super::search::SearchMetrics;
use super::value::{KeyValue, status};

/// A range query; times in Unix nanoseconds, 0 if not given.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct QueryRangeRequest {
    /// TraceQL with a metrics stage.
    #[prost(string, tag = "1")]
    pub query: String,
    /// From, in ns.
    #[prost(uint64, tag = "2")]
    pub start: u64,
    /// To, in ns.
    #[prost(uint64, tag = "3")]
    pub end: u64,
    /// Step, in ns.
    #[prost(uint64, tag = "4")]
    pub step: u64,
    /// Most exemplars.
    #[prost(uint32, tag = "16")]
    pub exemplars: u32,
    /// Most series.
    #[prost(uint32, tag = "17")]
    pub max_series: u32,
    /// One interval over the whole range.
    #[prost(bool, optional, tag = "18")]
    pub instant: Option<bool>,
}

/// Series over time.
#[derive(Clone, PartialEq, prost::Message, Serialize)]
pub struct QueryRangeResponse {
    /// Ordered by label count, keys, values.
    #[prost(message, repeated, tag = "1")]
    pub series: Vec<TimeSeries>,
    /// What it cost.
    #[prost(message, optional, tag = "2")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<SearchMetrics>,
    /// A [`super::PartialStatus`].
    #[prost(enumeration = "super::PartialStatus", tag = "3")]
    #[serde(skip_serializing_if = "is_zero", serialize_with = "status")]
    pub status: i32,
    /// Why the answer is partial.
    #[prost(string, tag = "4")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// One series.
#[derive(Clone, PartialEq, prost::Message, Serialize)]
pub struct TimeSeries {
    /// What makes it this series.
    #[prost(message, repeated, tag = "1")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<KeyValue>,
    /// Ascending in time.
    #[prost(message, repeated, tag = "2")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<Sample>,
    /// Example spans.
    #[prost(message, repeated, tag = "4")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exemplars: Vec<Exemplar>,
}

/// A value at a time.
#[derive(Clone, Copy, PartialEq, prost::Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// The value.
    #[prost(double, tag = "1")]
    #[serde(skip_serializing_if = "is_zero", serialize_with = "double")]
    pub value: f64,
    /// Right edge of its interval.
    #[prost(int64, tag = "2")]
    #[serde(skip_serializing_if = "is_zero", serialize_with = "as_string")]
    pub timestamp_ms: i64,
}

/// A span that stands for others in its interval.
#[derive(Clone, PartialEq, prost::Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Exemplar {
    /// Attributes with scope, and `trace:id`.
    #[prost(message, repeated, tag = "1")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<KeyValue>,
    /// The value.
    #[prost(double, tag = "2")]
    #[serde(skip_serializing_if = "is_zero", serialize_with = "double")]
    pub value: f64,
    /// When.
    #[prost(int64, tag = "3")]
    #[serde(skip_serializing_if = "is_zero", serialize_with = "as_string")]
    pub timestamp_ms: i64,
}

/// An instant query; times in Unix nanoseconds, 0 if not given.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct QueryInstantRequest {
    /// TraceQL with a metrics stage.
    #[prost(string, tag = "1")]
    pub query: String,
    /// From, in ns.
    #[prost(uint64, tag = "2")]
    pub start: u64,
    /// To, in ns.
    #[prost(uint64, tag = "3")]
    pub end: u64,
}

/// One value per series.
#[derive(Clone, PartialEq, prost::Message, Serialize)]
pub struct QueryInstantResponse {
    /// The series.
    #[prost(message, repeated, tag = "1")]
    pub series: Vec<InstantSeries>,
    /// What it cost.
    #[prost(message, optional, tag = "2")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<SearchMetrics>,
    /// A [`super::PartialStatus`].
    #[prost(enumeration = "super::PartialStatus", tag = "3")]
    #[serde(skip_serializing_if = "is_zero", serialize_with = "status")]
    pub status: i32,
    /// Why the answer is partial.
    #[prost(string, tag = "4")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// A series' value.
#[derive(Clone, PartialEq, prost::Message, Serialize)]
pub struct InstantSeries {
    /// What makes it this series.
    #[prost(message, repeated, tag = "1")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<KeyValue>,
    /// The value.
    #[prost(double, tag = "2")]
    #[serde(skip_serializing_if = "is_zero", serialize_with = "double")]
    pub value: f64,
}
