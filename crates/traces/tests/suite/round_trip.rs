//! Whatever is sent comes back from blocks as it was: the official messages are the oracle.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value::Value,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, TracesData, span};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use prost::Message;
use traces::TracesHandle;

use crate::service::Service;

fn value() -> impl Strategy<Value = AnyValue> {
    let leaf = prop_oneof![
        4 => "[a-zé\"\\\\]{0,6}".prop_map(Value::StringValue),
        3 => any::<i64>().prop_map(Value::IntValue),
        2 => prop_oneof![
            Just(f64::INFINITY), Just(-0.0), Just(0.1), any::<f64>().prop_filter("NaN has many faces", |f| !f.is_nan())
        ].prop_map(Value::DoubleValue),
        2 => any::<bool>().prop_map(Value::BoolValue),
        1 => vec(any::<u8>(), 0..5).prop_map(Value::BytesValue),
    ];
    let leaf = of(leaf).prop_map(|value| AnyValue { value });
    leaf.prop_recursive(3, 12, 4, |inner| {
        let array = vec(inner.clone(), 0..4).prop_map(|values| Value::ArrayValue(ArrayValue { values }));
        let member = ("[a-c]{0,2}", inner).prop_map(|(key, value)| attribute(key, Some(value)));
        let list = vec(member, 0..3).prop_map(|values| Value::KvlistValue(KeyValueList { values }));
        prop_oneof![array, list].prop_map(|value| AnyValue { value: Some(value) })
    })
}

fn attribute(key: String, value: Option<AnyValue>) -> KeyValue {
    KeyValue { key, value, ..KeyValue::default() }
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    // Few names, so that one name has many types, and some spans have it twice.
    vec(("[a-e]|http\\.[ab]|k#int|", value()).prop_map(|(key, value)| attribute(key, Some(value))), 0..7)
}

fn id<const N: usize>() -> impl Strategy<Value = Vec<u8>> {
    (1u8..20).prop_map(|n| vec![n; N])
}

fn span() -> impl Strategy<Value = Span> {
    let event = (any::<u64>(), "[a-z]{0,4}", attributes(), 0u32..3).prop_map(
        |(time_unix_nano, name, attributes, n)| span::Event {
            time_unix_nano,
            name,
            attributes,
            dropped_attributes_count: n,
        },
    );
    let link = (prop_oneof![Just(vec![]), id::<16>()], id::<8>(), "[a-z]{0,3}", attributes(), 0u32..3)
        .prop_map(|(trace_id, span_id, trace_state, attributes, n)| span::Link {
            trace_id,
            span_id,
            trace_state,
            attributes,
            dropped_attributes_count: n,
            flags: n,
        });
    let ids = (1u8..5, any::<[u8; 8]>(), of(id::<8>()));
    let times =
        (prop_oneof![1_700_000_000_000_000_000u64..1_700_000_100_000_000_000, any::<u64>()], any::<u64>());
    let status = (0i32..3, "[a-z]{0,5}").prop_map(|(code, message)| Status { code, message });
    let rest = (attributes(), vec(event, 0..3), vec(link, 0..3), status, 0i32..6, 0u32..4);
    (ids, times, "[a-z ]{0,5}", rest).prop_map(|(ids, times, name, rest)| {
        let (attributes, events, links, status, kind, n) = rest;
        Span {
            trace_id: vec![ids.0; 16],
            span_id: ids.1.iter().map(|b| b | 1).collect(),
            parent_span_id: ids.2.unwrap_or_default(),
            trace_state: name.clone(),
            flags: n,
            name,
            kind,
            start_time_unix_nano: times.0,
            end_time_unix_nano: times.1,
            attributes,
            dropped_attributes_count: n,
            events,
            dropped_events_count: n,
            links,
            dropped_links_count: n,
            status: Some(status),
        }
    })
}

fn requests() -> impl Strategy<Value = ExportTraceServiceRequest> {
    let resource = (attributes(), 0u32..2).prop_map(|(attributes, n)| Resource {
        attributes,
        dropped_attributes_count: n,
        ..Resource::default()
    });
    let scope =
        ("[a-z]{0,2}", "[0-9]{0,1}", attributes(), 0u32..2).prop_map(|(name, version, attributes, n)| {
            InstrumentationScope { name, version, attributes, dropped_attributes_count: n }
        });
    let scope_spans = (scope, vec(span(), 0..12), "[a-z]{0,1}")
        .prop_map(|(scope, spans, schema_url)| ScopeSpans { scope: Some(scope), spans, schema_url });
    let resource_spans =
        (resource, vec(scope_spans, 0..3), "[a-z]{0,1}").prop_map(|(resource, scope_spans, url)| {
            ResourceSpans { resource: Some(resource), scope_spans, schema_url: url }
        });
    vec(resource_spans, 0..4).prop_map(|resource_spans| ExportTraceServiceRequest { resource_spans })
}

/// Every span with its surroundings, by trace; of copies (same id and kind) the first in order of the request.
type Traces = BTreeMap<Vec<u8>, Vec<(Vec<u8>, Vec<u8>, Vec<u8>)>>;

fn spans(parts: Vec<ResourceSpans>) -> Traces {
    let mut found = Traces::new();
    let mut seen = std::collections::HashSet::new();
    for resource in parts {
        let surroundings = (resource.resource.unwrap_or_default(), resource.schema_url);
        for scope in resource.scope_spans {
            let scope_text = (scope.scope.unwrap_or_default(), scope.schema_url);
            for span in scope.spans {
                if seen.insert((span.trace_id.clone(), span.span_id.clone(), span.kind)) {
                    let text = |m: &[u8], url: &str| [m, url.as_bytes()].concat();
                    let resource = text(&surroundings.0.encode_to_vec(), &surroundings.1);
                    let scope = text(&scope_text.0.encode_to_vec(), &scope_text.1);
                    found.entry(span.trace_id.clone()).or_default().push((
                        span.encode_to_vec(),
                        resource,
                        scope,
                    ));
                }
            }
        }
    }
    found.values_mut().for_each(|spans| spans.sort());
    found
}

async fn check(requests: Vec<ExportTraceServiceRequest>) {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::open(folder.path()).await;
    let tenant = TracesHandle::default_tenant();
    for request in &requests {
        service.handle.push_otlp(&tenant, request.encode_to_vec().into()).await.unwrap();
    }
    let mut expected = spans(requests.into_iter().flat_map(|r| r.resource_spans).collect());
    // Client and server sides that share an id are told apart in the answer.
    expected.retain(|_, spans| {
        let spans: Vec<Span> = spans.iter().map(|s| Span::decode(&s.0[..]).unwrap()).collect();
        let has = |kind, id: &[u8]| spans.iter().any(|s| s.kind == kind && s.span_id == id);
        !spans.iter().any(|s| has(2, &s.span_id) && has(3, &s.span_id))
    });
    for place in ["head", "blocks"] {
        for (id, spans) in &expected {
            let id: String = id.iter().map(|b| format!("{b:02x}")).collect();
            let request = http::Request::builder()
                .uri(format!("/api/traces/{id}"))
                .header("Accept", "application/protobuf")
                .body(Default::default());
            let (status, body) = service.request(request.unwrap()).await;
            assert_eq!(status, 200);
            let answer = TracesData::decode(body).unwrap();
            for resource in &answer.resource_spans {
                assert!(
                    resource.resource.is_some() && resource.scope_spans.iter().all(|s| s.scope.is_some())
                );
            }
            let got = self::spans(answer.resource_spans).into_values().next().unwrap();
            for (want, got) in spans.iter().zip(&got) {
                let decode = |raw: &[u8]| Span::decode(raw).unwrap();
                assert_eq!(decode(&got.0), decode(&want.0), "{place}");
                assert_eq!((&got.1, &got.2), (&want.1, &want.2), "{place}");
            }
            assert_eq!(spans.len(), got.len(), "{place}");
        }
        service.handle.flush().await.unwrap();
    }
    service.stop().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn spans_come_back_as_sent(requests in vec(requests(), 1..4)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(check(requests));
    }
}
