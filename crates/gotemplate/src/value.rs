//! Values of templates.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// A value; texts are borrowed from the data where possible.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'r> {
    /// Nothing.
    Nil,
    /// A truth value.
    Bool(bool),
    /// Any of Go's integers.
    Int(i64),
    /// Any of Go's floats.
    Float(f64),
    /// A string.
    Text(Cow<'r, str>),
    /// Nanoseconds since the epoch.
    Time(i64),
    /// A slice.
    List(Vec<Value<'r>>),
    /// A map by string.
    Map(BTreeMap<String, Value<'r>>),
    /// All of the data, which is looked at where it lies. Functions are given it as a map.
    Data,
}

impl<'r> Value<'r> {
    /// A text.
    pub fn text(text: impl Into<Cow<'r, str>>) -> Self {
        Self::Text(text.into())
    }

    /// Whether `if` takes the value for true. `data` says it of the data.
    pub fn is_true(&self, data: bool) -> bool {
        match self {
            Self::Nil => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::Time(_) => true,
            Self::List(list) => !list.is_empty(),
            Self::Map(map) => !map.is_empty(),
            Self::Data => data,
        }
    }

    /// The type as Go names it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float64",
            Self::Text(_) => "string",
            Self::Time(_) => "time.Time",
            Self::List(_) => "[]interface {}",
            Self::Map(_) => "map[string]interface {}",
            Self::Data => "map[string]string",
        }
    }

    /// Compares values of one basic kind.
    pub fn order(&self, other: &Self) -> Result<Ordering, String> {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => Ok(a.cmp(b)),
            (Self::Float(a), Self::Float(b)) => a.partial_cmp(b).ok_or_else(|| "NaN has no order".to_owned()),
            (Self::Text(a), Self::Text(b)) => Ok(a.cmp(b)),
            (
                Self::Int(_) | Self::Float(_) | Self::Text(_),
                Self::Int(_) | Self::Float(_) | Self::Text(_),
            ) => Err("incompatible types for comparison".to_owned()),
            _ => Err("invalid type for comparison".to_owned()),
        }
    }

    /// Whether two values are equal; an error if their types cannot be compared.
    pub fn equals(&self, other: &Self) -> Result<bool, String> {
        match (self, other) {
            (Self::Nil, _) | (_, Self::Nil) => Ok(matches!((self, other), (Self::Nil, Self::Nil))),
            (Self::Bool(a), Self::Bool(b)) => Ok(a == b),
            (Self::Float(a), Self::Float(b)) => Ok(a == b),
            (Self::Time(a), Self::Time(b)) => Ok(a == b),
            (Self::List(_) | Self::Map(_) | Self::Data, _) => {
                Err(format!("non-comparable type {}", self.kind()))
            }
            _ => self.order(other).map(Ordering::is_eq),
        }
    }

    /// A JSON value; numbers are floats.
    pub fn from_json(json: serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Self::Nil,
            serde_json::Value::Bool(value) => Self::Bool(value),
            serde_json::Value::Number(number) => Self::Float(number.as_f64().unwrap_or_default()),
            serde_json::Value::String(text) => Self::text(text),
            serde_json::Value::Array(list) => Self::List(list.into_iter().map(Self::from_json).collect()),
            serde_json::Value::Object(map) => {
                Self::Map(map.into_iter().map(|(key, value)| (key, Self::from_json(value))).collect())
            }
        }
    }
}

/// A float as an integer, cut off; saturating.
pub(crate) fn truncate(value: f64) -> i64 {
    value as i64
}

impl Value<'_> {
    /// As the integer functions take it: what cannot be converted is 0.
    pub fn to_int(&self) -> i64 {
        match self {
            Self::Int(value) => *value,
            Self::Float(value) => truncate(*value),
            Self::Bool(value) => i64::from(*value),
            Self::Text(text) => {
                let text = text.trim();
                text.parse().or_else(|_| text.parse().map(truncate)).unwrap_or_default()
            }
            _ => 0,
        }
    }

    /// As the float functions take it: what cannot be converted is 0.
    pub fn to_float(&self) -> f64 {
        match self {
            Self::Int(value) => *value as f64,
            Self::Float(value) => *value,
            Self::Bool(value) => f64::from(u8::from(*value)),
            Self::Text(text) => text.trim().parse().unwrap_or_default(),
            _ => 0.0,
        }
    }
}
