//! Random OTLP messages, as the generated types have them.

use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value::Value,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, LogsData, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{
    ResourceSpans, ScopeSpans, Span, Status, TracesData,
    span::{Event, Link},
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn id(length: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![Just(Vec::new()), vec(any::<u8>(), length)]
}

fn any_value() -> impl Strategy<Value = AnyValue> {
    let leaf = prop_oneof![
        Just(None),
        any::<String>().prop_map(|v| Some(Value::StringValue(v))),
        any::<bool>().prop_map(|v| Some(Value::BoolValue(v))),
        any::<i64>().prop_map(|v| Some(Value::IntValue(v))),
        any::<f64>().prop_map(|v| Some(Value::DoubleValue(v))),
        vec(any::<u8>(), 0..9).prop_map(|v| Some(Value::BytesValue(v))),
    ]
    .prop_map(|value| AnyValue { value });
    leaf.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|values| Value::ArrayValue(ArrayValue { values })),
            vec(key_value(inner), 0..4).prop_map(|values| Value::KvlistValue(KeyValueList { values })),
        ]
        .prop_map(|value| AnyValue { value: Some(value) })
    })
}

fn key_value(value: impl Strategy<Value = AnyValue>) -> impl Strategy<Value = KeyValue> {
    ("[a-z.é]{0,6}", option::of(value)).prop_map(|(key, value)| KeyValue { key, value, key_strindex: 0 })
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    vec(key_value(any_value()), 0..3)
}

fn resource() -> impl Strategy<Value = Resource> {
    (attributes(), any::<u32>()).prop_map(|(attributes, dropped_attributes_count)| Resource {
        attributes,
        dropped_attributes_count,
        entity_refs: Vec::new(),
    })
}

fn scope() -> impl Strategy<Value = InstrumentationScope> {
    (any::<String>(), any::<String>(), attributes(), any::<u32>()).prop_map(
        |(name, version, attributes, dropped_attributes_count)| InstrumentationScope {
            name,
            version,
            attributes,
            dropped_attributes_count,
        },
    )
}

fn event() -> impl Strategy<Value = Event> {
    (any::<u64>(), any::<String>(), attributes(), any::<u32>()).prop_map(
        |(time_unix_nano, name, attributes, dropped_attributes_count)| Event {
            time_unix_nano,
            name,
            attributes,
            dropped_attributes_count,
        },
    )
}

fn link() -> impl Strategy<Value = Link> {
    (id(16), id(8), any::<String>(), attributes(), any::<u32>(), any::<u32>()).prop_map(
        |(trace_id, span_id, trace_state, attributes, dropped_attributes_count, flags)| Link {
            trace_id,
            span_id,
            trace_state,
            attributes,
            dropped_attributes_count,
            flags,
        },
    )
}

fn span() -> impl Strategy<Value = Span> {
    let ids = (id(16), id(8), id(8), any::<String>(), any::<u32>());
    let own = (any::<String>(), 0..6i32, any::<u64>(), any::<u64>());
    let lists = (attributes(), vec(event(), 0..3), vec(link(), 0..3), any::<[u32; 3]>());
    let status = option::of((any::<String>(), 0..3i32).prop_map(|(message, code)| Status { message, code }));
    (ids, own, lists, status).prop_map(|(ids, own, lists, status)| Span {
        trace_id: ids.0,
        span_id: ids.1,
        parent_span_id: ids.2,
        trace_state: ids.3,
        flags: ids.4,
        name: own.0,
        kind: own.1,
        start_time_unix_nano: own.2,
        end_time_unix_nano: own.3,
        attributes: lists.0,
        events: lists.1,
        links: lists.2,
        dropped_attributes_count: lists.3[0],
        dropped_events_count: lists.3[1],
        dropped_links_count: lists.3[2],
        status,
    })
}

pub(crate) fn traces() -> impl Strategy<Value = TracesData> {
    let scope_spans = (option::of(scope()), vec(span(), 0..4), any::<String>())
        .prop_map(|(scope, spans, schema_url)| ScopeSpans { scope, spans, schema_url });
    let resource_spans = (option::of(resource()), vec(scope_spans, 0..3), any::<String>())
        .prop_map(|(resource, scope_spans, schema_url)| ResourceSpans { resource, scope_spans, schema_url });
    vec(resource_spans, 0..3).prop_map(|resource_spans| TracesData { resource_spans })
}

fn log_record() -> impl Strategy<Value = LogRecord> {
    let times = (any::<u64>(), any::<u64>());
    let texts = (any::<String>(), any::<String>(), 0..25i32);
    let rest = (option::of(any_value()), attributes(), any::<u32>(), any::<u32>(), id(16), id(8));
    (times, texts, rest).prop_map(|(times, texts, rest)| LogRecord {
        time_unix_nano: times.0,
        observed_time_unix_nano: times.1,
        severity_text: texts.0,
        event_name: texts.1,
        severity_number: texts.2,
        body: rest.0,
        attributes: rest.1,
        dropped_attributes_count: rest.2,
        flags: rest.3,
        trace_id: rest.4,
        span_id: rest.5,
    })
}

pub(crate) fn logs() -> impl Strategy<Value = LogsData> {
    let scope_logs = (option::of(scope()), vec(log_record(), 0..4), any::<String>())
        .prop_map(|(scope, log_records, schema_url)| ScopeLogs { scope, log_records, schema_url });
    let resource_logs = (option::of(resource()), vec(scope_logs, 0..3), any::<String>())
        .prop_map(|(resource, scope_logs, schema_url)| ResourceLogs { resource, scope_logs, schema_url });
    vec(resource_logs, 0..3).prop_map(|resource_logs| LogsData { resource_logs })
}
