//! A field bound to the arrays of one batch: tests over whole columns, values of single rows.

use std::rc::Rc;

use arrow_array::{Array, FixedSizeBinaryArray, Int64Array, StringArray, UInt8Array};
use arrow_buffer::BooleanBuffer;
use hashbrown::HashSet;
use model::regex::Regex;

use super::{array, bits, scalar};
use crate::ast::BinaryOp;
use crate::batch::AttributeColumn;
use crate::value::{Kind, Status, Value, ValueRef};

/// What a column has one value for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Span,
    Event,
    Link,
}

/// A field of a batch: the columns it is looked up in, first hit first. None at all reads as nil.
#[derive(Debug)]
pub(crate) struct FieldColumn<'a> {
    pub(crate) sources: Vec<(Level, Column<'a>)>,
}

/// One array, or what is computed in its place.
#[derive(Debug)]
pub(crate) enum Column<'a> {
    Attribute(&'a AttributeColumn),
    Str(&'a StringArray),
    /// Null reads as the empty text.
    StrOrEmpty(&'a StringArray),
    Duration(&'a Int64Array),
    Status(&'a UInt8Array),
    Kind(&'a UInt8Array),
    Id(&'a FixedSizeBinaryArray),
    Ints(Vec<i64>),
    Durations(Vec<i64>),
    /// A text per trace, and the trace of each row.
    TraceStr(Vec<&'a str>, Rc<[u32]>),
}

/// A comparison with a literal, prepared.
#[derive(Debug, Clone)]
pub(crate) enum Test {
    Str(BinaryOp, String),
    Regex(Regex, bool),
    Int(BinaryOp, i64),
    Float(BinaryOp, f64),
    Bool(BinaryOp, bool),
    Status(BinaryOp, Status),
    Kind(BinaryOp, Kind),
    /// Text equal to one of several.
    OneOf(HashSet<Vec<u8>>),
    /// The operand's bytes, or `None` for one that no id can equal.
    Id(BinaryOp, Option<Vec<u8>>),
}

impl Test {
    /// A comparison that is no regular expression; `None` when the literal is nil or an array.
    pub(crate) fn new(op: BinaryOp, literal: &Value) -> Option<Self> {
        Some(match literal {
            Value::Str(s) => Self::Str(op, s.to_string()),
            Value::Int(i) | Value::Duration(i) => Self::Int(op, *i),
            Value::Float(f) => Self::Float(op, *f),
            Value::Bool(b) => Self::Bool(op, *b),
            Value::Status(s) => Self::Status(op, *s),
            Value::Kind(k) => Self::Kind(op, *k),
            Value::Nil | Value::Array(_) => return None,
        })
    }

    /// Whether a single value passes; an array passes if one of its elements does.
    pub(crate) fn matches(&self, value: &ValueRef<'_>) -> bool {
        if let ValueRef::Array(items) = value {
            return items.iter().any(|item| self.matches(&item.borrow()));
        }
        match self {
            Self::Str(op, text) => scalar::compare(*op, value, &ValueRef::Str(text)),
            Self::OneOf(texts) => value.as_str().is_some_and(|s| texts.contains(s.as_bytes())),
            Self::Regex(regex, expect) => value.as_str().is_some_and(|s| regex.is_match(s) == *expect),
            Self::Int(op, i) => scalar::compare(*op, value, &ValueRef::Int(*i)),
            Self::Float(op, f) => scalar::compare(*op, value, &ValueRef::Float(*f)),
            Self::Bool(op, b) => scalar::compare(*op, value, &ValueRef::Bool(*b)),
            Self::Status(op, s) => scalar::compare(*op, value, &ValueRef::Status(*s)),
            Self::Kind(op, k) => scalar::compare(*op, value, &ValueRef::Kind(*k)),
            Self::Id(op, bytes) => {
                let equal = match (value.as_str(), bytes) {
                    (Some(s), Some(bytes)) => *s == *id_text(bytes),
                    _ => false,
                };
                equal == (*op == BinaryOp::Eq)
            }
        }
    }
}

/// An id as answers show it: hex, a trace id without leading zeros; nothing for an id of zeros.
pub(crate) fn id_text(id: &[u8]) -> String {
    match id.len() {
        8 if id.iter().all(|b| *b == 0) => String::new(),
        8 => model::SpanId::from_slice(id).unwrap_or_default().to_string(),
        _ => model::TraceId::from_slice(id).unwrap_or_default().short_hex(),
    }
}

/// Applies a comparison of whole numbers, the operator chosen once for all of them.
fn int_test(op: BinaryOp, literal: i64) -> impl Fn(i64) -> bool {
    let (low, high, inside) = match op {
        BinaryOp::Eq => (literal, literal, true),
        BinaryOp::Ne => (literal, literal, false),
        BinaryOp::Lt => (literal, i64::MAX, false),
        BinaryOp::Le => (i64::MIN, literal, true),
        BinaryOp::Gt => (i64::MIN, literal, false),
        BinaryOp::Ge => (literal, i64::MAX, true),
        _ => (i64::MIN, i64::MAX, false),
    };
    move |v| (low <= v && v <= high) == inside
}

fn float_test(op: BinaryOp, literal: f64) -> impl Fn(f64) -> bool {
    move |v| match op {
        BinaryOp::Eq => v == literal,
        BinaryOp::Ne => v != literal,
        BinaryOp::Lt => v < literal,
        BinaryOp::Le => v <= literal,
        BinaryOp::Gt => v > literal,
        BinaryOp::Ge => v >= literal,
        _ => false,
    }
}

fn equal(op: BinaryOp) -> Option<bool> {
    match op {
        BinaryOp::Eq => Some(true),
        BinaryOp::Ne => Some(false),
        _ => None,
    }
}

impl<'a> Column<'a> {
    fn len(&self) -> usize {
        match self {
            Self::Attribute(a) => a.len(),
            Self::Str(a) | Self::StrOrEmpty(a) => a.len(),
            Self::Duration(a) => a.len(),
            Self::Status(a) | Self::Kind(a) => a.len(),
            Self::Id(a) => a.len(),
            Self::Ints(v) | Self::Durations(v) => v.len(),
            Self::TraceStr(_, trace_of) => trace_of.len(),
        }
    }

    /// The value of a row (or event, or link).
    pub(crate) fn value(&self, i: usize) -> ValueRef<'a> {
        match self {
            Self::Attribute(a) => a.value(i),
            Self::Str(a) if a.is_null(i) => ValueRef::Nil,
            Self::StrOrEmpty(a) if a.is_null(i) => ValueRef::Str(""),
            Self::Str(a) | Self::StrOrEmpty(a) => ValueRef::Str(a.value(i)),
            Self::Duration(a) => ValueRef::Duration(a.value(i)),
            Self::Status(a) => ValueRef::Status(Status::from_otlp(a.value(i))),
            Self::Kind(a) => ValueRef::Kind(Kind::from_otlp(a.value(i))),
            Self::Id(a) if a.is_null(i) => ValueRef::Str(""),
            Self::Id(a) => ValueRef::Shared(id_text(a.value(i)).into()),
            Self::Ints(v) => ValueRef::Int(v[i]),
            Self::Durations(v) => ValueRef::Duration(v[i]),
            Self::TraceStr(values, trace_of) => ValueRef::Str(values[trace_of[i] as usize]),
        }
    }

    fn present(&self) -> BooleanBuffer {
        match self {
            Self::Attribute(a) => a.present(),
            Self::Str(a) => bits::present(*a),
            other => BooleanBuffer::new_set(other.len()),
        }
    }

    fn test(&self, test: &Test) -> BooleanBuffer {
        let none = || BooleanBuffer::new_unset(self.len());
        match (self, test) {
            (Self::Attribute(a), test) => a.test(test),
            (Self::Str(a), Test::Str(..) | Test::OneOf(_) | Test::Regex(..)) => test_strings(a, test),
            (Self::StrOrEmpty(a), Test::Str(..) | Test::OneOf(_) | Test::Regex(..)) => {
                let found = test_strings(a, test);
                if a.null_count() > 0 && test.matches(&ValueRef::Str("")) {
                    return &found | &!&bits::present(*a);
                }
                found
            }
            (Self::Duration(a), Test::Int(op, i)) => bits::numbers(a, int_test(*op, *i)),
            (Self::Duration(a), Test::Float(op, f)) => {
                let passes = float_test(*op, *f);
                bits::numbers(a, |v| passes(v as f64))
            }
            (Self::Ints(v) | Self::Durations(v), Test::Int(op, i)) => bits::slice(v, int_test(*op, *i)),
            (Self::Ints(v) | Self::Durations(v), Test::Float(op, f)) => {
                let passes = float_test(*op, *f);
                bits::slice(v, |v| passes(v as f64))
            }
            (Self::Status(a), Test::Status(op, status)) => match equal(*op) {
                Some(expect) => bits::slice(a.values(), |v| (Status::from_otlp(v) == *status) == expect),
                None => none(),
            },
            (Self::Kind(a), Test::Kind(op, kind)) => match equal(*op) {
                Some(expect) => bits::slice(a.values(), |v| (Kind::from_otlp(v) == *kind) == expect),
                None => none(),
            },
            (Self::Id(a), Test::Id(op, bytes)) => match (equal(*op), bytes) {
                (Some(expect), Some(bytes)) => {
                    BooleanBuffer::collect_bool(a.len(), |i| (!a.is_null(i) && a.value(i) == bytes) == expect)
                }
                (Some(false), None) => BooleanBuffer::new_set(a.len()),
                _ => none(),
            },
            (Self::TraceStr(values, trace_of), Test::Str(..) | Test::OneOf(_) | Test::Regex(..)) => {
                let passes: Vec<bool> = values.iter().map(|v| test.matches(&ValueRef::Str(v))).collect();
                bits::slice(trace_of, |trace| passes[trace as usize])
            }
            _ => none(),
        }
    }
}

fn test_strings(array: &StringArray, test: &Test) -> BooleanBuffer {
    match test {
        Test::Str(op, text) => {
            let text = text.as_bytes();
            match op {
                BinaryOp::Eq => bits::strings(array, |v| v == text),
                BinaryOp::Ne => bits::strings(array, |v| v != text),
                op => bits::strings(array, |v| scalar::holds(*op, v.cmp(text))),
            }
        }
        Test::OneOf(texts) => bits::strings(array, |v| texts.contains(v)),
        Test::Regex(regex, expect) => BooleanBuffer::collect_bool(array.len(), |i| {
            !array.is_null(i) && regex.is_match(array.value(i)) == *expect
        }),
        _ => BooleanBuffer::new_unset(array.len()),
    }
}

impl AttributeColumn {
    pub(crate) fn len(&self) -> usize {
        self.parts().map(|a| a.len()).next().unwrap_or(0)
    }

    fn parts(&self) -> impl Iterator<Item = &dyn Array> {
        fn part<A: Array>(array: &Option<A>) -> Option<&dyn Array> {
            array.as_ref().map(|a| a as &dyn Array)
        }
        [part(&self.strings), part(&self.ints), part(&self.floats), part(&self.bools), part(&self.arrays)]
            .into_iter()
            .flatten()
    }

    /// The value at a row.
    pub fn value(&self, i: usize) -> ValueRef<'_> {
        fn at<A: Array>(array: &Option<A>, i: usize) -> Option<&A> {
            array.as_ref().filter(|a| i < a.len() && !a.is_null(i))
        }
        if let Some(a) = at(&self.strings, i) {
            ValueRef::Str(a.value(i))
        } else if let Some(a) = at(&self.ints, i) {
            ValueRef::Int(a.value(i))
        } else if let Some(a) = at(&self.floats, i) {
            ValueRef::Float(a.value(i))
        } else if let Some(a) = at(&self.bools, i) {
            ValueRef::Bool(a.value(i))
        } else if let Some(a) = at(&self.arrays, i) {
            array::parse(a.value(i))
        } else {
            ValueRef::Nil
        }
    }

    fn present(&self) -> BooleanBuffer {
        self.parts()
            .map(bits::present)
            .reduce(|a, b| &a | &b)
            .unwrap_or_else(|| BooleanBuffer::new_unset(self.len()))
    }

    fn test(&self, test: &Test) -> BooleanBuffer {
        let mut found = match test {
            Test::Str(..) | Test::OneOf(_) | Test::Regex(..) => {
                self.strings.as_ref().map(|a| test_strings(a, test))
            }
            Test::Int(op, literal) => {
                let ints = self.ints.as_ref().map(|a| bits::numbers(a, int_test(*op, *literal)));
                let floats = self.floats.as_ref().map(|a| bits::numbers(a, float_test(*op, *literal as f64)));
                either(ints, floats)
            }
            Test::Float(op, literal) => {
                let passes = float_test(*op, *literal);
                let ints = self.ints.as_ref().map(|a| bits::numbers(a, |v| passes(v as f64)));
                either(ints, self.floats.as_ref().map(|a| bits::numbers(a, &passes)))
            }
            Test::Bool(op, literal) => self.bools.as_ref().zip(equal(*op)).map(|(a, expect)| {
                let same = if *literal == expect { a.values().clone() } else { !a.values() };
                bits::mask(same, a)
            }),
            Test::Status(..) | Test::Kind(..) | Test::Id(..) => None,
        };
        if let Some(arrays) = self.arrays.as_ref().filter(|a| a.null_count() < a.len()) {
            let in_arrays = BooleanBuffer::collect_bool(arrays.len(), |i| {
                !arrays.is_null(i) && test.matches(&array::parse(arrays.value(i)))
            });
            found = either(found, Some(in_arrays));
        }
        found.unwrap_or_else(|| BooleanBuffer::new_unset(self.len()))
    }
}

fn either(a: Option<BooleanBuffer>, b: Option<BooleanBuffer>) -> Option<BooleanBuffer> {
    match (a, b) {
        (Some(a), Some(b)) => Some(&a | &b),
        (a, b) => a.or(b),
    }
}

/// Where the items of events and links begin, to get from items to rows.
pub(crate) struct Offsets<'a> {
    pub(crate) events: &'a [u32],
    pub(crate) links: &'a [u32],
}

impl Offsets<'_> {
    /// From a selection of a level to one of rows.
    pub(crate) fn to_rows(&self, level: Level, found: BooleanBuffer) -> BooleanBuffer {
        match level {
            Level::Span => found,
            Level::Event => bits::any_item(&found, self.events),
            Level::Link => bits::any_item(&found, self.links),
        }
    }

    /// The items of a row at a level; for spans the row itself.
    pub(crate) fn items(&self, level: Level, row: usize) -> std::ops::Range<usize> {
        let offsets = match level {
            Level::Span => return row..row + 1,
            Level::Event => self.events,
            Level::Link => self.links,
        };
        offsets.get(row..row + 2).map_or(0..0, |o| o[0] as usize..o[1] as usize)
    }
}

impl<'a> FieldColumn<'a> {
    /// The rows on which the field is present.
    pub(crate) fn present(&self, rows: usize, offsets: &Offsets<'_>) -> BooleanBuffer {
        self.sources
            .iter()
            .map(|(level, column)| offsets.to_rows(*level, column.present()))
            .reduce(|a, b| &a | &b)
            .unwrap_or_else(|| BooleanBuffer::new_unset(rows))
    }

    /// The rows that pass: the first source that has a value decides; of events and links, any may pass.
    pub(crate) fn test(&self, rows: usize, offsets: &Offsets<'_>, test: &Test) -> BooleanBuffer {
        let mut found: Option<BooleanBuffer> = None;
        let mut open: Option<BooleanBuffer> = None;
        for (i, (level, column)) in self.sources.iter().enumerate() {
            let mut passed = offsets.to_rows(*level, column.test(test));
            if let Some(open) = &open {
                passed = &passed & open;
            }
            if i + 1 < self.sources.len() {
                let absent = !&offsets.to_rows(*level, column.present());
                open = Some(match open {
                    Some(open) => &open & &absent,
                    None => absent,
                });
            }
            found = either(found, Some(passed));
        }
        found.unwrap_or_else(|| BooleanBuffer::new_unset(rows))
    }

    /// The items (events, or links) that pass, for a field of exactly that level.
    pub(crate) fn test_items(&self, items: usize, test: &Test) -> BooleanBuffer {
        self.sources.first().map_or_else(|| BooleanBuffer::new_unset(items), |(_, column)| column.test(test))
    }

    /// The items on which the field is present, for a field of exactly that level.
    pub(crate) fn present_items(&self, items: usize) -> BooleanBuffer {
        self.sources.first().map_or_else(|| BooleanBuffer::new_unset(items), |(_, column)| column.present())
    }

    /// The value of a row, seen from one of its events or links if given, else the first that has one.
    pub(crate) fn value(
        &self,
        offsets: &Offsets<'_>,
        row: usize,
        item: Option<(Level, usize)>,
    ) -> ValueRef<'a> {
        for (level, column) in &self.sources {
            if let Some((at, i)) = item
                && at == *level
            {
                match column.value(i) {
                    ValueRef::Nil => continue,
                    value => return value,
                }
            }
            for i in offsets.items(*level, row) {
                match column.value(i) {
                    ValueRef::Nil => {}
                    value => return value,
                }
            }
        }
        ValueRef::Nil
    }

    /// Calls `each` with every value of a row, those of all its events and links included.
    pub(crate) fn values(&self, offsets: &Offsets<'_>, row: usize, each: &mut dyn FnMut(ValueRef<'a>)) {
        for (level, column) in &self.sources {
            for i in offsets.items(*level, row) {
                match column.value(i) {
                    ValueRef::Nil => {}
                    value => each(value),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use BinaryOp::{Eq, Ge, Gt, Le, Lt, Ne};
    use arrow_array::{BooleanArray, Float64Array};

    /// Every test over a whole column must say of each row what it says of the row's value alone.
    #[test]
    fn whole_columns_and_single_values_agree() {
        let column = AttributeColumn {
            strings: Some(StringArray::from(vec![None, Some("b"), None, None, None, None, Some("")])),
            ints: Some(Int64Array::from(vec![None, None, Some(2), None, None, None, None])),
            floats: Some(Float64Array::from(vec![None, None, None, Some(2.5), None, None, None])),
            bools: Some(BooleanArray::from(vec![None, None, None, None, Some(false), None, None])),
            arrays: Some(StringArray::from(vec![
                None,
                None,
                None,
                None,
                None,
                Some(r#"["a",3,true]"#),
                None,
            ])),
        };
        let literals = [
            Value::str("b"),
            Value::str(""),
            Value::Int(2),
            Value::Int(i64::MIN),
            Value::Int(i64::MAX),
            Value::Float(2.5),
            Value::Float(f64::NAN),
            Value::Bool(false),
            Value::Bool(true),
            Value::Duration(3),
            Value::Status(Status::Error),
        ];
        let mut tests: Vec<Test> = Vec::new();
        for op in [Eq, Ne, Lt, Le, Gt, Ge] {
            tests.extend(literals.iter().filter_map(|literal| Test::new(op, literal)));
        }
        for pattern in ["a|b", ""] {
            let regex = Regex::anchored(pattern).expect("valid");
            tests.extend([Test::Regex(regex.clone(), true), Test::Regex(regex, false)]);
        }
        tests.push(Test::OneOf([b"a".to_vec(), b"b".to_vec()].into_iter().collect()));
        for test in &tests {
            let whole: Vec<bool> = column.test(test).iter().collect();
            let single: Vec<bool> = (0..column.len()).map(|i| test.matches(&column.value(i))).collect();
            assert_eq!(whole, single, "{test:?}");
        }
        let present: Vec<bool> = column.present().iter().collect();
        assert_eq!(present, [false, true, true, true, true, true, true]);
    }
}
