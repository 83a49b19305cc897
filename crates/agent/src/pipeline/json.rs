//! `json`: values of a JSON object into the extracted map.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use jmespath::Variable;
use prometheus_client::metrics::counter::Counter;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use service::config::Value;

use super::compile::Compile;
use super::flat_json::{Flat, members};
use super::go_json;
use super::json_path::{Expression, Step, follow, search};
use super::{Edit, Stage, Verdict};
use crate::entry::Entry;
use crate::extracted::{Extract, Extracted};

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
struct JsonConfig {
    /// Name of the extracted value and where it stands; empty means under its own name.
    expressions: BTreeMap<String, Option<String>>,
    source: Option<String>,
    drop_malformed: bool,
}

struct JsonStage {
    places: Vec<Place>,
    general: Vec<(Arc<str>, jmespath::Expression<'static>)>,
    source: Option<Arc<str>>,
    drop_malformed: Option<Counter>,
    found: Found,
}

struct Place {
    name: Arc<str>,
    root: String,
    steps: Vec<Step>,
}

pub(super) fn compile(body: &Value, compile: &mut Compile<'_>) -> Option<Stage> {
    let config: JsonConfig = compile.read(body)?;
    let (mut places, mut general) = (Vec::new(), Vec::new());
    for (name, expression) in &config.expressions {
        let text = expression.as_deref().filter(|e| !e.is_empty()).unwrap_or(name);
        let compiled = Expression::parse(text).map_err(|e| {
            format!("'{text}' is no JMESPath (a name with other than letters, digits and _ stands in double quotes): {e}")
        });
        match compiled {
            Ok(Expression::Place { root, steps }) => {
                places.push(Place { name: name.as_str().into(), root, steps });
            }
            Ok(Expression::General(expression)) => general.push((name.as_str().into(), expression)),
            Err(problem) => compile.problem(body, &format!("expressions.{name}"), &problem)?,
        }
    }
    if config.expressions.is_empty() {
        return compile.problem(body, "expressions", "name at least one value");
    }
    let source = compile.source(body, config.source)?;
    Stage::edit(JsonStage {
        places,
        general,
        source,
        drop_malformed: config.drop_malformed.then(|| compile.dropped("malformed_json")),
        found: Found::default(),
    })
}

impl Edit for JsonStage {
    fn edit(&mut self, entry: &mut Entry, _: Instant) -> Verdict {
        let Self { places, general, source, drop_malformed, found } = self;
        let extracted = &entry.extracted;
        let mut text = match source {
            Some(name) => match extracted.text(name) {
                Some(text) => text,
                None => return Verdict::Keep,
            },
            None => Cow::Borrowed(entry.line.as_str()),
        };
        let mut is_object = found.read(&text, places);
        if !is_object && let Some(mended) = go_json::mended(&text) {
            text = Cow::Owned(mended);
            is_object = found.read(&text, places);
        }
        if !is_object {
            return match drop_malformed {
                Some(dropped) => {
                    dropped.inc();
                    Verdict::Drop
                }
                None => Verdict::Keep,
            };
        }
        let tree = (!general.is_empty()).then(|| Variable::from_json(&text).ok()).flatten();
        for (place, value) in places.iter().zip(&found.values) {
            entry.extracted.set(&place.name, value.view(&found.texts));
        }
        if let Some(tree) = tree.map(jmespath::Rcvar::new) {
            for (name, expression) in general {
                if let Some(value) = search(expression, &tree) {
                    set(&mut entry.extracted, name, &value);
                }
            }
        }
        Verdict::Keep
    }
}

/// Sets a value as the stage does.
pub(super) fn set(extracted: &mut Extracted, name: &Arc<str>, value: &Json) {
    let mut texts = String::new();
    let value = Slot::of(value, &mut texts);
    extracted.set(name, value.view(&texts));
}

/// Values of one text in the order of the places, kept apart until the whole text is known to be JSON.
#[derive(Debug, Default)]
struct Found {
    values: Vec<Slot>,
    texts: String,
}

#[derive(Debug, Clone, Copy)]
enum Slot {
    Null,
    Bool(bool),
    Number(f64),
    Text(usize, usize),
}

impl Slot {
    /// Structures are handed on as JSON text; every number is a float, as in Go.
    fn of(value: &Json, texts: &mut String) -> Self {
        match value {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => number.as_f64().map_or(Self::Null, Self::Number),
            Json::String(text) => Self::text(text, texts),
            structure => {
                let start = texts.len();
                let style = go_json::Style { escape_html: true, integers: false, indent: false };
                go_json::write(structure, style, texts);
                Self::Text(start, texts.len())
            }
        }
    }

    fn text(text: &str, texts: &mut String) -> Self {
        let start = texts.len();
        texts.push_str(text);
        Self::Text(start, texts.len())
    }

    fn view(self, texts: &str) -> Extract<'_> {
        match self {
            Self::Null => Extract::Null,
            Self::Bool(value) => Extract::Bool(value),
            Self::Number(value) => Extract::Number(value),
            Self::Text(start, end) => Extract::Text(&texts[start..end]),
        }
    }
}

impl Found {
    /// Reads the places of a JSON object; everything else is skipped. `false` if the text is not one object, nor `null`.
    fn read(&mut self, text: &str, places: &[Place]) -> bool {
        self.values.clear();
        self.values.resize(places.len(), Slot::Null);
        self.texts.clear();
        if !text.trim_ascii_start().starts_with('{') {
            return text.trim_ascii() == "null";
        }
        if self.read_flat(text, places) {
            return true;
        }
        self.values.fill(Slot::Null);
        self.texts.clear();
        let mut deserializer = serde_json::Deserializer::from_str(text);
        Object { found: self, places }.deserialize(&mut deserializer).is_ok() && deserializer.end().is_ok()
    }
}

impl Found {
    /// The same of an object that can be read at a glance; `false` says that it takes a parser.
    fn read_flat(&mut self, text: &str, places: &[Place]) -> bool {
        members(text, |key, value| {
            let mut takers = places.iter().enumerate().filter(|(_, place)| place.root == key);
            let at = match (takers.next(), takers.next()) {
                (None, _) => return true,
                (Some((at, place)), None) if place.steps.is_empty() => at,
                (Some(_), _) => return false,
            };
            self.values[at] = match value {
                Flat::Null => Slot::Null,
                Flat::Bool(value) => Slot::Bool(value),
                Flat::Text(text) => Slot::text(text, &mut self.texts),
                // Whole numbers that a float holds exactly.
                Flat::Number(digits) if digits.len() <= 15 => match digits.parse::<i64>() {
                    Ok(0) if digits.starts_with('-') => return false,
                    Ok(value) => Slot::Number(value as f64),
                    Err(_) => return false,
                },
                Flat::Number(_) | Flat::Escaped => return false,
            };
            true
        })
    }
}

struct Object<'a> {
    found: &'a mut Found,
    places: &'a [Place],
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { found, places } = self;
        while let Some(takers) = map.next_key_seed(Key(places))? {
            match takers {
                Takers::None => drop(map.next_value::<IgnoredAny>()?),
                Takers::Scalar(at) => {
                    found.values[at] = map.next_value_seed(Scalar(&mut found.texts))?;
                }
                Takers::Many(root) => {
                    let value: Json = map.next_value()?;
                    for (at, place) in places.iter().enumerate().filter(|(_, p)| p.root == root) {
                        found.values[at] = follow(&value, &place.steps)
                            .map_or(Slot::Null, |value| Slot::of(value, &mut found.texts));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Who wants the value of a key.
enum Takers<'a> {
    None,
    /// One place, and it is the value itself.
    Scalar(usize),
    /// Places below this key.
    Many(&'a str),
}

struct Key<'a>(&'a [Place]);

impl<'de, 'a> DeserializeSeed<'de> for Key<'a> {
    type Value = Takers<'a>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Takers<'a>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for Key<'a> {
    type Value = Takers<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<Takers<'a>, E> {
        let mut takers = self.0.iter().enumerate().filter(|(_, place)| place.root == key);
        Ok(match (takers.next(), takers.next()) {
            (None, _) => Takers::None,
            (Some((at, place)), None) if place.steps.is_empty() => Takers::Scalar(at),
            (Some((_, place)), _) => Takers::Many(&place.root),
        })
    }
}

/// Takes a value as it stands; texts go behind those that are there already.
struct Scalar<'a>(&'a mut String);

impl<'de> DeserializeSeed<'de> for Scalar<'_> {
    type Value = Slot;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Slot, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Scalar<'_> {
    type Value = Slot;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Slot, E> {
        Ok(Slot::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Slot, E> {
        Ok(Slot::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Slot, E> {
        Ok(Slot::Number(value as f64))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Slot, E> {
        Ok(Slot::Number(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Slot, E> {
        Ok(Slot::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Slot, E> {
        Ok(Slot::text(value, self.0))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Slot, A::Error> {
        let value = Json::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Slot::of(&value, self.0))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Slot, A::Error> {
        let value = Json::deserialize(SeqAccessDeserializer::new(seq))?;
        Ok(Slot::of(&value, self.0))
    }
}
