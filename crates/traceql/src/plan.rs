//! What a query needs of storage: the columns to load and the conditions that let a block be skipped.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::ast::{
    Aggregate, BinaryOp, Expr, Field, Intrinsic, MetricsFunction, Pipeline, Query, Scalar, Scope,
    SpansetExpr, SpansetOp, Stage, UnaryOp,
};
use crate::value::Value;

/// The optional parts of a [`SpanBatch`](crate::SpanBatch) that evaluation will look at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// Attributes by scope and key; no scope means that all scopes must be loaded.
    pub attributes: BTreeSet<(Option<Scope>, Arc<str>)>,
    /// Every span, resource and instrumentation attribute (`compare()` looks at all of them).
    pub all_attributes: bool,
    /// [`SpanBatch::status_message`](crate::SpanBatch::status_message)
    pub status_message: bool,
    /// [`SpanBatch::scope_name`](crate::SpanBatch::scope_name)
    pub scope_name: bool,
    /// [`SpanBatch::scope_version`](crate::SpanBatch::scope_version)
    pub scope_version: bool,
    /// [`SpanBatch::events`](crate::SpanBatch::events), with the attributes named for that scope or none.
    pub events: bool,
    /// [`SpanBatch::links`](crate::SpanBatch::links), with the attributes named for that scope or none.
    pub links: bool,
}

/// How a condition tests its field.
#[derive(Debug, Clone, PartialEq)]
pub enum ConditionOp {
    /// The field is present.
    Exists,
    /// The field compares so with the literal; never a logical or arithmetic operator.
    Compare(BinaryOp, Value),
}

/// One test of a field.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// The field.
    pub field: Field,
    /// The test.
    pub op: ConditionOp,
}

/// Tests that a block can be skipped by. They are hints, true of some span of every matching trace:
/// evaluation checks all of them again.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Conditions {
    /// A matching trace has, for every condition, a span that meets it; otherwise for at least one.
    /// Without conditions nothing can be skipped.
    pub all_must_match: bool,
    /// The tests.
    pub conditions: Vec<Condition>,
    /// The query matches nothing at all (`{ false }`).
    pub nothing: bool,
}

impl FieldSet {
    /// Adds what a field needs.
    pub fn add(&mut self, field: &Field) {
        match field {
            Field::Attribute(a) => {
                self.attributes.insert((a.scope, Arc::clone(&a.name)));
                self.events |= matches!(a.scope, None | Some(Scope::Event));
                self.links |= matches!(a.scope, None | Some(Scope::Link));
            }
            Field::Intrinsic(i) => match i {
                Intrinsic::StatusMessage => self.status_message = true,
                Intrinsic::InstrumentationName => self.scope_name = true,
                Intrinsic::InstrumentationVersion => self.scope_version = true,
                i => {
                    self.events |= i.is_event();
                    self.links |= i.is_link();
                }
            },
        }
    }

    fn add_pipeline(&mut self, pipeline: &Pipeline) {
        for stage in &pipeline.stages {
            match stage {
                Stage::Spansets(e) => self.add_spansets(e),
                Stage::Scalar(_, Scalar::Aggregate(aggregate), _) => match aggregate {
                    Aggregate::Count => {}
                    Aggregate::Min(e) | Aggregate::Max(e) | Aggregate::Sum(e) | Aggregate::Avg(e) => {
                        e.fields(&mut |f| self.add(f));
                    }
                },
                Stage::GroupBy(e) => e.fields(&mut |f| self.add(f)),
                Stage::Select(fields) => fields.iter().for_each(|f| self.add(f)),
                Stage::Scalar(..) | Stage::Coalesce => {}
            }
        }
    }

    fn add_spansets(&mut self, e: &SpansetExpr) {
        match e {
            SpansetExpr::Filter(e) => e.fields(&mut |f| self.add(f)),
            SpansetExpr::Pipeline(p) => self.add_pipeline(p),
            SpansetExpr::Op(_, left, right) => {
                self.add_spansets(left);
                self.add_spansets(right);
            }
        }
    }
}

impl Query {
    /// The columns this query needs.
    pub fn fields(&self) -> FieldSet {
        let mut set = FieldSet::default();
        set.add_pipeline(&self.pipeline);
        if let Some(stage) = &self.metrics {
            stage.by.iter().for_each(|f| set.add(f));
            match &stage.function {
                MetricsFunction::Rate | MetricsFunction::CountOverTime => {}
                MetricsFunction::MinOverTime(f)
                | MetricsFunction::MaxOverTime(f)
                | MetricsFunction::SumOverTime(f)
                | MetricsFunction::AvgOverTime(f)
                | MetricsFunction::HistogramOverTime(f)
                | MetricsFunction::QuantileOverTime(f, _) => set.add(f),
                MetricsFunction::Compare { selection, .. } => {
                    selection.fields(&mut |f| set.add(f));
                    set.all_attributes = true;
                    set.status_message = true;
                    set.scope_name = true;
                    set.scope_version = true;
                }
            }
        }
        set
    }

    /// The conditions to skip blocks by.
    pub fn conditions(&self) -> Conditions {
        match self.pipeline.stages.first() {
            Some(Stage::Spansets(e)) => Conditions::of_spansets(e),
            _ => Conditions::default(),
        }
    }
}

impl Conditions {
    /// The conditions of one filter.
    pub(crate) fn of(filter: &Expr) -> Self {
        match filter {
            Expr::Literal(Value::Bool(b)) => Self { nothing: !b, ..Self::default() },
            Expr::Binary(BinaryOp::And, left, right) => Self::of(left).and(Self::of(right)),
            Expr::Binary(BinaryOp::Or, left, right) => Self::of(left).or(Self::of(right)),
            Expr::Unary(UnaryOp::Exists, e) => match e.as_ref() {
                Expr::Field(field) => Self::one(field, ConditionOp::Exists),
                _ => Self::default(),
            },
            Expr::Field(field) => Self::one(field, ConditionOp::Compare(BinaryOp::Eq, Value::Bool(true))),
            Expr::Binary(op, left, right) if op.is_comparison() => match (left.as_ref(), right.as_ref()) {
                (Expr::Field(field), Expr::Literal(v)) => {
                    Self::one(field, ConditionOp::Compare(*op, v.clone()))
                }
                (Expr::Literal(v), Expr::Field(field)) => {
                    Self::one(field, ConditionOp::Compare(op.flipped(), v.clone()))
                }
                _ => Self::default(),
            },
            _ => Self::default(),
        }
    }

    fn of_spansets(e: &SpansetExpr) -> Self {
        match e {
            SpansetExpr::Filter(e) => Self::of(e),
            SpansetExpr::Pipeline(p) => match p.stages.first() {
                Some(Stage::Spansets(e)) => Self::of_spansets(e),
                _ => Self::default(),
            },
            SpansetExpr::Op(SpansetOp::Or, left, right) => {
                Self::of_spansets(left).or(Self::of_spansets(right))
            }
            SpansetExpr::Op(SpansetOp::Structural { negated: true, .. }, _, right) => {
                Self::of_spansets(right)
            }
            SpansetExpr::Op(_, left, right) => Self::of_spansets(left).and(Self::of_spansets(right)),
        }
    }

    fn one(field: &Field, op: ConditionOp) -> Self {
        let conditions = vec![Condition { field: field.clone(), op }];
        Self { all_must_match: true, conditions, nothing: false }
    }

    /// Both must hold; of alternatives next to conditions, only the conditions are kept.
    fn and(mut self, mut other: Self) -> Self {
        self.nothing |= other.nothing;
        if other.conditions.is_empty() {
            return self;
        }
        let nothing = self.nothing;
        match (self.all_must_match, other.all_must_match) {
            _ if self.conditions.is_empty() => Self { nothing, ..other },
            (true, true) => {
                self.conditions.append(&mut other.conditions);
                self
            }
            (false, true) => Self { nothing, ..other },
            _ => self,
        }
    }

    /// One must hold: useful only if either side says something.
    fn or(mut self, mut other: Self) -> Self {
        if self.nothing {
            return other;
        }
        if other.nothing {
            return self;
        }
        let single = |c: &Self| !c.all_must_match || c.conditions.len() == 1;
        if self.conditions.is_empty() || other.conditions.is_empty() {
            return Self::default();
        }
        // Of conditions that must all hold, any one will do.
        for side in [&mut self, &mut other] {
            if !single(side) {
                side.conditions.truncate(1);
            }
        }
        self.conditions.append(&mut other.conditions);
        Self { all_must_match: false, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str, all: bool, expect: &[&str]) {
        let c = crate::parse(query).expect(query).conditions();
        let got: Vec<String> = c
            .conditions
            .iter()
            .map(|c| match &c.op {
                ConditionOp::Exists => format!("{} exists", c.field),
                ConditionOp::Compare(op, v) => format!("{} {} {v}", c.field, op.as_str()),
            })
            .collect();
        assert_eq!(
            (got.as_slice(), c.all_must_match),
            (&expect.iter().map(|s| s.to_string()).collect::<Vec<_>>()[..], all),
            "{query}"
        );
    }

    #[test]
    fn conditions_never_lose_a_match() {
        check("{ }", false, &[]);
        check("{ .a = 1 && span.b != nil }", true, &[".a = 1", "span.b exists"]);
        check("{ .a = 1 || .b = 2 }", false, &[".a = 1", ".b = 2"]);
        check("{ .a = 1 || .b = nil }", false, &[]);
        check("{ (.a = 1 || .b = 2) && .c = 3 }", true, &[".c = 3"]);
        check("{ .a = 1 } >> { .b = 2 }", true, &[".a = 1", ".b = 2"]);
        check("{ .a = 1 } !>> { .b = 2 }", true, &[".b = 2"]);
        check("{ .a = 1 } || { .b = 2 && .c = 3 }", false, &[".a = 1", ".b = 2"]);
        check("{ !(.a = 1) }", false, &[]);
        check("count() > 2", false, &[]);
        assert!(crate::parse("{ false && .a = 1 }").expect("valid").conditions().nothing);
        assert!(!crate::parse("{ false } || { .a = 1 }").expect("valid").conditions().nothing);
    }
}
