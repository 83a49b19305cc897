//! Values as TraceQL knows them: what a literal, an attribute or an aggregate holds.
//!
//! [`Value`] owns; [`ValueRef`] borrows from a batch so that rejecting a span allocates nothing. Both
//! hash and compare by type and exact content (floats by their bits), which is what grouping needs; the
//! comparison operators of the language live with the evaluation.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The status of a span, with OTLP's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Status {
    /// Not set.
    Unset = 0,
    /// Set to ok.
    Ok = 1,
    /// Failed.
    Error = 2,
}

impl Status {
    /// The status of an OTLP number; an unknown number is unset.
    pub fn from_otlp(number: u8) -> Self {
        match number {
            1 => Self::Ok,
            2 => Self::Error,
            _ => Self::Unset,
        }
    }

    /// The keyword.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unset => "unset",
            Self::Ok => "ok",
            Self::Error => "error",
        }
    }
}

/// The kind of a span, with OTLP's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// Not given.
    Unspecified = 0,
    /// Inside one process.
    Internal = 1,
    /// Answers a call.
    Server = 2,
    /// Makes a call.
    Client = 3,
    /// Writes to a queue.
    Producer = 4,
    /// Reads from a queue.
    Consumer = 5,
}

impl Kind {
    /// The kind of an OTLP number; an unknown number is unspecified.
    pub fn from_otlp(number: u8) -> Self {
        match number {
            1 => Self::Internal,
            2 => Self::Server,
            3 => Self::Client,
            4 => Self::Producer,
            5 => Self::Consumer,
            _ => Self::Unspecified,
        }
    }

    /// The keyword.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Internal => "internal",
            Self::Server => "server",
            Self::Client => "client",
            Self::Producer => "producer",
            Self::Consumer => "consumer",
        }
    }
}

/// A value of the language.
#[derive(Debug, Clone)]
pub enum Value {
    /// Nothing: an absent attribute.
    Nil,
    /// Text.
    Str(Arc<str>),
    /// A whole number.
    Int(i64),
    /// A floating point number.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// A time span in nanoseconds.
    Duration(i64),
    /// A span status.
    Status(Status),
    /// A span kind.
    Kind(Kind),
    /// An array attribute of more than one element (or none).
    Array(Vec<Value>),
}

impl Value {
    /// A text value.
    pub fn str(text: impl AsRef<str>) -> Self {
        Self::Str(Arc::from(text.as_ref()))
    }

    /// The same value, borrowed.
    pub fn borrow(&self) -> ValueRef<'_> {
        match self {
            Self::Nil => ValueRef::Nil,
            Self::Str(s) => ValueRef::Str(s),
            Self::Int(i) => ValueRef::Int(*i),
            Self::Float(f) => ValueRef::Float(*f),
            Self::Bool(b) => ValueRef::Bool(*b),
            Self::Duration(d) => ValueRef::Duration(*d),
            Self::Status(s) => ValueRef::Status(*s),
            Self::Kind(k) => ValueRef::Kind(*k),
            Self::Array(_) => ValueRef::Array(self.clone_array()),
        }
    }

    fn clone_array(&self) -> Arc<[Value]> {
        match self {
            Self::Array(items) => Arc::from(items.as_slice()),
            _ => Arc::from([]),
        }
    }

    /// Whether this is [`Value::Nil`].
    pub fn is_nil(&self) -> bool {
        matches!(self, Self::Nil)
    }

    /// The number this value stands for (durations in nanoseconds), if it is numeric.
    pub fn as_number(&self) -> Option<f64> {
        self.borrow().as_number()
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.borrow() == other.borrow()
    }
}

impl Eq for Value {}

impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.borrow().hash(state);
    }
}

/// A value borrowed from a batch.
#[derive(Debug, Clone)]
pub enum ValueRef<'a> {
    /// Nothing.
    Nil,
    /// Text.
    Str(&'a str),
    /// Text made for the occasion, such as an id in hex; equal to the same [`ValueRef::Str`].
    Shared(Arc<str>),
    /// A whole number.
    Int(i64),
    /// A floating point number.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// A time span in nanoseconds.
    Duration(i64),
    /// A span status.
    Status(Status),
    /// A span kind.
    Kind(Kind),
    /// An array, decoded.
    Array(Arc<[Value]>),
}

impl ValueRef<'_> {
    /// The owned form.
    pub fn to_value(&self) -> Value {
        match self {
            Self::Nil => Value::Nil,
            Self::Str(s) => Value::str(s),
            Self::Shared(s) => Value::Str(Arc::clone(s)),
            Self::Int(i) => Value::Int(*i),
            Self::Float(f) => Value::Float(*f),
            Self::Bool(b) => Value::Bool(*b),
            Self::Duration(d) => Value::Duration(*d),
            Self::Status(s) => Value::Status(*s),
            Self::Kind(k) => Value::Kind(*k),
            Self::Array(items) => Value::Array(items.to_vec()),
        }
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(s) => Some(s),
            Self::Shared(s) => Some(s),
            _ => None,
        }
    }

    /// The number this value stands for (durations in nanoseconds), if it is numeric.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Int(i) | Self::Duration(i) => Some(*i as f64),
            Self::Float(f) => Some(*f),
            _ => None,
        }
    }
}

impl ValueRef<'_> {
    /// The same value without a hold on where it came from (text is copied).
    pub(crate) fn detached<'b>(self) -> ValueRef<'b> {
        match self {
            Self::Nil => ValueRef::Nil,
            Self::Str(s) => ValueRef::Shared(s.into()),
            Self::Shared(s) => ValueRef::Shared(s),
            Self::Int(i) => ValueRef::Int(i),
            Self::Float(f) => ValueRef::Float(f),
            Self::Bool(b) => ValueRef::Bool(b),
            Self::Duration(d) => ValueRef::Duration(d),
            Self::Status(s) => ValueRef::Status(s),
            Self::Kind(k) => ValueRef::Kind(k),
            Self::Array(items) => ValueRef::Array(items),
        }
    }
}

impl PartialEq for ValueRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Nil, Self::Nil) => true,
            (Self::Str(_) | Self::Shared(_), Self::Str(_) | Self::Shared(_)) => {
                self.as_str() == other.as_str()
            }
            (Self::Int(a), Self::Int(b)) | (Self::Duration(a), Self::Duration(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits(),
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Status(a), Self::Status(b)) => a == b,
            (Self::Kind(a), Self::Kind(b)) => a == b,
            (Self::Array(a), Self::Array(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for ValueRef<'_> {}

impl Hash for ValueRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Nil => 0u8.hash(state),
            Self::Str(s) => (1u8, *s).hash(state),
            Self::Shared(s) => (1u8, &**s).hash(state),
            Self::Int(i) => (2u8, i).hash(state),
            Self::Float(f) => (3u8, f.to_bits()).hash(state),
            Self::Bool(b) => (4u8, b).hash(state),
            Self::Duration(d) => (5u8, d).hash(state),
            Self::Status(s) => (6u8, s).hash(state),
            Self::Kind(k) => (7u8, k).hash(state),
            Self::Array(items) => {
                8u8.hash(state);
                items.hash(state);
            }
        }
    }
}

/// The text of a value as the language writes it: strings in backquotes, durations as Go prints them.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("nil"),
            Self::Str(s) => write!(f, "`{s}`"),
            Self::Int(i) => write!(f, "{i}"),
            Self::Float(v) => write!(f, "{v}"),
            Self::Bool(b) => write!(f, "{b}"),
            Self::Duration(d) => f.write_str(&model::duration::format_go(*d)),
            Self::Status(s) => f.write_str(s.as_str()),
            Self::Kind(k) => f.write_str(k.as_str()),
            Self::Array(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if i > 0 { "," } else { "" })?;
                }
                f.write_str("]")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grouping_keeps_types_apart() {
        assert_ne!(Value::Int(2), Value::str("2"));
        assert_ne!(Value::Int(2), Value::Float(2.0));
        assert_eq!(Value::Float(f64::NAN), Value::Float(f64::NAN));
        assert_eq!(Value::Array(vec![Value::Int(2)]), Value::Array(vec![Value::Int(2)]));
    }
}
