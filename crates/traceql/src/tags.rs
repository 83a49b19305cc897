//! The tag search that preceded TraceQL: `service.name=cart status.code=error`, put as a query.

use std::sync::Arc;

use crate::ast::{
    Attribute, BinaryOp, Expr, Field, Intrinsic, Pipeline, Query, Scope, SpansetExpr, SpansetOp, Stage,
};
use crate::error::ParseError;
use crate::value::{Status, Value};

impl Query {
    /// The query of a tag search: every pair must hold on some span of the trace or its resource, the trace's
    /// duration must lie in the bounds (nanoseconds, inclusive). Names of spans, roots and services are compared
    /// by substring, other attributes by their whole text, `status.code` with the keywords. Answers show no
    /// spansets.
    pub fn from_tags(
        tags: &[(String, String)],
        min_duration: Option<i64>,
        max_duration: Option<i64>,
    ) -> Result<Self, ParseError> {
        let bounds = [(BinaryOp::Ge, min_duration), (BinaryOp::Le, max_duration)];
        let mut filters: Vec<Expr> = bounds
            .into_iter()
            .filter_map(|(op, nanos)| {
                Some(compare(Field::Intrinsic(Intrinsic::TraceDuration), op, Value::Duration(nanos?)))
            })
            .collect();
        for (key, value) in tags {
            filters.push(tag(key, value)?);
        }
        let spansets = filters
            .into_iter()
            .map(SpansetExpr::Filter)
            .reduce(|left, right| SpansetExpr::Op(SpansetOp::And, Box::new(left), Box::new(right)))
            .unwrap_or(SpansetExpr::Filter(Expr::Literal(Value::Bool(true))));
        let pipeline = Pipeline { stages: vec![Stage::Spansets(spansets)] };
        Ok(Self { pipeline, metrics: None, second: Vec::new(), hints: Vec::new() })
    }
}

fn tag(key: &str, value: &str) -> Result<Expr, ParseError> {
    let substring = |field| contains(field, value);
    Ok(match key {
        "name" => substring(Field::Intrinsic(Intrinsic::Name)),
        "root.name" => substring(Field::Intrinsic(Intrinsic::RootName)),
        "root.service.name" => substring(Field::Intrinsic(Intrinsic::RootServiceName)),
        "service.name" => substring(attribute(Some(Scope::Resource), key)),
        "status.code" => {
            let status = match value {
                "unset" => Status::Unset,
                "ok" => Status::Ok,
                "error" => Status::Error,
                other => {
                    let message = format!("invalid tags: status.code {other} is none of unset, ok, error");
                    return Err(ParseError::invalid(message));
                }
            };
            compare(Field::Intrinsic(Intrinsic::Status), BinaryOp::Eq, Value::Status(status))
        }
        "error" if value == "true" => {
            compare(Field::Intrinsic(Intrinsic::Status), BinaryOp::Eq, Value::Status(Status::Error))
        }
        key => [Scope::Span, Scope::Resource]
            .into_iter()
            .flat_map(|scope| {
                literals(value).map(move |v| compare(attribute(Some(scope), key), BinaryOp::Eq, v))
            })
            .reduce(|left, right| Expr::Binary(BinaryOp::Or, Box::new(left), Box::new(right)))
            .unwrap_or(Expr::Literal(Value::Bool(false))),
    })
}

/// The values that a tag's text may stand for.
fn literals(text: &str) -> impl Iterator<Item = Value> {
    let number = match (text.parse::<i64>(), text.parse::<f64>()) {
        (Ok(i), _) => Some(Value::Int(i)),
        (_, Ok(f)) => Some(Value::Float(f)),
        _ => None,
    };
    [Some(Value::str(text)), number, text.parse().ok().map(Value::Bool)].into_iter().flatten()
}

fn attribute(scope: Option<Scope>, name: &str) -> Field {
    Field::Attribute(Attribute { scope, name: Arc::from(name), parent: false })
}

fn compare(field: Field, op: BinaryOp, value: Value) -> Expr {
    Expr::Binary(op, Box::new(Expr::Field(field)), Box::new(Expr::Literal(value)))
}

fn contains(field: Field, text: &str) -> Expr {
    let mut pattern = String::from("(?s).*");
    for c in text.chars() {
        if c.is_ascii_punctuation() {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push_str(".*");
    compare(field, BinaryOp::Regex, Value::str(pattern))
}
