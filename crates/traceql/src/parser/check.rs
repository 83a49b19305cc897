//! Static checks: types, regular expressions, parameters.
//!
//! An attribute has no known type before it is read and fits everything.

use crate::ast::{
    Aggregate, Attribute, BinaryOp, Expr, Field, Intrinsic, MetricsFunction, MetricsStage, Pipeline, Query,
    Scalar, Scope, SecondStage, SpansetExpr, Stage, UnaryOp,
};
use crate::error::ParseError;
use crate::value::Value;

/// The type of an expression, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Unknown,
    Nil,
    Str,
    Number,
    Bool,
    Status,
    Kind,
}

impl Type {
    fn fits(self, other: Self) -> bool {
        let open = |t| matches!(t, Self::Unknown | Self::Nil);
        self == other || open(self) || open(other)
    }

    fn allows(self, op: BinaryOp) -> bool {
        use BinaryOp::{Eq, Ne, NotRegex, Regex};
        match self {
            Self::Unknown | Self::Nil => true,
            Self::Bool => op.is_logical() || matches!(op, Eq | Ne),
            Self::Number => op.is_arithmetic() || (op.is_comparison() && !matches!(op, Regex | NotRegex)),
            Self::Str => op.is_comparison(),
            Self::Status | Self::Kind => matches!(op, Eq | Ne),
        }
    }
}

pub(super) fn query(query: &Query) -> Result<(), ParseError> {
    pipeline(&query.pipeline)?;
    if let Some(stage) = &query.metrics {
        metrics(stage, &query.second)?;
    }
    for stage in &query.second {
        if let SecondStage::TopK(n) | SecondStage::BottomK(n) = stage
            && *n <= 0
        {
            return Err(ParseError::invalid("limit must be greater than 0"));
        }
    }
    Ok(())
}

pub(super) fn field(field: &Field) -> Result<(), ParseError> {
    match field {
        Field::Attribute(Attribute { parent: true, .. }) => {
            Err(ParseError::unsupported("parent not yet supported"))
        }
        Field::Intrinsic(Intrinsic::Parent) => {
            Err(ParseError::unsupported("intrinsic (parent) not yet supported"))
        }
        _ => Ok(()),
    }
}

fn pipeline(pipeline: &Pipeline) -> Result<(), ParseError> {
    for stage in &pipeline.stages {
        match stage {
            Stage::Spansets(e) => spansets(e)?,
            Stage::Scalar(_, left, right) => {
                scalar(left)?;
                scalar(right)?;
                if !matches!(left, Scalar::Aggregate(_)) {
                    return Err(ParseError::unsupported("scalar filter lhs not yet supported"));
                }
                if !matches!(right, Scalar::Literal(_)) {
                    return Err(ParseError::unsupported("scalar filter rhs not yet supported"));
                }
            }
            Stage::GroupBy(e) => {
                type_of(e)?;
                if !mentions_span(e) {
                    let message = format!("grouping field expressions must reference the span: by({e})");
                    return Err(ParseError::invalid(message));
                }
            }
            Stage::Coalesce => {}
            Stage::Select(fields) => fields.iter().try_for_each(field)?,
        }
    }
    Ok(())
}

fn spansets(e: &SpansetExpr) -> Result<(), ParseError> {
    match e {
        SpansetExpr::Filter(filter) => boolean(filter),
        SpansetExpr::Pipeline(p) => pipeline(p),
        SpansetExpr::Op(_, left, right) => {
            spansets(left)?;
            spansets(right)
        }
    }
}

/// A filter of braces.
pub(crate) fn boolean(filter: &Expr) -> Result<(), ParseError> {
    if !Type::Bool.fits(type_of(filter)?) {
        let message = format!("span filter field expressions must resolve to a boolean: {{ {filter} }}");
        return Err(ParseError::invalid(message));
    }
    Ok(())
}

fn scalar(s: &Scalar) -> Result<(), ParseError> {
    match s {
        Scalar::Literal(_) | Scalar::Aggregate(Aggregate::Count) => Ok(()),
        Scalar::Aggregate(
            aggregate @ (Aggregate::Min(e) | Aggregate::Max(e) | Aggregate::Sum(e) | Aggregate::Avg(e)),
        ) => {
            if !Type::Number.fits(type_of(e)?) {
                let message =
                    format!("aggregate field expressions must resolve to a number type: {aggregate}");
                return Err(ParseError::invalid(message));
            }
            if !mentions_span(e) {
                let message = format!("aggregate field expressions must reference the span: {aggregate}");
                return Err(ParseError::invalid(message));
            }
            Ok(())
        }
        Scalar::Op(_, left, right) => {
            scalar(left)?;
            scalar(right)
        }
        Scalar::Pipeline(p) => pipeline(p),
    }
}

fn metrics(stage: &MetricsStage, second: &[SecondStage]) -> Result<(), ParseError> {
    stage.by.iter().try_for_each(field)?;
    let mut max_by = 5;
    match &stage.function {
        MetricsFunction::Rate | MetricsFunction::CountOverTime => {}
        MetricsFunction::MinOverTime(f)
        | MetricsFunction::MaxOverTime(f)
        | MetricsFunction::SumOverTime(f) => {
            field(f)?;
        }
        MetricsFunction::AvgOverTime(f) | MetricsFunction::HistogramOverTime(f) => {
            field(f)?;
            max_by = 4;
        }
        MetricsFunction::QuantileOverTime(f, quantiles) => {
            field(f)?;
            max_by = 4;
            if let Some(q) = quantiles.iter().find(|q| !(0.0..=1.0).contains(*q)) {
                return Err(ParseError::invalid(format!("quantile must be between 0 and 1: {q}")));
            }
        }
        MetricsFunction::Compare { selection, top, window } => {
            boolean(selection)?;
            let message = match window {
                _ if *top <= 0 => "compare() top number of values must be integer greater than 0",
                Some((start, end)) if *start <= 0 || *end <= 0 => {
                    "compare() timestamps must be positive integer unix nanoseconds"
                }
                Some((start, end)) if end <= start => {
                    "compare() end timestamp must be greater than start timestamp"
                }
                _ if !second.is_empty() => "`compare()` cannot be used with second stage functions",
                _ => return Ok(()),
            };
            return Err(ParseError::invalid(message));
        }
    }
    if stage.by.len() > max_by {
        let message = format!("metrics group by {} values not yet supported", stage.by.len());
        return Err(ParseError::unsupported(message));
    }
    Ok(())
}

fn mentions_span(e: &Expr) -> bool {
    let mut found = false;
    e.fields(&mut |_| found = true);
    found
}

fn type_of(e: &Expr) -> Result<Type, ParseError> {
    match e {
        Expr::Literal(value) => Ok(type_of_value(value)),
        Expr::Field(f) => {
            field(f)?;
            Ok(match f {
                Field::Attribute(_) => Type::Unknown,
                Field::Intrinsic(i) => type_of_intrinsic(*i),
            })
        }
        Expr::Unary(op, operand) => {
            let t = type_of(operand)?;
            match op {
                UnaryOp::Neg if t.fits(Type::Number) => Ok(t),
                UnaryOp::Not if t.fits(Type::Bool) => Ok(t),
                UnaryOp::Neg | UnaryOp::Not => {
                    Err(ParseError::invalid(format!("illegal operation for the given type: {e}")))
                }
                UnaryOp::Exists => Ok(Type::Bool),
                UnaryOp::Missing => {
                    never_nil(operand)?;
                    Ok(Type::Bool)
                }
            }
        }
        Expr::Binary(op, left, right) => {
            let (l, r) = (type_of(left)?, type_of(right)?);
            if !l.fits(r) {
                return Err(ParseError::invalid(format!(
                    "binary operations must operate on the same type: {e}"
                )));
            }
            if !l.allows(*op) || !r.allows(*op) {
                return Err(ParseError::invalid(format!("illegal operation for the given types: {e}")));
            }
            if matches!(op, BinaryOp::Regex | BinaryOp::NotRegex) {
                let Expr::Literal(Value::Str(pattern)) = right.as_ref() else {
                    return Err(ParseError::invalid(format!("invalid type for =~ or !~: {right}")));
                };
                if model::regex::Regex::anchored(pattern).is_err() {
                    return Err(ParseError::invalid(format!("invalid regex: {right}")));
                }
            }
            Ok(if op.is_arithmetic() { if l == Type::Unknown { r } else { l } } else { Type::Bool })
        }
    }
}

fn never_nil(operand: &Expr) -> Result<(), ParseError> {
    match operand {
        Expr::Field(Field::Intrinsic(i)) => Err(ParseError::invalid(format!(
            "{}=nil is not valid because intrinsics cannot be nil",
            i.as_str()
        ))),
        Expr::Field(Field::Attribute(a))
            if a.scope == Some(Scope::Resource) && &*a.name == "service.name" =>
        {
            Err(ParseError::invalid("resource.service.name cannot be nil"))
        }
        _ => Ok(()),
    }
}

fn type_of_value(value: &Value) -> Type {
    match value {
        Value::Nil => Type::Nil,
        Value::Str(_) => Type::Str,
        Value::Int(_) | Value::Float(_) | Value::Duration(_) => Type::Number,
        Value::Bool(_) => Type::Bool,
        Value::Status(_) => Type::Status,
        Value::Kind(_) => Type::Kind,
        Value::Array(_) => Type::Unknown,
    }
}

fn type_of_intrinsic(intrinsic: Intrinsic) -> Type {
    match intrinsic {
        Intrinsic::Duration
        | Intrinsic::ChildCount
        | Intrinsic::TraceDuration
        | Intrinsic::EventTimeSinceStart
        | Intrinsic::NestedSetLeft
        | Intrinsic::NestedSetRight
        | Intrinsic::NestedSetParent => Type::Number,
        Intrinsic::Name
        | Intrinsic::StatusMessage
        | Intrinsic::SpanId
        | Intrinsic::ParentId
        | Intrinsic::RootName
        | Intrinsic::RootServiceName
        | Intrinsic::TraceId
        | Intrinsic::EventName
        | Intrinsic::LinkTraceId
        | Intrinsic::LinkSpanId
        | Intrinsic::InstrumentationName
        | Intrinsic::InstrumentationVersion => Type::Str,
        Intrinsic::Status => Type::Status,
        Intrinsic::Kind => Type::Kind,
        Intrinsic::Parent => Type::Nil,
    }
}
