//! OTLP/JSON against serde's form of the generated types, and the forms that these do not take.

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::LogsData;
use opentelemetry_proto::tonic::trace::v1::TracesData;
use proptest::prelude::*;
use prost::Message;
use wire::otlp::Signal;
use wire::otlp::json::{Style, from_protobuf, to_protobuf};

use crate::any_otlp;
use crate::views::Normalize;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn traces_there_and_back(data in any_otlp::traces()) {
        let json = from_protobuf(Signal::Traces, &data.encode_to_vec(), Style::Otlp).unwrap();
        let back = to_protobuf(Signal::Traces, json.as_bytes()).unwrap();
        prop_assert_eq!(TracesData::decode(&back[..]).unwrap(), data);
    }

    #[test]
    fn logs_there_and_back(data in any_otlp::logs()) {
        let json = from_protobuf(Signal::Logs, &data.encode_to_vec(), Style::Otlp).unwrap();
        let back = to_protobuf(Signal::Logs, json.as_bytes()).unwrap();
        prop_assert_eq!(LogsData::decode(&back[..]).unwrap(), data);
    }

    #[test]
    fn json_of_other_writers_is_read(mut data in any_otlp::traces()) {
        for rs in &mut data.resource_spans {
            for ss in &mut rs.scope_spans {
                ss.spans.iter_mut().for_each(|span| span.attributes = vec![plain(span.name.clone())]);
            }
        }
        without_bytes_and_nulls(&mut data);
        let json = serde_json::to_vec(&data).unwrap();
        let read = to_protobuf(Signal::Traces, &json).unwrap();
        prop_assert_eq!(TracesData::decode(&read[..]).unwrap(), data);
    }

    #[test]
    fn our_json_is_read_by_others(mut data in any_otlp::traces()) {
        without_bytes_and_nulls(&mut data);
        let json = from_protobuf(Signal::Traces, &data.encode_to_vec(), Style::Otlp).unwrap();
        let mut read: TracesData = serde_json::from_str(if json == "{}" { r#"{"resourceSpans":[]}"# } else { &json }).unwrap();
        read.normalize();
        data.normalize();
        prop_assert_eq!(read, data);
    }
}

fn plain(key: String) -> KeyValue {
    KeyValue { key, value: Some(AnyValue { value: Some(Value::IntValue(7)) }), key_strindex: 0 }
}

/// Takes out what serde's form of the generated types writes or reads in ways of its own.
fn without_bytes_and_nulls(data: &mut TracesData) {
    let simple = |list: &mut Vec<KeyValue>| {
        list.retain(|a| {
            !a.key.is_empty()
                && matches!(
                    a.value.as_ref().and_then(|v| v.value.as_ref()),
                    Some(Value::StringValue(_) | Value::IntValue(_) | Value::BoolValue(_))
                )
        });
    };
    for rs in &mut data.resource_spans {
        rs.resource.iter_mut().for_each(|r| simple(&mut r.attributes));
        for ss in &mut rs.scope_spans {
            ss.scope.iter_mut().for_each(|s| simple(&mut s.attributes));
            for span in &mut ss.spans {
                simple(&mut span.attributes);
                span.events.iter_mut().for_each(|e| simple(&mut e.attributes));
                span.links.iter_mut().for_each(|l| simple(&mut l.attributes));
            }
        }
    }
}

/// Reads one span's members and gives them back in OTLP's own JSON.
fn span(members: &str) -> Result<String, String> {
    let json = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{members}}}]}}]}}]}}"#);
    let body = to_protobuf(Signal::Traces, json.as_bytes()).map_err(|e| e.to_string())?;
    let json = from_protobuf(Signal::Traces, &body, Style::Otlp).map_err(|e| e.to_string())?;
    let (start, end) = (json.find("\"spans\":[{").unwrap() + 10, json.len() - 7);
    Ok(json[start..end].to_owned())
}

#[test]
fn forms_that_are_read() {
    fn check(members: &str, expect: &str) {
        assert_eq!(span(members).as_deref(), Ok(expect), "{members}");
    }
    let id = "5b8efff798038103d269b633813fc60c";
    check(&format!(r#""traceId":"{}""#, id.to_uppercase()), &format!(r#""traceId":"{id}""#));
    check(
        &format!(r#""trace_id":"{id}","span_id":"","parent_span_id":null"#),
        &format!(r#""traceId":"{id}""#),
    );
    check(r#""startTimeUnixNano":"18446744073709551615""#, r#""startTimeUnixNano":"18446744073709551615""#);
    check(r#""startTimeUnixNano":1700000000000000001"#, r#""startTimeUnixNano":"1700000000000000001""#);
    check(r#""start_time_unix_nano":1.7e9"#, r#""startTimeUnixNano":"1700000000""#);
    check(r#""kind":"SPAN_KIND_SERVER""#, r#""kind":2"#);
    check(r#""kind":3,"kind":"4""#, r#""kind":4"#);
    check(r#""status":{"code":"STATUS_CODE_ERROR","message":"no"}"#, r#""status":{"message":"no","code":2}"#);
    check(r#""status":{},"attributes":null,"events":[],"flags":257"#, r#""status":{},"flags":257"#);
    check(
        r#""name":"é\n","unknown":{"a":[1,null]},"droppedLinksCount":"2""#,
        r#""name":"é\n","droppedLinksCount":2"#,
    );
    check(r#""links":[null,{"spanId":"00000000000000ff"}]"#, r#""links":[{"spanId":"00000000000000ff"}]"#);
    for (value, expect) in [
        (r#"{"stringValue":""}"#, r#"{"stringValue":""}"#),
        (r#"{"string_value":"x"}"#, r#"{"stringValue":"x"}"#),
        (r#"{"intValue":-7}"#, r#"{"intValue":"-7"}"#),
        (r#"{"intValue":"0"}"#, r#"{"intValue":"0"}"#),
        (r#"{"doubleValue":"NaN"}"#, r#"{"doubleValue":"NaN"}"#),
        (r#"{"doubleValue":"-Infinity"}"#, r#"{"doubleValue":"-Infinity"}"#),
        (r#"{"doubleValue":"2.5"}"#, r#"{"doubleValue":2.5}"#),
        (r#"{"doubleValue":1e300}"#, r#"{"doubleValue":1e+300}"#),
        (r#"{"boolValue":false}"#, r#"{"boolValue":false}"#),
        (r#"{"bytesValue":"__-_"}"#, r#"{"bytesValue":"//+/"}"#),
        (r#"{"bytesValue":"aGk"}"#, r#"{"bytesValue":"aGk="}"#),
        (
            r#"{"arrayValue":{"values":[{"boolValue":true},null]}}"#,
            r#"{"arrayValue":{"values":[{"boolValue":true},{}]}}"#,
        ),
        (r#"{"kvlistValue":{"values":[{"key":"k"}]}}"#, r#"{"kvlistValue":{"values":[{"key":"k"}]}}"#),
        (r#"{"stringValue":null}"#, "{}"),
    ] {
        check(
            &format!(r#""attributes":[{{"key":"a","value":{value}}}]"#),
            &format!(r#""attributes":[{{"key":"a","value":{expect}}}]"#),
        );
    }
}

#[test]
fn errors_name_the_path() {
    fn check(members: &str, expect: &str) {
        let error = span(members).unwrap_err();
        let expect = format!("resourceSpans[0].scopeSpans[0].spans[0].{expect}");
        assert!(error.starts_with(&expect), "{error}\n{expect}");
    }
    check(r#""traceId":"4bf9""#, "traceId: an id of 4 hex digits must have 32");
    check(r#""spanId":"0123456789abcdeg""#, "spanId: an id must be hex digits, not \"0123456789abcdeg\"");
    check(r#""startTimeUnixNano":"-1""#, "startTimeUnixNano: \"-1\" is not an integer of 64 bits");
    check(r#""startTimeUnixNano":1.5"#, "startTimeUnixNano: \"1.5\" is not an integer of 64 bits");
    check(r#""kind":"SPAN_KIND_NEW""#, "kind: \"SPAN_KIND_NEW\" is not a value of this enum");
    check(r#""name":5"#, "name: expected a string, found '5'");
    check(r#""events":{}"#, "events: expected an array, found '{'");
    check(r#""attributes":[{"value":{"bytesValue":"***"}}]"#, "attributes[0].value.bytesValue: not base64");
    check(
        r#""attributes":[{"value":{"doubleValue":"fast"}}]"#,
        "attributes[0].value.doubleValue: \"fast\" is not a number",
    );
    for bad in ["", "[]", "{", r#"{"resourceSpans":["#, r#"{"resourceSpans":[]}]"#] {
        assert!(to_protobuf(Signal::Traces, bad.as_bytes()).is_err(), "{bad}");
    }
}
