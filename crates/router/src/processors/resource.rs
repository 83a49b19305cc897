//! `resource`: sets and removes attributes of resources, for traces and logs alike.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use service::Failure;
use wire::proto::{Fields, ProtoError, Value, Writer};

use crate::data::{Consumer, Data};

/// `processors.resource`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct ResourceConfig {
    /// What to do, in order.
    pub attributes: Vec<ActionConfig>,
}

/// One action.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct ActionConfig {
    /// The attribute.
    pub key: String,
    /// `insert`, `update`, `upsert` or `delete`.
    pub action: String,
    /// The new value: text, number or boolean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Scalar>,
    /// Take the value of this attribute of the resource instead.
    pub from_attribute: String,
}

/// A value that a configuration can give an attribute.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Scalar {
    /// `true`
    Bool(bool),
    /// `1`
    Int(i64),
    /// `1.5`
    Double(f64),
    /// `text`
    Text(String),
}

/// The processor.
pub struct Resource {
    actions: Vec<Action>,
    next: Arc<dyn Consumer>,
}

struct Action {
    key: String,
    kind: Kind,
    source: Source,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Insert,
    Update,
    Upsert,
    Delete,
}

enum Source {
    /// An encoded `AnyValue`.
    Value(Vec<u8>),
    Attribute(String),
}

impl Resource {
    /// A processor before `next`; all problems of the configuration come back together.
    pub fn new(config: &ResourceConfig, next: Arc<dyn Consumer>) -> Result<Self, Vec<String>> {
        Ok(Self { actions: compile_all(config)?, next })
    }

    /// The problems that [`new`](Self::new) would find.
    pub fn check(config: &ResourceConfig) -> Result<(), Vec<String>> {
        compile_all(config).map(drop)
    }

    /// The request with changed resources.
    fn rewrite(&self, body: &[u8]) -> Result<Bytes, ProtoError> {
        let mut out = Writer::with_capacity(body.len() + 256);
        for field in Fields::new(body) {
            let (1, Value::Len(group)) = field? else { continue };
            out.message(1, |out| {
                let mut resource: &[u8] = &[];
                for field in Fields::new(group) {
                    if let (1, Value::Len(bytes)) = field? {
                        resource = bytes;
                    }
                }
                self.write_resource(resource, out)?;
                for field in Fields::new(group) {
                    match field? {
                        (number @ 2.., Value::Len(bytes)) => out.bytes(number, bytes),
                        _ => continue,
                    }
                }
                Ok::<(), ProtoError>(())
            })?;
        }
        Ok(out.finish().into())
    }

    fn write_resource(&self, resource: &[u8], out: &mut Writer) -> Result<(), ProtoError> {
        // Key and the encoded AnyValue of each attribute.
        let mut attributes: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut rest = Writer::default();
        for field in Fields::new(resource) {
            match field? {
                (1, Value::Len(pair)) => attributes.push(key_and_value(pair)?),
                (number, Value::Len(bytes)) => rest.bytes(number, bytes),
                (number, Value::Varint(value)) => rest.varint(number, value),
                _ => {}
            }
        }
        for action in &self.actions {
            action.apply(&mut attributes);
        }
        out.message(1, |out| {
            for (key, value) in &attributes {
                out.message(1, |out| {
                    out.bytes(1, key);
                    out.bytes(2, value);
                });
            }
            out.raw(&rest.finish());
        });
        Ok(())
    }
}

impl Action {
    fn apply(&self, attributes: &mut Vec<(Vec<u8>, Vec<u8>)>) {
        let find = |attributes: &[(Vec<u8>, Vec<u8>)], key: &str| {
            attributes.iter().position(|(k, _)| k == key.as_bytes())
        };
        let place = find(attributes, &self.key);
        if self.kind == Kind::Delete {
            place.map(|i| attributes.remove(i));
            return;
        }
        let value = match &self.source {
            Source::Value(value) => value.clone(),
            Source::Attribute(from) => match find(attributes, from) {
                Some(i) => attributes[i].1.clone(),
                None => return,
            },
        };
        match (place, self.kind) {
            (Some(i), Kind::Update | Kind::Upsert) => attributes[i].1 = value,
            (None, Kind::Insert | Kind::Upsert) => attributes.push((self.key.clone().into_bytes(), value)),
            _ => {}
        }
    }
}

impl Consumer for Resource {
    fn consume(&self, data: Data) -> BoxFuture<'_, Result<(), Failure>> {
        match self.rewrite(&data.body) {
            Ok(body) => self.next.consume(Data { body, ..data }),
            Err(error) => Box::pin(std::future::ready(Err(Failure::invalid(error.to_string())))),
        }
    }
}

fn key_and_value(pair: &[u8]) -> Result<(Vec<u8>, Vec<u8>), ProtoError> {
    let (mut key, mut value): (&[u8], &[u8]) = (&[], &[]);
    for field in Fields::new(pair) {
        match field? {
            (1, Value::Len(bytes)) => key = bytes,
            (2, Value::Len(bytes)) => value = bytes,
            _ => {}
        }
    }
    Ok((key.to_vec(), value.to_vec()))
}

fn compile_all(config: &ResourceConfig) -> Result<Vec<Action>, Vec<String>> {
    let (mut actions, mut problems) = (Vec::new(), Vec::new());
    for (i, action) in config.attributes.iter().enumerate() {
        match compile(action) {
            Ok(action) => actions.push(action),
            Err(problem) => problems.push(format!("attributes[{i}].{problem}")),
        }
    }
    if problems.is_empty() { Ok(actions) } else { Err(problems) }
}

fn compile(config: &ActionConfig) -> Result<Action, String> {
    if config.key.is_empty() {
        return Err("key: must not be empty".to_owned());
    }
    let kind = match config.action.as_str() {
        "insert" => Kind::Insert,
        "update" => Kind::Update,
        "upsert" => Kind::Upsert,
        "delete" => Kind::Delete,
        "hash" | "extract" | "convert" => return Err(format!("action: {} is not built yet", config.action)),
        other => return Err(format!("action: '{other}' is none of insert, update, upsert, delete")),
    };
    let source = match (&config.value, config.from_attribute.as_str()) {
        (Some(value), "") => Source::Value(encode(value)),
        (None, from) if !from.is_empty() || kind == Kind::Delete => Source::Attribute(from.to_owned()),
        _ => return Err("value: give either value or from_attribute".to_owned()),
    };
    Ok(Action { key: config.key.clone(), kind, source })
}

/// An encoded `AnyValue`.
fn encode(value: &Scalar) -> Vec<u8> {
    let mut out = Writer::default();
    match value {
        // Written out even where protobuf would leave out the default: the member says the type.
        Scalar::Text(text) => out.bytes(1, text.as_bytes()),
        Scalar::Bool(value) => out.varint(2, u64::from(*value)),
        Scalar::Int(value) => out.varint(3, *value as u64),
        Scalar::Double(value) => out.fixed64(4, value.to_bits()),
    }
    out.finish()
}

/// The attributes of the first resource of a request, for tests of what pipelines do to it.
#[cfg(test)]
pub(crate) fn first_resource(body: &[u8]) -> Vec<(String, String)> {
    let show = |pair: wire::otlp::KeyValue<'_>| (pair.key.to_owned(), format!("{:?}", pair.value));
    let group = wire::otlp::traces::resource_spans(body).next().expect("a resource").expect("well-formed");
    group.resource.expect("present").attributes().iter().map(show).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nowhere;

    impl Consumer for Nowhere {
        fn consume(&self, _: Data) -> BoxFuture<'_, Result<(), Failure>> {
            Box::pin(std::future::ready(Ok(())))
        }
    }

    fn apply(actions: serde_json::Value) -> Vec<(String, String)> {
        let config: ResourceConfig =
            serde_json::from_value(serde_json::json!({"attributes": actions})).unwrap();
        let processor = Resource::new(&config, Arc::new(Nowhere)).map_err(|p| p.join("; ")).unwrap();
        let json = br#"{"resourceSpans":[{"resource":{"attributes":[
            {"key":"service.name","value":{"stringValue":"a"}},{"key":"old","value":{"intValue":"1"}}]},
            "schemaUrl":"s","scopeSpans":[]}]}"#;
        let (body, _) =
            wire::otlp::Signal::Traces.decode(Bytes::from_static(json), wire::otlp::Format::Json).unwrap();
        let body = processor.rewrite(&body).unwrap();
        let group = wire::otlp::traces::resource_spans(&body).next().unwrap().unwrap();
        assert_eq!(group.schema_url, "s");
        first_resource(&body)
    }

    #[test]
    fn actions_in_order() {
        let pairs = apply(serde_json::json!([
            {"key": "service.namespace", "value": "shop", "action": "upsert"},
            {"key": "service.name", "value": "b", "action": "insert"},
            {"key": "none", "value": 1, "action": "update"},
            {"key": "copy", "from_attribute": "old", "action": "insert"},
            {"key": "old", "action": "delete"},
        ]));
        let shown: Vec<_> = pairs.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(shown, ["service.name=\"a\"", "service.namespace=\"shop\"", "copy=1"]);
    }

    #[test]
    fn problems_name_their_place() {
        let config: ResourceConfig = serde_json::from_value(
            serde_json::json!({"attributes": [{"key": "a", "action": "hash"}, {"action": "x"}]}),
        )
        .unwrap();
        let Err(problems) = Resource::new(&config, Arc::new(Nowhere)) else { panic!("must be refused") };
        assert_eq!(
            problems,
            ["attributes[0].action: hash is not built yet", "attributes[1].key: must not be empty"]
        );
    }
}
