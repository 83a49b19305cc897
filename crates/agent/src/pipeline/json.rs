//! `json`: values of a JSON object into the extracted map.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use service::config::Problems;

use super::path::Path;
use super::{Edit, Verdict};
use crate::entry::Entry;

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct JsonConfig {
    /// Name of the extracted value and where it stands; empty means under its own name.
    expressions: BTreeMap<String, Option<String>>,
    source: Option<String>,
    drop_malformed: bool,
}

pub(super) struct Json {
    wanted: Vec<(String, Path)>,
    source: Option<String>,
    drop_malformed: bool,
}

impl Json {
    pub(super) fn compile(config: &JsonConfig, path: &str, problems: &mut Problems) -> Option<Box<dyn Edit>> {
        let mut wanted = Vec::new();
        for (name, expression) in &config.expressions {
            match expression.as_deref().filter(|e| !e.is_empty()) {
                None => wanted.push((name.clone(), Path::key(name))),
                Some(expression) => match Path::parse(expression) {
                    Ok(compiled) => wanted.push((name.clone(), compiled)),
                    Err(problem) => problems
                        .add(format!("{path}.expressions.{name}"), format!("'{expression}': {problem}")),
                },
            }
        }
        if config.expressions.is_empty() {
            problems.add(format!("{path}.expressions"), "name at least one value");
            return None;
        }
        Some(Box::new(Self { wanted, source: config.source.clone(), drop_malformed: config.drop_malformed }))
    }
}

impl Edit for Json {
    fn edit(&mut self, entry: &mut Entry) -> Verdict {
        let source = match &self.source {
            Some(name) => match entry.extracted.text(name) {
                Some(text) => Some(text),
                None => return Verdict::Keep,
            },
            None => None,
        };
        let text = source.as_deref().unwrap_or(&entry.line);
        let Some(found) = pick(text, &self.wanted) else {
            return if self.drop_malformed { Verdict::Drop("json_stage") } else { Verdict::Keep };
        };
        for ((name, path), root) in self.wanted.iter().zip(&found) {
            let value = root.as_ref().and_then(|root| path.below(root)).unwrap_or(&Value::Null);
            let value = match value {
                // Structures are handed on as JSON text.
                Value::Array(_) | Value::Object(_) => Value::String(value.to_string()),
                // Go reads every number as float64.
                Value::Number(number) => number.as_f64().and_then(whole_or_float).unwrap_or(Value::Null),
                other => other.clone(),
            };
            entry.extracted.set(name, value);
        }
        Verdict::Keep
    }
}

/// A float64 as a JSON number, without a fraction where it has none.
fn whole_or_float(value: f64) -> Option<Value> {
    if value.fract() == 0.0 && value.abs() < 9e15 {
        return Some(Value::from(value as i64));
    }
    serde_json::Number::from_f64(value).map(Value::Number)
}

/// The values of the wanted top-level keys; everything else is skipped. `None` if the text is not one object.
fn pick(text: &str, wanted: &[(String, Path)]) -> Option<Vec<Option<Value>>> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let found = Roots(wanted).deserialize(&mut deserializer).ok()?;
    deserializer.end().ok().map(|()| found)
}

struct Roots<'a>(&'a [(String, Path)]);

impl<'de> DeserializeSeed<'de> for Roots<'_> {
    type Value = Vec<Option<Value>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Roots<'_> {
    type Value = Vec<Option<Value>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found: Vec<Option<Value>> = vec![None; self.0.len()];
        while let Some(key) = map.next_key::<std::borrow::Cow<'_, str>>()? {
            let mut takers = (0..self.0.len()).filter(|i| self.0[*i].1.root() == Some(&key));
            match takers.next() {
                None => drop(map.next_value::<IgnoredAny>()?),
                Some(first) => {
                    let value: Value = map.next_value()?;
                    for other in takers {
                        found[other] = Some(value.clone());
                    }
                    found[first] = Some(value);
                }
            }
        }
        Ok(found)
    }
}
