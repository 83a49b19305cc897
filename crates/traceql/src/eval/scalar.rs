//! The operators on single values: what folding and the row by row path use.
//!
//! Nil compares false with everything, as do values of different types. An array compares true if any of
//! its elements does, whatever the operator: that is what Tempo answers, since its storage hands on only the
//! elements that meet the condition.

use std::cmp::Ordering;

use crate::ast::BinaryOp;
use crate::value::{Value, ValueRef};

/// Applies an operator to two values; `None` when the result is nil or an error (a division by zero).
/// A regular expression is compiled on the spot: only folding may come here with one.
pub(crate) fn binary(op: BinaryOp, left: &Value, right: &Value) -> Option<Value> {
    match op {
        BinaryOp::And | BinaryOp::Or => match (left, right) {
            (Value::Bool(l), Value::Bool(r)) => {
                Some(Value::Bool(if op == BinaryOp::And { *l && *r } else { *l || *r }))
            }
            _ => None,
        },
        BinaryOp::Regex | BinaryOp::NotRegex => match (left, right) {
            (Value::Str(text), Value::Str(pattern)) => {
                let matches = model::regex::Regex::anchored(pattern).ok()?.is_match(text);
                Some(Value::Bool(matches == (op == BinaryOp::Regex)))
            }
            _ => Some(Value::Bool(false)),
        },
        op if op.is_arithmetic() => arithmetic(op, &left.borrow(), &right.borrow()).map(|v| v.to_value()),
        op => Some(Value::Bool(compare(op, &left.borrow(), &right.borrow()))),
    }
}

/// A comparison that is not a regular expression.
pub(crate) fn compare(op: BinaryOp, left: &ValueRef<'_>, right: &ValueRef<'_>) -> bool {
    let ordering = match (left, right) {
        (ValueRef::Array(_), ValueRef::Array(_)) => return false,
        (ValueRef::Array(items), other) => return items.iter().any(|i| compare(op, &i.borrow(), other)),
        (other, ValueRef::Array(items)) => return items.iter().any(|i| compare(op, other, &i.borrow())),
        (ValueRef::Int(l) | ValueRef::Duration(l), ValueRef::Int(r) | ValueRef::Duration(r)) => {
            Some(l.cmp(r))
        }
        (ValueRef::Bool(l), ValueRef::Bool(r)) => return equality(op, l == r),
        (ValueRef::Status(l), ValueRef::Status(r)) => return equality(op, l == r),
        (ValueRef::Kind(l), ValueRef::Kind(r)) => return equality(op, l == r),
        (l, r) => match (l.as_str(), r.as_str(), l.as_number(), r.as_number()) {
            (Some(l), Some(r), ..) => Some(l.as_bytes().cmp(r.as_bytes())),
            (_, _, Some(l), Some(r)) => match l.partial_cmp(&r) {
                None => return op == BinaryOp::Ne,
                some => some,
            },
            _ => return false,
        },
    };
    ordering.is_some_and(|o| holds(op, o))
}

/// Whether a comparison holds for this order of its operands.
pub(crate) fn holds(op: BinaryOp, ordering: Ordering) -> bool {
    match op {
        BinaryOp::Eq => ordering.is_eq(),
        BinaryOp::Ne => ordering.is_ne(),
        BinaryOp::Lt => ordering.is_lt(),
        BinaryOp::Le => ordering.is_le(),
        BinaryOp::Gt => ordering.is_gt(),
        BinaryOp::Ge => ordering.is_ge(),
        _ => false,
    }
}

fn equality(op: BinaryOp, equal: bool) -> bool {
    match op {
        BinaryOp::Eq => equal,
        BinaryOp::Ne => !equal,
        _ => false,
    }
}

/// Arithmetic; `None` for operands that are not numbers and for a division of whole numbers by zero.
/// Whole numbers stay whole (division truncates) and wrap around; a duration on either side makes a duration.
pub(crate) fn arithmetic(
    op: BinaryOp,
    left: &ValueRef<'_>,
    right: &ValueRef<'_>,
) -> Option<ValueRef<'static>> {
    let duration = matches!(left, ValueRef::Duration(_)) || matches!(right, ValueRef::Duration(_));
    if let (ValueRef::Int(l) | ValueRef::Duration(l), ValueRef::Int(r) | ValueRef::Duration(r)) =
        (left, right)
    {
        let whole = match op {
            BinaryOp::Add => l.wrapping_add(*r),
            BinaryOp::Sub => l.wrapping_sub(*r),
            BinaryOp::Mul => l.wrapping_mul(*r),
            BinaryOp::Div => {
                if *r == 0 {
                    return None;
                }
                l.wrapping_div(*r)
            }
            BinaryOp::Mod => {
                if *r == 0 {
                    return None;
                }
                l.wrapping_rem(*r)
            }
            BinaryOp::Pow => match u32::try_from(*r).ok().and_then(|e| l.checked_pow(e)) {
                Some(power) => power,
                None => return Some(ValueRef::Float((*l as f64).powf(*r as f64))),
            },
            _ => return None,
        };
        return Some(if duration { ValueRef::Duration(whole) } else { ValueRef::Int(whole) });
    }
    let (l, r) = (left.as_number()?, right.as_number()?);
    Some(ValueRef::Float(match op {
        BinaryOp::Add => l + r,
        BinaryOp::Sub => l - r,
        BinaryOp::Mul => l * r,
        BinaryOp::Div => l / r,
        BinaryOp::Mod => l % r,
        BinaryOp::Pow => l.powf(r),
        _ => return None,
    }))
}

/// Unary minus; nil for anything that is no number.
pub(crate) fn negate(value: ValueRef<'_>) -> ValueRef<'static> {
    match value {
        ValueRef::Int(i) => ValueRef::Int(i.wrapping_neg()),
        ValueRef::Duration(d) => ValueRef::Duration(d.wrapping_neg()),
        ValueRef::Float(f) => ValueRef::Float(-f),
        _ => ValueRef::Nil,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use BinaryOp::*;

    #[test]
    fn comparisons_follow_the_types() {
        let s = |t: &str| Value::str(t);
        let array = Value::Array(vec![Value::Int(2), Value::Int(5)]);
        for (l, op, r, expect) in [
            (Value::Int(2), Eq, Value::Float(2.0), true),
            (Value::Duration(1_000), Gt, Value::Int(999), true),
            (s("2"), Ne, Value::Int(2), false),
            (Value::Nil, Ne, Value::Int(2), false),
            (s("a"), Lt, s("b"), true),
            (Value::Bool(true), Ne, Value::Bool(false), true),
            (Value::Bool(true), Gt, Value::Bool(false), false),
            (array.clone(), Eq, Value::Int(5), true),
            (array.clone(), Gt, Value::Int(4), true),
            (array.clone(), Eq, array.clone(), false),
            (Value::Int(i64::MAX), Gt, Value::Int(i64::MAX - 1), true),
        ] {
            assert_eq!(compare(op, &l.borrow(), &r.borrow()), expect, "{l} {op:?} {r}");
        }
    }

    #[test]
    fn arithmetic_keeps_whole_numbers_whole() {
        for (l, op, r, expect) in [
            (Value::Int(7), Div, Value::Int(2), Some(Value::Int(3))),
            (Value::Int(7), Mod, Value::Int(0), None),
            (Value::Int(2), Pow, Value::Int(10), Some(Value::Int(1024))),
            (Value::Int(7), Div, Value::Float(2.0), Some(Value::Float(3.5))),
            (Value::Duration(7), Add, Value::Int(2), Some(Value::Duration(9))),
            (Value::str("x"), Add, Value::Int(2), None),
        ] {
            assert_eq!(arithmetic(op, &l.borrow(), &r.borrow()).map(|v| v.to_value()), expect);
        }
    }
}
