//! Folding of constants: `{ 1 + 2 * 3 = 7 }` becomes `{ true }`.
//!
//! `true && e`, `false || e` and the like lose their constant too, so that a filter which cannot match
//! is seen as `{ false }` and reads nothing.

use crate::ast::{
    Aggregate, BinaryOp, Expr, MetricsFunction, Pipeline, Query, Scalar, SpansetExpr, Stage, UnaryOp,
};
use crate::eval::scalar;
use crate::value::Value;

pub(super) fn query(query: &mut Query) {
    pipeline(&mut query.pipeline);
    if let Some(stage) = &mut query.metrics
        && let MetricsFunction::Compare { selection, .. } = &mut stage.function
    {
        expr(selection);
    }
}

fn pipeline(pipeline: &mut Pipeline) {
    for stage in &mut pipeline.stages {
        match stage {
            Stage::Spansets(e) => spansets(e),
            Stage::Scalar(_, Scalar::Aggregate(aggregate), _) => match aggregate {
                Aggregate::Count => {}
                Aggregate::Min(e) | Aggregate::Max(e) | Aggregate::Sum(e) | Aggregate::Avg(e) => expr(e),
            },
            Stage::GroupBy(e) => expr(e),
            Stage::Scalar(..) | Stage::Coalesce | Stage::Select(_) => {}
        }
    }
}

fn spansets(e: &mut SpansetExpr) {
    match e {
        SpansetExpr::Filter(filter) => expr(filter),
        SpansetExpr::Pipeline(p) => pipeline(p),
        SpansetExpr::Op(_, left, right) => {
            spansets(left);
            spansets(right);
        }
    }
}

/// Folds an expression in place.
pub(crate) fn expr(e: &mut Expr) {
    let folded = match e {
        Expr::Literal(_) | Expr::Field(_) => None,
        Expr::Unary(op, operand) => {
            expr(operand);
            match (op, operand.as_ref()) {
                (UnaryOp::Exists, Expr::Literal(_)) => Some(Value::Bool(true)),
                (UnaryOp::Missing, Expr::Literal(_)) => Some(Value::Bool(false)),
                (UnaryOp::Neg, Expr::Literal(v)) => Some(scalar::negate(v.borrow()).to_value()),
                (UnaryOp::Not, Expr::Literal(Value::Bool(b))) => Some(Value::Bool(!b)),
                _ => None,
            }
        }
        Expr::Binary(op, left, right) => {
            expr(left);
            expr(right);
            match (op, left.as_mut(), right.as_mut()) {
                (BinaryOp::And, Expr::Literal(Value::Bool(false)), _)
                | (BinaryOp::And, _, Expr::Literal(Value::Bool(false))) => Some(Value::Bool(false)),
                (BinaryOp::Or, Expr::Literal(Value::Bool(true)), _)
                | (BinaryOp::Or, _, Expr::Literal(Value::Bool(true))) => Some(Value::Bool(true)),
                (BinaryOp::And, Expr::Literal(Value::Bool(true)), other)
                | (BinaryOp::And, other, Expr::Literal(Value::Bool(true)))
                | (BinaryOp::Or, Expr::Literal(Value::Bool(false)), other)
                | (BinaryOp::Or, other, Expr::Literal(Value::Bool(false)))
                    if is_boolean(other) =>
                {
                    *e = std::mem::replace(other, Expr::Literal(Value::Nil));
                    return;
                }
                (op, Expr::Literal(l), Expr::Literal(r)) => scalar::binary(*op, l, r),
                _ => None,
            }
        }
    };
    if let Some(value) = folded {
        *e = Expr::Literal(value);
    }
}

/// Whether the expression is a truth value whatever the span holds.
fn is_boolean(e: &Expr) -> bool {
    match e {
        Expr::Unary(UnaryOp::Exists | UnaryOp::Missing | UnaryOp::Not, _) | Expr::Literal(Value::Bool(_)) => {
            true
        }
        Expr::Binary(op, ..) => !op.is_arithmetic(),
        _ => false,
    }
}
