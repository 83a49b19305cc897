//! Expressions prepared once per query: literals, regular expressions and ids read, fields numbered.

use model::regex::Regex;

use super::column::{Level, Test};
use crate::ast::{BinaryOp, Expr, Field, Intrinsic, Scope, UnaryOp};
use crate::error::EvalError;
use crate::value::Value;

/// A field's number in [`Fields`].
pub(crate) type Slot = usize;

/// The fields of a query, each once, with how the query uses them.
#[derive(Debug, Default, Clone)]
pub(crate) struct Fields {
    pub(crate) list: Vec<FieldUse>,
}

/// A field and what is asked of it. Tempo's storage hands on only values that some condition asks for, and
/// answers show exactly those.
#[derive(Debug, Clone)]
pub(crate) struct FieldUse {
    pub(crate) field: Field,
    /// Comparisons with literals.
    pub(crate) tests: Vec<Test>,
    /// Used otherwise: every value is asked for.
    pub(crate) any_value: bool,
    /// Asked to be absent.
    pub(crate) absent: bool,
}

impl Fields {
    pub(crate) fn slot(&mut self, field: &Field) -> Slot {
        if let Some(slot) = self.list.iter().position(|f| f.field == *field) {
            return slot;
        }
        self.list.push(FieldUse { field: field.clone(), tests: Vec::new(), any_value: false, absent: false });
        self.list.len() - 1
    }

    pub(crate) fn any_value(&mut self, field: &Field) -> Slot {
        let slot = self.slot(field);
        self.list[slot].any_value = true;
        slot
    }
}

/// A condition, evaluated column by column.
#[derive(Debug, Clone)]
pub(crate) enum Predicate {
    Const(bool),
    And(Vec<Predicate>),
    Or(Vec<Predicate>),
    Not(Box<Predicate>),
    Test(Slot, Test),
    Exists(Slot),
    Missing(Slot),
    /// Conditions that must hold on the same event (or link).
    SameItem(Level, Vec<Predicate>),
    /// Anything else, row by row.
    Row(RowExpr),
}

/// An expression evaluated row by row.
#[derive(Debug, Clone)]
pub(crate) enum RowExpr {
    Literal(Value),
    Field(Slot),
    Unary(UnaryOp, Box<RowExpr>),
    Binary(BinaryOp, Box<RowExpr>, Box<RowExpr>),
    Test(Box<RowExpr>, Test),
}

/// The level a field has values at; `None` for an unscoped attribute, which has them at all.
pub(crate) fn level(field: &Field) -> Option<Level> {
    match field {
        Field::Attribute(a) => match a.scope {
            Some(Scope::Event) => Some(Level::Event),
            Some(Scope::Link) => Some(Level::Link),
            Some(_) => Some(Level::Span),
            None => None,
        },
        Field::Intrinsic(i) if i.is_event() => Some(Level::Event),
        Field::Intrinsic(i) if i.is_link() => Some(Level::Link),
        Field::Intrinsic(_) => Some(Level::Span),
    }
}

/// Prepares the expression of a filter.
pub(crate) fn filter(e: &Expr, fields: &mut Fields) -> Result<Predicate, EvalError> {
    let mut conjuncts = Vec::new();
    flatten(e, BinaryOp::And, &mut conjuncts);
    let mut out = Vec::with_capacity(conjuncts.len());
    let (mut events, mut links) = (Vec::new(), Vec::new());
    for conjunct in conjuncts {
        let predicate = predicate(conjunct, fields)?;
        let at = match &predicate {
            Predicate::Test(slot, _) | Predicate::Exists(slot) | Predicate::Missing(slot) => {
                level(&fields.list[*slot].field)
            }
            _ => None,
        };
        match at {
            Some(Level::Event) => events.push(predicate),
            Some(Level::Link) => links.push(predicate),
            _ => out.push(predicate),
        }
    }
    // Only when nothing but ANDs stands in the filter must one event meet all conditions on events.
    let plain = !out.iter().any(|p| matches!(p, Predicate::Or(_) | Predicate::Not(_)));
    for (level, items) in [(Level::Event, events), (Level::Link, links)] {
        if plain && items.len() > 1 {
            out.push(Predicate::SameItem(level, items));
        } else {
            out.extend(items);
        }
    }
    Ok(if out.len() == 1 { out.swap_remove(0) } else { Predicate::And(out) })
}

fn flatten<'e>(e: &'e Expr, op: BinaryOp, out: &mut Vec<&'e Expr>) {
    match e {
        Expr::Binary(o, left, right) if *o == op => {
            flatten(left, op, out);
            flatten(right, op, out);
        }
        other => out.push(other),
    }
}

fn predicate(e: &Expr, fields: &mut Fields) -> Result<Predicate, EvalError> {
    Ok(match e {
        Expr::Literal(Value::Bool(b)) => Predicate::Const(*b),
        Expr::Literal(_) => Predicate::Const(false),
        Expr::Field(field) => test(field, BinaryOp::Eq, &Value::Bool(true), fields)?,
        Expr::Unary(UnaryOp::Not, inner) => match inner.as_ref() {
            Expr::Field(field) => test(field, BinaryOp::Eq, &Value::Bool(false), fields)?,
            inner => Predicate::Not(Box::new(predicate(inner, fields)?)),
        },
        Expr::Unary(op @ (UnaryOp::Exists | UnaryOp::Missing), inner) => match (op, inner.as_ref()) {
            (UnaryOp::Exists, Expr::Field(field)) => Predicate::Exists(fields.any_value(field)),
            (_, Expr::Field(field)) => {
                let slot = fields.slot(field);
                fields.list[slot].absent = true;
                Predicate::Missing(slot)
            }
            _ => Predicate::Row(row(e, fields)?),
        },
        Expr::Unary(UnaryOp::Neg, _) => Predicate::Const(false),
        Expr::Binary(op @ (BinaryOp::And | BinaryOp::Or), ..) => {
            let mut parts = Vec::new();
            flatten(e, *op, &mut parts);
            let parts = parts.into_iter().map(|p| predicate(p, fields)).collect::<Result<Vec<_>, _>>()?;
            if *op == BinaryOp::And { Predicate::And(parts) } else { Predicate::Or(one_of(parts)) }
        }
        Expr::Binary(op, left, right) => match (left.as_ref(), right.as_ref()) {
            _ if op.is_arithmetic() => Predicate::Const(false),
            (Expr::Field(field), Expr::Literal(value)) => test(field, *op, value, fields)?,
            (Expr::Literal(value), Expr::Field(field)) => test(field, op.flipped(), value, fields)?,
            _ => Predicate::Row(row(e, fields)?),
        },
    })
}

/// Puts `a = "x" || a = "y"` together into one test of membership per field.
fn one_of(parts: Vec<Predicate>) -> Vec<Predicate> {
    let mut out: Vec<Predicate> = Vec::with_capacity(parts.len());
    for part in parts {
        let Predicate::Test(slot, Test::Str(BinaryOp::Eq, text)) = part else {
            out.push(part);
            continue;
        };
        let held = out.iter_mut().find_map(|p| match p {
            Predicate::Test(s, Test::OneOf(texts)) if *s == slot => Some(texts),
            _ => None,
        });
        match held {
            Some(texts) => {
                texts.insert(text.into_bytes());
            }
            None => out.push(Predicate::Test(slot, Test::OneOf([text.into_bytes()].into_iter().collect()))),
        }
    }
    out
}

fn test(field: &Field, op: BinaryOp, literal: &Value, fields: &mut Fields) -> Result<Predicate, EvalError> {
    let Some(test) = prepare(Some(field), op, literal)? else { return Ok(Predicate::Const(false)) };
    let slot = fields.slot(field);
    fields.list[slot].tests.push(test.clone());
    Ok(Predicate::Test(slot, test))
}

fn prepare(field: Option<&Field>, op: BinaryOp, literal: &Value) -> Result<Option<Test>, EvalError> {
    if let Some(Field::Intrinsic(intrinsic)) = field
        && let Some(bytes) = id_bytes(*intrinsic)
    {
        if !matches!(op, BinaryOp::Eq | BinaryOp::Ne) {
            return Err(EvalError::IdOperator { field: intrinsic.as_str(), op: op.as_str() });
        }
        let Value::Str(text) = literal else { return Ok(None) };
        return Ok(Some(Test::Id(op, parse_id(text, bytes))));
    }
    if matches!(op, BinaryOp::Regex | BinaryOp::NotRegex) {
        let Value::Str(pattern) = literal else { return Ok(None) };
        // The parser has compiled it before.
        return Ok(Regex::anchored(pattern).ok().map(|r| Test::Regex(r, op == BinaryOp::Regex)));
    }
    Ok(Test::new(op, literal))
}

/// The bytes of an id field.
fn id_bytes(intrinsic: Intrinsic) -> Option<usize> {
    match intrinsic {
        Intrinsic::TraceId | Intrinsic::LinkTraceId => Some(16),
        Intrinsic::SpanId | Intrinsic::ParentId | Intrinsic::LinkSpanId => Some(8),
        _ => None,
    }
}

/// An id operand, padded with zeros on the left; `None` if it is no id.
fn parse_id(text: &str, bytes: usize) -> Option<Vec<u8>> {
    if bytes == 16 {
        model::TraceId::parse_hex(text).ok().map(|id| id.0.to_vec())
    } else {
        model::SpanId::parse_hex(text).ok().map(|id| id.0.to_vec())
    }
}

/// How deep an expression may be that is evaluated row by row, for the sake of the stack.
const MAX_ROW_DEPTH: usize = 200;

/// Prepares an expression for evaluation row by row.
pub(crate) fn row(e: &Expr, fields: &mut Fields) -> Result<RowExpr, EvalError> {
    row_at(e, fields, 0)
}

fn row_at(e: &Expr, fields: &mut Fields, depth: usize) -> Result<RowExpr, EvalError> {
    if depth > MAX_ROW_DEPTH {
        let message = format!("expression is nested deeper than {MAX_ROW_DEPTH} operators: simplify it");
        return Err(EvalError::Unsupported(message));
    }
    let row = |e: &Expr, fields: &mut Fields| row_at(e, fields, depth + 1);
    Ok(match e {
        Expr::Literal(value) => RowExpr::Literal(value.clone()),
        Expr::Field(field) => RowExpr::Field(fields.any_value(field)),
        Expr::Unary(op, inner) => RowExpr::Unary(*op, Box::new(row(inner, fields)?)),
        Expr::Binary(op, left, right) => {
            if op.is_comparison() {
                let (operand, literal, op) = match (left.as_ref(), right.as_ref()) {
                    (operand, Expr::Literal(literal)) => (operand, literal, *op),
                    (Expr::Literal(literal), operand) => (operand, literal, op.flipped()),
                    _ => {
                        let (left, right) = (row(left, fields)?, row(right, fields)?);
                        return Ok(RowExpr::Binary(*op, Box::new(left), Box::new(right)));
                    }
                };
                let field = match operand {
                    Expr::Field(field) => Some(field),
                    _ => None,
                };
                let operand = row(operand, fields)?;
                return Ok(match prepare(field, op, literal)? {
                    Some(test) => RowExpr::Test(Box::new(operand), test),
                    None => RowExpr::Literal(Value::Bool(false)),
                });
            }
            RowExpr::Binary(*op, Box::new(row(left, fields)?), Box::new(row(right, fields)?))
        }
    })
}

impl RowExpr {
    /// Calls `each` with the slots of the expression.
    pub(crate) fn slots(&self, each: &mut dyn FnMut(Slot)) {
        match self {
            Self::Literal(_) => {}
            Self::Field(slot) => each(*slot),
            Self::Unary(_, e) | Self::Test(e, _) => e.slots(each),
            Self::Binary(_, a, b) => {
                a.slots(each);
                b.slots(each);
            }
        }
    }
}
