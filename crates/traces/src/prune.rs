//! Which traces of a block can match at all: a plan's conditions asked of the index, then of single columns.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, UInt8Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use model::regex::Regex;
use traceql::ast::{Attribute, BinaryOp};
use traceql::{Condition, ConditionOp, Field, Intrinsic, Scope, Value};

use crate::index::Index;
use crate::keys::{self, Keys, SCOPES, Type, Usage, Values};
use crate::schema;

/// A condition ready to be asked.
#[derive(Debug)]
pub(crate) struct Test {
    field: Field,
    /// `None` asks only for presence.
    compare: Option<(BinaryOp, Value)>,
    regex: Option<Regex>,
}

/// What the index says of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// No span meets it.
    Never,
    /// Some may.
    Maybe,
}

impl Test {
    /// `None` if the condition cannot be asked of storage: then everything may meet it.
    pub(crate) fn new(condition: &Condition) -> Option<Self> {
        let (compare, regex) = match &condition.op {
            ConditionOp::Exists => (None, None),
            ConditionOp::Compare(op, value) => {
                let regex = match (op, value) {
                    (BinaryOp::Regex | BinaryOp::NotRegex, Value::Str(text)) => {
                        Some(Regex::anchored(text).ok()?)
                    }
                    (BinaryOp::Regex | BinaryOp::NotRegex, _) => return None,
                    (
                        BinaryOp::Eq
                        | BinaryOp::Ne
                        | BinaryOp::Lt
                        | BinaryOp::Le
                        | BinaryOp::Gt
                        | BinaryOp::Ge,
                        _,
                    ) => None,
                    _ => return None,
                };
                if matches!(value, Value::Nil | Value::Array(_)) {
                    return None;
                }
                (Some((*op, value.clone())), regex)
            }
        };
        Some(Self { field: condition.field.clone(), compare, regex })
    }

    fn ordered(&self, op: BinaryOp, ordering: Option<std::cmp::Ordering>) -> bool {
        let Some(ordering) = ordering else { return op == BinaryOp::Ne };
        match op {
            BinaryOp::Eq => ordering.is_eq(),
            BinaryOp::Ne => ordering.is_ne(),
            BinaryOp::Lt => ordering.is_lt(),
            BinaryOp::Le => ordering.is_le(),
            BinaryOp::Gt => ordering.is_gt(),
            BinaryOp::Ge => ordering.is_ge(),
            _ => true,
        }
    }

    fn text(&self, text: &str) -> bool {
        match &self.compare {
            None => true,
            Some((BinaryOp::Regex, _)) => self.regex.as_ref().is_none_or(|r| r.is_match(text)),
            Some((BinaryOp::NotRegex, _)) => self.regex.as_ref().is_none_or(|r| !r.is_match(text)),
            Some((op, Value::Str(literal))) => self.ordered(*op, Some(text.cmp(literal))),
            Some(_) => false,
        }
    }

    fn int(&self, n: i64) -> bool {
        match &self.compare {
            None => true,
            Some((op, Value::Int(literal) | Value::Duration(literal))) => {
                self.ordered(*op, Some(n.cmp(literal)))
            }
            Some((op, Value::Float(literal))) => self.ordered(*op, (n as f64).partial_cmp(literal)),
            Some((op, Value::Status(status))) => self.ordered(*op, Some(n.cmp(&i64::from(*status as u8)))),
            Some((op, Value::Kind(kind))) => self.ordered(*op, Some(n.cmp(&i64::from(*kind as u8)))),
            Some(_) => false,
        }
    }

    fn float(&self, f: f64) -> bool {
        match &self.compare {
            None => true,
            Some((op, Value::Int(literal) | Value::Duration(literal))) => {
                self.ordered(*op, f.partial_cmp(&(*literal as f64)))
            }
            Some((op, Value::Float(literal))) => self.ordered(*op, f.partial_cmp(literal)),
            Some(_) => false,
        }
    }

    fn bool(&self, b: bool) -> bool {
        match &self.compare {
            None => true,
            Some((op, Value::Bool(literal))) => self.ordered(*op, Some(b.cmp(literal))),
            Some(_) => false,
        }
    }

    fn usage(&self, usage: &Usage) -> bool {
        match &usage.values {
            Values::Strs(set) => set.iter().any(|text| self.text(text)),
            Values::Ints(set) if usage.of == Type::Bool => set.iter().any(|b| self.bool(*b != 0)),
            Values::Ints(set) => set.iter().any(|n| self.int(*n)),
            Values::Floats(set) => set.iter().any(|bits| self.float(f64::from_bits(*bits))),
            Values::Many => match usage.of {
                // Nothing compares with what is not queryable.
                Type::Other => false,
                Type::Str => self.compare.as_ref().is_none_or(|(_, v)| matches!(v, Value::Str(_))),
                Type::Int | Type::Float | Type::Bool | Type::Array => true,
            },
        }
    }

    /// Asks the attributes of a source.
    pub(crate) fn ask(&self, keys: &Keys) -> Verdict {
        let any = |scope, name: &str| keys.get(scope, name).iter().any(|usage| self.usage(usage));
        let maybe = match &self.field {
            Field::Attribute(attribute) => {
                attribute_scopes(attribute).iter().any(|scope| any(*scope, &attribute.name))
            }
            Field::Intrinsic(Intrinsic::Name) => any(keys::Scope::Intrinsic, "name"),
            Field::Intrinsic(Intrinsic::Status) => any(keys::Scope::Intrinsic, "status"),
            Field::Intrinsic(Intrinsic::Kind) => any(keys::Scope::Intrinsic, "kind"),
            Field::Intrinsic(Intrinsic::EventName) => any(keys::Scope::Intrinsic, "event:name"),
            Field::Intrinsic(_) => true,
        };
        if maybe { Verdict::Maybe } else { Verdict::Never }
    }

    /// The columns of a block that decide this condition for each row; `None` if they cannot.
    pub(crate) fn columns<'a>(&self, index: &'a Index) -> Option<Vec<(&'a str, Type)>> {
        match &self.field {
            Field::Intrinsic(Intrinsic::Name) => Some(vec![(schema::NAME, Type::Str)]),
            Field::Intrinsic(Intrinsic::Status) => Some(vec![(schema::STATUS, Type::Int)]),
            Field::Intrinsic(Intrinsic::Kind) => Some(vec![(schema::KIND, Type::Int)]),
            Field::Intrinsic(Intrinsic::Duration) => Some(vec![(schema::DURATION, Type::Int)]),
            Field::Intrinsic(_) => None,
            Field::Attribute(attribute) => {
                let name = &*attribute.name;
                let there = |scope: &&keys::Scope| !index.keys.get(**scope, name).is_empty();
                let mut columns = Vec::new();
                for scope in attribute_scopes(attribute).iter().filter(there) {
                    match scope {
                        keys::Scope::Resource if name == "service.name" => {
                            columns.push((schema::SERVICE_NAME, Type::Str))
                        }
                        keys::Scope::Span if !index.is_in_rest(name) => {
                            columns.extend(index.columns(name).iter().map(|c| (c.column.as_str(), c.of)));
                        }
                        _ => return None,
                    }
                }
                Some(columns)
            }
        }
    }

    /// Marks the rows of a batch that may meet the condition.
    pub(crate) fn rows(&self, batch: &RecordBatch, columns: &[(&str, Type)], met: &mut [bool]) {
        for (name, of) in columns {
            if let Some(column) = batch.column_by_name(name) {
                self.column(*of, column, met);
            }
        }
    }

    fn column(&self, of: Type, column: &ArrayRef, met: &mut [bool]) {
        let rows = (0..column.len()).filter(|row| column.is_valid(*row));
        if of == Type::Array {
            // Whether an element matches is left to the evaluation.
            rows.for_each(|row| met[row] = true);
        } else if let Some(texts) = column.as_string_opt::<i32>() {
            rows.for_each(|row| met[row] |= self.text(texts.value(row)));
        } else if let Some(ints) = column.as_primitive_opt::<Int64Type>() {
            rows.for_each(|row| met[row] |= self.int(ints.value(row)));
        } else if let Some(numbers) = column.as_primitive_opt::<UInt8Type>() {
            rows.for_each(|row| met[row] |= self.int(numbers.value(row).into()));
        } else if let Some(floats) = column.as_primitive_opt::<Float64Type>() {
            rows.for_each(|row| met[row] |= self.float(floats.value(row)));
        } else if let Some(bools) = column.as_boolean_opt() {
            rows.for_each(|row| met[row] |= self.bool(bools.value(row)));
        } else {
            met.fill(true);
        }
    }
}

fn attribute_scopes(attribute: &Attribute) -> &'static [keys::Scope] {
    match attribute.scope {
        None => &SCOPES,
        Some(Scope::Span) => &[keys::Scope::Span],
        Some(Scope::Resource) => &[keys::Scope::Resource],
        Some(Scope::Event) => &[keys::Scope::Event],
        Some(Scope::Link) => &[keys::Scope::Link],
        Some(Scope::Instrumentation) => &[keys::Scope::Instrumentation],
    }
}
