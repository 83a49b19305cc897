//! Reads a [`Node`] tree as any `Deserialize` type and finds every problem, not only the first.
//!
//! Serde stops at the first error. So: on an error, note it, take the offending node out, and read again, until a reading
//! succeeds; fields whose node was taken out fall back to their defaults. Structs see the serialized defaults behind the
//! user's keys, so a default written in an outer `Default` holds when the user writes only part of a section. Unknown keys
//! of structs are noted on the way (not through `#[serde(flatten)]` or untagged enums: serde hides those from us).

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashSet},
    fmt,
};

use serde::{
    Serialize,
    de::{
        self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Unexpected, Visitor,
        value::StrDeserializer,
    },
};

use super::{
    Problem, Problems, Unneeded, VALUE,
    node::{Kind, Node, Origin, Plain, float, int},
    path::Path,
};

/// More than anyone reads; also bounds the work.
const MAX_ROUNDS: usize = 200;

/// Reads `node`, which stands at `base`, as `T` over `T::default()`. `None` when nothing of it can be used.
pub(super) fn read<T: Default + Serialize + DeserializeOwned>(
    node: &Node,
    base: &Path,
    unneeded: &Unneeded,
    problems: &mut Problems,
) -> Option<T> {
    read_over(&T::default(), node, base, unneeded, problems)
}

/// The same over other defaults.
pub(super) fn read_over<T: Serialize + DeserializeOwned>(
    default: &T,
    node: &Node,
    base: &Path,
    unneeded: &Unneeded,
    problems: &mut Problems,
) -> Option<T> {
    let default = serde_json::to_value(default).map(|value| Node::from_json(&value)).ok();
    let mut cx = Context { unneeded, base: base.len(), ..Context::default() };
    let mut result = None;
    for _ in 0..MAX_ROUNDS {
        let reader = De { node, default: default.as_ref(), unwritten: false, path: base.clone(), cx: &cx };
        let error = match T::deserialize(reader) {
            Ok(value) => {
                result = Some(value);
                break;
            }
            Err(error) => error,
        };
        let (at, origin) = error.at.unwrap_or_else(|| (base.clone(), node.origin));
        let told = match error.field {
            Some(field) => at.key(field),
            None => at.clone(),
        };
        if error.duplicate && cx.bare.insert(told.clone()) {
            continue; // an alias of a field that also has a default
        }
        // A required field that we took out ourselves was reported then.
        let reported = error.message.is_empty() || (told != at && cx.out.contains(&told));
        if !reported {
            cx.note(&told, origin, error.message);
        }
        let fresh = cx.out.insert(at.clone()) || cx.bare.insert(at.clone());
        if at.len() <= base.len() || !fresh {
            break;
        }
    }
    let found = cx.found.into_inner();
    problems.list.extend(found.list);
    for path in found.unneeded {
        problems.unneeded.insert(path);
    }
    result
}

#[derive(Default)]
struct Found {
    list: Vec<Problem>,
    seen: HashSet<(Path, String)>,
    unneeded: BTreeSet<String>,
}

struct Context<'a> {
    unneeded: &'a Unneeded,
    base: usize,
    /// Nodes taken out.
    out: HashSet<Path>,
    /// Fields whose default is not offered: a default that cannot be read back, or whose alias the user wrote.
    bare: HashSet<Path>,
    found: RefCell<Found>,
}

impl Default for Context<'_> {
    fn default() -> Self {
        static NONE: Unneeded = Unneeded(Vec::new());
        Context {
            unneeded: &NONE,
            base: 0,
            out: HashSet::new(),
            bare: HashSet::new(),
            found: RefCell::default(),
        }
    }
}

impl Context<'_> {
    fn note(&self, path: &Path, origin: Origin, message: String) {
        let mut found = self.found.borrow_mut();
        if found.seen.insert((path.clone(), message.clone())) {
            found.list.push(Problem::at(path, origin, message));
        }
    }

    fn unknown(&self, path: &Path, key: &str, origin: Origin, fields: &[&str]) {
        if self.unneeded.covers(path, self.base) {
            self.found.borrow_mut().unneeded.insert(path.to_string());
            return;
        }
        let near = fields.iter().map(|field| (distance(key, field), field)).min();
        let message = match near {
            Some((n, field)) if n <= 2 && n < key.len() => format!("unknown key, did you mean `{field}`?"),
            _ => "unknown key".to_owned(),
        };
        self.note(path, origin, message);
    }
}

/// Edits between two short words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[derive(Debug)]
struct Error {
    at: Option<(Path, Origin)>,
    /// A field of the node at `at` that the message is about.
    field: Option<&'static str>,
    duplicate: bool,
    message: String,
}

impl Error {
    fn new(message: impl Into<String>) -> Error {
        Error { at: None, field: None, duplicate: false, message: message.into() }
    }

    /// The innermost place wins.
    fn at(mut self, path: &Path, node: &Node) -> Error {
        self.at.get_or_insert_with(|| (path.clone(), node.origin));
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Error {
        Error::new(message.to_string())
    }

    fn invalid_type(got: Unexpected<'_>, expected: &dyn de::Expected) -> Error {
        Error::new(format!("expected {expected}, got {got}"))
    }

    fn invalid_value(got: Unexpected<'_>, expected: &dyn de::Expected) -> Error {
        Error::new(format!("expected {expected}, got {got}"))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Error {
        Error::new(format!("`{variant}` is not one of {}", expected.join(", ")))
    }

    fn unknown_field(field: &str, _: &'static [&'static str]) -> Error {
        Error::new(format!("unknown key `{field}`"))
    }

    fn missing_field(field: &'static str) -> Error {
        Error { field: Some(field), ..Error::new("is required") }
    }

    fn duplicate_field(field: &'static str) -> Error {
        Error { field: Some(field), duplicate: true, ..Error::new("is there twice, under two names") }
    }
}

#[derive(Clone)]
struct De<'a> {
    node: &'a Node,
    /// What stands here when the user wrote only part.
    default: Option<&'a Node>,
    /// The user wrote nothing here: `node` is the default itself.
    unwritten: bool,
    path: Path,
    cx: &'a Context<'a>,
}

impl<'a> De<'a> {
    fn child(&self, key: &str, node: &'a Node, default: Option<&'a Node>) -> De<'a> {
        let default = default.filter(|default| !default.is_null());
        De { node, default, unwritten: false, path: self.path.key(key), cx: self.cx }
    }

    /// The node, or the default where the user wrote a key and no value.
    fn effective(&self) -> &'a Node {
        match self.default {
            Some(default) if self.node.is_null() => default,
            _ => self.node,
        }
    }

    fn expected(&self, what: &str) -> Error {
        Error::new(format!("expected {what}, got {}", self.node.describe()))
    }

    fn text(&self, what: &str) -> Result<&'a str, Error> {
        match &self.effective().kind {
            Kind::Scalar { text, .. } => Ok(text),
            _ => Err(self.expected(what)),
        }
    }

    fn integer(&self, min: i128, max: i128) -> Result<i128, Error> {
        let what = || match (min, max) {
            (0, max) if max < i128::from(u64::MAX) => format!("a whole number from 0 to {max}"),
            (0, _) => "a whole number, not negative".to_owned(),
            (min, max) if max < i128::from(i64::MAX) => format!("a whole number from {min} to {max}"),
            _ => "a whole number".to_owned(),
        };
        let text = self.text(&what())?;
        let whole = || float(text).filter(|f| f.fract() == 0.0 && f.abs() < 9e15).map(|f| f as i128);
        match int(text).or_else(whole) {
            Some(n) if (min..=max).contains(&n) => Ok(n),
            _ => Err(self.expected(&what())),
        }
    }

    fn is_out(&self, path: &Path) -> bool {
        self.cx.out.contains(path)
    }
}

macro_rules! integers {
    ($($method:ident $visit:ident $type:ty,)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let n = self.integer(<$type>::MIN as i128, <$type>::MAX as i128)?;
            visitor.$visit(n as $type)
        }
    )*};
}

impl<'de> de::Deserializer<'de> for De<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.kind {
            Kind::List(_) => self.deserialize_seq(visitor),
            Kind::Map(_) => self.deserialize_map(visitor),
            Kind::Scalar { text, plain: false } => visitor.visit_str(text),
            Kind::Scalar { text, plain: true } => match Plain::read(text) {
                Plain::Null => visitor.visit_unit(),
                Plain::Bool(b) => visitor.visit_bool(b),
                Plain::Int(n) => match (u64::try_from(n), i64::try_from(n)) {
                    (Ok(n), _) => visitor.visit_u64(n),
                    (_, Ok(n)) => visitor.visit_i64(n),
                    _ => visitor.visit_str(text),
                },
                Plain::Float(f) => visitor.visit_f64(f),
                Plain::Text => visitor.visit_str(text),
            },
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.text("true or false")?.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => visitor.visit_bool(true),
            "false" | "no" | "off" => visitor.visit_bool(false),
            _ => Err(self.expected("true or false")),
        }
    }

    integers! {
        deserialize_i8 visit_i8 i8,
        deserialize_i16 visit_i16 i16,
        deserialize_i32 visit_i32 i32,
        deserialize_i64 visit_i64 i64,
        deserialize_u8 visit_u8 u8,
        deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32,
        deserialize_u64 visit_u64 u64,
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let text = self.text("a number")?;
        match float(text).or_else(|| int(text).map(|n| n as f64)) {
            Some(f) => visitor.visit_f64(f),
            None => Err(self.expected("a number")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let text = self.text("text")?;
        if self.effective().is_null() { visitor.visit_str("") } else { visitor.visit_str(text) }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.node.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        if name == VALUE {
            // Serde knows no way to hand over a type of our own but as text.
            let text = serde_json::to_string(&(&self.path, self.node)).map_err(de::Error::custom)?;
            return visitor.visit_str(&text);
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let node = self.effective();
        match &node.kind {
            Kind::List(items) => visitor.visit_seq(Items { de: &self, items: items.iter().enumerate() }),
            _ if node.is_null() => visitor.visit_seq(Items { de: &self, items: [].iter().enumerate() }),
            _ => Err(self.expected("a list")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let node = self.effective();
        let entries: &[(String, Node)] = match &node.kind {
            Kind::Map(entries) => entries,
            _ if node.is_null() => &[],
            _ => return Err(self.expected("a map")),
        };
        let entries = entries.iter().map(|(key, node)| (key.as_str(), self.child(key, node, None)));
        let entries = entries.filter(|(_, child)| !self.is_out(&child.path)).collect::<Vec<_>>();
        visitor.visit_map(Entries { entries: entries.into_iter(), value: None })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let written: &[(String, Node)] = match &self.node.kind {
            _ if self.unwritten || self.node.is_null() => &[],
            Kind::Map(entries) => entries,
            _ => return Err(self.expected("a map")),
        };
        let defaults: &[(String, Node)] = match self.default.map(|node| &node.kind) {
            Some(Kind::Map(entries)) => entries,
            _ => &[],
        };
        let default = |key: &str| defaults.iter().find(|(k, _)| k == key).map(|(_, node)| node);
        let mut entries = Vec::new();
        for (key, node) in written {
            let child = self.child(key, node, default(key));
            if !fields.contains(&key.as_str()) {
                self.cx.unknown(&child.path, key, node.origin, fields);
            } else if !self.is_out(&child.path) {
                entries.push((key.as_str(), child));
            }
        }
        for (key, node) in defaults {
            let child = self.child(key, node, Some(node));
            let taken = entries.iter().any(|(k, _)| k == key);
            if fields.contains(&key.as_str())
                && !taken
                && !node.is_null()
                && !self.cx.bare.contains(&child.path)
            {
                entries.push((key, De { unwritten: true, ..child }));
            }
        }
        visitor.visit_map(Entries { entries: entries.into_iter(), value: None })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match &self.effective().kind {
            Kind::Scalar { text, .. } => {
                visitor.visit_enum(IntoDeserializer::<Error>::into_deserializer(text.as_str()))
            }
            Kind::Map(entries) if entries.len() == 1 => {
                let (key, node) = &entries[0];
                let de = self.child(key, node, None);
                if self.is_out(&de.path) {
                    return Err(Error::new("")); // reported when it was taken out
                }
                visitor.visit_enum(Variant { key, de })
            }
            _ => Err(self.expected("a name, or a map with one key")),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! { i128 u128 unit unit_struct identifier }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }
}

struct Items<'a, 'b> {
    de: &'b De<'a>,
    items: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
}

impl<'de> de::SeqAccess<'de> for Items<'_, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        for (index, node) in self.items.by_ref() {
            let path = self.de.path.index(index);
            if self.de.is_out(&path) {
                continue;
            }
            let child = De { node, default: None, unwritten: false, path: path.clone(), cx: self.de.cx };
            return seed.deserialize(child).map(Some).map_err(|error| error.at(&path, node));
        }
        Ok(None)
    }
}

struct Entries<'a> {
    entries: std::vec::IntoIter<(&'a str, De<'a>)>,
    value: Option<De<'a>>,
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        let (path, node) = (value.path.clone(), value.node);
        self.value = Some(value);
        seed.deserialize(Key(key)).map(Some).map_err(|error| error.at(&path, node))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        let value = self.value.take().ok_or_else(|| Error::new("value before its key"))?;
        let (path, node) = (value.path.clone(), value.node);
        seed.deserialize(value).map_err(|error| error.at(&path, node))
    }
}

/// A map's key: text, or a number where the key's type is one.
struct Key<'a>(&'a str);

impl<'de> de::Deserializer<'de> for Key<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.0)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let n = self
            .0
            .parse()
            .map_err(|_| Error::new(format!("expected a whole number as key, got `{}`", self.0)))?;
        visitor.visit_u64(n)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(StrDeserializer::<Error>::new(self.0))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u128 f32 f64 char str string bytes byte_buf option unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

struct Variant<'a> {
    key: &'a str,
    de: De<'a>,
}

impl<'de, 'a> de::EnumAccess<'de> for Variant<'a> {
    type Error = Error;
    type Variant = De<'a>;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, De<'a>), Error> {
        let key = StrDeserializer::<Error>::new(self.key);
        let variant = seed.deserialize(key).map_err(|error| error.at(&self.de.path, self.de.node))?;
        Ok((variant, self.de))
    }
}

impl<'de> de::VariantAccess<'de> for De<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        if self.node.is_null() { Ok(()) } else { Err(self.expected("nothing").at(&self.path, self.node)) }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        let (path, node) = (self.path.clone(), self.node);
        seed.deserialize(self).map_err(|error| error.at(&path, node))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        let (path, node) = (self.path.clone(), self.node);
        de::Deserializer::deserialize_seq(self, visitor).map_err(|error| error.at(&path, node))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let (path, node) = (self.path.clone(), self.node);
        de::Deserializer::deserialize_struct(self, "", fields, visitor).map_err(|error| error.at(&path, node))
    }
}
