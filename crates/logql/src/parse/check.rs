//! Rules that the grammar does not express.

use model::Matcher;

use super::grammar::{Parsed, invalid};
use crate::ast::*;
use crate::error::ParseError;
use crate::names::Names;
use crate::stages::{self, StageError};

pub(super) fn check(expr: &Expr) -> Parsed<()> {
    match expr {
        Expr::Log(log) => check_log(log),
        Expr::Metric(metric) => check_metric(metric),
    }
}

fn check_log(log: &LogExpr) -> Parsed<()> {
    check_selector(&log.matchers)?;
    log.stages.iter().try_for_each(check_stage)
}

fn check_selector(matchers: &[Matcher]) -> Parsed<()> {
    if matchers.iter().any(|m| !m.matches("")) {
        return Ok(());
    }
    invalid(
        "queries require at least one regexp or equality matcher that does not have an empty-compatible value. For instance, \
         app=~\".*\" does not meet this requirement, but app=~\".+\" will",
    )
}

fn check_stage(stage: &Stage) -> Parsed<()> {
    match stages::Stage::compile(stage, &mut Names::new()) {
        Ok(_) => Ok(()),
        Err(StageError::Invalid(text)) => invalid(text),
        Err(StageError::Stage(text)) => invalid(format!("stage '{stage}' : {text}")),
    }
}

fn check_metric(metric: &MetricExpr) -> Parsed<()> {
    match metric {
        MetricExpr::Range(range) => check_range(range),
        MetricExpr::Vector(vector) => {
            check_vector(vector)?;
            check_metric(&vector.inner)
        }
        MetricExpr::Binary(binary) => {
            check_metric(&binary.left)?;
            check_metric(&binary.right)
        }
        MetricExpr::Number(_) | MetricExpr::VectorOf(_) => Ok(()),
        MetricExpr::LabelReplace(replace) => {
            model::regex::Regex::anchored(&replace.regex)
                .map_err(|e| ParseError::Invalid(format!("invalid regex in label_replace: {e}")))?;
            if !model::is_label_name(&replace.dst) {
                return invalid(format!(
                    "invalid destination label name in label_replace(): {}",
                    replace.dst
                ));
            }
            check_metric(&replace.inner)
        }
        MetricExpr::Variants { metrics, of, .. } => {
            check_log(of)?;
            metrics.iter().try_for_each(check_metric)
        }
    }
}

fn check_range(range: &RangeAggregation) -> Parsed<()> {
    use RangeOp::*;
    let op = range.op.as_str();
    let groups = matches!(
        range.op,
        AvgOverTime
            | MinOverTime
            | MaxOverTime
            | StddevOverTime
            | StdvarOverTime
            | QuantileOverTime
            | FirstOverTime
            | LastOverTime
    );
    if range.grouping.is_some() && !groups {
        return invalid(format!("grouping not allowed for {op} aggregation"));
    }
    match range.parameter {
        None if range.op == QuantileOverTime => {
            return invalid(format!("parameter required for operation {op}"));
        }
        Some(value) if range.op != QuantileOverTime => {
            return invalid(format!("parameter {value} not supported for operation {op}"));
        }
        _ => {}
    }
    let (with, without) = match range.op {
        CountOverTime | BytesOverTime | BytesRate => (false, true),
        Rate | AbsentOverTime => (true, true),
        _ => (true, false),
    };
    match &range.unwrap {
        Some(_) if !with => return invalid(format!("invalid aggregation {op} with unwrap")),
        None if !without => return invalid(format!("invalid aggregation {op} without unwrap")),
        Some(unwrap) => {
            unwrap.filters.iter().try_for_each(|filter| check_stage(&Stage::LabelFilter(filter.clone())))?;
        }
        None => {}
    }
    check_log(&range.log)
}

fn check_vector(vector: &VectorAggregation) -> Parsed<()> {
    let Some(grouping) = &vector.grouping else { return Ok(()) };
    match vector.op {
        VectorOp::Sort | VectorOp::SortDesc if !grouping.labels.is_empty() => {
            invalid("sort and sort_desc doesn't allow grouping by ")
        }
        VectorOp::ApproxTopk => invalid("grouping not allowed for approx_topk aggregation"),
        _ => Ok(()),
    }
}
