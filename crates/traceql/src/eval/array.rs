//! Array attributes: stored as OTLP/JSON text, read when a row really has one.

use serde_json::Value as Json;

use crate::value::{Value, ValueRef};

/// Reads an array column's cell. An array of one element is that element; text that is no array is nil.
pub(crate) fn parse(text: &str) -> ValueRef<'static> {
    let mut items = elements(text);
    match items.len() {
        1 => owned(items.remove(0)),
        _ => ValueRef::Array(items.into()),
    }
}

fn owned(value: Value) -> ValueRef<'static> {
    match value {
        Value::Str(s) => ValueRef::Shared(s),
        Value::Int(i) => ValueRef::Int(i),
        Value::Float(f) => ValueRef::Float(f),
        Value::Bool(b) => ValueRef::Bool(b),
        _ => ValueRef::Nil,
    }
}

/// The elements of a cell; those that are neither text, number nor truth value are left out.
pub(crate) fn elements(text: &str) -> Vec<Value> {
    let Ok(json) = serde_json::from_str::<Json>(text) else { return Vec::new() };
    let json = json.get("arrayValue").unwrap_or(&json);
    let list = json.get("values").unwrap_or(json);
    list.as_array().map_or_else(Vec::new, |items| items.iter().filter_map(element).collect())
}

fn element(json: &Json) -> Option<Value> {
    match json {
        Json::String(s) => Some(Value::str(s)),
        Json::Bool(b) => Some(Value::Bool(*b)),
        Json::Number(n) => n.as_i64().map(Value::Int).or_else(|| n.as_f64().map(Value::Float)),
        Json::Object(members) => {
            let (key, value) = members.iter().next()?;
            match key.as_str() {
                "stringValue" => value.as_str().map(Value::str),
                "boolValue" => value.as_bool().map(Value::Bool),
                "intValue" => value.as_i64().or_else(|| value.as_str()?.parse().ok()).map(Value::Int),
                "doubleValue" => value.as_f64().or_else(|| value.as_str()?.parse().ok()).map(Value::Float),
                _ => None,
            }
        }
        Json::Null | Json::Array(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_spelling() {
        let both = vec![Value::str("a"), Value::Int(5)];
        for text in [
            r#"{"values":[{"stringValue":"a"},{"intValue":"5"}]}"#,
            r#"{"arrayValue":{"values":[{"stringValue":"a"},{"intValue":5}]}}"#,
            r#"["a",5]"#,
        ] {
            assert_eq!(elements(text), both);
        }
        assert_eq!(parse(r#"[2]"#), ValueRef::Int(2));
        assert_eq!(parse("broken"), ValueRef::Array([].into()));
    }
}
