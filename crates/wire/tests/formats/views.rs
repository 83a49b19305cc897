//! The views show exactly what generated code decodes, and requests are put together as they were.

use bytes::Bytes;
use opentelemetry_proto::tonic::common::v1 as common;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, LogsData, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{
    ResourceSpans, ScopeSpans, Span, Status, TracesData,
    span::{Event, Link},
};
use proptest::prelude::*;
use prost::Message;
use wire::otlp::encode::{ResourceGroup, ScopeGroup};
use wire::otlp::{self, AnyValue, Attributes, Counts, Format, Signal, encode};

use crate::any_otlp;

fn value(view: AnyValue<'_>) -> common::AnyValue {
    use common::any_value::Value;
    let value = match view {
        AnyValue::Null => None,
        AnyValue::Str(v) => Some(Value::StringValue(v.into())),
        AnyValue::Bool(v) => Some(Value::BoolValue(v)),
        AnyValue::Int(v) => Some(Value::IntValue(v)),
        AnyValue::Double(v) => Some(Value::DoubleValue(v)),
        AnyValue::Bytes(v) => Some(Value::BytesValue(v.into())),
        AnyValue::Array(v) => {
            Some(Value::ArrayValue(common::ArrayValue { values: v.iter().map(value).collect() }))
        }
        AnyValue::KvList(v) => Some(Value::KvlistValue(common::KeyValueList { values: attributes(v) })),
    };
    common::AnyValue { value }
}

fn attributes(view: Attributes<'_>) -> Vec<common::KeyValue> {
    view.iter()
        .map(|a| common::KeyValue { key: a.key.into(), value: Some(value(a.value)), key_strindex: 0 })
        .collect()
}

fn resource(view: otlp::Resource<'_>) -> Resource {
    Resource {
        attributes: attributes(view.attributes()),
        dropped_attributes_count: view.dropped_attributes_count,
        entity_refs: Vec::new(),
    }
}

fn scope(view: otlp::Scope<'_>) -> common::InstrumentationScope {
    common::InstrumentationScope {
        name: view.name.into(),
        version: view.version.into(),
        attributes: attributes(view.attributes()),
        dropped_attributes_count: view.dropped_attributes_count,
    }
}

fn span(view: otlp::traces::Span<'_>) -> Span {
    let event = |e: otlp::traces::Event<'_>| Event {
        time_unix_nano: e.time,
        name: e.name.into(),
        attributes: attributes(e.attributes()),
        dropped_attributes_count: e.dropped_attributes_count,
    };
    let link = |l: otlp::traces::Link<'_>| Link {
        trace_id: l.trace_id.into(),
        span_id: l.span_id.into(),
        trace_state: l.trace_state.into(),
        attributes: attributes(l.attributes()),
        dropped_attributes_count: l.dropped_attributes_count,
        flags: l.flags,
    };
    Span {
        trace_id: view.trace_id.into(),
        span_id: view.span_id.into(),
        trace_state: view.trace_state.into(),
        parent_span_id: view.parent_span_id.into(),
        flags: view.flags,
        name: view.name.into(),
        kind: view.kind,
        start_time_unix_nano: view.start,
        end_time_unix_nano: view.end,
        attributes: attributes(view.attributes()),
        dropped_attributes_count: view.dropped_attributes_count,
        events: view.events().map(event).collect(),
        dropped_events_count: view.dropped_events_count,
        links: view.links().map(link).collect(),
        dropped_links_count: view.dropped_links_count,
        status: Some(Status { message: view.status_message.into(), code: view.status_code }),
    }
}

pub(crate) fn traces(body: &[u8]) -> Result<TracesData, otlp::OtlpError> {
    let mut data = TracesData::default();
    for rs in otlp::traces::resource_spans(body) {
        let rs = rs?;
        let mut scope_spans = Vec::new();
        for ss in rs.scope_spans() {
            let ss = ss?;
            let spans = ss.spans().map(|s| s.map(span)).collect::<Result<_, _>>()?;
            scope_spans.push(ScopeSpans {
                scope: ss.scope.map(scope),
                spans,
                schema_url: ss.schema_url.into(),
            });
        }
        let schema_url = rs.schema_url.into();
        data.resource_spans.push(ResourceSpans {
            resource: rs.resource.map(resource),
            scope_spans,
            schema_url,
        });
    }
    Ok(data)
}

fn log_record(view: otlp::logs::LogRecord<'_>) -> LogRecord {
    LogRecord {
        time_unix_nano: view.time,
        observed_time_unix_nano: view.observed_time,
        severity_number: view.severity_number,
        severity_text: view.severity_text.into(),
        body: view.body.map(value),
        attributes: attributes(view.attributes()),
        dropped_attributes_count: view.dropped_attributes_count,
        flags: view.flags,
        trace_id: view.trace_id.into(),
        span_id: view.span_id.into(),
        event_name: view.event_name.into(),
    }
}

pub(crate) fn logs(body: &[u8]) -> Result<LogsData, otlp::OtlpError> {
    let mut data = LogsData::default();
    for rl in otlp::logs::resource_logs(body) {
        let rl = rl?;
        let mut scope_logs = Vec::new();
        for sl in rl.scope_logs() {
            let sl = sl?;
            let log_records = sl.log_records().map(|r| r.map(log_record)).collect::<Result<_, _>>()?;
            scope_logs.push(ScopeLogs {
                scope: sl.scope.map(scope),
                log_records,
                schema_url: sl.schema_url.into(),
            });
        }
        let schema_url = rl.schema_url.into();
        data.resource_logs.push(ResourceLogs { resource: rl.resource.map(resource), scope_logs, schema_url });
    }
    Ok(data)
}

/// What the views cannot tell apart: a missing attribute value and a null one, a missing status and
/// an empty one.
pub(crate) trait Normalize {
    fn normalize(&mut self);
}

impl Normalize for Vec<common::KeyValue> {
    fn normalize(&mut self) {
        for attribute in self {
            attribute.value.get_or_insert_default().normalize();
        }
    }
}

impl Normalize for common::AnyValue {
    fn normalize(&mut self) {
        match &mut self.value {
            Some(common::any_value::Value::ArrayValue(v)) => {
                v.values.iter_mut().for_each(Normalize::normalize)
            }
            Some(common::any_value::Value::KvlistValue(v)) => v.values.normalize(),
            _ => {}
        }
    }
}

impl Normalize for TracesData {
    fn normalize(&mut self) {
        for rs in &mut self.resource_spans {
            rs.resource.iter_mut().for_each(|r| r.attributes.normalize());
            for ss in &mut rs.scope_spans {
                ss.scope.iter_mut().for_each(|s| s.attributes.normalize());
                for span in &mut ss.spans {
                    span.status.get_or_insert_default();
                    span.attributes.normalize();
                    span.events.iter_mut().for_each(|e| e.attributes.normalize());
                    span.links.iter_mut().for_each(|l| l.attributes.normalize());
                }
            }
        }
    }
}

impl Normalize for LogsData {
    fn normalize(&mut self) {
        for rl in &mut self.resource_logs {
            rl.resource.iter_mut().for_each(|r| r.attributes.normalize());
            for sl in &mut rl.scope_logs {
                sl.scope.iter_mut().for_each(|s| s.attributes.normalize());
                for record in &mut sl.log_records {
                    record.attributes.normalize();
                    record.body.iter_mut().for_each(Normalize::normalize);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn traces_look_as_generated_code_sees_them(mut data in any_otlp::traces()) {
        let body = Bytes::from(data.encode_to_vec());
        let (same, counts) = Signal::Traces.decode(body.clone(), Format::Protobuf).unwrap();
        prop_assert_eq!(same.as_ptr(), body.as_ptr());
        let scopes: Vec<_> = data.resource_spans.iter().flat_map(|rs| &rs.scope_spans).collect();
        let spans: Vec<_> = scopes.iter().flat_map(|ss| &ss.spans).collect();
        prop_assert_eq!(counts, Counts {
            resources: data.resource_spans.len(),
            scopes: scopes.len(),
            items: spans.len(),
            without_trace_id: spans.iter().filter(|s| s.trace_id.is_empty()).count(),
            without_span_id: spans.iter().filter(|s| s.span_id.is_empty()).count(),
        });
        data.normalize();
        prop_assert_eq!(traces(&body).unwrap(), data);
    }

    #[test]
    fn logs_look_as_generated_code_sees_them(mut data in any_otlp::logs()) {
        let body = Bytes::from(data.encode_to_vec());
        let (_, counts) = Signal::Logs.decode(body.clone(), Format::Protobuf).unwrap();
        let records = data.resource_logs.iter().flat_map(|rl| &rl.scope_logs).map(|sl| sl.log_records.len());
        prop_assert_eq!(counts.items, records.sum::<usize>());
        data.normalize();
        prop_assert_eq!(logs(&body).unwrap(), data);
    }

    /// Taking a request apart into spans and putting these together again changes nothing but that
    /// empty groups are gone and resources and scopes are always there.
    #[test]
    fn spans_are_regrouped(mut data in any_otlp::traces()) {
        let body = Bytes::from(data.encode_to_vec());
        let mut groups: Vec<ResourceGroup<Bytes>> = Vec::new();
        let mut last = None;
        otlp::traces::visit_spans(&body, |raw| {
            let take = |slice: &[u8]| if slice.is_empty() { Bytes::new() } else { body.slice_ref(slice) };
            assert_eq!(raw.trace_id, otlp::traces::Span::parse(raw.span).unwrap().trace_id);
            if last.map(|(resource, _)| resource) != Some(raw.resource_index) {
                let (resource, schema_url) = (take(raw.resource), take(raw.resource_schema_url));
                groups.push(ResourceGroup { resource, schema_url, scopes: Vec::new() });
            }
            let group = groups.last_mut().unwrap();
            if last != Some((raw.resource_index, raw.scope_index)) {
                let (scope, schema_url) = (take(raw.scope), take(raw.scope_schema_url));
                group.scopes.push(ScopeGroup { scope, schema_url, items: Vec::new() });
            }
            group.scopes.last_mut().unwrap().items.push(body.slice_ref(raw.span));
            last = Some((raw.resource_index, raw.scope_index));
        }).unwrap();
        let request = encode::request(&groups);
        prop_assert_eq!(request.len(), encode::request_len(&groups));

        for rs in &mut data.resource_spans {
            rs.resource.get_or_insert_default();
            rs.scope_spans.retain(|ss| !ss.spans.is_empty());
            for ss in &mut rs.scope_spans {
                ss.scope.get_or_insert_default();
            }
        }
        data.resource_spans.retain(|rs| !rs.scope_spans.is_empty());
        prop_assert_eq!(TracesData::decode(&request[..]).unwrap(), data);
    }
}
