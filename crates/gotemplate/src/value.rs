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

/// A whole number as Go's literals write it: `0x1f`, `0b1`, `0o17` and `017` too. A fraction is cut off.
fn whole(text: &str) -> Option<i64> {
    let text = match text.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|b| b.is_ascii_digit()) => whole,
        Some(_) => return None,
        None => text,
    };
    let digits = text.trim_start_matches(['+', '-']);
    let sign = match text.len() - digits.len() {
        0 => "",
        1 => &text[..1],
        _ => return None,
    };
    let small = digits.to_ascii_lowercase();
    let bases = [("0x", 16), ("0b", 2), ("0o", 8), ("0", 8)];
    let (digits, base) = bases
        .iter()
        .find_map(|(prefix, base)| Some((small.strip_prefix(prefix).filter(|rest| !rest.is_empty())?, *base)))
        .unwrap_or((&small, 10));
    i64::from_str_radix(&format!("{sign}{}", digits.replace('_', "")), base).ok()
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
            Self::Text(text) => whole(text).unwrap_or_default(),
            _ => 0,
        }
    }

    /// As the float functions take it: what cannot be converted is 0.
    pub fn to_float(&self) -> f64 {
        match self {
            Self::Int(value) => *value as f64,
            Self::Float(value) => *value,
            Self::Bool(value) => f64::from(u8::from(*value)),
            Self::Text(text) => text.parse().unwrap_or_default(),
            _ => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers() {
        let check = |text: &str, want| assert_eq!(Value::text(text).to_int(), want, "{text}");
        for (text, want) in
            [("12", 12), ("-0x1F", -31), ("017", 15), ("0b101", 5), ("1_000", 1000), ("2.9", 2)]
        {
            check(text, want);
        }
        for text in ["", "x", " 1", "1e3", "--1", "08", "0x", "1.x"] {
            check(text, 0);
        }
    }
}
