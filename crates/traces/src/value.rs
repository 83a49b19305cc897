//! Attribute values, resources and scopes as OTLP/JSON text: the form in which blocks hold what has no
//! column of its own, so that any reader of Parquet can make sense of it, and nothing is lost.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::value::RawValue;
use wire::otlp::{AnyValue, Attributes, Resource, Scope};
use wire::proto::Writer;

/// Writes a value as OTLP/JSON, such as `{"intValue":"7"}`; nothing is `{}`.
pub(crate) fn write_json(value: &AnyValue<'_>, out: &mut String) {
    match value {
        AnyValue::Null => out.push_str("{}"),
        AnyValue::Str(text) => member(out, "stringValue", |out| quote(text, out)),
        AnyValue::Bool(b) => member(out, "boolValue", |out| out.push_str(if *b { "true" } else { "false" })),
        AnyValue::Int(n) => member(out, "intValue", |out| *out += &format!("\"{n}\"")),
        AnyValue::Double(f) => member(out, "doubleValue", |out| write_float(*f, out)),
        AnyValue::Bytes(bytes) => member(out, "bytesValue", |out| quote(&BASE64.encode(bytes), out)),
        AnyValue::Array(_) => member(out, "arrayValue", |out| write_array(value, out)),
        AnyValue::KvList(list) => member(out, "kvlistValue", |out| {
            out.push_str("{\"values\":");
            write_attributes(list, out);
            out.push('}');
        }),
    }
}

/// Writes the inside of an `arrayValue`: `{"values":[…]}`. Anything but an array is an empty one.
pub(crate) fn write_array(value: &AnyValue<'_>, out: &mut String) {
    out.push_str("{\"values\":[");
    if let AnyValue::Array(values) = value {
        for (i, value) in values.iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            write_json(&value, out);
        }
    }
    out.push_str("]}");
}

fn write_attributes(list: &Attributes<'_>, out: &mut String) {
    out.push('[');
    for (i, attribute) in list.iter().enumerate() {
        out.push_str(if i > 0 { ",{\"key\":" } else { "{\"key\":" });
        quote(attribute.key, out);
        out.push_str(",\"value\":");
        write_json(&attribute.value, out);
        out.push('}');
    }
    out.push(']');
}

fn member(out: &mut String, name: &str, value: impl FnOnce(&mut String)) {
    *out += &format!("{{\"{name}\":");
    value(out);
    out.push('}');
}

fn quote(text: &str, out: &mut String) {
    *out += &serde_json::to_string(text).expect("text is always JSON");
}

fn write_float(f: f64, out: &mut String) {
    if f.is_finite() {
        *out += &serde_json::to_string(&f).expect("a finite number is JSON");
    } else {
        // The one NaN that JSON can name; its payload bits are not kept.
        out.push_str(match f {
            f64::INFINITY => "\"Infinity\"",
            f64::NEG_INFINITY => "\"-Infinity\"",
            _ => "\"NaN\"",
        });
    }
}

/// A resource with its schema URL as JSON: OTLP's members and `schemaUrl`.
pub(crate) fn resource_json(resource: &Resource<'_>, schema_url: &str) -> String {
    object(&[], &resource.attributes(), resource.dropped_attributes_count, schema_url)
}

/// A scope with its schema URL as JSON: OTLP's members and `schemaUrl`.
pub(crate) fn scope_json(scope: &Scope<'_>, schema_url: &str) -> String {
    let head = [("name", scope.name), ("version", scope.version)];
    object(&head, &scope.attributes(), scope.dropped_attributes_count, schema_url)
}

fn object(head: &[(&str, &str)], attributes: &Attributes<'_>, dropped: u32, schema_url: &str) -> String {
    let mut members = Vec::new();
    for (name, text) in head.iter().filter(|(_, text)| !text.is_empty()) {
        let mut out = format!("\"{name}\":");
        quote(text, &mut out);
        members.push(out);
    }
    if !attributes.is_empty() {
        let mut out = "\"attributes\":".to_owned();
        write_attributes(attributes, &mut out);
        members.push(out);
    }
    if dropped > 0 {
        members.push(format!("\"droppedAttributesCount\":{dropped}"));
    }
    if !schema_url.is_empty() {
        let mut out = "\"schemaUrl\":".to_owned();
        quote(schema_url, &mut out);
        members.push(out);
    }
    format!("{{{}}}", members.join(","))
}

/// A resource or a scope read back from its JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The encoded `Resource` or `InstrumentationScope`.
    pub raw: Vec<u8>,
    /// The schema URL beside it.
    pub schema_url: String,
}

/// The members of a resource or scope.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct OriginJson {
    name: String,
    version: String,
    attributes: Vec<AttributeJson>,
    dropped_attributes_count: u64,
    schema_url: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AttributeJson {
    key: String,
    value: ValueJson,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ListJson<T> {
    values: Vec<T>,
}

/// An `AnyValue`: one member or none.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ValueJson {
    string_value: Option<String>,
    bool_value: Option<bool>,
    int_value: Option<String>,
    /// As text: the JSON reader rounds.
    double_value: Option<Box<RawValue>>,
    array_value: Option<ListJson<ValueJson>>,
    kvlist_value: Option<ListJson<AttributeJson>>,
    bytes_value: Option<String>,
}

impl ValueJson {
    fn write(&self, w: &mut Writer) {
        if let Some(text) = &self.string_value {
            w.bytes(1, text.as_bytes());
        } else if let Some(b) = self.bool_value {
            w.varint(2, b.into());
        } else if let Some(n) = &self.int_value {
            w.varint(3, n.parse::<i64>().unwrap_or_default() as u64);
        } else if let Some(f) = &self.double_value {
            w.fixed64(4, f.get().trim_matches('"').parse::<f64>().unwrap_or(f64::NAN).to_bits());
        } else if let Some(list) = &self.array_value {
            w.message(5, |w| list.values.iter().for_each(|v| w.message(1, |w| v.write(w))));
        } else if let Some(list) = &self.kvlist_value {
            w.message(6, |w| write_list(w, 1, &list.values));
        } else if let Some(text) = &self.bytes_value {
            w.bytes(7, &BASE64.decode(text).unwrap_or_default());
        }
    }
}

fn write_list(w: &mut Writer, field: u32, list: &[AttributeJson]) {
    for attribute in list {
        w.message(field, |w| {
            w.string(1, &attribute.key);
            w.message(2, |w| attribute.value.write(w));
        });
    }
}

/// Reads the text of [`resource_json`]. Text that is not such JSON (a damaged block) reads as empty.
pub(crate) fn parse_resource(text: &str) -> Origin {
    let json: OriginJson = serde_json::from_str(text).unwrap_or_default();
    let mut w = Writer::default();
    write_list(&mut w, 1, &json.attributes);
    if json.dropped_attributes_count > 0 {
        w.varint(2, json.dropped_attributes_count);
    }
    Origin { raw: w.finish(), schema_url: json.schema_url }
}

/// Reads the text of [`scope_json`].
pub(crate) fn parse_scope(text: &str) -> Origin {
    let json: OriginJson = serde_json::from_str(text).unwrap_or_default();
    let mut w = Writer::default();
    w.string(1, &json.name);
    w.string(2, &json.version);
    write_list(&mut w, 3, &json.attributes);
    if json.dropped_attributes_count > 0 {
        w.varint(4, json.dropped_attributes_count);
    }
    Origin { raw: w.finish(), schema_url: json.schema_url }
}

/// The encoded `AnyValue` of a value's JSON.
pub(crate) fn parse_value(text: &str) -> Vec<u8> {
    let json: ValueJson = serde_json::from_str(text).unwrap_or_default();
    let mut w = Writer::default();
    json.write(&mut w);
    w.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str) {
        let raw = parse_value(json);
        let mut out = String::new();
        write_json(&AnyValue::parse(&raw).unwrap(), &mut out);
        assert_eq!(out, json);
    }

    #[test]
    fn values_round_trip() {
        check("{}");
        check(r#"{"stringValue":""}"#);
        check(r#"{"stringValue":"a\"\n\u0001é"}"#);
        check(r#"{"intValue":"-9223372036854775808"}"#);
        check(r#"{"boolValue":false}"#);
        check(r#"{"doubleValue":-0.0}"#);
        check(r#"{"doubleValue":1e+300}"#);
        check(r#"{"doubleValue":"NaN"}"#);
        check(r#"{"doubleValue":"-Infinity"}"#);
        check(r#"{"bytesValue":"aGk="}"#);
        check(r#"{"arrayValue":{"values":[{"intValue":"1"},{},{"arrayValue":{"values":[]}}]}}"#);
        check(r#"{"kvlistValue":{"values":[{"key":"","value":{}},{"key":"k","value":{"boolValue":true}}]}}"#);
    }

    #[test]
    fn origins_round_trip() {
        let text = r#"{"attributes":[{"key":"service.name","value":{"stringValue":"cart"}}],"droppedAttributesCount":2,"schemaUrl":"u"}"#;
        let origin = parse_resource(text);
        assert_eq!(resource_json(&Resource::parse(&origin.raw).unwrap(), &origin.schema_url), text);
        let text = r#"{"name":"lib","version":"1","attributes":[{"key":"a","value":{"intValue":"1"}}]}"#;
        let origin = parse_scope(text);
        assert_eq!(scope_json(&Scope::parse(&origin.raw).unwrap(), &origin.schema_url), text);
        assert_eq!(parse_resource("not json"), Origin::default());
        assert_eq!(parse_scope("{}"), Origin::default());
    }
}
