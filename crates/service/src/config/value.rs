//! A piece of configuration kept as written, for sections whose type is known only later.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeOwned, Visitor},
};

use super::{
    Problems, Unneeded, VALUE, de,
    node::{Kind, Node, Typed},
    path::{Path, Step},
};

/// A piece of configuration kept as written, to be read later as another type: `processors.*` of a collector config,
/// whose type the key decides. As a field type it takes any YAML.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    path: Path,
    node: Node,
}

impl Default for Value {
    fn default() -> Value {
        Value { path: Path::default(), node: Node::null() }
    }
}

impl Value {
    /// Path of this piece in the document.
    pub fn path(&self) -> String {
        self.path.to_string()
    }

    /// The last key of the path; empty for a list's item and for the root.
    pub fn key(&self) -> &str {
        match self.path.steps().last() {
            Some(Step::Key(key)) => key,
            _ => "",
        }
    }

    /// Whether it is `null` or absent.
    pub fn is_null(&self) -> bool {
        self.node.is_null()
    }

    /// Whether it is a list.
    pub fn is_list(&self) -> bool {
        matches!(self.node.kind, Kind::List(_))
    }

    /// Whether it is a map.
    pub fn is_map(&self) -> bool {
        matches!(self.node.kind, Kind::Map(_))
    }

    /// The text of a scalar as written; `None` for lists and maps.
    pub fn as_str(&self) -> Option<&str> {
        match &self.node.kind {
            Kind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// Entries of a map, in order of writing; empty for anything else.
    pub fn entries(&self) -> impl Iterator<Item = (&str, Value)> {
        let entries: &[(String, Node)] = match &self.node.kind {
            Kind::Map(entries) => entries,
            _ => &[],
        };
        entries
            .iter()
            .map(|(key, node)| (key.as_str(), Value { path: self.path.key(key), node: node.clone() }))
    }

    /// Items of a list; empty for anything else.
    pub fn items(&self) -> impl Iterator<Item = Value> {
        let items: &[Node] = match &self.node.kind {
            Kind::List(items) => items,
            _ => &[],
        };
        items.iter().enumerate().map(|(n, node)| Value { path: self.path.index(n), node: node.clone() })
    }

    /// Reads it as `T` over `T::default()`; what is wrong goes into `problems` under the full path, and `unneeded` holds
    /// patterns seen from here. `None` when nothing of it can be used.
    pub fn read<T: Default + Serialize + DeserializeOwned>(
        &self,
        unneeded: &Unneeded,
        problems: &mut Problems,
    ) -> Option<T> {
        de::read(&self.node, &self.path, unneeded, problems)
    }

    /// Reads it over other defaults, such as the limits of all tenants where these are the limits of one. What cannot be told from
    /// its serialized form is lost: [`Secret`](super::Secret)s of `default`.
    pub fn read_over<T: Serialize + DeserializeOwned>(
        &self,
        default: &T,
        unneeded: &Unneeded,
        problems: &mut Problems,
    ) -> Option<T> {
        de::read_over(default, &self.node, &self.path, unneeded, problems)
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Typed(&self.node).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_newtype_struct(VALUE, Taken)
    }
}

struct Taken;

impl<'de> Visitor<'de> for Taken {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    /// Our own deserializer's answer.
    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Value, E> {
        serde_json::from_str(text).map(|(path, node)| Value { path, node }).map_err(E::custom)
    }

    /// Any other deserializer's.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let json = serde_json::Value::deserialize(deserializer)?;
        Ok(Value { path: Path::default(), node: Node::from_json(&json) })
    }
}
