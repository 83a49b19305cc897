//! Which attributes exist, of which types, how often, and their values where those are few.
//!
//! Counted while a request is decoded, merged into the head, and written to the block's index:
//! so tag names and most tag values are answered, columns chosen and whole blocks ruled out
//! without a look at the rows.

use std::collections::BTreeSet;

use hashbrown::{DefaultHashBuilder, Equivalent, HashMap};
use serde::{Deserialize, Serialize};

/// Where an attribute stands. `Intrinsic` holds the string-like facts of the spans themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scope {
    /// `span.x`
    Span,
    /// `resource.x`
    Resource,
    /// `event.x`
    Event,
    /// `link.x`
    Link,
    /// `instrumentation.x`
    Instrumentation,
    /// `name`, `status`, `event:name` …
    Intrinsic,
}

/// All scopes of attributes, in the order in which an unscoped name is looked up.
pub(crate) const SCOPES: [Scope; 5] =
    [Scope::Span, Scope::Resource, Scope::Event, Scope::Link, Scope::Instrumentation];

/// Type of an attribute's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Type {
    /// A string.
    Str,
    /// A 64-bit integer.
    Int,
    /// A 64-bit float.
    Float,
    /// A boolean.
    Bool,
    /// A list; kept as the OTLP/JSON text of its value.
    Array,
    /// Bytes, a map, or nothing: kept, but not queryable.
    Other,
}

/// A value that may enter a [`Values`] set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Scalar<'a> {
    /// A string.
    Str(&'a str),
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
    /// A boolean.
    Bool(bool),
    /// Something whose values are not collected.
    Opaque(Type),
}

impl Scalar<'_> {
    /// The type of the value.
    pub(crate) fn of(self) -> Type {
        match self {
            Self::Str(_) => Type::Str,
            Self::Int(_) => Type::Int,
            Self::Float(_) => Type::Float,
            Self::Bool(_) => Type::Bool,
            Self::Opaque(t) => t,
        }
    }
}

/// The standard set (which serde knows) with a quick hash.
pub(crate) type HashSet<T> = std::collections::HashSet<T, DefaultHashBuilder>;

/// The distinct values of one attribute and type, as long as they are few.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Values {
    /// All strings that occur.
    Strs(HashSet<Box<str>>),
    /// All integers (or booleans as 0 and 1).
    Ints(BTreeSet<i64>),
    /// All floats, by their bits.
    Floats(BTreeSet<u64>),
    /// Too many to list, or not listed for this type.
    Many,
}

/// Above this many distinct values, or this many bytes of strings, a set is given up.
const MAX_VALUES: usize = 256;
const MAX_VALUE_BYTES: usize = 8 << 10;

impl Values {
    fn new(of: Type) -> Self {
        match of {
            Type::Str => Self::Strs(HashSet::default()),
            Type::Int | Type::Bool => Self::Ints(BTreeSet::new()),
            Type::Float => Self::Floats(BTreeSet::new()),
            Type::Array | Type::Other => Self::Many,
        }
    }

    fn add(&mut self, value: Scalar<'_>) {
        let full = match (&mut *self, value) {
            (Self::Many, _) => return,
            (Self::Strs(set), Scalar::Str(text)) => {
                if set.contains(text) {
                    return;
                }
                set.insert(text.into());
                set.len() > MAX_VALUES || text.len() > MAX_VALUE_BYTES / MAX_VALUES && too_long(set)
            }
            (Self::Ints(set), Scalar::Int(n)) => set.insert(n) && set.len() > MAX_VALUES,
            (Self::Ints(set), Scalar::Bool(b)) => set.insert(b.into()) && set.len() > MAX_VALUES,
            (Self::Floats(set), Scalar::Float(f)) => set.insert(f.to_bits()) && set.len() > MAX_VALUES,
            _ => true,
        };
        if full {
            *self = Self::Many;
        }
    }

    fn merge(&mut self, other: Self) {
        let full = match (&mut *self, other) {
            (Self::Many, _) => return,
            (Self::Strs(a), Self::Strs(b)) => {
                a.extend(b);
                a.len() > MAX_VALUES || too_long(a)
            }
            (Self::Ints(a), Self::Ints(b)) => {
                a.extend(b);
                a.len() > MAX_VALUES
            }
            (Self::Floats(a), Self::Floats(b)) => {
                a.extend(b);
                a.len() > MAX_VALUES
            }
            _ => true,
        };
        if full {
            *self = Self::Many;
        }
    }
}

fn too_long(set: &HashSet<Box<str>>) -> bool {
    set.iter().map(|s| s.len()).sum::<usize>() > MAX_VALUE_BYTES
}

/// What is known of one attribute with one type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// The type.
    #[serde(rename = "type")]
    pub of: Type,
    /// In how many spans (resources are counted per span too; events and links one by one).
    pub count: u64,
    /// Its values.
    pub values: Values,
}

/// What is known of one attribute.
#[derive(Debug, Clone, Default)]
pub(crate) struct Key {
    /// By type.
    pub usages: Vec<Usage>,
    /// Whether some span has it twice.
    pub repeated: bool,
    /// The span that had it last, to notice a repetition.
    last_span: u64,
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.usages == other.usages && self.repeated == other.repeated
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Name(Scope, Box<str>);

#[derive(Hash)]
struct NameRef<'a>(Scope, &'a str);

impl Equivalent<Name> for NameRef<'_> {
    fn equivalent(&self, key: &Name) -> bool {
        self.0 == key.0 && *self.1 == *key.1
    }
}

/// The attributes of a set of spans.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Listed>", into = "Vec<Listed>")]
pub(crate) struct Keys {
    map: HashMap<Name, Key>,
    /// Counts calls of [`Keys::next_span`].
    span: u64,
}

#[derive(Clone, Serialize, Deserialize)]
struct Listed {
    scope: Scope,
    name: Box<str>,
    usages: Vec<Usage>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    repeated: bool,
}

impl PartialEq for Keys {
    fn eq(&self, other: &Self) -> bool {
        self.map == other.map
    }
}

impl Keys {
    /// Tells that what follows belongs to another span.
    pub(crate) fn next_span(&mut self) {
        self.span += 1;
    }

    /// Counts `times` occurrences of a value.
    pub(crate) fn add(&mut self, scope: Scope, name: &str, value: Scalar<'_>, times: u64) {
        let key = match self.map.get_mut(&NameRef(scope, name)) {
            Some(key) => key,
            None => self.map.entry(Name(scope, name.into())).or_default(),
        };
        if scope == Scope::Span {
            key.repeated |= self.span > 0 && std::mem::replace(&mut key.last_span, self.span) == self.span;
        }
        let usages = &mut key.usages;
        let of = value.of();
        let usage = match usages.iter().position(|u| u.of == of) {
            Some(i) => &mut usages[i],
            None => {
                usages.push(Usage { of, count: 0, values: Values::new(of) });
                let last = usages.len() - 1;
                &mut usages[last]
            }
        };
        usage.count += times;
        usage.values.add(value);
    }

    /// Adds what another set of spans holds.
    pub(crate) fn merge(&mut self, other: Self) {
        for (name, theirs) in other.map {
            let mine = self.map.entry(name).or_default();
            mine.repeated |= theirs.repeated;
            for usage in theirs.usages {
                match mine.usages.iter_mut().find(|u| u.of == usage.of) {
                    Some(mine) => {
                        mine.count += usage.count;
                        mine.values.merge(usage.values);
                    }
                    None => mine.usages.push(usage),
                }
            }
        }
    }

    /// What is known of an attribute; empty if it does not occur.
    pub(crate) fn get(&self, scope: Scope, name: &str) -> &[Usage] {
        self.map.get(&NameRef(scope, name)).map(|key| key.usages.as_slice()).unwrap_or_default()
    }

    /// Whether some span has this attribute twice.
    pub(crate) fn is_repeated(&self, name: &str) -> bool {
        self.map.get(&NameRef(Scope::Span, name)).is_some_and(|key| key.repeated)
    }

    /// All attributes with their usages, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Scope, &str, &[Usage])> {
        self.map.iter().map(|(Name(scope, name), key)| (*scope, &**name, key.usages.as_slice()))
    }
}

impl From<Vec<Listed>> for Keys {
    fn from(list: Vec<Listed>) -> Self {
        let key = |l: Listed| {
            let key = Key { usages: l.usages, repeated: l.repeated, last_span: 0 };
            (Name(l.scope, l.name), key)
        };
        Self { map: list.into_iter().map(key).collect(), span: 0 }
    }
}

impl From<Keys> for Vec<Listed> {
    fn from(keys: Keys) -> Self {
        let mut list: Vec<_> = keys
            .map
            .into_iter()
            .map(|(Name(scope, name), Key { usages, repeated, .. })| Listed { scope, name, usages, repeated })
            .collect();
        list.sort_by(|a, b| (a.scope, &a.name).cmp(&(b.scope, &b.name)));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_type_and_gives_up_on_many_values() {
        let mut keys = Keys::default();
        keys.next_span();
        keys.add(Scope::Span, "a", Scalar::Str("x"), 1);
        keys.next_span();
        keys.add(Scope::Span, "a", Scalar::Str("x"), 1);
        assert!(!keys.is_repeated("a"));
        keys.add(Scope::Span, "a", Scalar::Int(3), 2);
        keys.add(Scope::Resource, "a", Scalar::Bool(true), 1);
        for i in 0..300 {
            keys.add(Scope::Span, "many", Scalar::Int(i), 1);
        }
        keys.add(Scope::Span, "list", Scalar::Opaque(Type::Array), 1);
        assert!(keys.is_repeated("a"));
        let a = keys.get(Scope::Span, "a");
        assert_eq!((a[0].of, a[0].count), (Type::Str, 2));
        assert_eq!(a[0].values, Values::Strs(["x".into()].into_iter().collect()));
        assert_eq!((a[1].of, a[1].count), (Type::Int, 2));
        assert_eq!(keys.get(Scope::Span, "many")[0].values, Values::Many);
        assert_eq!(keys.get(Scope::Span, "list")[0].values, Values::Many);
        assert_eq!(keys.get(Scope::Link, "a"), &[]);

        let text = serde_json::to_string(&keys).unwrap();
        assert_eq!(serde_json::from_str::<Keys>(&text).unwrap(), keys);

        let mut twice = keys.clone();
        twice.merge(keys);
        assert_eq!(twice.get(Scope::Span, "a")[0].count, 4);
        assert_eq!(twice.get(Scope::Span, "many")[0].count, 600);
    }

    #[test]
    fn long_strings_end_a_set() {
        let mut keys = Keys::default();
        for i in 0..10 {
            keys.add(Scope::Span, "text", Scalar::Str(&format!("{i}{}", "x".repeat(1000))), 1);
        }
        assert_eq!(keys.get(Scope::Span, "text")[0].values, Values::Many);
    }
}
