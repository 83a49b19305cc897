//! From what the engine found to Tempo's messages.

use traceql::{MetricsAnswer, TraceResult, Value};
use wire::tempo::{
    AnyValue, ArrayValue, Exemplar, InstantSeries, KeyValue, MetadataMetrics, PartialStatus,
    QueryInstantResponse, QueryRangeResponse, Sample, SearchMetrics, SearchResponse, ServiceStats, Span,
    SpanSet, TimeSeries, TraceSearchMetadata, Value as Wire,
};

use crate::scan::Cost;

fn value(value: &Value) -> Wire {
    match value {
        Value::Nil => Wire::String("nil".to_owned()),
        Value::Str(text) => Wire::String(text.to_string()),
        Value::Int(n) => Wire::Int(*n),
        Value::Float(f) => Wire::Double(*f),
        Value::Bool(b) => Wire::Bool(*b),
        Value::Duration(nanos) => Wire::String(model::duration::format_go(*nanos)),
        Value::Status(status) => Wire::String(status.as_str().to_owned()),
        Value::Kind(kind) => Wire::String(kind.as_str().to_owned()),
        Value::Array(items) => {
            let item = |v: &Value| AnyValue { value: Some(self::value(v)) };
            Wire::Array(ArrayValue { values: items.iter().map(item).collect() })
        }
    }
}

fn attributes(list: Vec<(String, Value)>) -> Vec<KeyValue> {
    list.into_iter().map(|(key, v)| KeyValue::new(key, value(&v))).collect()
}

/// The answer of a search; one by tags shows no spans.
pub(crate) fn search(found: Vec<TraceResult>, cost: Cost, show_spans: bool, pad: bool) -> SearchResponse {
    let trace = |t: TraceResult| {
        let span_set = |set: traceql::SpanSetResult| SpanSet {
            spans: set
                .spans
                .into_iter()
                .map(|span| Span {
                    span_id: span.span_id.to_string(),
                    name: span.name.unwrap_or_default(),
                    start_time_unix_nano: span.start as u64,
                    duration_nanos: span.duration as u64,
                    attributes: attributes(span.attributes),
                })
                .collect(),
            matched: set.matched,
            attributes: attributes(set.attributes),
        };
        let span_sets: Vec<_> =
            if show_spans { t.spansets.into_iter().map(span_set).collect() } else { Vec::new() };
        let stats = |s: traceql::ServiceStats| ServiceStats { span_count: s.spans, error_count: s.errors };
        TraceSearchMetadata {
            trace_id: if pad { t.trace_id.to_string() } else { t.trace_id.short_hex() },
            root_service_name: t.root_service,
            root_trace_name: t.root_name,
            start_time_unix_nano: t.start as u64,
            duration_ms: u32::try_from(t.duration.max(0) / 1_000_000).unwrap_or(u32::MAX),
            span_set: span_sets.first().cloned(),
            span_sets,
            service_stats: t.service_stats.into_iter().map(|(name, s)| (name, stats(s))).collect(),
        }
    };
    SearchResponse { traces: found.into_iter().map(trace).collect(), metrics: Some(search_metrics(cost)) }
}

fn search_metrics(cost: Cost) -> SearchMetrics {
    SearchMetrics {
        inspected_traces: u32::try_from(cost.traces).unwrap_or(u32::MAX),
        inspected_bytes: cost.bytes,
        total_blocks: cost.blocks,
        completed_jobs: 1,
        total_jobs: 1,
        total_block_bytes: cost.block_bytes,
        inspected_spans: cost.spans,
    }
}

/// What a question for tags cost.
pub(crate) fn metadata_metrics(cost: Cost) -> MetadataMetrics {
    MetadataMetrics {
        inspected_bytes: cost.bytes,
        total_jobs: 1,
        completed_jobs: 1,
        total_blocks: cost.blocks,
        total_block_bytes: cost.block_bytes,
    }
}

fn partial(answer: &MetricsAnswer, limit: usize) -> (i32, String) {
    if !answer.partial {
        return (PartialStatus::Complete as i32, String::new());
    }
    let message = format!(
        "Response exceeds maximum series limit of {limit}, a partial response is returned. \
         Warning: the accuracy of each individual value is not guaranteed."
    );
    (PartialStatus::Partial as i32, message)
}

/// The answer of a range query.
pub(crate) fn range(answer: MetricsAnswer, cost: Cost, limit: usize) -> QueryRangeResponse {
    let (status, message) = partial(&answer, limit);
    let exemplar = |e: traceql::Exemplar| Exemplar {
        labels: attributes(e.labels),
        value: e.value,
        timestamp_ms: e.timestamp_ms,
    };
    let sample = |(timestamp_ms, value)| Sample { value, timestamp_ms };
    let series = |s: traceql::TimeSeries| TimeSeries {
        labels: attributes(s.labels),
        samples: s.samples.into_iter().map(sample).collect(),
        exemplars: s.exemplars.into_iter().map(exemplar).collect(),
    };
    QueryRangeResponse {
        series: answer.series.into_iter().map(series).collect(),
        metrics: Some(search_metrics(cost)),
        status,
        message,
    }
}

/// The answer of an instant query: the one sample of each series.
pub(crate) fn instant(answer: MetricsAnswer, cost: Cost, limit: usize) -> QueryInstantResponse {
    let (status, message) = partial(&answer, limit);
    let series = |s: traceql::TimeSeries| {
        let (_, value) = s.samples.last().copied()?;
        Some(InstantSeries { labels: attributes(s.labels), value })
    };
    QueryInstantResponse {
        series: answer.series.into_iter().filter_map(series).collect(),
        metrics: Some(search_metrics(cost)),
        status,
        message,
    }
}
