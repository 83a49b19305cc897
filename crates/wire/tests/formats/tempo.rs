//! Tempo's JSON: what is left out, what is not, and how numbers look.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use wire::otlp::Signal;
use wire::otlp::json::to_protobuf;
use wire::tempo::*;

fn check(message: &impl serde::Serialize, expect: &str) {
    assert_eq!(serde_json::to_string(message).unwrap(), expect);
}

#[test]
fn search() {
    check(
        &SearchResponse { traces: vec![], metrics: Some(SearchMetrics::default()) },
        r#"{"traces":[],"metrics":{}}"#,
    );
    let spans = SpanSet {
        spans: vec![Span {
            span_id: "53995c3f42cd8ad8".into(),
            name: String::new(),
            start_time_unix_nano: 1_718_000_000_000_000_000,
            duration_nanos: 1_500_000,
            attributes: vec![KeyValue::new("service.name", "db"), KeyValue::new("n", 0i64)],
        }],
        matched: 2,
        attributes: vec![KeyValue::new("avg(duration)", 0.5), KeyValue::new("ok", false)],
    };
    let trace = TraceSearchMetadata {
        trace_id: "2f3e".into(),
        root_service_name: "gateway".into(),
        root_trace_name: "GET /".into(),
        start_time_unix_nano: 7,
        duration_ms: 0,
        span_set: None,
        span_sets: vec![spans],
        service_stats: BTreeMap::from([
            ("gateway".into(), ServiceStats { span_count: 1, error_count: 0 }),
            ("db".into(), ServiceStats { span_count: 4, error_count: 1 }),
        ]),
    };
    let metrics = SearchMetrics { inspected_traces: 1, inspected_bytes: 20480, ..Default::default() };
    let response = SearchResponse { traces: vec![trace], metrics: Some(metrics) };
    check(
        &response,
        concat!(
            r#"{"traces":[{"traceID":"2f3e","rootServiceName":"gateway","rootTraceName":"GET /","startTimeUnixNano":"7","#,
            r#""spanSets":[{"spans":[{"spanID":"53995c3f42cd8ad8","startTimeUnixNano":"1718000000000000000","#,
            r#""durationNanos":"1500000","attributes":[{"key":"service.name","value":{"stringValue":"db"}},"#,
            r#"{"key":"n","value":{"intValue":"0"}}]}],"matched":2,"#,
            r#""attributes":[{"key":"avg(duration)","value":{"doubleValue":0.5}},{"key":"ok","value":{"boolValue":false}}]}],"#,
            r#""serviceStats":{"db":{"spanCount":4,"errorCount":1},"gateway":{"spanCount":1}}}],"#,
            r#""metrics":{"inspectedTraces":1,"inspectedBytes":"20480"}}"#
        ),
    );
    assert_eq!(SearchResponse::decode(&response.encode_to_vec()[..]), Ok(response));
}

#[test]
fn metrics() {
    let sample = |value, timestamp_ms| Sample { value, timestamp_ms };
    let series = TimeSeries {
        labels: vec![KeyValue::new("__name__", "rate")],
        samples: vec![sample(1.5, 60_000), sample(0.0, 120_000), sample(f64::NAN, 1), sample(3.0, 2)],
        exemplars: vec![],
    };
    let response = QueryRangeResponse {
        series: vec![series],
        metrics: None,
        status: PartialStatus::Partial as i32,
        message: "cut".into(),
    };
    check(
        &response,
        concat!(
            r#"{"series":[{"labels":[{"key":"__name__","value":{"stringValue":"rate"}}],"samples":["#,
            r#"{"value":1.5,"timestampMs":"60000"},{"timestampMs":"120000"},{"value":"NaN","timestampMs":"1"},"#,
            r#"{"value":3,"timestampMs":"2"}]}],"status":"PARTIAL","message":"cut"}"#
        ),
    );
    check(&QueryInstantResponse::default(), r#"{"series":[]}"#);
}

#[test]
fn tags() {
    check(&SearchTagsResponse::default(), r#"{"tagNames":[]}"#);
    let value = TagValue { kind: "string".into(), value: "a".into() };
    let metrics = Some(MetadataMetrics { total_block_bytes: 5, ..Default::default() });
    check(
        &SearchTagValuesV2Response { tag_values: vec![value], metrics },
        r#"{"tagValues":[{"type":"string","value":"a"}],"metrics":{"totalBlockBytes":"5"}}"#,
    );
    let scope = SearchTagsV2Scope { name: "span".into(), tags: vec!["x".into()] };
    check(
        &SearchTagsV2Response { scopes: vec![scope], metrics: None },
        r#"{"scopes":[{"name":"span","tags":["x"]}]}"#,
    );
}

#[test]
fn trace_by_id() {
    let json = concat!(
        r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"cart"}}]},"#,
        r#""scopeSpans":[{"scope":{"name":"lib"},"spans":[{"traceId":"00000000000000000000000000000001","spanId":"0000000000000002","#,
        r#""name":"GET","kind":2,"startTimeUnixNano":"1718000000000000000","endTimeUnixNano":1718000000001000000,"#,
        r#""events":[{"timeUnixNano":"5","name":"e"}],"status":{"code":2,"message":"x"}}]},{"spans":[{"name":"bare"}]}]}]}"#
    );
    let trace = to_protobuf(Signal::Traces, json.as_bytes()).unwrap();
    let expect = concat!(
        r#"[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"cart"}}]},"#,
        r#""scopeSpans":[{"scope":{"name":"lib"},"spans":[{"traceId":"AAAAAAAAAAAAAAAAAAAAAQ==","spanId":"AAAAAAAAAAI=","#,
        r#""name":"GET","kind":"SPAN_KIND_SERVER","startTimeUnixNano":"1718000000000000000","endTimeUnixNano":"1718000000001000000","#,
        r#""events":[{"timeUnixNano":"5","name":"e"}],"status":{"message":"x","code":"STATUS_CODE_ERROR"}}]},"#,
        r#"{"scope":{},"spans":[{"name":"bare","status":{}}]}]}]"#
    );
    assert_eq!(trace_v1_json(&trace).unwrap(), format!(r#"{{"batches":{expect}}}"#));
    assert_eq!(trace_v1_json(&[]).unwrap(), "{}");
    let found = TraceByIdResponse {
        trace: Some(trace),
        metrics: Some(TraceByIdMetrics { inspected_bytes: 123 }),
        ..Default::default()
    };
    let expect = format!(r#"{{"trace":{{"resourceSpans":{expect}}},"metrics":{{"inspectedBytes":"123"}}}}"#);
    assert_eq!(found.to_json().unwrap(), expect);
    assert_eq!(TraceByIdResponse::decode(&found.encode_to_vec()[..]), Ok(found));

    let missing = TraceByIdResponse {
        trace: Some(Bytes::new()),
        metrics: Some(TraceByIdMetrics::default()),
        ..Default::default()
    };
    assert_eq!(missing.to_json().unwrap(), r#"{"trace":{},"metrics":{}}"#);
    // The field is there, with length 0.
    assert_eq!(missing.encode_to_vec()[..2], [0x0a, 0x00]);
    let partial =
        TraceByIdResponse { trace: Some(Bytes::new()), status: 1, message: "m".into(), metrics: None };
    assert_eq!(partial.to_json().unwrap(), r#"{"trace":{},"status":"PARTIAL","message":"m"}"#);
    assert_eq!(
        TraceByIdResponse { trace: Some(Bytes::new()), ..Default::default() }.to_json().unwrap(),
        r#"{"trace":{}}"#
    );
}
