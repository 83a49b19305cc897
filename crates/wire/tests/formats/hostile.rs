//! Bytes that nobody should send: they end in an error, never in a panic or a huge allocation.

use bytes::Bytes;
use opentelemetry_proto::tonic::logs::v1::LogsData;
use opentelemetry_proto::tonic::trace::v1::TracesData;
use proptest::prelude::*;
use prost::Message;
use wire::loki::{Dialect, decode_push};
use wire::otlp::json::{Style, from_protobuf, to_protobuf};
use wire::otlp::{self, AnyValue, Format, MAX_DEPTH, OtlpError, Signal};
use wire::proto::Writer;

use crate::{any_otlp, views};

/// Everything that reads the bytes; what the check lets pass, all views and generated code take.
fn read_all(body: &Bytes) {
    let traces = otlp::traces::check(body);
    let seen = views::traces(body);
    let visited = otlp::traces::visit_spans(body, |_| {});
    let written = from_protobuf(Signal::Traces, body, Style::Tempo);
    if traces.is_ok() {
        let expect = TracesData::decode(&body[..]).unwrap();
        assert_eq!(expect.resource_spans.len(), seen.unwrap().resource_spans.len());
        visited.unwrap();
        serde_json::from_str::<serde_json::Value>(&written.unwrap()).unwrap();
    }
    if let Ok((repaired, counts)) = Signal::Traces.decode(body.clone(), Format::Protobuf) {
        assert_eq!(otlp::traces::check(&repaired), Ok(counts));
    }
    let logs = otlp::logs::check(body);
    let seen = views::logs(body);
    let written = from_protobuf(Signal::Logs, body, Style::Otlp);
    if logs.is_ok() {
        let expect = LogsData::decode(&body[..]).unwrap();
        assert_eq!(expect.resource_logs.len(), seen.unwrap().resource_logs.len());
        serde_json::from_str::<serde_json::Value>(&written.unwrap()).unwrap();
    }
    let _ = decode_push(body.clone(), "application/x-protobuf", Dialect::V1, 1 << 20);
    let block = Bytes::from(snap::raw::Encoder::new().compress_vec(body).unwrap());
    let _ = decode_push(block, "application/x-protobuf", Dialect::V1, 1 << 20);
    let _ = otlp::rpc::Status::from_protobuf(body);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn truncated(data in any_otlp::traces(), at: prop::sample::Index) {
        let body = Bytes::from(data.encode_to_vec());
        read_all(&body.slice(..at.index(body.len() + 1)));
    }

    #[test]
    fn damaged(data in any_otlp::logs(), damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut body = data.encode_to_vec();
        for (at, byte) in damage {
            if !body.is_empty() {
                let at = at.index(body.len());
                body[at] ^= byte;
            }
        }
        read_all(&body.into());
    }

    #[test]
    fn damaged_traces(data in any_otlp::traces(), damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut body = data.encode_to_vec();
        for (at, byte) in damage {
            if !body.is_empty() {
                let at = at.index(body.len());
                body[at] ^= byte;
            }
        }
        read_all(&body.into());
    }

    #[test]
    fn noise(body: Vec<u8>) {
        read_all(&body.clone().into());
        let _ = to_protobuf(Signal::Logs, &body);
        let _ = decode_push(body.into(), "application/json", Dialect::Legacy, 1 << 20);
    }

    #[test]
    fn json_noise(text in r#"(\{"(resourceSpans|resource|attributes|value|key|arrayValue|values)":\[?){0,7}[\[\]{}",:a-z0-9]{0,9}"#) {
        if let Ok(body) = to_protobuf(Signal::Traces, text.as_bytes()) {
            prop_assert!(otlp::traces::check(&body).is_ok());
        }
    }
}

#[test]
fn lengths_of_two_gigabytes() {
    for tag in [0x0a, 0x12, 0x1a] {
        let body = Bytes::from(vec![tag, 0x80, 0x80, 0x80, 0x80, 0x08, b'x']);
        assert!(otlp::traces::check(&body).is_err() || tag != 0x0a);
        read_all(&body);
    }
    // The same inside ResourceSpans → ScopeSpans → Span.
    let mut out = Writer::default();
    out.message(1, |w| w.message(2, |w| w.message(2, |w| w.raw(&[0x2a, 0xff, 0xff, 0xff, 0xff, 0x07]))));
    let error = otlp::traces::check(&out.finish()).unwrap_err();
    assert_eq!(error.to_string(), "malformed Span: unexpected end of message");
}

/// A log record whose body is an array in an array in an array …
fn nested(levels: usize) -> Bytes {
    let mut value = Writer::default().finish();
    for _ in 1..levels {
        let mut out = Writer::with_capacity(value.len() + 24);
        out.message(5, |w| w.bytes(1, &value));
        value = out.finish();
    }
    let mut out = Writer::default();
    out.message(1, |w| w.message(2, |w| w.message(2, |w| w.bytes(5, &value))));
    out.finish().into()
}

#[test]
fn nesting_is_bounded() {
    let body = nested(MAX_DEPTH);
    assert!(otlp::logs::check(&body).is_ok());
    let json = from_protobuf(Signal::Logs, &body, Style::Otlp).unwrap();
    assert_eq!(to_protobuf(Signal::Logs, json.as_bytes()), Ok(body.clone()));
    let mut value = views_body(&body).unwrap();
    let mut depth = 1;
    while let AnyValue::Array(values) = value {
        value = values.iter().next().unwrap();
        depth += 1;
    }
    assert_eq!((depth, value), (MAX_DEPTH, AnyValue::Null));

    for levels in [MAX_DEPTH + 1, 2_000] {
        let body = nested(levels);
        assert_eq!(otlp::logs::check(&body), Err(OtlpError::TooDeep));
        assert_eq!(from_protobuf(Signal::Logs, &body, Style::Otlp), Err(OtlpError::TooDeep));
        read_all(&body);
        views::logs(&body).unwrap();
    }
}

fn views_body(body: &Bytes) -> Option<AnyValue<'_>> {
    let group = otlp::logs::resource_logs(body).next()?.ok()?;
    let scope = group.scope_logs().next()?.ok()?;
    scope.log_records().next()?.ok()?.body
}

#[test]
fn text_that_is_not_utf8_is_repaired() {
    let mut out = Writer::default();
    out.message(1, |w| {
        w.message(1, |w| w.message(1, |w| w.bytes(1, b"service\xff")));
        w.message(2, |w| {
            w.message(2, |w| {
                w.bytes(1, &[7; 16]);
                w.bytes(2, &[8; 8]);
                w.bytes(5, b"GET \xc3\x28");
                w.bytes(99, b"\xff is no text field of ours");
            });
        });
    });
    let body = Bytes::from(out.finish());
    let refused = OtlpError::Utf8 { message: "KeyValue", field: "key" };
    assert_eq!(otlp::traces::check(&body), Err(refused));
    let (repaired, counts) = Signal::Traces.decode(body, Format::Protobuf).unwrap();
    assert_eq!((counts.items, counts.without_trace_id), (1, 0));
    let data = views::traces(&repaired).unwrap();
    assert_eq!(data.resource_spans[0].resource.as_ref().unwrap().attributes[0].key, "service\u{fffd}");
    assert_eq!(data.resource_spans[0].scope_spans[0].spans[0].name, "GET \u{fffd}(");
}

#[test]
fn ids_of_odd_length_are_errors_and_zero_ones_are_counted() {
    let with_ids = |trace_id: &[u8], span_id: &[u8]| {
        let mut out = Writer::default();
        out.message(1, |w| {
            w.message(2, |w| {
                w.message(2, |w| {
                    w.bytes(1, trace_id);
                    w.bytes(2, span_id);
                });
            });
        });
        otlp::traces::check(&out.finish())
    };
    let counts = with_ids(&[0; 16], &[0; 8]).unwrap();
    assert_eq!((counts.items, counts.without_trace_id, counts.without_span_id), (1, 1, 1));
    let error = with_ids(&[1; 8], &[1; 8]).unwrap_err().to_string();
    assert_eq!(error, "Span.traceId: trace ids must be 128 bit, received 64 bits");
    let error = with_ids(&[1; 16], &[1; 9]).unwrap_err().to_string();
    assert_eq!(error, "Span.spanId: span ids must be 64 bit, received 72 bits");
}
