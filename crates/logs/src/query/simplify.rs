//! Takes stages out of metric queries that cannot change the result, so that more of them are answered by counts.
//!
//! Grafana asks for the volume of logs with `sum by (level, detected_level) (count_over_time({…} | drop __error__ [1m]))`: without a
//! parser `drop` takes a label away that the sum does not keep anyway.

use logql::MetricExpr;
use logql::ast::{LabelSelection, RangeAggregation, RangeOp, Stage, VectorOp};

/// The same query with fewer stages.
pub(crate) fn simplify(expr: &MetricExpr) -> MetricExpr {
    let mut expr = expr.clone();
    visit(&mut expr);
    expr
}

fn visit(expr: &mut MetricExpr) {
    match expr {
        MetricExpr::Vector(vector) => {
            let kept = match &vector.grouping {
                None => Some(&[][..]),
                Some(by) if !by.without => Some(by.labels.as_slice()),
                Some(_) => None,
            };
            match (&mut *vector.inner, kept) {
                (MetricExpr::Range(range), Some(kept)) if vector.op == VectorOp::Sum => {
                    if counts(range) && range.log.stages.iter().all(|stage| is_idle(stage, kept)) {
                        range.log.stages.clear();
                    }
                }
                (inner, _) => visit(inner),
            }
        }
        MetricExpr::Binary(binary) => {
            visit(&mut binary.left);
            visit(&mut binary.right);
        }
        MetricExpr::LabelReplace(replace) => visit(&mut replace.inner),
        MetricExpr::Range(_)
        | MetricExpr::Number(_)
        | MetricExpr::VectorOf(_)
        | MetricExpr::Variants { .. } => {}
    }
}

/// Whether the sum over series is that over entries.
fn counts(range: &RangeAggregation) -> bool {
    let adds = matches!(
        range.op,
        RangeOp::CountOverTime | RangeOp::Rate | RangeOp::BytesOverTime | RangeOp::BytesRate
    );
    adds && range.unwrap.is_none() && range.grouping.is_none()
}

/// Whether a stage drops labels alone that are not kept.
fn is_idle(stage: &Stage, kept: &[String]) -> bool {
    let name = |selection: &LabelSelection| match selection {
        LabelSelection::Name(name) => name.clone(),
        LabelSelection::Match(matcher) => matcher.name().to_owned(),
    };
    match stage {
        Stage::Drop(dropped) => dropped.iter().all(|selection| !kept.contains(&name(selection))),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logql::Expr;

    #[test]
    fn stages_that_matter_stay() {
        let check = |text: &str, expect: &str| {
            let parse = |text: &str| match logql::parse(text) {
                Ok(Expr::Metric(expr)) => expr,
                other => panic!("{text}: {other:?}"),
            };
            assert_eq!(simplify(&parse(text)), parse(expect), "{text}");
        };
        let same = |text: &str| check(text, text);
        check(
            r#"sum by (level, detected_level) (count_over_time({a="b"} | drop __error__ [1m]))"#,
            r#"sum by (level, detected_level) (count_over_time({a="b"}[1m]))"#,
        );
        check(r#"1 + sum(rate({a="b"} | drop x, y="z" [1m]))"#, r#"1 + sum(rate({a="b"}[1m]))"#);
        same(r#"sum by (x) (rate({a="b"} | drop x [1m]))"#);
        same(r#"sum without (y) (rate({a="b"} | drop x [1m]))"#);
        same(r#"sum by (y) (rate({a="b"} | json | drop x [1m]))"#);
        same(r#"sum by (y) (rate({a="b"} |= "c" | drop x [1m]))"#);
        same(r#"count by (y) (rate({a="b"} | drop x [1m]))"#);
        same(r#"rate({a="b"} | drop x [1m])"#);
    }
}
