//! From predicates to selections, column by column; from expressions to values, row by row.

use arrow_buffer::BooleanBuffer;

use super::column::Level;
use super::compiled::{Predicate, RowExpr};
use super::view::View;
use super::{compiled, scalar};
use crate::ast::{BinaryOp, UnaryOp};
use crate::value::ValueRef;

/// The rows that meet a predicate.
pub(crate) fn select(view: &View<'_>, predicate: &Predicate) -> BooleanBuffer {
    let rows = view.rows();
    match predicate {
        Predicate::Const(true) => BooleanBuffer::new_set(rows),
        Predicate::Const(false) => BooleanBuffer::new_unset(rows),
        Predicate::And(parts) => {
            let mut found = BooleanBuffer::new_set(rows);
            for part in parts {
                found = &found & &select(view, part);
                if !found.has_true() {
                    break;
                }
            }
            found
        }
        Predicate::Or(parts) => {
            let none = BooleanBuffer::new_unset(rows);
            parts.iter().fold(none, |found, part| &found | &select(view, part))
        }
        Predicate::Not(inner) => !&select(view, inner),
        Predicate::Test(slot, test) => view.column(*slot).test(rows, &view.offsets, test),
        Predicate::Exists(slot) => view.column(*slot).present(rows, &view.offsets),
        Predicate::Missing(slot) => match compiled::level(view.field(*slot)) {
            // A span without events has none that lacks the attribute.
            Some(level @ (Level::Event | Level::Link)) => {
                let found = select_items(view, level, predicate);
                to_rows(view, level, found)
            }
            _ => !&view.column(*slot).present(rows, &view.offsets),
        },
        Predicate::SameItem(level, parts) => {
            let all = BooleanBuffer::new_set(view.items(*level));
            let found = parts.iter().fold(all, |found, part| &found & &select_items(view, *level, part));
            to_rows(view, *level, found)
        }
        Predicate::Row(expr) => {
            let level = item_level(view, expr);
            BooleanBuffer::collect_bool(rows, |row| holds(view, expr, level, row))
        }
    }
}

fn to_rows(view: &View<'_>, level: Level, found: BooleanBuffer) -> BooleanBuffer {
    if found.is_empty() {
        return BooleanBuffer::new_unset(view.rows());
    }
    view.offsets.to_rows(level, found)
}

/// The events (links) that meet a simple predicate on a field of theirs.
fn select_items(view: &View<'_>, level: Level, predicate: &Predicate) -> BooleanBuffer {
    let items = view.items(level);
    match predicate {
        Predicate::Test(slot, test) => view.column(*slot).test_items(items, test),
        Predicate::Exists(slot) => view.column(*slot).present_items(items),
        Predicate::Missing(slot) => !&view.column(*slot).present_items(items),
        _ => BooleanBuffer::new_unset(items),
    }
}

/// The level whose items an expression must be tried on, one after the other.
fn item_level(view: &View<'_>, expr: &RowExpr) -> Level {
    let mut out = Level::Span;
    expr.slots(&mut |slot| match compiled::level(view.field(slot)) {
        Some(level @ (Level::Event | Level::Link)) if out == Level::Span => out = level,
        _ => {}
    });
    out
}

fn holds(view: &View<'_>, expr: &RowExpr, level: Level, row: usize) -> bool {
    let truth = |item| matches!(value(view, expr, row, item), ValueRef::Bool(true));
    match level {
        Level::Span => truth(None),
        level => view.offsets.items(level, row).any(|i| truth(Some((level, i)))),
    }
}

/// The value of an expression at a row, seen from one of its events or links if given.
pub(crate) fn value<'a>(
    view: &View<'a>,
    expr: &RowExpr,
    row: usize,
    item: Option<(Level, usize)>,
) -> ValueRef<'a> {
    match expr {
        RowExpr::Literal(literal) => literal.borrow().detached(),
        RowExpr::Field(slot) => view.column(*slot).value(&view.offsets, row, item),
        RowExpr::Test(operand, test) => {
            let operand = value(view, operand, row, item);
            ValueRef::Bool(!matches!(operand, ValueRef::Nil) && test.matches(&operand))
        }
        RowExpr::Unary(op, operand) => {
            let operand = value(view, operand, row, item);
            match op {
                UnaryOp::Neg => scalar::negate(operand),
                UnaryOp::Not => match operand {
                    ValueRef::Bool(b) => ValueRef::Bool(!b),
                    _ => ValueRef::Bool(false),
                },
                UnaryOp::Exists => ValueRef::Bool(!matches!(operand, ValueRef::Nil)),
                UnaryOp::Missing => ValueRef::Bool(matches!(operand, ValueRef::Nil)),
            }
        }
        RowExpr::Binary(op @ (BinaryOp::And | BinaryOp::Or), left, right) => {
            let left = matches!(value(view, left, row, item), ValueRef::Bool(true));
            if left == (*op == BinaryOp::Or) {
                return ValueRef::Bool(left);
            }
            ValueRef::Bool(matches!(value(view, right, row, item), ValueRef::Bool(true)))
        }
        RowExpr::Binary(op, left, right) => {
            let (left, right) = (value(view, left, row, item), value(view, right, row, item));
            if op.is_arithmetic() {
                return scalar::arithmetic(*op, &left, &right).unwrap_or(ValueRef::Nil);
            }
            ValueRef::Bool(scalar::compare(*op, &left, &right))
        }
    }
}
