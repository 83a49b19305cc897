//! Single attribute values as JSON and as text.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::AnyValue;
use super::{push, push_string};

/// Writes a value with its type: `{"stringValue":"x"}`, `{"arrayValue":{"values":[…]}}`.
pub fn any_value_to_json(value: &AnyValue<'_>) -> String {
    let mut out = String::new();
    typed(value, &mut out);
    out
}

fn typed(value: &AnyValue<'_>, out: &mut String) {
    let list = |name: &str, out: &mut String, elements: &mut dyn FnMut(&mut String) -> bool| {
        push(format_args!("{{\"{name}\":{{"), out);
        let start = out.len();
        out.push_str("\"values\":[");
        let empty = out.len();
        while elements(out) {
            out.push(',');
        }
        if out.len() == empty {
            out.truncate(start);
        } else {
            out.pop();
            out.push(']');
        }
        out.push_str("}}");
    };
    match value {
        AnyValue::Null => out.push_str("{}"),
        AnyValue::Str(text) => {
            out.push_str("{\"stringValue\":");
            push_string(text, out);
            out.push('}');
        }
        AnyValue::Bool(value) => push(format_args!("{{\"boolValue\":{value}}}"), out),
        AnyValue::Int(value) => push(format_args!("{{\"intValue\":\"{value}\"}}"), out),
        AnyValue::Double(value) if value.is_finite() => {
            push(format_args!("{{\"doubleValue\":{}}}", go_float(*value)), out)
        }
        AnyValue::Double(value) => {
            let name = if value.is_nan() {
                "NaN"
            } else if *value > 0.0 {
                "Infinity"
            } else {
                "-Infinity"
            };
            push(format_args!("{{\"doubleValue\":\"{name}\"}}"), out);
        }
        AnyValue::Bytes(bytes) => {
            push(format_args!("{{\"bytesValue\":\"{}\"}}", STANDARD.encode(bytes)), out)
        }
        AnyValue::Array(values) => {
            let mut values = values.iter();
            list("arrayValue", out, &mut |out| values.next().map(|value| typed(&value, out)).is_some());
        }
        AnyValue::KvList(values) => {
            let mut values = values.iter();
            list("kvlistValue", out, &mut |out| {
                let Some(member) = values.next() else { return false };
                out.push_str("{\"key\":");
                push_string(member.key, out);
                out.push_str(",\"value\":");
                typed(&member.value, out);
                out.push('}');
                true
            });
        }
    }
}

/// Writes a value as plain text, as the Collector's `AsString` does: text as it is, numbers and bools
/// as JSON has them, bytes in base64, arrays and maps (sorted by key) as compact JSON, nothing for null.
pub fn any_value_to_text(value: &AnyValue<'_>) -> String {
    match value {
        AnyValue::Null => String::new(),
        AnyValue::Str(text) => (*text).to_owned(),
        AnyValue::Bytes(bytes) => STANDARD.encode(bytes),
        AnyValue::Double(value) => go_float(*value),
        other => {
            let mut out = String::new();
            untyped(other, &mut out);
            out
        }
    }
}

fn untyped(value: &AnyValue<'_>, out: &mut String) {
    match value {
        AnyValue::Null => out.push_str("null"),
        AnyValue::Str(text) => push_string(text, out),
        AnyValue::Bool(value) => push(format_args!("{value}"), out),
        AnyValue::Int(value) => push(format_args!("{value}"), out),
        AnyValue::Double(value) if value.is_finite() => out.push_str(&go_float(*value)),
        AnyValue::Double(value) => push_string(&go_float(*value), out),
        AnyValue::Bytes(bytes) => push_string(&STANDARD.encode(bytes), out),
        AnyValue::Array(values) => {
            out.push('[');
            for (i, value) in values.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                untyped(&value, out);
            }
            out.push(']');
        }
        AnyValue::KvList(values) => {
            // Of equal keys the last counts, as in the map that the Collector makes of them.
            let members: BTreeMap<_, _> = values.iter().map(|member| (member.key, member.value)).collect();
            out.push('{');
            for (i, (key, value)) in members.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                push_string(key, out);
                out.push(':');
                untyped(value, out);
            }
            out.push('}');
        }
    }
}

/// Writes a double as Go's JSON does: shortest digits, with an exponent below 1e-6 and from 1e21 on;
/// `NaN`, `+Inf`, `-Inf`.
pub fn go_float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let size = value.abs();
    if size == 0.0 || (1e-6..1e21).contains(&size) {
        return value.to_string();
    }
    let text = format!("{value:e}");
    if size >= 1.0 { text.replace('e', "e+") } else { text }
}

#[cfg(test)]
mod tests {
    use super::super::any_value_from_json;
    use super::*;

    #[test]
    fn floats() {
        for (value, expect) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.1, "0.1"),
            (-1.5, "-1.5"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.25e-7, "1.25e-7"),
            (1e-6, "0.000001"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(go_float(value), expect);
        }
    }

    #[test]
    fn json_and_text() {
        fn check(json: &str, text: &str) {
            let raw = any_value_from_json(json).unwrap();
            let value = AnyValue::parse(&raw).unwrap();
            assert_eq!(any_value_to_json(&value), json);
            assert_eq!(any_value_to_text(&value), text);
        }
        check("{}", "");
        check(r#"{"stringValue":""}"#, "");
        check(r#"{"stringValue":"a\"\n\u0001"}"#, "a\"\n\u{1}");
        check(r#"{"boolValue":false}"#, "false");
        check(r#"{"intValue":"-9223372036854775808"}"#, "-9223372036854775808");
        check(r#"{"doubleValue":0.5}"#, "0.5");
        check(r#"{"doubleValue":"NaN"}"#, "NaN");
        check(r#"{"doubleValue":"-Infinity"}"#, "-Inf");
        check(r#"{"bytesValue":"aGk="}"#, "aGk=");
        check(r#"{"arrayValue":{}}"#, "[]");
        check(r#"{"arrayValue":{"values":[{"stringValue":"x"},{},{"intValue":"1"}]}}"#, r#"["x",null,1]"#);
        check(
            r#"{"kvlistValue":{"values":[{"key":"b","value":{"doubleValue":"NaN"}},{"key":"a","value":{"arrayValue":{}}}]}}"#,
            r#"{"a":[],"b":"NaN"}"#,
        );
    }

    #[test]
    fn depth_is_bounded() {
        let nest = |levels: usize| {
            let (open, close) = (r#"{"kvlistValue":{"values":[{"value":"#, "}]}}");
            format!("{}{{}}{}", open.repeat(levels), close.repeat(levels))
        };
        let deepest = any_value_from_json(&nest(super::super::super::MAX_DEPTH - 1)).unwrap();
        assert!(any_value_to_text(&AnyValue::parse(&deepest).unwrap()).contains("null"));
        let error = any_value_from_json(&nest(super::super::super::MAX_DEPTH)).unwrap_err();
        assert!(error.problem.contains("deeper than 64"), "{error}");
    }
}
